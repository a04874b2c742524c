# The genuine Kafka and ZooKeeper, as tools and as oracles. Resolved by Maven; cached in PEER_CACHE.

: "${PEER_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/peers}"   # downloaded once, shared by all checkouts
export PEER_CACHE

have_java() { command -v java >/dev/null && command -v mvn >/dev/null; }

# peer_bin VERSION: the directory with that version's tools under their own names.
peer_bin() { "$root/tests/peers/fetch-kafka.sh" "$1"; }

# dump_is_sane BIN LOG: the genuine dump reads a segment and both its indexes without complaint.
dump_is_sane() {
  local out base=${2%.log}
  out=$("$1/kafka-dump-log.sh" --deep-iteration --print-data-log --files "$2" 2>&1) || { echo "$out"; return 1; }
  ! grep -qE 'isvalid: false|Found invalid|Exception' <<<"$out" || { echo "$out"; return 1; }
  out=$("$1/kafka-dump-log.sh" --index-sanity-check --files "$base.index,$base.timeindex" 2>&1) || { echo "$out"; return 1; }
  ! grep -qE 'Exception|mismatch|not pass' <<<"$out" || { echo "$out"; return 1; }
}
