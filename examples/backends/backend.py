"""A backend for Postern, with Python's standard library: POSTERN_SECRET=whsec_… DATABASE=game.db PORT=7000 python3 backend.py"""
import base64, hashlib, hmac, json, os, re, sqlite3, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Two secrets, separated by a space, while one replaces the other.
KEYS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in os.environ["POSTERN_SECRET"].split()]
DATABASE = os.environ.get("DATABASE", "game.db")
AGE_MAX_SECONDS, BODY_MAX = 300, 1024 * 1024
HERE = Path(__file__).parent
SETTLE = [sql for sql in (HERE / "settle.sql").read_text().split(";\n") if sql.strip()]


def verified(headers, body):
    """Whether the gateway signed these bytes, a short time ago (Standard Webhooks)."""
    moment = headers.get("webhook-timestamp", "")
    signed = f"{headers.get('webhook-id', '')}.{moment}.".encode() + body
    supplied = headers.get("webhook-signature", "").encode("latin-1").split(b" ")
    expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in KEYS]
    matches = any(hmac.compare_digest(one, other) for one in supplied for other in expected)
    return matches and moment.isdigit() and abs(time.time() - int(moment)) <= AGE_MAX_SECONDS


def record(event, body):
    """Records the event, and what it does to a balance, in one transaction: both, or neither."""
    whole = re.fullmatch(r"([0-9]{1,9})(\.0+)?", event["amount"] or "")     # a text: never make a float of it
    row = (event["id"], event["source"], event["transaction"], event.get("kind"), event.get("effect"), event["test"],
           event["user"], event["item"], int(whole[1]) if whole else 0, event.get("reverses"), body)
    db = sqlite3.connect(DATABASE, timeout=10, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        new = db.execute("INSERT OR IGNORE INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,'new')", row).rowcount
        for sql in SETTLE if new else []:                                   # not new: a retry or a replay
            db.execute(sql, (event["id"],))
        db.execute("COMMIT")
    finally:
        db.close()                                                          # rolls back what was not committed


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", -1))
        if not 0 <= length <= BODY_MAX:
            self.close_connection = True
            return self.reply(413)
        body = self.rfile.read(length)                                      # these bytes were signed, before any parser
        if not verified(self.headers, body):
            return self.reply(401)
        try:
            record(json.loads(body), body.decode())
        except Exception as error:
            self.log_error("%r", error)
            return self.reply(500)                                          # no 2xx: the gateway retries
        self.reply(204)                                                     # only now: it is in the database

    def reply(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()


sqlite3.connect(DATABASE).executescript((HERE / "schema.sql").read_text())
ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "7000"))), Backend).serve_forever()
