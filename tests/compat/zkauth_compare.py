"""Who a client is: ZooKeeper's Java client 3.6.2 logs in to a genuine server and to ours, by SASL and by TLS.

Usage: zkauth_compare.py GENUINE_BIN TRIPOD DIRECTORY

GENUINE_BIN holds the genuine zkCli.sh and run-class.sh, TRIPOD is our binary; below DIRECTORY both get a server
with the same zoo.cfg, JAAS file and stores (tests/golden/tls). The same lines are typed into the genuine zkCli
of each, and what it prints has to be equal, but for what is said about in WEAKER. Prints one line a check; exit
status is the number of failures, 125 at most.
"""

import os
import re
import signal
import subprocess
import sys

import zkwords_compare as words
from zkcli_compare import Side, differences, settled
from zkwords_compare import check, free_ports, wait

JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
STORES = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden/tls"))
BOB = r"CN=bob,OU=a+OU=b,O=Example\, Inc.,DC=org"

BY_SASL = """
create /bob x
setAcl /bob auth::cdrwa
getAcl /bob
create /mine y sasl:bob:cdrwa
get /mine
create /eve z sasl:eve:cdrwa
get /eve
create /bad z x509:bob:r
create /bad z sasl:a/b/c@d:r
create /bad z digest:u::cdrwa
create /hash z digest:u:h::cdrwa
create /any z ip:127.0.0.0/8:cdrwa
create /bad z ip:127.0.0.1/33:r
create /other z ip:10.0.0.1:cdrwa
get /other
setAcl /any ip:127.0.0.1:r,ip:127.0.0.1:r,sasl:bob:cdrwa
getAcl /any
create /bad z world:me:r
create /bad z none:x:r
create /bad z super::r
addauth digest u:p
create /both z auth:anything:cdrwa
getAcl /both
addauth ip x
create /realm z sasl:kafka/host@REALM:cdrwa
create /bad z sasl:kafka@A@B:r
addauth sasl bob
"""
BY_SUPER = """
getAcl /eve
get /eve
delete /eve
"""
BY_TLS = """
create /tls x
setAcl /tls auth::cdrwa
getAcl /tls
create /theirs y x509:CN=eve:cdrwa
get /theirs
create /bad y x509:eve:r
addauth x509 x
get /tls
"""
AS_NOBODY = """
ls /
create /bad x auth::r
get /tls
get /mine
"""
LOOK = "ls /\n"
# A genuine server lets a user that it does not know in with the password of the last one that it did know
# (SaslServerCallbackHandler keeps the name between connections); ours does not.
WEAKER = "eve"


def jaas(directory, name, user, password):
    path = f"{directory}/{name}.jaas"
    with open(path, "w", encoding="utf-8") as file:
        file.write("Client {\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n"
                   f'  username="{user}"\n  password="{password}";\n}};\n')
    return f"-Djava.security.auth.login.config={path}"


def tls(key, trust="trust.p12"):
    flags = ["client.secure=true", "clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty",
             f"ssl.trustStore.location={STORES}/{trust}", "ssl.trustStore.password=changeit"]
    if key:
        flags += [f"ssl.keyStore.location={STORES}/{key}", "ssl.keyStore.password=changeit"]
    return " ".join("-Dzookeeper." + flag for flag in flags)


class Server:
    def __init__(self, command, directory, extra):
        self.command, self.directory = command, directory
        self.port, self.secure, http = free_ports(3)
        os.makedirs(f"{directory}/data")
        lines = ["tickTime=2000", f"dataDir={directory}/data", f"clientPort={self.port}", f"admin.serverPort={http}",
                 "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider", "maxClientCnxns=0",
                 f"secureClientPort={self.secure}", f"ssl.keyStore.location={STORES}/server.p12",
                 f"ssl.trustStore.location={STORES}/trust.p12", "ssl.keyStore.password=changeit",
                 "ssl.trustStore.password=changeit", "ssl.clientAuth=want", "4lw.commands.whitelist=*",
                 "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory", *extra]
        with open(f"{directory}/zoo.cfg", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        users = f"{directory}/server.jaas"
        with open(users, "w", encoding="utf-8") as file:
            file.write("Server {\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n"
                       '  user_super="adminsecret"\n  user_bob="bobsecret";\n};\n')
        env = {**os.environ, "KAFKA_OPTS": f"-Djava.security.auth.login.config={users}", "LOG_DIR": directory + "/logs"}
        with open(f"{directory}/out", "w", encoding="utf-8") as out:
            self.process = subprocess.Popen([*command, f"{directory}/zoo.cfg"], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, env=env, cwd=directory)
        wait(f"{command[0]} serves", lambda: words.word(self.port, "srvr").startswith("Zookeeper"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def typed(zkcli, port, flags, text):
    os.environ["KAFKA_OPTS"] = flags
    result = Side(zkcli, f"127.0.0.1:{port}").run("", (), text.lstrip())
    states = re.findall(r"WatchedEvent state:(\w+)", result[1])
    return settled(result), states


def main():
    genuine_bin, tripod, directory = sys.argv[1:4]
    os.environ.update(KAFKA_JVM_PERFORMANCE_OPTS=JVM, KAFKA_HEAP_OPTS="-Xmx96M")
    zkcli = f"{genuine_bin}/zkCli.sh"
    commands = [[f"{genuine_bin}/run-class.sh", "org.apache.zookeeper.server.quorum.QuorumPeerMain"],
                [tripod, "serve", "--roles", "coordinator", "--zoo-cfg"]]
    login = {name: jaas(directory, name, user, password) for name, user, password in [
        ("bob", "bob", "bobsecret"), ("super", "super", "adminsecret"), ("guess", "bob", "guess"), ("eve", "eve", "bobsecret")]}

    def both(what, servers, secure, flags, text, is_equal=True):
        sides = [typed(zkcli, server.secure if secure else server.port, flags, text) for server in servers]
        if is_equal:
            (left, theirs), (right, ours) = sides
            is_same = theirs == ours and "SyncConnected" in theirs
            check(what, differences(left, right) or ([] if is_same else [f"{theirs} became {ours}"]))
        return sides

    servers = [Server(command, f"{directory}/{name}", []) for command, name in zip(commands, ("genuine", "ours"))]
    try:
        both("SASL: bob's own nodes", servers, False, login["bob"], BY_SASL)
        both("SASL: super", servers, False, login["super"], BY_SUPER)
        both("TLS: a certificate's own nodes", servers, True, tls("client.p12"), BY_TLS)
        both("TLS: SASL within", servers, True, f'{tls("client.p12")} {login["bob"]}', "get /mine\nget /tls\n")
        both("TLS: no certificate", servers, True, tls(""), AS_NOBODY)
        both("neither", servers, False, "", AS_NOBODY)
        for name in ("guess", WEAKER):
            states = [side[1][:2] for side in both(name, servers, False, login[name], LOOK, False)]
            wanted = [["SyncConnected", "AuthFailed"]] * 2
            check(f"SASL: {name} is refused", [f"{states}"] if states[name == WEAKER:] != wanted[name == WEAKER:] else [])
        for name, flags in (("a stranger's certificate", tls("own.pem")), ("a server that is not trusted", tls("", "own.pem"))):
            outs = [typed(zkcli, server.secure, f"{flags} -Dzookeeper.request.timeout=3000", "") for server in servers]
            check(f"TLS: {name}", [f"{out}" for out in outs if "SyncConnected" in out[1]])
    finally:
        for server in servers:
            server.stop()
    required = ["sessionRequireClientSASLAuth=true", f"X509AuthenticationProvider.superUser={BOB.replace(chr(92), chr(92) * 2)}"]
    servers = [Server(command, f"{directory}/{name}2", required) for command, name in zip(commands, ("genuine", "ours"))]
    try:
        both("SASL required: bob", servers, False, login["bob"], "create /x y\nls /\n")
        both("SASL required: the super user's certificate", servers, True, f'{tls("client.p12")} {login["bob"]}',
             "create /eve y x509:CN=eve:cdrwa\nget /eve\n")
    finally:
        for server in servers:
            server.stop()
    return min(words.failures, 125)


if __name__ == "__main__":
    sys.exit(main())
