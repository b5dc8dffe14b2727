# Other stores with three nodes on this machine, for bench/compare. Sourced after bench/common.sh.

# install_stores: Redis and etcd from Debian, where that may be done and they are not there.
install_stores() {
  local wanted=()
  command -v redis-server >/dev/null || wanted+=(redis-server)
  command -v redis-cli >/dev/null || wanted+=(redis-tools)
  command -v etcd >/dev/null || wanted+=(etcd-server)
  [ ${#wanted[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not on this machine: ${wanted[*]}. Install them, then start this again" >&2
    exit 1
  fi
  # In runlevel 1 Debian's packages start no service.
  (apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${wanted[@]}") >"$dir/apt.log" 2>&1 ||
    { cat "$dir/apt.log" >&2; exit 1; }
}

# free_port: a port on which no process listens, nor on the one 10000 above it. Below the ports that the kernel gives out itself.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 2700))
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    (: <"/dev/tcp/127.0.0.1/$((port + 10000))") 2>/dev/null && continue
    [[ " ${given_ports:-} " == *" $port "* ]] && continue
    given_ports+=" $port"
    break
  done
  free=$port
}

# start_redis NAME FSYNC ARGUMENT...: one server on a free port, in $free. No snapshots: the append-only file is what is kept.
start_redis() {
  local name=$1 fsync=$2
  shift 2
  free_port
  mkdir -p "$dir/$name"
  start "$name" redis-server --port "$free" --bind 127.0.0.1 --dir "$dir/$name" --save '' --appendonly yes \
    --appendfsync "$fsync" --repl-diskless-sync-delay 0 "$@"
  within 20 "$name" redis-cli -p "$free" ping
}

replicas_online() {
  [ "$(redis-cli -p "$1" info replication | grep -c 'state=online')" = "$2" ]
}

# start_redis_three FSYNC: a primary and two replicas. Sets `list` (of the primary), `server_pids` and `redis_ports`.
start_redis_three() {
  local number replica_of=()
  server_pids=()
  redis_ports=()
  for number in 1 2 3; do
    start_redis "redis-$number" "$1" "${replica_of[@]}"
    redis_ports+=("$free")
    server_pids+=("${pids[-1]}")
    replica_of=(--replicaof "127.0.0.1 ${redis_ports[0]}")
  done
  list=127.0.0.1:${redis_ports[0]}
  within 60 "Redis with two replicas" replicas_online "${redis_ports[0]}" 2
}

# start_sentinels: three for the primary of start_redis_three. Sets `list` to them.
start_sentinels() {
  local number
  list=
  for number in 1 2 3; do
    free_port
    mkdir -p "$dir/sentinel-$number"
    cat >"$dir/sentinel-$number/sentinel.conf" <<CONF
port $free
bind 127.0.0.1
dir $dir/sentinel-$number
sentinel monitor main 127.0.0.1 ${redis_ports[0]} 2
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 5000
CONF
    start "sentinel-$number" redis-server "$dir/sentinel-$number/sentinel.conf" --sentinel
    within 20 "sentinel $number" redis-cli -p "$free" ping
    list+="${list:+,}127.0.0.1:$free"
  done
  within 60 "three sentinels that know two replicas" sentinels_ready
}

sentinels_ready() {
  local sentinel known
  for sentinel in ${list//,/ }; do
    known=$(redis-cli -p "${sentinel##*:}" sentinel master main | paste - - | tr '\t' ' ')
    grep -qx 'num-slaves 2' <<<"$known" && grep -qx 'num-other-sentinels 2' <<<"$known" || return 1
  done
}

# start_redis_cluster: three primaries with a replica each, a node counts as failed after 1 s. Sets `list` and `server_pids`.
start_redis_cluster() {
  local number nodes=()
  server_pids=()
  for number in 1 2 3 4 5 6; do
    start_redis "cluster-$number" always --cluster-enabled yes --cluster-node-timeout 1000
    nodes+=("127.0.0.1:$free")
    server_pids+=("${pids[-1]}")
  done
  redis-cli --cluster create "${nodes[@]}" --cluster-replicas 1 --cluster-yes >"$dir/cluster-create.log" 2>&1
  list=$(IFS=,; echo "${nodes[*]}")
  within 60 "a Redis Cluster" cluster_ready "${nodes[@]}"
}

cluster_ready() {
  local node links
  for node; do
    redis-cli -p "${node##*:}" cluster info | grep -q 'cluster_state:ok' || return 1
    [ "$(redis-cli -p "${node##*:}" cluster nodes | grep -c slave)" = 3 ] || return 1
    links=$(redis-cli -p "${node##*:}" info replication)
    ! grep -q 'master_link_status:down' <<<"$links" || return 1
  done
}

# start_etcd: three members with default settings. Sets `list` and `server_pids`.
start_etcd() {
  local number peers=() clients=() cluster=
  server_pids=()
  for number in 1 2 3; do
    free_port
    peers+=("$free")
    free_port
    clients+=("$free")
    cluster+="${cluster:+,}m$number=http://127.0.0.1:${peers[-1]}"
  done
  for number in 1 2 3; do
    start "etcd-$number" etcd --name "m$number" --data-dir "$dir/etcd-$number" --log-level error \
      --listen-peer-urls "http://127.0.0.1:${peers[number - 1]}" \
      --initial-advertise-peer-urls "http://127.0.0.1:${peers[number - 1]}" \
      --listen-client-urls "http://127.0.0.1:${clients[number - 1]}" \
      --advertise-client-urls "http://127.0.0.1:${clients[number - 1]}" \
      --initial-cluster "$cluster" --initial-cluster-state new
    server_pids+=("${pids[-1]}")
  done
  list=$(printf ',127.0.0.1:%s' "${clients[@]}")
  list=${list:1}
  within 60 "a leader of etcd" "$bin/load" leader -s "$list"
}
