//! What the log says at the end about what the build container has used, beside what it asked for
//! and may use.

use gantry_wire::usage::{ResourcePlan, Usage};

/// Share of its memory limit from which a container is said to have come near it, in percent.
const NEAR: u64 = 90;

/// Share of its time that a container has to be held up by its CPU limit before that is worth a
/// line, in percent.
const HELD_UP: u64 = 10;

/// The line about usage, and suggestions; nothing where nothing is known.
pub(super) fn lines(usage: &Usage, plan: &ResourcePlan) -> Option<(String, Vec<String>)> {
    let parts: Vec<String> = [memory(usage, plan), cpu(usage, plan), disk(usage, plan)].into_iter().flatten().collect();
    let line = (!parts.is_empty()).then(|| format!("Usage of the build container: {}", parts.join("; ")))?;
    Some((line, suggestions(usage, plan)))
}

fn memory(usage: &Usage, plan: &ResourcePlan) -> Option<String> {
    let (peak, with_files) = (usage.memory_peak, usage.memory_with_files);
    let most = bytes(peak.or(with_files)?);
    let files = with_files.filter(|all| peak.is_some_and(|peak| *all > peak.saturating_add(peak / 10)));
    let files = files.map_or(String::new(), |all| format!(", {} with cached files", bytes(all)));
    Some(format!("memory {most} at most{files}{}", beside(plan.memory_request.as_ref(), plan.memory_limit.as_ref())))
}

fn cpu(usage: &Usage, plan: &ResourcePlan) -> Option<String> {
    let used = usage.cpu_us?;
    let average = usage.elapsed_us.filter(|elapsed| *elapsed > 0).map_or(String::new(), |elapsed| {
        let hundredths = used.saturating_mul(100) / elapsed;
        format!(", {}.{:02} on average", hundredths / 100, hundredths % 100)
    });
    let beside = beside(plan.cpu_request.as_ref(), plan.cpu_limit.as_ref());
    Some(format!("CPU {}{average}{beside}", seconds(used)))
}

fn disk(usage: &Usage, plan: &ResourcePlan) -> Option<String> {
    let beside = beside(plan.storage_request.as_ref(), plan.storage_limit.as_ref());
    Some(format!("disk {} in the project directory{beside}", bytes(usage.disk?)))
}

fn beside(request: Option<&String>, limit: Option<&String>) -> String {
    let parts: Vec<String> = [("request", request), ("limit", limit)]
        .into_iter()
        .filter_map(|(word, value)| Some(format!("{word} {}", value?)))
        .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn suggestions(usage: &Usage, plan: &ResourcePlan) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(peak), Some(limit)) = (usage.memory_peak, usage.memory_limit)
        && peak.saturating_mul(100) >= limit.saturating_mul(NEAR)
    {
        lines.push(format!(
            "the build container came near its memory limit of {}: raise memory_limit in [runners.kubernetes], or \
             KUBERNETES_MEMORY_LIMIT where the runner allows that, before it is OOMKilled",
            plan.memory_limit.clone().unwrap_or_else(|| bytes(limit))
        ));
    }
    if let (Some(held), Some(elapsed)) = (usage.throttled_us, usage.elapsed_us)
        && held.saturating_mul(100) >= elapsed.saturating_mul(HELD_UP)
        && held >= 1_000_000
    {
        lines.push(format!(
            "the build container was held up for {} by its CPU limit{}: with a higher cpu_limit in [runners.kubernetes], or \
             KUBERNETES_CPU_LIMIT where the runner allows that, the job takes less time",
            seconds(held),
            plan.cpu_limit.as_ref().map_or(String::new(), |limit| format!(" of {limit}"))
        ));
    }
    lines
}

/// A size as people read it, such as `812.4 MiB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = count.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).copied().unwrap_or_default())
}

/// A time as people read it, such as `4m12.3s`.
fn seconds(micros: u64) -> String {
    let tenths = micros / 100_000;
    let (minutes, rest) = (tenths / 600, tenths % 600);
    let rest = format!("{}.{}s", rest / 10, rest % 10);
    if minutes == 0 { rest } else { format!("{minutes}m{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn what_is_known_is_said_beside_requests_and_limits() {
        let usage = Usage {
            memory_peak: Some(812 * MIB + MIB / 2),
            memory_with_files: Some(1900 * MIB),
            memory_limit: Some(2048 * MIB),
            cpu_us: Some(252_340_000),
            throttled_us: Some(0),
            elapsed_us: Some(123_000_000),
            disk: Some(5 * MIB),
        };
        let plan = ResourcePlan {
            memory_request: Some("1Gi".into()),
            memory_limit: Some("2Gi".into()),
            cpu_request: Some("500m".into()),
            ..ResourcePlan::default()
        };
        let (line, suggestions) = lines(&usage, &plan).unwrap();
        assert_eq!(
            line,
            "Usage of the build container: memory 812.5 MiB at most, 1.8 GiB with cached files (request 1Gi, limit 2Gi); \
             CPU 4m12.3s, 2.05 on average (request 500m); disk 5.0 MiB in the project directory"
        );
        assert!(suggestions.is_empty());
        assert_eq!(lines(&Usage::default(), &plan), None);
    }

    #[test]
    fn limits_that_were_nearly_reached_are_a_suggestion_each() {
        let usage = Usage {
            memory_peak: Some(95 * MIB),
            memory_limit: Some(100 * MIB),
            throttled_us: Some(20_000_000),
            elapsed_us: Some(60_000_000),
            ..Usage::default()
        };
        let plan = ResourcePlan { cpu_limit: Some("1".into()), ..ResourcePlan::default() };
        let (_, suggestions) = lines(&usage, &plan).unwrap();
        assert!(suggestions[0].contains("memory limit of 100.0 MiB: raise memory_limit"), "{suggestions:?}");
        assert!(suggestions[1].contains("held up for 20.0s by its CPU limit of 1"), "{suggestions:?}");
        let short = Usage { elapsed_us: Some(500_000), throttled_us: Some(400_000), ..usage };
        assert_eq!(lines(&short, &plan).unwrap().1.len(), 1, "too short to matter");
    }

    /// User code may be in the place of the shim that says all this.
    #[test]
    fn numbers_that_no_machine_has_are_a_line_too() {
        let most = Some(u64::MAX);
        let usage = Usage {
            memory_peak: most,
            memory_with_files: most,
            memory_limit: most,
            cpu_us: most,
            throttled_us: most,
            elapsed_us: most,
            disk: most,
        };
        let (line, _) = lines(&usage, &ResourcePlan::default()).unwrap();
        assert!(!line.contains("cached files"), "{line}");
    }
}
