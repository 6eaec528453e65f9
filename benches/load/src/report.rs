//! What is printed.

use core::time::Duration;

use crate::{
    dialogue::Mechanism,
    measure::{Idle, Row},
    options::Transport,
    process::Times,
    sending::Sent,
    servers::Subject,
};

/// What an idle connection of this crate's servers may hold, in KiB.
const IDLE: f64 = 2.0;
const IDLE_TLS: f64 = 10.0;

/// The rows of one table of logins.
pub(crate) struct Series {
    pub(crate) subject: Subject,
    pub(crate) transport: Transport,
    pub(crate) mechanism: Mechanism,
    pub(crate) rows: Vec<Row>,
}

impl Series {
    pub(crate) fn best(&self) -> Option<&Row> {
        self.rows.iter().max_by(|a, b| a.rate().total_cmp(&b.rate()))
    }

    /// How many logins failed or timed out.
    pub(crate) fn lost(&self) -> usize {
        self.rows.iter().map(|row| row.tally.failed + row.tally.timed_out).sum()
    }
}

/// The rows of one table of messages.
pub(crate) struct Sending {
    pub(crate) subject: Subject,
    pub(crate) transport: Transport,
    pub(crate) rows: Vec<Sent>,
}

pub(crate) struct Held {
    pub(crate) subject: Subject,
    pub(crate) transport: Transport,
    pub(crate) idle: Idle,
}

/// All that was measured.
#[derive(Default)]
pub(crate) struct Report {
    /// Of what others wrote.
    pub(crate) versions: Vec<String>,
    pub(crate) series: Vec<Series>,
    pub(crate) idle: Vec<Held>,
    pub(crate) sending: Vec<Sending>,
}

/// Above each table. Processor time is of one processor: 200 % is two.
pub(crate) fn head(subject: &Subject, transport: Transport, mechanism: Mechanism) {
    println!("\n{}, {}, {}", subject.label, mechanism.name(), transport.name());
    println!(
        "  at once  logins/s    p50 ms    p99 ms    done  failed  timed out  CPU: tool  server  others  µs/login"
    );
}

/// Above each table of messages. The last four columns are the server's.
pub(crate) fn sending_head(subject: &Subject, transport: Transport) {
    let sink = subject.kind.sink();
    println!("\n{}, messages to {sink}, {}", subject.label, transport.name());
    println!(
        "     size  at once  messages/s      MB/s    sent  CPU: tool  server  others   user µs    sys µs  user ns/octet system"
    );
}

pub(crate) fn sent(row: &Sent) {
    let Times { tool, server, .. } = row.times;
    println!(
        "{:>9} {:>8} {:>11} {:>9} {:>7} {:>8.0} % {:>5.0} % {:>5.0} % {:>9.0} {:>9.0} {:>13} {:>6}",
        row.size,
        row.connections,
        figure(row.rate()),
        figure(row.megabytes()),
        row.messages,
        row.times.share(tool.total()),
        row.times.share(server.total()),
        row.times.share(row.times.others()),
        row.each(server.user),
        row.each(server.system),
        figure(row.octet(server.user)),
        figure(row.octet(server.system)),
    );
}

pub(crate) fn row(row: &Row) {
    let times = &row.times;
    println!(
        "{:>9} {:>9.0} {:>9} {:>9} {:>7} {:>7} {:>10} {:>8.0} % {:>5.0} % {:>5.0} % {:>9.0}",
        row.at_once,
        row.rate(),
        milliseconds(row.tally.percentile(50)),
        milliseconds(row.tally.percentile(99)),
        row.tally.done(),
        row.tally.failed,
        row.tally.timed_out,
        times.share(times.tool.total()),
        times.share(times.server.total()),
        times.share(times.others()),
        row.cost(),
    );
    if let Some(why) = &row.tally.why {
        println!("          a failure: {why}");
    }
}

/// With three digits that say something, or all before the point.
pub(crate) fn figure(number: f64) -> String {
    let decimals = match number {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

pub(crate) fn milliseconds(time: Option<Duration>) -> String {
    time.map_or("-".into(), |time| format!("{:.2}", time.as_secs_f64() * 1e3))
}

impl Report {
    pub(crate) fn print_summary(&self) {
        if !self.series.is_empty() {
            self.print_shares();
            self.print_ratios();
        }
        self.print_own();
        let series = self.series.iter().map(|series| &series.subject);
        let mut subjects = series.chain(self.idle.iter().map(|held| &held.subject));
        if subjects.any(Subject::is_own) {
            self.print_goals();
        }
    }

    /// The most that other programs had of a processor in any row, in per cent.
    pub(crate) fn others(&self) -> f64 {
        let logins = self.series.iter().flat_map(|series| &series.rows).map(|row| &row.times);
        let messages = self.sending.iter().flat_map(|sending| &sending.rows).map(|row| &row.times);
        logins.chain(messages).map(|times| times.share(times.others())).fold(0.0, f64::max)
    }

    /// What a login costs besides itself: the connection, and the handshake.
    fn print_shares(&self) {
        println!(
            "\nShare of connection (and handshake) alone in a login: of the time, of the server's CPU"
        );
        for series in self.series.iter().filter(|series| series.mechanism != Mechanism::None) {
            let bare = self.best(&series.subject, series.transport, Mechanism::None);
            if let (Some(bare), Some(login)) = (bare, series.best()) {
                println!(
                    "{:>6.0} % {:>5.0} %  {}, {}, {}",
                    100.0 * login.rate() / bare.rate(),
                    100.0 * bare.cost() / login.cost(),
                    series.subject.label,
                    series.mechanism.name(),
                    series.transport.name(),
                );
            }
        }
    }

    fn best(&self, subject: &Subject, transport: Transport, mechanism: Mechanism) -> Option<&Row> {
        let wanted = |series: &&Series| {
            (&series.subject, series.transport, series.mechanism) == (subject, transport, mechanism)
        };
        self.series.iter().find(wanted)?.best()
    }

    /// The best peer by rate, and the best by the server's processor time: the tool has a part in the
    /// first, as it shares the processors.
    fn print_ratios(&self) {
        println!("\nThis crate's servers to the best peer, each at its best row");
        println!("logins/s   goal              server's CPU for a login");
        for own in self.series.iter().filter(|series| series.subject.is_own()) {
            let peers = || {
                self.series.iter().filter(|peer| {
                    !peer.subject.is_own()
                        && (peer.transport, peer.mechanism) == (own.transport, own.mechanism)
                })
            };
            let rows = || peers().filter_map(|peer| Some((&peer.subject.label, peer.best()?)));
            let fastest = rows().max_by(|(_, a), (_, b)| a.rate().total_cmp(&b.rate()));
            let cheapest = rows().min_by(|(_, a), (_, b)| a.cost().total_cmp(&b.cost()));
            let own_name = &own.subject.label;
            let what = format!("{own_name}, {}, {}", own.mechanism.name(), own.transport.name());
            let (Some(best), Some((fastest, fast)), Some((cheapest, cheap))) =
                (own.best(), fastest, cheapest)
            else {
                println!("       -                     no peer for {what}");
                continue;
            };
            let ratio = best.rate() / fast.rate();
            let goal = match (own.mechanism, own.transport) {
                (Mechanism::None, _) => "              ".into(),
                (_, Transport::Plain) => format!("3×: {}    ", verdict(ratio >= 3.0)),
                (_, Transport::Tls) => format!("1×: {}    ", verdict(ratio >= 1.0)),
            };
            println!(
                "{ratio:>7.2}×   {goal}  {:>5.2} of it     {what} ({fastest}; {cheapest})",
                best.cost() / cheap.cost(),
            );
        }
    }

    /// This crate's other servers to the first of them, logins at their best row.
    fn print_own(&self) {
        let logins = self.series.iter().filter_map(|series| {
            let (best, what) = (series.best()?, series.mechanism.name());
            Some((&series.subject, series.transport, what.to_owned(), best.rate(), best.cost()))
        });
        let messages = self.sending.iter().flat_map(|sending| {
            sending.rows.iter().map(|row| {
                let what = format!("{}, {} at once", row.size, row.connections);
                let cost = row.each(row.times.server.total());
                (&sending.subject, sending.transport, what, row.rate(), cost)
            })
        });
        let own: Vec<_> = logins.chain(messages).filter(|(own, ..)| own.is_own()).collect();
        let mut lines = Vec::new();
        for (subject, transport, what, rate, cost) in &own {
            let same = |(_, its, of, ..): &&(_, _, String, _, _)| (its, of) == (transport, what);
            match own.iter().find(same) {
                Some((first, _, _, first_rate, first_cost)) if first != subject => {
                    lines.push(format!(
                        "{:>7.2}×  {:>5.2} of it     {}, {what}, {} ({})",
                        rate / first_rate,
                        cost / first_cost,
                        subject.label,
                        transport.name(),
                        first.label,
                    ));
                }
                _ => {}
            }
        }
        if !lines.is_empty() {
            println!("\nThis crate's servers to the first of them");
            println!("a second   server's CPU\n{}", lines.join("\n"));
        }
    }

    fn print_goals(&self) {
        println!("\nThe other goals of this crate's servers");
        for series in self.series.iter().filter(|series| series.subject.is_own()) {
            let (lost, most) = (series.lost(), series.rows.iter().map(|row| row.at_once).max());
            println!(
                "{}  no login fails, {} at once: {lost} did: {}, {}, {}",
                verdict(lost == 0),
                most.unwrap_or_default(),
                series.subject.label,
                series.mechanism.name(),
                series.transport.name(),
            );
        }
        for Held { subject, transport, idle } in
            self.idle.iter().filter(|held| held.subject.is_own())
        {
            let most = match transport {
                Transport::Plain => IDLE,
                Transport::Tls => IDLE_TLS,
            };
            let (all, each) = (idle.held + idle.failed, idle.kibibytes());
            println!(
                "{}  of {all} idle connections none fails, each at most {most} KiB: {} did, {each:.1}: {}, {}",
                verdict(idle.failed == 0 && each <= most),
                idle.failed,
                subject.label,
                transport.name(),
            );
        }
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met   " } else { "missed" }
}
