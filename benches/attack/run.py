#!/usr/bin/env python3
"""What an attacker tried, against the release build: `make attack`, or `make attack ARGS="--connections 2000"`.

Two parts. The hostile calls: each row is one kind of attempt, with how many were made and how many were defended. The
crowd: one address (127.0.0.3) holds every connection with a half-sent head, and as much of the body pool as it gets, while an
honest sender (127.0.0.5) calls; its latency and the gateway's memory are compared to the calm case *of the same run*,
because absolute figures of a shared machine drift.

Nothing leaves the loopback interface. Exits with 1 if an attempt got through, or an honest call got no answer in time.
"""

import argparse
import contextlib
import hashlib
import http.server
import json
import multiprocessing
import os
import random
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import xml.etree.ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECRET = "0123456789abcdefghijklmnopqrstuv"
TOKEN = "attack-suite-token-0123456789"
READER = "attack-suite-reader-0123456789"
PUBLISHER, APP, PUSH_SECRET = "attack-publisher-key", "wx0000000000000001", "gatewaytoken"
HIDDEN = "survey-9f3b71c0e2d84a5566778899aabbccdd"
LOUD, HONEST = "127.0.0.3", "127.0.0.5"
# How long an honest sender waits: Taku's two seconds.
PATIENCE = 2.0
# An attacker's own timeout, in seconds: longer than every limit of the gateway.
HOLD = 30
BODY = 256 * 1024
# Files that the gateway has open besides connections.
FILES = 1000
POOL = 64 * 1024 * 1024

CONFIG = """
senders = ["{root}/tests/it/form.toml"]

[server]
callbacks = "127.0.0.1:{callbacks}"
admin = "{admin_host}:{admin}"
drain = "1s"
limits = {{ connections = {connections} }}

[store]
path = "{folder}/data"

{tokens}

[egress]
allow = ["127.0.0.0/8"]

[[source]]
name = "honest"
sender = "taku"
secrets = "{secret}"
replayable = true

[[source]]
name = "limited"
sender = "taku"
secrets = "{secret}"
replayable = true
rate = "5/h"

[[source]]
name = "templated"
sender = "taku"
secrets = "{secret}"
replayable = true
destinations = ["template"]

[[destination]]
name = "template"
url = "http://127.0.0.1:{backend}/tpl/{{user}}/grant"
format = "template"

[[source]]
name = "form"
sender = "form"
secrets = "k"

[[source]]
name = "{hidden}"
sender = "unsigned"
unsigned = true

[[source]]
name = "wecom"
sender = "wecom"
secrets = "QDG6eK"
aes_key = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
corp_id = "wx5823bf96d3bd56c7"
max_age = "off"

[[source]]
name = "feishu"
sender = "feishu"
secrets = "kR8bVnX2pQ7mZ4tY"
max_age = "off"

[[source]]
name = "wx"
sender = "wechat-push"
secrets = "{push_secret}"
app_id = "{app}"
destinations = ["game"]

[[destination]]
name = "game"
url = "http://127.0.0.1:{backend}/game"

[[destination]]
name = "container"
url = "http://127.0.0.1:{backend}/base"
push_apps = ["{app}"]
push_path = "/wechat"

[[destination]]
name = "evt"
url = "http://127.0.0.1:{backend}/evt"
headers = {{ Authorization = "Bearer accounting" }}

[manage.push_config]
apps = [{{ app_id = "{app}", secret = "app-secret" }}]

[manage.reward_rule]
publishers = [{{ key = "{publisher}" }}]
"""

TOKENS = f"""[admin]
token = [
    {{ name = "ops", value = "{TOKEN}" }},
    {{ name = "scraper", value = "{READER}", right = "read" }},
]"""


def progress(text):
    print(text, file=sys.stderr, flush=True)


# ---- requests -------------------------------------------------------------------------------------------------

def taku(source, transaction, user="u1"):
    """The target of a signed callback."""
    signed = (f"trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin"
              f"&sec_key={SECRET}")
    sign = hashlib.md5(signed.encode()).hexdigest()
    return (f"/callback/{source}?user_id={user}&trans_id={transaction}&placement_id=p1&adsource_id=9"
            f"&reward_amount=10&reward_name=coin&sign={sign}")


def ask(port, data, own="127.0.0.1", patience=HOLD):
    """The status of the first answer to `data` on a connection of its own, and everything that came; 0 if it was closed
    without one, None if nothing came in time."""
    with socket.socket() as connection:
        connection.settimeout(patience)
        connection.bind((own, 0))
        came = b""
        try:
            connection.connect(("127.0.0.1", port))
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                came += piece
        except TimeoutError:
            return (int(came[9:12]) if came.startswith(b"HTTP/1.") else None), came
        except OSError:
            pass
        return (int(came[9:12]) if came.startswith(b"HTTP/1.") else 0), came


def request(method, target, headers=(), body=b""):
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def api(gateway, method, path, value=None, token=TOKEN):
    headers = [f"Authorization: Bearer {token}"] if token else []
    body = json.dumps(value).encode() if value is not None else b""
    return ask(gateway.admin, request(method, path, headers, body))


# ---- the gateway and a backend --------------------------------------------------------------------------------

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Backend(http.server.BaseHTTPRequestHandler):
    """Keeps the paths that it is called at, and the bodies."""

    paths = []
    bodies = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        Backend.bodies.append((self.path, body))
        Backend.paths.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Gateway:
    """A gateway with its own folder."""

    def __init__(self, arguments, folder, admin_host, tokens):
        self.folder, self.callbacks, self.admin = Path(folder), free_port(), free_port()
        self.backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        threading.Thread(target=self.backend.serve_forever, daemon=True).start()
        config = self.folder / "postern.toml"
        config.write_text(CONFIG.format(
            root=ROOT, callbacks=self.callbacks, admin_host=admin_host, admin=self.admin, folder=folder, tokens=tokens,
            secret=SECRET, hidden=HIDDEN, publisher=PUBLISHER, app=APP, push_secret=PUSH_SECRET, backend=self.backend.server_port, connections=arguments.connections))
        self.config = config
        self.log = open(self.folder / "log", "wb")
        command = f"umask 000; exec {arguments.binary} serve --config {config}"
        self.process = subprocess.Popen(["sh", "-c", command], stdout=self.log, stderr=self.log)
        for _ in range(300):
            time.sleep(0.1)
            with contextlib.suppress(OSError):
                if ask(self.admin, request("GET", "/readyz"), patience=5)[0] == 200:
                    return
        sys.exit("attack: the gateway did not start:\n" + Path(self.log.name).read_text()[-2000:])

    def lines(self, word):
        return sum(word in line for line in (self.folder / "log").read_text(errors="replace").splitlines())

    def metric(self, series):
        page = api(self, "GET", "/metrics")[1].decode()
        found = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith(series)]
        return sum(map(float, found))

    def rss(self):
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.backend.shutdown()


# ---- the hostile calls ----------------------------------------------------------------------------------------

class Table:
    """Rows of attempts."""

    def __init__(self):
        self.rows = []

    def row(self, case, what, results):
        """Adds a row; `results` says of each attempt whether it was defended."""
        results = list(results)
        self.rows.append((case, what, len(results), sum(map(bool, results))))
        progress(f"  {case:8} {what}: {sum(map(bool, results))} of {len(results)}")

    def failed(self):
        return [row for row in self.rows if row[2] != row[3] or not row[2]]

    def show(self):
        print("\n| case | attempts | made | defended |\n|---|---|---:|---:|")
        for case, what, made, defended in self.rows:
            print(f"| {case} | {what} | {made:,} | {defended:,}{'' if made == defended else ' **FAILED**'} |")


def heads(gateway, table):
    """F21, F22: heads that two readers could read in two ways."""
    port, good = gateway.callbacks, taku("honest", "head-1")
    bad = {
        "no Host": f"GET {good} HTTP/1.1\r\n\r\n",
        "two Hosts": f"GET {good} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "two lengths": "POST /callback/form HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "0\r\n\r\n",
        "user in Host": f"GET {good} HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "space in target": "GET /callback/honest?a= b HTTP/1.1\r\nHost: a\r\n\r\n",
        "control byte": "GET /callback/honest?a=\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    }
    table.row("F22", "heads that RFC 9112 refuses, on two listeners",
              [ask(to, text.encode("latin-1"))[0] == 400 for text in bad.values() for to in (port, gateway.admin)])
    odd = [f"http://h?\"{good}", f"http://h#{good}", f"http://h\"{good}", f"https://h?<@evil{good}", f"HTTP://h<{good}"]
    table.row("F21", "absolute targets whose authority ends elsewhere",
              [ask(port, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())[0] in (400, 404) for target in odd])
    numbers = random.Random(1)
    seed = request("GET", good)
    results = []
    for _ in range(2000):
        data = bytearray(seed)
        for _ in range(numbers.randint(1, 6)):
            data[numbers.randrange(len(data))] = numbers.randrange(256)
        status, _ = ask(port, bytes(data))
        # 601 and the like are replies of Taku.
        results.append(status is not None and not 500 <= status < 600)
    table.row("F22", "a signed call with one to six random bytes", results)
    accepted = gateway.metric('postern_callbacks_total{outcome="accepted",source="honest"}')
    table.row("F1–F8", "events that those calls made: one at most", [accepted <= 1])


def replays(gateway, table):
    """F14: one captured call, again and again."""
    captured = request("GET", taku("limited", "captured"))
    results = [ask(gateway.callbacks, captured)[0] == 200 for _ in range(1000)]
    table.row("F14", "repeats of a captured call, answered as the first", results)
    fresh = [ask(gateway.callbacks, request("GET", taku("limited", f"new-{n}")))[0] == 200 for n in range(4)]
    table.row("F14", "new calls within the rate after them", fresh)
    accepted = gateway.metric('postern_callbacks_total{outcome="accepted",source="limited"}')
    table.row("F14", "events: one for each transaction", [accepted == 5])
    table.row("F14", "log lines of the repeats: under 200", [gateway.lines('"transaction":"captured"') < 200])


def access(gateway, loopback, table):
    """F9, F10, F17, F28: what is seen and done without a token."""
    page = api(gateway, "GET", "/metrics", token=READER)
    table.row("F9", "/metrics off loopback without a token, or with a wrong one",
              [api(gateway, "GET", "/metrics", token=token)[0] == 401 for token in (None, "wrong-token-0123456789")])
    table.row("F9", "pages that hold the name of a secret path", [page[0] == 200 and HIDDEN.encode() not in page[1]])
    changes = [("GET", "/admin/v1/export"), ("PUT", "/admin/v1/destinations/x"), ("DELETE", "/admin/v1/sources/honest"),
               ("POST", "/admin/v1/replay"), ("POST", "/admin/v1/verify"), ("POST", "/admin/v1/destinations/x/test")]
    table.row("F17", "changes and exports on loopback without a token",
              [api(loopback, method, path, {}, None)[0] == 401 for method, path in changes])
    table.row("F17", "reads and changes off loopback with no token, changes with a read token",
              [api(gateway, *change, {}, token)[0] in (401, 403) for change in changes for token in (None, READER)])
    guesses = [api(gateway, "GET", "/admin/v1/events", token=f"guess-{n}-0123456789")[0] for n in range(24)]
    table.row("F28", "guesses at a token", [status in (401, 429) for status in guesses])
    names = ["reward-callback-production-2026", "my-secret-callback-name-1234", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
    results = []
    for name in names:
        text = gateway.config.read_text().replace(HIDDEN, name)
        file = gateway.folder / "guessable.toml"
        file.write_text(text)
        results.append(subprocess.run([gateway.binary, "check", "--config", file], capture_output=True).returncode != 0)
    table.row("F10", "names that can be guessed, in place of a signature", results)


def outbound(gateway, table):
    """F11, F20, F26: where the gateway lets itself be sent."""
    forbidden = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "100.96.0.96", "[fd00:ec2::254]", "0.0.0.0",
                 "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe", "[64:ff9b::a9fe:a9fe]"]
    put = [api(gateway, "PUT", "/admin/v1/destinations/x", {"url": f"https://{host}/a"})[0] for host in forbidden]
    table.row("F26", "destinations at metadata addresses, in ten writings", [status == 422 for status in put])
    secret = {"Authorization": "Bearer TOPSECRET-DEST"}
    made = api(gateway, "PUT", "/admin/v1/destinations/own", {"url": "http://127.0.0.1:9/a", "headers": secret})
    masked = {"Authorization": "***"}
    moved = [api(gateway, "PUT", "/admin/v1/destinations/own", {"url": url, "headers": masked})[0] == 422
             for url in ("http://127.0.0.1:10/a", "https://127.0.0.1:9/a", "http://127.0.0.2:9/a", "http://u@127.0.0.1:8/a")]
    table.row("F11", "a masked secret under another server", [made[0] == 201, *moved])
    users = ["..", ".", "%2e%2e", "..%2f..%2fadmin", "a%2f..%2f.."]
    for number, user in enumerate(users):
        ask(gateway.callbacks, request("GET", taku("templated", f"dots-{number}", user)))
    ask(gateway.callbacks, request("GET", taku("templated", "dots-end", "plain")))
    deadline = time.monotonic() + 20
    while not any("plain" in path for path in Backend.paths) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    climbs = [path for path in Backend.paths if any(part in (".", "..") for part in path.split("/"))]
    table.row("F20", "users with dot segments in a URL: calls that climb", [not climbs and Backend.paths] * len(users))


def machine(gateway, table):
    """F16, F30: what lies on the disk, and in a core file."""
    modes = [path.stat().st_mode & 0o077 == 0 for path in (gateway.folder / "data").rglob("*")]
    table.row("F16", "files and folders of the store under umask 000: private", modes)
    limits = Path(f"/proc/{gateway.process.pid}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    table.row("F30", "core dumps: off", [core.split()[4] == "0"])
    exported = gateway.folder / "x.export"
    run = subprocess.run([gateway.binary, "export", "--config", gateway.config, "--output", exported],
                         capture_output=True, env={**os.environ, "POSTERN_TOKEN": TOKEN})
    if run.returncode == 0:
        table.row("F16", "an export: private", [exported.stat().st_mode & 0o077 == 0])


def contents(gateway, table):
    """F24, F27: what a body or a value may be."""
    deep = [b"<a>" * 5000, b'{"a":' * 5000, b"[" * 100000]
    table.row("F27", "bodies that nest without end",
              [ask(gateway.callbacks, request("POST", "/callback/form", body=body))[0] in (400, 403) for body in deep])
    table.row("F27", "the same over the admin API",
              [ask(gateway.admin, request("PUT", "/admin/v1/destinations/x", [f"Authorization: Bearer {TOKEN}"], body))[0]
               in (400, 422) for body in deep])
    for byte in ("%ff", "%fe"):
        ask(gateway.callbacks, request("GET", f"/callback/{HIDDEN}?transaction=bytes-{byte}"))
    events = json.loads(api(gateway, "GET", "/admin/v1/events")[1].split(b"\r\n\r\n", 1)[1] or b"{}").get("events", [])
    shown = [event["transaction"] for event in events if event["transaction"].startswith("bytes-")]
    table.row("F24", "transactions that are not UTF-8: not two events of one text", [len(shown) == len(set(shown))])


# ---- sealed messages, push configuration, management -------------------------------------------------------------

CHECK = ("/callback/wecom?msg_signature=cf0bc9a432abb7cc41ea54ce030a18b803b28090&timestamp=1700000000&nonce=n1&echostr=sKqRbbiSU"
         "nDhFHOvPjtUMWzf2R8PrpMiTTPaicBgqZlYW%2FWsF6SiFd2z9CriX2YpWYzF1yrNNQ0SomM3ovdnfA%3D%3D")
# A message in place of the random number, under its own signature.
MESSAGE = ("/callback/wecom?msg_signature=2e7471ebb1ff7ac606b38397d542ebd4e3426d42&timestamp=1700000000&nonce=n2&echostr=P9TP8OO8Z"
           "pJE35Ha%2F87%2B5HiSsqDi8HiWpin7CdzIpdnd6okLAszMIDLN6A9er7vvvxeRMgtbll8h5vNUFP7RAEWxVEqOBhK%2Bkn52z7Edt%2F5B1E0utXyJia"
           "1N39fkZNyaH%2BalQkekEL8y5hW3%2FWbqHXvp9yYBnm9HmrAQ6qbrwA%2FSXwN%2Fo51sn1Xg6Oc%2B3UL4Fl1C3Ft2k0D6VVyngfC54UvkW3l4xUvn"
           "BvQ4JtLL0pcT3tDwrwwai6%2FfrChiJtXQLUuS47AVo%2FCjMeBzkf7rHDTta7VXSUVd5QuaGqjDBWBH%2BQuLMxcNorqNvPzkBS%2BC9dlwOJ3oAvBt"
           "qKBYsJoia8BPXKoNUaxc5lggru4w15h4ks%2FDMwLjzpH%2BpM1VNXK7QbsulnWGsnFgXUZLzuhed6zAbE8WXiA35z6dxsVm3fo%3D")
SEALED = (b'{"encrypt":"ZmVkY2JhOTg3NjU0MzIxMOsfrl2Y8Vg7xZL6wOWyiUs7nCpwQ3IKwa/Jd6D8Rfn+Ue6SASeSefbdpkL3wD9lyWRM6XNYsaUWDTmm2l'
          b'fGY9FlnivHBWcjj8QSS0M3wPzGd5VzlZEtrmu/0bxbeOXbamnCB1EuGfK0+2d5YxNSgZPN+r+L6oguvdvYHMgNZEn65eXfHgOa5fSX5lLkKIUrHFI0yX'
          b'3Qj2VOoJ3sGHFOSk1iMy6uFLuEIRwg/VYO0il+y1pPXCL91QIEF2cEYccxA0dn+tZzbIoAxO4hSdFQRNI="}')
SEALED_HEADERS = ["X-Lark-Request-Timestamp: 1700000000", "X-Lark-Request-Nonce: n-1",
                  "X-Lark-Signature: e7b966363b7945573c3f34fda1029092fd2df54ecf0dc02f0dc095a6e1c1498b",
                  "Content-Type: application/json"]


def reached(path, seconds=20):
    """The bodies that came to `path`, once there is one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := [body for came, body in Backend.bodies if came == path]:
            return found
        time.sleep(0.05)
    return []


def sealed(gateway, table):
    """F12, F25: what a sealed message tells, and to whom."""
    opened = [ask(gateway.callbacks, request("GET", MESSAGE)) for _ in range(5)]
    table.row("F12", "a sealed message sent as an address check: not opened",
              [status == 403 and b"<xml>" not in came for status, came in opened])
    first = ask(gateway.callbacks, request("GET", CHECK))
    again = [ask(gateway.callbacks, request("GET", CHECK)) for _ in range(5)]
    table.row("F12", "an address check, repeated: answered once",
              [first[0] == 200 and b"1616140317555161061" in first[1]] + [status == 403 for status, _ in again])
    status, _ = ask(gateway.callbacks, request("POST", "/callback/feishu", SEALED_HEADERS, SEALED))
    page = api(gateway, "GET", "/admin/v1/events?source=feishu")[1].split(b"\r\n\r\n", 1)[1]
    listed = json.loads(page or b"{}").get("events", [])
    shown = [api(gateway, "GET", f"/admin/v1/events/{event['id']}")[1] for event in listed]
    table.row("F25", "events that show Feishu's verification token",
              [status == 200 and b'"token":"***"' in text for text in shown] or [False])


def pushed(gateway, nonce, message, stamp=None):
    """The status of a message of WeChat in plain mode."""
    stamp = stamp or str(int(time.time()))
    sign = hashlib.sha1("".join(sorted([PUSH_SECRET, stamp, nonce])).encode()).hexdigest()
    target = f"/callback/wx?signature={sign}&timestamp={stamp}&nonce={nonce}"
    return ask(gateway.callbacks, request("POST", target, ["Content-Type: application/json"], json.dumps(message).encode()))[0]


def message(number, **more):
    return {"ToUserName": "gh_1", "FromUserName": "o1", "CreateTime": number, "MsgType": "text", "MsgId": number, **more}


def push(gateway, table):
    """F15, F18, F19: what an app may set, and what one signature may say."""
    stamp = str(int(time.time()))
    for number in range(100, 106):
        pushed(gateway, "one-nonce", message(number), stamp)
    accepted = gateway.metric('postern_callbacks_total{outcome="accepted",source="wx"}')
    table.row("F18", "events of one plain signature with six bodies: one", [accepted == 1] * 6)

    query = f"grant_type=client_credential&appid={APP}&secret=app-secret"
    came = ask(gateway.admin, request("GET", f"/cgi-bin/token?{query}"))[1].split(b"\r\n\r\n", 1)[1]
    token = json.loads(came).get("access_token", "")

    def configured(value):
        target = f"/tcb/setcallbackconfig?access_token={token}"
        came = ask(gateway.admin, request("POST", target, (), json.dumps(value).encode()))[1].split(b"\r\n\r\n", 1)[1]
        return json.loads(came or b"{}").get("errcode")

    def container(env, path, mode=1):
        return {"container_config": {"enable": True, "qbase_env": env, "qbase_container_path": path, "text_mode": mode}}

    refused = [configured(container("evt", "/internal/admin/grant-all")), configured(container("game", "/")),
               configured(container("container", "/internal/admin/grant-all")), configured(container("container", "/wechat/../a"))]
    table.row("F15", "containers that are not the app's, or paths outside of its own", [code not in (0, None) for code in refused])
    calls = [{"msgType": "text", "event": "", "env": "e-1", "functionName": name, "enable": True} for name in ("evt", "game")]
    configured({"function_config": {"enable": True, "callbacks": calls[:1]}})
    pushed(gateway, "to-evt", message(200))
    configured({"function_config": {"enable": False}})
    good = configured(container("container", "/wechat/echo", 2))
    arrays = [[["</Arr></xml><xml><Admin>1</Admin>"]], [[["]]><Admin>1</Admin>"]]], [{"<Admin>1</Admin>": "</xml>"}]]
    for number, array in enumerate(arrays):
        pushed(gateway, f"xml-{number}", message(300 + number, Arr=array))
    deadline = time.monotonic() + 20
    while len(reached("/wechat/echo")) < len(arrays) and time.monotonic() < deadline:
        time.sleep(0.05)
    table.row("F15", "messages that went to a destination of others",
              [good == 0 and reached("/wechat/echo") and not any(path.startswith(("/evt", "/internal")) for path in Backend.paths)])
    texts = reached("/wechat/echo")
    whole = [well_formed(text) for text in texts]
    table.row("F19", "markup in arrays, in XML for containers: text", whole if len(whole) == len(arrays) else [False])


def well_formed(text):
    """Whether it is one document of XML without an element that a message brought."""
    try:
        return not [one for one in xml.etree.ElementTree.fromstring(text).iter() if one.tag == "Admin"]
    except xml.etree.ElementTree.ParseError:
        return False


def rules(gateway, table):
    """F23: a captured call of the reward-rule API, again and again."""
    url = f"http://127.0.0.1:{gateway.backend.server_port}/rule-probe"
    rule = {"rule_name": "level", "reward_name": "coin", "reward_number": 10, "reward_url": url, "remark": "-"}
    body = json.dumps({"items": [rule]}).encode()
    stamp, path = str(int(time.time() * 1000)), "/v3/advanced/reward_rule"
    digest = hashlib.md5(body).hexdigest().upper()
    text = f"POST\n{digest}\napplication/json\nX-Up-Key:{PUBLISHER}\nX-Up-Timestamp:{stamp}\n{path}"
    headers = [f"X-Up-Key: {PUBLISHER}", f"X-Up-Timestamp: {stamp}", f"X-Up-Signature: {hashlib.md5(text.encode()).hexdigest().upper()}",
               "Content-Type: application/json"]
    answers = [ask(gateway.admin, request("POST", path, headers, body))[1] for _ in range(5)]
    probes = sum(path.startswith("/rule-probe") for path in Backend.paths)
    table.row("F23", "repeats of a signed call: refused, and its address called once",
              [b'"id"' in answers[0] and probes == 1] + [b"606" in answer for answer in answers[1:]])


def supply(table):
    """F29: every advisory that is ignored has a reason and a date, and the SBOM has every crate of the lock file that the
    program is linked with."""
    ignored = tomllib.loads((ROOT / "deny.toml").read_text())["advisories"]["ignore"]
    table.row("F29", "ignored advisories: each with a reason and a date",
              [re.search(r"\(20\d\d-\d\d-\d\d\)", one.get("reason", "")) for one in ignored])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sbom.json"
        made = subprocess.run([ROOT / "scripts/sbom", file], cwd=ROOT, capture_output=True)
        parts = json.loads(file.read_text())["components"] if made.returncode == 0 else []
    table.row("F29", "crates in the SBOM: each with checksum and licence",
              [made.returncode == 0 and "hashes" in one and "licenses" in one for one in parts])


# ---- the crowd ------------------------------------------------------------------------------------------------

def hold(port, count, first, data, ready, stop):
    """Keeps `count` connections of the loud address open that have sent `data` and no more; whatever is closed is opened
    again."""
    own = selectors.DefaultSelector()

    def begin():
        connection = socket.socket()
        connection.bind((LOUD, 0))
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        own.register(connection, selectors.EVENT_WRITE, [data])

    opened = closed = 0
    with contextlib.suppress(OSError):
        while not stop.is_set():
            while opened - closed < count:
                begin()
                opened += 1
                if opened % 500 == 0:
                    break
            for key, mask in own.select(0.05):
                try:
                    if mask & selectors.EVENT_WRITE:
                        key.data[0] = key.data[0][key.fileobj.send(key.data[0]):]
                        if not key.data[0]:
                            own.modify(key.fileobj, selectors.EVENT_READ, key.data)
                    elif not key.fileobj.recv(4096):
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                except OSError:
                    own.unregister(key.fileobj)
                    key.fileobj.close()
                    closed += 1
            if opened >= first:
                ready.set()


@contextlib.contextmanager
def attackers(gateway, kinds):
    """Runs one process for each (count, data) while the block does."""
    stop, started = multiprocessing.Event(), []
    for count, data in kinds:
        ready = multiprocessing.Event()
        process = multiprocessing.Process(target=hold, args=(gateway.callbacks, count, count, data, ready, stop))
        process.start()
        started.append((process, ready))
    try:
        for _, ready in started:
            ready.wait(120)
        time.sleep(2)
        yield
    finally:
        stop.set()
        for process, _ in started:
            process.join(10)
            process.kill()


def honest(gateway, label, count):
    """Milliseconds of each of `count` valid calls on connections of their own; infinite where none came in time."""
    took = []
    form = b"t=1&sign=" + b"0" * 2000
    for number in range(count):
        data = (request("GET", taku("honest", f"{label}-{number}")) if number % 2
                else request("POST", "/callback/form", ["Content-Type: application/x-www-form-urlencoded"], form))
        began = time.monotonic()
        status, _ = ask(gateway.callbacks, data, HONEST, PATIENCE)
        # A form with a wrong signature is read and rejected: 400. 503 means that there was no room for it.
        took.append((time.monotonic() - began) * 1000 if status in (200, 400) else float("inf"))
        time.sleep(0.01)
    return took


def crowd(gateway, arguments):
    """The rows of the second table: what is held, p50 and p99 of the honest sender, unanswered calls, memory."""
    half_head = b"GET /callback/honest HTTP/1.1\r\nHost: a\r\nX-Slow: "
    body = b"a" * (BODY - 1)
    half_body = b"POST /callback/form HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY + body
    slow_body = b"POST /callback/form HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na"
    connections, pool = arguments.connections, POOL // BODY
    cases = [
        ("calm", []),
        (f"{connections:,} half heads", [(connections, half_head)]),
        (f"{connections:,} bodies that do not come", [(connections, slow_body)]),
        ("the body pool", [(pool, half_body)]),
        ("half heads and the body pool", [(connections, half_head), (pool, half_body)]),
        ("calm again", []),
    ]
    rows = []
    for label, kinds in cases:
        progress(f"  {label} …")
        with attackers(gateway, kinds):
            took = honest(gateway, label.replace(" ", "-"), arguments.calls)
            rows.append((label, took, gateway.rss()))
        time.sleep(1)
    return rows


def show_crowd(rows):
    def quantile(took, part):
        return sorted(took)[min(len(took) - 1, int(len(took) * part))]

    calm = rows[0]
    print("\n| one address holds | calls | unanswered | p50 | p99 | p99 to calm | memory | to calm |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for label, took, memory in rows:
        late = sum(one == float("inf") for one in took)
        p50, p99 = statistics.median(took), quantile(took, 0.99)
        print(f"| {label} | {len(took)} | {late} | {p50:.1f} ms | {p99:.1f} ms | {p99 / quantile(calm[1], 0.99):.1f} "
              f"| {memory:.0f} MiB | {memory / calm[2]:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/postern", help="the gateway (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=10_000, help="of the gateway, and of the attacker")
    parser.add_argument("--calls", type=int, default=300, help="honest calls in each row of the crowd")
    parser.add_argument("--only", choices=["calls", "crowd"], help="one of the two parts")
    arguments = parser.parse_args()
    arguments.binary = Path(arguments.binary).resolve()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < arguments.connections + FILES:
        sys.exit(f"attack: {hard} files may be open; give --connections {hard - FILES} or raise ulimit -n")
    Gateway.binary = arguments.binary
    table, rows = Table(), []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        gateway = Gateway(arguments, one, "0.0.0.0", TOKENS)
        try:
            if arguments.only != "crowd":
                progress("hostile calls")
                loopback = Gateway(arguments, other, "127.0.0.1", "")
                heads(gateway, table)
                replays(gateway, table)
                outbound(gateway, table)
                contents(gateway, table)
                machine(gateway, table)
                sealed(gateway, table)
                push(gateway, table)
                rules(gateway, table)
                supply(table)
                access(gateway, loopback, table)
                loopback.stop()
            if arguments.only != "calls":
                progress("the crowd")
                rows = crowd(gateway, arguments)
            if gateway.process.poll() is not None:
                table.row("–", "the gateway still runs", [False])
        finally:
            gateway.stop()
            if gateway.process.returncode not in (0, -15) or table.failed():
                Path("/tmp/attack.log").write_bytes((gateway.folder / "log").read_bytes()[-200_000:])
    if table.rows:
        table.show()
    if rows:
        show_crowd(rows)
    late = [label for label, took, _ in rows if float("inf") in took]
    for case, what, made, defended in table.failed():
        print(f"FAILED: {case}, {what}: {defended} of {made}", file=sys.stderr)
    for label in late:
        print(f"FAILED: honest calls without an answer: {label}", file=sys.stderr)
    sys.exit(1 if table.failed() or late else 0)


if __name__ == "__main__":
    main()
