#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What boot.sh's container does: first | second. The last line of a step that went
# well is "passed" in /out/result.STEP.
set -euo pipefail
export PATH=/usr/local/bin:$PATH LC_ALL=C.UTF-8 SYSTEMD_PAGER='' SYSTEMD_COLORS=0

note() { echo "--- $*"; }
fail() {
    echo "FAIL: $*"
    systemctl --no-pager status 'berth*' || true
    for thread in /proc/[0-9]*/task/*; do
        ! grep -qE 'berthfs|fatd' "$thread/comm" 2>/dev/null || echo "$thread $(cat "$thread/wchan")"
    done
    journalctl --no-pager -n 60 || true
    echo failed >/out/result.$step
    exit 1
}
# says OPTION... PATTERN: grep -q that reads its input to the end. With pipefail, a program
# whose reader left at the first match would count as failed.
says() {
    local input
    input=$(cat)
    grep -q "$@" <<<"$input"
}
# until_true SECONDS COMMAND...
until_true() {
    local i
    for i in $(seq $(($1 * 10))); do
        ! "${@:2}" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    return 1
}
property() { systemctl show -P "$2" "$1"; }
# unlocked NAME: nobody has the image any more.
unlocked() { flock -n -x "/images/$1.img" true; }

mount_units() {
    note "fstab: mounted at boot, and systemctl stop waits until all is written"
    until_true 20 mountpoint -q /mnt/data || fail "fstab's mount is not there"
    [ "$(property mnt-data.mount ActiveState)" = active ] || fail "mnt-data.mount"
    echo hello >/mnt/data/file
    systemctl stop mnt-data.mount
    unlocked data || fail "systemctl stop did not wait"
    systemctl start mnt-data.mount
    [ "$(cat /mnt/data/file)" = hello ] || fail "data is lost"

    note "automount: on first use, and gone when idle"
    until_true 10 systemctl is-active mnt-auto.automount || fail "no automount unit"
    ls /mnt/auto >/dev/null
    echo auto >/mnt/auto/file
    [ "$(property mnt-auto.mount ActiveState)" = active ] || fail "mnt-auto.mount"
    until_true 15 unlocked auto || fail "the idle mount does not go"
    [ "$(cat /mnt/auto/file)" = auto ] || fail "data is lost"
}

service() {
    note "berth@card: start, status, reload, a daemon's death, stop"
    mkdir -p /etc/berth /mnt/card
    printf 'SOURCE=/images/card.img\nDIRECTORY=/mnt/card\nOPTIONS=commit=3600\n' >/etc/berth/card.conf
    systemctl start berth@card
    mountpoint -q /mnt/card || fail "READY before the mount is there"
    property berth@card StatusText | says '/images/card.img on /mnt/card' ||
        fail "status: $(property berth@card StatusText)"
    echo one >/mnt/card/file
    daemon=$(berth status -n -o daemon_pid /mnt/card)
    kill -9 "$daemon"
    echo two >/mnt/card/file2
    [ "$(cat /mnt/card/file /mnt/card/file2)" = $'one\ntwo' ] || fail "after the daemon's death"
    [ "$(berth status -n -o daemon.restarts /mnt/card)" = 1 ] || fail "no restart is counted"
    if berth restart --help >/dev/null 2>&1; then
        systemctl reload berth@card
        [ "$(berth status -n -o daemon.restarts /mnt/card)" = 2 ] || fail "reload"
    fi
    systemctl restart berth@card
    [ "$(cat /mnt/card/file2)" = two ] || fail "after restart"
    echo three >/mnt/card/file3
    systemctl stop berth@card
    unlocked card || fail "systemctl stop did not wait"
    ! mountpoint -q /mnt/card || fail "still mounted"
    [ "$(property berth@card Result)" = success ] || fail "Result=$(property berth@card Result)"

    note "berth@card: umount ends the service; a bad configuration fails and says why"
    systemctl start berth@card
    umount /mnt/card
    until_true 10 is_inactive || fail "the service goes on after umount"
    until_true 10 unlocked card || fail "umount"
    [ "$(property berth@card Result)" = success ] || fail "Result=$(property berth@card Result)"
    printf 'SOURCE=/images/none.img\nDIRECTORY=/mnt/card\n' >/etc/berth/bad.conf
    ! systemctl start berth@bad || fail "a source that is not there"
    journalctl --no-pager -u berth@bad | says none.img || fail "nobody says why"
    systemctl reset-failed berth@bad

    note "berth@card: the front-end is killed; the watchdog: open files stay, and what was written"
    mkdir -p /run/systemd/system/berth@card.service.d
    printf '[Service]\nWatchdogSec=2\n' >/run/systemd/system/berth@card.service.d/short.conf
    systemctl daemon-reload
    systemctl start berth@card
    mount=$(stat -c %d /mnt/card)
    exec 5>/mnt/card/open
    echo one >&5
    kill -9 "$(property berth@card MainPID)"
    echo two >&5
    exec 6<>/mnt/card/new
    until_true 20 has_restarted 1 || fail "not started again"
    sleep 3
    [ "$(property berth@card NRestarts)" = 1 ] || fail "the watchdog is not fed"
    kill -9 "$(property berth@card MainPID)"
    echo three >&5
    until_true 20 has_restarted 2 || fail "not started again after a second death"
    kill -STOP "$(property berth@card MainPID)"
    until_true 20 has_restarted 3 || fail "a front-end that hangs is not noticed"
    echo four >&5
    exec 5>&- 6>&-
    [ "$(stat -c %d /mnt/card)" = "$mount" ] || fail "another mount"
    [ "$(cat /mnt/card/open)" = $'one\ntwo\nthree\nfour' ] || fail "lost: $(cat /mnt/card/open)"
    [ "$(berth status -n -o state /mnt/card)" = running ] || fail "state"
    stored=$(property berth@card NFileDescriptorStore)
    [ "$stored" -ge 7 ] && [ "$stored" -le 15 ] || fail "$stored descriptors are stored"
    systemctl stop berth@card
    unlocked card || fail "systemctl stop did not wait"
    [ "$(property berth@card Result)" = success ] || fail "Result=$(property berth@card Result)"
    systemctl start berth@card
    [ "$(cat /mnt/card/open)" = $'one\ntwo\nthree\nfour' ] || fail "lost at the end"
    [ -e /mnt/card/file3 ] || fail "lost at the end: file3"
    systemctl stop berth@card
}
has_restarted() {
    [ "$(property berth@card NRestarts)" -ge "$1" ] && [ "$(property berth@card ActiveState)" = active ]
}
is_inactive() { [ "$(property berth@card ActiveState)" = inactive ]; }

limits() {
    note "too few tasks are told at the start"
    printf '[Service]\nTasksMax=10\n' >/run/systemd/system/berth@card.service.d/tasks.conf
    systemctl daemon-reload
    if systemctl start berth@card; then
        # In a container the older hierarchy of control groups cannot be written.
        ! grep -qx 10 /sys/fs/cgroup/{,pids/}system.slice/berth@card.service/pids.max 2>/dev/null ||
            fail "a mount with ten tasks"
        echo "    not tested: there is no limit on tasks here"
        systemctl stop berth@card
    else
        journalctl --no-pager -u berth@card | says 'raise TasksMax=' || fail "nobody says why"
        systemctl reset-failed berth@card
    fi
    rm /run/systemd/system/berth@card.service.d/tasks.conf
    systemctl daemon-reload
}

journal() {
    note "the journal's fields"
    systemctl start berth@card
    kill -9 "$(berth status -n -o daemon_pid /mnt/card)"
    ls /mnt/card >/dev/null
    sleep 1
    journalctl --no-pager -o json -u berth@card BERTH_MOUNT=/mnt/card >/out/journal
    python3 - <<'PYTHON' || fail "fields"
import json
entries = [json.loads(line) for line in open("/out/journal")]
assert entries, "no line with fields"
for entry in entries:
    assert entry["BERTH_SOURCE"] == "/images/card.img", entry
    assert entry["BERTH_TYPE"] == "fat" and entry["SYSLOG_IDENTIFIER"] == "berthfs", entry
    assert not entry["MESSAGE"].startswith("berthfs: "), entry
assert any("signal 9" in e["MESSAGE"] and int(e["PRIORITY"]) <= 4 for e in entries), entries
PYTHON
    systemctl stop berth@card
    printf 'SOURCE=/images/card.img\nDIRECTORY=/mnt/card\nOPTIONS=debug\n' >/etc/berth/card.conf
    systemctl start berth@card
    ls /mnt/card >/dev/null
    systemctl stop berth@card
    sleep 0.5
    journalctl --no-pager -o json -u berth@card >/out/journal
    python3 - <<'PYTHON' || fail "requests in the journal"
import json
entries = [json.loads(line) for line in open("/out/journal")]
front = [e for e in entries if "BERTH_REQUEST" in e and "BERTH_DAEMON" not in e]
daemon = [e for e in entries if "BERTH_REQUEST" in e and e.get("BERTH_DAEMON") == "fatd"]
assert any("-> LIST_DIR" in e["MESSAGE"] for e in front), front
assert any("LIST_DIR" in e["MESSAGE"] for e in daemon), daemon
assert all(e["BERTH_REQUEST"] in e["MESSAGE"] for e in front + daemon)
PYTHON
}

units() {
    note "daemons from a socket: another user for each, every layer in force, replaced when it dies"
    systemctl start berth-fatd.socket
    mkdir -p /mnt/unit
    berth mount -o daemon=unit /images/unit.img /mnt/unit
    daemon=$(berth status -n -o daemon_pid /mnt/unit)
    grep -q fatd "/proc/$daemon/comm" || fail "process $daemon is not fatd"
    until_true 10 has_spare || fail "no spare"
    spare=$(berth status -n -o daemon.spare_pid /mnt/unit)
    ! diff <(grep ^Uid "/proc/$daemon/status") <(grep ^Uid "/proc/$spare/status") >/dev/null ||
        fail "two daemons have one user"
    uid=$(sed -n "s/^Uid:[[:space:]]*\([0-9]*\).*/\1/p" "/proc/$daemon/status")
    [ "$uid" -ge 61184 ] && [ "$uid" -le 65519 ] || fail "uid $uid is not a dynamic one"
    grep -q 'berth-fatd@' "/proc/$daemon/cgroup" || fail "not in its unit: $(cat "/proc/$daemon/cgroup")"
    layers=$(berth status -n -o sandbox /mnt/unit)
    echo "layers: $layers"
    # No empty-root here: the container's root is a tmpfs (berth-architecture(7), SANDBOX).
    for layer in user-namespace namespaces privileges landlock ring limits seccomp; do
        [[ ,$layers, == *,$layer,* ]] || fail "no $layer: $(journalctl --no-pager -u 'berth-fatd@*' | tail)"
    done
    echo one >/mnt/unit/file
    kill -9 "$daemon"
    echo two >>/mnt/unit/file
    [ "$(cat /mnt/unit/file)" = $'one\ntwo' ] || fail "after the daemon's death"
    after=$(berth status -n -o daemon_pid /mnt/unit)
    [ "$after" != "$daemon" ] || fail "the same process after its death"
    berth list --types -n -o unit | says -x /run/berth/daemons/fatd.socket || fail "list --types"
    berth umount /mnt/unit
    until_true 10 none_running || fail "daemons stay: $(systemctl list-units 'berth-fatd@*')"
    # Each format's daemon has such a unit.
    systemctl start berth-hfsd.socket
    mkfs.hfs -L Mac /images/mac.img >/dev/null || fail "mkfs.hfs"
    berth mount -o daemon=unit /images/mac.img /mnt/unit
    daemon=$(berth status -n -o daemon_pid /mnt/unit)
    grep -q 'berth-hfsd@' "/proc/$daemon/cgroup" || fail "hfsd is not in its unit: $(cat "/proc/$daemon/cgroup")"
    echo hello >/mnt/unit/file
    berth umount /mnt/unit
    fsck.hfs -n /images/mac.img || fail "fsck.hfs"
    # Somebody else's socket gets no image.
    setpriv --reuid=1234 --regid=1234 --clear-groups python3 - <<'PYTHON' &
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind("/tmp/false.socket")
os.chmod("/tmp/false.socket", 0o777)
s.listen()
time.sleep(5)
PYTHON
    until_true 5 test -S /tmp/false.socket
    ! berth mount -o daemon-socket=/tmp/false.socket /images/unit.img /mnt/unit 2>/out/refused ||
        fail "an image was given to another user's daemon"
    cat /out/refused
    wait
}
has_spare() { [ "$(berth status -n -o daemon.spare_pid /mnt/unit)" -gt 0 ]; }
none_running() { [ -z "$(systemctl list-units --no-legend 'berth-fatd@*')" ]; }

probe() {
    note "udev's probe"
    berth probe --udev /images/data.img >/out/udev
    grep -qx ID_FS_TYPE=fat /out/udev && grep -qx ID_FS_LABEL=DATA /out/udev || fail "$(cat /out/udev)"
    if command -v udevadm >/dev/null && udevadm verify --help >/dev/null 2>&1; then
        udevadm verify /usr/local/lib/udev/rules.d/64-berth.rules || fail "the rule"
    fi
}

step=$1
case $step in
first)
    systemctl --no-pager list-unit-files 'berth*'
    mount_units
    service
    limits
    journal
    units
    probe
    note "left for the shutdown: fstab's mount, and one of a service with a daemon of a unit"
    mkdir -p /mnt/late
    printf 'SOURCE=/images/late.img\nDIRECTORY=/mnt/late\nOPTIONS=commit=3600,daemon=unit\n' \
        >/etc/berth/late.conf
    timeout 30 systemctl start berth@late || fail "berth@late does not start"
    echo written before the shutdown >/mnt/data/last
    echo written before the shutdown >/mnt/late/last
    ;;
second)
    note "fstab's mount has what was written in the first boot"
    until_true 20 mountpoint -q /mnt/data || fail "fstab's mount is not there"
    [ "$(cat /mnt/data/last)" = "written before the shutdown" ] || fail "data is lost"
    ! journalctl --no-pager -b | says -i 'not cleanly unmounted' || fail "it was not unmounted cleanly"
    ;;
esac
echo passed >/out/result.$step
