#!/usr/bin/env bash
# A real data set through a real cluster: the largest English word list of Debian, some 650,000 words.
#
# Imports it through one server while another one joins, exports it through the new one, and compares byte for byte;
# then writes all of it again, from the other format, while a server leaves, and compares again. Prints the rates.
#
#   cargo build --release && tests/real_data.sh        # BIN=target/debug for other binaries
#
# Needs a Debian with its package sources (`apt-get download`), python3, and 2 GB of disk; leaves nothing behind.
set -euo pipefail

readonly PACKAGE=wamerican-insane
readonly RECORDS_MIN=500000
readonly READY_WITHIN_S=60
bin=$(realpath "${BIN:-$(dirname "$0")/../target/release}")
work=$(mktemp -d "${TMPDIR:-/tmp}/trefoil-real-data.XXXXXX")
pids=()

cleanup() {
    local status=$?
    if ((status != 0)); then
        tail -n 20 "$work"/*.log >&2 || true
    fi
    if ((${#pids[@]} > 0)); then
        kill -KILL "${pids[@]}" 2>/dev/null || true
        wait 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
    echo "real_data: $*" >&2
    exit 1
}

# start NAME PROGRAM ARGUMENTS...: starts a process in the background; its address is in $address, its id in $pid.
start() {
    local name=$1
    shift
    "$bin/$1" "${@:2}" >"$work/$name.out" 2>"$work/$name.log" &
    pid=$!
    pids+=("$pid")
    for ((i = 0; i < READY_WITHIN_S * 20; i++)); do
        if address=$(sed -n 's/^.* listening on //p' "$work/$name.out") && [[ -n $address ]]; then
            return
        fi
        kill -0 "$pid" 2>/dev/null || fail "$name has ended: $(cat "$work/$name.log")"
        sleep 0.05
    done
    fail "$name does not listen"
}

server() {
    start "server-$1" kvserver -p 0 -b "$ecs" -d "$work/server-$1"
}

# settled COUNT: waits until so many servers are up and every partition has its copies.
settled() {
    for ((i = 0; i < READY_WITHIN_S * 5; i++)); do
        if "$bin/kvclient" -s "$servers" status 2>&1 | grep -q "^healthy, epoch [^,]*, $1 servers,"; then
            return
        fi
        sleep 0.2
    done
    fail "not settled: $("$bin/kvclient" -s "$servers" status 2>&1)"
}

# timed WHAT COMMAND...: runs a command and prints what it took for all records.
timed() {
    local what=$1 begin end
    shift
    begin=$(date +%s%N)
    "$@" || fail "$what failed"
    end=$(date +%s%N)
    echo "$what: $records records, $(((end - begin) / 1000000)) ms, $((records * 1000000000 / (end - begin))) records/s"
}

# compare HALF-NAME SERVER: exports both formats through a server and compares.
compare() {
    timed "export, NDJSON" "$bin/kvclient" -s "$2" export --sort "$work/$1.ndjson"
    cmp "$work/sorted.ndjson" "$work/$1.ndjson" || fail "$1: the NDJSON is not what was imported"
    timed "export, TSV" "$bin/kvclient" -s "$2" export --sort "$work/$1.tsv"
    cmp "$work/sorted.tsv" "$work/$1.tsv" || fail "$1: the TSV is not what was imported"
}

for program in ecs kvserver kvclient; do
    [[ -x $bin/$program ]] || fail "there is no $bin/$program: cargo build --release, or BIN=..."
done

(cd "$work" && apt-get download -q "$PACKAGE" >apt.out 2>&1 && dpkg -x ./*.deb package) ||
    fail "$PACKAGE cannot be fetched: $(cat "$work/apt.out")"
python3 - "$work/package/usr/share/dict/american-english-insane" "$work" <<'PYTHON'
import json, sys

words = [line.rstrip("\n") for line in open(sys.argv[1], encoding="utf-8")]
assert len(set(words)) == len(words), "a word is there twice"
record = lambda number, word: (word, f"{number} {''.join(sorted(word))}")
records = [record(number, word) for number, word in enumerate(words, 1)]

def write(name, records):
    with open(f"{sys.argv[2]}/{name}.ndjson", "w", encoding="utf-8") as ndjson, \
            open(f"{sys.argv[2]}/{name}.tsv", "w", encoding="utf-8") as tsv:
        for key, value in records:
            print(json.dumps({"key": key, "value": value}, ensure_ascii=False, separators=(",", ":")), file=ndjson)
            print(key, value, sep="\t", file=tsv)

write("input", records)
write("sorted", sorted(records, key=lambda record: record[0].encode()))
PYTHON
records=$(wc -l <"$work/input.tsv")
((records >= RECORDS_MIN)) || fail "only $records records in $PACKAGE"
echo "$records records, $(stat -c %s "$work/input.ndjson") bytes of NDJSON"

start ecs ecs -p 0 -d "$work/ecs-state"
ecs=$address
servers=
for number in 1 2 3; do
    server "$number"
    servers+=${servers:+,}$address
    [[ $number == 1 ]] && first=$address
    [[ $number == 2 ]] && second=$address leaving=$pid
done
settled 3

timed "import, NDJSON, while a server joins" "$bin/kvclient" -s "$first" import "$work/input.ndjson" \
    >"$work/import.out" 2>"$work/import.log" &
importing=$!
for ((i = 0; i < READY_WITHIN_S * 20; i++)); do
    # The join is to begin in the midst of the import.
    if "$bin/kvclient" -s "$second" get "$(head -n 20000 "$work/input.tsv" | tail -n 1 | cut -f 1)" \
        >/dev/null 2>&1; then
        break
    fi
    kill -0 "$importing" 2>/dev/null || break
    sleep 0.05
done
kill -0 "$importing" 2>/dev/null || fail "the import was over before the join: $(cat "$work/import.log")"
server 4
fourth=$address
wait "$importing" || fail "the import: $(cat "$work/import.out" "$work/import.log")"
cat "$work/import.out"
settled 4
compare first "$fourth"

kill -TERM "$leaving"
timed "import, TSV, over the same keys, while a server leaves" "$bin/kvclient" -s "$fourth" import "$work/input.tsv" \
    2>"$work/import.log"
wait "$leaving" || fail "the server that left ended with $?"
servers=$first,$fourth settled 3
compare second "$first"
echo "all $records records are as they were"
