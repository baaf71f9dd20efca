//! Compiles the zygote's part that lives in the interpreter (`zygote/python.rs`): a shared object of its own, without the
//! standard library, which the runner keeps in its own binary.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=zygote");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let library = Path::new(&out).join("zygote-python.so");
    let rustc = env::var("RUSTC").expect("cargo sets RUSTC");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "greenroom_zygote", "--target", &target]);
    command.args(["-C", "panic=abort", "-C", "opt-level=2", "-C", "strip=symbols", "-A", "unsafe_op_in_unsafe_fn"]);
    // The interpreter's functions are found in the interpreter that loads this.
    command.args(["-C", "link-arg=-Wl,-z,lazy", "-C", "relro-level=partial"]);
    command.arg("-o").arg(&library).arg("zygote/python.rs");
    let status = command.status().expect("rustc can be started");
    assert!(status.success(), "zygote/python.rs does not compile");
}
