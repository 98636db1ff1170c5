/* SPDX-License-Identifier: MIT */
/*
 * Names: what users see (UTF-8), what is stored (UTF-16 in long entries, eleven
 * bytes of the OEM code page in short ones), and how both compare. A name that
 * users cannot be shown or cannot ask for (over 255 bytes, unpaired surrogates,
 * '/') gives way to the short one. Rules: fatgen103, "Long directory entries",
 * "Name limits and character sets", "Generating 8-dot-3 names". Pure.
 */
#include "types.h"

#define BASE_LENGTH 8u
#define EXTENSION_LENGTH 3u
/* ~1 to ~4 keep six characters of the name, later ones two and a hash. */
#define PLAIN_TAILS 4u

/* ---- short names as text ---- */

/* One part of a short name; returns the units, at most one for each byte. */
static unsigned part_text(const FatCodepage *page, const uint8_t *bytes, unsigned length,
                          bool lower, uint16_t *out) {
    unsigned count = 0;

    for (unsigned i = 0; i < length;) {
        uint16_t unit;
        i += fat_codepage_decode(page, bytes + i, length - i, &unit);
        if (unit < 0x20 || unit == '/' || unit == 0x7f) {
            unit = '_';
        } else if (lower && unit >= 'A' && unit <= 'Z') {
            unit = (uint16_t)(unit + ('a' - 'A'));
        }
        out[count++] = unit;
    }
    return count;
}

static unsigned trimmed_length(const uint8_t *bytes, unsigned length) {
    while (length > 0 && bytes[length - 1] == ' ') {
        length -= 1;
    }
    return length;
}

unsigned fat_short_text(const FatCodepage *page, const uint8_t name[FAT_SHORT_LENGTH],
                        uint8_t nt_flags, uint16_t out[FAT_SHORT_TEXT_MAX]) {
    unsigned base = trimmed_length(name, BASE_LENGTH);
    unsigned extension = trimmed_length(name + BASE_LENGTH, EXTENSION_LENGTH);
    uint8_t bytes[FAT_SHORT_LENGTH];
    unsigned length;

    memcpy(bytes, name, sizeof(bytes));
    if (bytes[0] == FAT_NAME_KANJI_E5) {
        bytes[0] = FAT_NAME_DELETED;
    }
    length = part_text(page, bytes, base, nt_flags & FAT_NT_LOWER_BASE, out);
    if (extension > 0) {
        out[length++] = '.';
        length += part_text(page, bytes + BASE_LENGTH, extension, nt_flags & FAT_NT_LOWER_EXTENSION,
                            out + length);
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

unsigned fat_name_display(const FatCodepage *page, const FatDirEntry *entry,
                          char out[FS_NAME_MAX + 1]) {
    uint16_t units[FAT_SHORT_TEXT_MAX];
    unsigned count;
    int length;

    if (entry->long_name != NULL) {
        length = utf16_to_utf8(entry->long_name, entry->long_length, out, FS_NAME_MAX);
        if (presentable(out, length)) {
            return (unsigned)length;
        }
    }
    count = fat_short_text(page, entry->entry.name, entry->entry.nt_flags, units);
    length = utf16_to_utf8(units, count, out, FS_NAME_MAX);
    assert(length > 0); /* a code page has no surrogates */
    return (unsigned)length;
}

void fat_label_text(const FatCodepage *page, const uint8_t label[FAT_SHORT_LENGTH], char *out,
                    size_t capacity) {
    uint16_t units[FAT_SHORT_LENGTH];
    uint8_t stored[FAT_SHORT_LENGTH];
    unsigned length = trimmed_length(label, FAT_SHORT_LENGTH);
    int bytes;

    memcpy(stored, label, sizeof(stored));
    if (stored[0] == FAT_NAME_KANJI_E5) {
        stored[0] = FAT_NAME_DELETED;
    }

    if (memcmp(label, "NO NAME    ", FAT_SHORT_LENGTH) == 0) {
        length = 0;
    }
    length = part_text(page, stored, length, false, units);
    bytes = utf16_to_utf8(units, length, out, capacity - 1);
    out[MAX(bytes, 0)] = '\0';
}

int fat_label_make(const FatCodepage *page, const char *text, size_t length,
                   uint8_t ret[FAT_SHORT_LENGTH]) {
    uint16_t units[FAT_SHORT_LENGTH];
    uint8_t label[FAT_SHORT_LENGTH];
    unsigned used = 0;
    int count = utf8_to_utf16(text, length, units, FAT_SHORT_LENGTH);

    if (count <= 0) {
        return count == -ENAMETOOLONG ? count : -EINVAL;
    }
    memset(label, ' ', sizeof(label));
    for (int i = 0; i < count; i++) {
        uint8_t bytes[2];
        unsigned more = fat_codepage_encode(page, utf16_upper(units[i]), bytes);
        /* What mlabel and Windows refuse. */
        if (more == 0 || (more == 1 && (bytes[0] < 0x20 || bytes[0] == 0x7f ||
                                        strchr("\"*+,./:;<=>?[\\]|", bytes[0]) != NULL))) {
            return -EINVAL;
        }
        if (used + more > sizeof(label)) {
            return -ENAMETOOLONG;
        }
        memcpy(label + used, bytes, more);
        used += more;
    }
    if (label[0] == ' ') {
        return -EINVAL;
    }
    if (label[0] == FAT_NAME_DELETED) {
        label[0] = FAT_NAME_KANJI_E5;
    }
    memcpy(ret, label, sizeof(label));
    return 0;
}

/* ---- searching ---- */

int fat_search_init(FatSearch *search, const FatCodepage *page, const FsName *name,
                    bool exact_only) {
    int length = utf8_to_utf16(name->text, name->length, search->folded, FAT_LONG_NAME_MAX);

    if (length < 0) {
        return length;
    }
    for (int i = 0; i < length; i++) {
        search->folded[i] = utf16_upper(search->folded[i]);
    }
    search->page = page;
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
        !folded_equal(search, units, fat_short_text(search->page, entry->entry.name, 0, units))) {
        return false;
    }
    if (!search->exact_only) {
        return true;
    }
    return fat_name_display(search->page, entry, text) == search->name->length &&
           memcmp(text, search->name->text, search->name->length) == 0;
}

/* ---- making names ---- */

static bool long_unit_valid(uint16_t unit) {
    return unit >= 0x20 && (unit >= 0x80 || strchr("\"*/:<>?\\|", unit) == NULL);
}

/* The base or the extension of a short name that is being made. */
typedef struct ShortPart {
    uint8_t *bytes;
    unsigned length, capacity;
    bool full; /* something did not fit: nothing comes behind it */
} ShortPart;

/* Adds what stands for a character; false when it does not tell it. */
static bool short_add(const FatCodepage *page, ShortPart *part, uint16_t unit) {
    uint8_t bytes[2] = {0};
    unsigned count = fat_codepage_encode(page, utf16_upper(unit), bytes);
    bool told = true;

    if (count == 0 || (count == 1 && (bytes[0] <= 0x20 || bytes[0] == 0x7f ||
                                      strchr("+,;=[]\"*/:<>?\\|.", bytes[0]) != NULL))) {
        bytes[0] = '_';
        count = 1;
        told = false;
    }
    if (part->full || part->length + count > part->capacity) {
        part->full = true;
        return false;
    }
    memcpy(part->bytes + part->length, bytes, count);
    part->length += count;
    return told;
}

/*
 * The basis name: without spaces and leading dots, the extension behind the last
 * dot, everything in upper case. True: the short form tells the long one but
 * for case.
 */
static bool basis_make(const FatCodepage *page, const uint16_t *units, unsigned length,
                       uint8_t out[FAT_SHORT_LENGTH]) {
    ShortPart base = {.bytes = out, .capacity = BASE_LENGTH};
    ShortPart extension = {.bytes = out + BASE_LENGTH, .capacity = EXTENSION_LENGTH};
    bool lossy = false;
    unsigned start = 0;
    unsigned dot = length;

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
        } else {
            lossy |= !short_add(page, i < dot ? &base : &extension, units[i]);
        }
    }
    if (base.length == 0) {
        out[0] = '_';
        lossy = true;
    }
    if (out[0] == FAT_NAME_DELETED) {
        out[0] = FAT_NAME_KANJI_E5;
    }
    return !lossy;
}

/* The parts of an 8.3 name that have lower-case letters. A part with both cases will differ. */
static uint8_t lower_flags(const uint16_t *units, unsigned length) {
    uint8_t flag = FAT_NT_LOWER_BASE;
    uint8_t flags = 0;

    for (unsigned i = 0; i < length; i++) {
        if (units[i] == '.') {
            flag = FAT_NT_LOWER_EXTENSION;
        } else if (units[i] >= 'a' && units[i] <= 'z') {
            flags |= flag;
        }
    }
    return flags;
}

int fat_name_prepare(const FatCodepage *page, const FsName *name, FatNewName *ret) {
    uint16_t text[FAT_SHORT_TEXT_MAX];
    int length = utf8_to_utf16(name->text, name->length, ret->units, FAT_LONG_NAME_MAX);
    unsigned count;

    if (length <= 0) {
        return length == -ENAMETOOLONG ? length : -EINVAL;
    }
    ret->page = page;
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
    ret->lossy = !basis_make(ret->page, ret->units, ret->length, ret->short_name);
    ret->nt_flags = lower_flags(ret->units, ret->length);
    count = fat_short_text(page, ret->short_name, ret->nt_flags, text);
    ret->needs_long =
        ret->lossy || count != ret->length || memcmp(text, ret->units, count * sizeof(*text)) != 0;
    for (unsigned i = 0; i < ret->length; i++) {
        ret->needs_long |= ret->units[i] >= 0x80; /* readers differ in the code page */
    }
    if (ret->needs_long) {
        ret->nt_flags = 0;
    }
    return 0;
}

/* ---- ~N ---- */

/* At most so many bytes of a part, without cutting a character in two. */
static unsigned cut_length(const FatCodepage *page, const uint8_t *bytes, unsigned length,
                           unsigned most) {
    unsigned kept = 0;

    while (kept < length) {
        uint16_t unit;
        unsigned used = fat_codepage_decode(page, bytes + kept, length - kept, &unit);
        if (kept + used > most) {
            break;
        }
        kept += used;
    }
    return kept;
}

void fat_short_variant(const FatNewName *name, unsigned n, uint8_t ret[FAT_SHORT_LENGTH]) {
    unsigned base = trimmed_length(name->short_name, BASE_LENGTH);
    unsigned kept;

    memcpy(ret, name->short_name, FAT_SHORT_LENGTH);
    if (n == 0) {
        return;
    }
    if (n <= PLAIN_TAILS) {
        kept = cut_length(name->page, ret, base, BASE_LENGTH - 2);
        ret[kept] = '~';
        ret[kept + 1] = (uint8_t)('0' + n);
        memset(ret + kept + 2, ' ', BASE_LENGTH - 2 - kept);
        return;
    }
    /* As Windows does: large directories of similar names need no long search. */
    uint32_t hash = n * 0x9e3779b1u;
    for (unsigned i = 0; i < name->length; i++) {
        hash = (hash ^ name->units[i]) * 16777619u;
    }
    kept = cut_length(name->page, ret, base, 2);
    for (unsigned i = 0; i < 4; i++) {
        ret[kept++] = (uint8_t) "0123456789ABCDEF"[hash >> (28 - 4 * i) & 0xf];
    }
    ret[kept++] = '~';
    ret[kept++] = (uint8_t)('1' + n % 9);
    memset(ret + kept, ' ', BASE_LENGTH - kept);
}

void fat_search_init_short(FatSearch *search, const FatCodepage *page,
                           const uint8_t name[FAT_SHORT_LENGTH]) {
    search->name = NULL;
    search->exact_only = false;
    search->page = page;
    search->length = fat_short_text(search->page, name, 0, search->folded);
    for (unsigned i = 0; i < search->length; i++) {
        search->folded[i] = utf16_upper(search->folded[i]);
    }
}
