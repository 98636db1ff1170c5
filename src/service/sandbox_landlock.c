/* SPDX-License-Identifier: MIT */
/*
 * Landlock: of all that the running kernel can forbid about files, the network and
 * signals, everything is handled and nothing allowed. What is open already stays
 * usable. The calls and numbers are spelled out because the C library has none,
 * and the headers of the machine that builds may be older than the kernel.
 */
#include "sandbox_layers.h"
#include <sys/syscall.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif

#define CREATE_RULESET_VERSION 1u

typedef struct Ruleset {
    uint64_t fs, net, scoped;
} Ruleset;

/* The rights about files that each version of the interface added. */
static uint64_t file_rights(long version) {
    unsigned bits = 13;

    bits += version >= 2 ? 1 : 0; /* linking and renaming between directories */
    bits += version >= 3 ? 1 : 0; /* truncation */
    bits += version >= 5 ? 1 : 0; /* ioctl on devices */
    return (UINT64_C(1) << bits) - 1;
}

int sandbox_landlock(Sandbox *sandbox) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    _cleanup_close_ int fd = -1;
    Ruleset rules;

    if (version < 0) {
        return -errno;
    }
    rules = (Ruleset){
        .fs = file_rights(version),
        .net = version >= 4 ? 3 : 0,    /* TCP: bind, connect */
        .scoped = version >= 6 ? 3 : 0, /* abstract sockets, signals */
    };
    /* An older kernel takes the longer structure as long as what it does not know is 0. */
    fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (fd < 0) {
        return -errno;
    }
    return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}
