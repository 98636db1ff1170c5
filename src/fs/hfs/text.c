/* SPDX-License-Identifier: MIT */
/* The Mac's names for programs that have no volume at hand. */
#include "berth/hfs.h"
#include "encoding.h"

int hfs_text_encode(const char *encoding, const char *text, uint8_t out[HFS_TEXT_MAX],
                    unsigned *ret_length) {
    const HfsEncoding *script = hfs_encoding_find(encoding);

    return script == NULL ? -EINVAL
                          : hfs_name_from_utf8(script, text, strlen(text), out, ret_length);
}

int hfs_text_decode(const char *encoding, const uint8_t *mac, unsigned length, char *out,
                    size_t capacity) {
    const HfsEncoding *script = hfs_encoding_find(encoding);
    int r = script == NULL  ? -EINVAL
            : capacity == 0 ? -ENAMETOOLONG
                            : hfs_name_to_utf8(script, mac, length, out, capacity - 1);

    if (r >= 0) {
        out[r] = '\0';
    }
    return r;
}
