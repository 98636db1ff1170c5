#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Images with broken metadata through the real mount: see tests/evil/mount_evil.py.
. "$(dirname "$0")/lib.sh"
need python3 mmd
python3 "$HERE/../evil/mount_evil.py" "$BERTHFS" "$BERTH" "$SCRATCH" "${BERTH_TEST_EVIL:-}"
