//! What is printed.

use core::time::Duration;

use crate::{
    dialogue::Mechanism,
    measure::{Idle, Row},
    options::Transport,
    servers::Kind,
};

/// The rows of one table.
pub(crate) struct Series {
    pub(crate) kind: Kind,
    pub(crate) transport: Transport,
    pub(crate) mechanism: Mechanism,
    pub(crate) rows: Vec<Row>,
}

impl Series {
    fn best(&self) -> Option<&Row> {
        self.rows.iter().max_by(|a, b| a.rate().total_cmp(&b.rate()))
    }
}

/// All that was measured.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) series: Vec<Series>,
    pub(crate) idle: Vec<(Kind, Transport, Idle)>,
}

/// Above each table. Processor time is of one processor: 200 % is two.
pub(crate) fn head(kind: Kind, transport: Transport, mechanism: Mechanism) {
    println!("\n{}, {}, {}", kind.name(), mechanism.name(), transport.name());
    println!(
        "  at once  logins/s    p50 ms    p99 ms    done  failed  timed out  CPU: tool  server  µs/login"
    );
}

pub(crate) fn row(row: &Row) {
    let share = |cpu: f64| 100.0 * cpu / row.seconds;
    println!(
        "{:>9} {:>9.0} {:>9} {:>9} {:>7} {:>7} {:>10} {:>8.0} % {:>5.0} % {:>9.0}",
        row.at_once,
        row.rate(),
        milliseconds(row.tally.percentile(50)),
        milliseconds(row.tally.percentile(99)),
        row.tally.done(),
        row.tally.failed,
        row.tally.timed_out,
        share(row.own_cpu),
        share(row.server_cpu),
        row.cost(),
    );
    if let Some(why) = &row.tally.why {
        println!("          a failure: {why}");
    }
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or("-".into(), |time| format!("{:.2}", time.as_secs_f64() * 1e3))
}

impl Report {
    pub(crate) fn print_summary(&self) {
        self.print_idle();
        self.print_shares();
        self.print_ratios();
        self.print_goals();
    }

    fn print_idle(&self) {
        println!(
            "\nIdle connections, after EHLO (resident memory of all of the server's processes)"
        );
        println!("    held  failed  KiB each  descriptors  processes");
        for (kind, transport, idle) in &self.idle {
            let descriptors = idle.during.descriptors.saturating_sub(idle.before.descriptors);
            println!(
                "{:>8} {:>7} {:>9.1} {:>12} {:>10}  {}, {}",
                idle.held,
                idle.failed,
                idle.each() / 1024.0,
                descriptors,
                idle.during.processes,
                kind.name(),
                transport.name(),
            );
        }
    }

    /// What a login costs besides itself: the connection, and the handshake.
    fn print_shares(&self) {
        println!(
            "\nShare of connection (and handshake) alone in a login: of the time, of the server's CPU"
        );
        for series in self.series.iter().filter(|series| series.mechanism != Mechanism::None) {
            let bare = self.best(series.kind, series.transport, Mechanism::None);
            if let (Some(bare), Some(login)) = (bare, series.best()) {
                println!(
                    "{:>6.0} % {:>5.0} %  {}, {}, {}",
                    100.0 * login.rate() / bare.rate(),
                    100.0 * bare.cost() / login.cost(),
                    series.kind.name(),
                    series.mechanism.name(),
                    series.transport.name(),
                );
            }
        }
    }

    fn best(&self, kind: Kind, transport: Transport, mechanism: Mechanism) -> Option<&Row> {
        let wanted = |series: &&Series| {
            (series.kind, series.transport, series.mechanism) == (kind, transport, mechanism)
        };
        self.series.iter().find(wanted)?.best()
    }

    fn example(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| series.kind == Kind::Example)
    }

    /// The best peer by rate, and the best by the server's processor time: the tool has a part in the
    /// first, as it shares the processors.
    fn print_ratios(&self) {
        println!("\nThe example server to the best peer, each at its best row");
        println!("logins/s   goal              server's CPU for a login");
        for own in self.example() {
            let peers = || {
                self.series.iter().filter(|peer| {
                    peer.kind != Kind::Example
                        && (peer.transport, peer.mechanism) == (own.transport, own.mechanism)
                })
            };
            let rows = || peers().filter_map(|peer| Some((peer.kind, peer.best()?)));
            let fastest = rows().max_by(|(_, a), (_, b)| a.rate().total_cmp(&b.rate()));
            let cheapest = rows().min_by(|(_, a), (_, b)| a.cost().total_cmp(&b.cost()));
            let what = format!("{}, {}", own.mechanism.name(), own.transport.name());
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
                "{ratio:>7.2}×   {goal}  {:>5.2} of it     {what} ({}; {})",
                best.cost() / cheap.cost(),
                fastest.name(),
                cheapest.name(),
            );
        }
    }

    fn print_goals(&self) {
        println!("\nThe example server's other goals");
        let lost: usize = self
            .example()
            .flat_map(|series| &series.rows)
            .map(|row| row.tally.failed + row.tally.timed_out)
            .sum();
        println!("{}  no login fails: {lost} did", verdict(lost == 0));
        for (kind, transport, idle) in &self.idle {
            if (*kind, *transport) == (Kind::Example, Transport::Plain) {
                let met = idle.each() < 16.0 * 1024.0 && idle.failed == 0;
                let each = idle.each() / 1024.0;
                println!("{}  under 16 KiB for an idle connection: {each:.1}", verdict(met));
            }
        }
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met   " } else { "missed" }
}
