/* SPDX-License-Identifier: MIT */
/*
 * The sandbox's layers, one function each. 0: in force; SANDBOX_NOT_NEEDED: nothing to do in this
 * process; negative: the running kernel (or who started us) does not give it.
 */
#ifndef BERTH_SERVICE_SANDBOX_LAYERS_H
#define BERTH_SERVICE_SANDBOX_LAYERS_H

#include "berth/sandbox.h"

#define SANDBOX_NOT_NEEDED 1

/* Sanitizers need more than a daemon does; a release is never built with them. */
#if defined(BERTH_TEST_PROFILE) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_TEST_PROFILE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || \
    __has_feature(thread_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define SANDBOX_TEST_PROFILE 1
#endif
#endif
#ifndef SANDBOX_TEST_PROFILE
#define SANDBOX_TEST_PROFILE 0
#endif

/* What the layers tell each other. */
typedef struct Sandbox {
    const SandboxConfig *config;
    bool own_users; /* in a user namespace of its own */
} Sandbox;

/* sandbox_process.c: what the process is and may */
int sandbox_users(Sandbox *sandbox);      /* a user namespace */
int sandbox_namespaces(Sandbox *sandbox); /* no network, IPC, host name of others */
int sandbox_root(Sandbox *sandbox);       /* an empty directory for a file tree */
int sandbox_ids(Sandbox *sandbox);        /* nobody, if started by root */
int sandbox_privileges(Sandbox *sandbox); /* no capabilities, none to be gained, not traceable */
int sandbox_limits(Sandbox *sandbox);
/* sandbox_landlock.c */
int sandbox_landlock(Sandbox *sandbox);
/* sandbox_seccomp.c */
int sandbox_seccomp(Sandbox *sandbox);

#endif
