"""A backend with a classic reward URL, called with GET: its data is in the URL, so it verifies the message signature (RFC 9421).

The destination has format = "template" and url = "https://game.example/reward/{user}?n={amount}&tx={transaction}&effect={effect}".
Run: POSTERN_SECRET=whsec_… AUTHORITY=game.example DATABASE=reward.db PORT=7000 python3 reward_get.py
"""
import base64, hashlib, hmac, os, re, sqlite3, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

KEYS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in os.environ["POSTERN_SECRET"].split()]
# Host, and port unless it is the default, of the destination's url: fixed here, so a call to another backend is worth nothing.
AUTHORITY = os.environ["AUTHORITY"]
DATABASE = os.environ.get("DATABASE", "reward.db")
AGE_MAX_SECONDS = 300
# What has to be signed, in this order. A signature that covers less proves less.
COVERED = '("@method" "@authority" "@path" "@query" "webhook-id" "webhook-timestamp")'


def verified(method, target, headers):
    """Whether the gateway signed method, URL, id and time, a short time ago."""
    path, _, query = target.partition("?")
    moment = headers.get("webhook-timestamp", "")
    values = [method, AUTHORITY, path, "?" + query, headers.get("webhook-id", ""), moment]
    names = COVERED.strip("()").split(" ")
    lines = "".join(f"{name}: {value}\n" for name, value in zip(names, values))
    supplied = dict(re.findall(r"([\w-]+)=:([A-Za-z0-9+/=]+):", headers.get("signature", "")))
    for label, parameters in re.findall(r"([\w-]+)=(\([^)]*\)[^,]*)", headers.get("signature-input", "")):
        if not parameters.startswith(COVERED) or 'alg="hmac-sha256"' not in parameters:
            continue
        base = f'{lines}"@signature-params": {parameters}'.encode()
        for key in KEYS:
            expected = base64.b64encode(hmac.digest(key, base, hashlib.sha256))
            if hmac.compare_digest(expected, supplied.get(label, "").encode()):
                return moment.isdigit() and abs(time.time() - int(moment)) <= AGE_MAX_SECONDS
    return False


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if not verified("GET", self.path, self.headers):
            return self.reply(401)
        url = urlsplit(self.path)
        user = unquote(url.path.rsplit("/", 1)[1])
        values = {name: texts[0] for name, texts in parse_qs(url.query).items()}
        row = (self.headers["webhook-id"], user, values.get("n"), values.get("tx"), values.get("effect"))
        with sqlite3.connect(DATABASE, timeout=10) as db:           # the grant belongs into this transaction: see settle.sql
            db.execute("INSERT OR IGNORE INTO reward VALUES (?,?,?,?,?)", row)
        self.reply(204)

    def reply(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()


with sqlite3.connect(DATABASE) as created:
    created.execute("CREATE TABLE IF NOT EXISTS reward (id TEXT PRIMARY KEY, user_id TEXT, amount TEXT, tx TEXT, effect TEXT)")
ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "7000"))), Backend).serve_forever()
