/* SPDX-License-Identifier: MIT */
/*
 * Many requests under way when a daemon dies: clients that work beside each other in one
 * directory, each on files of its own with a model of its own, each with one request at a
 * time, in slots from 1 on. In the daemon the fibers suspend at random, so that any number of them
 * is anywhere in its work.
 */
#ifndef BERTH_TESTS_RECOVER_CROWD_H
#define BERTH_TESTS_RECOVER_CROWD_H

#include "fat_support.h"
#include "recover_peer.h"

#define CROWD 10u
#define CROWD_FILES 4u
#define CROWD_BYTES 20000u

typedef struct CrowdFile {
    bool used;
    unsigned name;
    uint64_t id;
    uint32_t size;
    uint8_t data[CROWD_BYTES];
} CrowdFile;

typedef enum CrowdOp {
    CROWD_CREATE,
    CROWD_WRITE,
    CROWD_SIZE,
    CROWD_RENAME,
    CROWD_UNLINK,
    CROWD_EVICT,
    CROWD_READ,
    CROWD_OPS
} CrowdOp;

typedef struct CrowdClient {
    CrowdFile files[CROWD_FILES];
    uint64_t seq, to_evict;
    unsigned names; /* given so far */
    CrowdOp op;
    CrowdFile *file;
    uint32_t offset, length;
    unsigned done;
} CrowdClient;

static CrowdClient crowd[CROWD];
static uint64_t crowd_dir;

static const char *crowd_name(unsigned number, unsigned name) {
    static char text[2][64];
    static unsigned turn;
    char *out = text[turn++ % 2];

    (void)snprintf(out, sizeof(text[0]), name % 2 ? "C%uN%u.TXT" : "client %u has number %u",
                   number, name);
    return out;
}

static CrowdFile *crowd_pick(RecoverPeer *from, CrowdClient *who, bool used) {
    unsigned start = (unsigned)peer_random(from, CROWD_FILES);

    for (unsigned i = 0; i < CROWD_FILES; i++) {
        CrowdFile *file = &who->files[(start + i) % CROWD_FILES];

        if (file->used == used) {
            return file;
        }
    }
    return NULL;
}

/* The request for who->op, which concerns who->file. */
static FSRequest crowd_request(RecoverPeer *from, CrowdClient *who) {
    static le64 wire;
    static uint8_t bytes[8192];
    unsigned number = (unsigned)(who - crowd);
    CrowdFile *file = who->file;

    switch (who->op) {
    case CROWD_CREATE:
        file->name = who->names++;
        return (FSRequest){.type = FS_MSG_CREATE_FILE,
                           .file_id = crowd_dir,
                           .name = name_of(crowd_name(number, file->name)),
                           .file_type = FS_TYPE_FILE,
                           .mode = 0644};
    case CROWD_WRITE:
        who->offset = (uint32_t)peer_random(from, MIN(file->size + 3000, CROWD_BYTES - 1));
        who->length =
            1 + (uint32_t)peer_random(from, MIN(sizeof(bytes), CROWD_BYTES - who->offset));
        fill(bytes, who->length, number * 1000 + who->done, who->offset);
        memcpy(file->data + who->offset, bytes, who->length);
        return (FSRequest){.type = FS_MSG_WRITE_FILE,
                           .file_id = file->id,
                           .offset = who->offset,
                           .length = who->length,
                           .payload = bytes,
                           .payload_length = who->length};
    case CROWD_SIZE:
        who->length = (uint32_t)peer_random(from, CROWD_BYTES);
        return (FSRequest){.type = FS_MSG_SET_ATTR,
                           .file_id = file->id,
                           .set = {.mask = FS_SET_SIZE, .size = who->length}};
    case CROWD_RENAME:
        who->length = who->names++;
        return (FSRequest){.type = FS_MSG_RENAME,
                           .file_id = crowd_dir,
                           .name = name_of(crowd_name(number, file->name)),
                           .file_id2 = crowd_dir,
                           .name2 = name_of(crowd_name(number, who->length))};
    case CROWD_UNLINK:
        return (FSRequest){.type = FS_MSG_DELETE_FILE,
                           .file_id = crowd_dir,
                           .name = name_of(crowd_name(number, file->name))};
    case CROWD_EVICT:
        wire = le64_make(who->to_evict);
        return (FSRequest){.type = FS_MSG_EVICT,
                           .offset = from->last_number,
                           .payload = (const uint8_t *)&wire,
                           .payload_length = sizeof(wire)};
    case CROWD_READ:
    case CROWD_OPS:
        break;
    }
    return (FSRequest){.type = FS_MSG_READ_FILE, .file_id = file->id, .length = CROWD_BYTES};
}

static void crowd_send(RecoverPeer *from, CrowdClient *who) {
    CrowdOp op = who->to_evict != 0 ? CROWD_EVICT : (CrowdOp)peer_random(from, CROWD_OPS);
    FSRequest request;

    who->file = crowd_pick(from, who, op != CROWD_CREATE);
    if (op != CROWD_EVICT && who->file == NULL) {
        op = op == CROWD_CREATE ? CROWD_WRITE : CROWD_CREATE;
        who->file = crowd_pick(from, who, op != CROWD_CREATE);
    }
    if (op == CROWD_EVICT && who->to_evict == 0) {
        op = CROWD_READ;
        who->file = crowd_pick(from, who, true);
        if (who->file == NULL) {
            op = CROWD_CREATE;
            who->file = &who->files[0];
        }
    }
    who->op = op;
    request = crowd_request(from, who);
    request.request_id = fs_request_id((uint16_t)(who - crowd + 1), ++who->seq);
    now_ns += 1000000;
    request.time_ns = now_ns;
    peer_send(from, &request);
}

static void crowd_check(const CrowdClient *who, const FSResponse *answer, const uint8_t *data) {
    const CrowdFile *file = who->file;

    ck_assert_int_eq(answer->result, (int)file->size);
    for (uint32_t i = 0; i < file->size; i++) {
        ck_assert_msg(data[i] == file->data[i], "client %u, step %u: byte %u of %u is %02x",
                      (unsigned)(who - crowd), who->done, i, file->size, data[i]);
    }
}

/* RecoverPeer.answered. */
static void crowd_answered(RecoverPeer *from, unsigned slot) {
    const FSResponse *answer = &from->shared->cells[slot].response;
    CrowdClient *who;
    CrowdFile *file;

    if (slot == 0 || slot > CROWD) {
        return;
    }
    who = &crowd[slot - 1];
    file = who->file;
    who->done++;
    ck_assert_msg(answer->result >= 0, "client %u, step %u: %s: %d", slot, who->done,
                  fs_message_name(answer->type), answer->result);
    switch (who->op) {
    case CROWD_CREATE:
        file->used = true;
        file->id = answer->attr.file_id;
        file->size = 0;
        memset(file->data, 0, CROWD_BYTES);
        break;
    case CROWD_WRITE:
        ck_assert_int_eq(answer->result, (int)who->length);
        file->size = MAX(file->size, who->offset + who->length);
        ck_assert_uint_eq(answer->attr.size, file->size);
        break;
    case CROWD_SIZE:
        if (who->length < file->size) {
            memset(file->data + who->length, 0, CROWD_BYTES - who->length);
        }
        file->size = who->length;
        ck_assert_uint_eq(answer->attr.size, file->size);
        break;
    case CROWD_RENAME:
        ck_assert_uint_eq(answer->attr.file_id, file->id);
        file->name = who->length;
        break;
    case CROWD_UNLINK:
        ck_assert_uint_eq(answer->param1, file->id);
        who->to_evict = file->id;
        file->used = false;
        break;
    case CROWD_EVICT:
        who->to_evict = 0;
        break;
    case CROWD_READ:
    case CROWD_OPS:
        crowd_check(who, answer, from->shared->cells[slot].out);
        break;
    }
}

/* All clients, until each has done so many steps; then nothing is under way. */
static void crowd_run(RecoverPeer *from, unsigned steps) {
    bool busy = true;

    memset(crowd, 0, sizeof(crowd));
    from->answered = crowd_answered;
    while (busy) {
        busy = false;
        for (unsigned i = 0; i < CROWD; i++) {
            if (!from->in_flight[i + 1] && crowd[i].done < steps) {
                crowd_send(from, &crowd[i]);
            }
            busy = busy || from->in_flight[i + 1];
        }
        if (busy) {
            peer_pump(from);
        }
    }
    from->answered = NULL;
}

/* Every file by its name, and nothing else in the directory. */
static void crowd_verify(void) {
    unsigned count = 0;

    for (unsigned i = 0; i < CROWD; i++) {
        for (unsigned k = 0; k < CROWD_FILES; k++) {
            const CrowdFile *file = &crowd[i].files[k];

            if (file->used) {
                const char *name = crowd_name(i, file->name);

                ck_assert_msg(lookup(crowd_dir, name) == 0, "%s is not there", name);
                crowd[i].file = &crowd[i].files[k];
                (void)read_at(response.attr.file_id, 0, CROWD_BYTES);
                crowd_check(&crowd[i], &response, response.data);
                count++;
            }
        }
    }
    ck_assert_int_eq(list(crowd_dir, 4096, NULL, NULL), (int)count);
}

#endif
