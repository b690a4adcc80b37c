#!/usr/bin/env python3
"""A wrong secret for an hour, on each engine: `make campaign`, or `make campaign ARGS="--minutes 10 --engine embedded"`.

1. A source has the wrong secret and a quarantine. Valid callbacks come all the time, and forged ones beside them, from another address.
2. The gateways are killed with signal 9, and started with the right secret. A release is ordered, and killed again and again while it runs,
   with the forged callbacks beside it.
3. The last release ends. Every valid callback must have been delivered under one id, and no forged one.

The embedded engine has one gateway, PostgreSQL has two, on a cluster of its own (Debian's package `postgresql`). Nothing leaves the
loopback interface. Exits with 1 if a callback was lost or doubled, or a forged one was delivered.
"""

import argparse
import hashlib
import http.client
import http.server
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SECRET, WRONG = "0123456789abcdefghijklmnopqrstuv", "zyxwvutsrqponmlkjihgfedcba987654"
TOKEN = "campaign-token-0123456789"
# The sender's machines: each has an address, as a sender's machines have.
CALLERS = [f"127.0.0.{number}" for number in range(11, 15)]
FORGER = "127.0.0.3"
# How long a phase of the end may take, in seconds.
PATIENCE = 1800
UNPRIVILEGED = 65534

CONFIG = """
[server]
callbacks = "127.0.0.1:{callbacks}"
admin = "127.0.0.1:{admin}"
drain = "5s"
lame_duck = "0s"

[admin]
token = "{token}"

[store]
{store}

[[source]]
name = "level-end"
sender = "taku"
secrets = "{secret}"
quarantine = {{ reasons = "all", keep = "14d", max = "1GiB" }}
destinations = ["game"]

[[destination]]
name = "game"
url = "http://127.0.0.1:{backend}/"
secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
retry = {{ first = "1s", max = "5s", attempts = 1000 }}
"""


def progress(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def taku(transaction, reward):
    """The target of a callback that is signed for the reward `coin`: with another one it is forged."""
    signed = f"trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin&sec_key={SECRET}"
    sign = hashlib.md5(signed.encode()).hexdigest()
    return (f"/callback/level-end?user_id=u1&trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10"
            f"&reward_name={reward}&sign={sign}")


def until(what, holds, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"campaign: never: {what}")
        time.sleep(0.1)


class Backend(http.server.BaseHTTPRequestHandler):
    """Keeps under which ids each transaction came, and how often."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    ids, calls, unreleased = {}, 0, 0

    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Backend.lock:
            Backend.ids.setdefault(event["transaction"], set()).add(self.headers["webhook-id"])
            Backend.calls += 1
            Backend.unreleased += event.get("released") is not True
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # The gateways are killed with deliveries in flight.
    handle_error = staticmethod(lambda *_: None)


class Cluster:
    """A PostgreSQL server of its own, run by an unprivileged user."""

    def __init__(self, folder):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        found += [Path(one) for one in [shutil.which("initdb")] if one]
        if not found:
            sys.exit("campaign: PostgreSQL is missing; it is in Debian's package postgresql")
        self.programs, self.data, self.port = found[-1].parent, folder / "cluster", free_port()
        folder.chmod(0o755)
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self.data, UNPRIVILEGED, UNPRIVILEGED)
        done = self.start("initdb", "-U", "postern", "-A", "trust", "-E", "UTF8", "--no-locale", "-D", self.data,
                          stdout=subprocess.DEVNULL)
        if done.wait():
            sys.exit("campaign: initdb failed")
        self.server = self.start("postgres", "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c",
                                 f"unix_socket_directories={self.data}", stderr=subprocess.DEVNULL)
        until("the database answers", lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, 60)

    def start(self, name, *arguments, **more):
        command = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            command += ["--reuid", str(UNPRIVILEGED), "--regid", str(UNPRIVILEGED), "--clear-groups"]
        return subprocess.Popen([*command, "--", self.programs / name, *arguments], cwd="/", env={**os.environ, "LC_ALL": "C"}, **more)

    def stop(self):
        self.server.terminate()
        self.server.wait()


class Gateway:
    def __init__(self, binary, folder, store, backend):
        folder.mkdir()
        self.binary, self.folder = binary, folder
        self.keys = {"callbacks": free_port(), "admin": free_port(), "token": TOKEN, "store": store, "backend": backend}
        self.process, self.log = None, open(folder / "log", "ab")

    def command(self, name):
        return [self.binary, name, "--config", self.folder / "postern.toml"]

    def write(self, secret):
        (self.folder / "postern.toml").write_text(CONFIG.format(**self.keys, secret=secret))

    def run(self, secret):
        self.write(secret)
        self.process = subprocess.Popen(self.command("serve"), stdout=self.log, stderr=self.log)
        until("a gateway is ready", lambda: self.admin("GET", "/readyz")[0] == 200, 300)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def admin(self, method, path, body=None):
        """Status and text; 0 if the gateway is down."""
        connection = http.client.HTTPConnection("127.0.0.1", self.keys["admin"], timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, {"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        except http.client.HTTPException:
            return 0, ""
        finally:
            connection.close()

    def metric(self, series):
        lines = self.admin("GET", "/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series))


class Load:
    """Callers that go on until they are stopped. `answered` has the transactions that got an answer."""

    def __init__(self, gateways, addresses, rate, lead, reward):
        self.stopped, self.answered, self.odd, self.lock = threading.Event(), [], 0, threading.Lock()
        self.gateways, self.pause, self.lead, self.reward = gateways, len(addresses) / rate, lead, reward
        self.threads = [threading.Thread(target=self.call, args=(number, address)) for number, address in enumerate(addresses)]
        for thread in self.threads:
            thread.start()

    def call(self, number, address):
        port = self.gateways[number % len(self.gateways)].keys["callbacks"]
        connection, count, due = None, 0, time.monotonic()
        while not self.stopped.is_set():
            due += self.pause
            time.sleep(max(0.0, due - time.monotonic()))
            transaction = f"{self.lead}{number}-{count}"
            count += 1
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(address, 0))
                connection.request("GET", taku(transaction, self.reward))
                answer = connection.getresponse()
                answer.read()
                with self.lock:
                    self.answered.append(transaction)
                    # Taku's reply to a wrong signature.
                    self.odd += answer.status != 601
            except (OSError, http.client.HTTPException):
                connection = None

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def campaign(engine, arguments, folder):
    """One row of the table."""
    with Backend.lock:
        Backend.ids, Backend.calls, Backend.unreleased = {}, 0, 0
    backend = Server(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    cluster = Cluster(folder) if engine == "postgres" else None
    stores = [f'path = "{folder}/data"']
    if cluster:
        stores = [f'engine = "postgres"\nurl = "postgres://postern@127.0.0.1:{cluster.port}/postgres"'] * 2
    gateways = [Gateway(arguments.binary, folder / f"gateway-{number}", store, backend.server_port) for number, store in enumerate(stores)]
    if cluster:
        gateways[0].write(WRONG)
        subprocess.run(gateways[0].command("migrate"), check=True, stdout=subprocess.DEVNULL)
    try:
        return measured(engine, arguments, gateways)
    finally:
        for gateway in gateways:
            gateway.kill()
        if cluster:
            cluster.stop()
        backend.shutdown()


def measured(engine, arguments, gateways):
    numbers = random.Random(1)
    for gateway in gateways:
        gateway.run(WRONG)
    progress(f"{engine}: the wrong secret for {arguments.minutes:g} min")
    valid = Load(gateways, CALLERS, arguments.rate, "c", "coin")
    forged = Load(gateways, [FORGER], arguments.forged, "forged-", "gold")
    time.sleep(arguments.minutes * 60)
    valid.stop()
    forged.stop()
    odd, sent, forged_sent = valid.odd + forged.odd, valid.answered, len(forged.answered)
    for gateway in gateways:
        gateway.kill()
    for gateway in gateways:
        gateway.run(SECRET)
    held = int(gateways[0].metric('postern_held_callbacks{source="level-end"}'))
    progress(f"{engine}: {len(sent)} valid, {forged_sent} forged, {held} in quarantine; the secret is right now")
    forged = Load(gateways, [FORGER], arguments.forged, "later-", "gold")
    killed = 0
    for _ in range(arguments.kills):
        before = Backend.calls
        order(gateways[0])
        # At another moment each time.
        wanted = before + 1 + numbers.randrange(max(1, len(sent) // (2 * arguments.kills)))
        until("some are delivered", lambda: Backend.calls >= wanted or state(gateways[0]) == "done")
        for gateway in gateways:
            gateway.kill()
        for gateway in gateways:
            gateway.run(SECRET)
        killed += int(gateways[0].metric('postern_held_callbacks{source="level-end"}')) > held - len(sent)
    began = time.monotonic()
    order(gateways[0])
    until("the release is done", lambda: state(gateways[0]) == "done")
    pending = "/admin/v1/deliveries?state=pending&limit=1"
    until("nothing is pending", lambda: '"deliveries":[]' in gateways[0].admin("GET", pending)[1])
    forged.stop()
    wanted, ids = set(sent), Backend.ids
    return {
        "engine": engine, "minutes": f"{arguments.minutes:g}", "valid": len(sent), "forged": forged_sent + len(forged.answered),
        "in quarantine": held, "killed": killed, "last release": f"{time.monotonic() - began:.0f} s",
        "lost": len(wanted - ids.keys()), "doubled": sum(len(of) > 1 for of in ids.values()),
        # A callback that a caller gave up waiting for may be delivered too; a forged one may not.
        "forged delivered": sum(one.startswith(("forged", "later")) for one in ids),
        "not marked": Backend.unreleased, "odd replies": odd + forged.odd,
        "delivered again under the same id": Backend.calls - len(ids),
    }


RELEASES = {}


def order(gateway):
    status, text = gateway.admin("POST", "/admin/v1/release", {"source": "level-end"})
    if status != 202:
        sys.exit(f"campaign: the release was refused: {status} {text}")
    RELEASES[gateway] = json.loads(text)["id"]


def state(gateway):
    status, text = gateway.admin("GET", f"/admin/v1/release/{RELEASES[gateway]}")
    return json.loads(text)["state"] if status == 200 else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/postern", help="the gateway (default: %(default)s)")
    parser.add_argument("--engine", choices=["embedded", "postgres"], help="one of the two (default: both, one after the other)")
    parser.add_argument("--minutes", type=float, default=60, help="of the wrong secret (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=20, help="valid callbacks a second (default: %(default)s)")
    parser.add_argument("--forged", type=float, default=20, help="forged callbacks a second (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=3, help="of a release that runs (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.binary = Path(arguments.binary).resolve()
    rows = []
    for engine in [arguments.engine] if arguments.engine else ["embedded", "postgres"]:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(campaign(engine, arguments, Path(folder)))
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{value:,}" if isinstance(value, int) else value for value in row.values()) + " |")
    wrong = [row for row in rows if row["lost"] or row["doubled"] or row["forged delivered"] or row["not marked"] or not row["valid"]]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
