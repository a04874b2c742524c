#!/usr/bin/env python3
"""Judges what the verifiable producer and consumer printed against a full read-back of their topic.

  verifiable_check.py PRODUCER CONSUMER READ [--once]

PRODUCER and CONSUMER are the JSON lines of the two tools, READ what kafka-console-consumer printed with print.partition
and print.offset. With --once (an idempotent producer) every value stands once in the log, in the order it was sent.
Afterwards the judge itself is judged: each of several faults put into the same history must be seen.
"""
import json
import re
import sys


def events(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.startswith("{")]


def read_back(path):
    found = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            match = re.match(r"Partition:(\d+)\tOffset:(\d+)\t(.*)$", line)
            if match:
                found[int(match[1]), int(match[2])] = match[3]
    return found


def named(history, name):
    return [event for event in history if event["name"] == name]


def acked(produced):
    """Each acknowledged value by partition and offset."""
    return {(e["partition"], e["offset"]): e["value"] for e in named(produced, "producer_send_success")}


def producer_errors(produced):
    sends = named(produced, "producer_send_success")
    wrong = ["not sent: %s" % e for e in named(produced, "producer_send_error")]
    if len(acked(produced)) != len(sends):
        wrong.append("two values were acknowledged at one place")
    total = named(produced, "tool_data")
    if not sends or len(total) != 1:
        return wrong + ["%d acknowledgements, %d closing lines" % (len(sends), len(total))]
    if not total[0]["sent"] == total[0]["acked"] == len(sends):
        wrong.append("%s sent, %s acknowledged, %d printed" % (total[0]["sent"], total[0]["acked"], len(sends)))
    return wrong


def losses(produced, read):
    return ["%s at partition %d offset %d reads %s" % (value, *place, read.get(place, "nothing"))
            for place, value in acked(produced).items() if read.get(place) != value]


def holes(read):
    wrong = []
    for partition in {place[0] for place in read}:
        offsets = [offset for p, offset in read if p == partition]
        if sorted(offsets) != list(range(len(offsets))):
            wrong.append("partition %d: %d records up to offset %d" % (partition, len(offsets), max(offsets)))
    return wrong


def repeats(read):
    """For --once: nothing twice, and each partition in the order of sending."""
    last, wrong = {}, []
    values = list(read.values())
    if len(set(values)) != len(values):
        wrong.append("%d of %d values stand more than once" % (len(values) - len(set(values)), len(values)))
    for (partition, offset), value in sorted(read.items()):
        if int(value) <= last.get(partition, -1):
            wrong.append("partition %d offset %d: %s after %d" % (partition, offset, value, last[partition]))
        last[partition] = int(value)
    return wrong


def consumer_gaps(produced, consumed):
    """Every batch starts where the one before it ended; earlier only after a new assignment; all acknowledged is there."""
    following, assigned, wrong = {}, set(), []
    for event in consumed:
        if event["name"] == "partitions_assigned":
            assigned |= {p["partition"] for p in event["partitions"]}
        if event["name"] != "records_consumed":
            continue
        for batch in event["partitions"]:
            partition, first, end = batch["partition"], batch["minOffset"], batch["maxOffset"] + 1
            expected = following.get(partition, 0)
            if end - first != batch["count"]:
                wrong.append("partition %d: %d records for offsets %d to %d" % (partition, batch["count"], first, end - 1))
            if first > expected or (first < expected and partition not in assigned):
                wrong.append("partition %d: offset %d after %d" % (partition, first, expected - 1))
            assigned.discard(partition)
            following[partition] = max(end, expected)
    return wrong + ["partition %d offset %d was not consumed" % place
                    for place in acked(produced) if place[1] >= following.get(place[0], 0)]


def commit_errors(produced, consumed):
    commits = named(consumed, "offsets_committed")
    wrong = ["not committed: %s" % e for e in commits if not e["success"]]
    last = {p["partition"]: p["offset"] for e in commits if e["success"] for p in e["offsets"]}
    return wrong + ["partition %d offset %d lies behind the last commit %s" % (*place, last.get(place[0]))
                    for place in acked(produced) if place[1] >= last.get(place[0], 0)]


def judge(produced, consumed, read, once):
    yield "%d values acknowledged, none refused" % len(acked(produced)), producer_errors(produced)
    yield "each is read where it was acknowledged", losses(produced, read)
    yield "%d offsets without a hole" % len(read), holes(read)
    if once:
        yield "each stands once, in order", repeats(read)
    yield "the consumer saw all of them without a gap", consumer_gaps(produced, consumed)
    yield "%d commits, none failed" % len(named(consumed, "offsets_committed")), commit_errors(produced, consumed)


def faults(produced, consumed, read):
    """The same history with one fault each."""
    def changed(what):
        p, c, r = [dict(e) for e in produced], [dict(e) for e in consumed], dict(read)
        what(p, c, r)
        return p, c, r
    places = sorted(acked(produced))
    lost, a, b = places[len(places) // 2], places[0], places[1]

    def swap(_p, _c, r):
        r[a], r[b] = r[b], r[a]

    def refuse(p, _c, _r):
        p.append({"name": "producer_send_error", "value": "0"})

    def forget_commits(_p, c, _r):
        c[:] = [e for e in c if e["name"] != "offsets_committed"]
    yield "a lost record", changed(lambda _p, _c, r: r.pop(lost))
    yield "two records in each other's place", changed(swap)
    yield "a refused value", changed(refuse)
    yield "a batch that was not consumed", changed(lambda _p, c, _r: c.remove(named(c, "records_consumed")[1]))
    yield "a failed commit", changed(lambda _p, c, _r: named(c, "offsets_committed")[-1].update(success=False))
    yield "commits that were not made", changed(forget_commits)


def main():
    paths, once = [a for a in sys.argv[1:] if a != "--once"], "--once" in sys.argv
    produced, consumed, read = events(paths[0]), events(paths[1]), read_back(paths[2])
    good = True
    for name, wrong in judge(produced, consumed, read, once):
        print("%s %s" % ("FAIL" if wrong else "ok  ", name))
        for line in wrong[:10]:
            print("     | %s" % line)
        good = good and not wrong
    if good:
        blind = [name for name, history in faults(produced, consumed, read)
                 if not any(wrong for _, wrong in judge(*history, once))]
        print("FAIL the judge overlooks %s" % ", ".join(blind) if blind else "ok   the judge sees faults put into this history")
        good = not blind
    sys.exit(not good)


main()
