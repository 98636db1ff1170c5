/* SPDX-License-Identifier: MIT */
/* The bytes of short names from 0x80 on: OEM code pages. */
#ifndef FAT_CODEPAGE_H
#define FAT_CODEPAGE_H

#include <stdint.h>

typedef struct FatCodepage {
    char name[6];
    const uint16_t *high;        /* characters of the bytes 0x80 to 0xff; 0: none */
    const uint16_t *const *rows; /* by lead byte - 0x80; NULL: no characters of two bytes */
} FatCodepage;

/* By number, as text ("850", or "cp850"). NULL: not built in. */
const FatCodepage *fat_codepage_find(const char *name);
/* 437, what PCs use where nothing else was chosen. */
const FatCodepage *fat_codepage_default(void);

/* The character at bytes[0 .. length), 0 when there is none; returns the bytes used, 1 or 2. */
unsigned fat_codepage_decode(const FatCodepage *page, const uint8_t *bytes, unsigned length,
                             uint16_t *ret);
/* The bytes of a character; returns how many, 0 when the code page has none. */
unsigned fat_codepage_encode(const FatCodepage *page, uint16_t unit, uint8_t ret[2]);

#endif
