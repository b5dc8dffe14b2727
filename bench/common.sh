# What the scripts of this folder share. Sourced, with `set -euo pipefail`, from the root of the repository.

bin=${CARGO_TARGET_DIR:-$PWD/target}/release

# A folder of its own, and all programs that were started, are gone at the end, however it ends.
dir=$(mktemp -d "${TMPDIR:-/tmp}/trefoil-bench.XXXXXX")
pids=()
finish() {
  stop_all
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# stop_all: kills what was started, and forgets it.
stop_all() {
  [ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true
  local pid
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
  done
  pids=()
}

# machine: what was measured on.
machine() {
  echo "$(nproc) cores, $(uname -sr), load $(cut -d' ' -f1 /proc/loadavg) before"
}

# within SECONDS WHAT COMMAND...: repeats a command until it succeeds, and gives up with the logs of $dir after SECONDS.
within() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > limit)); then
      echo "$what does not come about" >&2
      tail -n 5 "$dir"/*.log >&2 || true
      exit 1
    fi
    # A look costs the machine something: ten a second.
    sleep 0.1
  done
}

# start NAME COMMAND...: runs a program in the background, its output in $dir/NAME.out and NAME.log.
start() {
  local name=$1
  shift
  "$@" >"$dir/$name.out" 2>"$dir/$name.log" &
  pids+=($!)
  # The shell says nothing of it when it is killed.
  disown
}

# address NAME: where a program of ours says that it listens.
address() {
  sed -n 's/.*listening on //p' "$dir/$1.out"
}

# start_trefoil [ECS-ARGUMENT...]: an ECS and three servers. Sets `ecs`, `servers`, `list` (with commas) and `server_pids`.
start_trefoil() {
  start ecs "$bin/ecs" -p 0 -d "$dir/ecs" "$@"
  within 20 "the ECS" grep -qs 'listening on' "$dir/ecs.out"
  ecs=$(address ecs)
  servers=()
  server_pids=()
  local number
  for number in 1 2 3; do
    start_server "$number"
  done
  list=$(IFS=,; echo "${servers[*]}")
  within 60 "a healthy cluster" healthy 3
}

# start_server NUMBER: one more server, with a directory of its own. Options from SERVER_ARGUMENTS.
start_server() {
  # shellcheck disable=SC2086 # words are wanted
  start "server-$1" "$bin/kvserver" -p 0 -b "$ecs" -d "$dir/$1" --reserve-mb 64 ${SERVER_ARGUMENTS:-}
  server_pids+=("${pids[-1]}")
  within 60 "server $1" grep -qs 'listening on' "$dir/server-$1.out"
  servers+=("$(address "server-$1")")
}

# healthy COUNT: all is well with so many servers.
healthy() {
  "$bin/kvclient" -s "$list" status 2>/dev/null | grep -q "^healthy, .* $1 servers"
}

# used PID...: clock ticks of processor time that these processes have used.
used() {
  local sum=0 pid fields
  for pid in "$@"; do
    read -r -a fields <<<"$(sed 's/.*) //' "/proc/$pid/stat")"
    sum=$((sum + fields[11] + fields[12]))
  done
  echo "$sum"
}
tick_us=$((1000000 / $(getconf CLK_TCK)))

# field NAME: a number or a word of the JSON object on standard input, of its first place there.
field() {
  grep -o "\"$1\":[^,}]*" | head -1 | cut -d: -f2- | tr -d '"'
}

# record_profile FILE SECONDS: samples what all servers do.
record_profile() {
  perf record --quiet --output "$1" --freq 1997 --call-graph fp --pid "$(IFS=,; echo "${server_pids[*]}")" -- sleep "$2" >/dev/null
}

# shares FILE: lines `percent;dso;symbol` of the samples, by the function at the top; with --children by all that were on the way.
shares() {
  local file=$1
  shift
  perf report --input "$file" --call-graph none --field-separator ';' --sort dso,sym "$@" 2>/dev/null |
    grep -v '^#' | grep ';' || true
}

# print_profile FILE: what the samples say, for people.
print_profile() {
  echo
  echo "the kernel, with what its calls lead to:"
  shares "$1" --children | awk -F';' '
    { gsub(/ +$/, "", $4) }
    $4 ~ /__x64_sys_(sendto|recvfrom|fdatasync|pwrite64|pread64|epoll_wait|futex|writev)$/ {
      sub(/.*__x64_sys_/, "", $4); printf "  %5.1f %%  %s\n", $1, $4
    }' | sort -k1,1nr
  echo
  echo "all samples, by what the function at the top does:"
  shares "$1" --no-children | awk -F';' '
    function kind(dso, symbol) {
      if (dso ~ /kernel/) return "kernel"
      if (dso ~ /vdso/) return "clocks"
      if (symbol ~ /crc32c|xxh|md5/) return "checksums and hashes of keys"
      if (symbol ~ /_?mi_|malloc|memmove|memcpy|memset|memcmp|finish_grow|raw_vec/) return "allocation, copying, comparing"
      if (symbol ~ /skiplist/) return "trees: memory tables (a skip list)"
      if (symbol ~ /lsm_tree|byteview|quick_cache|interval_heap|self_cell/) return "trees: the rest"
      if (symbol ~ /storage::log/) return "the log"
      if (symbol ~ /storage::|kvserver::machine|kvserver_core::state/) return "applying and reading records"
      if (symbol ~ /kvserver_core::/) return "the core: replication"
      if (symbol ~ /tokio|mio::|mpmc|mpsc|futex|pthread|epoll/) return "tokio, threads, queues"
      if (symbol ~ /serde_json|common::|bytes::/) return "messages"
      if (symbol ~ /kvserver::/) return "sockets, frames, figures"
      if (dso ~ /libc/) return "libc"
      return "the rest"
    }
    { share[kind($2, $3)] += $1 }
    END { for (name in share) printf "  %5.1f %%  %s\n", share[name], name }' | sort -k1,1nr
  echo
  echo "the functions with most of it:"
  shares "$1" --no-children | head -12 | awk -F';' '{ sub(/^ *\[[.k]\] /, "", $3); printf "  %5.1f %%  %s\n", $1, $3 }'
}
