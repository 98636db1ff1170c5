/* SPDX-License-Identifier: MIT */
/*
 * berth probe: what an image or a block device holds. The bytes are parsed in
 * a process of their own (partition_probe_isolated); labels and names that
 * come back are printed through libsmartcols or the JSON writer, which let no
 * control character through.
 */
#include "berth.h"
#include "probe_udev.h"

#include "berth/log.h"
#include "berth/partition.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <sys/stat.h>

static const char *probe_kind_name(PartitionTableKind kind) {
    switch (kind) {
    case PARTITION_MBR:
        return "mbr";
    case PARTITION_GPT:
        return "gpt";
    case PARTITION_APM:
        return "apm";
    case PARTITION_NONE:
    default:
        return "none";
    }
}

/* ---- JSON ---- */

static void probe_json_text(Json *json, const char *key, const char *value) {
    if (value[0] == '\0') {
        json_null(json, key);
    } else {
        json_string(json, key, value);
    }
}

/* partition is NULL for the image as a whole. */
static void probe_json_volume(Json *json, const Partition *partition, const VolumeProbe *volume) {
    json_begin_object(json, NULL);
    if (partition != NULL) {
        json_u64(json, "number", partition->number);
        json_u64(json, "start", partition->start);
        json_u64(json, "size", partition->length);
        probe_json_text(json, "partition_type", partition->type);
        probe_json_text(json, "partition_name", partition->name);
        probe_json_text(json, "partition_uuid", partition->uuid);
    } else {
        json_null(json, "number");
        json_u64(json, "start", volume->start);
        json_u64(json, "size", volume->length);
    }
    probe_json_text(json, "type", volume->type);
    probe_json_text(json, "subtype", volume->subtype);
    probe_json_text(json, "label", volume->label);
    probe_json_text(json, "uuid", volume->uuid);
    json_end_object(json);
}

static void probe_json_container(Json *json, const ImageContainer *container) {
    if (container->kind == CONTAINER_NONE) {
        json_null(json, "container");
        return;
    }
    json_begin_object(json, "container");
    json_string(json, "kind", container_name(container->kind));
    json_u64(json, "start", container->start);
    json_u64(json, "size", container->length);
    if (container->checksum == CHECKSUM_UNKNOWN) {
        json_null(json, "checksum_good");
    } else {
        json_bool(json, "checksum_good", container->checksum == CHECKSUM_GOOD);
    }
    json_end_object(json);
}

static int probe_print_json(const char *file, const ImageProbe *probe) {
    Text out = {0};
    Json json = {.out = &out};
    int code;

    json_begin_object(&json, NULL);
    json_string(&json, "file", file);
    json_u64(&json, "size", probe->size);
    probe_json_container(&json, &probe->container);
    if (probe->table.kind == PARTITION_NONE) {
        json_null(&json, "partition_table");
    } else {
        json_begin_object(&json, "partition_table");
        json_string(&json, "kind", probe_kind_name(probe->table.kind));
        json_u64(&json, "sector_size", probe->table.sector_size);
        json_end_object(&json);
    }
    json_begin_array(&json, "volumes");
    for (unsigned i = 0; i < probe->table.count; i++) {
        probe_json_volume(&json, &probe->table.entries[i], &probe->volumes[i]);
    }
    if (probe->table.kind == PARTITION_NONE) {
        probe_json_volume(&json, NULL, &probe->whole);
    }
    json_end_array(&json);
    json_end_object(&json);
    text_append(&out, "\n", 1);
    if (out.failed) {
        log_error("out of memory");
        code = EXIT_SYSTEM;
    } else {
        code = tool_print(out.data, out.length);
    }
    text_done(&out);
    return code;
}

/* ---- table ---- */

/* "33 MiB": exact where a unit divides the size, one decimal otherwise. */
static void probe_size_text(uint64_t size, char out[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    uint64_t divisor = 1;
    unsigned unit = 0;

    while (unit + 1 < ARRAY_SIZE(units) && size / divisor >= 1024) {
        divisor *= 1024;
        unit++;
    }
    if (size % divisor == 0) {
        (void)snprintf(out, 32, "%" PRIu64 " %s", size / divisor, units[unit]);
    } else {
        (void)snprintf(out, 32, "%.1f %s", (double)size / (double)divisor, units[unit]);
    }
}

enum { PROBE_NUMBER, PROBE_SIZE, PROBE_TYPE, PROBE_LABEL, PROBE_UUID, PROBE_NAME, PROBE_COLUMNS };

static int probe_add_line(struct libscols_table *table, const Partition *partition,
                          const VolumeProbe *volume) {
    struct libscols_line *line = scols_table_new_line(table, NULL);
    const char *kind = volume->subtype[0] != '\0' ? volume->subtype : volume->type;
    char number[16] = "", size[32];
    const char *cells[PROBE_COLUMNS] = {
        number, size, kind[0] != '\0' ? kind : "unknown", volume->label, volume->uuid, ""};
    int r = line == NULL ? -ENOMEM : 0;

    probe_size_text(partition != NULL ? partition->length : volume->length, size);
    if (partition != NULL) {
        (void)snprintf(number, sizeof(number), "%u", partition->number);
        cells[PROBE_NAME] = partition->name;
    }
    for (unsigned i = 0; i < PROBE_COLUMNS && r == 0; i++) {
        r = scols_line_set_data(line, i, cells[i]);
    }
    return r;
}

static int probe_print_table(const char *file, const ImageProbe *probe) {
    static const char *const titles[PROBE_COLUMNS] = {"PART",  "SIZE", "TYPE",
                                                      "LABEL", "UUID", "PARTNAME"};
    struct libscols_table *table = scols_new_table();
    char size[32];
    int r = table == NULL ? -ENOMEM : 0;

    probe_size_text(probe->size, size);
    if (probe->container.kind != CONTAINER_NONE) {
        printf("%s: %s file%s\n", file, container_name(probe->container.kind),
               probe->container.checksum == CHECKSUM_BAD    ? ", its checksum is wrong"
               : probe->container.checksum == CHECKSUM_GOOD ? ", its checksum is right"
                                                            : "");
        probe_size_text(probe->container.length, size);
    }
    if (probe->table.kind == PARTITION_NONE) {
        printf("%s: %s, no partition table\n", file, size);
    } else {
        printf("%s: %s, %s partition table, sectors of %u bytes\n", file, size,
               probe_kind_name(probe->table.kind), probe->table.sector_size);
    }
    for (unsigned i = 0; i < PROBE_COLUMNS && r == 0; i++) {
        bool right = i == PROBE_NUMBER || i == PROBE_SIZE;

        if (scols_table_new_column(table, titles[i], 0, right ? SCOLS_FL_RIGHT : 0) == NULL) {
            r = -ENOMEM;
        }
    }
    for (unsigned i = 0; i < probe->table.count && r == 0; i++) {
        r = probe_add_line(table, &probe->table.entries[i], &probe->volumes[i]);
    }
    if (r == 0 && probe->table.kind == PARTITION_NONE) {
        r = probe_add_line(table, NULL, &probe->whole);
    }
    return tool_table_finish(table, r);
}

/* ---- command line ---- */

static void probe_help(void) {
    printf("Usage: berth probe [--json | --udev] FILE\n"
           "\n"
           "Says what an image file or a block device holds: its partition table, and the type,\n"
           "label, UUID and size of each volume.\n"
           "\n"
           "  -J, --json  an object with an array \"volumes\"; sizes in bytes\n"
           "  -U, --udev  the volume as udev's variables (ID_FS_TYPE and so on), for its rules\n"
           "  -h, --help  show this\n");
}

static int probe_open(const char *file, int *ret) {
    /* A FIFO must not make the open wait. */
    _cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0) {
        log_error("%s: %s", file, strerror(errno));
        return errno == EACCES || errno == EPERM ? EXIT_USAGE : EXIT_SYSTEM;
    }
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        log_error("%s: neither an image file nor a block device", file);
        return EXIT_USAGE;
    }
    *ret = steal_fd(&fd);
    return EXIT_OK;
}

typedef enum ProbeFormat { PROBE_TABLE, PROBE_JSON, PROBE_UDEV } ProbeFormat;

static int probe_file(const char *file, ProbeFormat format) {
    _cleanup_free_ ImageProbe *probe = calloc(1, sizeof(*probe));
    _cleanup_close_ int fd = -1;
    char text[256] = "";
    int code, r;

    if (probe == NULL) {
        log_error("out of memory");
        return EXIT_SYSTEM;
    }
    code = probe_open(file, &fd);
    if (code != EXIT_OK) {
        return code;
    }
    r = partition_probe_isolated(fd, probe, text);
    if (r < 0) {
        log_error("%s: %s", file, text[0] != '\0' ? text : strerror(-r));
        return EXIT_SYSTEM;
    }
    switch (format) {
    case PROBE_JSON:
        return probe_print_json(file, probe);
    case PROBE_UDEV:
        return probe_print_udev(probe);
    case PROBE_TABLE:
    default:
        return probe_print_table(file, probe);
    }
}

int cmd_probe(int argc, char **argv) {
    static const struct option long_options[] = {
        {"json", no_argument, NULL, 'J'},
        {"udev", no_argument, NULL, 'U'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    ProbeFormat format = PROBE_TABLE;
    int option;

    while ((option = getopt_long(argc, argv, "JUh", long_options, NULL)) != -1) {
        switch (option) {
        case 'J':
            format = PROBE_JSON;
            break;
        case 'U':
            format = PROBE_UDEV;
            break;
        case 'h':
            probe_help();
            return EXIT_OK;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 1) {
        log_error("probe takes one FILE. Try berth probe --help");
        return EXIT_USAGE;
    }
    return probe_file(argv[optind], format);
}
