//! The memory of a process, as Linux reports it.

fn bytes(process: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with(name)).expect("Linux reports it");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number");
    kib << 10
}

/// Resident bytes.
pub(crate) fn resident(process: u32) -> usize {
    bytes(process, "VmRSS:")
}

/// The most resident bytes since the beginning, or since [`forget_peak`].
pub(crate) fn peak(process: u32) -> usize {
    bytes(process, "VmHWM:")
}

/// The peak begins anew from what there is now.
pub(crate) fn forget_peak(process: u32) {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("our own process");
}
