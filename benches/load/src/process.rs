//! The processes of a server: started, watched by way of `/proc`, and ended.

use core::time::Duration;
use std::{collections::HashMap, fs, process::Stdio, thread::sleep, time::Instant};

use rustix::{
    param::clock_ticks_per_second,
    process::{
        Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
        waitpid,
    },
};
use tokio::process::{Child, Command};

use crate::Result;

/// How often to look whether a killed process is at its end.
const LOOK: Duration = Duration::from_millis(1);

/// Makes this process the parent of those whose own has ended: a server's, however deep, stay below
/// it, and are waited for.
pub(crate) fn adopt() -> Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Those that were started here; each leads a group of its own. All end with this value.
pub(crate) struct Processes(Vec<Child>);

impl Processes {
    pub(crate) fn start(commands: impl IntoIterator<Item = Command>) -> Result<Self> {
        let mut started = Self(Vec::new());
        for mut command in commands {
            let program = command.as_std().get_program().to_owned();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.process_group(0).kill_on_drop(true).spawn();
            started.0.push(child.map_err(|error| format!("{}: {error}", program.display()))?);
        }
        Ok(started)
    }

    /// All of these, as one.
    pub(crate) fn joined(all: Vec<Self>) -> Self {
        Self(all.into_iter().flat_map(|mut one| core::mem::take(&mut one.0)).collect())
    }

    /// Whether one of them is at its end.
    pub(crate) fn ended(&mut self) -> bool {
        self.0.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)))
    }

    pub(crate) fn usage(&self) -> Usage {
        self.all().into_iter().map(Usage::of).fold(Usage::default(), Usage::plus)
    }

    /// These and all below them.
    fn all(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(parent) = stat(pid).and_then(|fields| fields.get(1).copied()) {
                children.entry(parent as u32).or_default().push(pid);
            }
        }
        let mut all: Vec<u32> = self.0.iter().filter_map(Child::id).collect();
        let mut at = 0;
        while let Some(pid) = all.get(at) {
            all.extend(children.remove(pid).unwrap_or_default());
            at += 1;
        }
        all
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let all = self.all();
        let pid = |id: u32| Pid::from_raw(id as i32);
        // An error says that the group or the process is gone already. Some may have left their group.
        for leader in self.0.iter().filter_map(Child::id).filter_map(pid) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        for process in all.iter().copied().filter_map(pid) {
            let _ = kill_process(process, Signal::KILL);
        }
        for child in &mut self.0 {
            while let Ok(None) = child.try_wait() {
                sleep(LOOK);
            }
        }
        // The rest are this process's children now.
        for process in all.into_iter().filter_map(pid) {
            while let Ok(None) = waitpid(Some(process), WaitOptions::NOHANG) {
                sleep(LOOK);
            }
        }
    }
}

/// Seconds of processor time, in user and in system mode.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    /// A process's, and that of the children that it has waited for.
    fn of(pid: u32) -> Self {
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        match stat(pid).as_deref().and_then(|fields| fields.get(11..15)) {
            Some(&[user, system, children_user, children_system]) => Self {
                user: seconds(user + children_user),
                system: seconds(system + children_system),
            },
            _ => Self::default(),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }

    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Processor time until now, or of a row.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// Since the row began.
    pub(crate) seconds: f64,
    pub(crate) tool: Cpu,
    pub(crate) server: Cpu,
    /// All processors' seconds that were not idle, or not the machine's own.
    busy: f64,
}

impl Times {
    pub(crate) fn now(server: &Processes) -> Self {
        Self { seconds: 0.0, tool: Usage::own().cpu, server: server.usage().cpu, busy: busy() }
    }

    pub(crate) fn since(self, before: Self, began: Instant) -> Self {
        Self {
            seconds: began.elapsed().as_secs_f64(),
            tool: self.tool.since(before.tool),
            server: self.server.since(before.server),
            busy: self.busy - before.busy,
        }
    }

    /// What all other programs had in that time: a row that shares with them says little.
    pub(crate) fn others(&self) -> f64 {
        (self.busy - self.tool.total() - self.server.total()).max(0.0)
    }

    /// Of the row's time, in per cent of one processor: 200 % is two.
    pub(crate) fn share(&self, seconds: f64) -> f64 {
        100.0 * seconds / self.seconds
    }
}

/// The first line of `/proc/stat` without idle and iowait, steal included.
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().into_iter().flat_map(|line| line.split_whitespace().skip(1));
    let busy = fields.take(8).enumerate().filter(|(at, _)| !(3..5).contains(at));
    let ticks: u64 = busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / clock_ticks_per_second() as f64
}

/// What processes have used up, and what they hold.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time, ended children included.
    pub(crate) cpu: Cpu,
    /// Resident memory (VmRSS). What processes share counts for each of them.
    pub(crate) memory: u64,
    /// Open file descriptors.
    pub(crate) descriptors: usize,
    pub(crate) processes: usize,
}

impl Usage {
    /// The tool's own.
    pub(crate) fn own() -> Self {
        Self::of(std::process::id())
    }

    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: u64 = resident
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_default();
        Self {
            cpu: Cpu::of(pid),
            memory: kilobytes * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            processes: 1,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cpu: Cpu {
                user: self.cpu.user + other.cpu.user,
                system: self.cpu.system + other.cpu.system,
            },
            memory: self.memory + other.memory,
            descriptors: self.descriptors + other.descriptors,
            processes: self.processes + other.processes,
        }
    }
}

/// The numbers in `/proc/PID/stat` after the program's name, which may have spaces and brackets in
/// it. The state, a letter, counts as 0.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect())
}
