#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| satellite_core::fuzzing::run("layers", data));
