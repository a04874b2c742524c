# Three coordinators of ours as processes of their own, for tests whose clients are somebody else's. After common.sh.
# ensemble_at PORT first: clients at PORT+1.., quorum PORT+11.., election PORT+21.., HTTP PORT+31..

ensemble_at() {
  binary=${binary:-$(tripod_binary)}
  zookeepers=$1 quorum=$(($1 + 10)) elections=$(($1 + 20)) member_http=$(($1 + 30)) member=()
  zookeeper_connect=127.0.0.1:$(($1 + 1)),127.0.0.1:$(($1 + 2)),127.0.0.1:$(($1 + 3))
}
ensemble_ports() { local n; for n in 1 2 3; do printf '127.0.0.1:%s\n' $((zookeepers + n)) $((quorum + n)) $((elections + n)) $((member_http + n)); done; }
member_start() { # member_start N
  local n servers=()
  for n in 1 2 3; do servers+=(--server "$n=127.0.0.1:$((quorum + n)):$((elections + n))"); done
  launch "$work/member-$1.log" "$binary" serve --roles coordinator --node-id "$1" --data-dir "$work/member/$1" \
    "${servers[@]}" --client-port $((zookeepers + $1)) --http-port $((member_http + $1))
  member[$1]=$launched
}
member_kill() { # member_kill N [SIGNAL]: it is gone when this returns, unless the signal only stops it
  kill "-${2:-KILL}" "${member[$1]}" || return
  case ${2:-KILL} in STOP | CONT) ;; *) wait_for 20 gone "${member[$1]}" ;; esac
}
mode_of() { printf srvr | timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$((zookeepers + $1)); cat >&3; cat <&3" 2>/dev/null | sed -n 's/^Mode: //p'; }
raft_leader() { local n; for n in 1 2 3; do [ "$(mode_of $n)" != leader ] || { echo $n; return; }; done; return 1; }
members_serve() { # all three, one of them leads
  local n modes=
  for n in 1 2 3; do modes+=$(mode_of $n)' '; done
  case $modes in 'leader follower follower ' | 'follower leader follower ' | 'follower follower leader ') ;; *) return 1 ;; esac
}
# Not below `check`: that is a shell of its own, where the pids would be lost.
ensemble_up() { local n; for n in 1 2 3; do member_start $n; done; wait_for 30 members_serve; }
# What a person must look at, in any member's log.
member_alarms() { grep -hE ' ERROR |panicked' "$work"/member-*.log; }
no_member_alarms() { ! member_alarms; }
