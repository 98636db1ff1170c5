#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The model of recovery, searched completely: as it is nothing may be wrong, and with any one rule
# left out something must be.
#
# usage: recovery.sh [--long]
set -euo pipefail
model=$(cd "$(dirname "$0")" && pwd)/recovery.pml
# shellcheck source=tests/spin/model.sh
. "$(dirname "$0")/model.sh"

if [ "${1:-}" = --long ]; then
    right -DDEATHS=2 -DOPS=2
    right -DDEATHS=1 -DOPS=4
else
    right -DDEATHS=1 -DOPS=3
fi
for rule in NO_EPOCH NO_FENCE NO_SLOTS NO_APPLIED NO_PIDFD NO_QUARANTINE EARLY_REPLY; do
    wrong -DDEATHS=1 -DOPS=4 -D$rule
done
