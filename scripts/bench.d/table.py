"""Makes the table of a run of scripts/bench: prints it, and writes it where it is told to."""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys

MIB = 1024 * 1024
# From here on a ratio's rounds are too far apart, or something else took too much of the machine, to say it without a word.
NOISE, OTHERS = 0.25, 0.10
# A client thread that is this busy may be what was measured.
SATURATED = 0.90
# Rounds that make a median.
ENOUGH = 3
UNKNOWN = "not measured"


def disturbance(run: dict) -> float:
    """The part of the machine that other programs took during a run."""
    return run["others_cpu"] / (run["seconds"] * run["cores"])


class Results:
    """The lines of a run, by block."""

    def __init__(self, path: str):
        with open(path) as file:
            self.lines = [json.loads(line) for line in file]

    def of(self, block: str, name: str | None = None) -> list[dict]:
        return [line for line in self.lines if line["block"] == block and name in (None, line.get("name"))]

    def runs(self, block: str, name: str) -> list[dict]:
        return sorted(self.of(block, name), key=lambda run: run["round"])

    def pairs(self, block: str, name: str, to: str = "bare") -> list[tuple[dict, dict]]:
        """Round by round, so that what slows the machine down for a while slows both. Rounds that other programs disturbed
        do not count, if enough are left without them."""
        pairs = list(zip(self.runs(block, name), self.runs(block, to)))
        calm = [pair for pair in pairs if max(map(disturbance, pair)) <= OTHERS]
        return calm if len(calm) >= ENOUGH else pairs

    def ratios(self, block: str, name: str, to: str = "bare") -> list[float]:
        return [run["rate"] / base["rate"] for run, base in self.pairs(block, name, to)]


class Row:
    """A line of the table: a number, and what it should be."""

    def __init__(self, what: str, unit: str, target: float | None, aim: float | None, better: str, digits: int = 2):
        self.what, self.unit, self.target, self.aim, self.better, self.digits = what, unit, target, aim, better, digits

    def cells(self, value: float | None, said: str) -> list[str]:
        def show(number: float | None, sign: str = "") -> str:
            return "" if number is None else f"{sign}{number:,.{self.digits}f}{self.unit}"
        sign = {"more": "≥ ", "less": "≤ "}[self.better]
        return [self.what, show(value) or UNKNOWN, show(self.target, sign), show(self.aim, sign), self.verdict(value), said]

    def verdict(self, value: float | None) -> str:
        def meets(wanted: float | None) -> bool:
            return wanted is not None and (value >= wanted if self.better == "more" else value <= wanted)
        if value is None or self.target is None:
            return ""
        return "aim met" if meets(self.aim) else "met" if meets(self.target) else "**missed**"


def spread(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def doubts(results: Results, pairs: list[tuple[dict, dict]], ratios: list[float]) -> list[str]:
    """Why a ratio cannot be said with confidence."""
    said, runs = [], [run for pair in pairs for run in pair]
    if (max(ratios) - min(ratios)) / statistics.median(ratios) > NOISE:
        said.append("the rounds are far apart")
    others = statistics.mean(map(disturbance, runs))
    if others > OTHERS:
        said.append(f"other programs took {others:.0%} of the machine")
    threads = results.of("run")[0]["threads"]
    if any(run["client_cpu"] > SATURATED * threads * run["seconds"] for run in runs):
        said.append("the client was saturated")
    return said


def ratio_cells(results: Results, row: Row, block: str, name: str, to: str = "bare") -> list[str]:
    pairs, ratios = results.pairs(block, name, to), results.ratios(block, name, to)
    if not ratios:
        return row.cells(None, "")
    why = doubts(results, pairs, ratios)
    rounds = f"{len(pairs)} of {len(results.runs(block, name))} rounds, {spread(ratios)}"
    cells = row.cells(statistics.median(ratios), "; ".join([rounds, *why]))
    if why:
        cells[4] += " (in doubt)"
    return cells


def main_rows(results: Results) -> list[list[str]]:
    def ratio(what: str, target: float, aim: float | None, *run: str) -> list[str]:
        return ratio_cells(results, Row(what, "", target, aim, "more"), *run)

    line = results.of("run")[0]["line"]
    rows = [
        ratio("Position poll, 1,000 waiting, to bare", 0.80, 0.92, "position", "short line"),
        ratio(f"Position poll, {line:,} waiting, to 1,000 waiting", 0.93, None, "position", "long line", "short line"),
        ratio("Status, to bare", 0.85, 0.95, "status", "status"),
        ratio("Join on Redis, to bare", 0.50, 0.65, "join", "Redis"),
        ratio("Join embedded, to bare", 0.70, 0.85, "join", "embedded"),
        ratio("Reserve in Postgres with an EdDSA pass, to bare", 0.10, 0.15, "reserve", "EdDSA"),
        ratio("Reserve in Postgres with an HS256 pass, to bare", 0.15, 0.25, "reserve", "HS256"),
    ]
    for line in results.of("streams"):
        where = {"Redis": "on Redis, through the other instance", "embedded": "embedded"}[line["name"]]
        report = line["report"]
        said = (f"p50 {report['p50_ms']:.0f} ms, longest {report['max_ms']:.0f} ms, {report['streams']:,} streams, "
                f"all open after {report['open_seconds']:.1f} s")
        rows.append(Row(f"Streams: a change reaches 99 % {where}", " ms", 1000, 250, "less", 0).cells(report["p99_ms"], said))
        said = f"resident {report['rss_before'] / MIB:,.0f} MiB before, {report['rss_after'] / MIB:,.0f} MiB after"
        rows.append(Row(f"Streams: memory of one, {line['name']}", " kB", 12, 8, "less", 1)
                    .cells(report["bytes_a_stream"] / 1000, said))
    links = [(run["redis_connections"], run["block"], run["name"]) for run in results.lines
             if run.get("name") in ("short line", "long line", "Redis", "EdDSA", "HS256") and "redis_connections" in run]
    if links:
        most, block, name = max(links)
        rows.append(Row("Connections to Redis of an instance under load", "", 16, 6, "less", 0)
                    .cells(most, f"most seen, at {block}: {name}"))
    for line in results.of("memory"):
        said = f"{line['visitors']:,} visitors; joined in batches in {line['filled']['seconds']:.1f} s"
        rows.append(Row("Redis memory of one who waits", " bytes", 160, 145, "less", 1)
                    .cells(line["bytes"] / line["visitors"], said))
    for line in results.of("release"):
        said = f"{line['full']} releases of 100 ({line['let_in']:,} let in)"
        rows.append(Row("A release of 100 holds Redis up, median", " ms", 1, 0.5, "less").cells(line["median_ms"], said))
        said = "by the wall clock, so with what the machine gave to others meanwhile"
        rows.append(Row("A release of 100 holds Redis up, longest", " ms", 1, None, "less").cells(line["max_ms"], said))
    if starts := results.of("start"):
        said = ", ".join(f"{one['ready_seconds']:.2f} s" for one in starts)
        said = f"slowest of {said}; the first poll was answered after {max(one['answer_seconds'] for one in starts):.2f} s"
        rows.append(Row("Start beside the long line, to ready", " s", 10, 3, "less")
                    .cells(max(one["ready_seconds"] for one in starts), said))
        longest = max(starts, key=lambda one: one["longest_ms"])
        rows.append(Row("Longest command in Redis meanwhile", " ms", 5, None, "less")
                    .cells(longest["longest_ms"], longest["longest"]))
    # What a part of the run did not measure is not worth a line.
    return [row for row in rows if row[1] != UNKNOWN]


def path_rows(results: Results) -> list[list[str]]:
    """Each path and its bare server: what the ratios are made of."""
    rows = []
    for block, names in [("position", ["bare", "short line", "long line"]), ("status", ["bare", "status"]),
                         ("join", ["bare", "Redis", "embedded"]), ("reserve", ["bare", "EdDSA", "HS256"])]:
        for name in names:
            runs = results.of(block, name)
            if not runs:
                continue
            middle = {key: statistics.median(run[key] for run in runs) for key in ("rate", "p50_ms", "p99_ms", "cpu_us")}
            ratios = results.ratios(block, name)
            shares = [statistics.mean(run[key] / run["seconds"] for run in runs) for key in ("cpu", "client_cpu")]
            bare = statistics.median(run["cpu_us"] for run in results.of(block, "bare"))
            rows.append([f"{block}: {name}", f"{runs[0]['size']}", f"{middle['rate']:,.0f}",
                         "" if name == "bare" else f"{statistics.median(ratios):.2f} ({spread(ratios)})",
                         f"{middle['p50_ms']:.2f}", f"{middle['p99_ms']:.2f}", f"{middle['cpu_us']:.1f}",
                         "" if name == "bare" else f"{bare / middle['cpu_us']:.2f}", f"{shares[0]:.2f}", f"{shares[1]:.2f}"])
    return rows


def ceiling_rows(results: Results) -> list[list[str]]:
    return [[line["name"], f"{line['rate']:,.0f}"] for line in results.of("ceilings")]


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def said_by(*command: str) -> str:
    """The first line that a program says, whether it likes the question or not."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().split("\n")[0]


def version(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else text


def machine(postgres: str) -> str:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) * 1024
    commit = said_by("git", "rev-parse", "--short=12", "HEAD")
    if said_by("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/BENCHMARKS.md"):
        commit += " with changes"
    now = datetime.datetime.now(datetime.timezone.utc)
    return (f"{now:%Y-%m-%d %H:%M} UTC, commit {commit}. {os.cpu_count()} cores ({model}), {memory / 1024**3:.0f} GiB, Linux "
            f"{platform.release()}; Redis {version(said_by('redis-server', '--version'))}, Postgres "
            f"{version(said_by(postgres, '--version'))}, wrk {version(said_by('wrk', '-v'))}, "
            f"{said_by('rustc', '--version').split(' (')[0]}.")


def report(results: Results, postgres: str) -> str:
    run = results.of("run")[0]
    parts = [
        "# Benchmarks",
        "What `make bench` measured, written by it. Service, stores and client share one machine, so the ratios are the result: "
        "each path stands beside a bare server of the same framework, with the same workers, that reads the same requests and "
        "answers a constant body of the same size. Both are measured in turn in every round, and the ratio is the median of the "
        "rounds' ratios, without rounds in which other programs took more than a tenth of the machine, if three are left. What "
        "is in doubt all the same is marked so. The client takes its share of the machine from both, which favours the slower one: the CPU a request "
        "tells without the client, and without the stores. `cargo bench --bench micro` times the inner paths alone; what profiles "
        "changed is in `ARCHITECTURE.md`.",
        machine(postgres),
        f"{run['rounds']} rounds of {run['of_one']} s each; wrk with {run['threads']} threads and {run['connections']} connections, {run['connections'] * 4} where seats are reserved; "
        f"two workers; logs to a file and metrics on. Took {run['seconds']} s after the build.",
        table(["what", "measured", "target", "aim", "", "remarks"], main_rows(results)),
    ]
    paths, ceilings = path_rows(results), ceiling_rows(results)
    if paths:
        head = ["path", "bytes", "a second", "to bare", "p50 ms", "p99 ms", "CPU µs a request", "bare CPU to it", "cores", "client's cores"]
        parts += ["## The paths", "Medians of the rounds. Latencies are those of a client that sends as fast as it is answered.",
                  table(head, paths)]
    if ceilings:
        parts += ["## The stores alone", "What redis-benchmark (50 connections) and pgbench get out of the same stores on this machine.",
                  table(["what", "a second"], ceilings)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results")
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--write")
    options = parser.parse_args()
    text = report(Results(options.results), options.postgres)
    sys.stdout.write(text)
    if options.write:
        with open(options.write, "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
