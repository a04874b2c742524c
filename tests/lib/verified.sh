# Kafka's verifiable producer and consumer on one topic while a test goes on, held against a full read at the end. After common.sh
# and peers.sh. Needs: binary, bin (the tools), bootstrap, zookeeper_connect, partitions and assignment of the topic.

# ---- looking
described() { timeout 10 "$binary" kafka-topics --bootstrap-server "$bootstrap" --describe --topic "$topic" 2>/dev/null; }
leaders() { described | grep -oE 'Leader: [0-9]+' | grep -oE '[0-9]+'; }
in_sync() { [ "$(described | grep -oE 'Isr: [0-9,]+' | tr ',' '\n' | wc -l)" = $((partitions * $1)) ]; }
znode() { timeout 10 "$binary" zkCli -server "$zookeeper_connect" get "$1" 2>/dev/null; }
controller() { znode /controller | grep -oE '"brokerid":[0-9]+' | grep -oE '[0-9]+'; }
now() { echo "$(($(stat -c %s "$printed.producer") + 1)) $(($(stat -c %s "$printed.consumer") + 1))"; } # how far the tools have printed
# written NOW: since then every partition has acknowledged something; consumed NOW: records were read, and committed.
written() { [ "$(tail -c "+${1% *}" "$printed.producer" | grep -F '"producer_send_success"' | grep -oE '"partition":[0-9]+' | sort -u | wc -l)" = $partitions ]; }
consumed() {
  local lines
  lines=$(tail -c "+${1#* }" "$printed.consumer")
  grep -qF '"records_consumed"' <<<"$lines" && grep -qF '"offsets_committed"' <<<"$lines"
}
flowing() { written "$1" && consumed "$1"; }

# ---- the tools
tool() { # tool FILE COMMAND...: standard output alone in FILE
  local file=$1; shift
  launch "$file.err" bash -c 'file=$1; shift; exec "$@" >"$file"' tool "$file" "$@"
}
begin() { # begin VERSION: the producer and the consumer of that version at work on a topic of their own
  topic=verified-$1 printed=$work/$1
  wait_for 60 timeout 10 "$binary" kafka-topics --bootstrap-server "$bootstrap" --create --if-not-exists --topic "$topic" \
    --replica-assignment $assignment --config min.insync.replicas=2
  check "$1: a topic of three replicas" wait_for 60 in_sync 3
  # The tool sets retries=0; this is the producer's own default, which applications run with.
  # 4.x stays on one partition for a batch.size of records: a small one, so that all have their turn soon.
  printf 'retries=2147483647\n' >"$work/producer.properties"
  [ "$1" = 2.8.0 ] || printf 'batch.size=1024\n' >>"$work/producer.properties"
  tool "$printed.producer" "$bin/kafka-verifiable-producer.sh" --bootstrap-server "$bootstrap" --topic "$topic" --acks -1 --throughput 500 \
    --producer.config "$work/producer.properties"
  producer=$launched
  tool "$printed.consumer" "$bin/kafka-verifiable-consumer.sh" --bootstrap-server "$bootstrap" --topic "$topic" --group-id "group-$1"
  consumer=$launched
}
end() { # end VERSION [--once]: both end; what they printed is held against the whole topic
  local total
  kill -TERM "$producer"; check "$1: the producer ends" wait_for 60 gone "$producer"
  ends=$(timeout 60 "$bin/kafka-get-offsets.sh" "$([ "$1" = 2.8.0 ] && echo --broker-list || echo --bootstrap-server)" "$bootstrap" --topic "$topic" 2>/dev/null)
  total=$(awk -F: '{ sum += $3 } END { print sum + 0 }' <<<"$ends")
  read_all() { [ "$(grep -F '"records_consumed"' "$printed.consumer" | grep -oE '"count":[0-9]+,"partitions' | grep -oE '[0-9]+' | awk '{ sum += $1 } END { print sum + 0 }')" -ge "$total" ]; }
  wait_for 60 read_all
  kill -TERM "$consumer"; check "$1: the consumer ends" wait_for 60 gone "$consumer"
  timeout 60 "$bin/kafka-console-consumer.sh" --bootstrap-server "$bootstrap" --topic "$topic" --from-beginning --max-messages "$total" --timeout-ms 20000 \
    --property print.partition=true --property print.offset=true >"$printed.read" 2>"$printed.read.err"
  lines "the judge of $1" python3 "$root/tests/compat/verifiable_check.py" "$printed.producer" "$printed.consumer" "$printed.read" ${2:+"$2"}
}
