"""What Redis says of single commands: while an instance starts beside a long line, and while visitors are let in."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

# Looking at the log is not what is looked for.
OURS = {"slowlog", "config"}


class Redis:
    """The store, through redis-cli."""

    def __init__(self, port: int):
        self.port = port

    def ask(self, *words: str):
        command = ["redis-cli", "-p", str(self.port), "--json", *words]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def record(self) -> None:
        """Has every command logged from here on."""
        self.ask("CONFIG", "SET", "slowlog-max-len", "200000")
        self.ask("CONFIG", "SET", "slowlog-log-slower-than", "0")
        self.ask("SLOWLOG", "RESET")

    def recorded(self) -> list[tuple[float, list[str]]]:
        """The commands since then, with the milliseconds that each took, and an end to the logging."""
        self.ask("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        entries = self.ask("SLOWLOG", "GET", "-1")
        self.ask("SLOWLOG", "RESET")
        return [(entry[2] / 1e3, entry[3]) for entry in entries if entry[3][0].lower() not in OURS]


def scripts(rig: str) -> dict[str, str]:
    text = subprocess.run([rig, "scripts"], check=True, capture_output=True, text=True).stdout
    return dict(line.split() for line in text.splitlines())


def named(command: list[str], names: dict[str, str]) -> str:
    """A command as people know it: a script by its name."""
    if command[0].upper() == "EVALSHA" and len(command) > 1:
        return f"{names.get(command[1], 'a script')} (script)"
    return command[0].upper()


def get(url: str, ticket: str | None = None) -> bytes | None:
    request = urllib.request.Request(url, headers={"X-Queue-Ticket": ticket} if ticket else {})
    try:
        return urllib.request.urlopen(request, timeout=5).read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def start(options: argparse.Namespace) -> dict:
    """Starts an instance, times it to its readiness and to its first answer to one who waits, and stops it."""
    redis, url = Redis(options.redis_port), f"http://127.0.0.1:{options.port}"
    with open(options.tickets) as file:
        ticket = file.readlines()[-1].strip()
    redis.record()
    with open(options.log, "a") as log:
        began = time.monotonic()
        command = [options.usher, "--listen", f"127.0.0.1:{options.port}"]
        instance = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        def until(url: str, ticket: str | None = None) -> float:
            while get(url, ticket) is None:
                if instance.poll() is not None or time.monotonic() - began > 60:
                    sys.exit("bench: the instance does not get ready")
                time.sleep(0.005)
            return time.monotonic() - began
        ready = until(f"{url}/ready")
        answered = until(f"{url}/api/v1/queue/position/{options.event}", ticket)
    finally:
        instance.send_signal(signal.SIGINT)
        instance.wait()
    longest, command = max(redis.recorded())
    return {"block": "start", "ready_seconds": ready, "answer_seconds": answered, "longest_ms": longest,
            "longest": named(command, scripts(options.rig))}


def release(options: argparse.Namespace) -> dict:
    """Lets visitors in at a high rate for some seconds and looks at how long each call held Redis up."""
    redis, names = Redis(options.redis_port), scripts(options.rig)
    status = f"{options.url}/api/v1/queue/status/{options.event}"

    def policy(**changes: int) -> None:
        headers = {"Authorization": f"Bearer {os.environ['USHER_ADMIN_TOKEN']}", "Content-Type": "application/json"}
        body = json.dumps(changes).encode()
        url = f"{options.url}/api/v1/admin/events/{options.event}/queue"
        urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PATCH")).read()

    def admitted() -> int:
        time.sleep(1.5)  # the status is as of the last look at the event
        return json.loads(urllib.request.urlopen(status).read())["admitted_active"]

    before = admitted()
    redis.record()
    policy(admit_per_minute=60_000, max_active=0)
    time.sleep(options.seconds)
    policy(admit_per_minute=0)
    calls = [took for took, command in redis.recorded() if named(command, names) == "release (script)"]
    let_in = admitted() - before
    # The log does not say how many a call let in. Those that let in a full hundred took longest, and this is their number.
    full = sorted(calls, reverse=True)[:let_in // 100]
    if not full:
        sys.exit(f"bench: no release was seen ({len(calls)} calls, {let_in} let in)")
    return {"block": "release", "calls": len(calls), "let_in": let_in, "full": len(full),
            "median_ms": statistics.median(full), "max_ms": max(full)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["start", "release"])
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--rig", required=True)
    parser.add_argument("--event", required=True)
    parser.add_argument("--usher")
    parser.add_argument("--port", type=int)
    parser.add_argument("--tickets")
    parser.add_argument("--log")
    parser.add_argument("--url")
    parser.add_argument("--seconds", type=float, default=4)
    given = parser.parse_args()
    print(json.dumps({"start": start, "release": release}[given.what](given)))
