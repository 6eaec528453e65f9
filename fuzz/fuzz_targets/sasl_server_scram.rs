//! What clients say to a server by SCRAM, of each hash, with channel binding and without.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth_fuzz::{SCRAM, sasl_server};

fuzz_target!(|input: sasl_server::Input| sasl_server::run(SCRAM, input));
