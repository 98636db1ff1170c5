/* SPDX-License-Identifier: MIT */
/*
 * Log lines to stderr: "program: level: text". The level and the program name
 * are the only globals of the libraries. Thread-safe: one write(2) a line.
 */
#ifndef BERTH_LOG_H
#define BERTH_LOG_H

#include "berth/base.h"

typedef enum LogLevel {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
} LogLevel;

/* name is kept, not copied. Default level: LOG_LEVEL_NOTICE. */
void log_init(const char *program, LogLevel level);
LogLevel log_level(void);
void log_write(LogLevel level, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* All lines go to fn instead of stderr (tests, journald); NULL: back to stderr. */
typedef void LogSink(void *arg, LogLevel level, const char *line);
void log_set_sink(LogSink *fn, void *arg);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                               \
    do {                                             \
        if (log_level() >= LOG_LEVEL_DEBUG) {        \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__); \
        }                                            \
    } while (0)

#endif
