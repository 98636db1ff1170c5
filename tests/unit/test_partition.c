/* SPDX-License-Identifier: MIT */
/*
 * Partition tables: those of sfdisk and sgdisk, hostile ones built by hand
 * (field by field, and random damage), boot sectors that only look like
 * tables, and probing in the isolated child. Cases that need a tool that is
 * not installed say so and pass.
 */
#include "../../src/block/partition_internal.h"
#include "berth/text.h"
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <zlib.h>

#define MIB (1024u * 1024u)

/* ---- images from tools ---- */

static bool have_tool(const char *name) {
    char command[256];

    (void)snprintf(command, sizeof(command),
                   "PATH=$PATH:/usr/sbin:/sbin command -v %s >/dev/null 2>&1", name);
    if (system(command) == 0) {
        return true;
    }
    (void)printf("skipped: %s is not installed\n", name);
    return false;
}

/* Runs `command` with $I naming a new sparse image; returns its descriptor. */
static int tool_image(uint64_t size, const char *command) {
    char path[] = "/tmp/berth-test-partition-XXXXXX.img"; /* sfdisk minds a digit at the end */
    static char line[2048];
    int fd = mkstemps(path, 4);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    (void)snprintf(line, sizeof(line), "PATH=$PATH:/usr/sbin:/sbin; I=%s; { %s ; } >/dev/null 2>&1",
                   path, command);
    ck_assert_msg(system(line) == 0, "failed: %s", line);
    (void)close(fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(unlink(path), 0);
    return fd;
}

static BlockDevice *open_image(int fd) {
    BlockOpenConfig config = {.fd = fd, .readonly = true};
    BlockDevice *device = NULL;

    ck_assert_int_eq(block_posix_new(&config, &device), 0);
    return device;
}

/* ---- images by hand ---- */

typedef struct Image {
    uint8_t *bytes;
    size_t size;
    uint32_t sector;
} Image;

static Image *image_new(size_t size, uint32_t sector) {
    Image *image = calloc(1, sizeof(*image));

    *image = (Image){.bytes = calloc(1, size), .size = size, .sector = sector};
    return image;
}

static void image_free(Image *image) {
    free(image->bytes);
    free(image);
}

static PartitionTable table;
static Corruption corruption;

static int image_read(const Image *image) {
    BlockDevice *device = NULL;
    int r;

    memset(&table, 0x5a, sizeof(table));
    memset(&corruption, 0, sizeof(corruption));
    ck_assert_int_eq(block_memory_new(image->size, 512, image->bytes, &device), 0);
    r = partition_read(device, &table, &corruption);
    (void)block_free(device);
    return r;
}

static void put_le(uint8_t *at, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static void put_mbr(Image *image, uint64_t sector, unsigned slot, uint8_t type, uint32_t start,
                    uint32_t sectors) {
    uint8_t *at = image->bytes + sector * 512;
    uint8_t *entry = at + 446 + (size_t)slot * 16;

    entry[4] = type;
    put_le(entry + 8, start, 4);
    put_le(entry + 12, sectors, 4);
    at[510] = 0x55;
    at[511] = 0xaa;
}

#define GPT_ENTRIES 128u

static uint64_t gpt_last(const Image *image) {
    return image->size / image->sector - 1;
}

static uint64_t gpt_table_sectors(const Image *image) {
    return GPT_ENTRIES * 128 / image->sector;
}

static uint8_t *gpt_header(Image *image, bool backup) {
    return image->bytes + (backup ? gpt_last(image) : 1) * image->sector;
}

static uint8_t *gpt_entry(Image *image, bool backup, unsigned slot) {
    uint64_t lba = backup ? gpt_last(image) - gpt_table_sectors(image) : 2;

    return image->bytes + lba * image->sector + (size_t)slot * 128;
}

/* Makes the checksums of a copy right, for entries where the builder put them. */
static void gpt_seal(Image *image, bool backup) {
    uint8_t *header = gpt_header(image, backup);

    put_le(header + 88, crc32(0, gpt_entry(image, backup, 0), GPT_ENTRIES * 128), 4);
    put_le(header + 16, 0, 4);
    put_le(header + 16, crc32(0, header, 92), 4);
}

static void gpt_put(Image *image, unsigned slot, uint64_t first, uint64_t last, const char *name) {
    for (int backup = 0; backup < 2; backup++) {
        uint8_t *entry = gpt_entry(image, backup, slot);

        memset(entry, 0, 128);
        memset(entry, 0xc0, 16);
        memset(entry + 16, (int)slot + 1, 16);
        put_le(entry + 32, first, 8);
        put_le(entry + 40, last, 8);
        for (size_t i = 0; name[i] != '\0'; i++) {
            entry[56 + 2 * i] = (uint8_t)name[i];
        }
        gpt_seal(image, backup);
    }
}

static Image *gpt_new(size_t size, uint32_t sector) {
    Image *image = image_new(size, sector);

    put_mbr(image, 0, 0, 0xee, 1, 0xffffffff);
    for (int backup = 0; backup < 2; backup++) {
        uint8_t *header = gpt_header(image, backup);

        memcpy(header, "EFI PART", 8);
        put_le(header + 8, 0x10000, 4);
        put_le(header + 12, 92, 4);
        put_le(header + 24, backup ? gpt_last(image) : 1, 8);
        put_le(header + 32, backup ? 1 : gpt_last(image), 8);
        put_le(header + 40, 2 + gpt_table_sectors(image), 8);
        put_le(header + 48, gpt_last(image) - gpt_table_sectors(image) - 1, 8);
        put_le(header + 72, backup ? gpt_last(image) - gpt_table_sectors(image) : 2, 8);
        put_le(header + 80, GPT_ENTRIES, 4);
        put_le(header + 84, 128, 4);
        gpt_seal(image, backup);
    }
    return image;
}

/* ---- no table ---- */

START_TEST(images_without_a_table) {
    static const size_t sizes[] = {0, 1, 511, 512, 513, 1024, 65536};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        Image *image = image_new(sizes[i], 512);

        ck_assert_int_eq(image_read(image), 0);
        ck_assert_int_eq(table.kind, PARTITION_NONE);
        ck_assert_uint_eq(table.count, 0);
        if (sizes[i] >= 512) { /* the signature alone is not a table */
            image->bytes[510] = 0x55;
            image->bytes[511] = 0xaa;
            ck_assert_int_eq(image_read(image), 0);
            ck_assert_int_eq(table.kind, PARTITION_NONE);
        }
        image_free(image);
    }
}
END_TEST

START_TEST(boot_sectors_are_not_tables) {
    Image *image = image_new(MIB, 512);
    static const uint8_t bpb[] = {0, 2, 4, 1, 0, 2, 0, 2, 0, 8, 0xf8, 2, 0};

    put_mbr(image, 0, 0, 0x0c, 8, 100);
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_int_eq(table.kind, PARTITION_MBR);
    memcpy(image->bytes + 11, bpb, sizeof(bpb));
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_msg(table.kind == PARTITION_NONE, "a FAT boot sector was taken for an MBR");
    image->bytes[13] = 3; /* no cluster size */
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_int_eq(table.kind, PARTITION_MBR);
    memcpy(image->bytes + 3, "EXFAT   ", 8);
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_int_eq(table.kind, PARTITION_NONE);
    memcpy(image->bytes + 3, "NTFS    ", 8);
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_int_eq(table.kind, PARTITION_NONE);
    memset(image->bytes + 3, 0, 8);
    image->bytes[446 + 16] = 0x41; /* a status that no table has, in an unused slot */
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_int_eq(table.kind, PARTITION_NONE);
    image_free(image);
}
END_TEST

START_TEST(superfloppies_by_mkfs_fat) {
    static const struct {
        const char *command, *subtype;
        uint64_t size;
    } cases[] = {
        {"mkfs.fat -F 12 -n FLOPPY -i 1234abcd $I", "FAT12", 1440 * 1024},
        {"mkfs.fat -F 16 -n FLOPPY -i 1234abcd $I", "FAT16", 20 * MIB},
        {"mkfs.fat -F 32 -n FLOPPY -i 1234abcd $I", "FAT32", 64 * MIB},
        {"mkfs.fat -F 32 -S 4096 -n FLOPPY -i 1234abcd $I", "FAT32", 512 * MIB},
    };

    if (!have_tool("mkfs.fat")) {
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int fd = tool_image(cases[i].size, cases[i].command);
        ImageProbe *probe = calloc(1, sizeof(*probe));
        char text[256];

        ck_assert_int_eq(lseek(fd, 77, SEEK_SET), 77);
        ck_assert_msg(partition_probe_isolated(fd, probe, text) == 0, "%s: %s", cases[i].command,
                      text);
        ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 77);
        ck_assert_int_eq(probe->table.kind, PARTITION_NONE);
        ck_assert_uint_eq(probe->size, cases[i].size);
        ck_assert_uint_eq(probe->whole.length, cases[i].size);
        ck_assert_str_eq(probe->whole.type, "fat");
        ck_assert_str_eq(probe->whole.subtype, cases[i].subtype);
        ck_assert_str_eq(probe->whole.label, "FLOPPY");
        ck_assert_str_eq(probe->whole.uuid, "1234-ABCD");
        free(probe);
        (void)close(fd);
    }
}
END_TEST

/* ---- MBR ---- */

START_TEST(mbr_by_sfdisk) {
    static const struct {
        unsigned number;
        uint64_t start, sectors;
        const char *type, *uuid;
    } expected[] = {
        {1, 2048, 8192, "0c", "deadbeef-01"},   {3, 10240, 2048, "83", "deadbeef-03"},
        {5, 16384, 4096, "06", "deadbeef-05"},  {6, 22528, 4096, "83", "deadbeef-06"},
        {7, 30720, 10240, "0b", "deadbeef-07"},
    };
    PartitionTable *read = calloc(1, sizeof(*read));
    BlockDevice *device;
    int fd;

    if (!have_tool("sfdisk")) {
        return;
    }
    fd = tool_image(32 * MIB, "printf 'label: dos\\nlabel-id: 0xdeadbeef\\n"
                              "${I}1 : start=2048, size=8192, type=c\\n"
                              "${I}2 : start=12288, size=53248, type=5\\n"
                              "${I}3 : start=10240, size=2048, type=83\\n"
                              "${I}5 : start=16384, size=4096, type=6\\n"
                              "${I}6 : start=22528, size=4096, type=83\\n"
                              "${I}7 : start=30720, size=10240, type=b\\n' | "
                              "sed \"s#[$]{I}#$I#\" | sfdisk --no-reread --no-tell-kernel $I");
    device = open_image(fd);
    ck_assert_msg(partition_read(device, read, &corruption) == 0, "%s", corruption.text);
    ck_assert_int_eq(read->kind, PARTITION_MBR);
    ck_assert_uint_eq(read->count, ARRAY_SIZE(expected));
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        ck_assert_uint_eq(read->entries[i].number, expected[i].number);
        ck_assert_uint_eq(read->entries[i].start, expected[i].start * 512);
        ck_assert_uint_eq(read->entries[i].length, expected[i].sectors * 512);
        ck_assert_str_eq(read->entries[i].type, expected[i].type);
        ck_assert_str_eq(read->entries[i].uuid, expected[i].uuid);
        ck_assert_str_eq(read->entries[i].name, "");
    }
    ck_assert_ptr_eq(partition_find(read, "6"), &read->entries[3]);
    ck_assert_ptr_eq(partition_find(read, "p7"), &read->entries[4]);
    ck_assert_ptr_eq(partition_find(read, "DEADBEEF-03"), &read->entries[1]);
    ck_assert_ptr_null(partition_find(read, "2"));
    ck_assert_ptr_null(partition_find(read, ""));
    ck_assert_ptr_null(partition_find(read, "p"));
    ck_assert_ptr_null(partition_find(read, "1x"));
    ck_assert_ptr_null(partition_find(read, "18446744073709551617"));
    (void)block_free(device);
    (void)close(fd);
    free(read);
}
END_TEST

typedef struct Row {
    uint64_t sector;
    unsigned slot;
    uint8_t type;
    uint32_t start, sectors;
} Row;

/* Device of 2048 sectors; rows up to the first with sectors == 0. */
static const struct {
    const char *name;
    Row rows[6];
} broken_mbrs[] = {
    {"beyond the end", {{0, 0, 0x83, 1, 2048}}},
    {"starts beyond the end", {{0, 0, 0x83, 0xffffffff, 0xffffffff}}},
    {"overlap", {{0, 0, 0x83, 10, 100}, {0, 1, 0x83, 109, 100}}},
    {"record is itself", {{0, 0, 5, 100, 1000}, {100, 0, 6, 1, 10}, {100, 1, 5, 0, 10}}},
    {"two records in a loop",
     {{0, 0, 5, 100, 1000},
      {100, 0, 6, 1, 10},
      {100, 1, 5, 50, 10},
      {150, 0, 6, 1, 10},
      {150, 1, 5, 0, 10}}},
    {"loop without partitions",
     {{0, 0, 5, 100, 1000}, {100, 1, 5, 50, 10}, {150, 1, 0x0f, 50, 10}}},
    {"record outside the extended partition",
     {{0, 0, 5, 100, 1000}, {100, 0, 6, 1, 10}, {100, 1, 5, 1000, 10}}},
    {"record beyond the device",
     {{0, 0, 5, 100, 0x7fffffff}, {100, 0, 6, 1, 10}, {100, 1, 5, 0x10000000, 10}}},
    {"record without signature", {{0, 0, 5, 100, 1000}}},
    {"logical outside the extended one", {{0, 0, 5, 100, 1000}, {100, 0, 6, 1, 1000}}},
    {"logical wraps around", {{0, 0, 5, 100, 1000}, {100, 0, 6, 0xffffffff, 0xffffffff}}},
    {"logical over a primary", {{0, 0, 5, 100, 1000}, {0, 1, 0x83, 110, 50}, {100, 0, 6, 1, 100}}},
    {"two extended in each other", {{0, 0, 5, 100, 1000}, {0, 1, 5, 100, 1000}, {100, 0, 6, 1, 9}}},
};

START_TEST(broken_mbr_is_reported) {
    Image *image = image_new(MIB, 512);

    for (const Row *row = broken_mbrs[_i].rows; row->sectors != 0; row++) {
        put_mbr(image, row->sector, row->slot, row->type, row->start, row->sectors);
    }
    ck_assert_msg(image_read(image) == -EUCLEAN, "%s", broken_mbrs[_i].name);
    ck_assert_msg(corruption.structure != NULL && corruption.text[0] != '\0', "%s",
                  broken_mbrs[_i].name);
    ck_assert_uint_eq(table.entries[0].number, 0x5a5a5a5a); /* untouched on failure */
    image_free(image);
}
END_TEST

START_TEST(long_chains_are_bounded) {
    Image *image = image_new(MIB, 512);

    put_mbr(image, 0, 0, 5, 100, 1500);
    for (uint32_t i = 0; i < 300; i++) {
        put_mbr(image, 100 + i * 4, 0, 6, 1, 2);
        put_mbr(image, 100 + i * 4, 1, 5, i == 127 ? 0 : i * 4 + 4, i == 127 ? 0 : 4);
    }
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_uint_eq(table.count, 128);
    ck_assert_uint_eq(table.entries[127].number, 132);
    ck_assert_uint_eq(table.entries[127].start, (100 + 127 * 4 + 1) * 512);
    put_mbr(image, 100 + 127 * 4, 1, 5, 128 * 4, 4);
    ck_assert_int_eq(image_read(image), -EUCLEAN);
    image_free(image);
}
END_TEST

/* ---- GPT ---- */

START_TEST(gpt_by_sgdisk) {
    PartitionTable *read = calloc(1, sizeof(*read));
    BlockDevice *device;
    int fd;

    if (!have_tool("sgdisk")) {
        return;
    }
    fd = tool_image(32 * MIB, "sgdisk -n 1:2048:10239 -t 1:ef00 -c '1:EFI System' "
                              "-u 1:01234567-89AB-CDEF-0123-456789ABCDEF "
                              "-n 4:10240:20479 -t 4:8300 -c '4:daten' $I");
    device = open_image(fd);
    ck_assert_msg(partition_read(device, read, &corruption) == 0, "%s", corruption.text);
    ck_assert_int_eq(read->kind, PARTITION_GPT);
    ck_assert_uint_eq(read->sector_size, 512);
    ck_assert_uint_eq(read->count, 2);
    ck_assert_uint_eq(read->entries[0].start, 2048 * 512);
    ck_assert_uint_eq(read->entries[0].length, 8192 * 512);
    ck_assert_str_eq(read->entries[0].type, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    ck_assert_str_eq(read->entries[0].uuid, "01234567-89ab-cdef-0123-456789abcdef");
    ck_assert_str_eq(read->entries[0].name, "EFI System");
    ck_assert_uint_eq(read->entries[1].number, 4);
    ck_assert_ptr_eq(partition_find(read, "4"), &read->entries[1]);
    ck_assert_ptr_eq(partition_find(read, "p1"), &read->entries[0]);
    ck_assert_ptr_eq(partition_find(read, "daten"), &read->entries[1]);
    ck_assert_ptr_eq(partition_find(read, "01234567-89AB-CDEF-0123-456789ABCDEF"),
                     &read->entries[0]);
    (void)block_free(device);
    (void)close(fd);
    free(read);
}
END_TEST

START_TEST(gpt_of_both_sector_sizes_and_copies) {
    static const uint32_t sectors[] = {512, 4096};

    for (size_t i = 0; i < ARRAY_SIZE(sectors); i++) {
        Image *image = gpt_new(4 * MIB, sectors[i]);

        gpt_put(image, 2, 100, 199, "home");
        ck_assert_msg(image_read(image) == 0, "%s", corruption.text);
        ck_assert_int_eq(table.kind, PARTITION_GPT);
        ck_assert_uint_eq(table.sector_size, sectors[i]);
        ck_assert_uint_eq(table.count, 1);
        ck_assert_uint_eq(table.entries[0].number, 3);
        ck_assert_uint_eq(table.entries[0].start, 100 * sectors[i]);
        ck_assert_uint_eq(table.entries[0].length, 100 * sectors[i]);
        ck_assert_str_eq(table.entries[0].name, "home");

        gpt_entry(image, false, 2)[33] ^= 1; /* the first copy's entries */
        ck_assert_int_eq(image_read(image), 0);
        ck_assert_uint_eq(table.entries[0].start, 100 * sectors[i]);
        memset(gpt_header(image, false), 0, 512); /* no first copy at all */
        ck_assert_int_eq(image_read(image), 0);
        ck_assert_uint_eq(table.count, 1);
        gpt_header(image, true)[41] ^= 1; /* nor a second */
        ck_assert_int_eq(image_read(image), -EUCLEAN);
        ck_assert_str_eq(corruption.field, "HeaderCRC32");
        memset(gpt_header(image, true), 0, 512);
        ck_assert_int_eq(image_read(image), -EUCLEAN);
        ck_assert_str_eq(corruption.field, "signature");
        image_free(image);
    }
}
END_TEST

static const struct {
    size_t offset;
    unsigned bytes;
    uint64_t value;
    const char *field;
} broken_headers[] = {
    {12, 4, 91, "HeaderSize"},
    {12, 4, 513, "HeaderSize"},
    {12, 4, 0xffffffff, "HeaderSize"},
    {24, 8, 2, "MyLBA"},
    {40, 8, UINT64_MAX, "LastUsableLBA"},
    {48, 8, 8192, "LastUsableLBA"},
    {48, 8, UINT64_MAX, "LastUsableLBA"},
    {72, 8, 0, "PartitionEntryLBA"},
    {72, 8, 8190, "PartitionEntryLBA"},
    {72, 8, UINT64_MAX, "PartitionEntryLBA"},
    {80, 4, 0, "NumberOfPartitionEntries"},
    {80, 4, 0xffffffff, "NumberOfPartitionEntries"},
    {80, 4, 0x2000000, "NumberOfPartitionEntries"},
    {84, 4, 0, "SizeOfPartitionEntry"},
    {84, 4, 64, "SizeOfPartitionEntry"},
    {84, 4, 192, "SizeOfPartitionEntry"},
    {84, 4, 0x80000000, "SizeOfPartitionEntry"},
    {80, 4, 127, "PartitionEntryArrayCRC32"},
};

START_TEST(gpt_headers_may_lie) {
    Image *image = gpt_new(4 * MIB, 512);

    gpt_put(image, 0, 100, 199, "x");
    for (int backup = 0; backup < 2; backup++) {
        put_le(gpt_header(image, backup) + broken_headers[_i].offset, broken_headers[_i].value,
               broken_headers[_i].bytes);
        gpt_seal(image, backup);
    }
    ck_assert_int_eq(image_read(image), -EUCLEAN);
    ck_assert_msg(strcmp(corruption.field, broken_headers[_i].field) == 0, "%s instead of %s",
                  corruption.field, broken_headers[_i].field);
    image_free(image);
}
END_TEST

START_TEST(gpt_entries_may_lie) {
    static const struct {
        uint64_t first, last;
    } cases[] = {
        {199, 100},        {33, 100},       {1, 1}, {8000, 8192}, {100, UINT64_MAX},
        {UINT64_MAX, 100}, {0, UINT64_MAX}, {0, 0}, {8192, 8192}, {8159, 8159},
        {250, 300},        {150, 220},      {0, 5},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Image *image = gpt_new(4 * MIB, 512);

        gpt_put(image, 0, 200, 299, "good");
        gpt_put(image, 1, cases[i].first, cases[i].last, "bad");
        ck_assert_msg(image_read(image) == -EUCLEAN, "case %zu", i);
        image_free(image);
    }
}
END_TEST

START_TEST(gpt_names_become_text) {
    Image *image = gpt_new(4 * MIB, 512);

    gpt_put(image, 0, 100, 199, "012345678901234567890123456789012345");
    for (int backup = 0; backup < 2; backup++) {
        uint8_t *name = gpt_entry(image, backup, 0) + 56;

        put_le(name, 0xd83d, 2); /* a pair */
        put_le(name + 2, 0xdcbe, 2);
        put_le(name + 4, 0xdc00, 2); /* half a pair */
        put_le(name + 6, 27, 2);     /* an escape character */
        put_le(name + 70, 0xd800, 2);
        gpt_seal(image, backup);
    }
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_str_eq(table.entries[0].name, "\xf0\x9f\x92\xbe\xef\xbf\xbd\xef\xbf\xbd"
                                            "4567890123456789012345678901234"
                                            "\xef\xbf\xbd");
    memset(gpt_entry(image, false, 0) + 56, 0x4e, 72); /* 36 units of three bytes */
    gpt_seal(image, false);
    ck_assert_int_eq(image_read(image), 0);
    ck_assert_uint_eq(strlen(table.entries[0].name), 108);
    image_free(image);
}
END_TEST

/* Whatever is read from a damaged image: an error, or ranges on the device. */
START_TEST(damaged_tables_never_escape) {
    uint64_t state = 88172645463325252u;

    for (int kind = 0; kind < 3; kind++) {
        Image *image = kind == 0 ? image_new(MIB, 512) : gpt_new(MIB, kind == 1 ? 512 : 4096);
        uint8_t *good = malloc(MIB);

        if (kind == 0) {
            put_mbr(image, 0, 0, 5, 100, 1500);
            put_mbr(image, 0, 1, 0x83, 1700, 100);
            for (uint32_t i = 0; i < 20; i++) {
                put_mbr(image, 100 + i * 4, 0, 6, 1, 2);
                put_mbr(image, 100 + i * 4, 1, 5, i * 4 + 4, i == 19 ? 0 : 4);
            }
        } else {
            gpt_put(image, 0, 100, 119, "a");
            gpt_put(image, 5, 130, 140, "b");
        }
        memcpy(good, image->bytes, MIB);
        for (unsigned round = 0; round < 3000; round++) {
            memcpy(image->bytes, good, 65536);
            for (unsigned i = 0; i < 1 + round % 4; i++) {
                size_t at;

                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                at = kind == 0 ? (state % 24) * 512 % 12288 : (state % 3) * image->sector;
                at += kind == 0 && at > 0 ? 99 * 512 : 0;
                image->bytes[at + (kind == 0 ? 440 + (state >> 16) % 72 : (state >> 16) % 512)] =
                    (uint8_t)(state >> 40);
            }
            if (kind > 0) {
                gpt_seal(image, false);
            }
            if (image_read(image) == 0) {
                ck_assert_uint_le(table.count, PARTITION_MAX);
                for (unsigned i = 0; i < table.count; i++) {
                    const Partition *entry = &table.entries[i];

                    if (!range_inside(entry->start, entry->length, MIB) || entry->length == 0 ||
                        !utf8_valid(entry->name, strlen(entry->name))) {
                        ck_abort_msg("kind %d round %u entry %u", kind, round, i);
                    }
                }
            }
        }
        free(good);
        image_free(image);
    }
}
END_TEST

START_TEST(read_errors_are_not_corruption) {
    Image *image = gpt_new(MIB, 512);
    BlockDevice *memory = NULL, *device = NULL;
    BlockFaults faults = {.fail_read_at = 1};

    gpt_put(image, 0, 100, 199, "x");
    ck_assert_int_eq(block_memory_new(image->size, 512, image->bytes, &memory), 0);
    ck_assert_int_eq(block_fault_new(memory, &faults, &device), 0);
    ck_assert_int_eq(partition_read(device, &table, &corruption), -EIO);
    faults = (BlockFaults){.fail_read_at = 2}; /* the first header: the other copy serves */
    ck_assert_int_eq(partition_read(device, &table, &corruption), 0);
    faults = (BlockFaults){.fail_read_at = 2, .sticky = true};
    ck_assert_int_eq(partition_read(device, &table, &corruption), -EIO);
    (void)block_free(device);
    (void)block_free(memory);
    image_free(image);
}
END_TEST

/* ---- the isolated probe ---- */

START_TEST(probe_finds_volumes_in_partitions) {
    ImageProbe *probe = calloc(1, sizeof(*probe));
    char text[256];
    int fd;

    if (!have_tool("sgdisk") || !have_tool("mkfs.fat") || !have_tool("mke2fs")) {
        return;
    }
    fd = tool_image(64 * MIB,
                    "sgdisk -n 1:2048:43007 -n 2:43008:83967 -n 3:83968:92159 $I && "
                    "mkfs.fat --offset 2048 -F 16 -n STICK -i 0badcafe $I 20480 && "
                    "mke2fs -q -F -t ext4 -L größe -U 01234567-89ab-cdef-0123-456789abcdef "
                    "-E offset=22020096 $I 20480k");
    ck_assert_msg(partition_probe_isolated(fd, probe, text) == 0, "%s", text);
    ck_assert_int_eq(probe->table.kind, PARTITION_GPT);
    ck_assert_uint_eq(probe->table.count, 3);
    ck_assert_str_eq(probe->whole.type, "");
    ck_assert_str_eq(probe->volumes[0].type, "fat");
    ck_assert_str_eq(probe->volumes[0].subtype, "FAT16");
    ck_assert_str_eq(probe->volumes[0].label, "STICK");
    ck_assert_uint_eq(probe->volumes[0].start, 2048 * 512);
    ck_assert_str_eq(probe->volumes[1].type, "ext4");
    ck_assert_str_eq(probe->volumes[1].subtype, "ext4");
    ck_assert_str_eq(probe->volumes[1].label, "größe");
    ck_assert_str_eq(probe->volumes[1].uuid, "01234567-89ab-cdef-0123-456789abcdef");
    ck_assert_str_eq(probe->volumes[2].type, "");
    ck_assert_uint_eq(probe->volumes[2].length, 8192 * 512);
    (void)close(fd);
    free(probe);
}
END_TEST

START_TEST(probe_reports_what_is_wrong) {
    ImageProbe *probe = calloc(1, sizeof(*probe));
    Image *image = image_new(MIB, 512);
    char text[256] = "unset";
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(partition_probe_isolated(fd, probe, text), -ENOTBLK);
    ck_assert_str_ne(text, "");
    (void)close(fd);
    fd = tool_image(0, "true");
    ck_assert_int_eq(partition_probe_isolated(fd, probe, text), 0);
    ck_assert_str_eq(text, "");
    ck_assert_uint_eq(probe->size, 0);
    put_mbr(image, 0, 0, 0x83, 1, 2048);
    ck_assert_int_eq(pwrite(fd, image->bytes, MIB, 0), MIB);
    ck_assert_int_eq(partition_probe_isolated(fd, probe, text), -EUCLEAN);
    ck_assert_msg(strstr(text, "beyond the end") != NULL, "%s", text);
    /* No child is left behind. */
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    (void)close(fd);
    image_free(image);
    free(probe);
}
END_TEST

/* Children that lie, each in one way; a true answer is two partitions of MIB bytes. */
static int answer_with(int lie, uint64_t size, ImageProbe *ret) {
    ret->size = size;
    ret->container = (ImageContainer){.length = size};
    ret->table = (PartitionTable){.kind = PARTITION_MBR, .sector_size = 512, .count = 2};
    for (unsigned i = 0; i < 2; i++) {
        ret->table.entries[i] = (Partition){.number = i + 1, .start = i * MIB, .length = MIB};
        ret->volumes[i] = (VolumeProbe){.start = i * MIB, .length = MIB};
    }
    switch (lie) {
    case 1:
        ret->table.count = PARTITION_MAX + 1;
        break;
    case 2:
        ret->table.entries[1].length = MIB + 1;
        ret->volumes[1].length = MIB + 1;
        break;
    case 3:
        ret->table.entries[1].start = UINT64_MAX;
        ret->volumes[1].start = UINT64_MAX;
        break;
    case 4:
        memset(ret->table.entries[0].name, 'x', sizeof(ret->table.entries[0].name));
        break;
    case 5:
        memset(ret->volumes[1].label, 'x', sizeof(ret->volumes[1].label));
        break;
    case 6:
        memcpy(ret->volumes[0].label, "\xff\xfe", 3);
        break;
    case 7:
        ret->size++;
        break;
    case 8:
        ret->table.kind = (PartitionTableKind)9;
        break;
    case 9:
        ret->volumes[0].start++;
        break;
    case 10:
        ret->table.sector_size = 0;
        break;
    case 11:
        ret->table.kind = PARTITION_NONE;
        break;
    case 12:
        return 5;
    case 13:
        __builtin_trap();
    case 14:
        _exit(0);
    case 15:
        ret->container.length--;
        break;
    case 16:
        ret->container = (ImageContainer){.kind = CONTAINER_DISKCOPY, .start = 84, .length = size};
        break;
    case 17:
        ret->container.kind = (ImageContainerKind)9;
        break;
    default:
        break;
    }
    return 0;
}

#define LIES 18
static int lie_number;

static int lying_child(int fd, uint64_t size, ImageProbe *ret, char *text) {
    return answer_with(lie_number, size, ret);
}

START_TEST(probe_believes_no_lies) {
    ImageProbe *probe = calloc(1, sizeof(*probe));
    int fd = tool_image(2 * MIB, "true"), r;
    char text[256];

    lie_number = _i;
    probe->size = 77;
    r = probe_isolated(fd, lying_child, 30, probe, text);
    ck_assert_msg(r == (_i == 0 ? 0 : -EPROTO), "lie %d: %d, %s", _i, r, text);
    ck_assert_uint_eq(probe->size, _i == 0 ? 2 * MIB : 77);
    ck_assert_int_eq(text[0] == '\0', _i == 0);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    (void)close(fd);
    free(probe);
}
END_TEST

static int endless_child(int fd, uint64_t size, ImageProbe *ret, char *text) {
    for (volatile uint64_t i = 0;; i++) {
    }
    return 0;
}

START_TEST(probe_does_not_wait_for_ever) {
    ImageProbe *probe = calloc(1, sizeof(*probe));
    int fd = tool_image(2 * MIB, "true");
    char text[256];

    ck_assert_int_eq(probe_isolated(fd, endless_child, 1, probe, text), -ETIMEDOUT);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    (void)close(fd);
    free(probe);
}
END_TEST

/* Says in text what it should not have been able to do. */
static int curious_child(int fd, uint64_t size, ImageProbe *ret, char *text) {
    const char *done = NULL;

    if (open("/etc/passwd", O_RDONLY) >= 0) {
        done = "opened a file";
    } else if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0) {
        done = "made a socket";
    } else if (fork() >= 0) {
        done = "made a process";
    } else if (kill(getppid(), 0) == 0) {
        done = "reached its parent";
    } else if (pwrite(fd, "x", 1, 0) >= 0 || write(fd, "x", 1) >= 0) {
        done = "wrote to the image";
    } else if (malloc((size_t)1 << 30) != NULL) {
        done = "took a gigabyte";
    }
    if (done != NULL) {
        (void)snprintf(text, PROBE_TEXT, "%s", done);
        return -EUCLEAN;
    }
    return answer_with(0, size, ret);
}

START_TEST(probe_child_is_confined) {
    ImageProbe *probe = calloc(1, sizeof(*probe));
    int fd = tool_image(2 * MIB, "true");
    char text[256];

    ck_assert_msg(probe_isolated(fd, curious_child, 30, probe, text) == 0, "the child %s", text);
    (void)close(fd);
    free(probe);
}
END_TEST

static Suite *partition_suite(void) {
    Suite *suite = suite_create("partition");
    TCase *tables = tcase_create("tables");
    TCase *probe = tcase_create("probe");

    tcase_set_timeout(tables, 30);
    tcase_add_test(tables, images_without_a_table);
    tcase_add_test(tables, boot_sectors_are_not_tables);
    tcase_add_test(tables, mbr_by_sfdisk);
    tcase_add_loop_test(tables, broken_mbr_is_reported, 0, (int)ARRAY_SIZE(broken_mbrs));
    tcase_add_test(tables, long_chains_are_bounded);
    tcase_add_test(tables, gpt_by_sgdisk);
    tcase_add_test(tables, gpt_of_both_sector_sizes_and_copies);
    tcase_add_loop_test(tables, gpt_headers_may_lie, 0, (int)ARRAY_SIZE(broken_headers));
    tcase_add_test(tables, gpt_entries_may_lie);
    tcase_add_test(tables, gpt_names_become_text);
    tcase_add_test(tables, damaged_tables_never_escape);
    tcase_add_test(tables, read_errors_are_not_corruption);
    suite_add_tcase(suite, tables);
    tcase_set_timeout(probe, 60);
    tcase_add_test(probe, superfloppies_by_mkfs_fat);
    tcase_add_test(probe, probe_finds_volumes_in_partitions);
    tcase_add_test(probe, probe_reports_what_is_wrong);
    tcase_add_loop_test(probe, probe_believes_no_lies, 0, LIES);
    tcase_add_test(probe, probe_does_not_wait_for_ever);
    if (!PROBE_SANITIZED) { /* sanitizers need what the child otherwise has not */
        tcase_add_test(probe, probe_child_is_confined);
    }
    suite_add_tcase(suite, probe);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(partition_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
