//! How large the program may become. Bounds, not measurements: `ns_per_packet` prints those.

use aya::programs::ProgramInfo;
use netd_bpf::Datapath;
use netd_bpf::abi::{COPY, Settings};

use crate::bed::{CAPACITY, in_own_world};

/// Instructions that the verifier may process: a tenth of where it gives up, so that older and newer verifiers, which
/// count otherwise, load the program too, and loading it takes milliseconds.
const VERIFIED_MAX: u32 = 100_000;

/// Bytes of the program as the kernel keeps it, and compiled: what packets use of it fits a first-level cache.
const TRANSLATED_BYTES_MAX: u32 = 64 * 1024;
const COMPILED_BYTES_MAX: u32 = 32 * 1024;

#[test]
fn the_program_stays_small_and_easy_to_verify() {
    in_own_world(|root| {
        // With and without what is constant.
        for has_pools in [0, 1] {
            let outer_dscp = if has_pools == 1 { 10 } else { COPY };
            let settings = Settings { has_pools, outer_dscp, ..Settings::default() };
            let datapath = Datapath::create(root, &CAPACITY, &settings).unwrap();
            let pin = root.join(format!("g{}/program", datapath.number()));
            let info = ProgramInfo::from_pin(pin).unwrap();
            // Kernels before 5.16 do not say.
            let verified = info.verified_instruction_count().unwrap_or(0);
            assert!(verified <= VERIFIED_MAX, "the verifier processed {verified} instructions");
            let translated = info.size_translated().unwrap();
            assert!(translated <= TRANSLATED_BYTES_MAX, "the program has {translated} bytes");
            let compiled = info.size_jitted();
            assert!(compiled <= COMPILED_BYTES_MAX, "the compiled program has {compiled} bytes");
        }
    });
}
