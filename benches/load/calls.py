"""The requests of `make load`: signed as senders sign, one a line.

A line is a target, or target, headers and body between tabs, the headers separated by the character 31; `walk.lua` and
`open_client.rs` read both.
"""

import base64
import hashlib
import hmac
import json
import subprocess
import tempfile
from pathlib import Path

SECRET = "cyvmwmzrqts7csphhexpqxqxxgljfisb"
# Of Standard Webhooks: a shared secret.
SHARED = bytes(range(24))
BODY_BYTES = 1000


def secret_of(source):
    """The secret of a source of Taku: each has its own."""
    return SECRET if source == "load" else hashlib.md5(source.encode()).hexdigest()


def write(path, lines):
    with open(path, "w", encoding="ascii") as file:
        file.writelines(lines)


def target(number, secret=SECRET, source="load"):
    """A Taku callback, signed with `secret`. All have the same length."""
    transaction = f"load-{number:012}"
    signed = (f"trans_id={transaction}&placement_id=b5b449fb3d89d7&adsource_id=56789"
              f"&reward_amount=10&reward_name=coin&sec_key={secret}")
    sign = hashlib.md5(signed.encode()).hexdigest()
    return (f"/callback/{source}?user_id=u{number % 100000:05}&trans_id={transaction}&reward_name=coin&reward_amount=10"
            f"&placement_id=b5b449fb3d89d7&adsource_id=56789&sign={sign}\n")


def probe(number):
    """The call of Taku's console when a rule is saved: its macros are not replaced, and nothing is recorded."""
    macros = ("user_id", "trans_id", "reward_name", "reward_amount", "placement_id", "adsource_id", "sign")
    query = "&".join(f"{name}=%7B{name}%7D" for name in macros)
    return f"/callback/load?{query}&is_test=1&n={number:06}\n"


def posted(path, headers, body):
    said = "\x1f".join(f"{name}: {value}" for name, value in headers)
    return f"{path}\t{said}\t{body}\n"


def body(number):
    """1 kB of JSON."""
    text = json.dumps({"type": "reward.granted", "data": {"user": f"u{number % 100000:05}", "note": ""}})
    return text.replace('"note": ""', f'"note": "{"x" * (BODY_BYTES - len(text))}"')


def hmac_call(number, seconds, path="/callback/hmac"):
    """A Standard Webhooks message with a body of 1 kB and a shared secret."""
    message, text = f"msg-{number:012}", body(number)
    mac = hmac.digest(SHARED, f"{message}.{seconds}.{text}".encode(), "sha256")
    return posted(path, [("content-type", "application/json"), ("webhook-id", message), ("webhook-timestamp", seconds),
                         ("webhook-signature", f"v1,{base64.b64encode(mac).decode()}")], text)


def hook_call(number):
    """The same body for Debian's `webhook`, signed as its rule wants."""
    text = body(number)
    mac = hmac.new(SHARED, text.encode(), "sha256").hexdigest()
    return posted("/hooks/load", [("content-type", "application/json"), ("x-signature", f"sha256={mac}")], text)


class KeyPair:
    """An Ed25519 key of a sender, made by openssl."""

    def __init__(self, folder):
        self.key = Path(folder) / "sender.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.key], check=True)
        der = subprocess.run(["openssl", "pkey", "-in", self.key, "-pubout", "-outform", "DER"], check=True, capture_output=True)
        self.public = base64.b64encode(der.stdout[-32:]).decode()

    def call(self, number, seconds):
        """A Standard Webhooks message with a body of 1 kB and a signature of this key."""
        message, text = f"msg-{number:012}", body(number)
        with tempfile.NamedTemporaryFile() as signed:
            signed.write(f"{message}.{seconds}.{text}".encode())
            signed.flush()
            made = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.key, "-in", signed.name],
                                  check=True, capture_output=True)
        signature = f"v1a,{base64.b64encode(made.stdout).decode()}"
        return posted("/callback/key", [("content-type", "application/json"), ("webhook-id", message),
                                        ("webhook-timestamp", seconds), ("webhook-signature", signature)], text)
