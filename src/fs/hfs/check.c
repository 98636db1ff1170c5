/* SPDX-License-Identifier: MIT */
/*
 * The check as a whole: the master directory block or its alternate, and the
 * passes.
 *
 * A repair that the trees or the MDB need and that is refused freezes the
 * check: everything that is found later is still told, as beyond repair, but
 * nothing is written. The volume is marked as sound only when every problem
 * was repaired.
 */
#include "check.h"
#include "berth/hfs.h"
#include "berth/text.h"
#include "check_forks.h"
#include "check_store.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define PASSES 5u

/* ---- telling ---- */

static bool is_needed(HfsProblem problem) {
    return problem == HFS_PROBLEM_MDB ||
           (problem >= HFS_PROBLEM_TREE_PLACE && problem <= HFS_PROBLEM_TREE_COUNT);
}

/* Repairs that take away what belongs to nothing, as far as is known. */
static bool is_taking(HfsProblem problem) {
    return problem == HFS_PROBLEM_BITMAP_LOST || problem == HFS_PROBLEM_EXTENT_ORPHAN ||
           problem == HFS_PROBLEM_THREAD_ORPHAN || problem == HFS_PROBLEM_FREE_COUNT;
}

static PRINTF_LIKE(4, 0) bool tell(Check *check, HfsProblem number, bool possible, const char *fmt,
                                   va_list args) {
    CheckProblem problem = hfs_problems[number];
    char bytes[256], detail[3 * sizeof(bytes)]; /* names come in as the volume has them */
    bool repair;

    (void)vsnprintf(bytes, sizeof(bytes), fmt, args);
    (void)macroman_to_utf8((const uint8_t *)bytes, strlen(bytes), detail, sizeof(detail));
    if (!possible || check->frozen || (check->incomplete && is_taking(number))) {
        problem.repair = NULL;
    }
    repair = check->reporter->problem(check->reporter, &problem, detail) && problem.repair != NULL;
    if (problem.severity != CHECK_NOTICE) {
        check->result.found++;
        check->result.repaired += repair;
        check->frozen = check->frozen || (is_needed(number) && !repair);
        check->incomplete = check->incomplete || (number == HFS_PROBLEM_RECORD && !repair);
    }
    return repair;
}

bool check_found(Check *check, HfsProblem problem, const char *fmt, ...) {
    va_list args;
    bool repair;

    va_start(args, fmt);
    repair = tell(check, problem, true, fmt, args);
    va_end(args);
    return repair;
}

void check_told(Check *check, HfsProblem problem, const char *fmt, ...) {
    va_list args;

    va_start(args, fmt);
    (void)tell(check, problem, false, fmt, args);
    va_end(args);
}

int check_fail(Check *check, int error, const char *fmt, ...) {
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(check->text, CHECK_TEXT, fmt, args);
    va_end(args);
    return error;
}

void check_progress(Check *check, unsigned pass, uint64_t done, uint64_t total) {
    if (check->reporter->progress != NULL) {
        check->reporter->progress(check->reporter, pass, PASSES, done, total);
    }
}

/* ---- the master directory block ---- */

static int read_alternate(const Check *check, HfsDiskMdb *ret_disk, HfsMdb *ret,
                          Corruption *corruption) {
    int r = block_read(check->device, check_alternate_place(check), ret_disk, sizeof(*ret_disk));

    return r < 0 ? r : hfs_mdb_decode(ret_disk, ret, corruption);
}

/* The first one cannot be used; is the other one? */
static int take_alternate(Check *check, const Corruption *why) {
    Corruption corruption = {0};
    HfsDiskMdb disk;
    HfsMdb mdb;
    int r = read_alternate(check, &disk, &mdb, &corruption);

    if (r < 0) {
        return r != -EUCLEAN ? r
               : be16_get(check->disk_mdb.signature) == HFS_SIGNATURE
                   ? check_fail(check, r, "no usable master directory block: %s %s", why->field,
                                why->text)
                   : check_fail(check, -EMEDIUMTYPE, "not an HFS volume");
    }
    if (check_found(check, HFS_PROBLEM_MDB, "%s %" PRIu64 ": %s", why->field, why->value,
                    why->text)) {
        check->mdb_changed = true;
    }
    check->disk_mdb = disk;
    check->mdb = mdb;
    return 0;
}

static int read_mdb(Check *check) {
    Corruption corruption = {0};
    const char *foreign;
    int r;

    if (check->device->size < (HFS_MDB_SECTOR + 1 + HFS_ALT_MDB_FROM_END) * HFS_SECTOR) {
        return check_fail(check, -EMEDIUMTYPE, "too small to be an HFS volume");
    }
    r = block_read(check->device, (uint64_t)HFS_MDB_SECTOR * HFS_SECTOR, &check->disk_mdb,
                   sizeof(check->disk_mdb));
    if (r < 0) {
        return r;
    }
    foreign = hfs_signature_foreign(&check->disk_mdb);
    if (foreign != NULL) {
        return check_fail(check, -EMEDIUMTYPE, "this is %s, not an HFS volume", foreign);
    }
    r = hfs_mdb_decode(&check->disk_mdb, &check->mdb, &corruption);
    return r == -EUCLEAN ? take_alternate(check, &corruption) : r;
}

/* What the alternate MDB must have in common with the first: all that does not change with every
 * file. */
static bool alternate_agrees(const HfsMdb *a, const HfsMdb *b) {
    return a->block_size == b->block_size && a->block_count == b->block_count &&
           a->first_block == b->first_block && a->bitmap_start == b->bitmap_start &&
           a->extents_size == b->extents_size && a->catalog_size == b->catalog_size &&
           memcmp(a->extents_file, b->extents_file, sizeof(a->extents_file)) == 0 &&
           memcmp(a->catalog_file, b->catalog_file, sizeof(a->catalog_file)) == 0;
}

static int check_alternate(Check *check) {
    Corruption corruption = {.text = "other sizes, or other places of the trees"};
    HfsDiskMdb disk;
    HfsMdb mdb;
    int r;

    /* An image that was cut off close behind the last block has no place for it. */
    if (check_alternate_place(check) < hfs_mdb_blocks_end(&check->mdb)) {
        return 0;
    }
    r = read_alternate(check, &disk, &mdb, &corruption);
    if (r < 0 && r != -EUCLEAN) {
        return r;
    }
    if ((r < 0 || !alternate_agrees(&check->mdb, &mdb)) &&
        check_found(check, HFS_PROBLEM_ALTERNATE, "%s", corruption.text)) {
        check->alternate_changed = true;
    }
    return 0;
}

/* ---- the passes ---- */

static int load_extents(Check *check) {
    HfsExtent *extents = calloc(HFS_EXTENTS_IN_RECORD, sizeof(*extents));
    unsigned count = 0;

    if (extents == NULL) {
        return -ENOMEM;
    }
    while (count < HFS_EXTENTS_IN_RECORD && check->mdb.extents_file[count].count > 0) {
        extents[count] = check->mdb.extents_file[count];
        count++;
    }
    return check_tree_load(check, &check->extents, &hfs_extents_format, extents, count,
                           check->mdb.extents_size);
}

/* Overflow records that begin behind the file's end: it was about to grow. They are nobody's. */
static void drop_unused(Check *check, CheckFork *fork) {
    while (check->claimed_count > fork->claimed) {
        uint32_t first = be16_get(check->claimed[check->claimed_count - 1].first_block);

        if ((uint64_t)first * check->mdb.block_size < check->mdb.catalog_size) {
            break;
        }
        check->claimed_count--;
        while (fork->blocks > first) {
            fork->blocks -= fork->extents[--fork->count].count;
        }
    }
}

/* The catalog may be in more pieces than the MDB has room for. */
static int load_catalog(Check *check) {
    CheckFork fork;
    int r = check_fork_collect(check, HFS_CNID_CATALOG, HFS_FORK_DATA, check->mdb.catalog_file,
                               true, &fork);

    if (r == 0) {
        drop_unused(check, &fork);
    }
    check->claimed_catalog = check->claimed_count;
    return r < 0 ? r
                 : check_tree_load(check, &check->catalog, &hfs_catalog_format, fork.extents,
                                   fork.count, check->mdb.catalog_size);
}

static int check_trees(Check *check) {
    int r;

    check_progress(check, 1, 0, 2);
    r = load_extents(check);
    if (r == 0) {
        r = check_tree(check, &check->extents);
    }
    if (r == 0) {
        check_progress(check, 1, 1, 2);
        r = load_catalog(check);
    }
    if (r == 0) {
        r = check_tree(check, &check->catalog);
    }
    return r;
}

static int run_passes(Check *check) {
    int r = check_trees(check);

    if (r == 0) {
        check_progress(check, 2, 0, 0);
        r = check_catalog(check);
    }
    if (r == 0) {
        check_progress(check, 3, 0, 0);
        r = check_lost(check);
    }
    if (r == 0) {
        r = check_threads(check);
    }
    if (r == 0) {
        r = check_counts(check);
    }
    if (r == 0) {
        check->used = calloc(BITMAP_WORDS((size_t)check->mdb.block_count), sizeof(*check->used));
        r = check->used == NULL ? -ENOMEM : check_forks(check);
    }
    if (r == 0) {
        check_progress(check, 5, 0, 0);
        r = check_bitmap(check);
    }
    return r < 0 ? r : check_alternate(check);
}

/* ---- the end ---- */

static int finish(Check *check, bool was_clean) {
    CheckResult *result = &check->result;
    bool sound = result->repaired == result->found;

    if (check->frozen || result->repaired == 0) {
        result->frozen = check->frozen;
        result->repaired = 0;
        return !sound && was_clean && !check->device->readonly ? check_mark_unsound(check) : 0;
    }
    return check_store(check, sound, was_clean);
}

static int run(Check *check) {
    bool was_clean;
    int r = read_mdb(check);

    if (r < 0) {
        return r;
    }
    if (hfs_mdb_check_device(&check->mdb, check->device->size) > 0) {
        check_told(check, HFS_PROBLEM_SHORT, "%" PRIu64 " bytes, but it needs %" PRIu64,
                   check->device->size, hfs_mdb_blocks_end(&check->mdb));
        return check_fail(check, -EUCLEAN, "the volume is cut off");
    }
    was_clean = (check->mdb.attributes & HFS_ATTR_UNMOUNTED) != 0 &&
                (check->mdb.attributes & HFS_ATTR_INCONSISTENT) == 0;
    if (was_clean && !check->config.force && check->result.found == 0) {
        check->result.skipped = true;
        return 0;
    }
    if ((check->mdb.attributes & HFS_ATTR_SOFTWARE_LOCK) != 0) {
        check_told(check, HFS_PROBLEM_LOCKED, "by its attributes");
    }
    if (!was_clean) {
        (void)check_found(check, HFS_PROBLEM_NOT_CLEAN, "attributes %04x", check->mdb.attributes);
    }
    r = run_passes(check);
    return r < 0 ? r : finish(check, was_clean);
}

int hfs_check(BlockDevice *device, const CheckConfig *config, CheckReporter *reporter,
              CheckResult *ret, char text[CHECK_TEXT]) {
    Check check = {.device = device, .config = *config, .reporter = reporter, .text = text};
    int r;

    text[0] = '\0';
    r = run(&check);
    if (r < 0 && text[0] == '\0') {
        (void)check_fail(&check, r, "%s", strerror(-r));
    }
    check_tree_done(&check.extents);
    check_tree_done(&check.catalog);
    free(check.entries);
    free(check.ids);
    free(check.used);
    free(check.claimed);
    free(check.bitmap);
    if (r < 0) {
        check.result.repaired = 0; /* all is written at the end */
    }
    *ret = check.result;
    return r;
}
