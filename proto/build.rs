//! Compiles the .proto files in pure Rust, so that building needs no protoc.

const FILES: [&str; 4] = ["common", "manager", "root", "user"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = FILES.map(|name| format!("proto/kdev/v1/{name}.proto"));
    let descriptors = protox::compile(&files, ["proto"])?;
    tonic_prost_build::configure()
        // Channels are made by the crates that own the sockets; `Connect` is also a call of ours.
        .build_transport(false)
        // Payloads are handed on as reference-counted slices, never copied.
        .bytes(".kdev.v1")
        // Queues of frames, of which every flow has some, are as wide as the widest kind.
        .boxed(".kdev.v1.FlowFrame.kind.open")
        .codec_path("crate::codec::FlowCodec")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
