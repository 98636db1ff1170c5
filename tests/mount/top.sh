#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# berth list, status, stats and top of mounts that do something: numbers against
# what was done, Prometheus' format against a parser, the screen through tmux, and a
# mount point whose name would drive a terminal.
. "$(dirname "$0")/lib.sh"
need python3 tmux

make_image "$SCRATCH/one.img" 64m -n 'LABEL ONE'
make_image "$SCRATCH/two.img" 32m
EVIL="$SCRATCH/mnt"$'\e[31m\n\xff'
mkdir "$EVIL"
do_mount "$SCRATCH/one.img" "$MNT"
do_mount "$SCRATCH/two.img" "$EVIL" -o ro

note "list and status"
row() { "$BERTH" list -n -o "$2" | grep -F "$1" || true; }
[ -n "$(row "$MNT" directory,type,state | grep -E 'fat +running')" ] || fail "list: $("$BERTH" list)"
"$BERTH" list --json | python3 -c '
import json, sys
mounts = {m["source"]: m for m in json.load(sys.stdin)["mounts"]}
one, two = mounts[sys.argv[1] + "/one.img"], mounts[sys.argv[1] + "/two.img"]
assert one["label"] == "LABEL ONE" and one["transport"] == "ring", one
assert one["readonly"] is False and one["read_only_reason"] is None, one
assert two["readonly"] is True and "ro" in two["read_only_reason"], two
assert one["restarts"] == 0 and one["last_error"] is None and one["daemon_pid"] > 1, one
assert "seccomp" in one["sandbox"], one
' "$SCRATCH"
! "$BERTH" list | says $'\e' || fail "list lets an escape sequence through"
[ "$("$BERTH" status -n -o state "$MNT")" = running ] || fail "status -o state"
[ "$("$BERTH" status -n -o label "$MNT")" = 'LABEL ONE' ] || fail "status -o label"
! "$BERTH" status -o nonsense "$MNT" 2>/dev/null || fail "status -o nonsense succeeds"
types=$("$BERTH" list --types --json)
echo "$types" | python3 -c '
import json, os, sys
fat = {t["type"]: t for t in json.load(sys.stdin)["types"]}["fat"]
assert fat["daemon"] == "fatd" and fat["state"] == "ready" and os.access(fat["path"], os.X_OK), fat
assert fat["mounts"] >= 2, fat
'
BERTH_DAEMON_DIR=/nonexistent "$BERTH" list -t -n -o state | says -x 'daemon missing' ||
    fail "list --types finds a daemon where there is none"

note "stats against what was done"
for i in $(seq 20); do
    echo "$i" >"$MNT/file$i"
done
head -c 1000000 /dev/urandom >"$MNT/data"
"$BERTH" sync "$MNT"
"$BERTH" stats -n -o operation,count,p99 "$MNT" | says -E '^CREATE_FILE +21 ' ||
    fail "stats: $("$BERTH" stats -o operation,count "$MNT")"
"$BERTH" stats --bytes "$MNT" | says -E '^bytes_written +1000051$' ||
    fail "stats: $("$BERTH" stats --bytes "$MNT" | grep bytes)"
"$BERTH" stats --json "$MNT" | python3 -c '
import json, sys
for name, request in json.load(sys.stdin)["requests"].items():
    assert sum(request["buckets"]) == request["count"], (name, request)
    assert request["buckets"][-1] > 0, (name, request)
    assert request["p50_ns"] <= request["p90_ns"] <= request["p99_ns"] <= request["p999_ns"]
    assert request["total_ns"] // request["count"] == request["mean_ns"], (name, request)
'

note "Prometheus"
"$BERTH" stats --prometheus >"$SCRATCH/prom"
"$BERTH" stats -P "$MNT" >"$SCRATCH/prom.one"
python3 "$HERE/prometheus.py" "$SCRATCH/prom" "$MNT" "$EVIL"
python3 "$HERE/prometheus.py" "$SCRATCH/prom.one" "$MNT"
! grep -q two.img "$SCRATCH/prom.one" || fail "stats -P DIR shows other mounts"

note "top --batch"
"$BERTH" top -b -n 3 -d 0.5 >"$SCRATCH/batch" &
top=$!
while kill -0 $top 2>/dev/null; do
    mkdir "$MNT/dir"
    rmdir "$MNT/dir"
done
wait $top
[ "$(grep -c '^berth top' "$SCRATCH/batch")" = 3 ] || fail "three rounds: $(cat "$SCRATCH/batch")"
awk -v dir="$MNT" '/^berth top/ { round++ } round > 1 && $NF == dir && ($1 ~ /k$/ || $1 + 0 > 50) { seen++ }
    END { exit seen != 2 }' "$SCRATCH/batch" || fail "the work does not show: $(cat "$SCRATCH/batch")"
! grep -q $'\e' "$SCRATCH/batch" || fail "an escape sequence in the output"
grep -qaF "$SCRATCH/mnt?[31m??" "$SCRATCH/batch" || fail "no row for the mount with a strange name"
! "$BERTH" top </dev/null >/dev/null 2>&1 || fail "top draws on something that is no terminal"

note "top on a terminal"
export TMUX_TMPDIR=$SCRATCH
unset TMUX
screen() { tmux -L berth capture-pane -p -t top; }
# until_screen PATTERN: the screen shows it, within five seconds.
until_screen() {
    local i
    for i in $(seq 50); do
        ! screen 2>/dev/null | says -E -e "$1" || return 0
        sleep 0.1
    done
    screen >&2 || true
    fail "the screen does not show $1"
}
tmux -L berth -f /dev/null new-session -d -s top -x 120 -y 12 \
    "'$BERTH' top -d 0.3; echo ended-\$?; sleep 60"
until_screen "running .*$MNT\$"
until_screen 'by operations'
tmux -L berth send-keys -t top s
until_screen 'by latency'
tmux -L berth send-keys -t top ssss
until_screen 'by operations'
tmux -L berth send-keys -t top h
until_screen 'sort by the next column'
tmux -L berth send-keys -t top x
until_screen 'DIRECTORY'
tmux -L berth resize-window -t top -x 80 -y 5
until_screen '^ +OPS/S .* DIRECTORY$'
[ "$(screen | awk '{ if (length > n) n = length } END { print n }')" -le 80 ] ||
    fail "lines longer than the terminal"
tmux -L berth resize-window -t top -x 30 -y 2
tmux -L berth resize-window -t top -x 120 -y 12
until_screen "running .*$MNT\$"
do_umount "$MNT"
for i in $(seq 50); do
    screen | says -E "$MNT\$" || break
    sleep 0.1
done
! screen | says -E "$MNT\$" || fail "an unmounted volume stays on the screen"
tmux -L berth send-keys -t top q
until_screen 'ended-0'
tmux -L berth kill-session -t top
# (What ncurses leaves behind when it does not know a terminal is its own affair.)
tmux -L berth -f /dev/null new-session -d -s top -x 120 -y 5 \
    "TERM=nonesuch ASAN_OPTIONS=detect_leaks=0 '$BERTH' top; echo ended-\$?; sleep 60"
until_screen 'ended-2'
until_screen 'top --batch'
tmux -L berth kill-session -t top
