/* SPDX-License-Identifier: MIT */
/* The serve loop, given what daemon.c set up from the HELLO. */
#ifndef BERTH_SERVICE_SERVE_H
#define BERTH_SERVICE_SERVE_H

#include "berth/service.h"
#include "berth/transport.h"

typedef struct ServerConfig {
    Loop *loop;
    Transport *transport;
    Volume *volume;
    unsigned slots;          /* admission limit, agreed in the HELLO */
    const ArenaMap *written; /* the front-end's `out`: payloads of writes, read-only here */
    const ArenaMap *read;    /* the front-end's `in`: results */
    int signal_fd;           /* of server_signals() */
    bool held; /* when the front-end goes, end at once: another one goes on with the lifeline */
    bool debug;
} ServerConfig;

/* Sets the process's signals up and returns the descriptor that tells of SIGTERM, or -errno. */
int server_signals(void);

/* Fibers that the server needs beyond one per slot: the closing one, reclaim, cache work. */
#define SERVER_SPARE_FIBERS 64u

/* Serves until SHUTDOWN, end of file, SIGTERM or a broken protocol; the volume is unmounted then.
 * Returns an exit code. */
int server_run(const ServerConfig *config);

#endif
