//! What servers say to a client by ANONYMOUS.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::sasl::Mechanism;
use smtp_auth_fuzz::sasl_client;

fuzz_target!(|input: sasl_client::Input| sasl_client::run(&[Mechanism::Anonymous], input));
