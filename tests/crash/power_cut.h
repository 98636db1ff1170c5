/* SPDX-License-Identifier: MIT */
/*
 * What the parts of power_cut share: the model of the volume that the workload changes
 * (power_cut_workload.c) and against which the states after a cut are judged
 * (power_cut_judge.c).
 */
#ifndef TESTS_POWER_CUT_H
#define TESTS_POWER_CUT_H

#include "volume_driver.h"

#define NODES 32
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
    uint32_t operation, epoch;
    Node nodes[NODES];
} Confirmed;

/* What one operation did. */
typedef struct Touch {
    int node, other;     /* changed, or got another name */
    uint32_t changed[2]; /* contents that were changed or removed, 0: none */
    bool moves_directory;
    uint32_t epoch; /* of the recording, afterwards */
} Touch;

typedef struct PowerCut {
    uint64_t random;
    unsigned long seed;
    uint8_t *base;
    uint64_t size;
    BlockRecording recording;
    Node nodes[NODES];
    int emptying; /* a directory whose children are being moved out, or NO_NODE */
    Confirmed *confirmed;
    size_t confirmed_count;
    Touch *touches; /* per operation, from 1 */
    uint32_t operations;
    unsigned long exchanges, removals;
    unsigned long lost_states, clean_states, two_names_states;
} PowerCut;

uint64_t random_next(PowerCut *cut);
uint32_t random_pick(PowerCut *cut, uint32_t limit);
_Noreturn void die(const PowerCut *cut, const char *what, long long detail);
void node_path(const Node *nodes, int node, char ret[PATH_LENGTH_MAX]);

/* Fills the recording, what was confirmed, and what each operation touched. */
void workload_run(PowerCut *cut);
/* A state as a cut in this epoch may have left it, also in the file at `path`. Exits if it is bad.
 */
void judge_state(PowerCut *cut, uint8_t *state, const char *path, uint32_t epoch);

#endif
