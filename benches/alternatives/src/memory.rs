//! Memory of a process and all its children: PSS, which counts shared pages once.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// Bytes of the processes that descend from `root`, itself included. Processes that end meanwhile
/// count nothing.
pub fn pss_bytes(root: u32) -> Result<u64> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").context("read /proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && let Some(parent) = parent(pid)
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut total, mut open) = (0, vec![root]);
    while let Some(pid) = open.pop() {
        total += own_pss(pid).unwrap_or(0);
        open.extend(children.get(&pid).into_iter().flatten());
    }
    Ok(total)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

fn own_pss(pid: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
