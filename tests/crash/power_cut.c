/* SPDX-License-Identifier: MIT */
/*
 * Power cuts on real volumes. A seeded workload runs on a recording device, perhaps with a side
 * journal on another; afterwards states of both are built as a cut could have left them at some
 * moment: everything that a flush had covered by then, and a random subset of the sectors written
 * since. With a journal the state is then what its replay makes of it. power_cut_judge.c says what
 * each state must keep.
 *
 * usage: power_cut [-jk] [-n NODES] [-y FSCK_HFS] IMAGE SEED OPERATIONS STATES
 *
 * IMAGE: fresh from mkfs.fat, or with -y from a maker of HFS volumes; not changed. -j: with a side
 * journal. -k: goes on after something was lost, and counts. -n: there are so many files and
 * directories at the most (32), shorter ones if they are many.
 */
#include "power_cut.h"
#include "berth/log.h"
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>

uint64_t random_next(PowerCut *cut) {
    cut->random ^= cut->random << 13;
    cut->random ^= cut->random >> 7;
    cut->random ^= cut->random << 17;
    return cut->random;
}

uint32_t random_pick(PowerCut *cut, uint32_t limit) {
    return (uint32_t)(random_next(cut) % limit);
}

void die(const PowerCut *cut, const char *what, long long detail) {
    fprintf(stderr, "power_cut: seed %lu: %s (%lld)\n", cut->seed, what, detail);
    exit(1);
}

void bad_state(PowerCut *cut, const char *path) {
    char kept[64];

    cut->bad_states++;
    if (cut->goes_on) {
        return;
    }
    fprintf(stderr, "power_cut: image kept: %s\n", path);
    if (cut->type == &hfs_type) {
        (void)snprintf(kept, sizeof(kept), "%s.before", path);
        int fd = open(kept, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0 && write(fd, cut->before, cut->size) == (ssize_t)cut->size) {
            fprintf(stderr, "power_cut: as it was before its repair: %s\n", kept);
        }
    }
    exit(1);
}

/* What a device holds after a cut at this moment. */
static void build_state(PowerCut *cut, const BlockRecording *recording, uint8_t *state,
                        uint64_t moment) {
    unsigned keep = random_pick(cut, 5); /* 0: none … 4: all, between: chance */
    uint32_t epoch = 0;

    while (epoch < recording->flush_count && recording->flushes[epoch] <= moment) {
        epoch++;
    }
    for (size_t i = 0; i < recording->count; i++) {
        const RecordedWrite *w = &recording->writes[i];

        for (uint64_t done = 0; w->moment <= moment && done < w->length; done += 512) {
            if (w->epoch < epoch || random_pick(cut, 4) < keep) {
                memcpy(state + w->offset + done, w->data + done,
                       MIN(w->length - done, (uint64_t)512));
            }
        }
    }
}

/* As it is before a flush, when most is open, or anywhere. */
static uint64_t pick_moment(PowerCut *cut) {
    const BlockRecording *recording =
        cut->journal_size > 0 && random_pick(cut, 2) == 0 ? &cut->journal : &cut->image;

    if (random_pick(cut, 2) == 0 && recording->flush_count > 0) {
        return recording->flushes[random_pick(cut, (uint32_t)recording->flush_count)] - 1;
    }
    return random_next(cut) % (cut->clock + 1);
}

/* What the next mount does first; not what it does later, nor its unmount. */
static void replay(PowerCut *cut, uint8_t *state, uint8_t *journal_state, uint64_t moment) {
    BlockDevice *device = NULL, *journal_device = NULL;
    SideJournal *journal = NULL;
    uint8_t *mounted = malloc(cut->size);
    Driver driver;

    if (mounted == NULL || block_memory_new(cut->size, 512, state, &device) != 0 ||
        block_memory_new(cut->journal_size, 512, journal_state, &journal_device) != 0 ||
        sidejournal_new(journal_device, &journal) != 0) {
        die(cut, "memory", 0);
    }
    int r = driver_mount_journal(&driver, cut->type, device, journal, "log=256K");
    if (r < 0) {
        die(cut, "the cut state does not mount with its journal, moment", (long long)moment);
    }
    cut->replayed_states += sidejournal_stats(journal)->replayed > 0;
    memcpy(mounted, state, cut->size);
    driver_unmount(&driver);
    memcpy(state, mounted, cut->size);
    free(mounted);
    sidejournal_free(journal);
    block_free(journal_device);
    block_free(device);
}

static void judge_cut(PowerCut *cut, uint8_t *state, uint8_t *journal_state, int fd,
                      const char *path) {
    uint64_t moment = pick_moment(cut);

    memcpy(state, cut->base, cut->size);
    build_state(cut, &cut->image, state, moment);
    if (cut->journal_size > 0) {
        memset(journal_state, 0, cut->journal_size);
        build_state(cut, &cut->journal, journal_state, moment);
        replay(cut, state, journal_state, moment);
    }
    if (pwrite(fd, state, cut->size, 0) != (ssize_t)cut->size) {
        die(cut, "scratch file", errno);
    }
    judge_state(cut, state, path, moment);
}

static void load_base(PowerCut *cut, const char *path) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0) {
        die(cut, "cannot open the image", errno);
    }
    cut->size = (uint64_t)st.st_size;
    cut->base = malloc(cut->size);
    if (cut->base == NULL || read(fd, cut->base, cut->size) != (ssize_t)cut->size) {
        die(cut, "cannot read the image", errno);
    }
}

static void usage(void) {
    fprintf(stderr,
            "usage: power_cut [-jk] [-n NODES] [-y FSCK_HFS] IMAGE SEED OPERATIONS STATES\n");
    exit(2);
}

static void report(const PowerCut *cut, unsigned long states) {
    printf(
        "seed %lu: %u operations, of which %lu exchanges and %lu directories removed, %zu writes, "
        "%zu flushes, %zu of the journal; %lu states: %lu clean",
        cut->seed, cut->operations, cut->exchanges, cut->removals, cut->image.count,
        cut->image.flush_count, cut->journal.flush_count, states, cut->clean_states);
    if (cut->journal_size > 0) {
        printf(", %lu with a batch to replay\n", cut->replayed_states);
    } else if (cut->type == &fat_type) {
        printf(", %lu with lost clusters, %lu with two names\n", cut->lost_states,
               cut->two_names_states);
    } else {
        printf(", %lu repaired\n", cut->repaired_states);
    }
    if (cut->bad_states > 0) {
        printf("%lu states are bad\n", cut->bad_states);
    }
}

int main(int argc, char **argv) {
    static PowerCut cut = {.type = &fat_type, .node_count = 32, .length_max = CONTENT_MAX};
    char path[] = "/tmp/berth-power-cut.XXXXXX";
    bool journal = false;
    int option;

    while ((option = getopt(argc, argv, "jkn:y:")) != -1) {
        if (option == 'j') {
            journal = true;
        } else if (option == 'k') {
            cut.goes_on = true;
        } else if (option == 'n') {
            cut.node_count = (uint32_t)MIN(strtoul(optarg, NULL, 0), (unsigned long)NODES);
            cut.length_max = cut.node_count > 64 ? CONTENT_MAX / 4 : CONTENT_MAX;
        } else if (option == 'y') {
            cut.type = &hfs_type;
            cut.fsck_hfs = optarg;
        } else {
            usage();
        }
    }
    if (argc - optind != 4 || cut.node_count == 0) {
        usage();
    }
    argv += optind;
    cut.seed = strtoul(argv[1], NULL, 0);
    cut.operations = (uint32_t)strtoul(argv[2], NULL, 0);
    cut.random = cut.seed * 0x9e3779b97f4a7c15u + 1;
    log_init("power_cut", LOG_LEVEL_ERROR); /* every cut state says that it is dirty */
    load_base(&cut, argv[0]);
    cut.journal_size = journal ? sidejournal_size(256 << 10, cut.size) : 0;
    workload_run(&cut);
    uint8_t *state = malloc(cut.size), *journal_state = malloc(cut.journal_size + 1);
    int fd = mkstemp(path);
    cut.before = malloc(cut.size);
    if (fd < 0 || cut.before == NULL || state == NULL || journal_state == NULL) {
        die(&cut, "scratch file", errno);
    }
    unsigned long states = strtoul(argv[3], NULL, 0);
    for (unsigned long i = 0; i < states; i++) {
        judge_cut(&cut, state, journal_state, fd, path);
    }
    report(&cut, states);
    free(state);
    free(journal_state);
    free(cut.before);
    close(fd);
    unlink(path);
    return cut.bad_states > 0;
}
