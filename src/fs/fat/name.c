/* SPDX-License-Identifier: MIT */
/*
 * Names: what users see (UTF-8), what is stored (UTF-16 in long entries, eleven
 * bytes of the OEM code page in short ones), and how both compare. A name that
 * users cannot be shown or cannot ask for (over 255 bytes, unpaired surrogates,
 * '/') gives way to the short one. Rules: fatgen103, "Long directory entries",
 * "Name limits and character sets", "Generating 8-dot-3 names". Pure.
 */
#include "codepage.h"
#include "types.h"

#define BASE_LENGTH 8u
#define EXTENSION_LENGTH 3u
/* ~1 to ~4 keep six characters of the name, later ones two and a hash. */
#define PLAIN_TAILS 4u

/* ---- short names as text ---- */

static uint16_t short_unit(uint8_t byte, bool lower) {
    if (byte < 0x20 || byte == '/' || byte == 0x7f) {
        return '_';
    }
    if (lower && byte >= 'A' && byte <= 'Z') {
        return (uint16_t)(byte + ('a' - 'A'));
    }
    return fat_codepage_decode(byte);
}

static unsigned trimmed_length(const uint8_t *bytes, unsigned length) {
    while (length > 0 && bytes[length - 1] == ' ') {
        length -= 1;
    }
    return length;
}

unsigned fat_short_text(const uint8_t name[FAT_SHORT_LENGTH], uint8_t nt_flags,
                        uint16_t out[FAT_SHORT_TEXT_MAX]) {
    unsigned base = trimmed_length(name, BASE_LENGTH);
    unsigned extension = trimmed_length(name + BASE_LENGTH, EXTENSION_LENGTH);
    unsigned length = 0;

    for (unsigned i = 0; i < base; i++) {
        uint8_t byte = i == 0 && name[0] == FAT_NAME_KANJI_E5 ? FAT_NAME_DELETED : name[i];
        out[length++] = short_unit(byte, nt_flags & FAT_NT_LOWER_BASE);
    }
    if (extension > 0) {
        out[length++] = '.';
        for (unsigned i = 0; i < extension; i++) {
            out[length++] = short_unit(name[BASE_LENGTH + i], nt_flags & FAT_NT_LOWER_EXTENSION);
        }
    }
    if (length == 0 || (length == 1 && out[0] == '.') ||
        (length == 2 && out[0] == '.' && out[1] == '.')) {
        out[0] = '_';
        length = 1;
    }
    return length;
}

static bool presentable(const char *text, int length) {
    if (length <= 0 || memchr(text, '/', (size_t)length) != NULL) {
        return false;
    }
    return !(text[0] == '.' && (length == 1 || (length == 2 && text[1] == '.')));
}

unsigned fat_name_display(const FatDirEntry *entry, char out[FS_NAME_MAX + 1]) {
    uint16_t units[FAT_SHORT_TEXT_MAX];
    int length;

    if (entry->long_name != NULL) {
        length = utf16_to_utf8(entry->long_name, entry->long_length, out, FS_NAME_MAX);
        if (presentable(out, length)) {
            return (unsigned)length;
        }
    }
    length = utf16_to_utf8(units, fat_short_text(entry->entry.name, entry->entry.nt_flags, units),
                           out, FS_NAME_MAX);
    assert(length > 0); /* a code page has no surrogates */
    return (unsigned)length;
}

void fat_label_text(const uint8_t label[FAT_SHORT_LENGTH], char *out, size_t capacity) {
    uint16_t units[FAT_SHORT_LENGTH];
    unsigned length = trimmed_length(label, FAT_SHORT_LENGTH);
    int bytes;

    if (memcmp(label, "NO NAME    ", FAT_SHORT_LENGTH) == 0) {
        length = 0;
    }
    for (unsigned i = 0; i < length; i++) {
        units[i] = short_unit(label[i], false);
    }
    bytes = utf16_to_utf8(units, length, out, capacity - 1);
    out[MAX(bytes, 0)] = '\0';
}

/* ---- searching ---- */

int fat_search_init(FatSearch *search, const FsName *name, bool exact_only) {
    int length = utf8_to_utf16(name->text, name->length, search->folded, FAT_LONG_NAME_MAX);

    if (length < 0) {
        return length;
    }
    for (int i = 0; i < length; i++) {
        search->folded[i] = utf16_upper(search->folded[i]);
    }
    search->name = name;
    search->exact_only = exact_only;
    search->length = (unsigned)length;
    return 0;
}

static bool folded_equal(const FatSearch *search, const uint16_t *units, unsigned length) {
    if (length != search->length) {
        return false;
    }
    for (unsigned i = 0; i < length; i++) {
        if (utf16_upper(units[i]) != search->folded[i]) {
            return false;
        }
    }
    return true;
}

bool fat_search_match(const FatSearch *search, const FatDirEntry *entry) {
    uint16_t units[FAT_SHORT_TEXT_MAX];
    char text[FS_NAME_MAX + 1];

    if (!(entry->long_name != NULL && folded_equal(search, entry->long_name, entry->long_length)) &&
        !folded_equal(search, units, fat_short_text(entry->entry.name, 0, units))) {
        return false;
    }
    if (!search->exact_only) {
        return true;
    }
    return fat_name_display(entry, text) == search->name->length &&
           memcmp(text, search->name->text, search->name->length) == 0;
}

/* ---- making names ---- */

static bool long_unit_valid(uint16_t unit) {
    return unit >= 0x20 && (unit >= 0x80 || strchr("\"*/:<>?\\|", unit) == NULL);
}

/* The byte that stands for a character in a short name; *lossy when it does not tell it. */
static uint8_t short_byte(uint16_t unit, bool *lossy) {
    uint8_t byte = fat_codepage_encode(utf16_upper(unit));

    if (byte <= 0x20 || byte == 0x7f || strchr("+,;=[]\"*/:<>?\\|.", byte) != NULL) {
        *lossy = true;
        return '_';
    }
    return byte;
}

/*
 * The basis name: without spaces and leading dots, the extension behind the last
 * dot, everything in upper case. True: the short form tells the long one but
 * for case.
 */
static bool basis_make(const uint16_t *units, unsigned length, uint8_t out[FAT_SHORT_LENGTH]) {
    bool lossy = false;
    unsigned start = 0;
    unsigned dot = length;
    unsigned base = 0, extension = 0;

    memset(out, ' ', FAT_SHORT_LENGTH);
    while (start < length && (units[start] == '.' || units[start] == ' ')) {
        start += 1;
        lossy = true;
    }
    for (unsigned i = start; i < length; i++) {
        if (units[i] == '.') {
            dot = i;
        }
    }
    for (unsigned i = start; i < length; i++) {
        if (i == dot) {
            continue;
        }
        if (units[i] == '.' || units[i] == ' ') {
            lossy = true;
        } else if (i < dot) {
            if (base < BASE_LENGTH) {
                out[base++] = short_byte(units[i], &lossy);
            } else {
                lossy = true;
            }
        } else if (extension < EXTENSION_LENGTH) {
            out[BASE_LENGTH + extension++] = short_byte(units[i], &lossy);
        } else {
            lossy = true;
        }
    }
    if (base == 0) {
        out[0] = '_';
        lossy = true;
    }
    if (out[0] == FAT_NAME_DELETED) {
        out[0] = FAT_NAME_KANJI_E5;
    }
    return !lossy;
}

int fat_name_prepare(const FsName *name, FatNewName *ret) {
    uint16_t text[FAT_SHORT_TEXT_MAX];
    int length = utf8_to_utf16(name->text, name->length, ret->units, FAT_LONG_NAME_MAX);
    unsigned count;

    if (length <= 0) {
        return length == -ENAMETOOLONG ? length : -EINVAL;
    }
    ret->length = (unsigned)length;
    for (unsigned i = 0; i < ret->length; i++) {
        if (!long_unit_valid(ret->units[i])) {
            return -EINVAL;
        }
    }
    /* Other systems drop these in silence; two names would become one. */
    if (ret->units[ret->length - 1] == '.' || ret->units[ret->length - 1] == ' ') {
        return -EINVAL;
    }
    ret->lossy = !basis_make(ret->units, ret->length, ret->short_name);
    count = fat_short_text(ret->short_name, 0, text);
    ret->needs_long =
        ret->lossy || count != ret->length || memcmp(text, ret->units, count * sizeof(*text)) != 0;
    for (unsigned i = 0; i < ret->length; i++) {
        ret->needs_long |= ret->units[i] >= 0x80; /* readers differ in the code page */
    }
    return 0;
}

/* ---- ~N ---- */

void fat_short_variant(const FatNewName *name, unsigned n, uint8_t ret[FAT_SHORT_LENGTH]) {
    unsigned base = trimmed_length(name->short_name, BASE_LENGTH);
    unsigned kept;

    memcpy(ret, name->short_name, FAT_SHORT_LENGTH);
    if (n == 0) {
        return;
    }
    if (n <= PLAIN_TAILS) {
        kept = MIN(base, BASE_LENGTH - 2);
        ret[kept] = '~';
        ret[kept + 1] = (uint8_t)('0' + n);
        return;
    }
    /* As Windows does: large directories of similar names need no long search. */
    uint32_t hash = n * 0x9e3779b1u;
    for (unsigned i = 0; i < name->length; i++) {
        hash = (hash ^ name->units[i]) * 16777619u;
    }
    kept = MIN(base, 2u);
    for (unsigned i = 0; i < 4; i++) {
        ret[kept++] = (uint8_t) "0123456789ABCDEF"[hash >> (28 - 4 * i) & 0xf];
    }
    ret[kept++] = '~';
    ret[kept++] = (uint8_t)('1' + n % 9);
}

void fat_search_init_short(FatSearch *search, const uint8_t name[FAT_SHORT_LENGTH]) {
    search->name = NULL;
    search->exact_only = false;
    search->length = fat_short_text(name, 0, search->folded);
    for (unsigned i = 0; i < search->length; i++) {
        search->folded[i] = utf16_upper(search->folded[i]);
    }
}
