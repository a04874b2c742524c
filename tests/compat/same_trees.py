"""Whether the members of an ensemble hold the same tree: every node's data, Stat and ACL, as a client of each sees them.

Usage: same_trees.py HOST:PORT HOST:PORT ...
"""

import sys
import time

from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, NoNodeError

PATIENCE_SECONDS = 15


def tree(zk):
    """Each node by its path; a node that goes meanwhile is left out."""
    zk.sync("/")
    found, below = {}, ["/"]
    while below:
        path = below.pop()
        try:
            data, stat = zk.get(path)
            acl, _ = zk.get_acls(path)
            children = zk.get_children(path)
        except NoNodeError:
            continue
        except NoAuthError:
            found[path] = "not ours to read"
            continue
        found[path] = (data, tuple(stat), tuple(map(str, acl)), tuple(sorted(children)))
        below += [path.rstrip("/") + "/" + name for name in children]
    return found


def differences(trees):
    first, others = trees[0], trees[1:]
    for nth, other in enumerate(others):
        for path in sorted(first.keys() | other.keys()):
            if first.get(path) != other.get(path):
                yield "member 1 and %d differ at %r: %s, %s" % (nth + 2, path, first.get(path), other.get(path))


def main():
    clients = []
    for host in sys.argv[1:]:
        zk = KazooClient(hosts=host, timeout=10)
        zk.start(timeout=15)
        clients.append(zk)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        trees = [tree(zk) for zk in clients]
        found = list(differences(trees))
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    print("%s %d members hold the same %d nodes" % ("FAIL" if found else "ok  ", len(clients), len(trees[0])))
    for line in found[:10]:
        print("     | " + line)
    for zk in clients:
        zk.stop()
        zk.close()
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
