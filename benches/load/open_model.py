"""What happens past saturation: `make load ARGS=--open`.

First wrk finds how many messages with a body of 1 kB Postern records in a second, one after the other on each of its
connections. Then they arrive at fixed rates, from half of that to three times as many, whatever the server does (open_client.rs): a
thousand connections, and senders that give up after 5 s. What counts is how many are recorded and answered in time, which
must not fall while more arrive, and what the others get.

With --slow-sync the disk is the bottleneck, not the processor.
"""

import json
import subprocess
import time

import calls
from servers import HERE, TARGET, fail, progress, start_bare, start_postern

FACTORS = (0.5, 0.9, 1.2, 1.5, 2.0, 3.0)
SECONDS = 5
CONNECTIONS = 1000
CLOSED_PER_SECOND = 60_000


def slow_disk(options):
    """The environment of a server whose disk is slower."""
    if not options.slow_sync:
        return None
    library = (TARGET / "slow_sync.so").resolve()
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE.parent / "ledger/slow_sync.c", "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_US": str(options.slow_sync)}


class Fresh:
    """Messages that no round has sent."""

    def __init__(self, folder):
        self.sent, self.path = 0, folder / "open.txt"

    def file(self, count):
        now = int(time.time())
        calls.write(self.path, (calls.hmac_call(number, now) for number in range(self.sent, self.sent + count)))
        self.sent += count
        return self.path


def closed(server, fresh, options, pin):
    """Messages a second that wrk has recorded."""
    targets = fresh.file(CLOSED_PER_SECOND * SECONDS)
    before, began = server.outcomes().get("accepted", 0), time.monotonic()
    command = [*pin, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", HERE / "walk.lua",
               f"http://127.0.0.1:{server.port}", "--", targets, "once"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    took = time.monotonic() - began
    return (server.outcomes()["accepted"] - before) / took


def arrive(server, fresh, rate, pin):
    targets = fresh.file(int(rate * SECONDS))
    before = server.outcomes()
    command = [*pin, TARGET / "release/examples/open_client", f"127.0.0.1:{server.port}", targets, rate, SECONDS, CONNECTIONS]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"open_client failed:\n{done.stderr}")
    after = server.outcomes()
    found = json.loads(done.stdout)
    found["outcomes"] = {name: int(after[name] - before.get(name, 0)) for name in after if after[name] > before.get(name, 0)}
    found["memory"] = server.memory()
    return found


def measure(options, pins, stack):
    server_pin, load_pin = pins
    sink = start_bare(options.folder, load_pin, "sink")
    stack.callback(sink.stop)
    key = calls.KeyPair(options.folder)
    server = start_postern(options.folder, server_pin, "open", sink=sink.port, public=key.public, environment=slow_disk(options))
    stack.callback(server.stop)
    fresh = Fresh(options.folder)
    most = closed(server, fresh, options, load_pin)
    progress(f"  closed: {most:,.0f} a second")
    disk = f", each sync of the disk {options.slow_sync} us slower" if options.slow_sync else ""
    yield (f"Messages of 1 kB with HMAC, arriving at a fixed rate for {SECONDS} s over {CONNECTIONS} connections{disk}. "
           f"{most:,.0f} a second are recorded if each connection waits for its answer. A sender gives up after 5 s.")
    yield ""
    yield "| arrivals/s | of the closed rate | recorded and answered/s, meanwhile | \"try again\" (503) | no answer in 5 s | never sent: no free connection | p50 / p99 of the recorded | memory |"
    yield "|---|---|---|---|---|---|---|---|"
    for factor in FACTORS:
        found = arrive(server, fresh, int(most * factor), load_pin)
        progress(f"  {factor}: {found}")
        share = lambda count: f"{100 * count / max(found['arrived'], 1):.1f} %"
        others = sum(count for status, count in found["others"].items() if status != "503")
        if others:
            progress(f"    other statuses: {found['others']}")
        yield (f"| {found['arrived'] / SECONDS:,.0f} | {factor} | {found['good_meanwhile'] / SECONDS:,.0f} "
               f"| {share(found['others'].get('503', 0))} | {share(found['unanswered'])} | {share(found['never_sent'])} "
               f"| {found['p50_ms']:.1f} / {found['p99_ms']:.1f} ms | {found['memory']:.0f} MB |")
