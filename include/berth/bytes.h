/* SPDX-License-Identifier: MIT */
/*
 * Byte-order types for on-disk and wire fields. Each is an array of bytes:
 * alignment 1, no packing attribute, and no accidental use as an integer; big
 * and little endian are different types, so a missed conversion does not
 * compile.
 */
#ifndef BERTH_BYTES_H
#define BERTH_BYTES_H

#include <stdint.h>

typedef struct le16 {
    uint8_t b[2];
} le16;
typedef struct le32 {
    uint8_t b[4];
} le32;
typedef struct le64 {
    uint8_t b[8];
} le64;
typedef struct be16 {
    uint8_t b[2];
} be16;
typedef struct be32 {
    uint8_t b[4];
} be32;
typedef struct be64 {
    uint8_t b[8];
} be64;

static inline uint16_t le16_get(le16 v) {
    return (uint16_t)(v.b[0] | (unsigned)v.b[1] << 8);
}
static inline uint32_t le32_get(le32 v) {
    return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 | (uint32_t)v.b[2] << 16 |
           (uint32_t)v.b[3] << 24;
}
static inline uint64_t le64_get(le64 v) {
    le32 low = {{v.b[0], v.b[1], v.b[2], v.b[3]}};
    le32 high = {{v.b[4], v.b[5], v.b[6], v.b[7]}};
    return (uint64_t)le32_get(low) | (uint64_t)le32_get(high) << 32;
}
static inline le16 le16_make(uint16_t v) {
    return (le16){{(uint8_t)v, (uint8_t)(v >> 8)}};
}
static inline le32 le32_make(uint32_t v) {
    return (le32){{(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)}};
}
static inline le64 le64_make(uint64_t v) {
    le32 low = le32_make((uint32_t)v);
    le32 high = le32_make((uint32_t)(v >> 32));
    return (le64){
        {low.b[0], low.b[1], low.b[2], low.b[3], high.b[0], high.b[1], high.b[2], high.b[3]}};
}

static inline uint16_t be16_get(be16 v) {
    return (uint16_t)((unsigned)v.b[0] << 8 | v.b[1]);
}
static inline uint32_t be32_get(be32 v) {
    return (uint32_t)v.b[0] << 24 | (uint32_t)v.b[1] << 16 | (uint32_t)v.b[2] << 8 |
           (uint32_t)v.b[3];
}
static inline uint64_t be64_get(be64 v) {
    be32 high = {{v.b[0], v.b[1], v.b[2], v.b[3]}};
    be32 low = {{v.b[4], v.b[5], v.b[6], v.b[7]}};
    return (uint64_t)be32_get(high) << 32 | (uint64_t)be32_get(low);
}
static inline be16 be16_make(uint16_t v) {
    return (be16){{(uint8_t)(v >> 8), (uint8_t)v}};
}
static inline be32 be32_make(uint32_t v) {
    return (be32){{(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v}};
}
static inline be64 be64_make(uint64_t v) {
    be32 high = be32_make((uint32_t)(v >> 32));
    be32 low = be32_make((uint32_t)v);
    return (be64){
        {high.b[0], high.b[1], high.b[2], high.b[3], low.b[0], low.b[1], low.b[2], low.b[3]}};
}

#endif
