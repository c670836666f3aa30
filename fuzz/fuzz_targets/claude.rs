#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| git_orchestra::agent::fuzzing::decoder("claude", data));
