//! Notifications to a service manager (systemd, `sd_notify(3)`). Without one they do nothing.

use sd_notify::NotifyState;

/// The program serves.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// The program has been asked to stop, and is stopping.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "the service manager cannot be notified; NOTIFY_SOCKET says where it listens");
    }
}
