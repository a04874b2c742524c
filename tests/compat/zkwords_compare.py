"""Our coordinators' four-letter words and zkServer.sh beside those of ZooKeeper 3.6.2.

Usage: zkwords_compare.py GENUINE_BIN TRIPOD DIRECTORY

GENUINE_BIN holds the genuine zkServer.sh (only its start-foreground is used), TRIPOD is our binary; below
DIRECTORY both get a server alone and an ensemble of three. Every word is asked of both, on a leader, on a
follower, without a quorum and without permission, and what must be equal is. What zkServer.sh and the start
scripts print and how they end is compared with tables taken from the genuine ones, which Maven does not have.
Prints one line a check; exit status is the number of failures, 125 at most.
"""

import difflib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

LIMIT_SECONDS = 40
WORDS = "ruok srvr stat mntr conf cons isro envi dirs wchs wchc wchp dump".split()
RESETS = ["crst", "srst"]
TRACES = ["gtmk", "stmk\0\0\0\0\0\0\1\2", "gtmk"]
UNKNOWN = ["xxxx"]
JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
failures = 0


def check(what, said):
    global failures
    failures += bool(said)
    print("FAIL" if said else "ok  ", what)
    for line in said:
        print("     ", line)


def equal(what, left, right):
    """left is the genuine one's"""
    diff = difflib.unified_diff(left.split("\n"), right.split("\n"), "genuine", "ours", lineterm="", n=1)
    check(what, list(diff))


def wait(what, ready):
    end = time.monotonic() + LIMIT_SECONDS
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"FAIL waited {LIMIT_SECONDS} s: {what}")
        time.sleep(0.05)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        # Not from the range that the system gives to clients.
        for _ in range(1000):
            try:
                s.bind(("127.0.0.1", 20000 + int.from_bytes(os.urandom(2), "big") % 10000))
                break
            except OSError:
                pass
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def word(port, text):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
            s.sendall(text.encode())
            out = b""
            while data := s.recv(65536):
                out += data
            return out.decode()
    except OSError:
        return ""


class Client:
    """Just enough of ZooKeeper's protocol to have a session, nodes and watches."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.xid = 0
        self.send(struct.pack(">iqiqi16x?", 0, 0, 30000, 0, 16, False))
        self.session = struct.unpack(">q", self.frame()[8:16])[0]

    def send(self, body):
        self.socket.sendall(struct.pack(">i", len(body)) + body)

    def take(self, count):
        out = b""
        while len(out) < count:
            data = self.socket.recv(count - len(out))
            assert data, "the connection ended"
            out += data
        return out

    def frame(self):
        return self.take(struct.unpack(">i", self.take(4))[0])

    def call(self, op, body):
        self.xid += 1
        self.send(struct.pack(">ii", self.xid, op) + body)
        while True:
            answer = self.frame()
            xid, _, error = struct.unpack(">iqi", answer[:16])
            if xid == self.xid:
                return error

    def create(self, path, data, flags):
        acl = struct.pack(">ii", 1, 31) + text("world") + text("anyone")
        return self.call(1, text(path) + text(data) + acl + struct.pack(">i", flags))


def text(value):
    return struct.pack(">i", len(value)) + value.encode()


class Server:
    """One process: its configuration, its ports, and how to start it."""

    def __init__(self, command, directory, port, whitelist, members=(), number=0):
        self.command, self.directory, self.port, self.process = command, directory, port, None
        os.makedirs(f"{directory}/data")
        lines = ["tickTime=2000", "initLimit=10", "syncLimit=5", f"dataDir={directory}/data", f"clientPort={port}",
                 "clientPortAddress=127.0.0.1", "admin.enableServer=false", f"4lw.commands.whitelist={whitelist}"]
        lines += [f"server.{n}=127.0.0.1:{quorum}:{election}" for n, (quorum, election) in enumerate(members, 1)]
        with open(f"{directory}/zoo.cfg", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        if number:
            with open(f"{directory}/data/myid", "w", encoding="utf-8") as file:
                file.write(f"{number}\n")

    def start(self):
        env = {**os.environ, "KAFKA_HEAP_OPTS": "-Xmx64M", "KAFKA_JVM_PERFORMANCE_OPTS": JVM, "LOG_DIR": self.directory + "/logs"}
        with open(f"{self.directory}/out", "w", encoding="utf-8") as out:
            self.process = subprocess.Popen([*self.command, "start-foreground", f"{self.directory}/zoo.cfg"], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, cwd=self.directory, env=env, start_new_session=True)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def mode(self):
        return (re.search(r"^Mode: (\w+)", word(self.port, "srvr"), re.M) or ["", ""])[1]


class Side:
    def __init__(self, name, command, directory, ports):
        self.alone = Server(command, f"{directory}/{name}0", ports[0], "stat, ruok,wchp")
        members = [tuple(ports[4 + 2 * n:6 + 2 * n]) for n in range(3)]
        self.ensemble = [Server(command, f"{directory}/{name}{n}", ports[n], "*", members, n) for n in (1, 2, 3)]

    def all(self):
        return [self.alone, *self.ensemble]

    def find(self, mode):
        return next((server for server in self.ensemble if server.mode() == mode), None)


# ---- what must be equal of a word's answer

def tidy(server, name, answer, mode=""):
    """The answer without what differs between any two servers."""
    answer = answer.replace(server.directory, "DIR").replace(f"={server.port}\n", "=PORT\n")
    answer = answer.replace("/data/version-2", "/data")
    answer = re.sub(r"127\.0\.0\.1:\d+", "ADDR", answer)
    answer = re.sub(r"0x[0-9a-f]{12,}", "SESSION", answer)
    answer = re.sub(r"(Zxid: |zxid=)0x[0-9a-f]+", r"\1ZXID", answer)
    answer = re.sub(r"(Latency min/avg/max|Proposal sizes last/min/max): .*", r"\1: #", answer)
    answer = re.sub(r"\b(est|lresp|llat|minlat|avglat|maxlat)=\d+", r"\1=#", answer)
    answer = re.sub(r"((?:data|log)\w*[sS]ize(?:=|: ))\d+", r"\1#", answer)
    answer = re.sub(r"serverId=[123]$", "serverId=#", answer, flags=re.M)
    answer = re.sub(r"(electionPort|quorumPort)=\d+", r"\1=PORT", answer)
    answer = re.sub(r"(server\.\d=ADDR):\d+", r"\1:PORT", answer)
    lines = answer.split("\n")
    if name == "dump" and "ephemeral nodes dump:" in lines:
        # Its times: no connection of ours has one, and a session's is told on no follower.
        lines = [line for line in lines if not re.match(r"Connections Sets|\d+ expire at ", line)]
        ours, genuine = "Global Sessions", "Session Sets"
        if mode == "leader":
            start = next(n for n, line in enumerate(lines) if line.startswith((ours, genuine)))
            end = lines.index("ephemeral nodes dump:")
            lines[start:end] = ["SESSIONS"]
        lines = [re.sub(r"sessionId: 0x0$", "sessionId: SESSION", line) for line in lines]
        start, end = lines.index("ephemeral nodes dump:") + 2, lines.index("Connections dump:")
        lines[start:end] = sorted(re.findall(r"^\S.*(?:\n\t.*)*", "\n".join(lines[start:end]), re.M))
    if name in ("wchc", "wchp"):
        blocks = re.findall(r"^\S.*(?:\n\t.*)*", "\n".join(lines), re.M)
        lines = sorted("\n".join([block.split("\n")[0], *sorted(block.split("\n")[1:])]) for block in blocks) + lines[-2:]
    if name in ("cons", "stat"):
        clients = sorted(line for line in lines if line.startswith(" /"))
        lines = clients + [line for line in lines if not line.startswith(" /")]
    if name == "envi":
        # Of the machine, not of Java; user.* would tell strangers more than they need.
        lines = [re.sub(r"=.*", "=#", line) for line in lines if not re.match(r"java\.|user\.|os\.memory|tripod\.", line)]
    return "\n".join(lines)


def rows(answer):
    return [tuple(line.split("\t", 1)) for line in answer.splitlines() if "\t" in line]


# These figures are of what the client did, so they are equal; the rest is time, or the server's own.
EXACT = """server_state peer_state ephemerals_count num_alive_connections outstanding_requests znode_count global_sessions
    local_sessions last_client_response_size packets_sent packets_received min_client_response_size max_client_response_size
    synced_followers connection_drop_probability watch_count synced_non_voting_followers synced_observers pending_syncs
    approximate_data_size outstanding_tls_handshake learners quorum_size connection_rejected version
    sessionless_connections_expired looking_count connection_drop_count bytes_received_count connection_request_count
    stale_sessions_expired cnt_updatelatency cnt_readlatency connection_revalidate_count cnt_node_created_watch_count
    sum_node_created_watch_count cnt_node_children_watch_count cnt_node_changed_watch_count""".split()


def compare_mntr(what, genuine, ours):
    theirs, mine = rows(genuine), rows(ours)
    keys, our_keys = [key for key, _ in theirs], [key for key, _ in mine]
    said = [f"{key} is not one of theirs" for key in our_keys if key not in keys]
    order = [key for key in keys if key in our_keys]
    if order != our_keys:
        said += difflib.unified_diff(order, our_keys, "genuine", "ours", lineterm="", n=1)
    gauges = keys[:keys.index("zk_proposal_count")]
    said += [f"{key} is missing" for key in gauges if key not in our_keys]
    left, right = dict(theirs), dict(mine)
    said += [f"zk_{key}: {left['zk_' + key]} became {right.get('zk_' + key)}"
             for key in EXACT if "zk_" + key in left and right.get("zk_" + key) != left["zk_" + key]]
    def shape(value):
        return re.sub(r"\d+", "#", value.lstrip("-"))
    said += [f"{key}: {left[key]!r} became {value!r}" for key, value in mine if key in left and shape(left[key]) != shape(value)]
    check(what, said)


def busy(server, path):
    """A client with nodes and all kinds of watches."""
    client = Client(server.port)
    assert client.create(path, "abc", 0) == 0
    assert client.create(path + "/e", "", 1) == 0
    client.call(4, text(path) + b"\1")
    client.call(8, text(path) + b"\1")
    client.call(3, text(path + "/none") + b"\1")
    client.call(106, text(path + "/p") + struct.pack(">i", 0))
    client.call(106, text(path + "/r") + struct.pack(">i", 1))
    return client


def compare_serving(mode, pair):
    for server in pair:
        # From here on everything is counted on both, so nothing may be asked twice of one.
        word(server.port, "srst")
    clients = [busy(server, f"/{mode}") for server in pair]
    for name in WORDS:
        # Its answers are not equally long, so they are not equally many packets: it comes last.
        if name != "mntr":
            equal(f"{mode}: {name}", *(tidy(server, name, word(server.port, name), mode) for server in pair))
    after = [word(server.port, "mntr") for server in pair]
    compare_mntr(f"{mode}: mntr", *after)
    for name in [*RESETS, "cons"]:
        equal(f"{mode}: {name}", *(tidy(server, name, word(server.port, name)) for server in pair))
    for name in [*TRACES, *UNKNOWN]:
        equal(f"{mode}: {name[:4]}", *(word(server.port, name) for server in pair))
    return clients


def compare_digests(mode, pair, clients):
    """Every 128th transaction leaves a line; what is in it depends on times and zxids."""
    for client in clients:
        for number in range(260):
            assert client.create(f"/{mode}/d{number}", "", 0) == 0
    shown = [re.sub(r"[0-9a-f]+(80|00): -?\d+", "ZXID: DIGEST", word(server.port, "hash")) for server in pair]
    check(f"{mode}: hash", [f"{text!r}" for text in shown if set(text.split("\n")) != {"ZXID: DIGEST", ""}])


def words(genuine, ours):
    for server in [*genuine.all(), *ours.all()]:
        server.start()
    pair = (genuine.alone, ours.alone)
    wait("the servers alone serve", lambda: all(server.mode() == "standalone" for server in pair))
    for name in [*WORDS, *RESETS, *TRACES, "hash", *UNKNOWN]:
        equal(f"alone, three words allowed: {name}", *(re.sub(r"(Received|Sent): \d+", r"\1: #", tidy(s, name, word(s.port, name))) for s in pair))
    for server in pair:
        server.stop()
    for side in (genuine, ours):
        wait("an ensemble has a leader and two followers", lambda: sorted(s.mode() for s in side.ensemble) == ["follower", "follower", "leader"])
    clients = []
    for mode in ("leader", "follower"):
        pair = [side.find(mode) for side in (genuine, ours)]
        clients.append(compare_serving(mode, pair))
        compare_digests(mode, pair, clients[-1])
    for side in (genuine, ours):
        last = side.find("follower")
        for server in side.ensemble:
            if server is not last:
                server.stop()
        side.last = last
    clients.clear()
    pair = (genuine.last, ours.last)
    for name, server in zip(("the genuine one", "ours"), pair):
        wait(f"{name} serves nobody without a quorum", lambda: word(server.port, "isro") == "null")
    for name in [*WORDS, *RESETS]:
        equal(f"no quorum: {name}", *(tidy(server, name, word(server.port, name)) for server in pair))


# ---- the scripts: arguments, exit code, standard output, and what standard error holds

JMX = "ZooKeeper JMX enabled by default\nUsing config: DIR/{}\n"
USAGE = "{start|start-foreground|stop|version|restart|status|print-cmd}\n"
FOUND = "Client port found: PORT. Client address: localhost. Client SSL: false.\n"
NO_PORT = ("Client port not found. Looking for secureClientPort in the static config.\n"
           "Unable to find either secure or unsecure client port in any configs. Terminating.\n")
NO_ID = "myid could not be determined, will not able to locate clientPort in the server configs.\n"
GONE = "Stopping zookeeper ... no zookeeper to stop (could not find file {}/zookeeper_server.pid)\n"
# The genuine script ends with 0 after its usage; a start that cannot succeed it calls STARTED, as it looks a second later.
SCRIPT = [
    ("nonsense DIR/zoo.cfg", 1, "", JMX.format("zoo.cfg") + "Usage: BIN/zkServer.sh [--config <conf-dir>] " + USAGE),
    ("version DIR/zoo.cfg", 0, "Apache ZooKeeper, version 3.6.2- 09/04/2020 12:44 GMT\n", JMX.format("zoo.cfg")),
    ("status DIR/zoo.cfg", 1, FOUND + "Error contacting service. It is probably not running.\n", JMX.format("zoo.cfg")),
    ("stop DIR/zoo.cfg", 0, GONE.format("DIR/data"), JMX.format("zoo.cfg")),
    ("status DIR/none.cfg", 1, NO_ID + NO_PORT, JMX.format("none.cfg")),
    ("stop DIR/none.cfg", 0, GONE.format(""), JMX.format("none.cfg")),
    ("status DIR/noport.cfg", 1, NO_ID + NO_PORT, JMX.format("noport.cfg")),
    ("start DIR/bad.cfg", 1, "Starting zookeeper ... FAILED TO START\n", JMX.format("bad.cfg")),
    ("start DIR/none.cfg", 1, "Starting zookeeper ... FAILED TO START\n", JMX.format("none.cfg")),
    ("start-foreground DIR/bad.cfg", 2, "", JMX.format("bad.cfg")),
    ("start-foreground DIR/none.cfg", 2, "", JMX.format("none.cfg")),
    ("start DIR/zoo.cfg", 0, "Starting zookeeper ... STARTED\n", JMX.format("zoo.cfg")),
    ("start DIR/zoo.cfg", 1, "Starting zookeeper ... already running as process PID.\n", JMX.format("zoo.cfg")),
    ("status DIR/zoo.cfg", 0, FOUND + "Mode: standalone\n", JMX.format("zoo.cfg")),
    ("--config DIR status", 0, FOUND + "Mode: standalone\n", JMX.format("zoo.cfg")),
    ("restart DIR/zoo.cfg", 0, "Stopping zookeeper ... STOPPED\nStarting zookeeper ... STARTED\n", JMX.format("zoo.cfg")),
    ("status DIR/zoo.cfg", 0, FOUND + "Mode: standalone\n", JMX.format("zoo.cfg")),
    ("stop DIR/zoo.cfg", 0, "Stopping zookeeper ... STOPPED\n", JMX.format("zoo.cfg")),
    ("stop DIR/zoo.cfg", 0, GONE.format("DIR/data"), JMX.format("zoo.cfg")),
]
OTHERS = [
    ("kafka-server-start.sh", 1, "USAGE: BIN/kafka-server-start.sh [-daemon] server.properties [--override property=value]*\n", ""),
    ("kafka-server-start.sh DIR/none.cfg", 1, "", "DIR/none.cfg"),
    ("kafka-server-start.sh --help", 1, "", "USAGE: "),
    ("kafka-server-start.sh DIR/bad.cfg --nonsense", 1, "", "nonsense is not a recognized option"),
    ("kafka-server-start.sh DIR/bad.cfg", 1, "", "Missing required configuration `zookeeper.connect` which has no default value."),
    ("zookeeper-server-start.sh", 1, "USAGE: BIN/zookeeper-server-start.sh [-daemon] zookeeper.properties\n", ""),
    ("zookeeper-server-start.sh DIR/none.cfg", 2, "", "DIR/none.cfg"),
    ("zookeeper-server-start.sh DIR/bad.cfg", 2, "", "DIR/bad.cfg"),
    ("kafka-server-stop.sh DIR/none.cfg", 1, "", "DIR/none.cfg"),
    ("zookeeper-server-stop.sh DIR/none.cfg", 1, "", "DIR/none.cfg"),
]


def scripts(tripod, directory):
    bin_dir, port = f"{directory}/bin", free_ports(1)[0]
    here = f"{directory}/scripts"
    os.makedirs(f"{here}/data")
    for name in ["zkServer.sh", *(line.split()[0] for line, *_ in OTHERS)]:
        if not os.path.islink(f"{bin_dir}/{name}"):
            os.symlink(tripod, f"{bin_dir}/{name}")
    files = {"zoo.cfg": f"dataDir={here}/data\nclientPort={port}\nadmin.enableServer=false\n",
             "noport.cfg": f"dataDir={here}/data\n", "bad.cfg": f"dataDir={here}/data\nclientPort=x\n"}
    for name, content in files.items():
        with open(f"{here}/{name}", "w", encoding="utf-8") as file:
            file.write(content)
    env = {**os.environ, "ZOO_LOG_DIR": f"{here}/log", "LOG_DIR": f"{here}/log"}
    try:
        for line, code, out, error in [("zkServer.sh " + line, *rest) for line, *rest in SCRIPT] + OTHERS:
            name, *arguments = line.replace("DIR", here).split()
            done = subprocess.run([f"{bin_dir}/{name}", *arguments], env=env, timeout=LIMIT_SECONDS, check=False,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            def shown(raw):
                shown = raw.decode().replace(here, "DIR").replace(bin_dir, "BIN").replace(str(port), "PORT")
                return re.sub(r"process \d+", "process PID", shown)
            said = [] if done.returncode == code else [f"exit code {done.returncode}, not {code}"]
            said += list(difflib.unified_diff(out.split("\n"), shown(done.stdout).split("\n"), "genuine", "ours", lineterm="", n=1))
            if error not in shown(done.stderr):
                said += [f"{error!r} is not in", shown(done.stderr)]
            check(line, said)
    finally:
        subprocess.run([f"{bin_dir}/zkServer.sh", "stop", f"{here}/zoo.cfg"], env=env, timeout=LIMIT_SECONDS, check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    genuine_bin, tripod, directory = sys.argv[1], os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3])
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(f"{directory}/bin")
    scripts(tripod, directory)
    ports = free_ports(20)
    genuine = Side("g", [f"{genuine_bin}/zkServer.sh"], directory, ports[:10])
    ours = Side("o", [f"{directory}/bin/zkServer.sh"], directory, ports[10:])
    try:
        words(genuine, ours)
    finally:
        for server in [*genuine.all(), *ours.all()]:
            server.stop()
    return min(failures, 125)


if __name__ == "__main__":
    sys.exit(main())
