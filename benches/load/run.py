#!/usr/bin/env python3
"""Postern under load, in turn with a bare hyper server: `make load`, or `make load ARGS="--rounds 3"`.

Each round sends the same kind of request to the bare server and to Postern, one row after the other, with wrk on
core 1 and both servers on core 0. What is compared is requests per second of the server's processor time (user and
system, from /proc/PID/stat), as a ratio to the bare server *of the same round*: absolute figures of a shared or
virtual machine drift by half, ratios within a round do not. The row "bare hyper, again" shows how far they do.

Nothing leaves the loopback interface.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
SECRET = "cyvmwmzrqts7csphhexpqxqxxgljfisb"
TICKS = os.sysconf("SC_CLK_TCK")
# More fresh callbacks a second than one core has been seen to take; a row that is faster ends its run early.
FRESH_PER_SECOND = 250_000
# Requests that may be sent again for ever: enough of them that no cache holds their answers.
REUSED = 200_000
READY_SECONDS = 30

CONFIG = """
[server]
callbacks = "127.0.0.1:{callbacks}"
admin = "127.0.0.1:{admin}"

[store]
engine = "embedded"
path = "{store}"

[[source]]
name = "load"
sender = "taku"
secrets = "{secret}"
"""


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
    instructions: float | None

    def per_cpu_second(self):
        return self.requests / max(self.user + self.system, 1 / TICKS)


def fail(text):
    sys.exit(f"load: {text}")


def progress(text):
    print(text, file=sys.stderr, flush=True)


# ---- requests -------------------------------------------------------------------------------------------------

def target(number, secret):
    """A Taku callback, signed with `secret`. All have the same length."""
    transaction = f"load-{number:012}"
    signed = (f"trans_id={transaction}&placement_id=b5b449fb3d89d7&adsource_id=56789"
              f"&reward_amount=10&reward_name=coin&sec_key={secret}")
    sign = hashlib.md5(signed.encode()).hexdigest()
    return (f"/callback/load?user_id=u{number % 100000:05}&trans_id={transaction}&reward_name=coin&reward_amount=10"
            f"&placement_id=b5b449fb3d89d7&adsource_id=56789&sign={sign}\n")


def probe(number):
    """The call of Taku's console when a rule is saved: its macros are not replaced, and nothing is recorded."""
    macros = ("user_id", "trans_id", "reward_name", "reward_amount", "placement_id", "adsource_id", "sign")
    query = "&".join(f"{name}=%7B{name}%7D" for name in macros)
    return f"/callback/load?{query}&is_test=1&n={number:06}\n"


def write(path, lines):
    with open(path, "w", encoding="ascii") as file:
        file.writelines(lines)


# ---- servers --------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return probe_socket.getsockname()[1]


def get(url):
    # Whatever proxy the environment names, this is the loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=2) as answer:
        return answer.read().decode()


class Server:
    """A server under test, pinned to a core, with its log in a file."""

    def __init__(self, command, log, port, pin):
        self.port, self.log, self.admin = port, log, None
        with open(log, "wb") as out:
            self.process = subprocess.Popen([*pin, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def wait(self, ask):
        """Waits until `ask` no longer raises."""
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                return ask()
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    said = self.log.read_text(errors="replace")[-2000:]
                    fail(f"{self.process.args[-4:]} is not ready ({error}); it said:\n{said}")
            time.sleep(0.05)

    def processor(self):
        """User and system seconds so far, of all its threads."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11]) / TICKS, int(stat[12]) / TICKS

    def outcomes(self):
        """Callbacks by outcome so far; nothing for the bare server."""
        if self.admin is None:
            return {}
        found = re.findall(r"(?m)^postern_callbacks_total\{([^}]*)\} (\S+)$", get(f"{self.admin}/metrics"))
        return {re.search(r'outcome="(\w+)"', labels)[1]: float(value) for labels, value in found}

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start_bare(folder, pin):
    port = free_port()
    server = Server([TARGET / "release/examples/bare_hyper", f"127.0.0.1:{port}"], folder / "bare.log", port, pin)
    server.wait(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
    return server


def start_postern(folder, pin):
    store, config = folder / "store", folder / "postern.toml"
    shutil.rmtree(store, ignore_errors=True)
    port, admin = free_port(), free_port()
    config.write_text(CONFIG.format(callbacks=port, admin=admin, store=store.resolve(), secret=SECRET))
    server = Server([TARGET / "release/postern", "serve", "--config", config], folder / "postern.log", port, pin)
    server.admin = f"http://127.0.0.1:{admin}"
    server.wait(lambda: get(f"{server.admin}/readyz"))
    return server


# ---- load -----------------------------------------------------------------------------------------------------

def perf_counts():
    """Whether this machine counts instructions."""
    if not shutil.which("perf"):
        return False
    asked = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True)
    return asked.returncode == 0 and "not supported" not in asked.stderr


def instructions(perf):
    """User and kernel instructions that `perf` counted."""
    said = perf.communicate(timeout=30)[1]
    counts = [line.split(",")[0] for line in said.splitlines() if "instructions" in line]
    return sum(map(float, counts)) if counts and all(count.isdigit() for count in counts) else None


def drive(row, server, options, pin):
    command = [*pin, "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency",
               "-s", HERE / "walk.lua", f"http://127.0.0.1:{server.port}", "--", row.targets, row.mode]
    perf = None
    if options.perf:
        perf = subprocess.Popen(["perf", "stat", "-x,", "-e", "instructions:u,instructions:k",
                                 "-p", str(server.process.pid), "sleep", str(options.seconds + 1)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(0.2)
    before, cpu_before = server.outcomes(), server.processor()
    result = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    cpu_after, after = server.processor(), server.outcomes()
    said = result.stdout + result.stderr
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", said)
    if result.returncode != 0 or not total or total[1] == "0":
        fail(f"wrk failed on {row.name!r}:\n{said}\n{server.log.read_text(errors='replace')[-2000:]}")
    for trouble in re.findall(r"Socket errors: .*", said):
        progress(f"    {row.name}: {trouble}")
    counted = instructions(perf) if perf else None
    requests = int(total[1])
    return Run(
        requests=requests,
        seconds=float(total[2]) * {"ms": 0.001, "s": 1, "m": 60}[total[3]],
        user=cpu_after[0] - cpu_before[0],
        system=cpu_after[1] - cpu_before[1],
        p50=(re.search(r"50%\s+(\S+)", said) or [None, "-"])[1],
        p99=(re.search(r"99%\s+(\S+)", said) or [None, "-"])[1],
        outcomes={name: after[name] - before.get(name, 0) for name in after},
        instructions=counted / requests if counted else None,
    )


def check(row, run):
    """Says so if a row was not what it is said to be."""
    if not row.outcome:
        return
    total = sum(run.outcomes.values())
    share = run.outcomes.get(row.outcome, 0) / total if total else 0
    # What was under way when wrk stopped is counted by the server alone.
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


def median(values):
    return statistics.median(values)


def report(rows, options, folder):
    bare = [run.per_cpu_second() for run in rows[0].runs]
    print(f"\n{machine()}. {options.rounds} rounds of {options.seconds} s, {options.connections} connections; "
          f"{'server on core 0, wrk on core 1' if options.pinned else 'NOT pinned: fewer than two cores'}.")
    if not options.bare:
        print(f"Durability of the rows that record: engine `embedded`, the answer waits for fdatasync of the journal; "
              f"{file_system(folder)}, where 400 bytes and fdatasync took "
              f"{options.sync[0]:.0f} us (fastest tenth) and {options.sync[1]:.0f} us (median) before the load.")
    print("\n| requests | per CPU second | over bare hyper (each round) | budget | us user + system | instructions "
          "| per second | p50 / p99 |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        ratios = [run.per_cpu_second() / base for run, base in zip(row.runs, bare)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        user = median([run.user / run.requests for run in row.runs]) * 1e6
        system = median([run.system / run.requests for run in row.runs]) * 1e6
        counted = [run.instructions for run in row.runs if run.instructions]
        print(f"| {row.name} | {median([run.per_cpu_second() for run in row.runs]):,.0f} "
              f"| **{median(ratios):.2f}** ({each}) | {row.budget or '-'} | {user:.2f} + {system:.2f} "
              f"| {f'{median(counted):,.0f}' if counted else 'not counted here'} "
              f"| {median([run.requests / run.seconds for run in row.runs]):,.0f} "
              f"| {row.runs[-1].p50} / {row.runs[-1].p99} |")
    print()
    for row in rows:
        print(f"- *{row.name}*: {row.what}")


# ---- the whole ------------------------------------------------------------------------------------------------

def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each row in each round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=TARGET / "load", help="store, requests and logs; on a real disk")
    parser.add_argument("--bare", action="store_true", help="only the bare server, against itself: this machine's noise")
    parser.add_argument("--steady", action="store_true",
                        help="keep both cores awake with idle-priority spinners: slower, and repeats more closely")
    options = parser.parse_args()
    options.pinned = (os.cpu_count() or 1) > 1 and shutil.which("taskset") is not None
    options.perf = perf_counts()
    return options


def make_rows(folder, bare_only):
    signed, probes, forged, fresh = (folder / f"{name}.txt" for name in ("signed", "probes", "forged", "fresh"))
    write(signed, (target(number, SECRET) for number in range(REUSED)))
    rows = [
        Row("bare hyper", "the same requests as *recorded*, answered unread with 27 bytes", "bare", signed),
        Row("bare hyper, again", "the noise of this machine", "bare", signed),
    ]
    if not bare_only:
        write(probes, (probe(number) for number in range(REUSED)))
        write(forged, (target(number, "not the secret") for number in range(REUSED)))
        rows += [
            Row("probe", "without the ledger: the console's test call, read, recognised and answered", "postern",
                probes, outcome="test", budget=">= 0.75"),
            Row("forged", "without the ledger: a wrong signature, verified, refused and logged", "postern",
                forged, outcome="rejected", budget=">= 0.75"),
            Row("recorded", "with the ledger: verified, new, durable before the answer", "postern",
                fresh, "once", outcome="accepted", budget=">= 0.60"),
            Row("duplicate", "with the ledger: the callbacks of *recorded* once more, looked up and answered", "postern",
                fresh, "once", outcome="duplicate"),
        ]
    return rows


def play(rows, servers, options, pin):
    sent = 0
    for number in range(options.rounds):
        for row in rows:
            if row.outcome == "accepted":
                count = FRESH_PER_SECOND * options.seconds
                write(row.targets, (target(at, SECRET) for at in range(sent + REUSED, sent + REUSED + count)))
                sent += count
            run = drive(row, servers[row.server], options, pin)
            check(row, run)
            row.runs.append(run)
            if row.outcome == "accepted":
                # The duplicates that follow are the callbacks that were surely answered.
                known = max(run.requests - options.connections, 1)
                os.truncate(row.targets, known * len(target(0, SECRET)))
            progress(f"  round {number + 1}/{options.rounds}  {row.name:<20} {run.per_cpu_second():>9,.0f} requests/CPU s")


def main():
    options = arguments()
    options.folder.mkdir(parents=True, exist_ok=True)
    server_pin, load_pin = (["taskset", "-c", "0"], ["taskset", "-c", "1"]) if options.pinned else ([], [])
    options.sync = sync_microseconds(options.folder)
    rows = make_rows(options.folder, options.bare)
    with contextlib.ExitStack() as stack:
        if options.steady:
            for core in "01":
                spinner = subprocess.Popen(["chrt", "--idle", "0", "taskset", "-c", core, "sh", "-c", "while :; do :; done"])
                stack.callback(spinner.kill)
        servers = {"bare": start_bare(options.folder, server_pin)}
        stack.callback(servers["bare"].stop)
        if not options.bare:
            servers["postern"] = start_postern(options.folder, server_pin)
            stack.callback(servers["postern"].stop)
        play(rows, servers, options, load_pin)
        report(rows, options, options.folder)


if __name__ == "__main__":
    main()
