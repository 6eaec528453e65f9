//! What servers say to a client by SCRAM, of each hash, with channel binding and without.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth_fuzz::{SCRAM, sasl_client};

fuzz_target!(|input: sasl_client::Input| sasl_client::run(SCRAM, input));
