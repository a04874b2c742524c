"""kazoo's recipes against an ensemble: prints one line a recipe; exit status is the number of failures.

Usage: kazoo_recipes.py HOSTS [SECONDS]

Without SECONDS every recipe has some rounds, one recipe after the other, on an ensemble that is left alone. With SECONDS those that
promise something while members die go on that long, all at once; their clients' sessions have to outlive it.
"""

import logging
import sys
import threading
import time
import uuid

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionLoss, KazooException, NoNodeError, SessionExpiredError
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.cache import TreeCache
from kazoo.recipe.watchers import ChildrenWatch, DataWatch
from kazoo.retry import ForceRetryError, KazooRetry

WAIT_SECONDS = 30
CALM_ROUNDS = 8


class Load:
    """Clients of one recipe, how long they go on, and what they find wrong."""

    def __init__(self, hosts, name, seconds):
        self.hosts, self.seconds = hosts, seconds
        self.base = f"/kazoo-recipes-{uuid.uuid4().hex}/{name}"
        self.end = time.monotonic() + (seconds or 0)
        self.problems, self.clients, self.closing = [], [], False
        self.mutex = threading.Lock()
        self.inside = {}

    def client(self):
        patient = dict(max_tries=-1, delay=0.02, backoff=2, max_delay=0.3)
        zk = KazooClient(
            hosts=self.hosts, timeout=15, connection_retry=KazooRetry(**patient), command_retry=KazooRetry(**patient)
        )
        zk.add_listener(lambda state: self.wrong("a session was lost") if state == KazooState.LOST and not self.closing else None)
        zk.start(timeout=WAIT_SECONDS)
        self.clients.append(zk)
        return zk

    def close(self):
        self.closing = True
        for zk in self.clients:
            zk.stop()
            zk.close()

    def wrong(self, what):
        with self.mutex:
            self.problems.append(what)

    def rounds(self):
        done = 0
        while time.monotonic() < self.end if self.seconds else done < CALM_ROUNDS:
            yield done
            done += 1

    def within(self, what, at_most=1, seconds=0.002):
        """What at most so many may do at once."""
        with self.mutex:
            self.inside[what] = self.inside.get(what, 0) + 1
            if self.inside[what] > at_most:
                self.problems.append(f"{self.inside[what]} at once: {what}")
        time.sleep(seconds)
        with self.mutex:
            self.inside[what] -= 1

    def together(self, works):
        """Runs all of these; none may hang or fail."""

        def guarded(work):
            try:
                work()
            except Exception as error:  # whatever it is, it is a finding
                self.wrong(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + (self.seconds or 0) + 2 * WAIT_SECONDS
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self.wrong(f"{sum(thread.is_alive() for thread in threads)} of {len(threads)} hang")

    def eventually(self, what, condition):
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                self.wrong(f"waited in vain: {what}")
                return
            time.sleep(0.02)


def current(zk):
    """Its member has all that anybody was told before: another member may answer from the past."""
    zk.retry(zk.sync, "/")
    return zk


def make(zk, path):
    """A node that says 0, whatever happens to the connection."""
    zk.retry(zk.ensure_path, path)
    zk.retry(zk.set, path, b"0")


def under_lock(load, zk, lock, number, done):
    """One more, written without a version while the lock is held: exact only if nobody else holds it."""
    with lock:
        load.within("a lock is held")
        value = int(zk.retry(zk.get, number)[0])
        zk.retry(zk.set, number, b"%d" % (value + 1))
        done.append(value)


def locks(load):
    zks, done = [load.client() for _ in range(3)], []
    number = load.base + "/number"
    make(zks[0], number)

    def work(zk):
        for _ in load.rounds():
            under_lock(load, zk, zk.Lock(load.base + "/lock", "one"), number, done)

    load.together([lambda zk=zk: work(zk) for zk in zks])
    value = int(zks[0].retry(current(zks[0]).get, number)[0])
    if value != len(done):
        load.wrong(f"{len(done)} holders added one each, the number is {value}")
    return f"{len(done)} holds"


def read_write_locks(load):
    zks, held = [load.client() for _ in range(4)], []
    path = load.base + "/lock"
    writing, reading = [0], [0]

    def work(zk, writes):
        for _ in load.rounds():
            with (zk.WriteLock if writes else zk.ReadLock)(path):
                with load.mutex:
                    (writing if writes else reading)[0] += 1
                    if writing[0] > 1 or (writing[0] and reading[0]):
                        load.problems.append(f"{writing[0]} write while {reading[0]} read")
                time.sleep(0.002)
                with load.mutex:
                    (writing if writes else reading)[0] -= 1
                held.append(writes)

    load.together([lambda zk=zk, writes=nth < 2: work(zk, writes) for nth, zk in enumerate(zks)])
    return f"{len(held)} holds"


def semaphores(load):
    zks, held = [load.client() for _ in range(4)], []

    def work(zk):
        for _ in load.rounds():
            with zk.Semaphore(load.base + "/semaphore", max_leases=2):
                load.within("a lease is held", 2)
                held.append(1)

    load.together([lambda zk=zk: work(zk) for zk in zks])
    return f"{len(held)} leases"


def elections(load):
    zks, led = [load.client() for _ in range(3)], []

    def lead(name):
        load.within("a leader leads", 1, 0.01)
        led.append(name)

    def work(nth, zk):
        for _ in load.rounds():
            zk.Election(load.base + "/election", str(nth)).run(lead, nth)

    load.together([lambda nth=nth, zk=zk: work(nth, zk) for nth, zk in enumerate(zks)])
    if len(set(led)) != len(zks):
        load.wrong(f"only {set(led)} led")
    return f"{len(led)} terms"


def counters(load):
    """A change whose answer was lost may have happened, once."""
    zks, done, unknown = [load.client() for _ in range(3)], [], []

    def work(zk):
        counter = zk.Counter(load.base + "/counter")
        for _ in load.rounds():
            try:
                counter._inner_change(1) if load.seconds else counter.__add__(1)
                done.append(1)
            except (ConnectionLoss, SessionExpiredError):
                unknown.append(1)
            except ForceRetryError:
                pass  # somebody else was first: not done

    zks[0].Counter(load.base + "/counter").__add__(0)
    load.together([lambda zk=zk: work(zk) for zk in zks])
    value = zks[0].retry(lambda: current(zks[0]).Counter(load.base + "/counter").value)
    if not len(done) <= value <= len(done) + len(unknown):
        load.wrong(f"{len(done)} additions were acknowledged, {len(unknown)} are unknown, the counter says {value}")
    return f"{len(done)} additions, {len(unknown)} unknown"


def queues(load):
    """Every item that was put is taken once, by whoever."""
    zks, taken = [load.client() for _ in range(3)], []

    def work(zk):
        queue = current(zk).Queue(load.base + "/queue")
        while (item := queue.get()) is not None:
            taken.append(item)

    queue = zks[0].Queue(load.base + "/queue")
    put = [b"%d" % nth for nth in range(60)]
    for item in put:
        queue.put(item)
    load.together([lambda zk=zk: work(zk) for zk in zks])
    if sorted(taken) != sorted(put):
        load.wrong(f"{len(put)} put, {len(taken)} taken, {len(set(taken))} of them different")
    return f"{len(taken)} items"


def locking_queues(load):
    """The same with locks: what is locked and not consumed comes back; a put whose answer was lost may have happened, once."""
    makers, takers = [load.client() for _ in range(2)], [load.client() for _ in range(2)]
    path, put, unknown, taken, made = load.base + "/queue", [], [], [], []

    def make(nth, zk):
        queue = zk.LockingQueue(path)
        for n in load.rounds():
            item = b"%d-%d" % (nth, n)
            try:
                queue.put(item)
                put.append(item)
            except (ConnectionLoss, SessionExpiredError):
                unknown.append(item)
            time.sleep(0.005)
        made.append(nth)

    def consume(queue, item):
        while True:
            try:
                if not queue.consume():
                    load.wrong(f"the lock of {item} was lost")
                break
            except (ConnectionLoss, SessionExpiredError):
                pass
            except NoNodeError:
                break  # an attempt whose answer was lost
        queue.processing_element = None
        taken.append(item)

    def take(zk, until):
        queue = zk.LockingQueue(path)
        while True:
            try:
                item = queue.get(timeout=0.3)
            except (ConnectionLoss, SessionExpiredError):
                continue
            if item is not None:
                consume(queue, item)
            elif until():
                return

    works = [lambda nth=nth, zk=zk: make(nth, zk) for nth, zk in enumerate(makers)]
    load.together(works + [lambda zk=zk: take(zk, lambda: len(made) == 2) for zk in takers])
    # A lock whose creation was not answered goes with its session.
    load.closing = True
    for zk in takers:
        zk.stop()
    last = load.client()
    take(last, lambda: not last.retry(last.get_children, path + "/entries"))
    if len(set(taken)) != len(taken):
        load.wrong(f"{len(taken) - len(set(taken))} items were taken twice")
    if not set(put) <= set(taken) <= set(put) | set(unknown):
        load.wrong(f"lost: {sorted(set(put) - set(taken))[:5]}, never put: {sorted(set(taken) - set(put) - set(unknown))[:5]}")
    return f"{len(put)} put, {len(unknown)} unknown, {len(taken)} taken"


def watchers(load):
    """Values that a watcher sees never go back, and the last one is seen; so are the children."""
    writer, reader = load.client(), load.client()
    path, last = load.base + "/watched", [0]
    make(writer, path)
    current(reader)
    seen, children = [], []
    DataWatch(reader, path)(lambda data, stat: seen.append(int(data)))
    ChildrenWatch(reader, path)(lambda names: children.append(sorted(names)))

    def work():
        for n in load.rounds():
            writer.retry(writer.set, path, b"%d" % (n + 1))
            last[0] = n + 1
            if n % 5 == 0:
                try:
                    writer.retry(writer.create, f"{path}/c{n}")
                except KazooException:
                    pass  # created by an attempt whose answer was lost
            time.sleep(0.005)

    load.together([work])
    load.eventually("the last value is seen", lambda: seen[-1] == last[0])
    load.eventually("the last children are seen", lambda: children[-1] == sorted(writer.retry(writer.get_children, path)))
    if seen != sorted(seen):
        load.wrong(f"what is seen goes back: {seen}")
    return f"{last[0]} values, {len(seen)} seen"


def caches(load):
    writer, reader = load.client(), load.client()
    path = load.base + "/tree"
    make(writer, path)
    cache = TreeCache(reader, path)
    cache.start()
    expected = {}

    def work():
        for n in load.rounds():
            child, value = f"{path}/c{n % 7}", b"%d" % n
            writer.retry(writer.ensure_path, child)
            writer.retry(writer.set, child, value)
            expected[child] = value
            time.sleep(0.005)

    def same():
        found = {child: cache.get_data(child) for child in expected}
        return all(found[child] is not None and found[child].data == expected[child] for child in expected)

    load.together([work])
    load.eventually("the cache is the tree", same)
    cache.close()
    return f"{len(expected)} nodes"


def parties(load):
    zks = [load.client() for _ in range(3)]
    for kind in ("Party", "ShallowParty"):
        members = [getattr(zk, kind)(f"{load.base}/{kind}", f"m{nth}") for nth, zk in enumerate(zks)]
        for member in members:
            member.join()
        for _ in load.rounds():
            time.sleep(0.01)
            current(zks[0])
            if len(members[0]) != 3:
                load.wrong(f"{len(members[0])} of 3 are at the {kind}")
        members[2].leave()
        load.eventually(f"two are left at the {kind}", lambda members=members: sorted(members[0]) == ["m0", "m1"])
    return "two kinds"


def barriers(load):
    zks, waiting, passed = [load.client() for _ in range(3)], [], []
    barrier = zks[0].Barrier(load.base + "/barrier")
    barrier.create()

    def wait(zk):
        waiting.append(1)
        if not current(zk).Barrier(load.base + "/barrier").wait(WAIT_SECONDS):
            load.wrong("the barrier was not lifted")
        passed.append(1)

    def lift():
        load.eventually("all wait", lambda: len(waiting) == 2)
        time.sleep(0.1)
        if passed:
            load.wrong("somebody went through the barrier")
        barrier.remove()

    load.together([lift] + [lambda zk=zk: wait(zk) for zk in zks[1:]])
    for n in load.rounds():
        entered = []

        def meet(zk, n=n, entered=entered):
            double = DoubleBarrier(zk, f"{load.base}/double-{n}", 3)
            double.enter()
            entered.append(1)
            load.eventually("all have entered", lambda: len(entered) == 3)
            double.leave()

        load.together([lambda zk=zk, meet=meet: meet(zk) for zk in zks])
        if len(entered) != 3:
            load.wrong(f"{len(entered)} of 3 entered")
    return "single and double"


def leases(load):
    import datetime

    zks = [load.client() for _ in range(2)]
    minute = datetime.timedelta(minutes=1)
    first, second = (zk.NonBlockingLease(load.base + "/lease", minute, str(nth)) for nth, zk in enumerate(zks))
    again = zks[0].NonBlockingLease(load.base + "/lease", minute, "0")
    if not (first and again) or second:
        load.wrong(f"obtained: {bool(first)}, {bool(second)}, {bool(again)}")
    several = [bool(zk.MultiNonBlockingLease(2, load.base + "/leases", minute, str(nth))) for nth, zk in enumerate(zks + zks[:1], 5)]
    if several != [True, True, False]:
        load.wrong(f"of two leases three obtained {several}")
    return "one, and one of two"


def partitioners(load):
    zks = [load.client() for _ in range(3)]
    items = tuple(range(10))
    owned, stop = {}, threading.Event()

    def work(nth, zk):
        partitioner = zk.SetPartitioner(load.base + "/set", set=items, identifier=str(nth), time_boundary=0.3)
        while not stop.is_set():
            if partitioner.failed:
                load.wrong("partitioning failed")
                return
            if partitioner.release:
                owned[nth] = []
                partitioner.release_set()
            elif partitioner.acquired:
                owned[nth] = list(partitioner)
                time.sleep(0.02)
            elif partitioner.allocating:
                partitioner.wait_for_acquire()
        partitioner.finish()

    def settle():
        everything = lambda: sorted(sum(owned.values(), [])) == list(items) and len([1 for some in owned.values() if some]) == 3
        load.eventually("three share the set", everything)
        stop.set()

    load.together([settle] + [lambda nth=nth, zk=zk: work(nth, zk) for nth, zk in enumerate(zks)])
    return str(sorted(len(some) for some in owned.values()))


FAULTY = (locks, read_write_locks, semaphores, elections, counters, locking_queues, watchers, caches, parties)
CALM = FAULTY + (queues, barriers, leases, partitioners)


def run(recipe, hosts, seconds, failures):
    name = recipe.__name__.replace("_", " ") + (" while members die" if seconds else "")
    load = Load(hosts, recipe.__name__, seconds)
    try:
        found = recipe(load)
    except Exception as error:  # every failure is counted and shown, whatever it is
        found = ""
        load.wrong(f"{type(error).__name__}: {error}")
    load.close()
    if load.problems:
        failures.append(name)
        line = f"FAIL kazoo {name}: {'; '.join(load.problems[:5])}"
    else:
        line = f"ok   kazoo {name}: {found}"
    sys.stdout.write(line + "\n")  # whole lines: several threads print
    sys.stdout.flush()


def main():
    logging.basicConfig(level=logging.CRITICAL)
    hosts, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else None
    failures = []
    if seconds is None:
        for recipe in CALM:
            run(recipe, hosts, None, failures)
        return len(failures)
    threads = [threading.Thread(target=run, args=(recipe, hosts, seconds, failures)) for recipe in FAULTY]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
