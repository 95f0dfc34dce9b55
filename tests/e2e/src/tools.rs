//! Where the programs and images under test are.

use std::path::{Path, PathBuf};

/// The checkout that this was built from.
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this crate lies two levels deep")
        .to_owned()
}

/// One of kdev's programs: in `KDEV_BIN_DIR`, else where cargo put this test.
pub fn program(name: &str) -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("a process knows its program");
        test.ancestors()
            .nth(2)
            .expect("cargo puts tests into deps/")
            .to_owned()
    };
    let dir = std::env::var_os("KDEV_BIN_DIR").map_or_else(built, PathBuf::from);
    there(dir.join(name), "make build")
}

/// One of the programs that the test cluster consists of.
pub fn cluster_program(name: &str) -> PathBuf {
    there(
        checkout().join("target/cluster/bin").join(name),
        "make cluster",
    )
}

/// An image, as an archive.
pub fn image(name: &str) -> PathBuf {
    there(
        checkout().join("target/images").join(format!("{name}.tar")),
        "make images",
    )
}

fn there(path: PathBuf, made_by: &str) -> PathBuf {
    assert!(
        path.is_file(),
        "{} isn't there: `{made_by}` makes it",
        path.display()
    );
    path
}
