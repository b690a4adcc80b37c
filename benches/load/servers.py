"""The servers of `make load`: Postern, the bare one, and peers, each pinned to a core, with its log in a file."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from calls import SECRET, SHARED, secret_of

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
TICKS = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 30
# Sources of the row that has several.
SOURCES = 16
# Where `scripts/setup load` unpacks peers; Debian has nginx outside of a user's PATH.
os.environ["PATH"] += os.pathsep + os.pathsep.join(
    str(path) for path in (TARGET.resolve() / "tools/usr/bin", TARGET.resolve() / "tools/usr/sbin", Path("/usr/sbin")))

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

MORE_SOURCES = """
[[source]]
name = "hmac"
sender = "standard-webhooks"
secrets = "{shared}"

[[source]]
name = "key"
sender = "standard-webhooks"
secrets = "whpk_{public}"

[[source]]
name = "delivered"
sender = "taku"
secrets = "{delivered}"
destinations = ["sink"]

[[destination]]
name = "sink"
url = "http://127.0.0.1:{sink}/rewards"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 '{{"code":0,"message":"done"}}'; }}
    }}
}}
"""


def fail(text):
    sys.exit(f"load: {text}")


def progress(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return probe_socket.getsockname()[1]


def get(url):
    # Whatever proxy the environment names, this is the loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return answer.read().decode()


class Server:
    """A server under test, pinned to a core, with its log in a file."""

    def __init__(self, command, log, port, pin, environment=None):
        self.port, self.log, self.admin = port, log, None
        with open(log, "wb") as out:
            self.process = subprocess.Popen([*pin, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env={**os.environ, **(environment or {})})

    def wait(self, ask):
        """Waits until `ask` no longer raises."""
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                return ask()
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.stop()
                    said = self.log.read_text(errors="replace")[-2000:]
                    fail(f"{self.process.args[-4:]} is not ready ({error}); it said:\n{said}")
            time.sleep(0.05)

    def wait_for_port(self):
        self.wait(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close())
        return self

    def processes(self):
        """Its process, and those of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def processor(self):
        """User and system seconds so far: of its threads, its workers, and the programs that it ran."""
        user = system = 0
        for process in self.processes():
            try:
                stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue            # a program that it ran has just ended
            user += int(stat[11]) + int(stat[13])
            system += int(stat[12]) + int(stat[14])
        return user / TICKS, system / TICKS

    def memory(self):
        """Megabytes in memory, of its process and its workers."""
        total = 0
        for process in self.processes():
            try:
                total += int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1])
            except (OSError, TypeError):
                continue
        return total / 1024

    def outcomes(self):
        """Callbacks by outcome so far; nothing for the other servers."""
        if self.admin is None:
            return {}
        counts = {}
        for labels, value in re.findall(r"(?m)^postern_callbacks_total\{([^}]*)\} (\S+)$", get(f"{self.admin}/metrics")):
            outcome = re.search(r'outcome="(\w+)"', labels)[1]
            counts[outcome] = counts.get(outcome, 0) + float(value)
        return counts

    def backlog(self):
        """Deliveries that are not made yet."""
        found = re.findall(r"(?m)^postern_delivery_backlog\{[^}]*\} (\d+)$", get(f"{self.admin}/metrics"))
        return sum(map(int, found))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start_bare(folder, pin, name="bare"):
    port = free_port()
    return Server([TARGET / "release/examples/bare_hyper", f"127.0.0.1:{port}"], folder / f"{name}.log", port, pin).wait_for_port()


def start_nginx(folder, pin):
    port, config = free_port(), folder.resolve() / "nginx.conf"
    config.write_text(NGINX.format(folder=folder.resolve(), port=port))
    return Server(["nginx", "-c", config, "-p", folder.resolve(), "-e", "stderr"], folder / "nginx.log", port, pin).wait_for_port()


def start_webhook(folder, pin):
    port, hooks = free_port(), folder.resolve() / "hooks.json"
    match = {"type": "payload-hmac-sha256", "secret": SHARED.decode("latin-1"),
             "parameter": {"source": "header", "name": "X-Signature"}}
    hooks.write_text(json.dumps([{"id": "load", "execute-command": "/bin/true", "trigger-rule": {"match": match}}]))
    command = ["webhook", "-hooks", hooks, "-ip", "127.0.0.1", "-port", port]
    return Server(command, folder / "webhook.log", port, pin).wait_for_port()


def certificate(folder):
    """Certificate and key for the loopback address."""
    chain, key = folder.resolve() / "chain.pem", folder.resolve() / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain],
                   check=True, capture_output=True)
    return chain, key


def start_postern(folder, pin, name="postern", sink=None, public="", tls=False, environment=None):
    """Postern with one source; with those of all rows if there is a `sink`."""
    store, config = folder / f"{name}-store", folder / f"{name}.toml"
    shutil.rmtree(store, ignore_errors=True)
    port, admin = free_port(), free_port()
    text = CONFIG
    if tls:
        chain, key = certificate(folder)
        text = text.replace("\n[store]", f'tls = {{{{ cert = "{chain}", key = "{key}" }}}}\n\n[store]')
    if sink:
        text += MORE_SOURCES
        names = [f"load{number}" for number in range(SOURCES)]
        text += "".join(f'\n[[source]]\nname = "{name}"\nsender = "taku"\nsecrets = "{secret_of(name)}"\n' for name in names)
    config.write_text(text.format(callbacks=port, admin=admin, store=store.resolve(), secret=SECRET, sink=sink, public=public,
                                  delivered=secret_of("delivered"), shared="whsec_" + base64.b64encode(SHARED).decode()))
    command = [TARGET / "release/postern", "serve", "--config", config]
    server = Server(command, folder / f"{name}.log", port, pin, environment)
    server.admin, server.store = f"http://127.0.0.1:{admin}", store
    server.wait(lambda: get(f"{server.admin}/readyz"))
    return server
