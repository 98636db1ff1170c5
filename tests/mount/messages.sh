#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How many messages an operation costs, from the kernel to the front-end and from there to the daemon: a
# table, and limits. The kernel's side is the kernel's to decide; the limits are on ours.
. "$(dirname "$0")/lib.sh"
need python3 ls tar

make_image "$SCRATCH/messages.img" 256m -F32
python3 "$HERE/messages.py" "$BERTHFS" "$BERTH" "$SCRATCH/messages.img" "$MNT" "$SCRATCH"
fsck_clean "$SCRATCH/messages.img"
