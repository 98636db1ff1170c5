#!/bin/bash
# SPDX-License-Identifier: MIT
# Mounts with a side journal (-o journal=): what kills leave behind is whole again after the next
# mount with it; and everything that must be refused is. (tests/crash cuts the power.)
. "$(dirname "$0")/lib.sh"
need python3

JOURNAL=$SCRATCH/side.jnl
FSCK_HFS=$BERTH_BUILD/tools/fsck.hfs

member() {
    "$BERTH" status --json "$1" | python3 -c "import json, sys; print(json.load(sys.stdin)['$2'])"
}

# 1: holds a batch, 0: empty
journal_state() {
    od -An -tu1 -j12 -N1 "$JOURNAL" | tr -d ' '
}

# The checker finds nothing but the mark, and on FAT the count of free clusters, which fsync leaves alone.
check() {
    local out
    if [ "$1" = fat ]; then
        out=$(fsck.fat -n "$2" 2>&1 | grep -v 'Free cluster summary') || true
        ! says -Ei 'orphan|lost|unused|bad|invalid|wrong|reclaim|truncat|free cluster|share' <<<"$out" ||
            fail "fsck.fat: $out"
    else
        out=$("$FSCK_HFS" -n -f "$2" 2>&1) || says ': 1 problem,' <<<"$out" || fail "fsck.hfs: $out"
        ! says 'problem' <<<"$out" || says 'no problems' <<<"$out" || says 'not unmounted cleanly' <<<"$out" ||
            fail "fsck.hfs: $out"
    fi
}

make() {
    rm -f "$2" "$JOURNAL"
    if [ "$1" = fat ]; then
        make_image "$2" 64m -F32 -s1
    else
        truncate -s 64m "$2"
        "$BERTH_BUILD/tools/mkfs.hfs" "$2" >/dev/null
    fi
}

# Makes and renames files for ever, and now and then has one confirmed, whose number it tells. With
# "remove" it also removes some: their blocks are free when the kernel has let go of them, a moment later.
worker() {
    exec python3 - "$@" <<'PYTHON'
import os, sys
root, account = sys.argv[1:3]
number = 0
while True:
    number += 1
    os.mkdir(f"{root}/d{number}")
    for i in range(8):
        with open(f"{root}/d{number}/file {i}", "wb") as f:
            f.write(b"%d" % number * 500)
    os.rename(f"{root}/d{number}/file 0", f"{root}/d{number}/another name")
    if sys.argv[3:]:
        os.unlink(f"{root}/d{number}/file 1")
    fd = os.open(f"{root}/d{number}/file 2", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    with open(account, "a") as f:
        f.write(f"{number}\n")
PYTHON
}

# What the worker was told is there: so many files in each directory.
confirmed() {
    local number
    while read -r number; do
        [ "$(ls "$MNT/d$number" | wc -l)" = "$1" ] || fail "d$number: $(ls "$MNT/d$number")"
        [ "$(wc -c <"$MNT/d$number/file 2")" = $((500 * ${#number})) ] ||
            fail "d$number/file 2: $(wc -c <"$MNT/d$number/file 2") bytes"
    done <"$SCRATCH/account"
}

# Stops the daemon while the journal holds a batch; its number is in DAEMON.
stop_with_batch() {
    DAEMON=$(member "$MNT" daemon_pid)
    for _ in $(seq 1 300); do
        sleep 0.0$((RANDOM % 10))
        kill -STOP "$DAEMON"
        [ "$(journal_state)" = 0 ] || return 0
        kill -CONT "$DAEMON"
        sleep 0.01
    done
    return 1
}

for type in fat hfs; do
    IMAGE=$SCRATCH/$type.img
    make $type "$IMAGE"

    note "$type: an ordinary life"
    do_mount "$IMAGE" "$MNT" -o "journal=$JOURNAL"
    [ "$(member "$MNT" journal)" = "$JOURNAL" ] || fail "status does not show the journal"
    mkdir "$MNT/sub"
    echo text >"$MNT/sub/file"
    "$BERTH" sync "$MNT"
    "$BERTH" stats --json "$MNT" |
        python3 -c "import json, sys; assert json.load(sys.stdin)['journal']['batches'] > 0" ||
        fail "nothing was journalled"
    do_umount "$MNT"
    [ "$(journal_state)" = 0 ] || fail "the journal is not empty after the unmount"
    check $type "$IMAGE"

    note "$type: the daemon is killed"
    do_mount "$IMAGE" "$MNT" -o "journal=$JOURNAL"
    : >"$SCRATCH/account"
    worker "$MNT" "$SCRATCH/account" remove &
    WORKER=$!
    for i in $(seq 1 8); do
        sleep 0.2
        kill -9 "$(member "$MNT" daemon_pid)"
    done
    sleep 0.3
    kill "$WORKER" 2>/dev/null || fail "the worker met an error"
    wait "$WORKER" 2>/dev/null || true
    confirmed 7
    do_umount "$MNT"
    [ "$(journal_state)" = 0 ] || fail "the journal is not empty after kills and the unmount"
    check $type "$IMAGE"

    note "$type: all processes are killed while the journal holds a batch"
    batches=0
    for _ in 1 2; do
        make $type "$IMAGE"
        do_mount "$IMAGE" "$MNT" -o "journal=$JOURNAL,noholder,heartbeat=0"
        : >"$SCRATCH/account"
        worker "$MNT" "$SCRATCH/account" 2>/dev/null &
        WORKER=$!
        stop_with_batch && batches=$((batches + 1))
        kill -9 "$(member "$MNT" frontend_pid)" "$DAEMON"
        wait "$WORKER" 2>/dev/null || true
        umount -l "$MNT" 2>/dev/null || fusermount3 -u -z "$MNT"
        if [ "$(journal_state)" = 1 ]; then
            ! timeout 30 "$BERTHFS" -o "ro,journal=$JOURNAL" "$IMAGE" "$MNT" 2>"$SCRATCH/said" ||
                fail "mounted read-only with a batch in the journal"
            says 'mount it with rw' <"$SCRATCH/said" || fail "read-only: $(cat "$SCRATCH/said")"
            do_mount "$IMAGE" "$MNT" -o "journal=$JOURNAL" 2>"$SCRATCH/said"
            says 'from the side journal\|is dropped' <"$SCRATCH/said" ||
                fail "replay: $(cat "$SCRATCH/said")"
        else
            do_mount "$IMAGE" "$MNT" -o "journal=$JOURNAL"
        fi
        confirmed 8
        do_umount "$MNT"
        check $type "$IMAGE"
    done
    [ $batches -gt 0 ] || fail "never found a batch in the journal"
done

if python3 -c 'import os; v = os.uname().release.split("."); exit((int(v[0]), int(v[1])) < (6, 9))'; then
    note "the front-end is killed: its successor has the journal"
    make fat "$SCRATCH/fat.img"
    do_mount "$SCRATCH/fat.img" "$MNT" -o "journal=$JOURNAL"
    echo one >"$MNT/one"
    front=$(member "$MNT" frontend_pid)
    kill -9 "$front"
    for i in $(seq 1 50); do
        [ "$(member "$MNT" frontend_pid 2>/dev/null || true)" = "$front" ] || break
        sleep 0.1
    done
    for i in $(seq 1 50); do
        [ "$(member "$MNT" journal 2>/dev/null || true)" != "$JOURNAL" ] || break
        sleep 0.1
    done
    [ "$(member "$MNT" journal)" = "$JOURNAL" ] || fail "the successor has no journal"
    echo two >"$MNT/two"
    "$BERTH" sync "$MNT"
    "$BERTH" stats --json "$MNT" |
        python3 -c "import json, sys; assert json.load(sys.stdin)['journal']['batches'] > 0" ||
        fail "nothing was journalled after the front-end's death"
    do_umount "$MNT"
    fsck_clean "$SCRATCH/fat.img"
fi

# refused PATTERN berthfs-arguments: it must not mount, and say why.
refused() {
    local pattern=$1
    shift
    ! timeout 30 "$BERTHFS" "$@" "$MNT" 2>"$SCRATCH/said" || fail "mounted: berthfs $*"
    says "$pattern" <"$SCRATCH/said" || fail "berthfs $*: $(cat "$SCRATCH/said")"
}

note "what is refused"
make fat "$SCRATCH/fat.img"
make_image "$SCRATCH/other.img" 64m -F32 -s1 -i 12345678
make_image "$SCRATCH/larger.img" 65m -F32 -s1
do_mount "$SCRATCH/fat.img" "$MNT" -o "journal=$JOURNAL"
mkdir "$SCRATCH/mnt-two"
! timeout 30 "$BERTHFS" -o "journal=$JOURNAL" "$SCRATCH/other.img" "$SCRATCH/mnt-two" 2>"$SCRATCH/said" ||
    fail "a journal for two mounts"
says "side.jnl: in use" <"$SCRATCH/said" || fail "in use: $(cat "$SCRATCH/said")"
do_umount "$MNT"
refused 'belongs to another volume' -o "journal=$JOURNAL" "$SCRATCH/other.img"
refused 'belongs to another volume' -o "journal=$JOURNAL" "$SCRATCH/larger.img"
echo "a file of mine" >"$SCRATCH/mine"
refused 'is no side journal' -o "journal=$SCRATCH/mine" "$SCRATCH/fat.img"
[ "$(cat "$SCRATCH/mine")" = "a file of mine" ] || fail "a file that is no journal was changed"
refused 'is the image itself' -o "journal=$SCRATCH/fat.img" "$SCRATCH/fat.img"
refused 'is no side journal' -o "journal=$SCRATCH/other.img" "$SCRATCH/fat.img"
refused 'not a file or a block device\|Is a directory' -o "journal=$SCRATCH" "$SCRATCH/fat.img"
refused 'No such file' -o "journal=$SCRATCH/none/side.jnl" "$SCRATCH/fat.img"
printf '\x40' | dd of="$JOURNAL" bs=1 seek=20 conv=notrunc status=none
refused 'damaged header' -o "journal=$JOURNAL" "$SCRATCH/fat.img"
rm "$JOURNAL"
do_mount "$SCRATCH/fat.img" "$MNT" -o "ro,journal=$JOURNAL"
do_umount "$MNT"
[ ! -e "$JOURNAL" ] || fail "a read-only mount has made a journal"

note "without a daemon, with a relative name"
(cd "$SCRATCH" && do_mount fat.img mnt -o direct,journal=side.jnl)
echo text >"$MNT/direct"
"$BERTH" sync "$MNT"
[ "$(member "$MNT" journal)" = "$JOURNAL" ] || fail "status in direct mode"
do_umount "$MNT"
[ "$(journal_state)" = 0 ] || fail "direct mode"
fsck_clean "$SCRATCH/fat.img"

if [ "$(id -u)" = 0 ]; then
    note "no room for the journal"
    mkdir "$SCRATCH/mnt-small"
    mount -t tmpfs -o size=32k none "$SCRATCH/mnt-small"
    do_mount "$SCRATCH/fat.img" "$MNT" -o "journal=$SCRATCH/mnt-small/side.jnl,commit=300"
    cp "$SCRATCH/fat.img" "$SCRATCH/before.img"
    mkdir "$MNT/many"
    for i in $(seq 1 300); do
        : >"$MNT/many/a rather long name, so that it takes room $i"
    done
    python3 -c "import os; f = os.open('$MNT/many', os.O_RDONLY); os.fsync(f)" 2>"$SCRATCH/said" &&
        fail "fsync succeeds"
    says 'No space left' <"$SCRATCH/said" || fail "fsync: $(cat "$SCRATCH/said")"
    says 'No space left' <<<"$(member "$MNT" read_only_reason)" || fail "status: $("$BERTH" status "$MNT")"
    timeout 60 "$BERTH" umount "$MNT" 2>/dev/null || true
    for i in $(seq 1 50); do
        ! umount "$SCRATCH/mnt-small" 2>/dev/null || break
        sleep 0.1
    done
    ! mountpoint -q "$SCRATCH/mnt-small" || fail "somebody still has the journal open"
    cmp "$SCRATCH/fat.img" "$SCRATCH/before.img" || fail "the volume was written without its journal"
fi
echo ok
