//! What clients say to a server by LOGIN.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::sasl::Mechanism;
use smtp_auth_fuzz::sasl_server;

fuzz_target!(|input: sasl_server::Input| sasl_server::run(&[Mechanism::Login], input));
