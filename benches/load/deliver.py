#!/usr/bin/env python3
"""Deliveries of Postern beside a bare hyper client: `make load-deliveries`, or with `ARGS="--rounds 3"`.

Each round lets both post the same number of bodies of one size to the same bare hyper server: first the bare client,
then Postern, which drains a backlog that was recorded while its destination was paused. Clients are on core 0, the
server on core 1. What is compared is deliveries per second of the client's processor time (user and system, from
/proc/PID/stat), as a ratio to the bare client *of the same round*.

Postern reads each event, signs it, records the attempt and its result. Nothing leaves the loopback
interface.
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import time
import urllib.request

import run

CONFIG = run.CONFIG + """destinations = ["sink"]

[[destination]]
name = "sink"
url = "http://127.0.0.1:{sink}/rewards"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""


def post(server, path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    token = (server.store / "admin-token").read_text().strip()
    request = urllib.request.Request(f"{server.admin}{path}", method="POST", data=b"", headers={"Authorization": f"Bearer {token}"})
    with opener.open(request, timeout=10) as answer:
        return answer.read()


def start_postern(folder, sink, pin):
    store, config = folder / "store", folder / "postern.toml"
    shutil.rmtree(store, ignore_errors=True)
    port, admin = run.free_port(), run.free_port()
    config.write_text(CONFIG.format(callbacks=port, admin=admin, store=store.resolve(), secret=run.SECRET, sink=sink))
    os.environ["RUST_LOG"] = "warn"
    server = run.Server([run.TARGET / "release/postern", "serve", "--config", config], folder / "postern.log", port, pin)
    server.admin, server.store = f"http://127.0.0.1:{admin}", store
    server.wait(lambda: run.get(f"{server.admin}/readyz"))
    return server


def backlog(server):
    page = run.get(f"{server.admin}/metrics")
    return int(re.search(r'(?m)^postern_delivery_backlog\{destination="sink"\} (\d+)$', page)[1])


def record(server, folder, first, count, pin):
    """Has `count` fresh callbacks recorded."""
    targets = folder / "fresh.txt"
    run.write(targets, (run.target(at, run.SECRET) for at in range(first, first + count)))
    command = [*pin, "wrk", "-t1", "-c64", "-d60s", "-s", run.HERE / "walk.lua", f"http://127.0.0.1:{server.port}", "--",
               targets, "once"]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return backlog(server)


def drain(server):
    """Deliveries per second of processor time."""
    count, before, began = backlog(server), sum(server.processor()), time.monotonic()
    post(server, "/admin/v1/destinations/sink/resume")
    while (left := backlog(server)) > 0:
        if time.monotonic() - began > 120:
            run.fail(f"{left} of {count} are still not delivered")
        time.sleep(0.25)
    took = sum(server.processor()) - before
    post(server, "/admin/v1/destinations/sink/pause")
    return count / took, count / (time.monotonic() - began)


def bare(sink, count, pin):
    before = os.times()
    began = time.monotonic()
    command = [*pin, run.TARGET / "release/examples/bare_client", f"http://127.0.0.1:{sink}/rewards", count]
    subprocess.run([str(part) for part in command], check=True)
    after = os.times()
    took = after.children_user + after.children_system - before.children_user - before.children_system
    return count / took, count / (time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=40_000, help="deliveries of each round")
    parser.add_argument("--folder", type=run.Path, default=run.TARGET / "load", help="store and logs; on a real disk")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    pinned = (os.cpu_count() or 1) > 1 and shutil.which("taskset") is not None
    client_pin, sink_pin = (["taskset", "-c", "0"], ["taskset", "-c", "1"]) if pinned else ([], [])
    rows = []
    with contextlib.ExitStack() as stack:
        sink = run.start_bare(options.folder, sink_pin)
        stack.callback(sink.stop)
        server = start_postern(options.folder, sink.port, client_pin)
        stack.callback(server.stop)
        post(server, "/admin/v1/destinations/sink/pause")
        for number in range(options.rounds):
            record(server, options.folder, number * options.count, options.count, sink_pin)
            rows.append((bare(sink.port, options.count, client_pin), drain(server)))
            run.progress(f"  round {number + 1}/{options.rounds}  bare {rows[-1][0][0]:>9,.0f}  "
                         f"postern {rows[-1][1][0]:>9,.0f} deliveries/CPU s")
    part = run.publish("load-deliveries", report(rows, options, pinned))
    if options.write:
        run.write_page([part])


def report(rows, options, pinned):
    ratios = [mine[0] / base[0] for base, mine in rows]
    middle = lambda which, at: statistics.median(row[which][at] for row in rows)
    yield (f"{time.strftime('%Y-%m-%d')}, commit `{run.commit()}`, {run.machine()}. {options.rounds} rounds of {options.count} deliveries in "
           f"turn, 16 concurrent; {'clients on core 0, server on core 1' if pinned else 'NOT pinned'}.")
    yield ""
    yield "| client | deliveries per CPU second | over the bare client (each round) | per second |"
    yield "|---|---|---|---|"
    yield f"| bare hyper client | {middle(0, 0):,.0f} | 1 | {middle(0, 1):,.0f} |"
    yield (f"| Postern | {middle(1, 0):,.0f} | **{statistics.median(ratios):.2f}** "
           f"({', '.join(f'{ratio:.2f}' for ratio in ratios)}) | {middle(1, 1):,.0f} |")


if __name__ == "__main__":
    main()
