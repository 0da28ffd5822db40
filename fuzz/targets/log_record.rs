#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    duet_storage::fuzzing::log_record(bytes);
});
