/* SPDX-License-Identifier: MIT */
/*
 * The order in which a daemon locks itself in, and the account of it.
 *
 * The order is forced: a user namespace wants a single thread, so the helper
 * threads start after it; they inherit what was done before and the last layer,
 * the system-call filter, is put on all threads at once. The ring takes its
 * restrictions from the thread that will submit. Root gives up its ids before it
 * makes the user namespace (which maps nobody), an ordinary user makes it first,
 * because the other namespaces can only be had inside.
 */
#include "berth/log.h"
#include "sandbox_layers.h"
#include <stdio.h>

static int ring_layer(Sandbox *sandbox) {
    Loop *loop = sandbox->config->loop;

    return loop_has_ring(loop) ? loop_ring_open(loop) : SANDBOX_NOT_NEEDED;
}

/* Not a layer, but here is its place: a thread cannot be started any more after the last one. */
static int threads_step(Sandbox *sandbox) {
    int r = loop_offload_start(sandbox->config->loop);

    return r < 0 ? r : SANDBOX_NOT_NEEDED;
}

typedef struct Layer {
    const char *name;
    int (*enter)(Sandbox *sandbox);
} Layer;

static const Layer as_root[] = {
    {"namespaces", sandbox_namespaces},
    {"empty-root", sandbox_root},
    {"ids", sandbox_ids},
    {"user-namespace", sandbox_users},
    {"privileges", sandbox_privileges},
    {"landlock", sandbox_landlock},
    {"threads", threads_step},
    {"ring", ring_layer},
    {"limits", sandbox_limits},
    {"seccomp", sandbox_seccomp},
};

static const Layer as_user[] = {
    {"user-namespace", sandbox_users},
    {"namespaces", sandbox_namespaces},
    {"empty-root", sandbox_root},
    {"privileges", sandbox_privileges},
    {"landlock", sandbox_landlock},
    {"threads", threads_step},
    {"ring", ring_layer},
    {"limits", sandbox_limits},
    {"seccomp", sandbox_seccomp},
};

static const char *const mode_names[] = {
    [SANDBOX_AUTO] = "auto", [SANDBOX_REQUIRE] = "require", [SANDBOX_OFF] = "off"};

int sandbox_mode_parse(const char *text, SandboxMode *ret) {
    for (size_t i = 0; i < ARRAY_SIZE(mode_names); i++) {
        if (strcmp(text, mode_names[i]) == 0) {
            *ret = (SandboxMode)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *sandbox_mode_name(SandboxMode mode) {
    return mode_names[mode];
}

int sandbox_enter(const SandboxConfig *config, char layers[SANDBOX_LAYERS_MAX], char text[128]) {
    Sandbox sandbox = {.config = config};
    bool root = geteuid() == 0;
    const Layer *list = root ? as_root : as_user;
    size_t count = root ? ARRAY_SIZE(as_root) : ARRAY_SIZE(as_user);
    size_t length = 0;

    layers[0] = '\0';
    if (config->mode == SANDBOX_OFF) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        int r = list[i].enter(&sandbox);

        if (r == SANDBOX_NOT_NEEDED) {
            continue;
        }
        if (r == 0) {
            length += (size_t)snprintf(layers + length, SANDBOX_LAYERS_MAX - length, "%s%s",
                                       length > 0 ? "," : "", list[i].name);
        } else if (config->mode == SANDBOX_REQUIRE) {
            (void)snprintf(text, 128, "sandbox=require: no %s: %s", list[i].name, strerror(-r));
            return r;
        } else if (config->again) {
            log_debug("sandbox: no %s: %s", list[i].name, strerror(-r));
        } else {
            log_notice("sandbox: no %s: %s", list[i].name, strerror(-r));
        }
    }
    return 0;
}
