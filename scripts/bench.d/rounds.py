"""Measures paths of the service beside a bare server: round by round, with the same client, the same number of workers and
the same requests. Appends one JSON line a run to the results."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

import proc

HERE = os.path.dirname(os.path.abspath(__file__))
# Before the first round; what has to be learnt (connections, branch predictors, caches) is learnt here.
WARM_SECONDS = 1
# Passes for the warm-up; what it shows decides how many the rounds need.
WARM_RATE = 25_000
# What is under way when wrk hangs up is finished in this time.
PAUSE = 0.3


def fields(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(","))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--work", required=True, help="where the passes go")
    parser.add_argument("--kind", required=True, choices=["position", "status", "join", "reserve"])
    parser.add_argument("--bare", required=True, type=fields, help="url=,pid=")
    parser.add_argument("--path", required=True, type=fields, action="append",
                        help="name=,url=,pid=,event= and tickets= or pem=, as the kind needs them")
    parser.add_argument("--rig", required=True)
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--connections", type=int, required=True)
    return parser.parse_args()


def fail(why: str) -> None:
    sys.exit(f"bench: {why}")


def metrics(url: str) -> dict[str, float]:
    """Answers by class, joins and reservations of an instance so far."""
    text = urllib.request.urlopen(f"{url}/metrics").read().decode()
    found = {"2xx": 0.0, "other": 0.0, "joined": 0.0, "reserved": 0.0}
    for line in text.splitlines():
        if line.startswith("usher_http_requests_total{"):
            found["2xx" if 'status="2xx"' in line else "other"] += float(line.rsplit(" ", 1)[1])
        elif match := re.match(r"usher_(joined|reserved)_total (.*)", line):
            found[match[1]] += float(match[2])
    return found


class Runner:
    """Runs wrk against one target at a time."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.out = open(options.out, "a")
        self.minted = 0
        self.rates: dict[str, float] = {}

    def request(self, path: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The path of the URL, and what requests.lua has to know."""
        event = path["event"]
        if self.options.kind == "position":
            send = {"METHOD": "GET", "HEADER": "X-Queue-Ticket", "LINES": path["tickets"]}
            return f"/api/v1/queue/position/{event}", send
        if self.options.kind == "status":
            return f"/api/v1/queue/status/{event}", {"METHOD": "GET"}
        if self.options.kind == "join":
            return "/api/v1/queue/join", {"METHOD": "POST", "BODY": json.dumps({"event_id": event})}
        body = {"event_id": event, "show_id": "s1", "zone_id": "z1", "quantity": 1, "unit_price": 100.0}
        lines = f"{self.options.work}/passes-{path['name']}"
        send = {"METHOD": "POST", "BODY": json.dumps(body), "HEADER": "X-Queue-Pass", "LINES": lines}
        return "/api/v1/bookings/reserve", send

    def mint(self, path: dict[str, str], count: int) -> None:
        """New passes, a file for each thread of wrk."""
        options = self.options
        each = count // options.threads + 1
        command = [options.rig, "passes", "--event", path["event"], "--count", str(each), "--files", str(options.threads),
                   "--first", str(self.minted + 1), "--out", f"{options.work}/passes-{path['name']}"]
        if "pem" in path:
            command += ["--pem", path["pem"]]
        subprocess.run(command, check=True)
        self.minted += each * options.threads

    def probe(self, path: dict[str, str]) -> int:
        """Sends one request and says how long the body of its answer is."""
        where, send = self.request(path)
        headers = {"Content-Type": "application/json"}
        if "HEADER" in send:
            if path["mint"] == "yes":
                self.mint(path, 2)
                headers["X-Idempotency-Key"] = f"probe-{path['name']}"
            with open(send["LINES"] + (".0" if path["mint"] == "yes" else "")) as file:
                headers[send["HEADER"]] = file.readline().strip()
        body = send["BODY"].encode() if "BODY" in send else None
        request = urllib.request.Request(path["url"] + where, body, headers, method=send["METHOD"])
        return len(urllib.request.urlopen(request).read())

    def wrk(self, url: str, send: dict[str, str], seconds: int, pid: int, watch: bool) -> dict:
        """One run. CPU times are those of the target, of wrk, and of whatever else ran on the machine."""
        options = self.options
        command = ["wrk", f"-t{options.threads}", f"-c{options.connections}", f"-d{seconds}s", "--timeout", "5s",
                   "-s", f"{HERE}/requests.lua", url]
        env = os.environ | {f"BENCH_{name}": value for name, value in send.items()}
        ours = proc.family(os.getppid())
        before = {one: proc.cpu(one) for one in ours}
        all_before, client_before = proc.machine(), os.times()
        client = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        links = 0
        if watch:
            time.sleep(seconds / 2)
            links = proc.connections(pid, options.redis_port)
        text = client.communicate()[0]
        client_after, all_after = os.times(), proc.machine()
        after = {one: proc.cpu(one) for one in proc.family(os.getppid())}
        result = re.search(r"^RESULT (.*)$", text, re.MULTILINE)
        if client.returncode != 0 or not result:
            fail(f"wrk broke down at {url}:\n{text}")
        run = json.loads(result[1])
        client_cpu = (client_after.children_user + client_after.children_system
                      - client_before.children_user - client_before.children_system)
        # wrk is a child of this process, and so in `after` already.
        own = sum(spent - before.get(one, 0.0) for one, spent in after.items())
        run |= {"rate": run["requests"] / run["seconds"], "redis_connections": links,
                "cpu": after.get(str(pid), 0.0) - before.get(str(pid), 0.0), "client_cpu": client_cpu,
                "others_cpu": max(0.0, all_after - all_before - own), "cores": os.cpu_count()}
        run["cpu_us"] = run["cpu"] / max(run["requests"], 1) * 1e6
        if run["failed"] or run["refused"] or run["ran_out"]:
            what = "the passes ran out" if run["ran_out"] else "connections failed or answers were 4xx or 5xx"
            fail(f"{what} at {url}: {result[1]}")
        time.sleep(PAUSE)
        return run

    def bare(self, model: dict[str, str], size: int, seconds: int) -> dict:
        """The bare server, sent what this path is sent."""
        _, send = self.request(model)
        if model["mint"] == "yes":
            send |= {"KEY": "bare", "AGAIN": "1"}
        bare = self.options.bare
        return self.wrk(f"{bare['url']}/constant/{size}", send, seconds, int(bare["pid"]), False)

    def path(self, path: dict[str, str], number: int, seconds: int) -> dict:
        where, send = self.request(path)
        if path["mint"] == "yes":
            # Half as many again as the best run so far took.
            self.mint(path, int(self.rates.get(path["name"], WARM_RATE) * seconds * 1.5) + 5_000)
            send |= {"KEY": f"{path['name']}-{number}"}
        before = metrics(path["url"])
        run = self.wrk(path["url"] + where, send, seconds, int(path["pid"]), True)
        after = metrics(path["url"])
        self.rates[path["name"]] = max(self.rates.get(path["name"], 0.0), run["rate"])
        if after["other"] > before["other"]:
            fail(f"{path['name']}: {after['other'] - before['other']:.0f} answers were not 2xx")
        made = {"join": "joined", "reserve": "reserved"}.get(self.options.kind)
        if made and after[made] - before[made] < run["requests"]:
            fail(f"{path['name']}: {run['requests']} answers, but only {after[made] - before[made]:.0f} {made} anew")
        return run

    def measure(self) -> None:
        options = self.options
        for path in options.path:
            path["mint"] = "yes" if options.kind == "reserve" else "no"
        size = self.probe(options.path[0])
        for path in options.path:
            self.path(path, 0, WARM_SECONDS)
        self.bare(options.path[0], size, WARM_SECONDS)
        for number in range(1, options.rounds + 1):
            runs = [("bare", lambda: self.bare(options.path[0], size, options.seconds))]
            for path in options.path:
                runs.append((path["name"], lambda path=path: self.path(path, number, options.seconds)))
            # Every other round goes the other way, so that no path always follows the same one.
            for name, run in runs if number % 2 else reversed(runs):
                line = {"block": options.kind, "round": number, "name": name, "size": size} | run()
                print(json.dumps(line), file=self.out, flush=True)
                print(f"  {options.kind} round {number}: {name:12} {line['rate']:8.0f}/s  p99 {line['p99_ms']:.1f} ms",
                      file=sys.stderr)


if __name__ == "__main__":
    Runner(arguments()).measure()
