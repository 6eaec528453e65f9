//! What servers say to a client by a mechanism of the host's own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth_fuzz::{OWN, sasl_client};

fuzz_target!(|input: sasl_client::Input| sasl_client::run(&[OWN], input));
