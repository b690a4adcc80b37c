#!/usr/bin/env python3
"""A long life in a short time: `make soak`, or `make soak ARGS="--minutes 60"`.

A release server keeps events for half a minute and transactions for 13, while signed callbacks come in bursts: after a
quarter of an hour as much is removed as comes, and disk and memory should stay where they are. Each line is half a minute; in the
end the last third of the run is compared with the one before.
"""

import argparse
import hashlib
import re
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "load"))
import run as load  # noqa: E402  (the benchmark of the whole gateway: servers, wrk, ports)

SECRET = "a-private-key-of-the-app"
MAX_AGE = "1m"
# What a callback can be accepted for: the sender's tries, its age on both sides, and ten minutes for clocks.
KEPT = "13m"
# The sender tries for days, and so long must a transaction be remembered: in minutes there is nothing to wait for.
HORIZON = 'horizon = "8d"'

CONFIG = f"""
senders = ["{{sender}}"]

[server]
callbacks = "127.0.0.1:{{callbacks}}"
admin = "127.0.0.1:{{admin}}"

[store]
path = "{{store}}"
keep_events = "30s"
keep_transactions = "{KEPT}"

[[source]]
name = "soak"
sender = "soaked"
max_age = "{MAX_AGE}"
secrets = "{SECRET}"
"""


def target(number, minute):
    event, user = f"soak-{number:012}", f"u{number % 100000:05}"
    signature = hashlib.md5(f"{minute}{event}{user}10{SECRET}".encode()).hexdigest()
    return f"/callback/soak?userId={user}&eventId={event}&rewards=10&timestamp={minute}&signature={signature}\n"


def start(folder):
    """The server, which is measured as a whole and not pinned."""
    store, config = folder / "store", folder / "postern.toml"
    port, admin = load.free_port(), load.free_port()
    sender = folder / "soaked.toml"
    text = Path("src/sender/catalog/levelplay.toml").read_text()
    assert HORIZON in text, HORIZON
    sender.write_text(text.replace(HORIZON, 'horizon = "1m"'))
    config.write_text(CONFIG.format(callbacks=port, admin=admin, store=store.resolve(), sender=sender.resolve()))
    server = load.Server([load.TARGET / "release/postern", "serve", "--config", config], folder / "postern.log", port, [])
    server.admin = f"http://127.0.0.1:{admin}"
    server.wait(lambda: load.get(f"{server.admin}/readyz"))
    return server


def disk(folder):
    def size(path):
        try:
            return path.stat().st_size
        except OSError:         # removed just now
            return 0
    return sum(size(path) for path in folder.rglob("*"))


def memory(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def metric(text, name):
    return float(re.search(rf"(?m)^{name} (\S+)$", text)[1])


def burst(server, folder, first, options):
    """Sends what comes in one burst; answers how many of them were neither recorded nor known: wrk begins again with
    the first ones when it has sent the last."""
    minute = time.strftime("%Y%m%d%H%M", time.gmtime())
    targets = folder / "fresh.txt"
    load.write(targets, (target(first + n, minute) for n in range(options.events)))
    options.connections, options.seconds, options.perf = 64, 30, False
    row = load.Row("soak", "", "postern", targets, "once", outcome="accepted")
    result = load.drive(row, server, options, [])
    if result.outcomes["accepted"] != options.events:
        sys.exit(f"soak: {options.events:,} were sent and {result.outcomes['accepted']:,.0f} recorded; see {folder}/postern.log")
    return sum(result.outcomes.values()) - result.outcomes["accepted"] - result.outcomes.get("duplicate", 0)


def live(folder, options):
    """The life of one server; answers seconds, disk and memory after each burst, and how many callbacks were rejected."""
    server = start(folder)
    sent = others = 0
    rows = []
    begun = shown = time.monotonic()
    print("| minutes | recorded in all | in the ledger | remembered | disk MB | memory MB |\n|---|---|---|---|---|---|", flush=True)
    try:
        while time.monotonic() - begun < options.minutes * 60:
            next_burst = time.monotonic() + options.every
            others += burst(server, folder, sent, options)
            sent += options.events
            time.sleep(max(0, next_burst - time.monotonic()))
            now = time.monotonic()
            rows.append((now - begun, disk(folder / "store"), memory(server)))
            if now - shown >= 30:
                shown = now
                text = load.get(f"{server.admin}/metrics")
                print(f"| {(now - begun) / 60:.1f} | {sent:,} | {metric(text, 'postern_store_events'):,.0f} "
                      f"| {metric(text, 'postern_store_keys'):,.0f} | {rows[-1][1] / 1e6:,.0f} | {rows[-1][2] / 1e6:,.0f} |", flush=True)
    finally:
        server.stop()
    return rows, others


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--events", type=int, default=300_000, help="of one burst")
    parser.add_argument("--every", type=float, default=15, help="seconds from the begin of one burst to that of the next")
    options = parser.parse_args()
    folder = load.TARGET / "soak"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows, others = live(folder, options)
    third = len(rows) // 3
    if not third:
        sys.exit("soak: that was too short to compare one third with another: three bursts at least")
    before, last = rows[third:2 * third], rows[2 * third:]
    highest = [[max(column) for column in list(zip(*part))[1:]] for part in (before, last)]
    for what, second, end in zip(("disk", "memory"), *highest):
        print(f"highest {what}: {second / 1e6:,.0f} MB in the second third, {end / 1e6:,.0f} MB in the last")
    if others:
        sys.exit(f"soak: {others:,.0f} callbacks were rejected; see {folder}/postern.log")
    shutil.rmtree(folder)


main()
