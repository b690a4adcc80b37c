#!/usr/bin/env python3
"""The embedded ledger at several sizes: `make bench-ledger`, or `make bench-ledger ARGS="--sizes 0,200000"`.

For each size a ledger is filled, measured, killed with signal 9 in the middle of its life, and opened again with cold
caches where that is allowed. Throughput is compared with an empty ledger on the same disk, in turn within the same
process. The time that callers wait is given in units of one write and sync of that disk, beside how slow the disk's
slowest are and what a bare log makes of the same arrivals; once on the disk as it is, and once with a millisecond added
to each sync, which makes it one as servers have. The table goes into docs/benchmarks.md.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
PAGE = Path("docs/benchmarks.md")
SLOW_SYNC = Path(__file__).with_name("slow_sync.c")
SLOWER_US = 1000        # as a cloud volume is
BEGIN, END = "<!-- bench-ledger: begin -->", "<!-- bench-ledger: end -->"
BUDGETS = [
    ("throughput over empty", ">= 0.85"),
    ("memory per transaction", "<= 100 B"),
    ("start to ready after kill -9", "<= 5 s at 20 million"),
    ("p99 at half load", "<= 4 syncs"),
    ("disk per event beyond its body", "<= 120 B"),
]


def drop_caches():
    """So that a start reads from the disk; without the right to it, says so once."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")
        return True
    except OSError:
        return False


def slow_sync():
    """The library that makes syncs slow, built."""
    library = (TARGET / "slow_sync.so").resolve()
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SLOW_SYNC, "-ldl"], check=True)
    return str(library)


def measure(program, folder, size, slower):
    print(f"{size:,} transactions …", file=sys.stderr, flush=True)
    filled = subprocess.Popen([program, "fill", folder, str(size)], stdout=subprocess.PIPE, text=True)
    line = filled.stdout.readline()
    filled.kill()
    filled.wait()
    if not line:
        sys.exit("bench-ledger: the ledger could not be filled")
    row = json.loads(line)
    row["cold"] = drop_caches()
    opened = subprocess.run([program, "open", folder], stdout=subprocess.PIPE, text=True, check=True)
    row["opened"] = json.loads(opened.stdout)
    if row["opened"]["events"] != row["total"]:
        sys.exit(f"bench-ledger: {row['total']} were acknowledged, {row['opened']['events']} are there")
    waited = subprocess.run([program, "wait", folder], stdout=subprocess.PIPE, text=True, check=True,
                            env={**os.environ, "LD_PRELOAD": slower, "SLOW_SYNC_US": str(SLOWER_US)})
    row["slower"] = json.loads(waited.stdout)
    return row


def table(rows):
    yield ("| transactions | recorded/s | over empty: events a second, per processor second | memory each, while filling / after a start "
           "| disk each beyond its body | start after kill -9 | newest 100, by transaction, by user |")
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        count, opened = row["count"], row["opened"]
        each = (lambda whole: f"{whole / count:,.0f} B") if count else (lambda whole: "–")
        queries = ", ".join(f"{us / 1000:.2f}" for us in row["queries_us"])
        start = f"{opened['seconds']:.2f} s" + ("" if row["cold"] else " (warm)")
        # A start finds what was recorded while measuring as well.
        after = f"{opened['memory'] / opened['keys']:,.0f} B" if opened["keys"] else "–"
        yield (f"| {count:,} | {row['rate']:,.0f} | {row['over_empty']:.2f}, {row['processor_over_empty']:.2f} | {each(row['memory'])} / {after} "
               f"| {each(row['disk'] - row['body'] * count)} | {start} | {queries} ms |")


def waits(rows):
    yield "| transactions | disk | one sync | events/s | p50, p99 | the same of a bare log | one sync in 1000 |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        for disk, of in (("as it is", row), ("1 ms slower", row["slower"])):
            found = of["waits"]
            p50_and_p99 = (f"{p50:.1f}, {p99:.1f} syncs" for p50, p99 in (found["syncs"], found["bare_syncs"]))
            yield (f"| {row['count']:,} | {disk} | {found['sync_us']:,.0f} us | {of['rate'] / 2:,.0f} | "
                   f"{' | '.join(p50_and_p99)} | {found['slow_syncs']:.1f} syncs |")


def page(rows):
    yield BEGIN
    yield ""
    yield (f"Written by `make bench-ledger` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores, {platform.machine()}, "
           f"Linux {platform.release()}. 64 callers, bodies of {rows[0]['body']} bytes, no deliveries.")
    yield ""
    yield from table(rows)
    yield ""
    yield "How long a caller waits at half of that rate, in units of one write and sync of 4 kB:"
    yield ""
    yield from waits(rows)
    yield ""
    yield "Budgets: " + "; ".join(f"{name} {budget}" for name, budget in BUDGETS) + "."
    yield ""
    yield END


def write(text):
    old = PAGE.read_text(encoding="utf-8")
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    PAGE.write_text(before + text + after, encoding="utf-8")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", default="0,1000000,5000000,20000000", help="transactions, separated by commas")
    arguments.add_argument("--folder", default=str(TARGET), help="where on the disk that is measured")
    arguments.add_argument("--print", action="store_true", help="print the table and leave docs/benchmarks.md alone")
    options = arguments.parse_args()
    program = TARGET / "release/examples/at_size"
    slower = slow_sync()
    rows = []
    for size in (int(size) for size in options.sizes.split(",")):
        folder = tempfile.mkdtemp(prefix="bench-ledger-", dir=options.folder)
        try:
            rows.append(measure(program, folder, size, slower))
        finally:
            shutil.rmtree(folder)
    text = "\n".join(page(rows))
    print(text)
    if not options.print:
        write(text)


main()
