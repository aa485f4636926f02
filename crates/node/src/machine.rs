//! What this machine has to give.

/// Bytes of memory that can be taken without pushing others out, where the system tells (Linux):
/// what the machine has free or, if that is less, what this process's control group has left.
pub fn free_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let free = kib.checked_mul(1024)?;
    Some(group_memory().map_or(free, |left| free.min(left)))
}

/// What a container's limit leaves (control groups, version 2); `None` without a limit.
fn group_memory() -> Option<u64> {
    let read = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse().ok()
    };
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_that_runs_this_has_memory() {
        if cfg!(target_os = "linux") {
            assert!(super::free_memory().is_some_and(|free| free > 1 << 20));
        }
    }
}
