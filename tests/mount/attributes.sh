#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# FAT's attribute byte: the ioctls of the kernel's vfat, and user.DOSATTRIB with -o xattr; what is set
# shows in the mode at once, and to mtools.
. "$(dirname "$0")/lib.sh"
need python3 getfattr setfattr mattrib
make_image "$SCRATCH/a.img" 16m -F16
do_mount "$SCRATCH/a.img" "$MNT"
echo hello >"$MNT/file"
python3 - "$MNT/file" <<'PYTHON'
import errno, fcntl, os, struct, sys

GET, SET = 0x80047210, 0x40047211  # FAT_IOCTL_GET_ATTRIBUTES, FAT_IOCTL_SET_ATTRIBUTES
fd = os.open(sys.argv[1], os.O_RDONLY)


def get():
    value = bytearray(4)
    fcntl.ioctl(fd, GET, value)
    return struct.unpack("I", value)[0]


def refused(request, argument, expected):
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as e:
        assert e.errno == expected, (request, e)
    else:
        raise AssertionError(f"ioctl {request:#x} {argument!r} was not refused")


assert get() == 0x20, get()
assert os.fstat(fd).st_mode & 0o222 == 0o200
fcntl.ioctl(fd, SET, struct.pack("I", 0x23))
assert get() == 0x23, get()
assert os.fstat(fd).st_mode & 0o222 == 0, "the read-only bit does not show in the mode"
refused(SET, struct.pack("I", 0x123), errno.EINVAL)
refused(0x5401, bytearray(64), errno.ENOTTY)
PYTHON
do_umount "$MNT"
mattrib -i "$SCRATCH/a.img" ::file | says 'A  *HR ' || fail "mtools sees $(mattrib -i "$SCRATCH/a.img" ::file)"
do_mount "$SCRATCH/a.img" "$MNT" -o xattr
getfattr -n user.DOSATTRIB --only-values "$MNT/file" | says -x 0x23 || fail "user.DOSATTRIB is not 0x23"
setfattr -n user.DOSATTRIB -v 20 "$MNT/file"
[ "$(stat -c %a "$MNT/file")" = 755 ] || fail "the mode is $(stat -c %a "$MNT/file") after clearing the read-only bit"
do_umount "$MNT"
fsck_clean "$SCRATCH/a.img"
