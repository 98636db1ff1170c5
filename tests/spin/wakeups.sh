#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The model of falling asleep and taking turns, searched completely: as it is nothing may be wrong, and
# with any one rule left out something must be.
set -euo pipefail
model=$(cd "$(dirname "$0")" && pwd)/wakeups.pml
# shellcheck source=tests/spin/model.sh
. "$(dirname "$0")/model.sh"

right -DREQUESTS=3
right -DREQUESTS=4
for rule in NO_SECOND_LOOK NO_RAISE NO_LOCK FLAG_AFTER; do
    wrong -DREQUESTS=3 -D$rule
done
