#!/usr/bin/env python3
"""The console's pages with a million events: `make bench-console`, or `make bench-console ARGS="--count 100000"`.

A ledger is filled with real callbacks, a gateway is started on it and another on an empty ledger, and each page is asked
for from both in turn. Prints the table of docs/console.md: milliseconds from the request to the last byte, at the median
and at the slowest of twenty, and the same for the ledger with one event. Exit code 1 if a median is above `--most`.
With `--engine postgres` both ledgers are schemas of a PostgreSQL server of its own (Debian's package `postgresql`).
"""

import argparse
import datetime
import http.client
import importlib.util
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """
[server]
callbacks = "127.0.0.1:{callbacks}"
admin = "127.0.0.1:{admin}"
[store]
{store}
{sources}
[[destination]]
name = "game"
url = "http://127.0.0.1:1/"
secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""
SOURCE = """
[[source]]
name = "{}"
sender = "taku"
secrets = "0123456789abcdefghijklmnopqrstuv"
replayable = true
destinations = ["game"]
"""


def cluster(folder):
    """A PostgreSQL server: the one of `make campaign`."""
    spec = importlib.util.spec_from_file_location("campaign", Path(__file__).parent.parent / "campaign" / "run.py")
    campaign = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(campaign)
    folder.chmod(0o755)
    return campaign.Cluster(folder)


class Store:
    """A ledger: a folder, or a schema of a server."""

    def __init__(self, folder, name, server):
        if server is None:
            self.place, self.table = str(folder / name), f'path = "{folder / name}"'
        else:
            url = f"postgres://postern@127.0.0.1:{server.port}/postgres"
            self.place, self.table = f"{url}#{name}", f'engine = "postgres"\nurl = "{url}"\nschema = "{name}"'


class Gateway:
    """A gateway on a ledger, until it is closed."""

    def __init__(self, folder, name, store, ports, build):
        config = folder / f"{name}.toml"
        sources = "".join(SOURCE.format(source) for source in ("level-end", "rare"))
        config.write_text(CONFIG.format(callbacks=ports[0], admin=ports[1], store=store.table, sources=sources))
        self.log = open(folder / f"{name}.log", "w")
        begun = time.perf_counter()
        self.process = subprocess.Popen([f"target/{build}/postern", "serve", "--config", config], stderr=self.log, stdout=self.log)
        self.port = ports[1]
        while True:
            try:
                if self.get("/readyz")[0] == 200:
                    break
            except OSError:
                pass
            if self.process.poll() is not None or time.perf_counter() - begun > 120:
                sys.exit(f"bench-console: no gateway; {(folder / f'{name}.log').read_text()[-2000:]}")
            time.sleep(0.05)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def timed(self, path):
        """Milliseconds, and the page."""
        begun = time.perf_counter()
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        page = answer.read().decode()
        took = (time.perf_counter() - begun) * 1e3
        if answer.status != 200:
            sys.exit(f"bench-console: {path} answered {answer.status}: {page[:500]}")
        return took, page

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def link(page, pattern):
    found = re.search(pattern, page)
    return found.group(1).replace("&amp;", "&") if found else None


def paths(full, count):
    """What is asked for: name, path."""
    day = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=10)
    since, until = day.strftime("%Y-%m-%dT%H:%M"), (day + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    following = r'rel="next" href="([^"]+)"'
    yield "overview", "/console"
    yield "callbacks, newest", "/console/callbacks"
    yield "callbacks, second page", link(full.get("/console/callbacks")[1], following)
    yield "by transaction", f"/console/callbacks?q=tr-{count // 2}"
    yield "by user", "/console/callbacks?q=user-77"
    yield "by source and an hour ten days ago", f"/console/callbacks?source=level-end&since={since}&until={until}"
    yield "by a rare source (1 in 100)", "/console/callbacks?source=rare"
    yield "by a rare source, in that hour", f"/console/callbacks?source=rare&since={since}&until={until}"
    yield "by state, pending", "/console/callbacks?state=pending"
    yield "by state, dead, of a rare source", "/console/callbacks?state=dead&source=rare"
    yield "by the beginning of a user", "/console/callbacks?q=user-77*"
    yield "event", link(full.get(f"/console/callbacks?q=tr-{count // 2}")[1], r'href="(/console/events/evt_[0-9a-f-]+)"')
    yield "issues", "/console/issues"
    yield "issue", link(full.get("/console/issues")[1], r'href="(/console/issues/one[^"]+)"')
    yield "held callbacks", "/console/held"
    yield "source", "/console/sources/level-end"
    yield "destination", "/console/destinations/game"
    yield "dead letters", "/console/dead-letters"
    yield "dead letters, second page", link(full.get("/console/dead-letters")[1], following)
    yield "dead letters of a destination, before a time", f"/console/dead-letters?destination=game&until={until}"
    yield "dead letters of a source (1 in 5 of them)", "/console/dead-letters?source=rare"
    yield "dead letters of a source that has none", "/console/dead-letters?source=none"
    yield "senders", "/console/senders?q=reward_amount"
    yield "audit", "/console/audit"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--most", type=float, default=50, help="milliseconds that the median of a page may take")
    parser.add_argument("--engine", default="embedded", choices=["embedded", "postgres"])
    parser.add_argument("--build", default="release", choices=["release", "debug"], help="which build is measured")
    args = parser.parse_args()
    # Ended by `kill`, it ends its gateways too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(dir="target", prefix="bench-console-") as folder:
        folder = Path(folder).absolute()
        server = cluster(folder) if args.engine == "postgres" else None
        gateways = []
        try:
            stores = {name: Store(folder, name, server) for name in ("full", "empty")}
            for name, count in (("full", args.count), ("empty", 1)):
                fill = [f"target/{args.build}/examples/console_fill", stores[name].place, str(count)]
                subprocess.run(fill, check=True, stdout=sys.stderr)
            gateways.append(Gateway(folder, "full", stores["full"], (18480, 18481), args.build))
            gateways.append(Gateway(folder, "empty", stores["empty"], (18482, 18483), args.build))
            slow = measure(*gateways, args)
        finally:
            for gateway in gateways:
                gateway.close()
            if server is not None:
                server.stop()
        if slow:
            sys.exit(f"bench-console: above {args.most:g} ms: {', '.join(slow)}")


def measure(full, empty, args):
    print(f"| page | {args.count:,} events: median, slowest of {args.rounds} | one event: median |\n|---|---|---|")
    slow = []
    alone = link(empty.get("/console/callbacks")[1], r'href="(/console/events/evt_[0-9a-f-]+)"')
    for name, path in list(paths(full, args.count)):
        if path is None:
            sys.exit(f"bench-console: nothing to ask for: {name}")
        beside = alone if "/events/" in path else "/console/issues" if "/issues/one" in path else path
        times = [(full.timed(path)[0], empty.timed(beside)[0]) for _ in range(args.rounds)]
        many, one = zip(*times)
        print(f"| {name} | {statistics.median(many):.1f} ms, {max(many):.1f} ms | {statistics.median(one):.1f} ms |", flush=True)
        if statistics.median(many) > args.most:
            slow.append(name)
    return slow


if __name__ == "__main__":
    main()
