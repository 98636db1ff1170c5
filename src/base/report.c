/* SPDX-License-Identifier: MIT */
/*
 * The corruption reporter. One per volume, used from the volume's one thread,
 * so it has no lock.
 *
 * A damaged image is met again and again, by every walk over the same bytes:
 * a place (structure, offset, field) is logged once, and no image can fill the
 * log with different places either, because the set of places seen is small
 * and fixed. Counting goes on when logging stops. Nothing is allocated after
 * reporter_new(), so reporting works when memory is short.
 */
#include "berth/report.h"

#include "berth/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define REPORT_LINES_MAX 256
#define REPORT_SLOTS 512 /* power of two, twice the lines: probing ends soon */
#define REPORT_PANIC 70  /* exit status of a daemon that errors=panic stops */

struct Reporter {
    char volume[128];
    ErrorsPolicy policy;
    uint64_t count;
    unsigned lines;
    bool turned_readonly;
    void (*on_readonly)(void *arg);
    void *on_readonly_arg;
    char last[320];
    uint64_t seen[REPORT_SLOTS]; /* hashes of the places logged; 0: free */
};

static void corruption_fill(Corruption *ret, const char *structure, uint64_t where,
                            const char *field, uint64_t value, const char *fmt, va_list args)
    __attribute__((format(printf, 6, 0)));

static void corruption_fill(Corruption *ret, const char *structure, uint64_t where,
                            const char *field, uint64_t value, const char *fmt, va_list args) {
    ret->structure = structure;
    ret->field = field;
    ret->where = where;
    ret->value = value;
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, args);
}

int corruption_set(Corruption *ret, const char *structure, uint64_t where, const char *field,
                   uint64_t value, const char *fmt, ...) {
    va_list args;

    if (ret != NULL) {
        va_start(args, fmt);
        corruption_fill(ret, structure, where, field, value, fmt, args);
        va_end(args);
    }
    return -EUCLEAN;
}

Reporter *reporter_new(const char *volume, ErrorsPolicy policy) {
    Reporter *reporter = calloc(1, sizeof(*reporter));

    if (reporter == NULL) {
        return NULL;
    }
    (void)snprintf(reporter->volume, sizeof(reporter->volume), "%s", volume);
    reporter->policy = policy;
    return reporter;
}

Reporter *reporter_free(Reporter *reporter) {
    free(reporter);
    return NULL;
}

void reporter_on_readonly(Reporter *reporter, void (*fn)(void *arg), void *arg) {
    reporter->on_readonly = fn;
    reporter->on_readonly_arg = arg;
}

static uint64_t report_hash_text(uint64_t hash, const char *text) {
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* True when this place has not been logged before and there is room to log it. */
static bool report_place_is_new(Reporter *reporter, const Corruption *corruption) {
    uint64_t hash = report_hash_text(UINT64_C(0xcbf29ce484222325), corruption->structure);
    size_t slot;

    hash = report_hash_text(hash ^ 0xff, corruption->field);
    hash = (hash ^ corruption->where) * UINT64_C(0x9e3779b97f4a7c15);
    hash |= hash == 0;
    for (slot = hash >> 55; reporter->seen[slot] != 0; slot = (slot + 1) % REPORT_SLOTS) {
        if (reporter->seen[slot] == hash) {
            return false;
        }
    }
    if (reporter->lines >= REPORT_LINES_MAX) {
        return false;
    }
    reporter->seen[slot] = hash;
    reporter->lines++;
    return true;
}

static void report_apply_policy(Reporter *reporter) {
    switch (reporter->policy) {
    case ERRORS_CONTINUE:
        return;
    case ERRORS_PANIC:
        log_error("%s: stopping, as errors=panic asks", reporter->volume);
        _exit(REPORT_PANIC);
    case ERRORS_REMOUNT_RO:
    default:
        if (!reporter->turned_readonly) {
            reporter->turned_readonly = true;
            log_error("%s: the volume is read-only from here on", reporter->volume);
            if (reporter->on_readonly != NULL) {
                reporter->on_readonly(reporter->on_readonly_arg);
            }
        }
        return;
    }
}

int report_corruption(Reporter *reporter, const Corruption *corruption, bool writing) {
    reporter->count++;
    (void)snprintf(reporter->last, sizeof(reporter->last),
                   "%s at %" PRIu64 ": %s is %" PRIu64 " (0x%" PRIx64 "): %s",
                   corruption->structure, corruption->where, corruption->field, corruption->value,
                   corruption->value, corruption->text);
    if (report_place_is_new(reporter, corruption)) {
        log_warning("%s: corrupt: %s", reporter->volume, reporter->last);
        if (reporter->lines == REPORT_LINES_MAX) {
            log_warning("%s: too many errors: further ones are counted, not logged",
                        reporter->volume);
        }
    }
    if (writing) {
        report_apply_policy(reporter);
    }
    return -EUCLEAN;
}

int report_corrupt(Reporter *reporter, bool writing, const char *structure, uint64_t where,
                   const char *field, uint64_t value, const char *fmt, ...) {
    Corruption corruption;
    va_list args;

    va_start(args, fmt);
    corruption_fill(&corruption, structure, where, field, value, fmt, args);
    va_end(args);
    return report_corruption(reporter, &corruption, writing);
}

uint64_t reporter_count(const Reporter *reporter) {
    return reporter->count;
}

const char *reporter_last(const Reporter *reporter) {
    return reporter->last;
}
