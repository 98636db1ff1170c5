/* SPDX-License-Identifier: MIT */
/* MacRoman, which names in Mac formats are in unless somebody says otherwise. */
#include "berth/text.h"
#include "macroman_table.h"

const uint16_t *macroman_high(void) {
    return macroman_table;
}

int macroman_to_utf8(const uint8_t *bytes, size_t length, char *out, size_t capacity) {
    size_t used = 0;

    for (size_t i = 0; i < length; i++) {
        uint32_t character = bytes[i] < 0x80 ? bytes[i] : macroman_table[bytes[i] - 0x80];
        char encoded[4];
        int n;

        if (character < 0x20 || character == 0x7f) {
            character = 0xfffd;
        }
        n = utf8_encode(character, encoded);
        if (n < 0 || (size_t)n >= capacity - used) {
            return -ENAMETOOLONG;
        }
        memcpy(out + used, encoded, (size_t)n);
        used += (size_t)n;
    }
    out[used] = '\0';
    return (int)used;
}
