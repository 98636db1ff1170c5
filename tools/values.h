/* SPDX-License-Identifier: MIT */
/*
 * What a mount answered, as a flat list: "cache.hits" 17. Whoever reads it asks for
 * paths; what is missing counts as 0 or "". Private to tools/.
 */
#ifndef BERTH_TOOLS_VALUES_H
#define BERTH_TOOLS_VALUES_H

#include "berth.h"

typedef struct Value {
    char *path, *text;
    JsonKind kind;
    double number; /* of a JSON_NUMBER; JSON_BOOL: 0 or 1 */
} Value;

typedef struct Values {
    Value *items;
    size_t count, capacity;
    bool failed;
} Values;

/* Adds a document's scalars, each path after `prefix`. 0, -EBADMSG, -ENOMEM. */
int values_read(Values *values, const char *prefix, const char *text, size_t length);
/* Asks the mount within the time (0: the usual patience) and adds what it says. 0 or -errno. */
int values_ask(Values *values, const char *prefix, const MountEntry *mount, const char *command,
               unsigned patience_ms);
/* Asks the mount that the user means, keeps its answer and reads it. The exit code; what is wrong
 * has been said. */
int values_query(Values *values, const char *name, const char *command, Text *reply);
void values_done(Values *values);

const Value *values_find(const Values *values, const char *path);
double values_number(const Values *values, const char *path);
const char *values_text(const Values *values, const char *path);

/*
 * "requests.NAME.member": the length of NAME when `path` has this shape with that member (NULL:
 * "frontend.requests.NAME"), else 0; *ret_name is where it begins.
 */
size_t values_request(const char *path, const char *member, const char **ret_name);

#endif
