"""Our zkCli beside the genuine one of ZooKeeper 3.6.2: what they print, and how they end.

Usage: zkcli_compare.py GENUINE OURS HOST:PORT [HOST:PORT2]

GENUINE and OURS are commands; both talk to the server at HOST:PORT (ours to PORT2 if given), each below a
chroot of its own. Every script of zkcli_scripts.txt runs twice: as lines of standard input, and, where it
is marked `once`, as one process for each line. Prints one line a check; exit status is the number of
failures, 125 at most.
"""

import difflib
import os
import re
import subprocess
import sys
import uuid

from sections import sections

LIMIT_SECONDS = 60
# What differs between any two runs.
NORMAL = [
    (re.compile(r"0x(?!0\b)[0-9a-f]+"), "0x#"),
    (re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} \d\d [\d:]{8} \w+ \d{4}"), "DATE"),
]
# log4j's lines, and the traces beneath them.
NOISE = re.compile(r"^\[?\d{4}-\d\d-\d\d[ T]|^\tat |^\t\.\.\. \d+ more|^(Caused by: )?[\w.]*(EndOfStream|Connect|IO)Exception")
EVENT = re.compile(r"\nWATCHER::\n\nWatchedEvent state:\w+ type:None path:null\n", re.M)
LATE = re.compile(r"(\[zk: \S+\([A-Z_]+\) \d+\] )((?:\nWATCHER::\n\nWatchedEvent .*\n)+)")
PROMPT = re.compile(r"^\[zk: [^ ]*?(\w*)\(([A-Z_]+)\) (\d+)\] ", re.M)


class Side:
    def __init__(self, command, server):
        self.command, self.server = command.split(), server

    def run(self, chroot, words=(), text=""):
        server = self.server + chroot
        process = subprocess.run(
            [*self.command, "-server", server, *words], input=text.encode(), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=LIMIT_SECONDS, env={**os.environ, "TZ": "UTC"}, check=False)
        def tidy(raw):
            # The line reader breaks what it echoes at the terminal's width.
            lines = raw.decode("utf-8", "replace").replace(" \r", "").replace("\r", "").split("\n")
            kept = "\n".join(line for line in lines if not NOISE.match(line))
            kept = kept.replace(chroot, "").replace(self.server, "SERVER")
            for pattern, word in NORMAL:
                kept = pattern.sub(word, kept)
            return kept
        return process.returncode, tidy(process.stdout), tidy(process.stderr)


def differences(left, right):
    (code, out, err), (our_code, our_out, our_err) = left, right
    said = []
    if code != our_code:
        said.append(f"exit code {code} became {our_code}")
    for what, theirs, ours in (("stdout", out, our_out), ("stderr", err, our_err)):
        if theirs != ours:
            said.append(f"{what}:")
            said += difflib.unified_diff(theirs.split("\n"), ours.split("\n"), "genuine", "ours", lineterm="", n=3)
    return said


def settled(result):
    """Prompts and commands may come before the connection: their state and its events' place are chance."""
    code, out, err = result
    out = EVENT.sub("", out)
    out = LATE.sub(r"\2\1", out)
    return code, PROMPT.sub(lambda m: f"[zk: {m[1]}({'CONNECTED' if m[2] == 'CONNECTING' else m[2]}) {m[3]}] ", out), err


def main():
    genuine, ours, server = sys.argv[1:4]
    our_server = sys.argv[4] if len(sys.argv) > 4 else server
    wanted = os.environ.get("SCRIPTS", "").split()
    sides = Side(genuine, server), Side(ours, our_server)
    failed = 0
    for name, once, lines in sections(os.path.join(os.path.dirname(os.path.abspath(__file__)), "zkcli_scripts.txt"), "once"):
        if wanted and name not in wanted:
            continue
        chroots = [f"/c{uuid.uuid4().hex}" for _ in sides]
        for side, chroot in zip(sides, chroots):
            made = Side(ours, side.server).run("", ["create", chroot, "x"])
            assert made[0] == 0, made
        if once:
            checks = [(line, [settled(side.run(chroot, words(line))) for side, chroot in zip(sides, chroots)]) for line in lines]
        else:
            text = "".join(line + "\n" for line in lines)
            checks = [(f"{len(lines)} lines", [settled(side.run(chroot, (), text)) for side, chroot in zip(sides, chroots)])]
        for what, (left, right) in checks:
            said = differences(left, right)
            failed += bool(said)
            print(("FAIL" if said else "ok  "), f"zkCli {name}: {what}")
            for line in said:
                print("     ", line)
            if os.environ.get("SHOW"):
                print(*left, sep="\n")
    return min(failed, 125)


def words(line):
    """As the shell would split it: double quotes only."""
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]


if __name__ == "__main__":
    sys.exit(main())
