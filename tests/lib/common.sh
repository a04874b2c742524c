# Shared by the shell tests: counting, waiting, starting and stopping processes of our own.
# Source it; then `check NAME COMMAND...`, and `finish` at the end.

set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
passed=0 failed=0 skipped=0 pids=()
work=$(mktemp -d "${TMPDIR:-/tmp}/tripod-test.XXXXXX")

say() { printf '%s\n' "$*" >&2; }

# The binary under test: TRIPOD, or a release or debug build, whichever is newer.
tripod_binary() {
  if [ -n "${TRIPOD:-}" ]; then echo "$TRIPOD"; return; fi
  local newest
  newest=$(ls -t "$root"/target/{release,debug}/tripod 2>/dev/null | head -1)
  [ -n "$newest" ] || { say "no tripod binary: run 'cargo build --release' first"; exit 2; }
  echo "$newest"
}

pass() { passed=$((passed + 1)); echo "ok   $1"; }
fail() { failed=$((failed + 1)); echo "FAIL $1"; [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -15 | sed 's/^/     | /'; }

# check NAME COMMAND...: passes when the command exits with 0; its output is shown when it does not.
check() {
  local name=$1 out; shift
  if out=$("$@" 2>&1); then pass "$name"; else fail "$name" "$out"; fi
}

# expect NAME REGEX COMMAND...: passes when the output has a match.
expect() {
  local name=$1 regex=$2 out; shift 2
  out=$(timeout "${LIMIT:-90}" "$@" 2>&1 </dev/null)
  if grep -qE -- "$regex" <<<"$out"; then pass "$name"; else fail "$name" "wanted /$regex/, got: $out"; fi
}

# lines NAME COMMAND...: every "ok"/"FAIL" line of a program counts here.
lines() {
  local out status line what=$1; shift
  out=$(timeout "${LIMIT_LINES:-180}" "$@" 2>&1); status=$?
  while IFS= read -r line; do
    case $line in ok\ *) pass "${line#ok   }" ;; FAIL\ *) fail "${line#FAIL }" ;; \ \ \ \ \ *) echo "$line" ;; esac
  done <<<"$out"
  if [ $status -ne 0 ] && ! grep -q '^FAIL' <<<"$out"; then fail "$what ended with $status" "$out"; fi
  grep -qE '^(ok|FAIL)' <<<"$out" || fail "$what said nothing" "$out"
}

# skip NAME WHY: loud, and a failure where CI could have provided it.
skip() {
  if [ "${CI:-}" = true ]; then fail "$1" "skipped under CI: $2"; else skipped=$((skipped + 1)); echo "SKIPPED $1: $2"; fi
}

# wait_for SECONDS COMMAND...: polls a condition.
wait_for() {
  local end=$(($(date +%s%3N) + $1 * 1000)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s%3N)" -lt "$end" ] || return 1
    read -rt 0.05 <> <(:) || :
  done
}

# launch LOG COMMAND...: starts a process of ours; its pid is in $launched.
launch() {
  local log=$1; shift
  "$@" >>"$log" 2>&1 </dev/null &
  launched=$!
  disown "$launched" # its end is looked for by pid; bash need not report it
  pids+=("$launched")
}

# need_ports HOST:PORT...: ends at once, with one sentence, where somebody listens already. Call it before
# anything is started: a stranger's server would be taken for ours.
need_ports() {
  local place taken=()
  for place in "$@"; do
    ! (exec 3<>"/dev/tcp/${place%:*}/${place##*:}") 2>/dev/null || taken+=("$place")
  done
  [ ${#taken[@]} -gt 0 ] || return 0
  say "$(basename "$(dirname "$0")")/$(basename "$0") needs ${taken[*]}, and somebody listens there already: stop that first."
  exit 2
}

stop_all() {
  local pid
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || :; done
  for pid in "${pids[@]:-}"; do
    [ -z "$pid" ] || wait_for 15 gone "$pid" || kill -KILL "$pid" 2>/dev/null || :
  done
  pids=()
}
gone() { ! kill -0 "$1" 2>/dev/null; }

cleanup() { stop_all; [ "${KEEP:-0}" = 1 ] || rm -rf "$work"; }
trap cleanup EXIT

# Prints the closing line and exits accordingly.
finish() {
  echo "${1:-total}: $passed passed, $failed failed, $skipped skipped"
  exit $((failed > 0))
}
