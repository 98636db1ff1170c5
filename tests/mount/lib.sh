# SPDX-License-Identifier: MIT
# Sourced by every mount test: a scratch directory that cleans up after itself,
# images, mounts, and the judges. BERTH_BUILD names the build directory.
set -euo pipefail
export TZ=UTC MTOOLS_SKIP_CHECK=1 LC_ALL=C.UTF-8

BERTH_BUILD=${BERTH_BUILD:?BERTH_BUILD must name the build directory}
BERTHFS=$BERTH_BUILD/tools/berthfs
BERTH=$BERTH_BUILD/tools/berth
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

skip() {
    echo "SKIP: $*"
    exit 77
}

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

note() {
    echo "--- $*"
}

# says OPTION... PATTERN: grep -q that reads its input to the end. With pipefail, a program
# whose reader left at the first match would count as failed.
says() {
    local input
    input=$(cat)
    grep -q "$@" <<<"$input"
}

need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
}

[ -e /dev/fuse ] || skip "no /dev/fuse"
if [ "$(id -u)" = 0 ]; then
    [ "$(stat -c %a /dev/fuse)" = 666 ] || chmod 666 /dev/fuse
else
    [ -r /dev/fuse ] && [ -w /dev/fuse ] || skip "/dev/fuse is not accessible to this user"
fi
need mkfs.fat fsck.fat mcopy

SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/berth-test.XXXXXX")
MNT=$SCRATCH/mnt
mkdir "$MNT"

cleanup() {
    local status=$? dir
    trap - EXIT
    for dir in "$SCRATCH"/mnt*; do
        if mountpoint -q "$dir" 2>/dev/null; then
            timeout 20 "$BERTH" umount "$dir" >/dev/null 2>&1 || umount -l "$dir" || true
        fi
    done
    if [ $status = 0 ] || [ $status = 77 ]; then
        rm -rf --one-file-system "$SCRATCH"
    else
        echo "left for inspection: $SCRATCH" >&2
    fi
    exit $status
}
trap cleanup EXIT

# make_image FILE SIZE [mkfs.fat arguments]: a sparse image formatted by dosfstools.
make_image() {
    local file=$1 size=$2
    shift 2
    rm -f "$file"
    truncate -s "$size" "$file"
    mkfs.fat "$@" "$file" >/dev/null
}

# do_mount IMAGE DIR [berthfs arguments]; BERTH_TEST_OPTIONS, if set, goes with every mount (-o).
do_mount() {
    local image=$1 dir=$2
    shift 2
    timeout 30 "$BERTHFS" ${BERTH_TEST_OPTIONS:+-o "$BERTH_TEST_OPTIONS"} "$@" "$image" "$dir" || fail "berthfs $* $image $dir: exit $?"
    mountpoint -q "$dir" || fail "$dir is not a mount point after berthfs returned 0"
}

do_umount() {
    timeout 60 "$BERTH" umount "$1" || fail "berth umount $1: exit $?"
    ! mountpoint -q "$1" || fail "$1 is still mounted after berth umount"
}

# The format's own checker says clean, without a single complaint.
fsck_clean() {
    local out
    out=$(fsck.fat -n "$1" 2>&1) || {
        echo "$out" >&2
        fail "fsck.fat -n $1 is not clean"
    }
    out=${out//"$1"/image} # whose name may hold any of these words, by chance
    if echo "$out" | says -Ei 'differ|orphan|lost|unused|bad|invalid|dirty|wrong|reclaim|truncat|free cluster'; then
        echo "$out" >&2
        fail "fsck.fat -n $1 complains"
    fi
}

# apple_clean IMAGE: Apple's fsck_hfs finds nothing in an HFS volume, where a port of it is on PATH
# (Debian has none; it reads devices only). It minds what hfsutils write, extents that end with a
# full volume's last block, and thousands of removed files with the highest numbers.
apple_clean() {
    local device out
    command -v fsck_hfs >/dev/null && command -v losetup >/dev/null || return 0
    device=$(losetup --find --show --read-only "$1" 2>/dev/null) || return 0
    out=$(fsck_hfs -n -f "$device" 2>&1) || {
        losetup --detach "$device"
        fail "fsck_hfs: $out"
    }
    losetup --detach "$device"
}

# same_tree A B: names, types, sizes and contents agree.
same_tree() {
    diff -r "$1" "$2" || fail "$1 and $2 differ"
    diff <(cd "$1" && find . | sort) <(cd "$2" && find . | sort) || fail "names in $1 and $2 differ"
}

# Geometries that every writing test runs over: "name size mkfs-arguments".
FAT_GEOMETRIES="
fat12-floppy 1440k -F12
fat12-16m 16m -F12 -s16
fat16-32m 32m -F16
fat16-1k-sector 64m -F16 -S1024
fat16-64k-cluster 300m -F16 -s128
fat32-64m 64m -F32 -s1
fat32-256m 256m -F32
fat32-4k-sector 300m -F32 -S4096 -s1
"
