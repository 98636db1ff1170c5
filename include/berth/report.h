/* SPDX-License-Identifier: MIT */
/*
 * Corruption: what a decoder found wrong (Corruption, plain data, no side
 * effects), and the one reporter per volume that counts it, logs it once per
 * place and applies the errors= policy.
 */
#ifndef BERTH_REPORT_H
#define BERTH_REPORT_H

#include "berth/base.h"

typedef struct Corruption {
    const char *structure; /* static: "boot sector", "FAT", "directory entry" */
    const char *field;     /* static: the specification's name */
    uint64_t where;        /* byte offset in the volume, or the structure's number */
    uint64_t value;        /* the value found */
    char text[120];        /* what is wrong with it, in words */
} Corruption;

/* Fills *ret (which may be NULL) and returns -EUCLEAN. */
int corruption_set(Corruption *ret, const char *structure, uint64_t where, const char *field,
                   uint64_t value, const char *fmt, ...) PRINTF_LIKE(6, 7);

typedef enum ErrorsPolicy {
    ERRORS_REMOUNT_RO, /* default: the volume turns read-only at the first corruption met while
                          writing */
    ERRORS_CONTINUE,
    ERRORS_PANIC, /* the daemon stops */
} ErrorsPolicy;

typedef struct Reporter Reporter;

/* volume: a name for log lines, copied. Returns NULL when out of memory. */
Reporter *reporter_new(const char *volume, ErrorsPolicy policy);
Reporter *reporter_free(Reporter *reporter);
DEFINE_CLEANUP(Reporter *, reporter_free);

/* Called once, when the policy turns the volume read-only. */
void reporter_on_readonly(Reporter *reporter, void (*fn)(void *arg), void *arg);

/*
 * Counts, logs (once per structure, place and field, at most some hundreds of
 * lines in all), returns -EUCLEAN. writing: the caller was changing the
 * volume, so the policy applies.
 */
int report_corruption(Reporter *reporter, const Corruption *corruption, bool writing);

/* Shorthand for corruption_set and report_corruption. */
int report_corrupt(Reporter *reporter, bool writing, const char *structure, uint64_t where,
                   const char *field, uint64_t value, const char *fmt, ...) PRINTF_LIKE(7, 8);

uint64_t reporter_count(const Reporter *reporter);
/* Text of the last one, or "" ; valid until the next report. */
const char *reporter_last(const Reporter *reporter);

#endif
