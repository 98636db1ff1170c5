/* SPDX-License-Identifier: MIT */
/*
 * Log lines with fields, in the journal's native protocol: one datagram of
 * assignments to /run/systemd/journal/socket. A value with a newline in it would take
 * another form; log lines have none (log.c), the texts given here are cleaned.
 *
 * Fields: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER as everybody has them; BERTH_SOURCE,
 * BERTH_MOUNT, BERTH_TYPE; BERTH_DAEMON for a line that a daemon wrote; BERTH_REQUEST
 * ("3:17", slot and number) for a line that belongs to a request.
 *
 * The fields are made once, before the first line is sent; sending takes no lock.
 */
#include "manager.h"

#include "berth/text.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define JOURNAL_LINE_MAX 1280 /* a log line and its level */

static struct {
    int fd;
    char program[32], type[32];
    Text fields; /* those that every line has */
} journal = {.fd = -1};

bool journal_is_stderr(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

/* ---- what a line is about ---- */

/* "berthfs: warning: text": the level is a field of its own, and so is the program. */
static const char *skip_prefix(const char *line) {
    size_t length = strlen(journal.program);

    if (strncmp(line, journal.program, length) == 0 && strncmp(line + length, ": ", 2) == 0) {
        const char *level = line + length + 2, *end = strstr(level, ": ");

        if (end != NULL && strspn(level, "abcdefghijklmnopqrstuvwxyz") == (size_t)(end - level)) {
            return end + 2;
        }
    }
    return line;
}

/* "fatd: text", when fatd is the daemon. Its length, else 0. */
static size_t daemon_length(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-");

    return length > 1 && text[length - 1] == 'd' && strncmp(text + length, ": ", 2) == 0 &&
                   journal.type[0] != '\0' && strncmp(text, journal.type, strlen(journal.type)) == 0
               ? length
               : 0;
}

/* "3:17" at this place; its length, else 0. */
static size_t request_length(const char *text) {
    size_t slot = strspn(text, "0123456789"), number;

    if (slot == 0 || slot > 5 || text[slot] != ':') {
        return 0;
    }
    number = strspn(text + slot + 1, "0123456789");
    return number > 0 && number <= 20 ? slot + 1 + number : 0;
}

/* A message in words ("-> LOOKUP 3:17 uid 0 ..."), or a line that ends with "(request 3:17)". */
static const char *find_request(const char *text, size_t *ret_length) {
    static const char mark[] = " (request ";
    const char *found = strstr(text, mark), *next;
    size_t length;

    while (found != NULL && (next = strstr(found + 1, mark)) != NULL) {
        found = next;
    }
    if (found != NULL) {
        found += strlen(mark);
        length = request_length(found);
        if (length > 0 && strcmp(found + length, ")") == 0) {
            *ret_length = length;
            return found;
        }
    }
    if (strncmp(text, "-> ", 3) == 0 || strncmp(text, "<- ", 3) == 0) {
        text += 3;
    }
    length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
    if (length < 3 || text[length] != ' ') {
        return NULL;
    }
    *ret_length = request_length(text + length + 1);
    return *ret_length > 0 ? text + length + 1 : NULL;
}

/* ---- sending ---- */

/* False when the journal cannot be reached or does not keep up: better there than nowhere. */
static bool journal_send(LogLevel level, const char *line) {
    static const int priorities[] = {[LOG_LEVEL_ERROR] = 3,
                                     [LOG_LEVEL_WARNING] = 4,
                                     [LOG_LEVEL_NOTICE] = 5,
                                     [LOG_LEVEL_INFO] = 6,
                                     [LOG_LEVEL_DEBUG] = 7};
    const char *text = skip_prefix(line), *request;
    size_t daemon = daemon_length(text), request_size = 0;
    char own[JOURNAL_LINE_MAX], extra[160];
    struct iovec parts[3];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    int length, used;

    request = find_request(daemon > 0 ? text + daemon + 2 : text, &request_size);
    length = snprintf(own, sizeof(own), "MESSAGE=%s\nPRIORITY=%d\n", text, priorities[level]);
    used = snprintf(extra, sizeof(extra), "%s%.*s%s%s%.*s%s", daemon > 0 ? "BERTH_DAEMON=" : "",
                    (int)daemon, text, daemon > 0 ? "\n" : "",
                    request_size > 0 ? "BERTH_REQUEST=" : "", (int)request_size,
                    request_size > 0 ? request : "", request_size > 0 ? "\n" : "");
    if (length < 0 || (size_t)length >= sizeof(own) || used < 0 || (size_t)used >= sizeof(extra)) {
        return false;
    }
    parts[0] = (struct iovec){.iov_base = own, .iov_len = (size_t)length};
    parts[1] = (struct iovec){.iov_base = journal.fields.data, .iov_len = journal.fields.length};
    parts[2] = (struct iovec){.iov_base = extra, .iov_len = (size_t)used};
    return sendmsg(journal.fd, &message, MSG_NOSIGNAL) >= 0;
}

static void journal_sink(void *arg, LogLevel level, const char *line) {
    (void)arg;
    if (!journal_send(level, line)) {
        struct iovec parts[2] = {{.iov_base = (void *)(uintptr_t)line, .iov_len = strlen(line)},
                                 {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1}};

        (void)!writev(STDERR_FILENO, parts, 2);
    }
}

/* Paths are users': a newline in one would forge a field. */
static void add_field(const char *name, const char *value) {
    Text *fields = &journal.fields;
    size_t start;

    text_printf(fields, "%s=", name);
    start = fields->length;
    text_printf(fields, "%s\n", value);
    for (size_t i = start; i + 1 < fields->length; i++) {
        if (iscntrl((unsigned char)fields->data[i])) {
            fields->data[i] = '?';
        }
    }
}

int journal_start(const char *program, const char *source, const char *directory,
                  const char *type) {
    static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        return -errno;
    }
    (void)snprintf(journal.program, sizeof(journal.program), "%s", program);
    (void)snprintf(journal.type, sizeof(journal.type), "%s", type);
    add_field("SYSLOG_IDENTIFIER", program);
    add_field("BERTH_SOURCE", source);
    add_field("BERTH_MOUNT", directory);
    add_field("BERTH_TYPE", type);
    if (journal.fields.failed) {
        return -ENOMEM;
    }
    journal.fd = steal_fd(&fd);
    log_set_sink(journal_sink, NULL);
    return 0;
}
