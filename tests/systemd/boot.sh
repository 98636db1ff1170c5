#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The units under a real systemd, booted in a container: fstab, automount, berth@NAME,
# daemons from sockets, the watchdog, the journal, udev's probe, shutdown and a second
# boot. What the container does is in inside.sh; here it is built, and afterwards the
# images are judged.
#
# The container sees this system's /usr, read-only, and over it, for itself alone, what
# `meson install` would install. Nothing is bound over anything outside of it.
. "$(dirname "$0")/../mount/lib.sh"
need systemd-nspawn systemd-analyze meson python3
[ "$(id -u)" = 0 ] || skip "needs root"
[ -c /dev/autofs ] || skip "no /dev/autofs: automounts would wait for ever"

note "units: syntax and exposure"
STAGE=$SCRATCH/stage
DESTDIR=$STAGE meson install -C "$BERTH_BUILD" --no-rebuild --quiet >/dev/null ||
    skip "meson install does not work here (is everything built?)"
UNITS=$STAGE/usr/local/lib/systemd/system
[ -e "$UNITS/berth@.service" ] || skip "the prefix of this build is not /usr/local"
exposure() {
    sed 's#^ExecStart=.*#ExecStart=/bin/true#' "$UNITS/$1" >"$SCRATCH/$1"
    systemd-analyze security --offline=yes --no-pager "$SCRATCH/$1" 2>/dev/null |
        sed -n 's/.*Overall exposure level .*: \([0-9.]*\) .*/\1/p'
}
score=$(exposure berth-fatd@.service)
[ -n "$score" ] || skip "systemd-analyze has no security --offline"
awk -v score="$score" 'BEGIN { exit !(score <= 1.0) }' || fail "berth-fatd@.service scores $score"
echo "berth-fatd@.service scores $score, berth@.service $(exposure berth@.service)"
for unit in "$UNITS"/*; do
    ! grep -n '@[A-Z_]*@' "$unit" || fail "$unit: a place was not filled in"
done

# The container's /usr/sbin, with our helpers, as a package would install them.
mkdir "$SCRATCH/sbin-copy"
cp -a /usr/sbin/. "$SCRATCH/sbin-copy/"
for name in mount.fuse.berthfs mount.berth; do
    ln -sfn /usr/local/bin/berthfs "$SCRATCH/sbin-copy/$name"
done
for name in umount.fuse.berthfs umount.berth; do
    ln -sfn /usr/local/bin/berth "$SCRATCH/sbin-copy/$name"
done
for name in mkfs.hfs fsck.hfs; do
    ln -sfn "/usr/local/sbin/$name" "$SCRATCH/sbin-copy/$name"
done

mkdir "$SCRATCH/images" "$SCRATCH/out"
for name in card data auto unit late; do
    make_image "$SCRATCH/images/$name.img" 32m -n "${name^^}"
done
truncate -s 20m "$SCRATCH/images/mac.img"
cat >"$SCRATCH/fstab" <<'FSTAB'
/images/data.img /mnt/data fuse.berthfs commit=3600,nofail,x-systemd.mount-timeout=60,X-mount.mkdir 0 0
/images/auto.img /mnt/auto fuse.berthfs noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=2,X-mount.mkdir 0 0
FSTAB

# container STEP: boots, runs inside.sh STEP, and shuts down in order.
container() {
    local result=$SCRATCH/out/result.$1
    printf '#!/bin/bash\nexec /test/inside.sh %s >/out/log.%s 2>&1\n' "$1" "$1" >"$SCRATCH/run.sh"
    chmod +x "$SCRATCH/run.sh"
    timeout 120 systemd-nspawn --quiet --volatile=yes -D / --register=no --keep-unit \
        --link-journal=no \
        --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
        --bind=/dev/fuse --bind=/dev/autofs --bind-ro="$STAGE/usr/local:/usr/local" \
        --bind-ro="$SCRATCH/sbin-copy:/usr/sbin" --bind-ro="$SCRATCH/fstab:/etc/fstab" \
        --bind-ro="$HERE:/test" --bind-ro="$SCRATCH/run.sh:/run.sh" \
        --bind="$SCRATCH/images:/images" --bind="$SCRATCH/out:/out" \
        --console=pipe --boot -- systemd.run=/run.sh systemd.run_success_action=exit \
        systemd.run_failure_action=exit-force </dev/null >"$SCRATCH/console.$1" 2>&1 || true
    [ -e "$SCRATCH/out/log.$1" ] || skip "no container can be booted here: $(tail -n 3 "$SCRATCH/console.$1")"
    grep '^--- ' "$SCRATCH/out/log.$1" || true
    if [ "$(cat "$result" 2>/dev/null)" != passed ]; then
        tail -n 40 "$SCRATCH/out/log.$1" >&2
        fail "inside the container, $1"
    fi
}

HERE=$(cd "$(dirname "$0")" && pwd)
note "first boot"
container first
note "after the shutdown: everything that was written is there, and clean"
for name in card data auto unit late; do
    fsck_clean "$SCRATCH/images/$name.img"
done
for name in data late; do
    [ "$(mtype -i "$SCRATCH/images/$name.img" ::last)" = "written before the shutdown" ] ||
        fail "$name: the last write is not there"
done
note "second boot"
container second
