/* SPDX-License-Identifier: MIT */
/*
 * What each message type may carry: one static table, used by encode (writes only
 * what is used), decode (everything else must be zero), print (shows what is used)
 * and by man berth-protocol.7's table of types. And the checks of values, which both
 * directions make: encoding refuses what decoding would refuse.
 */
#ifndef BERTH_IPC_RULES_H
#define BERTH_IPC_RULES_H

#include "format.h"

/* Request fields beyond those that every type has. */
enum RequestField {
    RF_FILE_ID = 1 << 0, /* never 0 */
    RF_FILE_ID2 = 1 << 1,
    RF_OFFSET = 1 << 2, /* a byte position, at most INT64_MAX */
    RF_COOKIE = 1 << 3, /* the same field, any value: a cookie or a response's number */
    RF_LENGTH = 1 << 4,
    RF_LENGTH64 = 1 << 5,
    RF_MODE = 1 << 6,
    RF_FILE_TYPE = 1 << 7,
    RF_RDEV = 1 << 8,
    RF_RENAME_FLAGS = 1 << 9,
    RF_SET = 1 << 10,
    RF_ARENA = 1 << 11,
    RF_NAME = 1 << 12, /* a directory entry's name; RF_XATTR instead: an attribute's */
    RF_XATTR = 1 << 13,
    RF_NAME2 = 1 << 14,  /* RF_TARGET instead: a symlink's target */
    RF_TARGET = 1 << 15, /* only with file_type SYMLINK */
    RF_VALUE = 1 << 16,  /* payload of `length` bytes, inline or in the arena */
    RF_TEXT = 1 << 17,   /* inline payload: an option string */
    RF_IDS = 1 << 18,    /* inline payload: file_ids */
};
#define RF_ANY_OFFSET (RF_OFFSET | RF_COOKIE)
#define RF_ANY_NAME (RF_NAME | RF_XATTR)
#define RF_ANY_NAME2 (RF_NAME2 | RF_TARGET)
#define RF_ANY_PAYLOAD (RF_VALUE | RF_TEXT | RF_IDS)
/* Each FsSetattrMask bit as a field of its own. */
#define RF_SET_SHIFT 20
#define RF_SET_FIELD(mask) ((uint32_t)(mask) << RF_SET_SHIFT)
#define WIRE_SET_ALL 0x1ffu

enum ResponseField {
    SF_COUNT = 1 << 0,      /* result may be positive: bytes done */
    SF_DATA = 1 << 1,       /* data after success */
    SF_PARAM1 = 1 << 2,     /* param1 */
    SF_ATTR = 1 << 3,       /* success always carries attr */
    SF_ERROR_TEXT = 1 << 4, /* data after failure: one line of text */
};

typedef struct MessageRule {
    const char *name;
    uint32_t fields;         /* RequestField */
    uint16_t request_flags;  /* allowed ones */
    uint16_t response_flags; /* allowed ones */
    uint32_t response_fields;
} MessageRule;

/* NULL for an unknown type. */
const MessageRule *message_rule(unsigned type);
/* The fields that this request uses: its type's, less what its flags, file_type and set.mask leave
 * out. */
uint32_t message_request_fields(const MessageRule *rule, const FSRequest *request);

/* Writes the line into text (unless NULL) and returns -EPROTO. */
int message_bad(char text[128], const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Values in range for the type: 0, or -EPROTO with *text naming field and value. */
int message_check_request(const FSRequest *request, char text[128]);
int message_check_response(const FSResponse *response, char text[128]);
int message_check_attr(const FsAttr *attr, const char *what, char text[128]);

void message_attr_encode(const FsAttr *attr, WireAttr *wire);
void message_attr_decode(const WireAttr *wire, FsAttr *ret);

/* Each message is looked over in this way, so by words. */
static inline bool wire_is_zero(const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    uint64_t seen = 0;

    for (; length >= sizeof(seen); length -= sizeof(seen), at += sizeof(seen)) {
        uint64_t word;

        memcpy(&word, at, sizeof(word));
        seen |= word;
    }
    for (; length > 0; length--, at++) {
        seen |= *at;
    }
    return seen == 0;
}

#endif
