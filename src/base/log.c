/* SPDX-License-Identifier: MIT */
/*
 * Log lines. Owns the only mutable globals of the libraries: the program's
 * name, the level and the sink. They are set once at start, before other
 * threads exist; log_write() only reads them, so it takes no lock. A line is
 * built on the stack and leaves in one write(2), so that lines of several
 * threads and processes that share a stderr do not mix.
 *
 * Names from images and peers end up in log lines, so control characters are
 * replaced: a volume label must not be able to drive the reader's terminal or
 * to forge a second line.
 */
#include "berth/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LOG_LINE_MAX 1024

static const char *log_program = "berth";
static LogLevel log_current_level = LOG_LEVEL_NOTICE;
static LogSink *log_sink;
static void *log_sink_arg;

static const char *const log_level_names[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
    [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

void log_init(const char *program, LogLevel level) {
    log_program = program;
    log_current_level = level;
}

LogLevel log_level(void) {
    return log_current_level;
}

void log_set_sink(LogSink *fn, void *arg) {
    log_sink = fn;
    log_sink_arg = arg;
}

static void log_emit(LogLevel level, char *line, size_t length) {
    ssize_t written;

    if (log_sink != NULL) {
        log_sink(log_sink_arg, level, line);
        return;
    }
    line[length] = '\n';
    do {
        written = write(STDERR_FILENO, line, length + 1);
    } while (written < 0 && errno == EINTR);
}

void log_write(LogLevel level, const char *fmt, ...) {
    char line[LOG_LINE_MAX];
    int saved_errno = errno;
    size_t length;
    va_list args;
    int prefix, body;

    if (level > log_current_level) {
        return;
    }
    prefix = snprintf(line, sizeof(line) / 2, "%s: %s: ", log_program, log_level_names[level]);
    length = prefix < 0 ? 0 : MIN((size_t)prefix, sizeof(line) / 2 - 1);
    va_start(args, fmt);
    body = vsnprintf(line + length, sizeof(line) - length, fmt, args);
    va_end(args);
    if (body > 0) {
        length = MIN(length + (size_t)body, sizeof(line) - 1);
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    log_emit(level, line, length);
    errno = saved_errno;
}
