//! Processes: run to their end in a bounded time, or kept until they are no longer needed.

use core::time::Duration;
use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    thread::sleep,
    time::Instant,
};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::Result;

/// What a process that comes to its end by itself may take.
const TIME: Duration = Duration::from_secs(60);

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often to look.
const LOOK: Duration = Duration::from_millis(10);

/// Makes this process the parent of those whose own has ended: all stay below it, and are waited for.
pub(crate) fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).map_err(|error| error.to_string())
}

/// Runs it to its end, with nothing on its standard input unless the command says so.
pub(crate) async fn run(command: &mut Command) -> Result<Output> {
    let program = command.as_std().get_program().to_owned();
    let program = program.display();
    let run = command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    match timeout(TIME, run).await {
        Ok(output) => output.map_err(|error| format!("{program}: {error}")),
        Err(_) => Err(format!("{program}: still at it after {} seconds", TIME.as_secs())),
    }
}

/// As [`run`]; its end is to be a good one.
pub(crate) async fn done(command: &mut Command) -> Result<String> {
    let output = run(command.stdin(Stdio::null())).await?;
    match output.status.success() {
        true => Ok(said(&output)),
        false => Err(format!("{}: {}", output.status, last_line(&output))),
    }
}

pub(crate) fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// What it said at last, not too long.
pub(crate) fn last_line(output: &Output) -> String {
    let text = said(output);
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
    line.trim().chars().take(160).collect()
}

/// Waits until it is so; `false` if it never is.
pub(crate) async fn wait_for(condition: impl FnMut() -> bool) -> bool {
    wait_at_most(PATIENCE, condition).await
}

/// Waits until it is so, for so long.
pub(crate) async fn wait_at_most(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > time {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// A program that other commands need to run beside them.
pub(crate) struct Beside {
    pub(crate) command: Command,
    /// The file that it writes when it has started.
    pub(crate) ready: PathBuf,
}

impl Beside {
    pub(crate) async fn start(self) -> Result<Processes> {
        let mut processes = Processes::start([self.command])?;
        let is_ready = || fs::metadata(&self.ready).is_ok_and(|file| file.len() > 0);
        wait_for(|| is_ready() || processes.ended()).await;
        match is_ready() {
            true => Ok(processes),
            false => Err("it does not start".into()),
        }
    }
}

/// Servers that were started here; each leads a group of its own. All end with this value, and all
/// below them.
pub(crate) struct Processes(Vec<Child>);

impl Processes {
    pub(crate) fn start(commands: impl IntoIterator<Item = Command>) -> Result<Self> {
        let mut started = Self(Vec::new());
        for mut command in commands {
            let program = command.as_std().get_program().to_owned();
            let child = command.stdin(Stdio::null()).process_group(0).kill_on_drop(true).spawn();
            started.0.push(child.map_err(|error| format!("{}: {error}", program.display()))?);
        }
        Ok(started)
    }

    /// Whether one of them is at its end.
    pub(crate) fn ended(&mut self) -> bool {
        self.0.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// The first one.
    pub(crate) fn first(&mut self) -> Option<&mut Child> {
        self.0.first_mut()
    }

    /// These and all below them.
    fn all(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some((parent, pid)) = pid.and_then(|pid| Some((parent(pid)?, pid))) {
                children.entry(parent).or_default().push(pid);
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

/// From `/proc/PID/stat`, behind the name, which may have spaces and brackets in it.
fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
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
        // The rest become this process's children as their parents end.
        let is_there = |pid: &u32| fs::exists(format!("/proc/{pid}")).unwrap_or(false);
        let began = Instant::now();
        while all.iter().any(is_there) && began.elapsed() < PATIENCE {
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            sleep(LOOK);
        }
        // And those that had lost their parent and ended before.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}
