/* SPDX-License-Identifier: MIT */
/*
 * What the front-end and a service manager (systemd) say to each other: states and
 * the watchdog (notify.c), log lines with fields (journal.c), and daemons that the
 * manager starts (activate.c).
 *
 * The protocols are spoken directly. All three are documented datagrams, some ten
 * lines each; libsystemd would bring five more libraries into a process that runs as
 * root beside a daemon that may be hostile.
 */
#ifndef BERTH_FRONT_MANAGER_H
#define BERTH_FRONT_MANAGER_H

#include "berth/base.h"
#include "berth/log.h"

#include <sys/types.h>

/* ---- states: sd_notify(3) ---- */

/* Reads the environment, and takes out of it what is not for our children. Once, before there are
 * threads. Without a manager everything below does nothing. */
void notify_init(void);
bool notify_active(void);
/* "READY=1\nSTATUS=mounted". Waits for a busy manager, some seconds at most. */
void notify_send(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* A line for people. Never waits: it may get lost. */
void notify_status(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* Does the manager keep descriptors for us (FileDescriptorStoreMax=)? It says so from version 254
 * on; before, our unit file does. */
bool notify_has_store(void);
/* The same with a descriptor; waits until the manager has room for it. 0 or -errno. */
int notify_send_fd(const char *text, int fd);
/* For poll(): milliseconds until notify_alive() has to be called, -1: never. */
int notify_alive_ms(void);
/* The thread that calls this is alive: tells the watchdog when that is due. */
void notify_alive(void);

/* ---- log lines with fields: systemd.journal-fields(7) ---- */

/* Is stderr a stream to the journal? Then lines may as well go there directly. */
bool journal_is_stderr(void);
/* From here on log lines go to the journal with these fields; those that it does not take go to
 * stderr as before. 0 or -errno. Once. */
int journal_start(const char *program, const char *source, const char *directory, const char *type);

/* ---- daemons that the manager starts: Accept=yes sockets ---- */

/*
 * Connects to a unit's socket, for which the manager starts a daemon of its own. -EPERM: whoever
 * listens is neither root nor ourselves.
 */
int activate_connect(const char *path, int *ret_fd);
/*
 * Waits for the daemon's first message, without taking it, and finds out which process sent it: the
 * connection itself only knows of the manager that listens. -ETIMEDOUT, -EPIPE: it has ended.
 */
int activate_peer(int fd, int timeout_ms, pid_t *ret_pid, int *ret_pidfd);

#endif
