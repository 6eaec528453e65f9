//! Standard output.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use smtp_auth_tokio::{
    client::{self, Sent},
    smtp_auth::Side,
};

use crate::token_error;

/// Standard output, in colour where somebody looks at it (<https://no-color.org>).
#[derive(Clone, Copy)]
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !unwanted && io::stdout().is_terminal() }
    }

    pub(crate) fn heading(self, text: impl Display) {
        self.line(format_args!("\n{}", self.painted("1", text)));
    }

    pub(crate) fn dialogue(self, side: Side, line: &str) {
        let colour = match side {
            Side::Client => "36",
            Side::Server => "33",
        };
        self.line(format_args!("  {}", self.painted(colour, format_args!("{side}: {line}"))));
    }

    pub(crate) fn result(self, good: bool, text: impl Display) {
        let (colour, word) = if good { ("32", "as it should be") } else { ("31", "wrong") };
        self.line(format_args!("{}: {text}", self.painted(colour, word)));
    }

    /// What came of a try: an error where that is not as it should be.
    pub(crate) fn verdict(
        self,
        good: bool,
        outcome: &Result<Sent, client::Error>,
    ) -> Result<(), String> {
        let what = match outcome {
            Ok(sent) => format!("the server accepted the message: {}", sent.reply),
            Err(error) => error.to_string(),
        };
        if !good {
            return Err(what);
        }
        self.result(true, what);
        if let Some(json) = outcome.as_ref().err().and_then(|error| token_error(error.kind())) {
            self.line(format_args!("The server says of the token: {json}"));
        }
        Ok(())
    }

    fn painted(self, colour: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Where nobody reads any more, the demo still runs to its end. (`println!` would panic.)
    pub(crate) fn line(self, text: impl Display) {
        let _ = writeln!(io::stdout(), "{text}");
    }
}
