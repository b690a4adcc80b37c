#!/usr/bin/env python3
"""User instructions of a callback and of a delivery: `make instructions`, or `make instructions ARGS="--callbacks 1000"`.

The release build runs under valgrind's callgrind, which counts each instruction in user space. So the figures repeat
within 1 %, on a busy machine too, unlike times. Each kind of callback is sent over 16 connections, in turn, after a
warm-up that is not counted: three have a query, and `message` is a new one of Standard Webhooks with 1 kB of JSON. valgrind hides the processor's SHA instructions, and SHA-256 runs in software there: its
compression is counted apart, and the gate is on the rest. Kernel and disk are not counted.

A delivery is measured on a second gateway: events are recorded while their destination is paused, then it is resumed, and
everything that the gateway does until the last one is settled is divided by their number. The backend is a small server
outside of valgrind, which answers 200 at once.

`allowed.txt`, beside this file, has the most that each kind may take. Above it, the exit code is 1.
"""

import argparse
import asyncio
import base64
import contextlib
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALLOWED = HERE / "allowed.txt"
READY_SECONDS = 120
# What SHA-256 does in software is the processor's work outside valgrind.
HARDWARE = re.compile(r"sha2.*compress|compress256|sha256.*digest_blocks")
# The last attempts are settled after the backend has answered them.
SETTLED_SECONDS = 1
DESTINATION = """destinations = ["backend"]

[[destination]]
name = "backend"
url = "http://127.0.0.1:{backend}/rewards"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""
MESSAGES = """
[[source]]
name = "hmac"
sender = "standard-webhooks"
secrets = "{shared}"
"""


def load_module():
    """The requests and the configuration are those of `make load`."""
    spec = importlib.util.spec_from_file_location("load", HERE.parent / "load" / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["load"] = module
    spec.loader.exec_module(module)
    return module


LOAD = load_module()


def fail(text):
    sys.exit(f"instructions: {text}")


# ---- the server -----------------------------------------------------------------------------------------------

class Server:
    """Postern under callgrind."""

    def __init__(self, folder, program, backend=None):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.port, admin = folder, LOAD.free_port(), LOAD.free_port()
        self.admin = f"http://127.0.0.1:{admin}"
        config = folder / "postern.toml"
        text = LOAD.CONFIG + (DESTINATION if backend else "") + MESSAGES
        config.write_text(text.format(
            callbacks=self.port, admin=admin, store=(folder / "store").resolve(), secret=LOAD.SECRET, backend=backend,
            shared="whsec_" + base64.b64encode(LOAD.SHARED).decode()))
        self.log, self.dumps = folder / "postern.log", 0
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--fair-sched=yes", "--compress-strings=no",
                   "--compress-pos=no", f"--callgrind-out-file={folder / 'callgrind.out'}",
                   str(program), "serve", "--config", str(config)]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                LOAD.get(f"{self.admin}/readyz")
                break
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    fail(f"not ready ({error}); it said:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        self.control("-i", "on")

    def control(self, *order):
        done = subprocess.run(["callgrind_control", *order, str(self.process.pid)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"callgrind_control {' '.join(order)} failed:\n{done.stdout}{done.stderr}")

    def counted(self, name):
        """Instructions since the last zero by function, and the file that holds them."""
        self.control(f"--dump={name}")
        self.dumps += 1
        path = self.folder / f"callgrind.out.{self.dumps}"
        until = time.monotonic() + 30
        while not path.exists() or "totals:" not in path.read_text(errors="replace"):
            if time.monotonic() > until:
                fail(f"{path} was not written")
            time.sleep(0.1)
        return own_costs(path), path

    def order(self, path):
        """One call of the admin API."""
        token = (self.folder / "store" / "admin-token").read_text().strip()
        request = urllib.request.Request(f"{self.admin}{path}", method="POST", data=b"",
                                         headers={"Authorization": f"Bearer {token}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return reply.read()

    def backlog(self):
        page = LOAD.get(f"{self.admin}/metrics")
        return int(re.search(r'(?m)^postern_delivery_backlog\{destination="backend"\} (\d+)$', page)[1])

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def own_costs(path):
    """The instructions of each function without those of its callees, from a dump of callgrind."""
    costs, function, skip = {}, "", False
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("fn="):
            function = line[3:]
        elif line.startswith("calls="):
            skip = True                 # the next line is the cost of the callee
        elif line[:1].isdigit() or line.startswith(("+", "-", "*")):
            if not skip:
                costs[function] = costs.get(function, 0) + int(line.split()[-1])
            skip = False
    return costs


# ---- callbacks ------------------------------------------------------------------------------------------------

def written(line, port):
    """The request of a line as `calls.py` writes them."""
    target, headers, body = (line.rstrip("\n").split("\t") + ["", ""])[:3]
    method, length = ("POST", f"Content-Length: {len(body)}\r\n") if body else ("GET", "")
    headers = "".join(f"{header}\r\n" for header in headers.split("\x1f") if header)
    return f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}{length}\r\n{body}".encode()


def send(port, lines, connections):
    """Sends each line over one of the connections: one to each, then their answers."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(connections)]
        statuses = {}
        for start in range(0, len(lines), connections):
            turn = list(zip(sockets, lines[start:start + connections]))
            for one, line in turn:
                one.sendall(written(line, port))
            for one, _ in turn:
                status = answer(one)
                statuses[status] = statuses.get(status, 0) + 1
        return statuses


def answer(one):
    """The status of one answer, which is read to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(one)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while len(body) < int(length[1] if length else 0):
        body += received(one)
    return int(head.split()[1])


def received(one):
    data = one.recv(65536)
    if not data:
        fail("the server closed a connection")
    return data


# ---- deliveries -----------------------------------------------------------------------------------------------

class Backend(asyncio.Protocol):
    """Reads requests with a Content-Length, and answers each with 200 and a short body."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    served = 0

    def __init__(self):
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, _, rest = self.data.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            if len(rest) < length:
                return
            self.data = rest[length:]
            Backend.served += 1
            self.transport.write(self.ANSWER)

    @classmethod
    def start(cls):
        """Serves on a thread of its own; the port."""
        loop, port = asyncio.new_event_loop(), LOAD.free_port()
        loop.run_until_complete(loop.create_server(cls, "127.0.0.1", port))
        threading.Thread(target=loop.run_forever, daemon=True).start()
        return port

    @classmethod
    def wait(cls, count):
        until = time.monotonic() + READY_SECONDS
        while cls.served < count:
            if time.monotonic() > until:
                fail(f"{count - cls.served} of {count} events were not delivered")
            time.sleep(0.05)
        time.sleep(SETTLED_SECONDS)


def drain(server, first, count, connections):
    """Has `count` events recorded and delivered; what the deliveries cost, by function, and the file that holds it."""
    server.order("/admin/v1/destinations/backend/pause")
    send(server.port, [LOAD.target(number, LOAD.SECRET) for number in range(first, first + count)], connections)
    server.control("--zero")
    served = Backend.served
    server.order("/admin/v1/destinations/backend/resume")
    Backend.wait(served + count)
    costs, path = server.counted("delivery")
    if left := server.backlog():
        fail(f"{left} of {count} events were not delivered")
    if Backend.served != served + count:
        fail(f"{count} events were delivered {Backend.served - served} times")
    return costs, path


# ---- the whole ------------------------------------------------------------------------------------------------

def kinds(warm_up, callbacks):
    """Each kind with its warm-up and the lines that are counted."""
    def signed(start, count, secret=LOAD.SECRET):
        return [LOAD.target(number, secret) for number in range(start, start + count)]
    def messages(start, count):
        seconds = str(int(time.time()))
        return [LOAD.hmac_call(number, seconds) for number in range(start, start + count)]
    fresh = signed(warm_up, callbacks)
    return [
        ("recorded", signed(0, warm_up), fresh),
        ("duplicate", signed(0, warm_up), fresh),
        ("forged", signed(0, warm_up, "not the secret"), signed(warm_up, callbacks, "not the secret")),
        ("message", messages(0, warm_up), messages(warm_up, callbacks)),
    ]


def allowed():
    pairs = [line.split() for line in ALLOWED.read_text().splitlines() if line and not line.startswith("#")]
    return {kind: int(most.replace(",", "")) for kind, most in pairs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callbacks", type=int, default=3000, help="of each kind, counted; as many deliveries")
    parser.add_argument("--warm-up", type=int, default=400, help="of each kind, not counted")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--program", type=Path, default=LOAD.TARGET / "release/postern")
    parser.add_argument("--folder", type=Path, default=LOAD.TARGET / "instructions", help="store, log and profiles")
    parser.add_argument("--only", choices=["callbacks", "delivery"], help="only these kinds")
    parser.add_argument("--no-gate", action="store_true", help="for builds of another profile: print only")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        fail("valgrind is not installed; run `apt-get install valgrind`")
    most, over = allowed(), []

    def show(kind, costs, path):
        total = sum(costs.values()) / options.callbacks
        hardware = sum(cost for name, cost in costs.items() if HARDWARE.search(name)) / options.callbacks
        without = total - hardware
        print(f"| {kind} | {total:,.0f} | {hardware:,.0f} | **{without:,.0f}** | {most[kind]:,} |", flush=True)
        if without > most[kind]:
            over.append(f"{kind} takes {without:,.0f} instructions, {most[kind]:,} are allowed; "
                        f"see `callgrind_annotate {path}`")

    print(f"{LOAD.machine()}; {options.callbacks} of each kind, {options.connections} connections.\n")
    print("| kind | instructions | of them SHA-256 | without | allowed |\n|---|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        if options.only != "delivery":
            server = Server(options.folder, options.program)
            stack.callback(server.stop)
            for kind, warm_up, targets in kinds(options.warm_up, options.callbacks):
                send(server.port, warm_up, options.connections)
                server.control("--zero")
                statuses = send(server.port, targets, options.connections)
                costs, path = server.counted(kind)
                if len(statuses) != 1:
                    fail(f"{kind}: statuses {statuses}")
                show(kind, costs, path)
            files = (options.folder / "store").rglob("*")
            size = sum(file.stat().st_blocks * 512 for file in files if file.is_file())
        if options.only != "callbacks":
            server = Server(options.folder.with_name(f"{options.folder.name}-delivery"), options.program, Backend.start())
            stack.callback(server.stop)
            drain(server, 0, options.warm_up, options.connections)
            show("delivery", *drain(server, options.warm_up, options.callbacks, options.connections))
        if options.only != "delivery":
            print(f"\nThe store takes {size:,} bytes on disk, zeros that are written ahead included.")
    if over and not options.no_gate:
        fail("\n".join(over))


if __name__ == "__main__":
    main()
