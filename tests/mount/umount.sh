#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# berth's unmount and its questions to a mount: waiting, busy mounts, lazy
# unmounts, bind mounts, a front-end that was killed.
. "$(dirname "$0")/lib.sh"
need flock python3
IMAGE=$SCRATCH/disk.img
make_image "$IMAGE" 32m -F16 -n UMOUNT

# member NAME: of the mount at $MNT, from berth list.
member() {
    "$BERTH" list --json | python3 -c '
import json, sys
mounts = [m for m in json.load(sys.stdin)["mounts"] if m["directory"] == sys.argv[1]]
print(mounts[-1][sys.argv[2]])' "$MNT" "$1"
}

# gone PID: ended, or a zombie that its parent has not collected.
gone() {
    local state
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null || true)
    [ -z "$state" ] || [ "$state" = Z ]
}

mount_it() {
    do_mount "$IMAGE" "$MNT" "$@"
    front=$(member frontend_pid)
    daemon=$(member daemon_pid)
    kill -0 "$front" "$daemon" || fail "list names processes that do not exist: $front $daemon"
}

check_all_over() {
    ! mountpoint -q "$MNT" || fail "still mounted"
    gone "$front" || fail "the front-end still runs: $front"
    gone "$daemon" || fail "the daemon still runs: $daemon"
    flock -n -x "$IMAGE" true || fail "the image is still locked"
}

note "list, status, stats and sync of a mount"
mount_it
[ "$(member source)" = "$IMAGE" ] || fail "source is $(member source)"
[ "$(member type)" = fat ] || fail "type is $(member type)"
[ "$(member state)" = running ] || fail "state is $(member state)"
[ "$(member readonly)" = False ] || fail "readonly is $(member readonly)"
echo payload >"$MNT/file"
"$BERTH" sync "$MNT"
mtype -i "$IMAGE" ::file | says -x payload || fail "berth sync left the image without the file"
"$BERTH" stats --json "$MNT" | python3 -m json.tool >/dev/null
"$BERTH" stats "$MNT" | says . || fail "no statistics"
"$BERTH" status --json "$MNT" |
    python3 -c 'import json, sys; assert json.load(sys.stdin)["frontend_pid"] == int(sys.argv[1])' \
        "$front"

note "nothing in the background keeps the pipe of whoever mounts open"
do_umount "$MNT"
said=$(timeout 20 "$BERTH" mount "$IMAGE" "$MNT" 2>&1 </dev/null) || fail "exit $? (124: the pipe stays open), $said"
front=$(member frontend_pid)
daemon=$(member daemon_pid)

note "unmount waits"
dd if=/dev/zero of="$MNT/zeros" bs=1M count=20 status=none
do_umount "$MNT"
check_all_over
fsck_clean "$IMAGE"

note "busy for a moment"
mount_it
(cd "$MNT" && sleep 1) &
sleep 0.2
do_umount "$MNT"
check_all_over
wait

note "busy for long: says so, stays mounted"
mount_it
tail -f "$MNT/file" >/dev/null &
holder=$!
while ! ls -l "/proc/$holder/fd" | says "$MNT/file"; do sleep 0.05; done
status=0
"$BERTH" umount "$MNT" 2>"$SCRATCH/said" || status=$?
[ $status = 32 ] || fail "exit code $status"
grep -q busy "$SCRATCH/said" || fail "it says: $(cat "$SCRATCH/said")"
[ "$(cat "$MNT/file")" = payload ] || fail "the mount does not work any more"

note "lazy: detached at once, over when the last user is"
"$BERTH" umount -l "$MNT"
! mountpoint -q "$MNT" || fail "still mounted"
! gone "$front" || fail "the front-end left its user alone"
kill "$holder"
wait "$holder" 2>/dev/null || true
timeout 20 flock -x "$IMAGE" true || fail "the image stays locked"
fsck_clean "$IMAGE"

if [ "$(id -u)" = 0 ]; then
    note "a bind mount: the volume stays until the last one goes"
    mount_it
    mkdir "$SCRATCH/mnt-bind"
    mount --bind "$MNT" "$SCRATCH/mnt-bind"
    do_umount "$MNT"
    [ "$(cat "$SCRATCH/mnt-bind/file")" = payload ] || fail "the other place lost the volume"
    ! gone "$front" || fail "the front-end is gone"
    do_umount "$SCRATCH/mnt-bind"
    check_all_over
fi

note "by the image's name"
mount_it
timeout 60 "$BERTH" umount "$IMAGE" || fail "exit $?"
check_all_over

note "a front-end that was killed, and nothing to go on with the mount"
mount_it -o noholder
kill -KILL "$front"
while ! gone "$front"; do sleep 0.05; done
# Its socket outlives it by a moment.
for _ in $(seq 40); do
    [ "$(member state)" != dead ] || break
    sleep 0.05
done
[ "$(member state)" = dead ] || fail "state is $(member state)"
do_umount "$MNT"
! mountpoint -q "$MNT" || fail "still mounted"
timeout 20 flock -x "$IMAGE" true || fail "the daemon keeps the image locked"
fsck_clean "$IMAGE"

note "a front-end that was killed: another one goes on, and unmounts"
mount_it
echo survives >"$MNT/survivor"
kill -KILL "$front"
while ! gone "$front"; do sleep 0.05; done
[ "$(timeout 20 cat "$MNT/survivor")" = survives ] || fail "the mount does not go on"
do_umount "$MNT"
! mountpoint -q "$MNT" || fail "still mounted"
mtype -i "$IMAGE" ::survivor | says -x survives || fail "the image lacks the file"
fsck_clean "$IMAGE"

note "a daemon that was killed: nothing is lost"
mount_it
echo kept >"$MNT/keeper"
kill -KILL "$daemon"
do_umount "$MNT"
mtype -i "$IMAGE" ::keeper | says -x kept || fail "the image lacks the file"
fsck_clean "$IMAGE"
