/* SPDX-License-Identifier: MIT */
/*
 * A mount's answers as a flat list. The other side belongs to the mount's owner:
 * what it sends is bounded by the control socket's limit and by VALUES_MAX, and a
 * number that is not finite or negative counts as 0.
 */
#include "values.h"

#include "berth/log.h"

#include <math.h>
#include <stdio.h>

#define VALUES_MAX 8192u /* far above what a mount says */

typedef struct Reading {
    Values *values;
    const char *prefix;
} Reading;

static double number_of(JsonKind kind, const char *text) {
    double number;
    char *end;

    if (kind == JSON_BOOL) {
        return strcmp(text, "true") == 0 ? 1 : 0;
    }
    if (kind != JSON_NUMBER) {
        return 0;
    }
    number = strtod(text, &end);
    return end != text && isfinite(number) && number >= 0 ? number : 0;
}

static void values_visit(void *arg, const char *path, JsonKind kind, const char *text) {
    Reading *reading = arg;
    Values *values = reading->values;
    Value *item;

    if (values->failed || values->count == VALUES_MAX) {
        return;
    }
    if (values->count == values->capacity) {
        size_t capacity = MAX(values->capacity * 2, 256u);
        Value *larger = reallocarray(values->items, capacity, sizeof(*larger));

        if (larger == NULL) {
            values->failed = true;
            return;
        }
        values->items = larger;
        values->capacity = capacity;
    }
    item = &values->items[values->count];
    *item = (Value){.kind = kind, .number = number_of(kind, text), .text = strdup(text)};
    if (item->text == NULL || asprintf(&item->path, "%s%s", reading->prefix, path) < 0) {
        free(item->text);
        values->failed = true;
        return;
    }
    values->count++;
}

int values_read(Values *values, const char *prefix, const char *text, size_t length) {
    Reading reading = {values, prefix};
    int r = json_read(text, length, values_visit, &reading);

    return r == 0 && values->failed ? -ENOMEM : r;
}

int values_ask(Values *values, const char *prefix, const MountEntry *mount, const char *command,
               unsigned patience_ms) {
    Text reply = {0};
    int r = control_call_within(mount->device, mount->owner, command, patience_ms, &reply);

    if (r == 0) {
        r = values_read(values, prefix, text_string(&reply), reply.length);
    }
    text_done(&reply);
    return r;
}

int values_query(Values *values, const char *name, const char *command, Text *reply) {
    int code = tool_ask(name, command, reply), r;

    if (code == EXIT_OK) {
        r = values_read(values, "", text_string(reply), reply->length);
        if (r < 0) {
            log_error("%s: %s", name,
                      r == -EBADMSG ? "its front-end's answer makes no sense" : strerror(-r));
            code = EXIT_SYSTEM;
        }
    }
    return code;
}

void values_done(Values *values) {
    for (size_t i = 0; i < values->count; i++) {
        free(values->items[i].path);
        free(values->items[i].text);
    }
    free(values->items);
    *values = (Values){0};
}

const Value *values_find(const Values *values, const char *path) {
    for (size_t i = 0; i < values->count; i++) {
        if (strcmp(values->items[i].path, path) == 0) {
            return &values->items[i];
        }
    }
    return NULL;
}

double values_number(const Values *values, const char *path) {
    const Value *value = values_find(values, path);

    return value != NULL ? value->number : 0;
}

const char *values_text(const Values *values, const char *path) {
    const Value *value = values_find(values, path);

    return value != NULL ? value->text : "";
}

size_t values_request(const char *path, const char *member, const char **ret_name) {
    const char *lead = member != NULL ? "requests." : "frontend.requests.";
    const char *name = path + strlen(lead);
    size_t length;

    if (strncmp(path, lead, strlen(lead)) != 0) {
        return 0;
    }
    length = strcspn(name, ".");
    if (member == NULL ? name[length] != '\0'
                       : name[length] != '.' || strcmp(name + length + 1, member) != 0) {
        return 0;
    }
    *ret_name = name;
    return length;
}
