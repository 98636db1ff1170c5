/* SPDX-License-Identifier: MIT */
/*
 * Where daemons are: the program that serves a filesystem type, and the socket on
 * which a service manager starts one (man berth-systemd.7). Looked up anew each time: a daemon
 * may be installed while mounts run.
 */
#ifndef BERTH_REGISTRY_H
#define BERTH_REGISTRY_H

#include "berth/base.h"

/* Sockets of the service manager's units: one for each daemon, named after it. */
#define REGISTRY_SOCKET_DIRECTORY "/run/berth/daemons"

/*
 * The program `name` ("fatd"): in BERTH_DAEMON_DIR alone if that is set, else beside the running
 * program in the build tree, else where it is installed. The path is the caller's; NULL: not found.
 * *ret_where (may be NULL) gets the place's name.
 */
char *registry_find_daemon(const char *name, const char **ret_where);
/* Where daemons would be looked for, for messages. */
const char *registry_installed_directory(void);

/* "/run/berth/daemons/fatd.socket"; -ENAMETOOLONG. */
int registry_socket_path(const char *name, char *ret, size_t size);

#endif
