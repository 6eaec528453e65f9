//! What servers say to a client by CRAM-MD5.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::sasl::Mechanism;
use smtp_auth_fuzz::sasl_client;

fuzz_target!(|input: sasl_client::Input| sasl_client::run(&[Mechanism::CramMd5], input));
