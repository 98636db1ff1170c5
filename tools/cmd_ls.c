/* SPDX-License-Identifier: MIT */
/*
 * berth ls: what is in a directory of an image, without mounting it. Names come
 * from a volume that is not trusted: they are printed through libsmartcols or
 * the JSON writer, or here with everything but text replaced.
 */
#include "berth.h"
#include "berth/log.h"
#include "forks.h"
#include "place.h"
#include "table.h"

#include <getopt.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <time.h>

enum {
    COLUMN_MODE,
    COLUMN_SIZE,
    COLUMN_RESOURCE,
    COLUMN_TYPE,
    COLUMN_CREATOR,
    COLUMN_MTIME,
    COLUMN_NAME
};

static const TableColumn columns[] = {
    [COLUMN_MODE] = {"mode", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_SIZE] = {"size", JSON_NUMBER, TABLE_BYTES, SCOLS_FL_RIGHT},
    [COLUMN_RESOURCE] = {"resource_size", JSON_NUMBER, TABLE_BYTES, SCOLS_FL_RIGHT},
    [COLUMN_TYPE] = {"type", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_CREATOR] = {"creator", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_MTIME] = {"mtime", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_NAME] = {"name", JSON_STRING, TABLE_PLAIN, 0},
};

typedef struct Item {
    char *name;
    FsAttr attr;
    bool has_attr;
} Item;

typedef struct Listing {
    Session *session;
    Item *items;
    size_t count, capacity;
} Listing;

static int listing_add(Listing *listing, const char *name, size_t length, const FsAttr *attr) {
    Item *item;

    if (listing->count == listing->capacity) {
        size_t capacity = MAX(listing->capacity * 2, (size_t)64);
        Item *items = reallocarray(listing->items, capacity, sizeof(*items));

        if (items == NULL) {
            return -ENOMEM;
        }
        listing->items = items;
        listing->capacity = capacity;
    }
    item = &listing->items[listing->count];
    *item = (Item){.name = strndup(name, length), .has_attr = attr != NULL};
    if (item->name == NULL) {
        return -ENOMEM;
    }
    if (attr != NULL) {
        item->attr = *attr;
    }
    listing->count++;
    return 0;
}

static int on_entry(void *arg, const FsDirEntry *entry) {
    return listing_add(arg, entry->name, entry->name_length, entry->has_attr ? &entry->attr : NULL);
}

static int compare_items(const void *a, const void *b) {
    return strcmp(((const Item *)a)->name, ((const Item *)b)->name);
}

static void listing_done(Listing *listing) {
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->items[i].name);
    }
    free(listing->items);
}

/* The directory's entries, or the one thing that path names. */
static int collect(Listing *listing, const char *path) {
    FsAttr attr;
    int r = session_lookup(listing->session, path, &attr);

    if (r < 0) {
        return r;
    }
    if (attr.type != FS_TYPE_DIRECTORY) {
        return listing_add(listing, place_name(path), strlen(place_name(path)), &attr);
    }
    r = session_list(listing->session, attr.file_id, on_entry, listing);
    for (size_t i = 0; r == 0 && i < listing->count; i++) {
        Item *item = &listing->items[i];

        if (!item->has_attr) {
            r = session_child(listing->session, attr.file_id, item->name, &item->attr);
        }
    }
    if (listing->count == 0) {
        return r;
    }
    qsort(listing->items, listing->count, sizeof(Item), compare_items);
    return r;
}

/* ---- output ---- */

static void mode_text(const FsAttr *attr, char out[12]) {
    static const char kinds[] = "?-dlpscb";
    static const char bits[] = "rwxrwxrwx";

    out[0] = attr->type < sizeof(kinds) - 1 ? kinds[attr->type] : '?';
    for (unsigned i = 0; i < 9; i++) {
        out[1 + i] = (attr->mode & 0400u >> i) != 0 ? bits[i] : '-';
    }
    out[10] = '\0';
}

static void time_text(int64_t ns, char out[32]) {
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm local;

    if (localtime_r(&seconds, &local) == NULL ||
        strftime(out, 32, "%Y-%m-%d %H:%M:%S", &local) == 0) {
        (void)snprintf(out, 32, "?");
    }
}

static void add_row(Table *table, Session *session, const Item *item) {
    size_t row = table_add_row(table);
    uint8_t info[FORKS_INFO_SIZE];
    char text[32];
    uint64_t size;

    mode_text(&item->attr, text);
    table_set(table, row, COLUMN_MODE, text);
    table_set_u64(table, row, COLUMN_SIZE, item->attr.size);
    time_text(item->attr.mtime_ns, text);
    table_set(table, row, COLUMN_MTIME, text);
    table_set(table, row, COLUMN_NAME, item->name);
    if (item->attr.type != FS_TYPE_FILE || !forks_known(session)) {
        return;
    }
    if (forks_info(session, item->attr.file_id, info) == 0) {
        (void)macroman_to_utf8(info, 4, text, sizeof(text));
        table_set(table, row, COLUMN_TYPE, text);
        (void)macroman_to_utf8(info + 4, 4, text, sizeof(text));
        table_set(table, row, COLUMN_CREATOR, text);
    }
    if (forks_resource_size(session, item->attr.file_id, &size) == 0) {
        table_set_u64(table, row, COLUMN_RESOURCE, size);
    }
}

static int print_names(const Listing *listing) {
    Text out = {0};
    int code;

    for (size_t i = 0; i < listing->count; i++) {
        for (const char *c = listing->items[i].name; *c != '\0'; c++) {
            char shown = (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c;

            text_append(&out, &shown, 1);
        }
        text_append(&out, "\n", 1);
    }
    code = out.failed ? EXIT_SYSTEM : tool_print(text_string(&out), out.length);
    text_done(&out);
    return code;
}

static int list_place(const char *text, const PlaceOptions *options, Table *table, bool plain) {
    Place place = {0};
    Listing listing = {0};
    int code = EXIT_OK, r = place_parse(text, &place);

    if (r == 0) {
        r = place_open(&place, options, true, &listing.session);
    }
    if (r < 0) {
        place_done(&place);
        return r == -EINVAL ? EXIT_USAGE : EXIT_SYSTEM;
    }
    r = collect(&listing, place.path);
    for (size_t i = 0; r == 0 && !plain && i < listing.count; i++) {
        add_row(table, listing.session, &listing.items[i]);
    }
    if (r < 0) {
        log_error("%s: %s", text, strerror(-r));
        code = EXIT_SYSTEM;
    }
    if (session_close(listing.session) < 0) {
        code = EXIT_SYSTEM;
    }
    if (code == EXIT_OK) {
        code = plain ? print_names(&listing) : table_print(table, "entries");
    }
    listing_done(&listing);
    place_done(&place);
    return code;
}

static void help(const Table *table) {
    printf("Usage: berth ls [-l] IMAGE[@PART]:/PATH\n"
           "\n"
           "Lists a directory of an image or a block device that is not mounted.\n"
           "\n"
           "  -l, --long           as a table\n");
    table_help(table);
    place_help();
}

int cmd_ls(int argc, char **argv) {
    static const struct option long_options[] = {
        {"long", no_argument, NULL, 'l'},
        PLACE_LONG_OPTIONS,
        {"help", no_argument, NULL, 'h'},
        TABLE_LONG_OPTIONS,
        {0},
    };
    static const int shown[] = {COLUMN_MODE,    COLUMN_SIZE,  COLUMN_RESOURCE, COLUMN_TYPE,
                                COLUMN_CREATOR, COLUMN_MTIME, COLUMN_NAME,     -1};
    PlaceOptions options = {0};
    bool plain = true;
    Table table;
    int option, code;

    table_init(&table, columns, ARRAY_SIZE(columns), shown);
    while ((option = getopt_long(argc, argv, "lh" PLACE_SHORT_OPTIONS TABLE_SHORT_OPTIONS,
                                 long_options, NULL)) != -1) {
        switch (option) {
        case 'l':
            plain = false;
            break;
        case 'h':
            help(&table);
            table_done(&table);
            return EXIT_OK;
        default:
            if (place_option(&options, option, optarg)) {
                break;
            }
            code = table_option(&table, "ls", option, optarg);
            if (code != EXIT_OK) {
                table_done(&table);
                return code < 0 ? EXIT_USAGE : code;
            }
            plain = false;
            break;
        }
    }
    if (argc - optind != 1) {
        log_error("ls takes one IMAGE:/PATH. Try berth ls --help");
        code = EXIT_USAGE;
    } else {
        code = list_place(argv[optind], &options, &table, plain);
    }
    table_done(&table);
    return code;
}
