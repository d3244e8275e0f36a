//! Counts the processes of this container that were OOMKilled.

/// Where cgroup v2 and v1 keep the count; in a container the root of the mount is the container's
/// own group.
const FILES: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// The count so far; 0 where it cannot be read.
pub(super) fn kills() -> u64 {
    FILES.iter().find_map(|file| std::fs::read_to_string(file).ok()).map_or(0, |text| parse(&text))
}

fn parse(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_both_formats() {
        assert_eq!(parse("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"), 4);
        assert_eq!(parse(""), 0);
    }
}
