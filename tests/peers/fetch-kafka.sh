#!/usr/bin/env bash
# fetch-kafka.sh VERSION            real Apache Kafka VERSION (2.8.0, 3.9.2, 4.3.1 are the checked ones)
# fetch-kafka.sh zookeeper-VERSION  real Apache ZooKeeper (3.6.2 is the checked one)
# fetch-kafka.sh curator-VERSION    Apache Curator's recipes on ZooKeeper's client 3.6.2 (5.1.0): run-class.sh alone is of use
#
# Resolves the jars with Maven into $PEER_CACHE/<peer>/libs and writes wrappers with the
# original names into $PEER_CACHE/<peer>/bin. Prints the bin directory. Done once, then cached.
# PEER_CACHE: default ~/.cache/peers.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PEER_CACHE=${PEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/peers}
[ $# -eq 1 ] || { sed -n '2,9s/^# \?//p' "$0" >&2; exit 2; }

case $1 in
  zookeeper-*) peer=$1; v=${1#zookeeper-}; profiles=zookeeper ;;
  curator-*)   peer=$1; v=${1#curator-}; profiles=curator ;;
  *)           v=${1#kafka-}; peer=kafka-$v; profiles=kafka
               case $v in [23].*) ;; *) profiles=kafka,log4j2 ;; esac ;;
esac
home=$PEER_CACHE/$peer
mkdir -p "$PEER_CACHE"
exec 9>"$PEER_CACHE/.lock"; flock -x 9

if [ ! -e "$home/.complete" ]; then
  rm -rf "$home"; mkdir -p "$home/libs"
  mvn -B -q -Dstyle.color=never -f "$here/pom.xml" -P "$profiles" -Dpeer.version="$v" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$home/libs" >&2
  touch "$home/.complete"
fi

# wrappers are rewritten only when this script or its table is newer than they are
if [ "$home/bin/.done" -nt "$here/fetch-kafka.sh" ] && [ "$home/bin/.done" -nt "$here/tools.tsv" ]; then
  echo "$home/bin"; exit 0
fi
final=$home/bin; bin=$home/bin.new; rm -rf "$bin"; mkdir -p "$final" "$bin" "$home/config"
classes=$home/.classes
[ -s "$classes" ] || for j in "$home"/libs/*.jar; do unzip -Z1 "$j" 2>/dev/null || true; done |
  grep '\.class$' | grep -E '^(kafka|org/apache/kafka|org/apache/zookeeper)/' > "$classes"

cat > "$bin/run-class.sh" <<'W'
#!/usr/bin/env bash
# run-class.sh CLASS ARGS...  same variables as Kafka's own kafka-run-class.sh; no JMX listener
# (Kafka's default one binds a random port on every address) unless KAFKA_JMX_OPTS asks for it.
home=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
: "${KAFKA_HEAP_OPTS=-Xmx256M}"
: "${KAFKA_JVM_PERFORMANCE_OPTS=-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 -Djava.awt.headless=true}"
: "${KAFKA_LOG4J_OPTS=@TOOLLOG@}"
: "${LOG_DIR=$home}"
java=java; [ -n "${JAVA_HOME:-}" ] && java=$JAVA_HOME/bin/java
exec $java $KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS ${KAFKA_GC_LOG_OPTS:-} ${KAFKA_JMX_OPTS:-} \
  -Dkafka.logs.dir="$LOG_DIR" ${KAFKA_LOG4J_OPTS//%HOME%/$home} -cp "${CLASSPATH:+$CLASSPATH:}$home/libs/*" ${KAFKA_OPTS:-} "$@"
W
if [[ $profiles = *log4j2* ]]; then
  tool='-Dlog4j2.configurationFile=%HOME%/config/tools-log4j2.properties'
  for k in tools server; do
    { echo 'status = error'; echo 'appender.a.name = A'
      if [ $k = tools ]; then echo 'appender.a.type = Console'; echo 'appender.a.target = SYSTEM_ERR'
      else echo 'appender.a.type = File'; echo 'appender.a.fileName = ${sys:kafka.logs.dir}/server.log'; fi
      echo 'appender.a.layout.type = PatternLayout'; echo 'appender.a.layout.pattern = [%d] %p %m (%c)%n'
      echo "rootLogger.level = $([ $k = tools ] && echo warn || echo info)"; echo 'rootLogger.appenderRef.a.ref = A'
    } > "$home/config/$k-log4j2.properties"
  done
else
  tool='-Dlog4j.configuration=file:%HOME%/config/tools-log4j.properties'
  for k in tools server; do
    { if [ $k = tools ]; then echo 'log4j.rootLogger=WARN, A'; echo 'log4j.appender.A=org.apache.log4j.ConsoleAppender'; echo 'log4j.appender.A.target=System.err'
      else echo 'log4j.rootLogger=INFO, A'; echo 'log4j.appender.A=org.apache.log4j.FileAppender'; echo 'log4j.appender.A.File=${kafka.logs.dir}/server.log'; fi
      echo 'log4j.appender.A.layout=org.apache.log4j.PatternLayout'; echo 'log4j.appender.A.layout.ConversionPattern=[%d] %p %m (%c)%n'
    } > "$home/config/$k-log4j.properties"
  done
fi
sed -i "s#@TOOLLOG@#$tool#" "$bin/run-class.sh"
server=${tool/tools-/server-}

grep -v '^#' "$here/tools.tsv" | while IFS=$'\t' read -r name heap candidates; do
  case $peer:$name in
    kafka-*:zk*) continue ;;                                   # ZooKeeper's own names only in its own kit
    zookeeper-*:zookeeper-*) continue ;;
  esac
  for c in ${candidates//,/ }; do
    grep -qxF "${c//.//}.class" "$classes" || continue
    pre=
    case $name in
      zookeeper-shell.sh) pre='-server' ;;
      kafka-server-start.sh|zookeeper-server-start.sh)
        { echo '#!/usr/bin/env bash'
          echo 'b=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)'
          echo ': "${KAFKA_HEAP_OPTS='"$heap"'}" "${LOG_DIR=$PWD/logs}" "${KAFKA_LOG4J_OPTS='"$server"'}"'
          echo ': "${KAFKA_GC_LOG_OPTS=-Xlog:gc*:file=$LOG_DIR/'"${name%%-*}"'Server-gc.log:time,tags:filecount=10,filesize=100M}"'
          echo 'mkdir -p "$LOG_DIR"; export KAFKA_HEAP_OPTS LOG_DIR KAFKA_LOG4J_OPTS KAFKA_GC_LOG_OPTS'
          echo 'exec "$b/run-class.sh" '"$c"' "$@"'; } > "$bin/$name"
        break ;;
    esac
    { echo '#!/usr/bin/env bash'
      echo 'b=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)'
      echo ': "${KAFKA_HEAP_OPTS='"$heap"'}"; export KAFKA_HEAP_OPTS'
      echo 'exec "$b/run-class.sh" '"$c ${pre:+$pre }"'"$@"'; } > "$bin/$name"
    break
  done
done

if [[ $peer = zookeeper-* ]]; then
  cat > "$bin/zkServer.sh" <<W
#!/usr/bin/env bash
# zkServer.sh start-foreground ZOO_CFG | status ZOO_CFG | version   (start/stop: use peer.sh)
b=\$(cd "\$(dirname "\$(readlink -f "\$0")")" && pwd)
case "\${1:-}" in
  start-foreground)
    : "\${KAFKA_HEAP_OPTS=-Xmx512M}" "\${KAFKA_JVM_PERFORMANCE_OPTS=-Djava.awt.headless=true}" "\${LOG_DIR=\$PWD/logs}" "\${KAFKA_LOG4J_OPTS=$server}"
    mkdir -p "\$LOG_DIR"; export KAFKA_HEAP_OPTS KAFKA_JVM_PERFORMANCE_OPTS LOG_DIR KAFKA_LOG4J_OPTS
    exec "\$b/run-class.sh" org.apache.zookeeper.server.quorum.QuorumPeerMain "\${2:?ZOO_CFG}" ;;
  status)
    port=\$(sed -n 's/^ *clientPort *= *//p' "\${2:?ZOO_CFG}"); host=\$(sed -n 's/^ *clientPortAddress *= *//p' "\$2")
    echo "Client port found: \$port."
    "\$b/run-class.sh" org.apache.zookeeper.client.FourLetterWordMain "\${host:-localhost}" "\$port" srvr 2>/dev/null |
      grep '^Mode' || { echo "Error contacting service. It is probably not running."; exit 1; } ;;
  version) exec "\$b/run-class.sh" org.apache.zookeeper.version.VersionInfoMain ;;
  *) sed -n '2s/^# //p' "\$0" >&2; [ "\${1:-}" = --help ] && exit 0; exit 2 ;;
esac
W
fi
chmod +x "$bin"/*.sh
mv -f "$bin"/*.sh "$final"/; rmdir "$bin"     # file by file: tools that run meanwhile see the old or the new one
touch "$final/.done"
echo "$home/bin"
