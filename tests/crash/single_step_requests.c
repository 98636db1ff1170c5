/* SPDX-License-Identifier: MIT */
/*
 * The requests that single_step lets a daemon die in: every message that changes anything, at least
 * once, and those that only prepare the volume for the next.
 */
#include "single_step.h"
#include <stdio.h>

const Step steps[] = {
    {"create a file", FS_MSG_CREATE_FILE, "first.txt", NULL, 0, 0, FS_TYPE_FILE, false},
    {"create a directory", FS_MSG_CREATE_FILE, "a directory", NULL, 0, 0, FS_TYPE_DIRECTORY, false},
    {"create with a long name", FS_MSG_CREATE_FILE,
     "a directory/a file whose name needs more than one entry.text", NULL, 0, 0, FS_TYPE_FILE,
     false},
    {"write a new file", FS_MSG_WRITE_FILE, "first.txt", NULL, 0, 3000, 0, false},
    {"append", FS_MSG_WRITE_FILE, "first.txt", NULL, 3000, 2500, 0, false},
    {"write in place", FS_MSG_WRITE_FILE, "first.txt", NULL, 100, 4000, 0, false},
    {"write beyond the end", FS_MSG_WRITE_FILE, "first.txt", NULL, 9000, 300, 0, false},
    {"cut", FS_MSG_SET_ATTR, "first.txt", NULL, 700, 0, FS_SET_SIZE, false},
    {"grow", FS_MSG_SET_ATTR, "first.txt", NULL, 5200, 0, FS_SET_SIZE, false},
    {"set the time", FS_MSG_SET_ATTR, "first.txt", NULL, 0, 0, FS_SET_MTIME, false},
    {"take the write permission", FS_MSG_SET_ATTR, "first.txt", NULL, 0, 0, FS_SET_MODE, false},
    {"sync a file", FS_MSG_FSYNC, "first.txt", NULL, 0, 0, 0, false},
    {"second file", FS_MSG_CREATE_FILE, "second.txt", NULL, 0, 0, FS_TYPE_FILE, true},
    {"its contents", FS_MSG_WRITE_FILE, "second.txt", NULL, 0, 1500, 0, true},
    {"rename", FS_MSG_RENAME, "second.txt", "third.txt", 0, 0, 0, false},
    {"rename into a directory", FS_MSG_RENAME, "third.txt",
     "a directory/the third file with a long name", 0, 0, 0, false},
    {"rename over another", FS_MSG_RENAME, "a directory/the third file with a long name",
     "first.txt", 0, 0, 0, false},
    {"fourth file", FS_MSG_CREATE_FILE, "fourth.txt", NULL, 0, 0, FS_TYPE_FILE, true},
    {"exchange", FS_MSG_RENAME, "fourth.txt", "first.txt", 0, 0, FS_RENAME_EXCHANGE, false},
    {"rename a directory", FS_MSG_RENAME, "a directory", "another directory", 0, 0, 0, false},
    {"hold a file", FS_MSG_LOOKUP, "fourth.txt", NULL, 0, 0, 0, true},
    {"rename a file in use", FS_MSG_RENAME, "fourth.txt", "in use.txt", 0, 0, 0, false},
    {"unlink a file in use", FS_MSG_DELETE_FILE, "in use.txt", NULL, 0, 0, 0, false},
    {"let go of it", FS_MSG_EVICT, NULL, NULL, 0, 0, 0, false},
    {"unlink", FS_MSG_DELETE_FILE, "first.txt", NULL, 0, 0, 0, false},
    {"remove a directory that is not empty", FS_MSG_DELETE_FILE, "another directory", NULL, 0, 0,
     FS_REQ_RMDIR, false},
    {"empty it", FS_MSG_DELETE_FILE,
     "another directory/a file whose name needs more than one entry.text", NULL, 0, 0, 0, true},
    {"remove a directory", FS_MSG_DELETE_FILE, "another directory", NULL, 0, 0, FS_REQ_RMDIR,
     false},
    {"file to preallocate", FS_MSG_CREATE_FILE, "space.bin", NULL, 0, 0, FS_TYPE_FILE, true},
    {"preallocate", FS_MSG_FALLOCATE, "space.bin", NULL, 0, 6000, 0, false},
    {"set an attribute", FS_MSG_SET_XATTR, "space.bin", "user.DOSATTRIB", 0, 4, 0, false},
    {"remove an attribute", FS_MSG_REMOVE_XATTR, "space.bin", "user.DOSATTRIB", 0, 0, 0, false},
    {"link", FS_MSG_LINK, "space.bin", "linked.bin", 0, 0, 0, false},
    {"sync", FS_MSG_SYNC, NULL, NULL, 0, 0, 0, false},
    {"remount read-only", FS_MSG_REMOUNT, NULL, NULL, 0, 0, FS_REQ_READONLY, true},
    {"remount read-write", FS_MSG_REMOUNT, NULL, NULL, 0, 0, 0, false},
    {"freeze", FS_MSG_FREEZE, NULL, NULL, 0, 0, 0, false},
    {"last file", FS_MSG_CREATE_FILE, "last.txt", NULL, 0, 0, FS_TYPE_FILE, true},
    {"unmount", FS_MSG_UNMOUNT, NULL, NULL, 0, 0, 0, false},
};

const unsigned step_count = ARRAY_SIZE(steps);

static void split(const char *path, char *ret_parent, char ret_name[FS_NAME_MAX + 1]) {
    const char *slash = strrchr(path, '/');

    (void)snprintf(ret_parent, 256, "%.*s", slash != NULL ? (int)(slash - path) : 0, path);
    (void)snprintf(ret_name, FS_NAME_MAX + 1, "%s", slash != NULL ? slash + 1 : path);
}

static int id_of(Driver *driver, const char *path, uint64_t *ret) {
    FsAttr attr;
    int r = driver_stat(driver, path, &attr);

    *ret = r == 0 ? attr.file_id : 0;
    return r;
}

/* The kernel holds what it renames or unlinks. */
static uint64_t hold(Driver *driver, uint64_t directory, const FsName *name) {
    FSRequest request = {.type = FS_MSG_LOOKUP, .file_id = directory, .name = *name};
    FSResponse response;

    return driver_call(driver, &request, &response) == 0 ? response.attr.file_id : 0;
}

void step_let_go(Driver *driver, uint64_t file_id) {
    FSRequest request = {.type = FS_MSG_EVICT, .offset = driver->seen};
    FSResponse response;

    if (file_id != 0) {
        request.payload = (const uint8_t *)&file_id; /* little-endian, like the wire */
        request.payload_length = sizeof(file_id);
        (void)driver_call(driver, &request, &response);
    }
}

/* Names an object by directory and name, or by its id, as the message wants it. */
static int fill_target(Driver *driver, Shared *shared, const Step *step) {
    FSRequest *request = &shared->request;
    bool by_name = step->type == FS_MSG_CREATE_FILE || step->type == FS_MSG_DELETE_FILE ||
                   step->type == FS_MSG_RENAME || step->type == FS_MSG_LOOKUP;
    char parent[256];
    int r = 0;

    if (step->path != NULL && by_name) {
        split(step->path, parent, shared->name);
        request->name = (FsName){shared->name, (uint32_t)strlen(shared->name)};
        r = id_of(driver, parent, &request->file_id);
    } else if (step->path != NULL) {
        r = id_of(driver, step->path, &request->file_id);
    }
    if (r == 0 && (step->type == FS_MSG_RENAME || step->type == FS_MSG_LINK)) {
        FsName *name = step->type == FS_MSG_LINK ? &request->name : &request->name2;
        split(step->path2, parent, shared->name2);
        *name = (FsName){shared->name2, (uint32_t)strlen(shared->name2)};
        r = id_of(driver, parent, &request->file_id2);
    } else if (r == 0 && step->path2 != NULL) {
        (void)snprintf(shared->name, sizeof(shared->name), "%s", step->path2);
        request->name = (FsName){shared->name, (uint32_t)strlen(shared->name)};
    }
    return r;
}

static void fill_set(FSRequest *request, const Step *step) {
    request->set = (FsSetattr){.mask = step->detail};
    if (step->detail == FS_SET_SIZE) {
        request->set.size = step->offset;
    } else if (step->detail == FS_SET_MTIME) {
        request->set.mtime_ns = INT64_C(1000000000) * 1500000000;
    } else {
        request->set.mode = 0444;
    }
}

static void fill_payload(Shared *shared, uint32_t length, unsigned number) {
    for (uint32_t i = 0; i < length; i++) {
        shared->payload[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
    }
    shared->request.payload = shared->payload;
    shared->request.payload_length = length;
}

int step_prepare(Driver *driver, Shared *shared, unsigned number) {
    const Step *step = &steps[number];
    FSRequest *request = &shared->request;
    int r;

    *request = (FSRequest){.type = (uint16_t)step->type, .time_ns = driver->now_ns};
    (void)snprintf(shared->label, sizeof(shared->label), "%s", step->label);
    shared->recorded = false;
    shared->writes_in_place = step->type == FS_MSG_WRITE_FILE;
    r = fill_target(driver, shared, step);
    switch ((int)step->type) {
    case FS_MSG_CREATE_FILE:
        request->file_type = step->detail;
        request->mode = step->detail == FS_TYPE_DIRECTORY ? 0755 : 0644;
        shared->recorded = true;
        break;
    case FS_MSG_WRITE_FILE:
        request->offset = step->offset;
        request->length = step->length;
        fill_payload(shared, step->length, number);
        shared->recorded = true;
        break;
    case FS_MSG_SET_ATTR:
        fill_set(request, step);
        shared->recorded = true;
        break;
    case FS_MSG_RENAME:
        request->rename_flags = step->detail;
        shared->recorded = true;
        break;
    case FS_MSG_DELETE_FILE:
    case FS_MSG_REMOUNT:
        request->flags = (uint16_t)step->detail;
        shared->recorded = step->type == FS_MSG_DELETE_FILE;
        break;
    case FS_MSG_FALLOCATE:
        request->length64 = step->length;
        break;
    case FS_MSG_SET_XATTR:
        fill_payload(shared, step->length, number);
        memcpy(shared->payload, "0x22", 4); /* hidden, archive */
        request->length = step->length;
        break;
    case FS_MSG_EVICT:
        memcpy(shared->payload, shared->held, sizeof(uint64_t));
        request->payload = shared->payload;
        request->payload_length = sizeof(uint64_t);
        request->offset = driver->seen;
        break;
    default:
        break;
    }
    shared->held[1] = shared->held[2] = 0;
    if (step->type == FS_MSG_RENAME || step->type == FS_MSG_DELETE_FILE) {
        shared->held[1] = hold(driver, request->file_id, &request->name);
    }
    if (step->type == FS_MSG_RENAME) {
        shared->held[2] = hold(driver, request->file_id2, &request->name2);
    }
    request->request_id = fs_request_id((uint16_t)(1 + number % (STEP_SLOTS - 1)), number + 1);
    driver->now_ns += INT64_C(2000000000);
    shared->seen = driver->seen;
    return r;
}
