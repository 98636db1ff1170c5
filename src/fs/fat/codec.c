/* SPDX-License-Identifier: MIT */
/*
 * Directory entries, long names, timestamps and FSInfo between bytes and plain
 * values. Pure; see codec.h. The boot sector has a file of its own (boot.c).
 */
#include "codec.h"

#define NS_PER_SECOND INT64_C(1000000000)
#define SECONDS_PER_DAY INT64_C(86400)

/* ---- FSInfo ---- */

int fat_fsinfo_decode(const FatGeometry *geo, const FatDiskFsinfo *disk, FatFsinfo *ret,
                      Corruption *corruption) {
    uint64_t where = (uint64_t)geo->fsinfo_sector << geo->sector_shift;
    uint32_t lead = le32_get(disk->lead_signature);
    uint32_t inner = le32_get(disk->struct_signature);
    uint32_t trail = le32_get(disk->trail_signature);
    FatFsinfo info;

    if (lead != FAT_FSINFO_LEAD) {
        return corruption_set(corruption, "FSInfo", where, "FSI_LeadSig", lead,
                              "signature should be 0x%08x", FAT_FSINFO_LEAD);
    }
    if (inner != FAT_FSINFO_STRUCT) {
        return corruption_set(corruption, "FSInfo", where, "FSI_StrucSig", inner,
                              "signature should be 0x%08x", FAT_FSINFO_STRUCT);
    }
    if (trail != FAT_FSINFO_TRAIL) {
        return corruption_set(corruption, "FSInfo", where, "FSI_TrailSig", trail,
                              "signature should be 0x%08x", FAT_FSINFO_TRAIL);
    }
    info.free_count = le32_get(disk->free_count);
    info.next_free = le32_get(disk->next_free);
    if (info.free_count > geo->cluster_count) {
        info.free_count = FAT_FSINFO_UNKNOWN;
    }
    if (!fat_cluster_valid(geo, info.next_free)) {
        info.next_free = FAT_FSINFO_UNKNOWN;
    }
    *ret = info;
    return 0;
}

/* ---- timestamps ("Date and time formats") ---- */

/* Days since 1970-01-01 of a Gregorian date; years count from March, so that the leap day is last.
 */
static int64_t days_from_date(int year, unsigned month, unsigned day) {
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400; /* years here are positive */
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_from_days(int64_t days, int *ret_year, unsigned *ret_month, unsigned *ret_day) {
    int64_t z = days + 719468;
    int64_t era = z / 146097;
    int64_t of_era = z - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t m = (5 * of_year + 2) / 153;

    *ret_day = (unsigned)(of_year - (153 * m + 2) / 5 + 1);
    *ret_month = (unsigned)(m < 10 ? m + 3 : m - 9);
    *ret_year = (int)(year + era * 400 + (*ret_month <= 2));
}

static unsigned days_in_month(int year, unsigned month) {
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)) {
        return 29;
    }
    return days[month - 1];
}

int64_t fat_time_decode(le16 date, le16 time, uint8_t tenths) {
    unsigned d = le16_get(date);
    unsigned t = le16_get(time);
    int year = 1980 + (int)(d >> 9);
    unsigned month = MIN(MAX(d >> 5 & 0xfu, 1u), 12u);
    unsigned day = MIN(MAX(d & 0x1fu, 1u), days_in_month(year, month));
    int64_t seconds = days_from_date(year, month, day) * SECONDS_PER_DAY;

    seconds += MIN(t >> 11, 23u) * 3600;
    seconds += MIN(t >> 5 & 0x3fu, 59u) * 60;
    seconds += MIN((t & 0x1fu) * 2, 58u);
    return seconds * NS_PER_SECOND + (int64_t)MIN(tenths, (uint8_t)199) * 10000000;
}

void fat_time_encode(int64_t ns, le16 *ret_date, le16 *ret_time, uint8_t *ret_tenths) {
    const int64_t first = days_from_date(1980, 1, 1) * SECONDS_PER_DAY;
    const int64_t end = days_from_date(2108, 1, 1) * SECONDS_PER_DAY;
    int64_t seconds = ns / NS_PER_SECOND;
    int64_t rest = ns % NS_PER_SECOND;
    unsigned month, day, of_day;
    int year;

    if (rest < 0) {
        seconds -= 1;
        rest += NS_PER_SECOND;
    }
    if (seconds < first) {
        seconds = first;
        rest = 0;
    } else if (seconds >= end) {
        seconds = end - 1;
        rest = 990000000;
    }
    date_from_days(seconds / SECONDS_PER_DAY, &year, &month, &day);
    of_day = (unsigned)(seconds % SECONDS_PER_DAY);
    *ret_date = le16_make((uint16_t)((unsigned)(year - 1980) << 9 | month << 5 | day));
    *ret_time =
        le16_make((uint16_t)((of_day / 3600) << 11 | (of_day / 60 % 60) << 5 | of_day % 60 / 2));
    *ret_tenths = (uint8_t)((of_day % 2) * 100 + (unsigned)(rest / 10000000));
}

/* ---- short entries ---- */

void fat_entry_decode(const FatGeometry *geo, const FatDiskEntry *disk, FatEntry *ret) {
    const le16 midnight = {{0, 0}};

    memcpy(ret->name, disk->name, sizeof(ret->name));
    ret->attributes = disk->attributes;
    ret->nt_flags = disk->nt_flags;
    ret->first_cluster = le16_get(disk->cluster_low);
    if (geo->kind == FAT_KIND_32) {
        /* The upper four bits are as reserved as those of a cell. */
        ret->first_cluster |= (uint32_t)(le16_get(disk->cluster_high) & 0x0fff) << 16;
    }
    ret->size = le32_get(disk->size);
    ret->mtime_ns = fat_time_decode(disk->write_date, disk->write_time, 0) - geo->time_offset_ns;
    ret->atime_ns = le16_get(disk->access_date) == 0
                        ? ret->mtime_ns
                        : fat_time_decode(disk->access_date, midnight, 0) - geo->time_offset_ns;
    ret->btime_ns =
        le16_get(disk->create_date) == 0
            ? FAT_TIME_NONE
            : fat_time_decode(disk->create_date, disk->create_time, disk->create_tenths) -
                  geo->time_offset_ns;
}

void fat_entry_set_cluster(const FatGeometry *geo, FatDiskEntry *disk, uint32_t cluster) {
    disk->cluster_low = le16_make((uint16_t)cluster);
    if (geo->kind == FAT_KIND_32) {
        disk->cluster_high = le16_make((uint16_t)(cluster >> 16));
    }
}

/* Out of range either way: the encoder clamps. */
static int64_t local_time(const FatGeometry *geo, int64_t ns) {
    int64_t local;

    return __builtin_add_overflow(ns, geo->time_offset_ns, &local) ? ns : local;
}

void fat_entry_set_mtime(const FatGeometry *geo, FatDiskEntry *disk, int64_t ns) {
    uint8_t tenths;

    fat_time_encode(local_time(geo, ns), &disk->write_date, &disk->write_time, &tenths);
}

void fat_entry_set_atime(const FatGeometry *geo, FatDiskEntry *disk, int64_t ns) {
    uint8_t tenths;
    le16 time;

    fat_time_encode(local_time(geo, ns), &disk->access_date, &time, &tenths);
}

void fat_entry_set_btime(const FatGeometry *geo, FatDiskEntry *disk, int64_t ns) {
    if (ns == FAT_TIME_NONE) {
        disk->create_date = disk->create_time = le16_make(0);
        disk->create_tenths = 0;
        return;
    }
    fat_time_encode(local_time(geo, ns), &disk->create_date, &disk->create_time,
                    &disk->create_tenths);
}

void fat_entry_encode(const FatGeometry *geo, const FatEntry *entry, FatDiskEntry *ret) {
    FatDiskEntry disk = {.attributes = entry->attributes, .nt_flags = entry->nt_flags};

    memcpy(disk.name, entry->name, sizeof(disk.name));
    fat_entry_set_cluster(geo, &disk, entry->first_cluster);
    disk.size = le32_make(entry->size);
    fat_entry_set_mtime(geo, &disk, entry->mtime_ns);
    fat_entry_set_atime(geo, &disk, entry->atime_ns);
    fat_entry_set_btime(geo, &disk, entry->btime_ns);
    *ret = disk;
}

int fat_slot_dots(const FatDiskEntry *disk) {
    if (memcmp(disk->name, ".          ", FAT_SHORT_LENGTH) == 0) {
        return 1;
    }
    return memcmp(disk->name, "..         ", FAT_SHORT_LENGTH) == 0 ? 2 : 0;
}

FatSlotKind fat_slot_kind(const FatDiskEntry *disk) {
    if (disk->name[0] == FAT_NAME_END) {
        return FAT_SLOT_END;
    }
    if (disk->name[0] == FAT_NAME_DELETED) {
        return FAT_SLOT_FREE;
    }
    if ((disk->attributes & FAT_ATTR_LONG_NAME_MASK) == FAT_ATTR_LONG_NAME) {
        return FAT_SLOT_LONG;
    }
    if (disk->attributes & FAT_ATTR_VOLUME_ID) {
        return FAT_SLOT_LABEL;
    }
    return fat_slot_dots(disk) != 0 ? FAT_SLOT_DOT : FAT_SLOT_ENTRY;
}

/* ---- long names ---- */

/* ChkSum() of "Generating 8-dot-3 names": rotate right, then add. */
uint8_t fat_short_checksum(const uint8_t name[FAT_SHORT_LENGTH]) {
    unsigned sum = 0;

    for (unsigned i = 0; i < FAT_SHORT_LENGTH; i++) {
        sum = ((sum & 1) << 7 | sum >> 1) + name[i];
        sum &= 0xff;
    }
    return (uint8_t)sum;
}

void fat_long_reset(FatLongName *name) {
    name->length = name->parts = name->expected = 0;
}

bool fat_long_add(FatLongName *name, const FatDiskLong *disk) {
    unsigned order = disk->order & (FAT_LONG_LAST - 1u);
    uint16_t *units;

    if (disk->order & FAT_LONG_LAST) {
        fat_long_reset(name);
        if (order == 0 || order > FAT_LONG_SLOTS_MAX || disk->order & 0x80) {
            return false;
        }
        name->parts = order;
        name->checksum = disk->checksum;
    } else if (name->expected == 0 || order != name->expected || disk->checksum != name->checksum ||
               disk->order & 0x80) {
        fat_long_reset(name);
        return false;
    }
    name->expected = order - 1;
    units = name->units + (order - 1) * FAT_LONG_UNITS;
    for (unsigned i = 0; i < 5; i++) {
        units[i] = le16_get(disk->name1[i]);
    }
    for (unsigned i = 0; i < 6; i++) {
        units[5 + i] = le16_get(disk->name2[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        units[11 + i] = le16_get(disk->name3[i]);
    }
    return true;
}

bool fat_long_finish(FatLongName *name, const uint8_t short_name[FAT_SHORT_LENGTH]) {
    unsigned length = 0;

    if (name->parts == 0 || name->expected != 0 ||
        name->checksum != fat_short_checksum(short_name)) {
        return false;
    }
    while (length < name->parts * FAT_LONG_UNITS && name->units[length] != 0) {
        length += 1;
    }
    /* The terminator must lie in the last part: else parts would be lost at a rename. */
    if (length == 0 || length > FAT_LONG_NAME_MAX || fat_long_slots(length) != name->parts) {
        return false;
    }
    name->length = length;
    return true;
}

void fat_long_encode(const uint16_t *units, unsigned length, unsigned order, uint8_t checksum,
                     FatDiskLong *ret) {
    FatDiskLong disk = {
        .order = (uint8_t)order, .attributes = FAT_ATTR_LONG_NAME, .checksum = checksum};
    le16 part[FAT_LONG_UNITS];

    if (order == fat_long_slots(length)) {
        disk.order |= FAT_LONG_LAST;
    }
    for (unsigned i = 0; i < FAT_LONG_UNITS; i++) {
        unsigned at = (order - 1) * FAT_LONG_UNITS + i;
        part[i] = le16_make(at < length ? units[at] : at == length ? 0 : 0xffff);
    }
    memcpy(disk.name1, part, sizeof(disk.name1));
    memcpy(disk.name2, part + 5, sizeof(disk.name2));
    memcpy(disk.name3, part + 11, sizeof(disk.name3));
    *ret = disk;
}
