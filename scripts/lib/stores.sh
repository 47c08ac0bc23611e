# shellcheck shell=bash
# What the scripts have in common that run the service for real: a directory and processes of their own, private Redis and
# Postgres on free loopback ports. Everything started here is stopped by process id, however the script ends.
#
# Source it at the top of the repository under `set -euo pipefail`, after scripts/install-stores.

usher=target/release/usher
work=$(mktemp -d)
pids=()
# Further options of Redis, to be set before start_stores.
redis_options=()
finish() {
    local pid i
    # The instances first, the stores they stand on last: the other way round of their start.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        pid=${pids[i]}
        kill -INT "$pid" 2> /dev/null || true
        wait "$pid" 2> /dev/null || true
    done
    # What the instances complained of is worth reading, whether the run was good or not.
    grep -hE '"level":"(WARN|ERROR)"' "$work"/*.log | tail -n 20 || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
secret() { python3 -c 'import secrets; print(secrets.token_urlsafe(32))'; }
await() { # what, seconds, command …
    local what=$1 left=$(($2 * 10))
    shift 2
    until "$@" > /dev/null 2>&1; do
        left=$((left - 1))
        if [ "$left" -le 0 ]; then echo "$what does not come up; its output is:" >&2; tail -n 20 "$work"/*.log >&2; exit 1; fi
        sleep 0.1
    done
}

# Starts both stores and leaves $redis_port, $pg_port, $pg_bin and $shared, the settings of an instance that uses them.
start_stores() {
    local initdb as_postgres=()
    # Postgres refuses to run as root.
    initdb=$(command -v initdb || find /usr/lib/postgresql -name initdb | sort -V | tail -1)
    pg_bin=$(dirname "$(readlink -f "$initdb")")
    mkdir "$work/pg"
    if [ "$(id -u)" -eq 0 ]; then
        chmod 755 "$work"
        chown postgres "$work/pg"
        as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    fi
    redis_port=$(free_port)
    pg_port=$(free_port)
    (cd "$work" && "${as_postgres[@]}" "$pg_bin/initdb" -D "$work/pg" -U usher -A trust > "$work/initdb.log" 2>&1)
    (cd "$work" && exec "${as_postgres[@]}" "$pg_bin/postgres" -D "$work/pg" -h 127.0.0.1 -p "$pg_port" -k '' -c max_connections=60) > "$work/postgres.log" 2>&1 &
    pids+=($!)
    redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$work" --save '' --appendonly yes --maxmemory-policy noeviction "${redis_options[@]}" > "$work/redis.log" 2>&1 &
    pids+=($!)
    await Redis 10 grep -q "Ready to accept connections" "$work/redis.log"
    await Postgres 20 grep -q "ready to accept connections" "$work/postgres.log"
    # shellcheck disable=SC2034 # for those who source this
    shared=("USHER_REDIS_URL=redis://127.0.0.1:$redis_port" "USHER_DATABASE_URL=postgres://usher@127.0.0.1:$pg_port/postgres")
}

# Starts an instance; its process id is the last of $pids.
serve() { # name, port, settings …
    local name=$1 port=$2
    shift 2
    env "$@" "$usher" --listen "127.0.0.1:$port" > "$work/$name.log" 2>&1 &
    pids+=($!)
    await "$name" 20 env "$@" "$usher" healthcheck --ready --listen "127.0.0.1:$port"
}
