#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Too few descriptors are told at the start, with the name of the knob; enough of
# them, or a soft limit that can be raised, mount. Tasks are tested in tests/systemd.
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
