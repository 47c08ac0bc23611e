//! The limit of open files of this process. Every connection is one, and a server that cannot open another one takes nobody on,
//! operators included: so the limit is raised as far as that is allowed, and connections are bounded below it.

use crate::config::Settings;

/// Open files that are no client's, beside the connections to the stores: the ledger's file, logs, what the server itself needs.
const OTHERS: u64 = 256;

/// Raises the limit as far as it goes, and bounds the connections by it.
pub fn fit(settings: &mut Settings) {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    let limit =
        raised.inspect_err(|why| tracing::warn!(%why, "the limit of open files is not known")).unwrap_or(u64::MAX);
    let pools = settings.redis.as_ref().map_or(0, |redis| redis.pool_size)
        + settings.database.as_ref().map_or(0, |database| database.pool_size);
    let (wanted, room) = (settings.http.max_connections, room(limit, pools.into()));
    if wanted > room {
        settings.http.max_connections = room;
        // Streams would keep everybody else out.
        settings.http.max_streams = settings.http.max_streams.min(settings.http.ample_connections());
        tracing::warn!(
            "max_connections is {wanted}, but this process may open {limit} files: at most {room} connections are taken, and at \
             most three quarters of them are streams. Raise the hard limit (ulimit -Hn, LimitNOFILE of systemd, ulimits of a container)"
        );
    }
}

/// Connections that fit under a limit of open files beside those to the stores, at least one.
fn room(limit: u64, pools: u64) -> usize {
    usize::try_from(limit.saturating_sub(OTHERS + pools)).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!([0, 256, 1_024, 20_000].map(|limit| room(limit, 44)), [1, 1, 724, 19_700]);
    }
}
