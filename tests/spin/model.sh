# SPDX-License-Identifier: MIT
# Sourced by the scripts of the models, with $model set: searches one completely, as it is (right) or
# with a rule left out (wrong).
# shellcheck shell=bash
for tool in spin gcc; do
    command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# search [-D...]: searches, prints the number of errors.
search() {
    spin "$@" -a "$model" >spin.log 2>&1 || { cat spin.log; return 2; }
    gcc -w -O1 -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c
    timeout 300 ./pan -n -m200000 >pan.log 2>&1 || true
    if ! grep -q 'errors: ' pan.log || grep -Eq "max search depth too small|reached -DMEMLIM" pan.log; then
        cat pan.log
        return 2
    fi
    grep -Eo 'errors: [0-9]+' pan.log | grep -Eo '[0-9]+'
}

right() {
    local errors
    errors=$(search "$@") || { echo "FAIL: $*: $errors"; exit 1; }
    if [ "$errors" != 0 ]; then
        grep '^pan:1' pan.log
        spin -k "$(basename "$model").trail" -p "$@" "$model" 2>/dev/null | tail -60 || true
        echo "FAIL: $*: the model breaks its promise"
        exit 1
    fi
    echo "$*: nothing wrong in $(grep 'states, stored' pan.log | awk '{print $1}') states"
}

wrong() {
    local errors
    errors=$(search "$@") || { echo "FAIL: $*: $errors"; exit 1; }
    [ "$errors" != 0 ] || { echo "FAIL: $*: nothing is wrong although a rule is missing"; exit 1; }
    echo "$*: $(sed -n 's/^pan:1: //p' pan.log | head -n 1)"
}
