//! Compiles every file of `proto/` into services and messages; needs no protoc.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked for now, not when this was compiled: the checkout may have moved since.
    let top = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", top.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&top)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "proto"));
    files.sort();
    let descriptors = protox::compile(&files, [&top])?;
    let mut packages: Vec<String> = descriptors
        .file
        .iter()
        .map(|file| file.package().to_owned())
        .collect();
    packages.sort();
    packages.dedup();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut modules = String::new();
    for package in packages {
        let name = package
            .strip_prefix("millrace.")
            .ok_or_else(|| format!("package {package} is not millrace.<name>"))?;
        let file = out.join(format!("{package}.rs"));
        modules.push_str(&format!("pub mod {name} {{ include!({file:?}); }}\n"));
    }
    fs::write(out.join("packages.rs"), modules)?;
    Ok(())
}
