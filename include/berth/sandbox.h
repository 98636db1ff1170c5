/* SPDX-License-Identifier: MIT */
/*
 * The sandbox that a daemon locks itself into before it reads the first byte of an
 * image (man berth-architecture.7, SANDBOX): several layers that overlap. There is no
 * way out again.
 */
#ifndef BERTH_SANDBOX_H
#define BERTH_SANDBOX_H

#include "berth/loop.h"

typedef enum SandboxMode {
    SANDBOX_AUTO,    /* what the running kernel has; each missing layer is one log line */
    SANDBOX_REQUIRE, /* all of it, or refuse */
    SANDBOX_OFF,
} SandboxMode;

/* "auto", "require", "off". 0 or -EINVAL. */
int sandbox_mode_parse(const char *text, SandboxMode *ret);
const char *sandbox_mode_name(SandboxMode mode);

typedef struct SandboxConfig {
    SandboxMode mode;
    Loop *loop;         /* made closed if it has a ring; everything it will watch is registered */
    uint64_t image_end; /* no file is written behind this offset */
    bool again;         /* not a mount's first daemon: what is missing has been said */
    int memory_fd;      /* the one that memory may be allocated for (fallocate, mode 0); -1: none */
} SandboxConfig;

#define SANDBOX_LAYERS_MAX 128

/*
 * Enters it, with one thread so far; starts the loop's helper threads and opens its ring. layers:
 * the names of those in force, separated by commas. 0, or -errno with a line of text: the process
 * is then of no use but to say so.
 */
int sandbox_enter(const SandboxConfig *config, char layers[SANDBOX_LAYERS_MAX], char text[128]);

#endif
