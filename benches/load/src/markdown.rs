//! The tables for `docs/benchmarks.md`.

use core::fmt::Write;
use std::{fs, process::Command, thread::available_parallelism};

use crate::{
    Result,
    options::Options,
    report::{Report, figure, milliseconds},
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md");

/// Writes the tables into `docs/benchmarks.md`, between the marks of that name.
pub(crate) fn write(name: &str, tables: &str) -> Result<()> {
    let text = fs::read_to_string(DOCUMENT)?;
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let parts = text.split_once(&begin).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once(&end)?;
        Some((head, tail))
    });
    let (head, tail) = parts.ok_or_else(|| format!("{DOCUMENT} has no {begin} … {end}"))?;
    Ok(fs::write(DOCUMENT, format!("{head}{begin}\n\n{tables}\n{end}{tail}"))?)
}

pub(crate) fn tables(report: &Report, options: &Options) -> String {
    let mut out = circumstances(&report.versions, Some(report.others()));
    // No write to a string fails.
    let _ = logins(&mut out, report);
    let _ = idle(&mut out, report);
    let _ = messages(&mut out, report, options);
    out
}

/// The first paragraph: the machine, the date, the versions of others, and what other programs used of a processor, in
/// per cent.
pub(crate) fn circumstances(versions: &[String], others: Option<f64>) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("unknown model", |(_, name)| name);
    let processors = available_parallelism().map_or(1, |n| n.get());
    let date = Command::new("date").arg("+%Y-%m-%d").output();
    let date = date.map(|date| String::from_utf8_lossy(&date.stdout).trim().to_owned());
    let date = date.unwrap_or_default();
    let versions = versions.join(", ");
    let peers = match versions.rsplit_once(", ") {
        Some((first, last)) => {
            format!(" The versions of the other programs are {first} and {last}.")
        }
        None if versions.is_empty() => String::new(),
        None => format!(" The versions of the other programs are {versions}."),
    };
    let others = others.map(|others| {
        format!(
            " During the measurements, all programs other than the tool and the server used at most {others:.0} % of \
             one processor."
        )
    });
    let others = others.unwrap_or_default();
    format!(
        "The measurements below were made on {date} with `benches/load`, on a machine with {processors} processors \
         ({name}).{peers}{others}\n"
    )
}

fn logins(out: &mut String, report: &Report) -> core::fmt::Result {
    if report.series.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n### Logins\n\nEach row shows the results for the number of simultaneous connections that gave the highest rate. The column *failed* counts the failed \
        logins for all numbers of connections."
    )?;
    writeln!(
        out,
        "\n| server | TLS | mechanism | at once | logins/s | p50 ms | p99 ms | failed | server's CPU, µs/login |"
    )?;
    writeln!(out, "| --- | --- | --- | --: | --: | --: | --: | --: | --: |")?;
    for series in &report.series {
        let Some(best) = series.best() else { continue };
        writeln!(
            out,
            "| {} | {} | {} | {} | {:.0} | {} | {} | {} | {:.0} |",
            series.subject.label,
            series.transport.name(),
            series.mechanism.name(),
            best.at_once,
            best.rate(),
            milliseconds(best.tally.percentile(50)),
            milliseconds(best.tally.percentile(99)),
            series.lost(),
            best.cost(),
        )?;
    }
    Ok(())
}

fn idle(out: &mut String, report: &Report) -> core::fmt::Result {
    if report.idle.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n### Idle connections\n\nEach connection is idle after EHLO. The memory is the resident memory of all of the server's processes."
    )?;
    writeln!(
        out,
        "\n| server | TLS | connections | failed | KiB per connection | descriptors | processes |"
    )?;
    writeln!(out, "| --- | --- | --: | --: | --: | --: | --: |")?;
    for held in &report.idle {
        let idle = &held.idle;
        writeln!(
            out,
            "| {} | {} | {} | {} | {:.1} | {} | {} |",
            held.subject.label,
            held.transport.name(),
            idle.held,
            idle.failed,
            idle.kibibytes(),
            idle.during.descriptors.saturating_sub(idle.before.descriptors),
            idle.during.processes,
        )?;
    }
    Ok(())
}

fn messages(out: &mut String, report: &Report, options: &Options) -> core::fmt::Result {
    if report.sending.is_empty() {
        return Ok(());
    }
    let counted = match options.connect_each {
        true => {
            "Each message is sent over its own connection, and its time is measured from connect to close."
        }
        false => "Each connection authenticates once, and then sends one message after another.",
    };
    writeln!(
        out,
        "\n### Messages\n\n{counted} Every message was acknowledged. The processor times are those that the server spends on each message, in user mode and in system mode."
    )?;
    writeln!(
        out,
        "\n| server | stores messages in | TLS | size | connections | messages/s | MB/s | user µs | system µs | user ns/octet | system ns/octet |"
    )?;
    writeln!(out, "| --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |")?;
    for (sending, row) in
        report.sending.iter().flat_map(|all| all.rows.iter().map(move |row| (all, row)))
    {
        let cpu = row.times.server;
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {} | {} |",
            sending.subject.label,
            sending.subject.kind.sink(),
            sending.transport.name(),
            row.size,
            row.connections,
            figure(row.rate()),
            figure(row.megabytes()),
            row.each(cpu.user),
            row.each(cpu.system),
            figure(row.octet(cpu.user)),
            figure(row.octet(cpu.system)),
        )?;
    }
    Ok(())
}
