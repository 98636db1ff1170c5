/* SPDX-License-Identifier: MIT */
/* The bytes from 0x80 on of short names: an OEM code page. */
#ifndef FAT_CODEPAGE_H
#define FAT_CODEPAGE_H

#include <stdint.h>

/* The character of a byte. */
uint16_t fat_codepage_decode(uint8_t byte);
/* The byte of a character, 0 when the code page has none. */
uint8_t fat_codepage_encode(uint16_t unit);

#endif
