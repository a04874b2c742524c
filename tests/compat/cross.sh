#!/usr/bin/env bash
# Three genuine Kafka 2.8.0 brokers live on three coordinators of ours: create, alter, delete, settings, ACLs, reassignment, kill -9
# of a broker and of coordinators, with Kafka's own tools, while Kafka's verifiable producer and consumer go on. Nothing
# acknowledged is lost, no session of a broker that lives ends, and the members hold one and the same tree at the end.
#   cross.sh            (the other half, our brokers on a genuine ensemble: ENSEMBLE=genuine tests/tutorial/run.sh ours)
# KEEP=1 leaves all files. Needs Java, Maven and Python.
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
. "$root/tests/lib/ensemble.sh"
. "$root/tests/lib/verified.sh"
. "$root/tests/lib/kazoo.sh"
set +e
binary=$(tripod_binary)
peer="$root/tests/peers/peer.sh"
partitions=4 assignment=1:2:3,2:3:1,3:1:2,1:3:2
have_java && command -v python3 >/dev/null && bin=$(peer_bin 2.8.0 2>"$work/mvn") ||
  { skip "genuine brokers on our coordinators" "no Java, Maven or Python: $(tail -1 "$work/mvn" 2>/dev/null)"; finish cross; }
export KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" PEER_BROKER_HEAP="-Xmx400M -Xms128M"
ensemble_at 27500
brokers=27590 # broker N is at brokers+N
bootstrap=127.0.0.1:27591,127.0.0.1:27592,127.0.0.1:27593
trap '"$peer" stop "$work/theirs" >/dev/null 2>&1; cleanup' EXIT
# shellcheck disable=SC2046  # a list
need_ports $(ensemble_ports) ${bootstrap//,/ }

# ---- looking
registered() { [ "$("$binary" zkCli -server "$zookeeper_connect" ls /brokers/ids 2>/dev/null | tail -1)" = "[1, 2, 3]" ]; }
absent() { [[ $(timeout 10 "$binary" zkCli -server "$zookeeper_connect" stat "$1" 2>&1) = *"Node does not exist: "* ]]; }
sessions() { # of the three brokers: whose ephemerals their registrations are
  local n
  for n in 1 2 3; do timeout 10 "$binary" zkCli -server "$zookeeper_connect" stat "/brokers/ids/$n" 2>/dev/null | sed -n 's/^ephemeralOwner = //p'; done
}
same_sessions() { [ "$(sessions)" = "$1" ]; }
# A broker that is back before its session of before has ended gives up: it is started again, as a supervisor would.
revive() {
  local name
  for name in $("$peer" status "$work/theirs" | awk '$3 == "down" { print $1 }'); do "$peer" respawn "$work/theirs" "$name" >/dev/null; done
}
healed() { revive; registered && in_sync 3; }
produces() { # produces TOPIC BYTES: one record with acks=all; fails when it is refused
  local out
  out=$(head -c "$2" /dev/zero | tr '\0' x | timeout 20 "$binary" kafka-console-producer --bootstrap-server "$bootstrap" --topic "$1" --request-required-acks all 2>&1) && ! grep -q ERROR <<<"$out"
}
refused() { # refused REGEX TOPIC BYTES
  head -c "$3" /dev/zero | tr '\0' x | timeout 20 "$binary" kafka-console-producer --bootstrap-server "$bootstrap" --topic "$2" --request-required-acks all 2>&1 | grep -iE "$1" >/dev/null
}

# ---- the cluster
ensemble_up && pass "three coordinators of ours" || { fail "three coordinators of ours"; tail -5 "$work"/member-*.log; finish cross; }
check "three genuine brokers register with them" "$peer" start kafka-2.8.0 --brokers 3 --port-base $((brokers + 1)) --dir "$work/theirs" --zookeeper "$zookeeper_connect" \
  --prop zookeeper.session.timeout.ms=6000 --prop replica.lag.time.max.ms=6000 \
  --prop authorizer.class.name=kafka.security.authorizer.AclAuthorizer --prop allow.everyone.if.no.acl.found=true ||
  { tail -20 "$work"/theirs/*/logs/server.log; finish cross; }
check "/brokers/ids names all three" wait_for 30 registered
begin 2.8.0
check "records flow" wait_for 60 flowing "1 1"

# ---- create, alter, delete: straight to ZooKeeper and through the controller
zk=(--zookeeper "$zookeeper_connect") bs=(--bootstrap-server "$bootstrap")
expect "kafka-topics.sh --zookeeper --create" 'Created topic made' "$bin/kafka-topics.sh" "${zk[@]}" --create --topic made --partitions 2 --replication-factor 2
expect "kafka-topics.sh --alter" '^$' "$bin/kafka-topics.sh" "${bs[@]}" --alter --topic made --partitions 4
expect "kafka-topics.sh --describe" 'PartitionCount: 4' "$bin/kafka-topics.sh" "${bs[@]}" --describe --topic made
check "the topic takes records" wait_for 30 produces made 10

# ---- settings: of topics, brokers, users and clients
configs="$bin/kafka-configs.sh"
expect "kafka-configs.sh alters a topic" 'Completed updating' "$configs" "${bs[@]}" --alter --entity-type topics --entity-name made --add-config max.message.bytes=2000
check "the brokers hear of it: a larger record is refused" wait_for 30 refused 'larger than|too large|RECORD_TOO_LARGE|RecordTooLarge' made 5000
expect "kafka-configs.sh takes it back" 'Completed updating' "$configs" "${bs[@]}" --alter --entity-type topics --entity-name made --delete-config max.message.bytes
check "the brokers hear of that, too" wait_for 30 produces made 5000
expect "kafka-configs.sh alters a broker" 'Completed updating' "$configs" "${bs[@]}" --alter --entity-type brokers --entity-name 2 --add-config log.cleaner.threads=2
expect "kafka-configs.sh describes it" 'log.cleaner.threads=2 .*DYNAMIC_BROKER_CONFIG' "$configs" "${bs[@]}" --describe --entity-type brokers --entity-name 2
expect "kafka-configs.sh --zookeeper makes a SCRAM user" 'Completed updating' "$configs" "${zk[@]}" --alter --entity-type users --entity-name alice --add-config 'SCRAM-SHA-256=[iterations=4096,password=secret]'
expect "kafka-configs.sh describes the user" 'SCRAM-SHA-256.*iterations=4096' "$configs" "${bs[@]}" --describe --entity-type users --entity-name alice
expect "kafka-configs.sh sets a quota" 'Completed updating' "$configs" "${bs[@]}" --alter --entity-type clients --entity-name slow --add-config producer_byte_rate=1048576

# ---- ACLs
acls="$bin/kafka-acls.sh" direct=(--authorizer-properties "zookeeper.connect=$zookeeper_connect")
expect "kafka-topics.sh creates what is to be guarded" 'Created topic guarded' "$bin/kafka-topics.sh" "${bs[@]}" --create --topic guarded --partitions 1 --replication-factor 3
check "it takes records" wait_for 30 produces guarded 10
expect "kafka-acls.sh denies" 'Adding ACLs' "$acls" "${bs[@]}" --add --deny-principal User:ANONYMOUS --operation Write --topic guarded
check "the brokers hear of it: records are refused" wait_for 30 refused 'authoriz' guarded 10
expect "kafka-acls.sh straight to ZooKeeper lists it" 'permissionType=DENY' "$acls" "${direct[@]}" --list --topic guarded
expect "kafka-acls.sh straight to ZooKeeper allows bob by prefix" 'resourceType=TOPIC, name=gua, patternType=PREFIXED' "$acls" "${direct[@]}" --add --allow-principal User:bob --operation Read --topic gua --resource-pattern-type prefixed
check "kafka-acls.sh removes both" timeout 60 "$acls" "${bs[@]}" --remove --force --topic guarded --resource-pattern-type match
check "their znodes go" wait_for 10 absent /kafka-acl-extended/prefixed/Topic/gua
check "the brokers hear of that, too" wait_for 30 produces guarded 10

# ---- reassignment, by a znode and by request; preferred leaders
printf '{"version":1,"partitions":[{"topic":"made","partition":0,"replicas":[3,1]},{"topic":"made","partition":1,"replicas":[2,3]}]}' >"$work/moves.json"
expect "kafka-reassign-partitions.sh --zookeeper moves" 'Successfully started' "$bin/kafka-reassign-partitions.sh" "${zk[@]}" --execute --reassignment-json-file "$work/moves.json"
check "the moves end" wait_for 60 absent /admin/reassign_partitions
moved() { local out; out=$(timeout 10 "$binary" kafka-topics "${bs[@]}" --describe --topic made) && grep -q 'Partition: 0.*Replicas: 3,1' <<<"$out" && grep -q 'Partition: 1.*Replicas: 2,3' <<<"$out"; }
check "the replicas are where they should be" wait_for 30 moved
expect "kafka-reassign-partitions.sh --bootstrap-server verifies" 'made-0 is complete' "$bin/kafka-reassign-partitions.sh" "${bs[@]}" --verify --reassignment-json-file "$work/moves.json"
expect "kafka-preferred-replica-election.sh --zookeeper" 'Successfully started|Created preferred replica election path' "$bin/kafka-preferred-replica-election.sh" "${zk[@]}"
check "the election ends" wait_for 30 absent /admin/preferred_replica_election
expect "kafka-topics.sh --zookeeper --delete" 'marked for deletion' "$bin/kafka-topics.sh" "${zk[@]}" --delete --topic made
check "the topic goes" wait_for 30 absent /brokers/topics/made
check "records flow all the while" wait_for 60 flowing "$(now)"

# ---- the faults
victim=$(leaders | head -1)
"$peer" kill "$work/theirs" "broker-$victim" KILL >/dev/null
check "kill -9 of a broker ($victim): its session ends" wait_for 30 absent "/brokers/ids/$victim"
check "kill -9 of a broker: records go on" wait_for 60 flowing "$(now)"
"$peer" respawn "$work/theirs" "broker-$victim" >/dev/null
check "kill -9 of a broker: it comes back, all in sync" wait_for 60 healed

held=$(sessions)
for again in first second; do
  n=$(raft_leader); member_kill "$n"
  check "kill -9 of our leader ($again, member $n): another leads" wait_for 20 raft_leader
  check "kill -9 of our leader ($again): records go on" wait_for 60 flowing "$(now)"
  member_start "$n"
  check "kill -9 of our leader ($again): it comes back" wait_for 30 members_serve
done
for n in 1 2 3; do member_kill $n STOP; done # so that they go at once
for n in 1 2 3; do member_kill $n; done
for n in 1 2 3; do member_start $n; done
check "kill -9 of all our members: they come back" wait_for 30 members_serve
check "kill -9 of all our members: records go on" wait_for 60 flowing "$(now)"
check "no broker lost its session by that" wait_for 20 same_sessions "$held"

victim=$(controller) n=$(raft_leader)
"$peer" kill "$work/theirs" "broker-$victim" KILL >/dev/null; member_kill "$n"
another_controls() { local c; c=$(controller); [ -n "$c" ] && [ "$c" != "$victim" ]; }
check "kill -9 of the controller ($victim) and of our leader ($n): another controls" wait_for 60 another_controls
check "kill -9 of both: records go on" wait_for 60 flowing "$(now)"
member_start "$n"; "$peer" respawn "$work/theirs" "broker-$victim" >/dev/null
check "kill -9 of both: all come back" wait_for 60 healed
check "after all of it a topic is made" bash -c "'$binary' kafka-topics --bootstrap-server '$bootstrap' --create --topic last --partitions 3 --replication-factor 3 | grep 'Created topic last'"

# ---- the end
end 2.8.0
check "the brokers end" "$peer" stop "$work/theirs"
check "and sign off: /brokers/ids is empty" bash -c "[ \"\$('$binary' zkCli -server '$zookeeper_connect' ls /brokers/ids 2>/dev/null | tail -1)\" = '[]' ]"
strange() { ! grep -hE 'KeeperErrorCode = (Unimplemented|MarshallingError|SystemError|BadArguments|RuntimeInconsistency|APIError)|Xid out of order' "$work"/theirs/*/logs/server.log; }
check "no broker was answered anything strange" strange
if kazoo_python; then
  lines "the members' trees" "$kazoo" "$root/tests/compat/same_trees.py" $(for n in 1 2 3; do echo 127.0.0.1:$((zookeepers + n)); done)
else skip "the members' trees" "no kazoo: $(tail -1 "$work/pip" 2>/dev/null)"; fi
check "no alarm in our logs" no_member_alarms
finish cross
