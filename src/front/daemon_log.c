/* SPDX-License-Identifier: MIT */
/*
 * A daemon's log lines: whatever it writes to its stderr, a line at a time, under
 * our name and with nothing in it that could harm a terminal or a log.
 */
#include "private.h"

#include <ctype.h>

/* "fatd: warning: text" keeps its level under our own name. */
static LogLevel line_level(const char *line, size_t length, size_t *ret_skip) {
    static const struct {
        const char *word;
        LogLevel level;
    } words[] = {{": error: ", LOG_LEVEL_ERROR},
                 {": warning: ", LOG_LEVEL_WARNING},
                 {": notice: ", LOG_LEVEL_NOTICE},
                 {": info: ", LOG_LEVEL_INFO},
                 {": debug: ", LOG_LEVEL_DEBUG}};
    const char *colon = memchr(line, ':', length);

    for (size_t i = 0; colon != NULL && i < ARRAY_SIZE(words); i++) {
        size_t word_length = strlen(words[i].word);

        if ((size_t)(line + length - colon) >= word_length &&
            memcmp(colon, words[i].word, word_length) == 0) {
            *ret_skip = (size_t)(colon - line) + word_length;
            return words[i].level;
        }
    }
    *ret_skip = 0;
    return LOG_LEVEL_NOTICE;
}

/* Said by ourselves already: one line for one thing, unless every line is asked for. */
static bool is_told(const DaemonProcess *daemon) {
    const char *told = daemon->front->volume.told;

    return told[0] != 0 && log_level() < LOG_LEVEL_DEBUG &&
           memmem(daemon->log_line, daemon->log_length, told, strlen(told)) != NULL;
}

static void log_line_out(DaemonProcess *daemon) {
    LogLevel level;
    size_t skip;

    for (size_t i = 0; i < daemon->log_length; i++) {
        if (iscntrl((unsigned char)daemon->log_line[i])) {
            daemon->log_line[i] = '?';
        }
    }
    level = line_level(daemon->log_line, daemon->log_length, &skip);
    if (daemon->log_length > skip && !is_told(daemon)) {
        log_write(level, "%s: %.*s", daemon->front->type->daemon, (int)(daemon->log_length - skip),
                  daemon->log_line + skip);
    }
    daemon->log_length = 0;
}

void daemon_log(DaemonProcess *daemon) {
    char buf[1024];
    ssize_t n;

    /* At most some lines at a time: a flood must not keep the keeper here. */
    for (unsigned round = 0; round < 16 && daemon->log_fd >= 0; round++) {
        n = read(daemon->log_fd, buf, sizeof(buf));
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] == '\n' || daemon->log_length == sizeof(daemon->log_line)) {
                log_line_out(daemon);
            }
            if (buf[i] != '\n') {
                daemon->log_line[daemon->log_length++] = buf[i];
            }
        }
        if (n <= 0) {
            log_line_out(daemon);
            close(steal_fd(&daemon->log_fd));
        }
    }
}
