//! Compiles the .proto files in pure Rust, so that building needs no protoc.

const FILES: [&str; 4] = ["common", "manager", "root", "user"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = FILES.map(|name| format!("proto/kdev/v1/{name}.proto"));
    let mut descriptors = protox::compile(&files, ["proto"])?;
    for file in &mut descriptors.file {
        // It has code of its own, which keeps less memory for each stream.
        file.service.retain(|service| service.name() != "Flows");
    }
    tonic_prost_build::configure()
        // Channels are made by the crates that own the sockets; `Connect` is also a call of ours.
        .build_transport(false)
        // Payloads are handed on as reference-counted slices, never copied.
        .bytes(".kdev.v1")
        // Queues of frames, of which every flow has some, are as wide as the widest kind.
        .boxed(".kdev.v1.FlowFrame.kind.open")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
