//! What is read is written and read back to the same value; an error points into the line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::command;

fuzz_target!(|line: &[u8]| match command::parse(line) {
    Ok(command) => {
        let mut out = Vec::new();
        command.write(&mut out);
        let written = out.strip_suffix(b"\r\n").expect("a line ends in CRLF");
        assert_eq!(command::parse(written), Ok(command));
    }
    Err(error) => assert!(error.offset() <= line.len()),
});
