/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of the single-step test share: the memory that outlives a daemon
 * (lifeline and device, both memory files), the request at hand, and what is known of the
 * volume before and after it.
 */
#ifndef TESTS_SINGLE_STEP_H
#define TESTS_SINGLE_STEP_H

#include "../../src/cache/lifeline.h"
#include "volume_driver.h"

#define STEP_SLOTS 8u /* of the lifeline; slot 0 is the judge's */
#define STEP_PAYLOAD 4096u

/* Lifeline and device. */
typedef struct Memory {
    int lifeline_fd, device_fd;
    uint64_t lifeline_size, device_size;
    const uint8_t *lifeline, *device; /* mapped for reading */
} Memory;

typedef enum Phase { PHASE_PREPARING, PHASE_READY, PHASE_ANSWERED, PHASE_OVER } Phase;

typedef struct Digest {
    uint64_t names, contents; /* of the whole tree; contents without the file being written */
    uint64_t everything;
} Digest;

/* Shared by tracer, victim and judges. Pointers into it are good in all of them. */
typedef struct Shared {
    volatile int phase;
    char label[64];
    bool recorded;        /* the reply must be found in the slot afterwards */
    bool writes_in_place; /* contents may be in part the new ones before the record is there */
    FSRequest request;
    FSResponse response;
    char name[FS_NAME_MAX + 1], name2[FS_NAME_MAX + 1];
    uint8_t payload[STEP_PAYLOAD];
    uint64_t seen; /* number of the last response before this request */
    uint64_t
        held[3]; /* ids that the other side holds: the file in use, what the request is about */
    /* What the oracle found, before the first step. */
    Digest before, after;
    FSResponse expected;
    /* Counters. */
    unsigned long steps, states, recoveries, checked;
    char trouble[512];
} Shared;

/* A daemon over that memory; not mounted. 0 or -errno. */
typedef struct World {
    Memory memory;
    Lifeline *lifeline;
    BlockDevice *device;
    Driver driver;
} World;
int memory_new(const char *image, Memory *ret);
int memory_copy(const Memory *memory, Memory *ret);
int world_open(const Memory *memory, World *ret);
/* MOUNT; with recover also FENCE. seen: of the predecessors. */
int world_mount(World *world, bool recover, uint64_t seen);

/* ---- the requests ---- */

typedef struct Step {
    const char *label;
    FSMessageType type;
    const char *path, *path2; /* of the object; for names: of what is named */
    uint64_t offset;
    uint32_t length;
    uint32_t detail; /* flags, mode, mask, or type of the new file */
    bool quiet;      /* not under test: prepares */
} Step;
extern const Step steps[];
extern const unsigned step_count;
/* Makes steps[number] the request at hand: finds what it names, and holds it as a kernel would. */
int step_prepare(Driver *driver, Shared *shared, unsigned number);
/* EVICT of one id; 0: none. */
void step_let_go(Driver *driver, uint64_t file_id);

/* ---- judgement ---- */

/* The request at hand on `world`, as a daemon would execute it. */
void world_execute(World *world, Shared *shared, FSResponse *ret);

/* Recovers a copy of memory in this process, before and after the first step: fills in
 * shared->before, after and expected. 0, or trouble. */
int judge_foresee(const Memory *memory, Shared *shared);
/* The same in the middle: is everything as it was before or as it must be after, does the re-sent
 * request get the answer it should, once? check_image: also asks fsck.fat. 0, or trouble. */
int judge_state(const Memory *memory, Shared *shared, bool check_image);

#endif
