/* SPDX-License-Identifier: MIT */
/*
 * The cells of the FAT: reading one or a row, scanning for free ones, writing
 * runs to every copy that is in use. Reads come from the active FAT; from another one where the
 * device fails or a chain makes no sense. The upper four bits of a FAT32 cell are not ours and stay
 * as they are
 * ("FAT Data Structure"). Writers run inside transaction bodies.
 */
#include "types.h"

/* Bytes of cells written by one txn_write(). */
#define CHUNK 512u

static unsigned cell_bytes(const FatVolume *volume) {
    return volume->geo.kind == FAT_KIND_32 ? 4 : 2;
}

static uint64_t fat_start(const FatVolume *volume, uint32_t copy) {
    return volume->geo.reserved_sectors + (uint64_t)copy * volume->geo.fat_sectors;
}

static bool copy_in_use(const FatVolume *volume, uint32_t copy) {
    return volume->geo.mirrored || copy == volume->geo.active_fat;
}

/* Sector `block` of the FAT: of the active copy, or if the device fails there of any other one. */
static int fat_get(FatVolume *volume, uint64_t block, Buffer **ret) {
    const FatGeometry *geo = &volume->geo;
    int r = cache_get(volume->base.cache, fat_start(volume, geo->active_fat) + block, ret);

    for (uint32_t copy = 0; r == -EIO && geo->mirrored && copy < geo->fat_count; copy++) {
        if (copy != geo->active_fat &&
            cache_get(volume->base.cache, fat_start(volume, copy) + block, ret) == 0) {
            log_warning("fat: sector %llu of FAT %u cannot be read; FAT %u has it",
                        (unsigned long long)block, geo->active_fat, copy);
            return 0;
        }
    }
    return r;
}

bool fat_table_same_sector(const FatVolume *volume, uint32_t one, uint32_t other) {
    unsigned bytes = cell_bytes(volume);

    return volume->geo.kind != FAT_KIND_12 && fat_block_of(volume, (uint64_t)one * bytes) ==
                                                  fat_block_of(volume, (uint64_t)other * bytes);
}

/* Value of a cell as read, with the marks of the three types made one. */
static uint32_t normalise(const FatVolume *volume, uint32_t value) {
    uint32_t all = volume->geo.kind == FAT_KIND_32 ? 0x0fffffffu : (1u << volume->geo.kind) - 1;

    value &= all;
    if (value >= all - 7) {
        return FAT_CELL_END;
    }
    return value == all - 8 ? FAT_CELL_BAD : value;
}

static uint32_t cell_load(const FatVolume *volume, const uint8_t *at) {
    le16 half;
    le32 word;

    if (volume->geo.kind == FAT_KIND_32) {
        memcpy(&word, at, sizeof(word));
        return le32_get(word);
    }
    memcpy(&half, at, sizeof(half));
    return le16_get(half);
}

/* A 12-bit cell may lie in two sectors. */
static int get12(FatVolume *volume, uint32_t cluster, uint32_t *ret) {
    uint64_t byte = (uint64_t)cluster * 3 / 2;
    uint8_t bytes[2];

    for (unsigned i = 0; i < 2; i++) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;
        uint64_t at = byte + i;
        int r = fat_get(volume, fat_block_of(volume, at), &buffer);
        if (r < 0) {
            return r;
        }
        bytes[i] = buffer->data[fat_block_offset(volume, at)];
    }
    *ret = ((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8) >> (cluster % 2 * 4) & 0xfff;
    return 0;
}

static int get_sector(FatVolume *volume, uint32_t cluster, Buffer **ret_buffer,
                      uint32_t *ret_offset) {
    uint64_t byte = (uint64_t)cluster * cell_bytes(volume);
    int r = fat_get(volume, fat_block_of(volume, byte), ret_buffer);

    if (r == 0) {
        *ret_offset = fat_block_offset(volume, byte);
    }
    return r;
}

int fat_table_get(FatVolume *volume, uint32_t cluster, uint32_t *ret) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    uint32_t offset, value;
    int r;

    if (volume->geo.kind == FAT_KIND_12) {
        r = get12(volume, cluster, &value);
    } else {
        r = get_sector(volume, cluster, &buffer, &offset);
        if (r == 0) {
            value = cell_load(volume, buffer->data + offset);
        }
    }
    if (r == 0) {
        *ret = normalise(volume, value);
    }
    return r;
}

int fat_table_follow(FatVolume *volume, uint32_t cluster, uint32_t *ret_count, uint32_t *ret_next) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    uint32_t offset = 0;
    uint32_t next;
    uint32_t count = 0;
    int r;

    if (volume->geo.kind == FAT_KIND_12) {
        r = fat_table_get(volume, cluster, ret_next);
        if (r == 0) {
            *ret_count = 0;
        }
        return r;
    }
    r = get_sector(volume, cluster, &buffer, &offset);
    if (r < 0) {
        return r;
    }
    for (;;) {
        next = normalise(volume, cell_load(volume, buffer->data + offset));
        offset += cell_bytes(volume);
        if (next != cluster + count + 1 || offset >= volume->geo.sector_size ||
            !fat_cluster_valid(&volume->geo, next)) {
            break;
        }
        count += 1;
    }
    *ret_count = count;
    *ret_next = next;
    return 0;
}

int fat_table_scan(FatVolume *volume, uint32_t cluster, uint32_t max, uint32_t base, uint64_t *map,
                   uint32_t *ret_count) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    uint32_t offset = 0;
    uint32_t count = 0;
    uint32_t value;
    int r;

    if (volume->geo.kind == FAT_KIND_12) {
        r = fat_table_get(volume, cluster, &value);
        if (r < 0) {
            return r;
        }
        if (value != FAT_CELL_FREE) {
            bitmap_set(map, cluster - 2 - base);
        }
        *ret_count = 1;
        return 0;
    }
    r = get_sector(volume, cluster, &buffer, &offset);
    if (r < 0) {
        return r;
    }
    while (count < max && offset < volume->geo.sector_size) {
        if (normalise(volume, cell_load(volume, buffer->data + offset)) != FAT_CELL_FREE) {
            bitmap_set(map, cluster + count - 2 - base);
        }
        offset += cell_bytes(volume);
        count += 1;
    }
    *ret_count = count;
    return 0;
}

int fat_table_prefetch(FatVolume *volume, uint32_t cluster, uint32_t count) {
    uint64_t start = (uint64_t)cluster * volume->geo.kind / 8;
    uint64_t end = ((uint64_t)cluster + count) * volume->geo.kind / 8 + 1;
    uint64_t first = fat_block_of(volume, start);
    uint64_t blocks = fat_block_of(volume, end) + 1 - first;

    blocks = MIN(blocks, volume->geo.fat_sectors - first);
    return cache_prefetch(volume->base.cache, fat_start(volume, volume->geo.active_fat) + first,
                          blocks);
}

/* Sectors of one copy that are loaded ahead of writing, where one is missing. */
#define WRITE_AHEAD 64u

static void prefetch_copies(FatVolume *volume, uint32_t cluster, uint32_t count) {
    const FatGeometry *geo = &volume->geo;
    uint64_t start = (uint64_t)cluster * geo->kind / 8;
    uint64_t end = (((uint64_t)cluster + count) * geo->kind - 1) / 8;
    uint64_t first = fat_block_of(volume, start);
    uint64_t last = fat_block_of(volume, end);

    for (uint32_t copy = 0; copy < geo->fat_count; copy++) {
        uint64_t seen = cache_stats(volume->base.cache)->prefetched;
        if (!copy_in_use(volume, copy)) {
            continue;
        }
        (void)cache_prefetch(volume->base.cache, fat_start(volume, copy) + first, last + 1 - first);
        if (cache_stats(volume->base.cache)->prefetched != seen) {
            /* Something was missing: what follows will be as well. */
            (void)cache_prefetch(volume->base.cache, fat_start(volume, copy) + last,
                                 MIN(WRITE_AHEAD, geo->fat_sectors - last));
        }
    }
}

void fat_table_prefetch_write(FatVolume *volume, const FatRunList *list, uint32_t from,
                              uint32_t count) {
    while (count > 0 && from < list->length) {
        const FatRun *run = fat_runs_find(list, from);
        uint32_t skip = from - run->index;
        uint32_t part = MIN(run->count - skip, count);

        prefetch_copies(volume, run->cluster + skip, part);
        from += part;
        count -= part;
    }
}

/* ---- copies that differ ---- */

/* A cell as a certain copy has it. */
static int copy_get(FatVolume *volume, uint32_t copy, uint32_t cluster, uint32_t *ret) {
    const unsigned kind = (unsigned)volume->geo.kind;
    uint64_t byte = (uint64_t)cluster * kind / 8;
    uint32_t value = 0;

    for (unsigned i = 0; i < (kind + 7) / 8; i++) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;
        int r = cache_get(volume->base.cache,
                          fat_start(volume, copy) + fat_block_of(volume, byte + i), &buffer);
        if (r < 0) {
            return r;
        }
        value |= (uint32_t)buffer->data[fat_block_offset(volume, byte + i)] << (8 * i);
    }
    *ret = kind == FAT_KIND_12 && cluster % 2 != 0 ? value >> 4 : value;
    return 0;
}

int fat_table_second_opinion(FatVolume *volume, uint32_t cluster, uint32_t *ret) {
    const FatGeometry *geo = &volume->geo;

    for (uint32_t copy = 0; geo->mirrored && copy < geo->fat_count; copy++) {
        uint32_t value;
        if (copy == geo->active_fat || copy_get(volume, copy, cluster, &value) < 0) {
            continue;
        }
        value = normalise(volume, value);
        if (value == FAT_CELL_END || fat_cluster_valid(geo, value)) {
            (void)report_corrupt(volume->base.reporter, false, "FAT", cluster, "cell", value,
                                 "FAT %u makes no sense here, FAT %u does: it is used",
                                 geo->active_fat, copy);
            fat_refuse_writes(volume, "the copies of the FAT differ");
            *ret = value;
            return 0;
        }
    }
    return -ENOENT;
}

/* Cell 0 repeats the media byte, with all other bits set. */
static bool begins_well(FatVolume *volume, uint32_t copy) {
    uint32_t all = volume->geo.kind == FAT_KIND_32 ? 0x0fffffffu : (1u << volume->geo.kind) - 1;
    uint32_t value;

    return copy_get(volume, copy, 0, &value) == 0 &&
           (value & all) == ((all & ~0xffu) | volume->geo.media);
}

void fat_table_choose_copy(FatVolume *volume) {
    FatGeometry *geo = &volume->geo;

    if (!geo->mirrored || begins_well(volume, geo->active_fat)) {
        return;
    }
    for (uint32_t copy = 0; copy < geo->fat_count; copy++) {
        if (copy != geo->active_fat && begins_well(volume, copy)) {
            (void)report_corrupt(volume->base.reporter, false, "FAT", geo->active_fat, "cell 0",
                                 geo->media, "FAT %u has no good beginning: FAT %u is used",
                                 geo->active_fat, copy);
            geo->active_fat = copy;
            fat_refuse_writes(volume, "the copies of the FAT differ");
            return;
        }
    }
}

/* ---- writing ---- */

/* What a row of cells gets: each the number of its neighbour and the last one `next`, or all free.
 */
typedef struct CellRow {
    uint32_t cluster, count, next;
    bool free;
} CellRow;

static uint32_t row_value(const CellRow *row, uint32_t index) {
    if (row->free) {
        return FAT_CELL_FREE;
    }
    return index + 1 == row->count ? row->next : row->cluster + index + 1;
}

/* One copy of a FAT16 or FAT32, in pieces that lie in one sector. */
static int write_row(Txn *txn, FatVolume *volume, uint64_t start, const CellRow *row,
                     FatClass class) {
    unsigned size = cell_bytes(volume);
    uint32_t index = 0;
    uint8_t bytes[CHUNK];

    while (index < row->count) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;
        uint64_t byte = ((uint64_t)row->cluster + index) * size;
        uint32_t offset = fat_block_offset(volume, byte);
        uint32_t length = 0;
        int r = cache_get(volume->base.cache, start + fat_block_of(volume, byte), &buffer);

        if (r < 0) {
            return r;
        }
        while (index < row->count && length < CHUNK && offset + length < volume->geo.sector_size) {
            uint32_t value = row_value(row, index);
            if (size == 4) {
                uint32_t old = cell_load(volume, buffer->data + offset + length);
                le32 cell = le32_make((value & 0x0fffffffu) | (old & 0xf0000000u));
                memcpy(bytes + length, &cell, 4);
            } else {
                le16 cell = le16_make((uint16_t)value);
                memcpy(bytes + length, &cell, 2);
            }
            length += size;
            index += 1;
        }
        r = txn_write(txn, buffer, offset, bytes, length, class);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Bytes of a FAT12 that change, with the bits that are meant; cells share bytes. */
typedef struct BitWindow {
    FatVolume *volume;
    uint64_t start; /* of the copy, in sectors */
    uint64_t byte;  /* first one, from there */
    uint32_t length;
    uint8_t bits[64], mask[64];
} BitWindow;

static int window_flush(BitWindow *window, Txn *txn, FatClass class) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r;

    if (window->length == 0) {
        return 0;
    }
    r = cache_get(window->volume->base.cache,
                  window->start + fat_block_of(window->volume, window->byte), &buffer);
    if (r < 0) {
        return r;
    }
    r = txn_write_bits(txn, buffer, fat_block_offset(window->volume, window->byte), window->bits,
                       window->mask, window->length, class);
    window->length = 0;
    return r;
}

static int window_add(BitWindow *window, Txn *txn, FatClass class, uint64_t byte, uint32_t bits,
                      uint32_t mask) {
    uint32_t at;

    if (window->length > 0 &&
        (byte - window->byte >= sizeof(window->bits) ||
         fat_block_of(window->volume, byte) != fat_block_of(window->volume, window->byte))) {
        int r = window_flush(window, txn, class);
        if (r < 0) {
            return r;
        }
    }
    if (window->length == 0) {
        window->byte = byte;
        memset(window->bits, 0, sizeof(window->bits));
        memset(window->mask, 0, sizeof(window->mask));
    }
    at = (uint32_t)(byte - window->byte);
    window->bits[at] = (uint8_t)(window->bits[at] | bits);
    window->mask[at] = (uint8_t)(window->mask[at] | mask);
    window->length = MAX(window->length, at + 1);
    return 0;
}

static int write_row12(Txn *txn, FatVolume *volume, uint64_t start, const CellRow *row,
                       FatClass class) {
    BitWindow window = {.volume = volume, .start = start};

    for (uint32_t i = 0; i < row->count; i++) {
        uint32_t cluster = row->cluster + i;
        unsigned shift = cluster % 2 * 4;
        uint32_t bits = (row_value(row, i) & 0xfff) << shift;
        uint32_t mask = 0xfffu << shift;
        uint64_t byte = (uint64_t)cluster * 3 / 2;
        int r = window_add(&window, txn, class, byte, bits & 0xff, mask & 0xff);

        if (r == 0) {
            r = window_add(&window, txn, class, byte + 1, bits >> 8, mask >> 8);
        }
        if (r < 0) {
            return r;
        }
    }
    return window_flush(&window, txn, class);
}

static int write_copies(Txn *txn, FatVolume *volume, const CellRow *row, FatClass class) {
    const FatGeometry *geo = &volume->geo;

    assert(row->count > 0);
    for (uint32_t copy = 0; copy < geo->fat_count; copy++) {
        int r;
        if (!copy_in_use(volume, copy)) {
            continue;
        }
        if (geo->kind == FAT_KIND_12) {
            r = write_row12(txn, volume, fat_start(volume, copy), row, class);
        } else {
            r = write_row(txn, volume, fat_start(volume, copy), row, class);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int fat_table_link(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count, uint32_t next,
                   FatClass class) {
    CellRow row = {.cluster = cluster, .count = count, .next = next};

    assert(fat_cluster_valid(&volume->geo, cluster));
    assert(count <= volume->geo.cluster_count - (cluster - 2));
    return write_copies(txn, volume, &row, class);
}

int fat_table_free(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count) {
    CellRow row = {.cluster = cluster, .count = count, .free = true};

    assert(fat_cluster_valid(&volume->geo, cluster));
    assert(count <= volume->geo.cluster_count - (cluster - 2));
    return write_copies(txn, volume, &row, FAT_CLASS_FREE);
}

/* ---- marks in cell 1: nobody has it open for writing; no I/O error has been met ---- */

static uint32_t clean_bit(const FatVolume *volume) {
    return volume->geo.kind == FAT_KIND_32 ? 1u << 27 : 1u << 15;
}

static uint32_t sound_bit(const FatVolume *volume) {
    return clean_bit(volume) >> 1;
}

int fat_table_get_marks(FatVolume *volume, bool *ret_clean, bool *ret_sound) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    uint32_t offset, value;
    int r;

    if (volume->geo.kind == FAT_KIND_12) {
        *ret_clean = *ret_sound = true;
        return 0;
    }
    r = get_sector(volume, 1, &buffer, &offset);
    if (r == 0) {
        value = cell_load(volume, buffer->data + offset);
        *ret_clean = value & clean_bit(volume);
        *ret_sound = value & sound_bit(volume);
    }
    return r;
}

int fat_table_set_marks(Txn *txn, FatVolume *volume, bool clean, bool sound, FatClass class) {
    const FatGeometry *geo = &volume->geo;
    unsigned size = cell_bytes(volume);
    uint8_t bytes[4];
    le32 word;

    if (geo->kind == FAT_KIND_12) {
        return 0;
    }
    for (uint32_t copy = 0; copy < geo->fat_count; copy++) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;
        uint32_t value;
        int r;

        if (!copy_in_use(volume, copy)) {
            continue;
        }
        r = cache_get(volume->base.cache, fat_start(volume, copy), &buffer);
        if (r < 0) {
            return r;
        }
        value = cell_load(volume, buffer->data + size);
        value = clean ? value | clean_bit(volume) : value & ~clean_bit(volume);
        value = sound ? value | sound_bit(volume) : value & ~sound_bit(volume);
        word = le32_make(value);
        memcpy(bytes, &word, sizeof(bytes));
        r = txn_write(txn, buffer, size, bytes, size, class);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}
