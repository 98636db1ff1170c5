/* SPDX-License-Identifier: MIT */
/*
 * Power cuts on real FAT volumes. A seeded workload runs on a recording device; afterwards device
 * states are built as a cut could have left them: everything before some flush, and of the writes
 * between that flush and the next a random subset of sectors. power_cut_judge.c says what each
 * state must keep.
 *
 * usage: power_cut IMAGE SEED OPERATIONS STATES   (IMAGE: fresh from mkfs.fat, not changed)
 */
#include "power_cut.h"
#include "berth/log.h"
#include <fcntl.h>
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

/* Everything before `epoch`, and a random subset of the sectors written in it. */
static void build_state(PowerCut *cut, uint8_t *state, uint32_t epoch) {
    unsigned keep = random_pick(cut, 5); /* 0: none … 4: all, between: chance */

    memcpy(state, cut->base, cut->size);
    for (size_t i = 0; i < cut->recording.count; i++) {
        const RecordedWrite *w = &cut->recording.writes[i];
        if (w->epoch > epoch) {
            break;
        }
        for (uint64_t done = 0; done < w->length; done += 512) {
            if (w->epoch < epoch || random_pick(cut, 4) < keep) {
                memcpy(state + w->offset + done, w->data + done,
                       MIN(w->length - done, (uint64_t)512));
            }
        }
    }
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

int main(int argc, char **argv) {
    static PowerCut cut;
    char path[] = "/tmp/berth-power-cut.XXXXXX";

    if (argc != 5) {
        fprintf(stderr, "usage: power_cut IMAGE SEED OPERATIONS STATES\n");
        return 2;
    }
    cut.seed = strtoul(argv[2], NULL, 0);
    cut.operations = (uint32_t)strtoul(argv[3], NULL, 0);
    cut.random = cut.seed * 0x9e3779b97f4a7c15u + 1;
    log_init("power_cut", LOG_LEVEL_ERROR); /* every cut state says that it is dirty */
    load_base(&cut, argv[1]);
    workload_run(&cut);
    uint8_t *state = malloc(cut.size);
    int fd = mkstemp(path);
    if (fd < 0 || state == NULL) {
        die(&cut, "scratch file", errno);
    }
    unsigned long states = strtoul(argv[4], NULL, 0);
    for (unsigned long i = 0; i < states; i++) {
        uint32_t epoch = random_pick(&cut, cut.recording.epoch + 1);
        build_state(&cut, state, epoch);
        if (pwrite(fd, state, cut.size, 0) != (ssize_t)cut.size) {
            die(&cut, "scratch file", errno);
        }
        judge_state(&cut, state, path, epoch);
    }
    printf(
        "seed %lu: %u operations, of which %lu exchanges and %lu directories removed, %zu writes "
        "in %u epochs, %lu states: %lu clean, %lu with lost clusters, %lu with two names\n",
        cut.seed, cut.operations, cut.exchanges, cut.removals, cut.recording.count,
        cut.recording.epoch, states, cut.clean_states, cut.lost_states, cut.two_names_states);
    free(state);
    close(fd);
    unlink(path);
    return 0;
}
