//! Compiles what runs without the standard library, each on its own, for the runner to keep in its own binary: the zygote's part that
//! lives in the interpreter (`zygote/python.rs`), a shared object, and the first process of a sandbox (`init/main.rs`), a program.

use std::{env, path::Path, process::Command};

fn main() {
    // The interpreter's functions are found in the interpreter that loads this.
    let library = ["--crate-type", "cdylib", "-C", "link-arg=-Wl,-z,lazy", "-C", "relro-level=partial"];
    compile("zygote", "zygote/python.rs", "zygote-python.so", &library);
    // At a fixed place and in one piece: the fewer mappings and pages, the cheaper its start.
    let fixed = ["--crate-type", "bin", "-C", "relocation-model=static", "-C", "target-feature=+crt-static"];
    let bare = ["-nostartfiles", "-nostdlib", "-static", "-Wl,-z,noseparate-code,-z,norelro,--build-id=none"];
    let bare = bare.map(|argument| format!("link-arg={argument}"));
    let program: Vec<&str> = fixed.into_iter().chain(bare.iter().flat_map(|argument| ["-C", argument])).collect();
    compile("init", "init/main.rs", "init", &program);
}

fn compile(directory: &str, source: &str, result: &str, arguments: &[&str]) {
    println!("cargo::rerun-if-changed={directory}");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let rustc = env::var("RUSTC").expect("cargo sets RUSTC");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-name", &format!("greenroom_{directory}"), "--target", &target]);
    command
        .args(["-C", "panic=abort", "-C", "opt-level=2", "-C", "strip=symbols", "-A", "unsafe_op_in_unsafe_fn", "-A", "dead_code"]);
    command.args(arguments).arg("-o").arg(Path::new(&out).join(result)).arg(source);
    let status = command.status().expect("rustc can be started");
    assert!(status.success(), "{source} does not compile");
}
