/* SPDX-License-Identifier: MIT */
/*
 * Names between the Mac's scripts and UTF-8. Which script a volume was written
 * in is not recorded on it: the user says so, and nothing is guessed.
 *
 * ':' and '/' change places, as each is the other side's separator. Every name
 * of 1 to 31 bytes has exactly one UTF-8 form, and only that form (or its
 * decomposed equal) leads back to it. For that, a byte that stands for nothing
 * (or for a control character, a NUL, or the Mac's own separator ':') becomes
 * U+F000 + byte, a private-use character that no script has; so does the first
 * dot of the names "." and "..".
 */
#ifndef HFS_ENCODING_H
#define HFS_ENCODING_H

#include "berth/base.h"

#define HFS_NAME_BYTES 31u
/* Room for any name in UTF-8: no byte needs more than three. */
#define HFS_NAME_UTF8_BYTES (3u * HFS_NAME_BYTES)
#define HFS_ESCAPE_FIRST 0xf000u

typedef struct HfsEncoding HfsEncoding;

/* "macroman", "macjapanese", "maccyrillic" … in any case. NULL: no such script. */
const HfsEncoding *hfs_encoding_find(const char *name);
const HfsEncoding *hfs_encoding_default(void);
const char *hfs_encoding_name(const HfsEncoding *encoding);
/* All of them by index; NULL past the last. */
const HfsEncoding *hfs_encoding_at(size_t index);

/* Not terminated. Returns the length; -EINVAL for no bytes or more than 31, -ENAMETOOLONG when
 * capacity is too small. */
int hfs_name_to_utf8(const HfsEncoding *encoding, const uint8_t *mac, unsigned length, char *out,
                     size_t capacity);
/*
 * 0; -EILSEQ: not UTF-8, or a character that the script does not have, or an escape of a byte that
 * needs none; -EINVAL: empty, or a '/' in it; -ENAMETOOLONG: more than 31 bytes.
 */
int hfs_name_from_utf8(const HfsEncoding *encoding, const char *text, size_t length,
                       uint8_t out[HFS_NAME_BYTES], unsigned *ret_length);

#endif
