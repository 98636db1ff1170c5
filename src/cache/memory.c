/* SPDX-License-Identifier: MIT */
/*
 * The owner's side of the lifeline: reads it with pread(2) only, since a
 * mapping of memory that others may touch could fault, and believes none of
 * it. The rescue writer is a checkpoint of a dead daemon's log without the
 * daemon: the good part of the log is copied, then written batch by batch,
 * class by class, through the same fold.
 */
#include "writer.h"
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* All of it, or an error. */
static int read_all(int fd, void *buf, uint64_t length, uint64_t offset) {
    uint8_t *at = buf;

    while (length > 0) {
        ssize_t got = pread(fd, at, (size_t)length, (off_t)offset);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -errno : -EPROTO;
        }
        at += got;
        offset += (uint64_t)got;
        length -= (uint64_t)got;
    }
    return 0;
}

int lifeline_memory_running(int fd, uint64_t *ret_request_id) {
    /* One aligned word: it is never read in two halves. */
    return read_all(fd, ret_request_id, sizeof(*ret_request_id), offsetof(LifelineHeader, running));
}

int lifeline_memory_objects(int fd, unsigned slots, uint64_t *ret_ids, unsigned capacity) {
    uint64_t offset = lifeline_layout(slots).objects;
    _cleanup_free_ LifelineObject *objects = calloc(LIFELINE_OBJECTS, sizeof(*objects));
    unsigned count = 0;
    uint64_t magic;
    int r;

    if (objects == NULL) {
        return -ENOMEM;
    }
    r = read_all(fd, &magic, sizeof(magic), offsetof(LifelineHeader, magic));
    if (r == 0) {
        r = read_all(fd, objects, LIFELINE_OBJECTS * sizeof(*objects), offset);
    }
    if (r < 0 || magic != LIFELINE_MAGIC) {
        return r;
    }
    for (unsigned i = 0; i < LIFELINE_OBJECTS && count < capacity; i++) {
        if (objects[i].kind != 0) {
            ret_ids[count++] = objects[i].file_id;
        }
    }
    return (int)count;
}

/* ---- a private copy of the log ---- */

/* A part of the ring, at the same offsets as where it is mapped twice. */
typedef struct LogCopy {
    LogView log;
    void *memory;
} LogCopy;

/* Fills in log.ring, of a size that is known. */
static int log_copy(LogCopy *copy, int fd, uint64_t ring_offset, uint64_t from, uint64_t to) {
    uint64_t ring_size = copy->log.ring_size;
    void *memory = mmap(NULL, 2 * (size_t)ring_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *bytes = memory;
    int r = 0;

    if (memory == MAP_FAILED) {
        return -errno;
    }
    copy->memory = memory;
    copy->log.ring = bytes;
    while (r == 0 && from < to) {
        uint64_t at = from % ring_size;
        uint64_t length = MIN(ring_size - at, to - from);

        r = read_all(fd, bytes + at, length, ring_offset + at);
        memcpy(bytes + ring_size + at, bytes + at, (size_t)length);
        from += length;
    }
    return r;
}

static void log_copy_done(LogCopy *copy) {
    if (copy->memory != NULL) {
        (void)munmap(copy->memory, 2 * (size_t)copy->log.ring_size);
    }
}

static bool block_size_possible(uint32_t size) {
    return size >= 512 && size <= 65536 && is_power_of_2(size);
}

/* ---- rescue ---- */

typedef struct Rescue {
    LogView log;
    LifelineHeader header;
    BlockDevice *device;
    SideJournal *journal; /* NULL: class by class */
    LifelineRescue *report;
    bool damaged; /* the log is good up to header.head, which was moved */
} Rescue;

static int say(Rescue *rescue, int error, const char *text) {
    (void)snprintf(rescue->report->text, sizeof(rescue->report->text), "%s", text);
    return error;
}

static int rescue_header(Rescue *rescue, uint64_t ring_size, unsigned slots) {
    LifelineHeader *header = &rescue->header;
    const LifelineGeometry geometry = {.block_size = header->block_size,
                                       .volume_size = rescue->device->size,
                                       .ring_size = ring_size,
                                       .slot_count = slots};
    const char *text = "";

    if (!block_size_possible(header->block_size)) {
        return say(rescue, -EUCLEAN, "its block size is impossible");
    }
    if (lifeline_check(header, &geometry, &text) < 0) {
        return say(rescue, -EUCLEAN, text);
    }
    return 0;
}

/* Moves the head to lsn: nothing from there on can be used. */
static void cut_log(Rescue *rescue, uint64_t lsn) {
    char text[80];

    (void)snprintf(text, sizeof(text), "damaged at position %" PRIu64 ", %" PRIu64 " bytes lost",
                   lsn, rescue->header.head - lsn);
    (void)say(rescue, 0, text);
    rescue->header.head = lsn;
    rescue->damaged = true;
}

/* Where the batch that begins at lsn ends. */
static uint64_t find_batch_end(Rescue *rescue, uint64_t begin) {
    uint64_t lsn = begin;

    while (lsn < rescue->header.head) {
        LogRecord record;

        if (record_decode(&rescue->log, lsn, rescue->header.head, &record) < 0 ||
            (lsn == begin && !record.starts_batch)) {
            cut_log(rescue, lsn);
            break;
        }
        if (lsn != begin && record.starts_batch) {
            break;
        }
        lsn = record.end;
        rescue->report->records++;
    }
    return lsn;
}

static int write_batch(Rescue *rescue, const Fold *fold, unsigned classes_done) {
    unsigned classes = fold->classes & ~classes_done;
    int r = 0;

    for (unsigned class = 0; r == 0 && class < TXN_CLASS_MAX; class ++) {
        if ((classes & 1U << class) != 0) {
            r = fold_write_class(fold, rescue->device, class, &rescue->report->blocks);
            if (r == 0) {
                r = block_flush(rescue->device);
            }
        }
    }
    return r == 0 ? 0 : say(rescue, r, "writing to the device failed");
}

/* Returns where the next batch begins. */
static int rescue_batch(Rescue *rescue, uint64_t begin, uint64_t *ret_end) {
    uint64_t end = find_batch_end(rescue, begin);
    unsigned done = begin == rescue->header.tail ? rescue->header.classes_done : 0;
    Fold fold;
    int r = fold_init(&fold, &rescue->log, begin, end);

    if (r == -EUCLEAN) {
        end = fold.end;
        cut_log(rescue, end);
        r = fold_init(&fold, &rescue->log, begin, end);
    }
    if (r < 0) {
        return r;
    }
    r = write_batch(rescue, &fold, done);
    fold_done(&fold);
    rescue->report->bytes += end - begin;
    *ret_end = end;
    return r;
}

static int write_journalled(Rescue *rescue, const Fold *fold) {
    int r = fold_commit_journalled(fold, rescue->journal, rescue->device, true);

    if (r < 0) {
        return say(rescue, r, "writing to the side journal failed");
    }
    if (r > 0) {
        r = fold_write_all(fold, rescue->device, &rescue->report->blocks);
        if (r == 0) {
            r = block_flush(rescue->device);
        }
        if (r == 0) {
            r = sidejournal_clear(rescue->journal);
        }
    }
    return r == 0 ? 0 : say(rescue, r, "writing to the device failed");
}

/* All batches as one, as a checkpoint with a journal does. */
static int rescue_journalled(Rescue *rescue) {
    uint64_t lsn = rescue->header.tail;
    Fold fold;
    int r;

    while (lsn < rescue->header.head) {
        lsn = find_batch_end(rescue, lsn);
    }
    r = fold_init(&fold, &rescue->log, rescue->header.tail, rescue->header.head);
    if (r == -EUCLEAN) {
        cut_log(rescue, fold.end);
        r = fold_init(&fold, &rescue->log, rescue->header.tail, rescue->header.head);
    }
    if (r < 0) {
        return r;
    }
    r = write_journalled(rescue, &fold);
    fold_done(&fold);
    rescue->report->bytes = rescue->header.head - rescue->header.tail;
    return r;
}

static int rescue_log(Rescue *rescue) {
    uint64_t lsn = rescue->header.tail;
    /* The dead one's data first: metadata must never point at data that is not there. */
    int r = block_flush_all(rescue->device);

    if (r < 0) {
        return say(rescue, r, "flushing the device failed");
    }
    if (rescue->journal != NULL && lsn < rescue->header.head) {
        r = rescue_journalled(rescue);
    }
    while (r == 0 && rescue->journal == NULL && lsn < rescue->header.head) {
        r = rescue_batch(rescue, lsn, &lsn);
    }
    return r == 0 && rescue->damaged ? -EUCLEAN : r;
}

static int rescue_copied(Rescue *rescue, int fd, uint64_t ring_offset) {
    LogCopy copy = {.log = rescue->log};
    int r = log_copy(&copy, fd, ring_offset, rescue->header.tail, rescue->header.head);

    if (r == 0) {
        rescue->log = copy.log;
        r = rescue_log(rescue);
    }
    log_copy_done(&copy);
    return r;
}

int lifeline_memory_rescue(int fd, unsigned slots, BlockDevice *device, SideJournal *journal,
                           LifelineRescue *ret) {
    Rescue rescue = {.device = device, .journal = journal, .report = ret};
    uint64_t ring_size;
    struct stat st;
    int r;

    *ret = (LifelineRescue){0};
    if (slots == 0 || slots > LIFELINE_SLOTS_MAX || fstat(fd, &st) < 0 || st.st_size < 0 ||
        (ring_size = lifeline_ring_size((uint64_t)st.st_size, slots)) == 0) {
        return say(&rescue, -EPROTO, "not a lifeline's memory");
    }
    r = read_all(fd, &rescue.header, sizeof(rescue.header), 0);
    if (r < 0) {
        return say(&rescue, r, "cannot be read");
    }
    if (rescue.header.magic == 0) {
        return 0; /* nothing was ever committed */
    }
    r = rescue_header(&rescue, ring_size, slots);
    if (r < 0) {
        return r;
    }
    rescue.log = (LogView){.ring_size = ring_size,
                           .block_size = rescue.header.block_size,
                           .block_count = div_ceil(device->size, rescue.header.block_size)};
    return rescue_copied(&rescue, fd, lifeline_layout(slots).ring);
}

/* ---- what follows a rescue ---- */

static int write_all(int fd, const void *buf, size_t length, uint64_t offset) {
    ssize_t done;

    do {
        done = pwrite(fd, buf, length, (off_t)offset);
    } while (done < 0 && errno == EINTR);
    return done == (ssize_t)length ? 0 : (done < 0 ? -errno : -EIO);
}

/* A put or remove, in a copy of the table and in the table itself: of what is not changed in there,
 * nothing is stored, as most of it has never had any memory. */
static int settle_object(int fd, uint64_t offset, LifelineObject *objects, uint64_t lsn,
                         const LogItem *item) {
    LifelineObject *place = NULL;

    for (unsigned i = 0; i < LIFELINE_OBJECTS; i++) {
        if (objects[i].kind == item->class && objects[i].file_id == item->block) {
            place = &objects[i];
            break;
        }
        if (objects[i].kind == 0 && place == NULL) {
            place = &objects[i];
        }
    }
    if (place == NULL || (item->offset == 0 && place->kind == 0)) {
        return 0;
    }
    *place = (LifelineObject){0};
    if (item->offset == 1) {
        place->file_id = item->block;
        place->lsn = lsn;
        place->kind = item->class;
        place->length = item->length;
        memcpy(place->blob, item->bytes, item->length);
    }
    return write_all(fd, place, sizeof(*place),
                     offset + (size_t)(place - objects) * sizeof(*place));
}

static int settle_reply(int fd, const LifelineLayout *layout, const LogRecord *record) {
    LifelineSlot slot = {.seq = record->seq, .lsn = record->lsn, .length = record->reply_length};

    memcpy(slot.reply, record->reply, record->reply_length);
    return write_all(fd, &slot, sizeof(slot), layout->slots + record->slot * sizeof(slot));
}

/* Replies and objects of the records from `applied` on, which may not be in their tables. */
static int settle_tables(int fd, const LogView *log, const LifelineHeader *header,
                         LifelineObject *objects) {
    LifelineLayout layout = lifeline_layout(header->slot_count);
    uint64_t size = LIFELINE_OBJECTS * sizeof(*objects);
    uint64_t lsn = header->applied;
    LogRecord record;
    int r = read_all(fd, objects, size, layout.objects);

    while (r == 0 && record_decode(log, lsn, header->head, &record) == 0) {
        LogCursor cursor = {0};
        LogItem item;

        while (r == 0 && record_next(log, &record, &cursor, &item) > 0) {
            if (item.type == ITEM_OBJECT) {
                r = settle_object(fd, layout.objects, objects, record.lsn, &item);
            }
        }
        if (r == 0 && record.slot < header->slot_count) {
            r = settle_reply(fd, &layout, &record);
        }
        lsn = record.end;
    }
    return r;
}

static int settle_copied(int fd, const LifelineHeader *header) {
    _cleanup_free_ LifelineObject *objects = calloc(LIFELINE_OBJECTS, sizeof(*objects));
    LogCopy copy = {.log = {.ring_size = header->ring_size,
                            .block_size = header->block_size,
                            .block_count = div_ceil(header->volume_size, header->block_size)}};
    int r = objects == NULL ? -ENOMEM
                            : log_copy(&copy, fd, lifeline_layout(header->slot_count).ring,
                                       header->applied, header->head);

    if (r == 0) {
        r = settle_tables(fd, &copy.log, header, objects);
    }
    log_copy_done(&copy);
    return r;
}

int lifeline_memory_settle(int fd) {
    LifelineHeader header;
    LifelineGeometry own;
    const char *text;
    struct stat st;
    int r = read_all(fd, &header, sizeof(header), 0);

    if (r < 0 || header.magic != LIFELINE_MAGIC) {
        return r;
    }
    own = (LifelineGeometry){.block_size = header.block_size,
                             .volume_size = header.volume_size,
                             .ring_size = header.ring_size,
                             .slot_count = header.slot_count};
    if (header.slot_count == 0 || header.slot_count > LIFELINE_SLOTS_MAX || fstat(fd, &st) < 0 ||
        header.ring_size != lifeline_ring_size((uint64_t)st.st_size, header.slot_count) ||
        !block_size_possible(header.block_size) || lifeline_check(&header, &own, &text) < 0) {
        return -EUCLEAN;
    }
    r = header.applied < header.head ? settle_copied(fd, &header) : 0;
    if (r < 0) {
        return r;
    }
    header.tail = header.batch_start = header.applied = header.head;
    header.classes_done = 0;
    return write_all(fd, &header, sizeof(header), 0);
}
