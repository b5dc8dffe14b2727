//! Threads whose work can wait: compaction, copies, reading through.

/// What is added to the nice value of a thread in the background: beside a busy thread it gets about a tenth of a core,
/// beside none all of it. It must not get nothing: it may hold a lock for a moment that others want.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// From now on the calling thread leaves the processor to those that answer requests. The system may refuse; the thread
/// works all the same then.
pub fn work_in_background() {
    // Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    let _refused = rustix::process::nice(NICE);
}

#[cfg(all(test, target_os = "linux"))]
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
