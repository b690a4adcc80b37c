#!/usr/bin/env python3
"""User instructions of a callback: `make instructions`, or `make instructions ARGS="--callbacks 1000"`.

The release build runs under valgrind's callgrind, which counts each instruction in user space. So the figures repeat
within 1 %, on a busy machine too, unlike times. Each kind of callback is sent over 16 connections, in turn, after a
warm-up that is not counted. valgrind hides the processor's SHA instructions, and SHA-256 runs in software there: its
compression is counted apart, and the gate is on the rest. Kernel and disk are not counted.

`allowed.txt`, beside this file, has the most that each kind may take. Above it, the exit code is 1.
"""

import argparse
import contextlib
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALLOWED = HERE / "allowed.txt"
READY_SECONDS = 120
# What SHA-256 does in software is the processor's work outside valgrind.
HARDWARE = re.compile(r"sha2.*compress|compress256|sha256.*digest_blocks")


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

    def __init__(self, folder, program):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.port, admin = folder, LOAD.free_port(), LOAD.free_port()
        config = folder / "postern.toml"
        config.write_text(LOAD.CONFIG.format(
            callbacks=self.port, admin=admin, store=(folder / "store").resolve(), secret=LOAD.SECRET))
        self.log, self.dumps = folder / "postern.log", 0
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--fair-sched=yes", "--compress-strings=no",
                   "--compress-pos=no", f"--callgrind-out-file={folder / 'callgrind.out'}",
                   str(program), "serve", "--config", str(config)]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                LOAD.get(f"http://127.0.0.1:{admin}/readyz")
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

def send(port, targets, connections):
    """Sends each target over one of the connections: one to each, then their answers."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(connections)]
        statuses = {}
        for start in range(0, len(targets), connections):
            turn = list(zip(sockets, targets[start:start + connections]))
            for one, target in turn:
                head = f"GET {target.strip()} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
                one.sendall(head.encode())
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


# ---- the whole ------------------------------------------------------------------------------------------------

def kinds(warm_up, callbacks):
    """Each kind with its warm-up and the targets that are counted."""
    def signed(start, count, secret=LOAD.SECRET):
        return [LOAD.target(number, secret) for number in range(start, start + count)]
    fresh = signed(warm_up, callbacks)
    return [
        ("recorded", signed(0, warm_up), fresh),
        ("duplicate", signed(0, warm_up), fresh),
        ("forged", signed(0, warm_up, "not the secret"), signed(warm_up, callbacks, "not the secret")),
    ]


def allowed():
    pairs = [line.split() for line in ALLOWED.read_text().splitlines() if line and not line.startswith("#")]
    return {kind: int(most.replace(",", "")) for kind, most in pairs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callbacks", type=int, default=3000, help="of each kind, counted")
    parser.add_argument("--warm-up", type=int, default=400, help="of each kind, not counted")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--program", type=Path, default=LOAD.TARGET / "release/postern")
    parser.add_argument("--folder", type=Path, default=LOAD.TARGET / "instructions", help="store, log and profiles")
    parser.add_argument("--no-gate", action="store_true", help="for builds of another profile: print only")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        fail("valgrind is not installed; run `apt-get install valgrind`")
    most, over = allowed(), []
    server = Server(options.folder, options.program)
    try:
        print(f"{LOAD.machine()}; {options.callbacks} callbacks of each kind, {options.connections} connections.\n")
        print("| callback | instructions | of them SHA-256 | without | allowed |\n|---|---|---|---|---|")
        for kind, warm_up, targets in kinds(options.warm_up, options.callbacks):
            send(server.port, warm_up, options.connections)
            server.control("--zero")
            statuses = send(server.port, targets, options.connections)
            costs, path = server.counted(kind)
            if len(statuses) != 1:
                fail(f"{kind}: statuses {statuses}")
            total = sum(costs.values()) / len(targets)
            hardware = sum(cost for name, cost in costs.items() if HARDWARE.search(name)) / len(targets)
            without = total - hardware
            print(f"| {kind} | {total:,.0f} | {hardware:,.0f} | **{without:,.0f}** | {most[kind]:,} |", flush=True)
            if without > most[kind]:
                over.append(f"{kind} takes {without:,.0f} instructions, {most[kind]:,} are allowed; "
                            f"see `callgrind_annotate {path}`")
        size = sum(file.stat().st_blocks * 512 for file in (options.folder / "store").rglob("*") if file.is_file())
        print(f"\nThe store takes {size:,} bytes on disk, zeros that are written ahead included.")
    finally:
        server.stop()
    if over and not options.no_gate:
        fail("\n".join(over))


if __name__ == "__main__":
    main()
