/* SPDX-License-Identifier: MIT */
/*
 * The codecs of FAT: boot sectors field by field (each wrong value is named),
 * FSInfo, entries and long names both ways, timestamps at their limits.
 */
#include "../../src/fs/fat/codec.h"
#include <check.h>

/* ---- boot sectors ---- */

/* A sound FAT16 volume of 16 MiB with 2 KiB clusters. */
static FatDiskBoot boot16(void) {
    FatDiskBoot boot = {.bpb = {.jump = {0xeb, 0x3c, 0x90},
                                .bytes_per_sector = le16_make(512),
                                .sectors_per_cluster = 4,
                                .reserved_sectors = le16_make(1),
                                .fat_count = 2,
                                .root_entries = le16_make(512),
                                .total_sectors16 = le16_make(32768),
                                .media = 0xf8,
                                .fat_size16 = le16_make(32)}};

    boot.fat16.extended.signature = FAT_EXTENDED_SIGNATURE;
    boot.fat16.extended.volume_id = le32_make(0x12345678);
    memcpy(boot.fat16.extended.label, "MY LABEL   ", 11);
    return boot;
}

/* A sound FAT32 volume of 64 MiB with 512-byte clusters. */
static FatDiskBoot boot32(void) {
    FatDiskBoot boot = {.bpb = {.jump = {0xeb, 0x58, 0x90},
                                .bytes_per_sector = le16_make(512),
                                .sectors_per_cluster = 1,
                                .reserved_sectors = le16_make(32),
                                .fat_count = 2,
                                .total_sectors32 = le32_make(131072),
                                .media = 0xf8}};

    boot.fat32.fat_size32 = le32_make(1009);
    boot.fat32.root_cluster = le32_make(2);
    boot.fat32.fsinfo_sector = le16_make(1);
    boot.fat32.backup_sector = le16_make(6);
    boot.fat32.extended.signature = FAT_EXTENDED_SIGNATURE;
    return boot;
}

START_TEST(test_boot16) {
    FatDiskBoot boot = boot16();
    FatGeometry geo;

    ck_assert(fat_boot_plausible(&boot));
    ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
    ck_assert_int_eq(geo.kind, FAT_KIND_16);
    ck_assert_uint_eq(geo.sector_size, 512);
    ck_assert_uint_eq(geo.cluster_size, 2048);
    ck_assert_uint_eq(geo.root_start, 65);
    ck_assert_uint_eq(geo.data_start, 97);
    ck_assert_uint_eq(geo.cluster_count, (32768 - 97) / 4);
    ck_assert(geo.mirrored && !geo.dirty && !geo.fat_too_small);
    ck_assert_uint_eq(geo.state_offset, 37);
    ck_assert_uint_eq(geo.volume_id, 0x12345678);
    ck_assert_mem_eq(geo.label, "MY LABEL   ", 11);
    ck_assert_uint_eq(fat_cluster_offset(&geo, 3), (97 + 4) * 512);
    ck_assert(!fat_cluster_valid(&geo, 0) && !fat_cluster_valid(&geo, 1));
    ck_assert(fat_cluster_valid(&geo, geo.cluster_count + 1));
    ck_assert(!fat_cluster_valid(&geo, geo.cluster_count + 2));
}
END_TEST

START_TEST(test_boot32) {
    FatDiskBoot boot = boot32();
    FatGeometry geo;

    boot.fat32.extended.state = FAT_STATE_DIRTY;
    ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
    ck_assert_int_eq(geo.kind, FAT_KIND_32);
    ck_assert_uint_eq(geo.data_start, 32 + 2 * 1009);
    ck_assert_uint_eq(geo.root_cluster, 2);
    ck_assert_uint_eq(geo.fsinfo_sector, 1);
    ck_assert_uint_eq(geo.state_offset, 65);
    ck_assert(geo.dirty);
    boot.fat32.flags = le16_make(FAT_FLAGS_NO_MIRROR | 1);
    ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
    ck_assert(!geo.mirrored);
    ck_assert_uint_eq(geo.active_fat, 1);
    boot.fat32.fsinfo_sector = le16_make(0xffff);
    ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
    ck_assert_uint_eq(geo.fsinfo_sector, 0);
}
END_TEST

/* The type follows from the count of clusters alone. */
START_TEST(test_type_limits) {
    static const struct {
        uint32_t clusters;
        FatKind kind;
    } cases[] = {{1, FAT_KIND_12}, {4084, FAT_KIND_12}, {4085, FAT_KIND_16}, {65524, FAT_KIND_16}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        FatDiskBoot boot = boot16();
        FatGeometry geo;
        boot.bpb.total_sectors16 = le16_make(0);
        boot.bpb.fat_size16 = le16_make(256);
        boot.bpb.total_sectors32 = le32_make(1 + 2 * 256 + 32 + cases[i].clusters * 4 + 3);
        ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
        ck_assert_int_eq(geo.kind, cases[i].kind);
        ck_assert_uint_eq(geo.cluster_count, cases[i].clusters);
    }
}
END_TEST

/* The decoder refuses, and says which field. */
static void refused(const FatDiskBoot *boot, const char *field) {
    FatGeometry geo;
    Corruption corruption = {0};

    ck_assert_msg(fat_boot_decode(boot, &geo, &corruption) == -EUCLEAN, "%s is accepted", field);
    ck_assert_str_eq(corruption.structure, "boot sector");
    ck_assert_str_eq(corruption.field, field);
    ck_assert_uint_gt(strlen(corruption.text), 0);
}

START_TEST(test_hostile_boot16) {
    static const uint16_t sizes[] = {0, 1, 3, 256, 511, 513, 8192, 0xffff};
    static const uint8_t clusters[] = {0, 3, 5, 127, 255};
    FatDiskBoot boot;

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        boot = boot16();
        boot.bpb.bytes_per_sector = le16_make(sizes[i]);
        refused(&boot, "BPB_BytsPerSec");
    }
    for (unsigned i = 0; i < ARRAY_SIZE(clusters); i++) {
        boot = boot16();
        boot.bpb.sectors_per_cluster = clusters[i];
        refused(&boot, "BPB_SecPerClus");
    }
    boot = boot16();
    boot.bpb.reserved_sectors = le16_make(0);
    refused(&boot, "BPB_RsvdSecCnt");
    boot = boot16();
    boot.bpb.fat_count = 0;
    refused(&boot, "BPB_NumFATs");
    boot = boot16();
    boot.bpb.fat_count = 255;
    boot.bpb.fat_size16 = le16_make(0xffff);
    refused(&boot, "BPB_FATSz16");
    boot = boot16();
    boot.bpb.media = 0x42;
    refused(&boot, "BPB_Media");
    boot = boot16();
    boot.bpb.root_entries = le16_make(0);
    refused(&boot, "BPB_RootEntCnt");
    boot = boot16();
    boot.bpb.total_sectors16 = le16_make(0);
    refused(&boot, "BPB_TotSec32");
    boot.bpb.total_sectors32 = le32_make(UINT32_MAX);
    refused(&boot, "BPB_TotSec32");
    boot = boot16();
    boot.bpb.total_sectors16 = le16_make(98);
    refused(&boot, "BPB_TotSec32");
    boot.bpb.total_sectors16 = le16_make(97);
    refused(&boot, "BPB_FATSz16");
}
END_TEST

START_TEST(test_hostile_boot32) {
    FatDiskBoot boot = boot32();

    boot.fat32.fat_size32 = le32_make(0);
    refused(&boot, "BPB_FATSz32");
    boot.fat32.fat_size32 = le32_make(UINT32_MAX);
    refused(&boot, "BPB_FATSz32");
    boot = boot32();
    boot.fat32.version = le16_make(1);
    refused(&boot, "BPB_FSVer");
    boot = boot32();
    boot.bpb.root_entries = le16_make(512);
    refused(&boot, "BPB_RootEntCnt");
    boot = boot32();
    boot.fat32.flags = le16_make(FAT_FLAGS_NO_MIRROR | 2);
    refused(&boot, "BPB_ExtFlags");
    boot = boot32();
    boot.fat32.root_cluster = le32_make(0);
    refused(&boot, "BPB_RootClus");
    boot.fat32.root_cluster = le32_make(1);
    refused(&boot, "BPB_RootClus");
    boot.fat32.root_cluster = le32_make(131072);
    refused(&boot, "BPB_RootClus");
    boot = boot32();
    boot.bpb.total_sectors32 = le32_make(UINT32_MAX);
    refused(&boot, "BPB_TotSec32");
}
END_TEST

/* Every byte of the BPB with every value: an answer, and never a wild one. */
START_TEST(test_boot_bytes) {
    for (unsigned wide = 0; wide < 2; wide++) {
        for (unsigned at = 0; at < 90; at++) {
            for (unsigned value = 0; value < 256; value++) {
                FatDiskBoot boot = wide ? boot32() : boot16();
                FatGeometry geo;
                boot.bytes[at] = (uint8_t)value;
                (void)fat_boot_plausible(&boot);
                if (fat_boot_decode(&boot, &geo, NULL) < 0) {
                    continue;
                }
                ck_assert_uint_lt(geo.data_start, geo.total_sectors);
                ck_assert_uint_le((uint64_t)geo.data_start +
                                      (uint64_t)geo.cluster_count * geo.cluster_sectors,
                                  geo.total_sectors);
                ck_assert_uint_le(((uint64_t)geo.cluster_count + 2) * geo.kind,
                                  ((uint64_t)geo.fat_sectors << geo.sector_shift) * 8);
            }
        }
    }
}
END_TEST

START_TEST(test_small_fat_and_device) {
    FatDiskBoot boot = boot16();
    FatGeometry geo;
    Corruption corruption;

    boot.bpb.fat_size16 = le16_make(20); /* 5120 cells for some 8000 clusters */
    ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
    ck_assert(geo.fat_too_small);
    ck_assert_uint_eq(geo.cluster_count, 5118);
    ck_assert_int_eq(geo.kind, FAT_KIND_16);

    boot = boot16();
    ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
    ck_assert_int_eq(fat_geometry_check_device(&geo, 32768 * 512, NULL), 0);
    ck_assert_int_eq(fat_geometry_check_device(&geo, 32768 * 512 - 1, NULL), 1);
    ck_assert_int_eq(fat_geometry_check_device(&geo, 97 * 512, NULL), 1);
    ck_assert_int_eq(fat_geometry_check_device(&geo, 97 * 512 - 1, &corruption), -EUCLEAN);
    ck_assert_str_eq(corruption.field, "BPB_TotSec32");
}
END_TEST

START_TEST(test_fsinfo) {
    FatDiskBoot boot = boot32();
    FatGeometry geo;
    FatDiskFsinfo disk = {.lead_signature = le32_make(FAT_FSINFO_LEAD),
                          .struct_signature = le32_make(FAT_FSINFO_STRUCT),
                          .trail_signature = le32_make(FAT_FSINFO_TRAIL),
                          .free_count = le32_make(1000),
                          .next_free = le32_make(17)};
    FatFsinfo info;
    Corruption corruption;

    ck_assert_int_eq(fat_boot_decode(&boot, &geo, NULL), 0);
    ck_assert_int_eq(fat_fsinfo_decode(&geo, &disk, &info, NULL), 0);
    ck_assert_uint_eq(info.free_count, 1000);
    ck_assert_uint_eq(info.next_free, 17);
    disk.free_count = le32_make(geo.cluster_count + 1);
    disk.next_free = le32_make(1);
    ck_assert_int_eq(fat_fsinfo_decode(&geo, &disk, &info, NULL), 0);
    ck_assert_uint_eq(info.free_count, FAT_FSINFO_UNKNOWN);
    ck_assert_uint_eq(info.next_free, FAT_FSINFO_UNKNOWN);
    disk.trail_signature = le32_make(0);
    ck_assert_int_eq(fat_fsinfo_decode(&geo, &disk, &info, &corruption), -EUCLEAN);
    ck_assert_str_eq(corruption.field, "FSI_TrailSig");
}
END_TEST

/* ---- times ---- */

#define SECOND INT64_C(1000000000)

static int64_t round_trip(int64_t ns) {
    le16 date, time;
    uint8_t tenths;

    fat_time_encode(ns, &date, &time, &tenths);
    return fat_time_decode(date, time, tenths);
}

START_TEST(test_times) {
    static const int64_t seconds[] = {315532800,  951782400 /* 2000-02-29 */,
                                      1700000000, 1709164800, /* 2024-02-29 */
                                      1735689599,             /* 2024-12-31 23:59:59 */
                                      4107542399,             /* 2100-02-28 23:59:59 */
                                      4107542400,             /* 2100-03-01 */
                                      4354819199};            /* 2107-12-31 23:59:59 */

    for (unsigned i = 0; i < ARRAY_SIZE(seconds); i++) {
        ck_assert_int_eq(round_trip(seconds[i] * SECOND), seconds[i] * SECOND);
        ck_assert_int_eq(round_trip(seconds[i] * SECOND + 123456789),
                         seconds[i] * SECOND + 120000000);
    }
    ck_assert_int_eq(round_trip(0), 315532800 * SECOND);
    ck_assert_int_eq(round_trip(-1), 315532800 * SECOND);
    ck_assert_int_eq(round_trip(INT64_MIN + 1), 315532800 * SECOND);
    ck_assert_int_eq(round_trip(INT64_MAX) / SECOND, 4354819199);
    /* Every date and every time means something. */
    for (unsigned bits = 0; bits < 65536; bits++) {
        int64_t date = fat_time_decode(le16_make((uint16_t)bits), le16_make(0), 0);
        int64_t time = fat_time_decode(le16_make(33), le16_make((uint16_t)bits), 255);
        ck_assert_int_ge(date, 315532800 * SECOND);
        ck_assert_int_lt(date, INT64_C(4354819200) * SECOND);
        ck_assert_int_ge(time, 315532800 * SECOND);
        ck_assert_int_le(time, (315532800 + 86400) * SECOND);
    }
}
END_TEST

/* ---- entries ---- */

START_TEST(test_entry) {
    FatDiskBoot boots[2] = {boot16(), boot32()};

    for (unsigned i = 0; i < 2; i++) {
        FatGeometry geo;
        FatEntry entry = {.attributes = FAT_ATTR_ARCHIVE | FAT_ATTR_READ_ONLY,
                          .nt_flags = FAT_NT_LOWER_BASE,
                          .first_cluster = i == 0 ? 0x1234 : 0x1fe34,
                          .size = 0xfffffffe,
                          .mtime_ns = 1700000000 * SECOND,
                          .atime_ns = 1699920000 * SECOND,
                          .btime_ns = 1700000001 * SECOND + 230000000};
        FatEntry back;
        FatDiskEntry disk;
        ck_assert_int_eq(fat_boot_decode(&boots[i], &geo, NULL), 0);
        memcpy(entry.name, "NAME    EXT", sizeof(entry.name));
        fat_entry_encode(&geo, &entry, &disk);
        fat_entry_decode(&geo, &disk, &back);
        ck_assert_mem_eq(back.name, entry.name, sizeof(entry.name));
        ck_assert_uint_eq(back.attributes, entry.attributes);
        ck_assert_uint_eq(back.nt_flags, entry.nt_flags);
        ck_assert_uint_eq(back.first_cluster, entry.first_cluster);
        ck_assert_uint_eq(back.size, entry.size);
        ck_assert_int_eq(back.mtime_ns, entry.mtime_ns);
        ck_assert_int_eq(back.atime_ns, entry.atime_ns);
        ck_assert_int_eq(back.btime_ns, entry.btime_ns);
        ck_assert_int_eq(fat_slot_kind(&disk), FAT_SLOT_ENTRY);
        /* FAT12 and FAT16 keep other things in the high half. */
        disk.cluster_high = le16_make(0xf001);
        fat_entry_decode(&geo, &disk, &back);
        ck_assert_uint_eq(back.first_cluster, i == 0 ? 0x1234 : 0x1fe34);
        fat_entry_set_btime(&geo, &disk, FAT_TIME_NONE);
        fat_entry_decode(&geo, &disk, &back);
        ck_assert(back.btime_ns == FAT_TIME_NONE);
    }
}
END_TEST

START_TEST(test_slot_kinds) {
    static const struct {
        const char *name;
        uint8_t attributes;
        FatSlotKind kind;
    } cases[] = {{"\0          ", 0xff, FAT_SLOT_END},
                 {"\xe5"
                  "BC        ",
                  0, FAT_SLOT_FREE},
                 {"A          ", 0x0f, FAT_SLOT_LONG},
                 {"A          ", 0x4f, FAT_SLOT_LONG},
                 {"A          ", 0x08, FAT_SLOT_LABEL},
                 {"A          ", 0x28, FAT_SLOT_LABEL},
                 {".          ", 0x10, FAT_SLOT_DOT},
                 {"..         ", 0x10, FAT_SLOT_DOT},
                 {".A         ", 0x10, FAT_SLOT_ENTRY},
                 {"\x05"
                  "A         ",
                  0x20, FAT_SLOT_ENTRY}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        FatDiskEntry disk = {.attributes = cases[i].attributes};
        memcpy(disk.name, cases[i].name, sizeof(disk.name));
        ck_assert_msg(fat_slot_kind(&disk) == cases[i].kind, "case %u", i);
    }
}
END_TEST

/* Collects the slots of a name in the order of the disk. */
static bool collect(const FatDiskLong *slots, unsigned count, const uint8_t *short_name,
                    FatLongName *ret) {
    fat_long_reset(ret);
    for (unsigned i = 0; i < count; i++) {
        (void)fat_long_add(ret, &slots[i]);
    }
    return fat_long_finish(ret, short_name);
}

START_TEST(test_long_names) {
    static const uint8_t short_name[] = "LONGNA~1TXT";
    uint8_t checksum = fat_short_checksum(short_name);
    uint16_t units[FAT_LONG_NAME_MAX];
    FatDiskLong slots[FAT_LONG_SLOTS_MAX];
    FatLongName name;

    for (unsigned i = 0; i < FAT_LONG_NAME_MAX; i++) {
        units[i] = (uint16_t)(0x100 + i);
    }
    for (unsigned length = 1; length <= FAT_LONG_NAME_MAX; length++) {
        unsigned count = fat_long_slots(length);
        for (unsigned i = 0; i < count; i++) {
            fat_long_encode(units, length, count - i, checksum, &slots[i]);
        }
        ck_assert(collect(slots, count, short_name, &name));
        ck_assert_uint_eq(name.length, length);
        ck_assert_mem_eq(name.units, units, length * sizeof(*units));
        /* Wrong owner, a part missing at either end, parts swapped, a wrong checksum. */
        ck_assert(!collect(slots, count, (const uint8_t *)"OTHER   TXT", &name));
        ck_assert(!collect(slots + 1, count - 1, short_name, &name));
        if (count > 1) {
            FatDiskLong swap = slots[0];
            ck_assert(!collect(slots, count - 1, short_name, &name));
            slots[0] = slots[count - 1];
            slots[count - 1] = swap;
            ck_assert(!collect(slots, count, short_name, &name));
        }
        slots[0].checksum ^= 1;
        ck_assert(!collect(slots, count, short_name, &name));
    }
}
END_TEST

START_TEST(test_hostile_long_names) {
    static const uint8_t short_name[] = "LONGNA~1TXT";
    static const uint8_t orders[] = {0x40, 0x40 | 21, 0x40 | 63, 0xc1, 0xe5, 0xff};
    uint8_t checksum = fat_short_checksum(short_name);
    const uint16_t units[2] = {'a', 0};
    FatDiskLong slots[2];
    FatLongName name;

    fat_long_reset(&name);
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        fat_long_encode(units, 1, 1, checksum, &slots[0]);
        slots[0].order = orders[i];
        ck_assert_msg(!fat_long_add(&name, &slots[0]), "order 0x%x", orders[i]);
        ck_assert(!fat_long_finish(&name, short_name));
    }
    /* Nothing but terminators, and a terminator before the last part. */
    fat_long_encode(units + 1, 1, 1, checksum, &slots[0]);
    ck_assert(!collect(slots, 1, short_name, &name));
    fat_long_encode(units, 1, 1, checksum, &slots[1]);
    fat_long_encode(units, 1, 1, checksum, &slots[0]);
    slots[0].order = FAT_LONG_LAST | 2;
    slots[1].order = 1;
    ck_assert(!collect(slots, 2, short_name, &name));
}
END_TEST

START_TEST(test_checksum) {
    /* Computed by hand from the specification's loop. */
    unsigned sum = 0;
    const uint8_t name[] = "README  TXT";

    for (unsigned i = 0; i < 11; i++) {
        sum = ((sum & 1 ? 0x80 : 0) + (sum >> 1) + name[i]) & 0xff;
    }
    ck_assert_uint_eq(fat_short_checksum(name), sum);
    ck_assert_uint_eq(fat_short_checksum((const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\1"), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fat_codec");
    TCase *tests = tcase_create("codec");
    SRunner *runner;
    int failed;

    tcase_add_test(tests, test_boot16);
    tcase_add_test(tests, test_boot32);
    tcase_add_test(tests, test_type_limits);
    tcase_add_test(tests, test_hostile_boot16);
    tcase_add_test(tests, test_hostile_boot32);
    tcase_add_test(tests, test_boot_bytes);
    tcase_add_test(tests, test_small_fat_and_device);
    tcase_add_test(tests, test_fsinfo);
    tcase_add_test(tests, test_times);
    tcase_add_test(tests, test_entry);
    tcase_add_test(tests, test_slot_kinds);
    tcase_add_test(tests, test_long_names);
    tcase_add_test(tests, test_hostile_long_names);
    tcase_add_test(tests, test_checksum);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
