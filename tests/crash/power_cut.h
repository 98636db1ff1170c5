/* SPDX-License-Identifier: MIT */
/*
 * What the parts of power_cut share: the model of the volume that the workload changes
 * (power_cut_workload.c), the states after a cut (power_cut.c), and what judges them: the
 * model (power_cut_judge.c) and the formats' checkers (power_cut_checkers.c).
 */
#ifndef TESTS_POWER_CUT_H
#define TESTS_POWER_CUT_H

#include "volume_driver.h"

#define NODES 256 /* at most */
#define NO_NODE (-1)
#define CONTENT_MAX 40000
#define PATH_LENGTH_MAX 640

/* A file or a directory. */
typedef struct Node {
    bool exists, directory;
    int parent;       /* a directory, or NO_NODE: the root */
    uint32_t content; /* whose bytes these are: the operation that created them */
    uint32_t length;
    uint8_t *bytes;
    char name[48];
} Node;

/* What a sync had confirmed. */
typedef struct Confirmed {
    uint32_t operation;
    uint64_t moment;
    Node nodes[NODES];
} Confirmed;

/* What one operation did. */
typedef struct Touch {
    int node, other;     /* changed, or got another name */
    uint32_t changed[2]; /* contents that were changed or removed, 0: none */
    bool moves_directory;
    uint64_t moment;       /* by the recordings' clock, afterwards */
    uint64_t tree;         /* entry_sum() of all that there was then */
    uint64_t files[NODES]; /* file_sum() of each, 0: none */
} Touch;

typedef struct PowerCut {
    uint64_t random;
    unsigned long seed;
    const FileSystemType *type;
    const char *fsck_hfs; /* the program */
    bool goes_on;         /* after something bad */
    uint8_t *base;
    uint64_t size;
    uint64_t journal_size; /* 0: no journal */
    uint64_t clock;
    BlockRecording image, journal;
    Node nodes[NODES];
    uint32_t node_count; /* that are used */
    uint32_t length_max; /* of a file */
    int emptying;        /* a directory whose children are being moved out, or NO_NODE */
    Confirmed *confirmed;
    size_t confirmed_count;
    Touch *touches; /* per operation, from 1 */
    uint32_t operations;
    unsigned long exchanges, removals;
    unsigned long lost_states, clean_states, two_names_states;
    unsigned long repaired_states, replayed_states;
    unsigned long bad_states;
    uint8_t *before; /* HFS: the state that the checker repaired */
} PowerCut;

/* Operations that may have reached the state: those in (from, to]. */
typedef struct Window {
    const Confirmed *confirmed; /* NULL: nothing was */
    uint32_t from, to;
} Window;

uint64_t random_next(PowerCut *cut);
uint32_t random_pick(PowerCut *cut, uint32_t limit);
_Noreturn void die(const PowerCut *cut, const char *what, long long detail);
/* The state in `path` is bad, which has been told: keeps it and ends, unless -k was given. */
void bad_state(PowerCut *cut, const char *path);
void node_path(const Node *nodes, int node, char ret[PATH_LENGTH_MAX]);

/* What one name adds to the sum over a tree. */
uint64_t entry_sum(const char *path, bool directory, uint64_t length);

/* What tells a file's name and bytes from others; not 0. */
uint64_t file_sum(const char *path, uint64_t bytes_hash);
uint64_t hash_bytes(const uint8_t *bytes, size_t length);

/* Fills the recordings, what was confirmed, and what each operation touched. */
void workload_run(PowerCut *cut);
/* A state as a cut at this moment may have left it, also in the file at `path`; the journal's batch
 * has been replayed, if there is a journal. Exits if it is bad. */
void judge_state(PowerCut *cut, uint8_t *state, const char *path, uint64_t moment);
Window judge_window(const PowerCut *cut, uint64_t moment);
void judge_mount(PowerCut *cut, uint8_t *state, uint64_t moment, Driver *driver,
                 BlockDevice **ret_device);

/* Nothing but what fsck.fat may find; with a journal, nothing. */
void check_fat(PowerCut *cut, uint8_t *state, const char *path, uint64_t moment);
/* With a journal fsck.hfs finds nothing but the mark; without one it repairs, and the state is what
 * it has made of it. False: it left problems, and that is not the end. */
bool check_hfs(PowerCut *cut, uint8_t *state, const char *path, uint64_t moment);

#endif
