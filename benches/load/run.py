#!/usr/bin/env python3
"""Postern under load, in turn with a bare hyper server and with peers: `make load`, or `make load ARGS="--rounds 3"`.

Each round sends the same kind of request to the bare server and to the others, one row after the other, with wrk (or
h2load) on core 1 and all servers on core 0. What is compared is requests per second of the server's processor time (user
and system, of all its threads and of the programs that it runs, from /proc/PID/stat), as a ratio to the bare server *of the
same round*: absolute figures of a shared or virtual machine drift by half, ratios within a round do not. The row "bare
hyper, again" shows how far they do.

With --open, calls arrive at a fixed rate instead, whatever the server does (open.py).

The tables go into docs/benchmarks.md with --write. Nothing leaves the loopback interface.
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import calls
import servers
from calls import SECRET, SHARED, hmac_call, probe, target, write
from servers import CONFIG, HERE, SOURCES, TARGET, TICKS, Server, fail, free_port, get, progress, start_bare  # noqa: F401

PAGE = Path("docs/benchmarks.md")
# More fresh callbacks a second than one core has been seen to take; a row that is faster ends its run early.
FRESH_PER_SECOND = 250_000
FRESH_BODIES_PER_SECOND = 60_000
# Requests that may be sent again for ever: enough of them that no cache holds their answers.
REUSED = 200_000
# What is counted for a request, where this machine counts it, as root: columns and the events of `perf`.
COUNTED = {"user instructions": "instructions:u", "futex calls": "syscalls:sys_enter_futex", "context switches": "context-switches"}
# Callbacks that are signed with a private key, one process of openssl each.
KEY_SIGNED = 200
H2LOAD_PER_SECOND = 20_000
DRAIN_SECONDS = 120


@dataclass
class Row:
    """One kind of request to one server, and what came of it, round by round."""

    name: str
    what: str
    server: str
    targets: Path
    mode: str = "again"
    outcome: str = ""               # what Postern must say became of it
    budget: str = ""
    tool: tuple = ("wrk",)
    fresh: object = None            # makes the lines of each round, from their numbers
    fresh_per_second: int = FRESH_PER_SECOND
    drains: bool = False            # until the last delivery is made
    peer: str = ""                  # its durability, for the table of peers
    alone: str = ""                 # what it is compared of, on one core and on both
    spread: bool = False            # server and load on both cores
    runs: list = field(default_factory=list)


@dataclass
class Run:
    """One row in one round."""

    requests: int
    seconds: float
    user: float
    system: float
    p50: str
    p99: str
    outcomes: dict
    counted: dict                   # by `perf`, for a request: what this machine counts
    memory: float

    def per_cpu_second(self):
        return self.requests / max(self.user + self.system, 1 / TICKS)


# ---- load -----------------------------------------------------------------------------------------------------

def countable():
    """The events of COUNTED that `perf` counts on this machine."""
    if not shutil.which("perf"):
        return []
    def works(event):
        asked = subprocess.run(["perf", "stat", "-x,", "-e", event, "true"], capture_output=True, text=True)
        return asked.returncode == 0 and "not supported" not in asked.stderr
    return [event for event in COUNTED.values() if works(event)]


def counted(perf, requests):
    """What `perf` counted for a request, by event."""
    lines = (line.split(",") for line in perf.communicate(timeout=30)[1].splitlines())
    return {line[2]: float(line[0]) / requests for line in lines if len(line) > 2 and line[0].isdigit()}


def counts(row, event):
    each = [run.counted[event] for run in row.runs if event in run.counted]
    return median(each) if each else None


def wrk(row, server, options):
    return ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency",
            "-s", HERE / "walk.lua", f"http://127.0.0.1:{server.port}", "--", row.targets, row.mode]


def h2load(row, server, options):
    """Each of h2load's connections walks through the same targets, so none of them may be recorded."""
    scheme, version = row.tool[1:]
    connections, streams = (options.connections, 1) if version == "1.1" else (max(options.connections // 8, 1), 8)
    targets = row.targets.with_suffix(".urls")
    lines = row.targets.read_text().splitlines()[:10_000]
    targets.write_text("".join(f"{scheme}://127.0.0.1:{server.port}{line}\n" for line in lines))
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-n{H2LOAD_PER_SECOND * options.seconds}", "-i", targets]
    return [*command, "--h1"] if version == "1.1" else command


def requests_and_seconds(row, said):
    if row.tool[0] == "wrk":
        total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", said)
        return total and (int(total[1]), float(total[2]) * {"ms": 0.001, "s": 1, "m": 60}[total[3]])
    done = re.search(r"finished in ([\d.]+)(us|ms|s|m)", said)
    total = re.search(r"status codes: (\d+) 2xx", said)
    return done and total and (int(total[1]), float(done[1]) * {"us": 1e-6, "ms": 0.001, "s": 1, "m": 60}[done[2]])


def drive(row, server, options, pin):
    command = [*([] if row.spread else pin), *(wrk if row.tool[0] == "wrk" else h2load)(row, server, options)]
    perf = None
    if options.perf:
        perf = subprocess.Popen(["perf", "stat", "-x,", "-e", ",".join(options.perf),
                                 "-p", str(server.process.pid), "sleep", str(options.seconds + 1)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(0.2)
    before, cpu_before = server.outcomes(), server.processor()
    result = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if row.drains:
        drained(server)
    cpu_after, after = server.processor(), server.outcomes()
    said = result.stdout + result.stderr
    total = requests_and_seconds(row, said)
    if result.returncode != 0 or not total or total[0] == 0:
        fail(f"{row.tool[0]} failed on {row.name!r}:\n{said}\n{server.log.read_text(errors='replace')[-2000:]}")
    for trouble in re.findall(r"Socket errors: .*|Non-2xx or 3xx responses: .*", said):
        progress(f"    {row.name}: {trouble}")
    return Run(
        requests=total[0],
        seconds=total[1],
        user=cpu_after[0] - cpu_before[0],
        system=cpu_after[1] - cpu_before[1],
        p50=(re.search(r"(?m)^ +50% +(\S+)$", said) or [None, "-"])[1],
        p99=(re.search(r"(?m)^ +99% +(\S+)$", said) or [None, "-"])[1],
        outcomes={name: after[name] - before.get(name, 0) for name in after},
        counted=counted(perf, total[0]) if perf else {},
        memory=server.memory(),
    )


def drained(server):
    until = time.monotonic() + DRAIN_SECONDS
    while left := server.backlog():
        if time.monotonic() > until:
            fail(f"{left} events are still not delivered")
        time.sleep(0.2)


def check(row, run):
    """Says so if a row was not what it is said to be."""
    if not row.outcome:
        return
    total = sum(run.outcomes.values())
    share = run.outcomes.get(row.outcome, 0) / total if total else 0
    # Requests in flight when wrk stopped are counted by the server alone.
    if share < 0.99 or abs(total - run.requests) > 0.01 * run.requests + 1000:
        counts = {name: int(count) for name, count in run.outcomes.items() if count}
        fail(f"{row.name!r} should be {row.outcome}, {run.requests} requests; Postern counted {counts}")


# ---- report ---------------------------------------------------------------------------------------------------

def sync_microseconds(folder):
    """The time of an append of 400 bytes and fdatasync, there where the store is: fastest tenth, and median."""
    times = []
    path = folder / "sync-probe"
    with open(path, "wb", buffering=0) as file:
        for _ in range(300):
            start = time.perf_counter()
            file.write(b"x" * 400)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    path.unlink()
    return statistics.quantiles(times, n=10)[0] * 1e6, statistics.median(times) * 1e6


def file_system(folder):
    mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    device, _, kind = max(inside, key=lambda mount: len(mount[1]))
    return f"{kind} on {device}"


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else os.uname().machine}, {os.cpu_count()} cores, Linux {os.uname().release}"


def commit():
    asked = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=9"], capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def median(values):
    return statistics.median(values)


def ratios(row, bare):
    return [run.per_cpu_second() / base for run, base in zip(row.runs, bare)]


def said_first(options, folder):
    """What a table has to say of itself."""
    pinned = "servers on core 0, load on core 1" if options.pinned else "NOT pinned: fewer than two cores"
    yield (f"{time.strftime('%Y-%m-%d')}, commit `{commit()}`, {machine()}. {options.rounds} rounds of {options.seconds} s in turn, "
           f"{options.connections} connections; {pinned}. The rows that record use the engine `embedded`, which answers after "
           f"fdatasync of the journal; {file_system(folder)}, where 400 bytes and fdatasync took {options.sync[0]:.0f} us "
           f"(fastest tenth) and {options.sync[1]:.0f} us (median) before the load.")


def table(rows):
    bare = [run.per_cpu_second() for run in rows[0].runs]
    shown = [name for name, event in COUNTED.items() if any(counts(row, event) is not None for row in rows)]
    columns = "".join(f" | {name}" for name in shown)
    yield ("| requests | per CPU second | over bare hyper (each round) | budget | us user + system"
           f"{columns} | per second | p50 / p99 | memory |")
    yield "|---" * (8 + len(shown)) + "|"
    for row in rows:
        if row.alone or row.peer and row is not rows[0]:
            continue
        each = ratios(row, bare)
        user = median([run.user / run.requests for run in row.runs]) * 1e6
        system = median([run.system / run.requests for run in row.runs]) * 1e6
        said = [counts(row, COUNTED[name]) for name in shown]
        cells = "".join("| - " if one is None else f"| {one:,.3f} " for one in said)
        yield (f"| {row.name} | {median([run.per_cpu_second() for run in row.runs]):,.0f} "
               f"| **{median(each):.2f}** ({', '.join(f'{ratio:.2f}' for ratio in each)}) | {row.budget or '-'} "
               f"| {user:.2f} + {system:.2f} {cells}"
               f"| {median([run.requests / run.seconds for run in row.runs]):,.0f} "
               f"| {row.runs[-1].p50} / {row.runs[-1].p99} | {row.runs[-1].memory:.0f} MB |")
    yield ""
    for row in rows:
        if not (row.peer or row.alone) or row is rows[0]:
            yield f"- *{row.name}*: {row.what}"


def peers(rows):
    bare = [run.per_cpu_second() for run in rows[0].runs]
    yield "| server | what it does | durability | per CPU second | over bare hyper | p50 / p99 | memory |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        if row.peer or row.name in ("recorded", "HMAC, 1 kB"):
            name = row.name if row.peer else f"Postern, *{row.name}*"
            durability = row.peer or "on disk before the answer"
            yield (f"| {name} | {row.what} | {durability} | {median([run.per_cpu_second() for run in row.runs]):,.0f} "
                   f"| {median(ratios(row, bare)):.2f} | {row.runs[-1].p50} / {row.runs[-1].p99} "
                   f"| {row.runs[-1].memory:.0f} MB |")


def cores(rows):
    yield "| requests | per CPU second, one core | both cores | both over one (each round) | budget |"
    yield "|---|---|---|---|---|"
    for row in rows:
        one = next((one for one in rows if one.alone == row.alone and not one.spread), None)
        if row.spread and one:
            each = [2 * run.per_cpu_second() / base.per_cpu_second() for run, base in zip(row.runs, one.runs)]
            yield (f"| {one.alone} | {median([run.per_cpu_second() for run in one.runs]):,.0f} "
                   f"| {median([run.per_cpu_second() for run in row.runs]):,.0f} "
                   f"| **{median(each):.2f}** ({', '.join(f'{ratio:.2f}' for ratio in each)}) | {row.budget or '-'} |")


def publish(name, lines):
    """Prints a part of docs/benchmarks.md; the text to put there."""
    text = "\n".join(lines)
    print(f"\n{text}", flush=True)
    return name, text


def write_page(parts):
    """Puts each part between its marks in docs/benchmarks.md."""
    page = PAGE.read_text(encoding="utf-8")
    for name, text in parts:
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, after = page.split(begin)[0], page.split(end)[1]
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")


# ---- the whole ------------------------------------------------------------------------------------------------

def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3, help="of each row in each round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=TARGET / "load", help="store, requests and logs; on a real disk")
    parser.add_argument("--only", default="", help="rows whose name contains one of these, separated by commas")
    parser.add_argument("--bare", action="store_true", help="only the bare server, against itself: this machine's noise")
    parser.add_argument("--open", action="store_true", help="calls at fixed rates, past saturation, in place of the rows")
    parser.add_argument("--slow-sync", type=int, default=0, metavar="US", help="with --open: a disk that syncs so much slower")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--steady", action="store_true",
                        help="keep both cores awake with idle-priority spinners: slower, and repeats more closely")
    options = parser.parse_args()
    options.pinned = (os.cpu_count() or 1) > 1 and shutil.which("taskset") is not None
    options.perf = countable()
    return options


def key_row(folder, key):
    def fresh(numbers):
        now = int(time.time())
        return [key.call(number, now) for number in numbers]
    return Row("public key, 1 kB, duplicate", "Standard Webhooks signed with Ed25519 over 1 kB, verified each time, and known",
               "postern", folder / "key.txt", outcome="duplicate", fresh=fresh)


def hmac_row(folder):
    def fresh(numbers):
        now = int(time.time())
        return (calls.hmac_call(number, now) for number in numbers)
    return Row("HMAC, 1 kB", "Standard Webhooks signed with HMAC-SHA256 over 1 kB: verified, new, persisted before the answer", "postern",
               folder / "hmac.txt", "once", outcome="accepted", fresh=fresh, fresh_per_second=FRESH_BODIES_PER_SECOND)


def peer_rows(folder, signed):
    nothing = "none: nothing is stored"
    if shutil.which("nginx"):
        yield Row("nginx", "`return 200`, no access log", "nginx", signed, peer=nothing)
    if shutil.which("webhook"):
        hooks = folder / "hooks.txt"
        write(hooks, (calls.hook_call(number) for number in range(20_000)))
        yield Row("webhook", "Debian's webhook 2.8: HMAC-SHA256 over 1 kB, then runs /bin/true, which is counted", "webhook", hooks,
                  peer="none: the program that it runs has to store")


def make_rows(folder, key):
    signed, probes, forged, fresh = (folder / f"{name}.txt" for name in ("signed", "probes", "forged", "fresh"))
    write(signed, (target(number, SECRET) for number in range(REUSED)))
    write(probes, (probe(number) for number in range(REUSED)))
    write(forged, (target(number, "not the secret") for number in range(REUSED)))
    def taku(source):
        return lambda numbers: (target(number, calls.secret_of(source(number)), source(number)) for number in numbers)
    recorded = taku(lambda _: "load")
    yield Row("bare hyper", "the same requests as *recorded*, answered unread with 27 bytes", "bare", signed, peer="none: nothing is read")
    yield Row("bare hyper, again", "the noise of this machine", "bare", signed)
    yield from peer_rows(folder, signed)
    yield Row("probe", "without the ledger: the console's test call, read, recognised and answered", "postern", probes, outcome="test",
              budget=">= 0.75")
    yield Row("forged", "without the ledger: a wrong signature, verified, refused and logged", "postern", forged, outcome="rejected",
              budget=">= 0.75")
    yield Row("recorded", "with the ledger: verified, new, persisted before the answer", "postern", fresh, "once", outcome="accepted",
              budget=">= 0.60", fresh=recorded)
    yield Row("duplicate", "with the ledger: the callbacks of *recorded* again, looked up and answered", "postern", fresh, "once",
              outcome="duplicate")
    yield Row("recorded, several sources", f"as *recorded*, over {SOURCES} sources", "postern", folder / "several.txt", "once",
              outcome="accepted", fresh=taku(lambda number: f"load{number % SOURCES}"))
    yield Row("recorded and delivered", "as *recorded*, and delivered to a bare hyper server meanwhile; processor time until the last one is",
              "postern", folder / "delivered.txt", "once", outcome="accepted", fresh=taku(lambda _: "delivered"), drains=True)
    yield hmac_row(folder)
    yield key_row(folder, key)
    # The same server, one after the other, on one core and on both.
    for kind, budget, server, targets, rest in (
            ("bare hyper", "", "bare", signed, {}),
            ("probe", ">= 1.8", "postern", probes, {"outcome": "test"}),
            ("recorded", ">= 1.6", "postern", folder / "cores.txt", {"mode": "once", "outcome": "accepted", "fresh": recorded})):
        yield Row(f"{kind}, one core", "", f"{server}, single", targets, alone=kind, **rest)
        yield Row(f"{kind}, both cores", "", f"{server}, spread", targets, alone=kind, spread=True, budget=budget, **rest)
    if shutil.which("h2load"):
        yield Row("probe, by h2load", "as *probe*, sent by h2load over HTTP/1.1, to compare the next three with", "postern", probes,
                  outcome="test", tool=("h2load", "http", "1.1"))
        yield Row("probe, HTTP/2", "the same over HTTP/2, eight streams on each connection", "postern", probes, outcome="test",
                  tool=("h2load", "http", "2"))
        yield Row("probe, TLS", "the same over TLS 1.3 and HTTP/1.1; handshakes of the connections included", "tls", probes,
                  outcome="test", tool=("h2load", "https", "1.1"))
        yield Row("probe, TLS and HTTP/2", "the same over TLS 1.3 and HTTP/2", "tls", probes, outcome="test",
                  tool=("h2load", "https", "2"))


def chosen(rows, options):
    """The rows of this run: the bare server always, and duplicates only after what they repeat."""
    rows = list(rows)
    if options.bare:
        return rows[:2]
    wanted = [part for part in options.only.split(",") if part]
    return [row for row in rows if row is rows[0] or not wanted or any(part in row.name for part in wanted)]


def renew(row, sent, options):
    """Writes the fresh callbacks of a round; how many."""
    count = KEY_SIGNED if row.outcome == "duplicate" else row.fresh_per_second * options.seconds
    write(row.targets, row.fresh(range(sent + REUSED, sent + REUSED + count)))
    return count


def play(rows, running, options, pin):
    sent = 0
    for number in range(options.rounds):
        for row in rows:
            if row.fresh:
                sent += renew(row, sent, options)
            if row.fresh and row.outcome == "duplicate":
                # Recorded first, and not counted.
                command = [*pin, *wrk(row, running[row.server], options)]
                subprocess.run([str("once" if part == row.mode else part) for part in command], capture_output=True, check=True)
            run = drive(row, running[row.server], options, pin)
            check(row, run)
            row.runs.append(run)
            if row.outcome == "accepted" and row.name == "recorded":
                # The duplicates that follow are the callbacks that were surely answered.
                known = max(run.requests - options.connections, 1)
                os.truncate(row.targets, known * len(target(0, SECRET)))
            progress(f"  round {number + 1}/{options.rounds}  {row.name:<28} {run.per_cpu_second():>9,.0f} requests/CPU s")


def start(rows, options, pins, stack, key):
    """Starts the servers of these rows."""
    server_pin, load_pin = pins
    wanted, folder = {row.server for row in rows}, options.folder
    def kept(server):
        stack.callback(server.stop)
        return server

    sink = kept(start_bare(folder, load_pin, "sink")) if "postern" in wanted else None
    makers = {
        "bare": lambda: start_bare(folder, server_pin),
        "nginx": lambda: servers.start_nginx(folder, server_pin),
        "webhook": lambda: servers.start_webhook(folder, server_pin),
        "postern": lambda: servers.start_postern(folder, server_pin, sink=sink.port, public=key.public),
        "bare, single": lambda: start_bare(folder, server_pin, "single-bare"),
        "bare, spread": lambda: start_bare(folder, [], "spread-bare"),
        "postern, single": lambda: servers.start_postern(folder, server_pin, "single"),
        "postern, spread": lambda: servers.start_postern(folder, [], "spread"),
        "tls": lambda: servers.start_postern(folder, server_pin, "tls", tls=True),
    }
    return {name: kept(make()) for name, make in makers.items() if name in wanted}


def main():
    options = arguments()
    options.folder.mkdir(parents=True, exist_ok=True)
    pins = (["taskset", "-c", "0"], ["taskset", "-c", "1"]) if options.pinned else ([], [])
    options.sync = sync_microseconds(options.folder)
    with contextlib.ExitStack() as stack:
        if options.steady:
            for core in "01":
                spinner = subprocess.Popen(["chrt", "--idle", "0", "taskset", "-c", core, "sh", "-c", "while :; do :; done"])
                stack.callback(spinner.kill)
        if options.open:
            import open_model
            parts = [publish("load-open", open_model.measure(options, pins, stack))]
        else:
            key = calls.KeyPair(options.folder)
            rows = chosen(make_rows(options.folder, key), options)
            play(rows, start(rows, options, pins, stack, key), options, pins[1])
            said = [*said_first(options, options.folder), ""]
            whole = publish("load", [*said, *table(rows)])
            # Some rows alone are printed: only a whole table goes into the page.
            parts = [] if options.only or options.bare else [whole, publish("load-peers", peers(rows))]
            if any(row.alone for row in rows):
                parts.append(publish("load-cores", [*said, *cores(rows)]))
    if options.write:
        write_page(parts)


if __name__ == "__main__":
    main()
