#!/usr/bin/env bash
# Recipes over ZooKeeper that others wrote (kazoo's, Apache Curator's on the Java client 3.6.2, go-zookeeper's) against three
# coordinators of ours: once left alone, and once while a random member is killed with SIGKILL and started again, over and over.
# What each recipe promises is checked: one holder, one leader, exact counters, every item once. No session may be lost.
#   recipes.sh [SECONDS]      how long the second goes on (40)
# RECIPES_SEED repeats the order of the kills; KEEP=1 leaves all files. Needs Python, Go, a JDK and Maven.
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
. "$root/tests/lib/kazoo.sh"
. "$root/tests/lib/ensemble.sh"
set +e
seconds=${1:-40}
seed=${RECIPES_SEED:-$RANDOM}
here=$root/tests/compat
ensemble_at 27600
# shellcheck disable=SC2046  # a list
need_ports $(ensemble_ports)
mkdir -p "$cache"

# ---- the programs that this machine can run
programs=()
if kazoo_python; then programs+=(kazoo); else skip "kazoo's recipes" "no Python, or kazoo could not be installed: $(tail -1 "$work/pip" 2>/dev/null)"; fi
if command -v go >/dev/null && (cd "$here/go-zookeeper" && go build -o "$cache/go-zookeeper" .) >"$work/go" 2>&1; then programs+=(go-zookeeper)
else skip "go-zookeeper" "no Go, or its module could not be had: $(tail -1 "$work/go" 2>/dev/null)"; fi
if have_java && command -v javac >/dev/null && curator=$(peer_bin curator-5.1.0 2>"$work/mvn"); then programs+=(Curator)
else skip "Curator's recipes" "no JDK or Maven: $(tail -1 "$work/mvn" 2>/dev/null)"; fi
[ ${#programs[@]} -gt 0 ] || finish recipes
export KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" KAFKA_HEAP_OPTS=-Xmx512M
program() { # program NAME [SECONDS]: what runs it, in $command
  case $1 in
    kazoo) command=("$kazoo" "$here/kazoo_recipes.py") ;;
    go-zookeeper) command=("$cache/go-zookeeper") ;;
    Curator) command=("$curator/run-class.sh" "$here/CuratorRecipes.java") ;;
  esac
  command+=("$zookeeper_connect" ${2:+"$2"})
}

ensemble_up && pass "three coordinators" || { fail "three coordinators"; tail -5 "$work"/member-*.log; finish recipes; }
for name in "${programs[@]}"; do program "$name"; LIMIT_LINES=240 lines "$name" "${command[@]}"; done

# ---- while members die
running() { local pid; for pid in "${pids_of[@]}"; do gone "$pid" || return 0; done; return 1; }
pids_of=() kills=0
for name in "${programs[@]}"; do
  program "$name" "$seconds"
  launch "$work/faults.$name" "${command[@]}"
  pids_of+=("$launched")
done
RANDOM=$seed
limit=$((SECONDS + seconds + 120))
while running && [ $SECONDS -lt $limit ]; do
  victim=$((RANDOM % 3 + 1)) pause=$((RANDOM % 1500))
  member_kill $victim; kills=$((kills + 1))
  wait_for 5 eval "[ \$(date +%s%3N) -ge $(($(date +%s%3N) + pause)) ]"
  member_start $victim
  wait_for 30 members_serve || { fail "member $victim is back after kill $kills" "$(tail -5 "$work/member-$victim.log")"; break; }
  wait_for 5 eval "[ \$(date +%s%3N) -ge $(($(date +%s%3N) + 1500)) ]"
done
running && { fail "the programs end after $kills kills" "still running"; kill "${pids_of[@]}" 2>/dev/null; }
echo "     $kills kills, RECIPES_SEED=$seed"
for name in "${programs[@]}"; do lines "$name while members die" cat "$work/faults.$name"; done
for pid in "${pids_of[@]}"; do wait_for 10 gone "$pid"; done
if [ -n "${kazoo:-}" ]; then
  lines "the members' trees" "$kazoo" "$here/same_trees.py" $(for n in 1 2 3; do echo 127.0.0.1:$((zookeepers + n)); done)
fi
check "no alarm in the members' logs" no_member_alarms
finish recipes
