#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# mount(8), umount(8) and fstab through the helpers' names. mount(8) looks for
# them in /sbin only, so this runs in a mount namespace where a copy of /sbin,
# with our names added, lies over the real one.
#
# The copy belongs to the outer script, outside the namespace. No directory of
# the system is ever mounted below a scratch directory, which is removed with
# everything in it.
. "$(dirname "$0")/lib.sh"
need unshare flock
[ "$(id -u)" = 0 ] || skip "needs root"
[ -e /etc/fstab ] || skip "no /etc/fstab to put another in the place of"

if [ "${1:-}" != inside ]; then
    unshare --mount true 2>/dev/null || skip "mount namespaces are not allowed here"
    mkdir "$SCRATCH/sbin"
    cp -a /sbin/. "$SCRATCH/sbin/"
    ln -sfn "$BERTHFS" "$SCRATCH/sbin/mount.fuse.berthfs"
    ln -sfn "$BERTHFS" "$SCRATCH/sbin/mount.berth"
    ln -sfn "$BERTH" "$SCRATCH/sbin/umount.fuse.berthfs"
    ln -sfn "$BERTH" "$SCRATCH/sbin/umount.berth"
    unshare --mount --propagation private "$0" inside "$SCRATCH/sbin"
    exit 0
fi
mount --bind "$2" "$(readlink -f /sbin)"

IMAGE=$SCRATCH/disk.img
make_image "$IMAGE" 16m -F16

check_mounted() {
    mountpoint -q "$MNT" || fail "not mounted"
    grep -q " $MNT [^-]* - fuse.berthfs $IMAGE " /proc/self/mountinfo ||
        fail "mountinfo: $(grep " $MNT " /proc/self/mountinfo)"
}

# The unmount has waited when the image can be locked at once.
check_all_over() {
    flock -n -x "$IMAGE" true || fail "$1 did not wait: the image is locked"
    ! mountpoint -q "$MNT" || fail "still mounted after $1"
    fsck_clean "$IMAGE"
    ! grep -qs "TARGET=$MNT " /run/mount/utab || fail "$1 leaves an entry in utab"
}

for type in fuse.berthfs berth; do
    note "mount -t $type"
    mount -t "$type" -o noatime,commit=60 "$IMAGE" "$MNT"
    check_mounted
    echo "$type" >"$MNT/file"
    umount "$MNT"
    check_all_over "umount"
    mtype -i "$IMAGE" ::file | says -x "$type"
done

note "umount with a relative path, and by berth umount"
mount -t fuse.berthfs "$IMAGE" "$MNT"
cd "$SCRATCH"
umount mnt
check_all_over "umount with a relative path"
mount -t fuse.berthfs "$IMAGE" "$MNT"
do_umount "$MNT"
check_all_over "berth umount"

note "umount -l, umount -f"
for option in -l -f; do
    mount -t fuse.berthfs "$IMAGE" "$MNT"
    umount $option "$MNT"
    check_all_over "umount $option"
done

note "fstab, remount"
cp /etc/fstab "$SCRATCH/fstab"
echo "$IMAGE $MNT fuse.berthfs defaults,nofail,noauto,user,x-systemd.automount,commit=60 0 2" \
    >>"$SCRATCH/fstab"
mount --bind "$SCRATCH/fstab" /etc/fstab
mount "$MNT"
check_mounted
echo before >"$MNT/file"
mount -o remount,ro "$MNT"
! (echo after >"$MNT/file") 2>/dev/null || fail "writable after remount,ro"
mount -o remount,rw "$MNT"
echo after >"$MNT/file" || fail "not writable after remount,rw"
umount "$MNT"
check_all_over "umount of an fstab entry"
mtype -i "$IMAGE" ::file | says -x after
umount /etc/fstab

note "a mount that fails"
status=0
mount -t fuse.berthfs "$SCRATCH/none.img" "$MNT" 2>"$SCRATCH/said" || status=$?
[ $status != 0 ] || fail "a missing image was mounted"
grep -q none.img "$SCRATCH/said" || fail "it says: $(cat "$SCRATCH/said")"
