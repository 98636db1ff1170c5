#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The daemon of a real mount, seen from outside: what /proc says of it, what berth says, and that it
# keeps no other mount alive. As root, and as an ordinary user.
. "$(dirname "$0")/../mount/lib.sh"
need python3

# member FILE NAME: a member of the status in FILE.
member() {
    python3 -c 'import json, sys
value = json.load(open(sys.argv[1]))[sys.argv[2]]
print(" ".join(value) if isinstance(value, list) else value)' "$1" "$2"
}

# check_daemon PID UID
check_daemon() {
    local field want got
    while read -r field want; do
        got=$(sed -n "s/^$field:[[:space:]]*//p" "/proc/$1/status" | tr '\t' ' ')
        [ "$got" = "$want" ] || fail "$field of the daemon is \"$got\", not \"$want\""
    done <<FIELDS
Uid $2 $2 $2 $2
CapPrm 0000000000000000
CapEff 0000000000000000
CapBnd 0000000000000000
NoNewPrivs 1
Seccomp 2
FIELDS
    [ -z "$(ls -A "/proc/$1/root/")" ] || fail "the daemon sees files"
    [ "$(wc -l <"/proc/$1/mountinfo")" = 1 ] || fail "the daemon has mounts: $(cat "/proc/$1/mountinfo")"
    for name in mnt net ipc uts user; do
        [ "$(readlink "/proc/$1/ns/$name")" != "$(readlink "/proc/self/ns/$name")" ] ||
            fail "the daemon shares the $name namespace"
    done
}

# check_as UID [prefix of commands]
check_as() {
    local uid=$1 status=$SCRATCH/status.$1
    shift
    "$@" "$BERTHFS" -o sandbox=require "$SCRATCH/a.img" "$MNT" || fail "sandbox=require: exit $?"
    "$@" "$BERTH" status --json "$MNT" >"$status"
    for layer in user-namespace namespaces empty-root privileges landlock ring limits seccomp; do
        [[ " $(member "$status" sandbox) " == *" $layer "* ]] ||
            fail "no $layer: $(member "$status" sandbox)"
    done
    check_daemon "$(member "$status" daemon_pid)" "$uid"

    "$@" "$BERTHFS" "$SCRATCH/b.img" "$SCRATCH/mnt-b" || fail "a second mount: exit $?"
    "$@" sh -c "echo hello >'$MNT/file' && rm '$MNT/file'" || fail "it does not work"
    "$@" timeout 20 "$BERTH" umount "$MNT" || fail "the second daemon holds the first mount"
    flock -n -x "$SCRATCH/a.img" true || fail "the image is still locked"
    "$@" "$BERTH" umount "$SCRATCH/mnt-b"
}

make_image "$SCRATCH/a.img" 16m
make_image "$SCRATCH/b.img" 16m
mkdir "$SCRATCH/mnt-b"
if [ "$(id -u)" != 0 ]; then
    unshare --user true 2>/dev/null || skip "user namespaces are not allowed here"
    check_as "$(id -u)"
    exit 0
fi

note "root"
unshare --mount true 2>/dev/null || skip "namespaces are not allowed here"
check_as 65534

note "no sandbox, and berth says so"
for option in sandbox=off daemon=never; do
    do_mount "$SCRATCH/a.img" "$MNT" -o $option
    "$BERTH" status --json "$MNT" >"$SCRATCH/status"
    [ -z "$(member "$SCRATCH/status" sandbox)" ] || fail "$option has a sandbox"
    do_umount "$MNT"
done
! "$BERTHFS" -o sandbox=maybe "$SCRATCH/a.img" "$MNT" 2>/dev/null || fail "sandbox=maybe is accepted"

note "a layer that is missing is named once, however many daemons there are"
mkdir -p "$SCRATCH/root/all"
for name in /*; do
    ln -s "/all$name" "$SCRATCH/root$name"
done
unshare --mount sh -c 'mount --rbind / "$0/all" && exec chroot "$0" "$@"' "$SCRATCH/root" \
    "$BERTHFS" -f "$SCRATCH/a.img" "$MNT" 2>"$SCRATCH/log" &
front=$!
daemon_named() { [ -n "$(for pid in $(cat "/proc/$front/task/"*/children 2>/dev/null); do
    cat "/proc/$pid/comm"; done | sort | uniq -c | grep -w "$1 fatd")" ]; }
for _ in $(seq 100); do
    ! daemon_named 2 || break
    sleep 0.1
done
daemon_named 2 || fail "no daemon and spare: $(cat "$SCRATCH/log")"
sleep 0.5
kill -TERM "$front"
wait "$front" || fail "exit $?: $(cat "$SCRATCH/log")"
[ "$(grep -c 'no empty-root' "$SCRATCH/log")" = 1 ] || fail "log: $(cat "$SCRATCH/log")"

note "an ordinary user"
need setpriv fusermount3
as_user() {
    setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR HOME="$SCRATCH" "$@"
}
chmod 755 "$SCRATCH"
chown -R 65534:65534 "$SCRATCH"
as_user test -x "$BERTHFS" || skip "the build directory is not readable for other users"
as_user unshare --user true 2>/dev/null || skip "user namespaces are not allowed to users here"
check_as 65534 as_user
