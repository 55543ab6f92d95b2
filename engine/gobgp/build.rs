//! Makes the client of GoBGP's API from its proto files, without protoc.

use std::error::Error;

const FILES: [&str; 2] = ["gobgp.proto", "attribute.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut config = tonic_prost_build::Config::new();
    // Attributes of paths travel with their type's name beside them.
    config.enable_type_names();
    let client_only = tonic_prost_build::configure().build_server(false).build_transport(false);
    client_only.compile_fds_with_config(descriptors, config)?;
    Ok(())
}
