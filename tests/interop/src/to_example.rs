//! A client signs in to the example server, by all that it has.

use core::mem;

use crate::{
    Options, Result,
    clients::Client,
    example_server::{ExampleServer, without_trace},
    home::Home,
    matrix::{Half, Matrix, Outcome, Subject},
    message::{Message, compare},
    process::{Processes, done, last_line, run, said},
    sign_in::{MECHANISMS, SignIn, TIM, Transport, wire_name},
};

/// What is tried beside the mechanisms; by this one, which all have.
const COMMON: &str = "PLAIN";

pub(crate) async fn check(client: &Client, options: &Options, home: &Home, matrix: &mut Matrix) {
    let started = match done(&mut client.version_command()).await {
        Ok(said) => {
            matrix.peer(client.name, client.version(&said));
            start(client, options, home).await
        }
        Err(why) => {
            matrix.peer(client.name, "is missing".into());
            Err(why)
        }
    };
    let row = |row, half| Subject { peer: client.name, row, half, transport: Transport::StartTls };
    match started {
        Ok((server, _beside)) => {
            let mut run = Run { client, options, home, server };
            run.mechanisms(matrix).await;
            run.others(matrix).await;
        }
        Err(why) => matrix.add(row(COMMON, Half::RightSecret), Outcome::Failed(why)),
    }
}

/// With what the client needs beside it.
async fn start(
    client: &Client,
    options: &Options,
    home: &Home,
) -> Result<(ExampleServer, Processes)> {
    let server = ExampleServer::start(options, home, client.name, &[]).await?;
    Ok((server, client.start_beside(home).await?))
}

struct Run<'a> {
    client: &'a Client,
    options: &'a Options,
    home: &'a Home,
    server: ExampleServer,
}

impl Run<'_> {
    async fn mechanisms(&mut self, matrix: &mut Matrix) {
        for mechanism in MECHANISMS {
            if !self.client.alone.contains(&mechanism) {
                self.row(mechanism, matrix).await;
                continue;
            }
            let name = format!("{}-{mechanism}", self.client.name);
            match ExampleServer::start(self.options, self.home, &name, &[mechanism]).await {
                Ok(other) => {
                    let usual = mem::replace(&mut self.server, other);
                    self.row(mechanism, matrix).await;
                    self.server = usual;
                }
                Err(why) => {
                    let half = Half::RightSecret;
                    let subject = self.subject(mechanism, half, Transport::StartTls);
                    matrix.add(subject, Outcome::Failed(why));
                }
            }
        }
    }

    async fn row(&self, mechanism: &'static str, matrix: &mut Matrix) {
        for transport in Transport::ALL.into_iter().filter(|own| own.suits(mechanism)) {
            for right in [true, false] {
                let subject = self.subject(mechanism, Half::of(right), transport);
                matrix.add(subject, self.mechanism(mechanism, transport, right).await);
            }
        }
    }

    fn subject(&self, row: &'static str, half: Half, transport: Transport) -> Subject {
        Subject { peer: self.client.name, row, half, transport }
    }

    async fn mechanism(
        &self,
        mechanism: &'static str,
        transport: Transport,
        right: bool,
    ) -> Outcome {
        if let Some(why) = (self.client.lacks)(mechanism, transport) {
            return Outcome::NotOffered(why);
        }
        let mark = self.server.log.mark();
        let tried = match right {
            true => self.right(mechanism, transport, 1).await,
            false => self.wrong(mechanism, transport).await,
        };
        let fault = (self.client.fault)(mechanism);
        let logged = |_: &str, words: &str| self.server.log.count(mark, words) > 0;
        Outcome::of(tried, fault, logged, (self.client.remark)(mechanism, right))
    }

    /// It signs in, and so many messages arrive by one connection.
    async fn right(
        &self,
        mechanism: &'static str,
        transport: Transport,
        number: usize,
    ) -> Result<()> {
        let small = |_| Message::small(self.home, self.client.form);
        let messages = (0..number).map(small).collect::<Result<Vec<_>>>()?;
        self.sends(mechanism, transport, &messages).await
    }

    async fn sends(
        &self,
        mechanism: &'static str,
        transport: Transport,
        messages: &[Message],
    ) -> Result<()> {
        // What another check has left is no fault of this one.
        self.server.take_messages();
        let mark = self.server.log.mark();
        let sign_in = self.sign_in(mechanism, transport, true, messages);
        self.succeeds(&sign_in).await?;
        self.begins(mark, mechanism).await?;
        self.said(mark, &[" S: 235 "], "was not told that it is signed in").await?;
        let connections = self.server.log.count(mark, " C: AUTH ");
        if connections != 1 {
            return Err(format!("signed in {connections} times"));
        }
        let sent = if self.hands_over(mechanism) { messages } else { &[] };
        compare(&self.server.take_messages(), sent, |stored| without_trace(stored, transport))
    }

    /// A guest may send nothing.
    fn hands_over(&self, mechanism: &str) -> bool {
        self.client.sends_mail && mechanism != "ANONYMOUS"
    }

    /// It hears that it is refused, fails, and nothing is stored.
    async fn wrong(&self, mechanism: &'static str, transport: Transport) -> Result<()> {
        self.server.take_messages();
        let mark = self.server.log.mark();
        let message = [Message::small(self.home, self.client.form)?];
        let sign_in = self.sign_in(mechanism, transport, false, &message);
        let output = run(&mut (self.client.command)(&sign_in)?).await?;
        self.begins(mark, mechanism).await?;
        // What is wrong with a token is said in a challenge first (RFC 7628 §3.2.2), and some leave then.
        let refused = if sign_in.takes_token() { " S: 334 eyJ" } else { " S: 535 " };
        self.said(mark, &[refused, " S: 235 "], "was not told that it is refused").await?;
        if self.server.log.count(mark, " S: 235 ") > 0 {
            return Err("was signed in".into());
        }
        if output.status.success() {
            return Err("says that all went well".into());
        }
        if !said(&output).contains(self.client.refused) {
            return Err(format!("does not say that it is refused: {}", last_line(&output)));
        }
        compare(&self.server.take_messages(), &[], |stored| Ok(stored))
    }

    /// The server sees that it begins to sign in by this mechanism.
    async fn begins(&self, mark: usize, mechanism: &str) -> Result<()> {
        let auth = format!(" C: AUTH {}", wire_name(mechanism));
        // The name's end, lest it is that of another.
        let words = [format!("{auth}\n"), format!("{auth} ")];
        self.said(mark, &words.each_ref().map(String::as_str), "did not take this mechanism").await
    }

    async fn said(&self, mark: usize, words: &[&str], otherwise: &str) -> Result<()> {
        self.server.log.says(mark, words).await.then_some(()).ok_or_else(|| otherwise.into())
    }

    async fn succeeds(&self, sign_in: &SignIn<'_>) -> Result<()> {
        let output = run(&mut (self.client.command)(sign_in)?).await?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", output.status, last_line(&output))),
        }
    }

    fn sign_in(
        &self,
        mechanism: &'static str,
        transport: Transport,
        right: bool,
        messages: &[Message],
    ) -> SignIn<'_> {
        let (home, port) = (self.home, self.server.port(transport));
        let files = messages.iter().map(|message| message.file.clone()).collect();
        SignIn { home, port, transport, mechanism, account: TIM, right, files }
    }

    /// What is tried by one mechanism only.
    async fn others(&self, matrix: &mut Matrix) {
        let transport = Transport::StartTls;
        let subject = |row| self.subject(row, Half::Whole, transport);
        let client = self.client;
        let tried = match (client.sends_mail, client.beside) {
            (true, None) => passed(self.two_at_once(transport).await),
            (true, Some(_)) => Outcome::NotOffered("it sends messages one after another"),
            (false, _) => Outcome::NotOffered(client.no_second),
        };
        matrix.add(subject("two senders at once"), tried);
        let tried = match client.no_second {
            "" => passed(self.right(COMMON, transport, 2).await),
            why => Outcome::NotOffered(why),
        };
        matrix.add(subject("two messages on one connection"), tried);
        let tried = match client.sends_mail {
            true => passed(self.big(transport).await),
            false => Outcome::NotOffered(client.no_second),
        };
        matrix.add(subject("10 MB"), tried);
    }

    async fn two_at_once(&self, transport: Transport) -> Result<()> {
        self.server.take_messages();
        let messages = [
            Message::small(self.home, self.client.form)?,
            Message::small(self.home, self.client.form)?,
        ];
        let [one, other] = &messages;
        let (one, other) = (core::slice::from_ref(one), core::slice::from_ref(other));
        let one = self.sign_in(COMMON, transport, true, one);
        let other = self.sign_in(COMMON, transport, true, other);
        tokio::try_join!(self.succeeds(&one), self.succeeds(&other))?;
        let stored = self.server.take_messages();
        compare(&stored, &messages, |stored| without_trace(stored, transport))
    }

    async fn big(&self, transport: Transport) -> Result<()> {
        let message = [Message::big(self.home, self.client.form)?];
        self.sends(COMMON, transport, &message).await
    }
}

fn passed(tried: Result<()>) -> Outcome {
    tried.map_or_else(Outcome::Failed, |()| Outcome::Passed(None))
}
