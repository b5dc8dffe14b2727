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
