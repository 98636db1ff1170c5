/* SPDX-License-Identifier: MIT */
/*
 * Apple partition maps, and the files that the Mac's tools put around images:
 * built by hand, by field, with values that no tool writes, and probed in the
 * isolated child.
 */
#include "../../src/block/partition_internal.h"
#include "berth/bytes.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define IMAGE_SIZE (1024u * 1024u)

static uint8_t *bytes; /* of the image */
static PartitionTable table;
static Corruption corruption;

static void put16(size_t at, unsigned value) {
    be16 field = be16_make((uint16_t)value);

    memcpy(bytes + at, &field, sizeof(field));
}

static void put32(size_t at, uint32_t value) {
    be32 field = be32_make(value);

    memcpy(bytes + at, &field, sizeof(field));
}

static void put_driver_map(unsigned block_size) {
    put16(0, 0x4552);
    put16(2, block_size);
    put32(4, IMAGE_SIZE / MAX(block_size, 512u));
}

static void put_entry(uint32_t block_size, unsigned number, unsigned count, uint32_t start,
                      uint32_t blocks, const char *type, const char *name) {
    size_t at = (size_t)number * block_size;

    put16(at, 0x504d);
    put32(at + 4, count);
    put32(at + 8, start);
    put32(at + 12, blocks);
    (void)strncpy((char *)bytes + at + 16, name, 32);
    (void)strncpy((char *)bytes + at + 48, type, 32);
}

/* A map, a driver, a volume and unused space to beyond the end. */
static void put_map(uint32_t block_size) {
    put_entry(block_size, 1, 4, 1, 15, "Apple_partition_map", "Apple");
    put_entry(block_size, 2, 4, 16, 16, "Apple_Driver43", "Macintosh");
    put_entry(block_size, 3, 4, 32, 256, "Apple_HFS", "Disk \xa5");
    put_entry(block_size, 4, 4, 288, 1000000, "Apple_Free", "");
}

static int read_table(void) {
    BlockDevice *device = NULL;
    int r;

    memset(&table, 0x5a, sizeof(table));
    memset(&corruption, 0, sizeof(corruption));
    ck_assert_int_eq(block_memory_new(IMAGE_SIZE, 512, bytes, &device), 0);
    r = partition_read(device, &table, &corruption);
    (void)block_free(device);
    return r;
}

static void check_map(uint32_t block_size) {
    ck_assert_int_eq(read_table(), 0);
    ck_assert_int_eq(table.kind, PARTITION_APM);
    ck_assert_uint_eq(table.sector_size, block_size);
    ck_assert_uint_eq(table.count, 3);
    ck_assert_uint_eq(table.entries[0].number, 1);
    ck_assert_str_eq(table.entries[0].type, "Apple_partition_map");
    ck_assert_uint_eq(table.entries[2].number, 3);
    ck_assert_uint_eq(table.entries[2].start, 32ull * block_size);
    ck_assert_uint_eq(table.entries[2].length, 256ull * block_size);
    ck_assert_str_eq(table.entries[2].type, "Apple_HFS");
    ck_assert_str_eq(table.entries[2].name, "Disk •");
    ck_assert_str_eq(table.entries[2].uuid, "");
    ck_assert_ptr_eq(partition_find(&table, "3"), &table.entries[2]);
    ck_assert_ptr_eq(partition_find(&table, "Macintosh"), &table.entries[1]);
    ck_assert_ptr_null(partition_find(&table, "4"));
}

static void setup(void) {
    bytes = calloc(1, IMAGE_SIZE);
    ck_assert_ptr_nonnull(bytes);
}

static void teardown(void) {
    free(bytes);
}

START_TEST(maps_of_both_block_sizes) {
    uint32_t block_size = _i == 0 ? 512 : 2048;

    put_driver_map(block_size);
    put_map(block_size);
    check_map(block_size);
}
END_TEST

START_TEST(block_size_is_where_the_map_is) {
    static const unsigned said[] = {2048, 0, 512, 3, 513, 65535, 32768};

    put_driver_map(said[_i]);
    put_map(512);
    check_map(512);
    memset(bytes, 0, 512); /* no driver map at all */
    check_map(512);
}
END_TEST

START_TEST(hybrid_cd_has_both_maps) {
    put_driver_map(2048);
    put_map(512);
    put_map(2048); /* over the small map's fourth entry */
    check_map(2048);
}
END_TEST

START_TEST(an_mbr_counts_first) {
    put_driver_map(512);
    put_map(512);
    bytes[446 + 4] = 0x0c;
    bytes[446 + 8] = 64;
    bytes[446 + 12] = 64;
    bytes[510] = 0x55;
    bytes[511] = 0xaa;
    ck_assert_int_eq(read_table(), 0);
    ck_assert_int_eq(table.kind, PARTITION_MBR);
    memset(bytes + 446, 0, 64); /* without a partition it is none */
    check_map(512);
}
END_TEST

START_TEST(no_map) {
    put_driver_map(512);
    ck_assert_int_eq(read_table(), 0);
    ck_assert_int_eq(table.kind, PARTITION_NONE);
    put_entry(512, 1, 4, 1, 15, "Apple_HFS", ""); /* the map itself must come first */
    ck_assert_int_eq(read_table(), 0);
    ck_assert_int_eq(table.kind, PARTITION_NONE);
    put_entry(512, 1, 4, 2, 15, "Apple_partition_map", "");
    ck_assert_int_eq(read_table(), 0);
    ck_assert_int_eq(table.kind, PARTITION_NONE);
}
END_TEST

START_TEST(hostile_fields) {
    static const uint32_t counts[] = {0, 4097, 0x7fffffff, 0xffffffff};

    put_driver_map(512);
    put_map(512);
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        put32(512 + 4, counts[i]);
        ck_assert_int_eq(read_table(), -EUCLEAN);
        ck_assert_str_eq(corruption.field, "pmMapBlkCnt");
    }
    put32(512 + 4, 4096); /* possible: the map ends where the entries do */
    check_map(512);
    put32(512 + 4, 4);
    put32(3 * 512 + 8, 0xffffffff);
    ck_assert_int_eq(read_table(), -EUCLEAN);
    ck_assert_msg(strstr(corruption.text, "beyond the end") != NULL, "%s", corruption.text);
    put32(3 * 512 + 8, 32);
    put32(3 * 512 + 12, 0xffffffff);
    ck_assert_int_eq(read_table(), -EUCLEAN);
    put32(3 * 512 + 12, 0); /* nothing there */
    ck_assert_int_eq(read_table(), 0);
    ck_assert_uint_eq(table.count, 2);
}
END_TEST

START_TEST(names_without_end) {
    put_driver_map(512);
    put_map(512);
    memset(bytes + 3 * 512 + 16, 'n', 32);
    memset(bytes + 3 * 512 + 48, 't', 32);
    ck_assert_int_eq(read_table(), 0);
    ck_assert_uint_eq(strlen(table.entries[2].name), 32);
    memset(bytes + 3 * 512 + 16, 0xa5, 32); /* the longest in UTF-8 */
    ck_assert_int_eq(read_table(), 0);
    ck_assert_uint_eq(strlen(table.entries[2].name), 3 * 32);
    ck_assert_uint_eq(strlen(table.entries[2].type), 32);
}
END_TEST

START_TEST(more_partitions_than_room) {
    put_driver_map(512);
    put_entry(512, 1, 200, 1, 200, "Apple_partition_map", "");
    for (unsigned i = 2; i <= 200; i++) {
        put_entry(512, i, 200, 300 + i, 1, "Apple_HFS", "");
    }
    ck_assert_int_eq(read_table(), -EUCLEAN);
    ck_assert_str_eq(corruption.field, "count");
    for (unsigned i = 2; i <= 200; i++) {
        put_entry(512, i, 200, 300 + i, 1, i % 2 == 0 ? "Apple_Free" : "Apple_HFS", "");
    }
    ck_assert_int_eq(read_table(), 0);
    ck_assert_uint_eq(table.count, 100);
}
END_TEST

START_TEST(random_damage) {
    uint32_t state = 4711;

    for (unsigned round = 0; round < 20000; round++) {
        memset(bytes, 0, 8 * 2048);
        put_driver_map(round % 2 == 0 ? 512 : 2048);
        put_map(round % 2 == 0 ? 512 : 2048);
        for (unsigned i = 0; i < 4; i++) {
            state = state * 1664525 + 1013904223;
            bytes[(state >> 8) % (5 * 2048) / 512 * 512 + (state >> 24) % 96] ^=
                (uint8_t)(1u << (state & 7));
        }
        (void)read_table(); /* must come back, with whatever it says */
        for (unsigned i = 0; i < (table.count <= PARTITION_MAX ? table.count : 0); i++) {
            ck_assert_msg(table.entries[i].start + table.entries[i].length <= IMAGE_SIZE,
                          "round %u", round);
        }
    }
}
END_TEST

/* ---- containers ---- */

#define FLOPPY_SIZE (400u * 1024u)

static uint32_t sum_of(const uint8_t *data, size_t size) {
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i += 2) {
        sum += (uint32_t)(data[i] << 8 | data[i + 1]);
        sum = (sum & 1) != 0 ? sum >> 1 | 0x80000000u : sum >> 1;
    }
    return sum;
}

static void put_mfs(size_t at) {
    put16(at + 1024, 0xd2d7);
    put16(at + 1024 + 18, 391);
    put32(at + 1024 + 20, 1024);
    memcpy(bytes + at + 1024 + 37, "Old \xa5 disk", 10);
    bytes[at + 1024 + 36] = 10;
}

static void put_diskcopy(size_t at) {
    bytes[at] = 4;
    memcpy(bytes + at + 1, "Disk", 4);
    put32(at + 64, FLOPPY_SIZE);
    put32(at + 68, FLOPPY_SIZE / 512 * 12);
    put_mfs(at + 84);
    put32(at + 72, sum_of(bytes + at + 84, FLOPPY_SIZE));
    put16(at + 82, 0x0100);
}

static unsigned crc_of(const uint8_t *at, size_t length) {
    unsigned crc = 0;

    for (size_t i = 0; i < length * 8; i++) {
        unsigned bit = (unsigned)(at[i / 8] >> (7 - i % 8)) & 1;
        unsigned top = (crc >> 15 ^ bit) & 1;

        crc = (crc << 1 & 0xffff) ^ (top != 0 ? 0x1021 : 0);
    }
    return crc;
}

static void put_macbinary(uint32_t data_size) {
    bytes[1] = 5;
    memcpy(bytes + 2, "image", 5);
    put32(83, data_size);
    bytes[122] = 129;
    bytes[123] = 129;
    put16(124, crc_of(bytes, 124));
}

static ImageContainer container_of_bytes(void) {
    BlockDevice *device = NULL;
    ImageContainer container;

    memset(&container, 0x5a, sizeof(container));
    ck_assert_int_eq(block_memory_new(IMAGE_SIZE, 512, bytes, &device), 0);
    ck_assert_int_eq(container_read(device, &container), 0);
    (void)block_free(device);
    return container;
}

static void check_container(ImageContainerKind kind, uint64_t start, uint64_t length) {
    ImageContainer container = container_of_bytes();

    ck_assert_int_eq(container.kind, kind);
    ck_assert_uint_eq(container.start, start);
    ck_assert_uint_eq(container.length, length);
}

START_TEST(diskcopy_files) {
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put_diskcopy(0);
    check_container(CONTAINER_DISKCOPY, 84, FLOPPY_SIZE);
    ck_assert_int_eq(container_of_bytes().checksum, CHECKSUM_GOOD);
    bytes[84 + 5000] ^= 1;
    ck_assert_int_eq(container_of_bytes().checksum, CHECKSUM_BAD);
    put32(68, 0);
    check_container(CONTAINER_DISKCOPY, 84, FLOPPY_SIZE);
    put32(68, 1); /* tags for a part of the sectors */
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put32(68, 0);
    put32(64, FLOPPY_SIZE + 1);
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put32(64, 0xfffffe00);
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put32(64, 0);
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put32(64, FLOPPY_SIZE);
    bytes[0] = 64;
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
}
END_TEST

START_TEST(macbinary_files) {
    put_mfs(128);
    put_macbinary(FLOPPY_SIZE);
    check_container(CONTAINER_MACBINARY, 128, FLOPPY_SIZE);
    bytes[122] = 0; /* the first version has no checksum: what it holds decides */
    put16(124, 0);
    check_container(CONTAINER_MACBINARY, 128, FLOPPY_SIZE);
    put16(128 + 1024, 0);
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put_macbinary(FLOPPY_SIZE);
    check_container(CONTAINER_MACBINARY, 128, FLOPPY_SIZE);
    put_macbinary(IMAGE_SIZE);
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put_macbinary(0xffffffff);
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
    put_macbinary(100);
    check_container(CONTAINER_NONE, 0, IMAGE_SIZE);
}
END_TEST

START_TEST(diskcopy_in_macbinary) {
    put_diskcopy(128);
    put_macbinary(84 + FLOPPY_SIZE + FLOPPY_SIZE / 512 * 12);
    check_container(CONTAINER_MACBINARY_DISKCOPY, 128 + 84, FLOPPY_SIZE);
}
END_TEST

/* ---- probing ---- */

static ImageProbe *probe_bytes(void) {
    ImageProbe *probe = calloc(1, sizeof(*probe));
    char text[256] = "";
    int fd = memfd_create("image", MFD_CLOEXEC);

    ck_assert_int_eq(pwrite(fd, bytes, IMAGE_SIZE, 0), IMAGE_SIZE);
    ck_assert_msg(partition_probe_isolated(fd, probe, text) == 0, "%s", text);
    (void)close(fd);
    return probe;
}

START_TEST(probing_a_diskcopy_file) {
    ImageProbe *probe;

    put_diskcopy(0);
    probe = probe_bytes();
    ck_assert_int_eq(probe->container.kind, CONTAINER_DISKCOPY);
    ck_assert_int_eq(probe->container.checksum, CHECKSUM_GOOD);
    ck_assert_int_eq(probe->table.kind, PARTITION_NONE);
    ck_assert_str_eq(probe->whole.type, "mfs");
    ck_assert_str_eq(probe->whole.label, "Old • disk");
    ck_assert_uint_eq(probe->whole.start, 84);
    ck_assert_uint_eq(probe->whole.length, FLOPPY_SIZE);
    free(probe);
}
END_TEST

START_TEST(probing_partitions_in_macbinary) {
    ImageProbe *probe;
    size_t disk = 128;

    put_map(512);
    put_driver_map(512);
    memmove(bytes + disk, bytes, 8 * 512);
    memset(bytes, 0, disk);
    put_mfs(disk + 32 * 512);
    put_macbinary(IMAGE_SIZE - 512);
    probe = probe_bytes();
    ck_assert_int_eq(probe->container.kind, CONTAINER_MACBINARY);
    ck_assert_int_eq(probe->table.kind, PARTITION_APM);
    ck_assert_uint_eq(probe->table.count, 3);
    ck_assert_uint_eq(probe->table.entries[2].start, disk + 32 * 512);
    ck_assert_str_eq(probe->volumes[2].type, "mfs");
    ck_assert_str_eq(probe->volumes[1].type, "");
    free(probe);
}
END_TEST

/* An HFS volume as far as libblkid looks, and one that wraps HFS+. */
START_TEST(probing_hfs) {
    ImageProbe *probe;

    put16(1024, 0x4244);
    put32(1024 + 20, 512);
    bytes[1024 + 36] = 3;
    memcpy(bytes + 1024 + 37, "M\x8e\x01", 3);
    probe = probe_bytes();
    ck_assert_str_eq(probe->whole.type, "hfs");
    ck_assert_str_eq(probe->whole.label, "Mé\ufffd");
    free(probe);
    put16(1024 + 28, 8); /* allocation blocks from sector 8 on */
    put16(1024 + 124, 0x482b);
    put16(1024 + 128, 100);
    put16(8 * 512 + 1024, 0x482b);
    put32(8 * 512 + 1024 + 40, 4096);
    probe = probe_bytes();
    ck_assert_str_eq(probe->whole.type, "hfsplus");
    ck_assert_str_eq(probe->whole.subtype, "HFS+ in an HFS wrapper");
    free(probe);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("apm");
    TCase *tcase = tcase_create("apm");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, maps_of_both_block_sizes, 0, 2);
    tcase_add_loop_test(tcase, block_size_is_where_the_map_is, 0, 7);
    tcase_add_test(tcase, hybrid_cd_has_both_maps);
    tcase_add_test(tcase, an_mbr_counts_first);
    tcase_add_test(tcase, no_map);
    tcase_add_test(tcase, hostile_fields);
    tcase_add_test(tcase, names_without_end);
    tcase_add_test(tcase, more_partitions_than_room);
    tcase_add_test(tcase, random_damage);
    tcase_add_test(tcase, diskcopy_files);
    tcase_add_test(tcase, macbinary_files);
    tcase_add_test(tcase, diskcopy_in_macbinary);
    tcase_add_test(tcase, probing_a_diskcopy_file);
    tcase_add_test(tcase, probing_partitions_in_macbinary);
    tcase_add_test(tcase, probing_hfs);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
