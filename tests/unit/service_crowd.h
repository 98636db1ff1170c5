/* SPDX-License-Identifier: MIT */
/*
 * A crowd of random requests on names, many in service at once, with every operation
 * of the toy filesystem and every free lock suspending: what the locks of dispatch
 * are for. It ends (no deadlock), and the tree is a tree afterwards.
 */
#ifndef BERTH_TESTS_SERVICE_CROWD_H
#define BERTH_TESTS_SERVICE_CROWD_H

#include "berth/service.h"
#include "toyfs.h"
#include <check.h>

#define CROWD 12u

typedef struct CrowdMember {
    FSRequest request;
    uint8_t out[4096];
    char names[2][4];
    bool busy;
} CrowdMember;

typedef struct Crowd {
    Volume *volume;
    unsigned seed;
    uint64_t seq;
    CrowdMember members[CROWD];
} Crowd;

static inline unsigned crowd_random(Crowd *crowd, unsigned below) {
    return (unsigned)rand_r(&crowd->seed) % below;
}

/* Any id, live or not; half of the time the root. */
static inline uint64_t crowd_id(Crowd *crowd) {
    return crowd_random(crowd, 2) == 0 ? FS_ROOT_ID : TOY_ID(1 + crowd_random(crowd, 12));
}

static inline void crowd_fill(Crowd *crowd, CrowdMember *member) {
    static const uint16_t types[] = {
        FS_MSG_LOOKUP, FS_MSG_CREATE_FILE, FS_MSG_CREATE_FILE, FS_MSG_DELETE_FILE, FS_MSG_RENAME,
        FS_MSG_RENAME, FS_MSG_LIST_DIR,    FS_MSG_GET_ATTR,    FS_MSG_EVICT,
    };
    FSRequest *request = &member->request;

    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(member->names[i], sizeof(member->names[i]), "%c",
                       'a' + (int)crowd_random(crowd, 4));
    }
    *request = (FSRequest){
        .type = types[crowd_random(crowd, ARRAY_SIZE(types))],
        .request_id = fs_request_id(1, ++crowd->seq),
        .file_id = crowd_id(crowd),
        .file_id2 = crowd_id(crowd),
        .file_type = crowd_random(crowd, 3) == 0 ? FS_TYPE_FILE : FS_TYPE_DIRECTORY,
        .name = {member->names[0], 1},
        .name2 = {member->names[1], 1},
    };
    if (request->type == FS_MSG_DELETE_FILE && crowd_random(crowd, 3) != 0) {
        request->flags = FS_REQ_RMDIR;
    } else if (request->type == FS_MSG_LIST_DIR) {
        request->length = sizeof(member->out);
    } else if (request->type == FS_MSG_EVICT) {
        uint64_t id = crowd_id(crowd); /* little-endian: as the wire has it */

        memcpy(member->out, &id, sizeof(id));
        request->payload = member->out;
        request->payload_length = sizeof(id);
        request->offset = UINT64_MAX;
    }
}

static inline void crowd_done(void *ctx, FSResponse *response) {
    CrowdMember *member = ctx;

    member->busy = false;
    ck_assert_msg(response->result == 0 || response->result > -4096, "result %d", response->result);
}

/* Names are unique in their directory, and every way up ends at the root. */
static inline void crowd_check_tree(Crowd *crowd) {
    const ToyFs *self = toy_fs(volume_fs(crowd->volume));

    for (unsigned i = 1; i < TOY_FILES; i++) {
        const ToyFile *file = &self->files[i];
        uint64_t up = file->parent;
        unsigned steps = 0;

        if (!file->used || file->parent == 0) {
            continue;
        }
        for (unsigned j = i + 1; j < TOY_FILES; j++) {
            const ToyFile *other = &self->files[j];

            if (other->used && other->parent == file->parent &&
                strcmp(other->name, file->name) == 0) {
                ck_abort_msg("two files are named %s", file->name);
            }
        }
        while (up != FS_ROOT_ID) {
            const ToyFile *parent = toy_file(volume_fs(crowd->volume), up);

            if (parent == NULL || parent->attr.nlink == 0) {
                ck_abort_msg("%s is in no directory", file->name);
            }
            if (++steps == TOY_FILES) {
                ck_abort_msg("%s is in a ring", file->name);
            }
            up = parent->parent;
        }
    }
}

/* The volume is mounted and has this loop. */
static inline void crowd_run(Volume *volume, Loop *loop, unsigned seed, unsigned requests) {
    static Crowd crowd;
    unsigned started = 0, turns = 0;

    crowd = (Crowd){.volume = volume, .seed = seed};
    toy.name_yields = 2;
    toy.load_yields = 1;
    fiber_set_chaos(seed);
    for (;;) {
        bool any = false;

        for (unsigned i = 0; i < CROWD; i++) {
            CrowdMember *member = &crowd.members[i];
            ServiceBuffers buffers = {NULL, member->out, sizeof(member->out)};

            if (!member->busy && started < requests) {
                crowd_fill(&crowd, member);
                member->busy = true;
                started++;
                ck_assert_int_eq(
                    fs_op_async(volume, &member->request, &buffers, crowd_done, member), 0);
            }
            any = any || member->busy;
        }
        if (!any) {
            break;
        }
        ck_assert_int_eq(loop_step(loop, false), 0);
        ck_assert_msg(++turns < 100 * requests, "seed %u: requests are stuck", seed);
        if (turns % 4 == 0) {
            crowd_check_tree(&crowd); /* operations act at once: it holds at every suspension */
        }
    }
    fiber_set_chaos(0);
    toy.name_yields = toy.load_yields = 0;
    crowd_check_tree(&crowd);
}

#endif
