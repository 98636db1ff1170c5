#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Too few descriptors, mappings or tasks are told at the start, with the name of the knob;
# enough of them, or a soft limit that can be raised, mount.
. "$(dirname "$0")/lib.sh"
make_image "$SCRATCH/a.img" 16m

note "a hard limit that is too low"
status=0
(ulimit -n 40 && "$BERTHFS" "$SCRATCH/a.img" "$MNT") 2>"$SCRATCH/message" || status=$?
[ $status = 2 ] || fail "exit $status instead of 2"
grep -q 'LimitNOFILE=' "$SCRATCH/message" || fail "message: $(cat "$SCRATCH/message")"
[ "$(wc -l <"$SCRATCH/message")" = 1 ] || fail "more than one line: $(cat "$SCRATCH/message")"
! mountpoint -q "$MNT" || fail "mounted all the same"

note "a soft limit is raised"
(ulimit -Sn 40 && do_mount "$SCRATCH/a.img" "$MNT")
front=$("$BERTH" status -n -o frontend_pid "$MNT")
soft=$(sed -n 's/^Max open files *\([0-9]*\) .*/\1/p' "/proc/$front/limits")
[ "$soft" -ge 1024 ] || fail "the soft limit is $soft"
echo x >"$MNT/file"
do_umount "$MNT"
fsck_clean "$SCRATCH/a.img"

note "no memory for the rings: the socket serves, and the status says so"
LD_PRELOAD=$BERTH_BUILD/tests/mount/no_rings.so "$BERTHFS" "$SCRATCH/a.img" "$MNT" \
    2>"$SCRATCH/message" || fail "$(cat "$SCRATCH/message")"
says 'no rings, the socket serves' <"$SCRATCH/message" || fail "message: $(cat "$SCRATCH/message")"
[ "$("$BERTH" status -n -o transport "$MNT")" = socket ] || fail "the status says otherwise"
[ "$(cat "$MNT/file")" = x ] || fail "the socket does not serve"
do_umount "$MNT"
do_mount "$SCRATCH/a.img" "$MNT"
[ "$("$BERTH" status -n -o transport "$MNT")" = ring ] || fail "no rings, with memory"
do_umount "$MNT"

# A group of our own that counts tasks, in either hierarchy.
group=
for root in /sys/fs/cgroup/pids /sys/fs/cgroup; do
    if mkdir "$root/berth-limits.$$" 2>/dev/null; then
        group=$root/berth-limits.$$
        [ ! -e "$group/pids.max" ] || break
        rmdir "$group"
        group=
    fi
done
if [ -z "$group" ]; then
    echo "no control group that counts tasks can be made here: tests/unit/test_limits.c alone tests that"
    exit 0
fi
leave_group() {
    for directory in "$group/below" "$group"; do
        [ ! -d "$directory" ] || rmdir "$directory" || true
    done
}
trap 'leave_group; cleanup' EXIT
# in_group DIRECTORY LIMIT COMMAND...: with so many tasks allowed in $group, from within DIRECTORY.
in_group() {
    echo "$2" >"$group/pids.max"
    (echo "$BASHPID" >"$1/cgroup.procs" && "${@:3}")
}

note "a control group with too few tasks, or one above it"
mkdir "$group/below"
for directory in "$group" "$group/below"; do
    status=0
    in_group "$directory" 12 "$BERTHFS" "$SCRATCH/a.img" "$MNT" 2>"$SCRATCH/message" || status=$?
    [ $status = 2 ] || fail "exit $status instead of 2: $(cat "$SCRATCH/message")"
    grep -q "needs 20 tasks.*raise TasksMax= ($group/pids.max)" "$SCRATCH/message" ||
        fail "message: $(cat "$SCRATCH/message")"
    [ "$(wc -l <"$SCRATCH/message")" = 1 ] || fail "more than one line: $(cat "$SCRATCH/message")"
    ! mountpoint -q "$MNT" || fail "mounted all the same"
done

note "a control group with few tasks: a warning, and what was called the least is enough"
in_group "$group" 24 "$BERTHFS" "$SCRATCH/a.img" "$MNT" 2>"$SCRATCH/message" ||
    fail "$(cat "$SCRATCH/message")"
grep -q 'a busy mount may need 64: TasksMax=' "$SCRATCH/message" || fail "$(cat "$SCRATCH/message")"
until [ "$("$BERTH" status -n -o daemon.spare_pid "$MNT")" -gt 0 ] 2>/dev/null; do
    sleep 0.1
done
[ "$(cat "$group/pids.current")" -le 20 ] || fail "$(cat "$group/pids.current") tasks are used"
dd if=/dev/zero of="$MNT/file" bs=1M count=4 status=none
cat "$MNT/file" >/dev/null
kill -9 "$("$BERTH" status -n -o daemon_pid "$MNT")"
echo x >"$MNT/after"
[ "$(cat "$MNT/after")" = x ] || fail "after the daemon's death"
do_umount "$MNT"
fsck_clean "$SCRATCH/a.img"
