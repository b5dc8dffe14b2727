//! Threads whose work can wait: compaction, copies, reading through.

/// What is added to the nice value of a thread in the background: beside a busy thread it gets about a tenth of a core,
/// without one all of it. It must not starve, as it may have a lock that other threads wait for.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lowers the priority of the calling thread below that of threads that answer requests. If the system refuses, the
/// thread works at its old priority.
pub fn work_in_background() {
    // On other systems `nice` would change the whole process.
    #[cfg(target_os = "linux")]
    let _refused = rustix::process::nice(NICE);
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_asks_gives_way() {
        let of = || rustix::process::getpriority_process(None).unwrap();
        let before = of();
        let behind = std::thread::spawn(move || {
            work_in_background();
            of()
        });
        assert_eq!(behind.join().unwrap(), (before + NICE).min(19));
        assert_eq!(of(), before);
    }
}
