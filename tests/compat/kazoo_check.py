"""kazoo against a ZooKeeper at HOSTS: prints one line a check; exit status is the number of failures.

Usage: kazoo_check.py HOSTS
"""

import sys
import threading
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, NotEmptyError
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.watchers import ChildrenWatch, DataWatch

WAIT_SECONDS = 15


def expect(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")


class Checks:
    def __init__(self, hosts):
        self.hosts = hosts
        self.base = f"/kazoo-{uuid.uuid4().hex}"
        self.zk = self.client()

    def client(self):
        zk = KazooClient(hosts=self.hosts, timeout=10)
        zk.start(timeout=WAIT_SECONDS)
        return zk

    def nodes(self):
        zk, base = self.zk, self.base
        zk.create(base, b"one")
        expect(NodeExistsError, zk.create, base)
        data, stat = zk.get(base)
        assert (data, stat.version, stat.cversion) == (b"one", 0, 0), (data, stat)
        zk.set(base, b"two", version=0)
        expect(BadVersionError, zk.set, base, b"three", version=0)
        expect(NoNodeError, zk.get, base + "/none")
        zk.create(base + "/child")
        expect(NotEmptyError, zk.delete, base)
        assert zk.get_children(base) == ["child"]
        zk.delete(base + "/child")
        assert zk.get(base)[1].cversion == 2

    def sequences(self):
        zk, path = self.zk, self.base + "/seq"
        zk.ensure_path(path)
        names = [zk.create(path + "/n-", sequence=True).rsplit("/", 1)[1] for _ in range(3)]
        assert names == ["n-0000000000", "n-0000000001", "n-0000000002"], names

    def transactions(self):
        zk, path = self.zk, self.base + "/txn"
        zk.ensure_path(path)
        transaction = zk.transaction()
        transaction.create(path + "/a", b"1")
        transaction.set_data(path + "/a", b"2", version=0)
        transaction.check(path, version=0)
        assert transaction.commit()[0] == path + "/a"
        failed = zk.transaction()
        failed.create(path + "/b")
        failed.check(path, version=99)
        results = failed.commit()
        assert isinstance(results[1], BadVersionError), results
        assert zk.exists(path + "/b") is None

    def ephemerals(self):
        other = self.client()
        path = self.base + "/ephemeral"
        other.create(path, ephemeral=True)
        assert self.zk.exists(path).ephemeralOwner == other.client_id[0]
        gone = threading.Event()
        self.zk.exists(path, watch=lambda event: gone.set())
        other.stop()
        other.close()
        assert gone.wait(WAIT_SECONDS), "the ephemeral outlived its session"
        assert self.zk.exists(path) is None

    def watchers(self):
        path = self.base + "/watched"
        self.zk.ensure_path(path)
        seen, children, changed = [], [], threading.Condition()

        @DataWatch(self.zk, path)
        def on_data(data, stat):
            with changed:
                seen.append(data)
                changed.notify_all()

        @ChildrenWatch(self.zk, path)
        def on_children(names):
            with changed:
                children.append(sorted(names))
                changed.notify_all()

        for value in (b"1", b"2", b"3"):
            self.zk.set(path, value)
            with changed:
                assert changed.wait_for(lambda: seen[-1] == value, WAIT_SECONDS), seen
        self.zk.create(path + "/x")
        with changed:
            assert changed.wait_for(lambda: children[-1] == ["x"], WAIT_SECONDS), children

    def locks(self):
        clients = [self.client() for _ in range(3)]
        counter, inside = [0], [0]

        def work(zk):
            for _ in range(5):
                with zk.Lock(self.base + "/lock"):
                    inside[0] += 1
                    assert inside[0] == 1, "two inside"
                    counter[0] += 1
                    inside[0] -= 1

        threads = [threading.Thread(target=work, args=(zk,)) for zk in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert counter[0] == 15, counter
        for zk in clients:
            zk.stop()
            zk.close()

    def elections(self):
        clients = [self.client() for _ in range(2)]
        leaders, done = [], threading.Event()

        def lead(name):
            leaders.append(name)
            if len(leaders) == 2:
                done.set()

        for index, zk in enumerate(clients):
            threading.Thread(
                target=zk.Election(self.base + "/election", str(index)).run, args=(lead, index), daemon=True
            ).start()
        assert done.wait(WAIT_SECONDS), leaders
        assert sorted(leaders) == [0, 1]
        for zk in clients:
            zk.stop()
            zk.close()

    def barriers(self):
        clients = [self.client() for _ in range(2)]
        passed = []

        def meet(zk):
            barrier = DoubleBarrier(zk, self.base + "/barrier", 2)
            barrier.enter()
            passed.append(1)
            barrier.leave()

        threads = [threading.Thread(target=meet, args=(zk,)) for zk in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_SECONDS)
        assert len(passed) == 2
        for zk in clients:
            zk.stop()
            zk.close()


def main():
    checks = Checks(sys.argv[1])
    failures = 0
    for name in ("nodes", "sequences", "transactions", "ephemerals", "watchers", "locks", "elections", "barriers"):
        try:
            getattr(checks, name)()
            print(f"ok   kazoo {name}")
        except Exception as error:  # every failure is counted and shown, whatever it is
            failures += 1
            print(f"FAIL kazoo {name}: {type(error).__name__}: {error}")
    checks.zk.delete(checks.base, recursive=True)
    checks.zk.stop()
    checks.zk.close()
    return failures


if __name__ == "__main__":
    sys.exit(main())
