/* SPDX-License-Identifier: MIT */
/*
 * berth list --types: what this build can mount, where the daemons for it are, and
 * how many run. "Found" is what a mount would find at this moment: the same search.
 */
#include "table.h"
#include "types.h"

#include "berth/log.h"
#include "berth/registry.h"

#include <libsmartcols.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
    COLUMN_TYPE,
    COLUMN_DAEMON,
    COLUMN_PATH,
    COLUMN_FOUND,
    COLUMN_UNIT,
    COLUMN_MOUNTS,
    COLUMN_RESTARTS,
    COLUMN_STATE,
    COLUMN_COUNT,
};

static const TableColumn columns[COLUMN_COUNT] = {
    [COLUMN_TYPE] = {"type", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_DAEMON] = {"daemon", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_PATH] = {"path", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_FOUND] = {"found", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_UNIT] = {"unit", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_MOUNTS] = {"mounts", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_RESTARTS] = {"restarts", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_STATE] = {"state", JSON_STRING, TABLE_PLAIN, 0},
};

static const int shown[] = {COLUMN_TYPE,   COLUMN_DAEMON, COLUMN_PATH, COLUMN_FOUND,
                            COLUMN_MOUNTS, COLUMN_STATE,  -1};

void list_types_init(Table *table) {
    table_init(table, columns, COLUMN_COUNT, shown);
}

/* What a mount's status says that counts here. */
typedef struct Running {
    char type[32];
    uint64_t restarts;
} Running;

static void running_visit(void *arg, const char *path, JsonKind kind, const char *value) {
    Running *running = arg;

    if (kind == JSON_STRING && strcmp(path, "type") == 0) {
        (void)snprintf(running->type, sizeof(running->type), "%s", value);
    }
    if (kind == JSON_NUMBER && strcmp(path, "daemon.restarts") == 0) {
        running->restarts = strtoull(value, NULL, 10);
    }
}

static void count_running(uint64_t *mounts_of, uint64_t *restarts_of) {
    ToolMounts mounts = {0};
    int r = mounts_read(&mounts.entries, &mounts.count);

    if (r < 0) {
        log_warning("cannot read the mount table: %s", strerror(-r));
        return;
    }
    for (size_t i = 0; i < mounts.count; i++) {
        const MountEntry *mount = &mounts.entries[i];
        Running running = {0};
        Text reply = {0};

        if (control_call(mount->device, mount->owner, "status", &reply) == 0) {
            (void)json_read(text_string(&reply), reply.length, running_visit, &running);
        }
        for (size_t j = 0; berth_types[j] != NULL; j++) {
            if (strcmp(berth_types[j]->name, running.type) == 0) {
                mounts_of[j]++;
                restarts_of[j] += running.restarts;
            }
        }
        text_done(&reply);
    }
    tool_mounts_done(&mounts);
}

static void add_type(Table *table, const FileSystemType *type, uint64_t mounts, uint64_t restarts) {
    size_t row = table_add_row(table);
    const char *where = NULL;
    _cleanup_free_ char *path = registry_find_daemon(type->daemon, &where);
    struct stat status;
    char unit[128];

    table_set(table, row, COLUMN_TYPE, type->name);
    table_set(table, row, COLUMN_DAEMON, type->daemon);
    table_set(table, row, COLUMN_PATH, path);
    table_set(table, row, COLUMN_FOUND, where);
    if (registry_socket_path(type->daemon, unit, sizeof(unit)) == 0 && stat(unit, &status) == 0 &&
        S_ISSOCK(status.st_mode)) {
        table_set(table, row, COLUMN_UNIT, unit);
    }
    table_set_u64(table, row, COLUMN_MOUNTS, mounts);
    table_set_u64(table, row, COLUMN_RESTARTS, restarts);
    table_set(table, row, COLUMN_STATE, path != NULL ? "ready" : "daemon missing");
}

int list_types_print(Table *table) {
    uint64_t *counts;
    size_t count = 0;

    while (berth_types[count] != NULL) {
        count++;
    }
    counts = calloc(2 * count + 1, sizeof(*counts));
    if (counts == NULL) {
        log_error("out of memory");
        return EXIT_SYSTEM;
    }
    count_running(counts, counts + count);
    for (size_t i = 0; i < count; i++) {
        add_type(table, berth_types[i], counts[i], counts[count + i]);
    }
    free(counts);
    return table_print(table, "types");
}
