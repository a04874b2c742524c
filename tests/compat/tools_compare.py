"""Our Kafka tools beside the genuine ones of Kafka 2.8.0: what they print, and how they end.

Usage: tools_compare.py GENUINE_BIN OUR_BIN HOST:PORT ZOOKEEPER_HOST:PORT

GENUINE_BIN holds the genuine tools (kafka-topics.sh, ...), OUR_BIN links to ours under the same names. Both
talk to the node at HOST:PORT. Every line of tools_lines.txt runs once with either; standard output,
standard error and exit code have to be the same once `normal` has taken out what differs between any two
runs, and what is listed in ALLOWED. Prints one line a check and the counts; the exit status is the number of
failures, 125 at most.

WORDS="word word" in the environment takes only the lines with such a word; SHOW=1 prints all output.
"""

import concurrent.futures
import difflib
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from sections import sections

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_SECONDS = 90
JOBS = int(os.environ.get("JOBS", "3"))

# What differs between any two runs of one tool.
NORMAL = [
    (re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\]"), "[DATE]"),
    (re.compile(r"(deadlineMs=|nextAllowedTryMs=|timed out at )\d+"), r"\1#"),
    (re.compile(r"(console-consumer|perf-consumer)-\d+"), r"\1-#"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"CreateTime:\d+"), "CreateTime:#"),
    (re.compile(r"correlation id \d+"), "correlation id #"),
    (re.compile(r"after \d+ attempt\(s\)|tries=\d+"), "TRIES"),
]
# The same of a topic that either tool made for itself.
OWN = [(re.compile(r"TopicId: [\w-]{22}"), "TopicId: #")]
# Java's stack frames; nobody misses them.
FRAME = re.compile(r"^\s+at [\w.$/<>-]+\(.*\)$|^\s+\.\.\. \d+ more$")
FIGURE = re.compile(r"\b\d+(\.\d+)?(E-?\d+)?\b|\bNaN\b|-?\bInfinity\b")

# Differences that are meant. Each takes something out of our output; the reason stands beside it.
ALLOWED = [
    # --version: the genuine tool tells its commit; ours tells that it is ours.
    (re.compile(r"^2\.8\.0 \((Commit:ebb1d6e21cc92130|tripod [\w.]+)\)$", re.M), "2.8.0 (BUILD)"),
    # Options that 2.8.0 does not have (4.x's, and --json) are helped with in a table below the genuine one.
    (re.compile(r"\n\nNot as in 2\.8\.0:\n(.+\n)+"), "\n"),
    # What a misspelt option may have meant.
    (re.compile(r"^Did you mean --[\w.-]+\?\n", re.M), ""),
    # An option or property that is taken and changes nothing: 2.8.0 keeps quiet about it.
    (re.compile(r"^WARNING: .* has no effect.*\n", re.M), ""),
    # The genuine tool prints a Java array's identity here.
    (re.compile(r"(has different replication factor: )\S+"), r"\1#"),
    # The random group of the genuine help.
    (re.compile(r"\(default: +\n +perf-consumer-[#\w]+\) *"), "(default: perf-consumer-#)"),
]
# A row of --print-metrics: all but the value has to be the same.
ROW = re.compile(r"^((?:[\w-]+-metrics|app-info|kafka-metrics-count):\S+:\{.*\} *: ).*$", re.M)


class Line:
    """One line of the table: [MARKS] [STDIN =>] TOOL ARGUMENTS."""

    def __init__(self, text):
        self.text = text
        self.marks = set()
        if text.startswith("["):
            marks, text = text[1:].split("] ", 1)
            self.marks = set(marks.split())
        self.stdin = b""
        if " => " in text:
            stdin, text = text.split(" => ", 1)
            self.stdin = stdin.encode().decode("unicode_escape").encode()
        self.command = text


def table(path):
    """[(section, is_late, [Line])]: sections run beside one another, late ones after the others."""
    return [(name, is_late, [Line(line) for line in lines]) for name, is_late, lines in sections(path, "late")]


class Side:
    def __init__(self, directory, letter, names):
        self.directory, self.letter, self.names, self.archives = directory, letter, names, {}

    def words(self, command):
        words = []
        for word in shlex.split(command):
            for name, value in self.names.items():
                word = word.replace("{" + name + "}", value)
            words.append(word.replace("{me}", self.letter))
        return words

    def run(self, line):
        tool, *arguments = self.words(line.command)
        process = subprocess.run(
            [os.path.join(self.directory, tool + ".sh"), *arguments], input=line.stdin.replace(b"{me}", self.letter.encode()),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_SECONDS, env=self.environment(tool), check=False)
        return process.returncode, self.normal(line, process.stdout), self.normal(line, process.stderr)

    def environment(self, tool):
        environment = {**os.environ, "TZ": "UTC"}
        if tool in self.archives:
            environment["KAFKA_OPTS"] = "-XX:SharedArchiveFile=" + self.archives[tool]
        return environment

    def archive(self, directory, tool, arguments, others):
        """Has the JVM keep the classes of a run, which halves the time of those that follow."""
        path = os.path.join(directory, tool + ".jsa")
        subprocess.run([os.path.join(self.directory, tool + ".sh"), *self.words(arguments)], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT_SECONDS,
                       env={**os.environ, "KAFKA_OPTS": "-XX:ArchiveClassesAtExit=" + path}, check=False)
        if os.path.exists(path):
            self.archives.update(dict.fromkeys([tool, *others], path))

    def normal(self, line, raw):
        text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
        patterns = (OWN if "{me}" in line.text else []) + ALLOWED
        kept = []
        for row in text.split("\n"):
            # What a client logs at each of its attempts is told once: their number is chance.
            for pattern, word in NORMAL:
                row = pattern.sub(word, row)
            if not FRAME.match(row) and not (row.startswith("[DATE] ") and row in kept):
                kept.append(row)
        text = "\n".join(kept)
        for pattern, word in patterns:
            text = pattern.sub(word, text)
        text = text.replace(f"-{self.letter}-{self.names['run']}", "-#-").replace(self.directory, "DIR")
        if "figures" in line.marks:
            text = FIGURE.sub("#", text)
        if "metrics" in line.marks:
            text = ROW.sub(r"\1#", text)
        return text


def differences(line, left, right):
    (code, out, err), (our_code, our_out, our_err) = left, right
    said = []
    if code != our_code:
        said.append(f"exit code {code} became {our_code}")
    for what, theirs, ours in (("stdout", out, our_out), ("stderr", err, our_err)):
        if theirs != ours:
            said.append(f"{what}:")
            said += difflib.unified_diff(theirs.split("\n"), ours.split("\n"), "genuine", "ours", lineterm="", n=1)
    return said


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def prepare(ours):
    """What both tools are shown: topics with records, groups with offsets, and one that reads."""
    def tool(name, words, text=""):
        done = subprocess.run([os.path.join(ours.directory, name + ".sh"), *ours.words(words)], input=text.encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_SECONDS, check=False)
        assert done.returncode == 0, (name, words, done.stdout.decode())
    at = "--bootstrap-server {at} "
    tool("kafka-topics", at + "--create --topic plain-{run} --partitions 3 --replication-factor 1")
    tool("kafka-topics", at + "--create --topic one-{run} --partitions 1 --replication-factor 1 --config retention.ms=3600000 --config cleanup.policy=compact,delete")
    tool("kafka-topics", at + "--create --topic empty-{run} --partitions 2 --replication-factor 1")
    tool("kafka-console-producer", at + "--topic one-{run} --property parse.key=true --property key.separator=:", "".join(f"k{n}:v{n}\n" for n in range(10)))
    for partition in range(3):
        tool("kafka-console-producer", at + "--topic plain-{run}", f"line {partition}\n")
    tool("kafka-topics", at + "--create --topic many-{run} --partitions 15 --replication-factor 1")
    for _ in range(4):
        tool("kafka-console-producer", at + "--topic many-{run}", "line\n")
    for topic, group, count in (("one-{run}", "past-{run}", 4), ("plain-{run}", "more-{run}", 3), ("many-{run}", "many-{run}", 4)):
        tool("kafka-console-consumer", at + f"--topic {topic} --group {group} --from-beginning --max-messages {count} --timeout-ms 20000")
    return [reader(ours, "plain-{run}", "live-{run}"), reader(ours, "many-{run}", "crowd-{run}")]


def reader(ours, topic, group):
    """A consumer that stays, once its group is stable."""
    at = "--bootstrap-server {at} "
    process = subprocess.Popen(
        [os.path.join(ours.directory, "kafka-console-consumer.sh"), *ours.words(at + f"--topic {topic} --group {group}")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        told = subprocess.run(
            [os.path.join(ours.directory, "kafka-consumer-groups.sh"), *ours.words(at + f"--describe --group {group} --state")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_SECONDS, check=False)
        if b"Stable" in told.stdout:
            break
        time.sleep(0.1)
    return process


def files(directory):
    """Files that lines name."""
    texts = {
        "empty.properties": "",
        "bad.properties": "acks=7\nauto.offset.reset=none\nrequest.timeout.ms=x\n",
        "client.properties": "client.id=mine\n",
        "lines.txt": "first\nsecond\nthird\n",
        "empty.json": "",
        "no-list.json": '{"x": 1}\n',
        "election.json": '{"partitions": [{"topic": "plain-%s", "partition": 0}, {"topic": "one-%s", "partition": 0}]}\n',
        "twice.json": '{"partitions": [{"topic": "plain-%s", "partition": 0}, {"topic": "plain-%s", "partition": 0}]}\n',
        "offsets.csv": "one-%s,0,2\n",
    }
    return {name: os.path.join(directory, name) for name in texts}, texts


def main():
    genuine_bin, our_bin, at, zookeeper = sys.argv[1:5]
    run = uuid.uuid4().hex[:6]
    with tempfile.TemporaryDirectory() as directory:
        paths, texts = files(directory)
        for name, text in texts.items():
            with open(paths[name], "w", encoding="utf-8") as file:
                file.write(text.replace("%s", run))
        names = {"at": at, "zk": zookeeper, "run": run, "nobody": f"127.0.0.1:{free_port()}", "dir": directory}
        sides = Side(genuine_bin, "g", names), Side(our_bin, "o", names)
        readers = prepare(sides[1])
        try:
            at = "--bootstrap-server {at} "
            sides[0].archive(directory, "kafka-consumer-groups", at + "--describe --group past-{run}", ["kafka-topics", "kafka-leader-election"])
            sides[0].archive(directory, "kafka-console-consumer", at + "--topic one-{run} --from-beginning --max-messages 1",
                             ["kafka-console-producer", "kafka-consumer-perf-test", "kafka-producer-perf-test"])
            return compare(sides)
        finally:
            for process in readers:
                process.terminate()
                process.wait(30)


def compare(sides):
    chapters = table(os.path.join(HERE, "tools_lines.txt"))
    wanted = os.environ.get("WORDS", "").split()
    counts = {"ok": 0, "FAIL": 0}
    lock = threading.Lock()

    def section(name, lines):
        for line in lines:
            if wanted and not any(word in name + " " + line.text for word in wanted):
                continue
            try:
                left, right = (side.run(line) for side in sides)
                said = differences(line, left, right)
            except subprocess.TimeoutExpired as error:
                left, said = None, [str(error)]
            with lock:
                counts["FAIL" if said else "ok"] += 1
                print("FAIL" if said else "ok  ", f"tools {name}: {line.text}")
                for row in said:
                    print("     ", row)
                if os.environ.get("SHOW") and left:
                    print(*left, sep="\n")
                sys.stdout.flush()

    for late in (False, True):
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for done in [pool.submit(section, name, lines) for name, is_late, lines in chapters if is_late == late]:
                done.result()
    print(f"tools: {counts['ok']} passed, {counts['FAIL']} failed, 0 skipped")
    return min(counts["FAIL"], 125)


if __name__ == "__main__":
    sys.exit(main())
