//! The processor time that processes have used.

use std::time::Duration;

/// Linux counts it for programs in hundredths of a second, whatever the kernel's own tick is (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What these processes and those of their threads that have ended have used, in user mode and in the kernel.
pub(crate) fn used(processes: &[u32]) -> Result<Duration, String> {
    let mut ticks = 0;
    for process in processes {
        let path = format!("/proc/{process}/stat");
        let stat = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        ticks += ticks_of(&stat).ok_or_else(|| format!("{path} is not as proc(5) says"))?;
    }
    Ok(TICK * ticks)
}

/// Fields 14 and 15 of proc(5). The second one, the program's name in parentheses, may hold blanks.
fn ticks_of(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(ticks()? + ticks()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_are_read_over() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 3 0 100";
        assert_eq!(ticks_of(stat), Some(300));
        assert_eq!(ticks_of("7 (a) S 1"), None);
        assert!(used(&[std::process::id()]).is_ok());
        assert!(used(&[u32::MAX]).unwrap_err().contains("/proc/"));
    }
}
