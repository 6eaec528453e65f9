//! The forms in which octets could be seen, and all that was printed.

use std::{
    fmt::{Debug, Display},
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};

/// As they are, in hexadecimal, in base64 whatever stands before them, and each of these as a list
/// of numbers.
pub(crate) fn forms(octets: &[u8]) -> Vec<String> {
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let mut forms = vec![hex.to_uppercase(), numbers(octets), hex];
    forms.extend(String::from_utf8(octets.to_vec()));
    for before in 0..3 {
        let encoded = STANDARD.encode([&[0; 2][..before], octets].concat());
        // The characters that come of these octets alone.
        let end = (before + octets.len()) * 8 / 6;
        forms.extend(encoded.get((before * 8).div_ceil(6)..end).map(String::from));
    }
    let listed: Vec<String> = forms.iter().map(|form| numbers(form.as_bytes())).collect();
    [forms, listed].concat()
}

pub(crate) fn numbers(octets: &[u8]) -> String {
    format!("{octets:?}").trim_matches(['[', ']']).to_owned()
}

/// All that was printed. Shared with the hooks of the trace.
#[derive(Clone, Default)]
pub(crate) struct Shown(pub(crate) Arc<Mutex<String>>);

impl Shown {
    pub(crate) fn text(&self, text: &str) {
        self.0.lock().unwrap().push_str(&format!("{text}\n"));
    }

    pub(crate) fn debug(&self, value: &impl Debug) {
        self.text(&format!("{value:?}"));
        // Written over many lines, and put together again to be searched.
        let pretty = format!("{value:#?}");
        self.text(&pretty.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    pub(crate) fn both(&self, value: &(impl Debug + Display)) {
        self.debug(value);
        self.text(&value.to_string());
    }

    #[track_caller]
    pub(crate) fn has_none_of(&self, secrets: &[String], what: &str) {
        let shown = self.0.lock().unwrap();
        for secret in secrets {
            // The line that it stands in, up to it.
            if let Some(at) = shown.find(secret.as_str()) {
                let line = shown[..at].lines().next_back().unwrap_or_default();
                panic!("{what}: {secret} behind {line}");
            }
        }
    }
}
