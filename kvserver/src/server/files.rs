//! The files and sockets that the process may open, shared between the store and its clients.

/// Files that are open besides clients' connections and what the trees keep: the log, trees that are written, links of
/// other servers and to them.
const FILES_OF_ITS_OWN: usize = 256;

/// How the files that the process may open are shared. A store that cannot open a file stops, so connections get what
/// is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) trees: usize,
    pub(super) connections: usize,
}

impl Files {
    pub(super) fn share(limit: usize, connections_wanted: usize) -> Self {
        let trees = storage::Options::default().open_files.min(limit / 4);
        let connections = connections_wanted.min(limit.saturating_sub(trees + FILES_OF_ITS_OWN)).max(1);
        if connections < connections_wanted {
            tracing::warn!(
                "this process may open {limit} files: {connections} connections are taken instead of \
                 {connections_wanted} (--max-connections); raise the limit (ulimit -Hn) to take more"
            );
        }
        Self { trees, connections }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_the_store() {
        let trees = storage::Options::default().open_files;
        assert_eq!(Files::share(1 << 20, 10_000), Files { trees, connections: 10_000 });
        assert_eq!(Files::share(4096, 10_000), Files { trees, connections: 4096 - trees - FILES_OF_ITS_OWN });
        assert_eq!(Files::share(400, 10_000), Files { trees: 100, connections: 44 });
        assert_eq!(Files::share(100, 10).connections, 1);
    }
}
