//! What clients say to a server by a mechanism of the host's own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth_fuzz::{OWN, sasl_server};

fuzz_target!(|input: sasl_server::Input| sasl_server::run(&[OWN], input));
