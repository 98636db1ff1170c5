/* SPDX-License-Identifier: MIT */
/*
 * Checking volumes. A checker's engine neither prints nor asks: it tells a
 * reporter of each problem it finds, by an entry of its format's one table of
 * problems, and is told whether to repair it. Programs are reporters: they
 * ask, or answer always the same, and print in words or JSON.
 *
 * Repairs are made in memory first and written at the end, so a check that is
 * refused one repair and needs it for others writes nothing at all.
 */
#ifndef BERTH_CHECK_H
#define BERTH_CHECK_H

#include "berth/base.h"

typedef enum CheckSeverity {
    CHECK_NOTICE, /* worth saying, nothing is wrong */
    CHECK_MINOR,  /* a number that can be computed anew */
    CHECK_DAMAGE, /* files are or may become damaged */
} CheckSeverity;

typedef struct CheckProblem {
    const char *code;   /* stable, for programs: "bitmap-lost" */
    const char *text;   /* what is wrong: "blocks are marked used but belong to nothing" */
    const char *repair; /* "mark them free"; NULL: there is none */
    CheckSeverity severity;
    bool automatic; /* the repair loses nothing: may be made unasked */
} CheckProblem;

typedef struct CheckReporter CheckReporter;
struct CheckReporter {
    /* detail: which one, in words, as UTF-8; the strings are the engine's. True: repair it (asked
     * for nothing when there is no repair). */
    bool (*problem)(CheckReporter *reporter, const CheckProblem *problem, const char *detail);
    /* Pass 1 to passes; total 0: unknown. May be NULL. */
    void (*progress)(CheckReporter *reporter, unsigned pass, unsigned passes, uint64_t done,
                     uint64_t total);
};

typedef struct CheckConfig {
    bool force;  /* also when the volume says that it is sound */
    int64_t now; /* seconds since 1970, local time: the date of the repair */
} CheckConfig;

typedef struct CheckResult {
    bool skipped;             /* the volume says that it is sound, and was believed */
    bool frozen;              /* a repair was refused that others need: nothing was written */
    bool changed;             /* something was written */
    unsigned found, repaired; /* problems; a notice is none */
    uint64_t files, directories;
    uint64_t blocks, blocks_free;
    uint32_t block_size;
} CheckResult;

#define CHECK_TEXT 160

struct BlockDevice;
/*
 * Checks, and writes what was to be repaired (unless the device is read-only: then reporters must
 * refuse). 0 when the check came to its end, whatever it found; -EMEDIUMTYPE, -EUCLEAN (not a
 * volume of the format, or beyond any help), -EIO, -ENOMEM, with the reason in text.
 */
typedef int CheckFn(struct BlockDevice *device, const CheckConfig *config, CheckReporter *reporter,
                    CheckResult *ret, char text[CHECK_TEXT]);

#endif
