//! Compiles the kernel programs with clang into `OUT_DIR`, where the crate embeds them from.
//!
//! `$CLANG` names the compiler; without it, the newest of the versions known to work is taken.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the sources are, without `.bpf.c`; the objects are named like the files.
const PROGRAMS: [&str; 10] = [
    "xdp_lb",
    "xdp_lb_recorded",
    "xdp_decap",
    "xdp_pass",
    "tc_nat",
    "tc_overlay",
    "tc_probe",
    "tc_strict",
    "examples/ns_per_packet/harness",
    "examples/ns_per_packet/peers",
];

/// The oldest clang whose output is known to load.
const OLDEST_CLANG: u32 = 15;

const INSTALL: &str =
    "on Debian: apt-get install clang-19 libbpf-dev (any clang from 15 on will do; $CLANG names one)";

fn main() {
    println!("cargo:rerun-if-changed=include");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = find_clang();
    let headers = kernel_headers();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for program in PROGRAMS {
        let source = format!("{program}.bpf.c");
        println!("cargo:rerun-if-changed={source}");
        let name = Path::new(program).file_name().unwrap_or_default();
        compile(&clang, &headers, &source, &out.join(name).with_extension("o"));
    }
}

fn compile(clang: &str, headers: &[PathBuf], source: &str, object: &Path) {
    let mut command = Command::new(clang);
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-fno-strict-aliasing"]);
    command.args(["-Wall", "-Wextra", "-Werror", "-Iinclude"]);
    for folder in headers {
        command.arg("-isystem").arg(folder);
    }
    // The object carries type information, but not where it was built.
    let here = env::current_dir().expect("the build runs in the crate's folder");
    command.arg(format!("-ffile-prefix-map={}=.", here.display()));
    command.args(["-c", source, "-o"]).arg(object);
    let status = command.status().unwrap_or_else(|error| fail(&format!("{clang} does not run ({error})")));
    if !status.success() {
        fail(&format!("{source} does not compile with {clang}; the reason is above"));
    }
}

/// The first compiler that exists and is new enough.
fn find_clang() -> String {
    if let Ok(chosen) = env::var("CLANG") {
        return match clang_version(&chosen) {
            Some(version) if version >= OLDEST_CLANG => chosen,
            Some(version) => fail(&format!("$CLANG is {chosen}, version {version}: too old; {INSTALL}")),
            None => fail(&format!("$CLANG is {chosen}, which is not a clang that runs; {INSTALL}")),
        };
    }
    let numbered = (OLDEST_CLANG..=19).rev().map(|version| format!("clang-{version}"));
    numbered
        .chain(["clang".to_owned()])
        .find(|name| clang_version(name).is_some_and(|version| version >= OLDEST_CLANG))
        .unwrap_or_else(|| fail(&format!("no clang found to compile the kernel programs with; {INSTALL}")))
}

fn clang_version(name: &str) -> Option<u32> {
    let output = Command::new(name).arg("-dumpversion").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split('.').next()?.trim().parse().ok()
}

/// Where `asm/types.h` and the headers of libbpf are. Debian keeps the former in a folder for each architecture, which
/// a compiler for the BPF target does not look into.
fn kernel_headers() -> Vec<PathBuf> {
    let usr = Path::new("/usr/include");
    if !usr.join("bpf/bpf_helpers.h").exists() {
        fail(&format!("bpf/bpf_helpers.h is not installed; {INSTALL}"));
    }
    let host = env::var("HOST").expect("cargo sets HOST");
    let architecture = host.split('-').next().unwrap_or_default();
    let folder = usr.join(format!("{architecture}-linux-gnu"));
    if folder.join("asm/types.h").exists() { vec![folder] } else { vec![] }
}

fn fail(message: &str) -> ! {
    eprintln!("netd-bpf: {message}");
    std::process::exit(1)
}
