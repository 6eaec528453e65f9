//! The tables for the documentation.

use core::fmt::Write;
use std::{fs, process::Command, thread::available_parallelism};

use crate::{
    options::Options,
    report::{Report, figure, milliseconds},
};

pub(crate) fn tables(report: &Report, options: &Options) -> String {
    let mut out = format!("Measured by `benches/load` on {}.\n", circumstances(report));
    // No write to a string fails.
    let _ = logins(&mut out, report);
    let _ = idle(&mut out, report);
    let _ = messages(&mut out, report, options);
    out
}

fn circumstances(report: &Report) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("a machine without a name", |(_, name)| name);
    let processors = available_parallelism().map_or(1, |n| n.get());
    let date = Command::new("date").arg("+%Y-%m-%d").output();
    let date = date.map(|date| String::from_utf8_lossy(&date.stdout).trim().to_owned());
    let date = date.unwrap_or_default();
    let peers: String = report.versions.iter().map(|version| format!("; {version}")).collect();
    let others = report.others();
    format!(
        "{name}, {processors} processors, of which other programs had at most {others:.0} % of one; {date}{peers}"
    )
}

fn logins(out: &mut String, report: &Report) -> core::fmt::Result {
    if report.series.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nLogins, a connection each, at the number at once with the most a second; those that failed, at any number:"
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
        "\nIdle connections, after EHLO; resident memory of all of the server's processes:"
    )?;
    writeln!(out, "\n| server | TLS | held | failed | KiB each | descriptors | processes |")?;
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
        true => "each on a connection of its own, from connect to close",
        false => "one after the other on connections that have signed in before",
    };
    writeln!(
        out,
        "\nMessages, {counted}, every one acknowledged; the server's processor time, in user and system mode:"
    )?;
    writeln!(
        out,
        "\n| server | its messages go to | TLS | size | connections | messages/s | MB/s | user µs | system µs | user ns/octet | system ns/octet |"
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
