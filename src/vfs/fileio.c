/* SPDX-License-Identifier: MIT */
/*
 * Generic file I/O over map, reserve and write_commit (man berth-recovery.7,
 * section 5). The caller holds the inode's lock shared; SET_ATTR(size) and FALLOCATE
 * take it exclusive, so here a size only grows, and only in write_commit, whose
 * body does not suspend. Payload goes between the caller's buffer and the device
 * as it is, all extents of a request in flight at once.
 *
 * A write inside the size: byte-range lock, payload, completion, commit. A write
 * that extends the file is a ticket in the inode's FsAppend; several overlap:
 *   1. In arrival order (reserve_lock) it reserves space to its end and queues.
 *      Its base is where those before it end, so a gap belongs to exactly one.
 *   2. It locks [base, end), zeroes [base, offset) and writes its payload. A ragged
 *      end is filled up to the device's page where the space behind it is the file's
 *      (and locked as well): whole pages can go to the device directly, the rest of one
 *      would have to go through the page cache, which costs several times as much.
 *   3. At the head of the queue it commits. Commits that grow the size are thus
 *      one at a time and in order, though the inode's lock is only shared.
 *   4. One that failed zeroes its whole range instead if others wait behind it
 *      (they may end beyond it and would expose the garbage), then drops what is
 *      reserved beyond both the size and every other ticket (its own I/O has
 *      completed). If even zeroing failed, those whose base lies beyond what is
 *      known to be good fail as well.
 * A ticket waits only for tickets before it and for ranges locked before it, and
 * queues and ranges are entered in the same order, so nothing can deadlock.
 */
#include "berth/fs.h"
#include <assert.h>

#define ZERO_CHUNK (1024u * 1024u)
#define ZERO_IN_FLIGHT 8u

/* Never written, so it stays the kernel's zero page however large it is. */
static uint8_t zero_bytes[ZERO_CHUNK] __attribute__((aligned(4096)));

struct FsAppend {
    unsigned users; /* tickets, and those that wait to become one */
    FiberMutex reserve_lock;
    List queue;         /* tickets in order of reservation */
    uint64_t zeroed_to; /* [size, zeroed_to) was zeroed by tickets that failed */
};

/* The last, ragged page of an extending write. */
typedef struct RaggedEnd {
    uint64_t offset, device_offset; /* where its page begins in the file, on the device */
    uint32_t length;                /* of the page; 0: the end is not ragged, or not ours to fill */
} RaggedEnd;

typedef struct AppendTicket {
    ListNode node;
    uint64_t base, offset, end;
    RaggedEnd ragged;
    Fiber *fiber; /* set while it waits to be first */
} AppendTicket;

typedef enum TransferKind { TRANSFER_READ, TRANSFER_WRITE, TRANSFER_ZERO } TransferKind;

/* A run of adjacent device bytes that is being put together. */
typedef struct Transfer {
    TransferKind kind;
    BlockBatch batch;
    unsigned in_flight;
    uint64_t device_offset, length; /* of the run */
    uint8_t *buf;                   /* of the run: where a read goes */
    const uint8_t *bytes;           /* of the run: what is written */
} Transfer;

MAY_YIELD static int transfer_submit(Transfer *transfer) {
    int r = 0;

    if (transfer->length == 0) {
        return 0;
    }
    switch (transfer->kind) {
    case TRANSFER_READ:
        r = block_batch_read(&transfer->batch, transfer->device_offset, transfer->buf,
                             transfer->length);
        break;
    case TRANSFER_WRITE:
    case TRANSFER_ZERO:
        r = block_batch_write(&transfer->batch, transfer->device_offset, transfer->bytes,
                              transfer->length);
        break;
    }
    transfer->length = 0;
    if (r == 0 && transfer->kind == TRANSFER_ZERO && ++transfer->in_flight == ZERO_IN_FLIGHT) {
        transfer->in_flight = 0;
        r = block_batch_wait(&transfer->batch);
        block_batch_init(&transfer->batch, transfer->batch.device);
    }
    return r;
}

/* Adds a piece; it is joined to the run before it where device (and memory) go on. */
MAY_YIELD static int transfer_add(Transfer *transfer, const FsExtent *extent, uint64_t length,
                                  uint8_t *buf, const uint8_t *bytes) {
    bool adjacent =
        transfer->length > 0 && transfer->device_offset + transfer->length == extent->device_offset;

    if (transfer->kind == TRANSFER_ZERO) {
        adjacent = adjacent && transfer->length + length <= ZERO_CHUNK;
    }
    if (!adjacent) {
        int r = transfer_submit(transfer);

        if (r < 0) {
            return r;
        }
        transfer->device_offset = extent->device_offset;
        transfer->buf = buf;
        transfer->bytes = bytes;
    }
    transfer->length += length;
    return 0;
}

/* What of [offset, end) the extent at offset covers, and it is usable for this kind. */
MAY_YIELD static int map_piece(FsInode *inode, TransferKind kind, uint64_t offset, uint64_t end,
                               FsExtent *ret, uint64_t *ret_length) {
    uint32_t flags = kind == TRANSFER_READ ? 0 : FS_MAP_RESERVED;
    int r = inode->fs->type->ops->map(inode, offset, flags, ret);

    if (r < 0) {
        return r;
    }
    assert(ret->length > 0);
    *ret_length = MIN(ret->length, end - offset);
    if (kind == TRANSFER_ZERO) {
        *ret_length = MIN(*ret_length, ZERO_CHUNK);
    }
    /* reserve() has made sure that there is space wherever something is written. */
    return kind != TRANSFER_READ && ret->kind == FS_EXTENT_HOLE ? -EIO : 0;
}

/* Moves [start, end) between the file's place on the device and memory; all completed on return. */
MAY_YIELD static int file_transfer(FsInode *inode, TransferKind kind, uint64_t start, uint64_t end,
                                   uint8_t *buf, const uint8_t *bytes) {
    Transfer transfer = {.kind = kind};
    int error = 0, r;

    block_batch_init(&transfer.batch, inode->fs->device);
    for (uint64_t offset = start; offset < end && error == 0;) {
        FsExtent extent = {0};
        uint64_t length = 0;

        error = map_piece(inode, kind, offset, end, &extent, &length);
        if (error < 0) {
            break;
        }
        if (extent.kind == FS_EXTENT_INLINE ||
            (kind == TRANSFER_READ && extent.kind != FS_EXTENT_DATA)) {
            if (kind == TRANSFER_READ && extent.kind == FS_EXTENT_INLINE) {
                memcpy(buf, extent.bytes, length);
            } else if (kind == TRANSFER_READ) {
                memset(buf, 0, length);
            }
            error = transfer_submit(&transfer); /* the run ends here: memory does not go on */
        } else {
            error = transfer_add(&transfer, &extent, length, buf, bytes);
        }
        offset += length;
        buf = kind == TRANSFER_READ ? buf + length : buf;
        bytes = kind == TRANSFER_WRITE ? bytes + length : bytes;
    }
    if (error == 0) {
        error = transfer_submit(&transfer);
    }
    r = block_batch_wait(&transfer.batch);
    return error < 0 ? error : r;
}

MAY_YIELD int fs_file_zero(FsInode *inode, uint64_t start, uint64_t end) {
    return start < end ? file_transfer(inode, TRANSFER_ZERO, start, end, NULL, zero_bytes) : 0;
}

MAY_YIELD int64_t fs_file_read(FsInode *inode, uint64_t offset, void *buf, uint32_t length) {
    FsRangeHold hold;
    int r;

    if (length == 0 || offset >= inode->attr.size) {
        return 0;
    }
    length = (uint32_t)MIN((uint64_t)length, inode->attr.size - offset);
    fs_range_lock(&inode->ranges, &hold, offset, length, false);
    r = file_transfer(inode, TRANSFER_READ, offset, offset + length, buf, NULL);
    fs_range_unlock(&inode->ranges, &hold);
    return r < 0 ? r : (int64_t)length;
}

/* ---- extending writes ---- */

static struct FsAppend *append_get(FsInode *inode) {
    struct FsAppend *append = inode->append;

    if (append == NULL) {
        append = calloc(1, sizeof(*append));
        if (append == NULL) {
            return NULL;
        }
        fiber_mutex_init(&append->reserve_lock);
        list_init(&append->queue);
        inode->append = append;
    }
    append->users++;
    return append;
}

static void append_put(FsInode *inode) {
    if (--inode->append->users == 0) {
        assert(list_empty(&inode->append->queue));
        free(inode->append);
        inode->append = NULL;
    }
}

/* Where the file will end when all tickets have committed. */
static uint64_t append_end(const FsInode *inode) {
    uint64_t end = inode->attr.size;

    for (const ListNode *node = list_first(&inode->append->queue); node != NULL;
         node = list_next(&inode->append->queue, node)) {
        end = MAX(end, container_of(node, AppendTicket, node)->end);
    }
    return end;
}

/* A page qualifies if the payload covers it from its start and the file's space to its end. */
MAY_YIELD static void ragged_end_find(FsInode *inode, AppendTicket *ticket) {
    const FileSystemOps *ops = inode->fs->type->ops;
    uint64_t page = inode->fs->device->direct_alignment;
    FsExtent extent = {0};
    uint64_t before;

    /* An error here comes again when the payload is written. */
    if (page == 0 || page > ZERO_CHUNK ||
        ops->map(inode, ticket->end - 1, FS_MAP_RESERVED, &extent) < 0 ||
        extent.kind == FS_EXTENT_HOLE || extent.kind == FS_EXTENT_INLINE) {
        return;
    }
    before = extent.device_offset % page;
    if (before == page - 1 || before > ticket->end - 1 - ticket->offset) {
        return;
    }
    if (ops->map(inode, ticket->end - 1 - before, FS_MAP_RESERVED, &extent) == 0 &&
        extent.kind != FS_EXTENT_HOLE && extent.kind != FS_EXTENT_INLINE &&
        extent.device_offset % page == 0 && extent.length >= page) {
        ticket->ragged = (RaggedEnd){.offset = ticket->end - 1 - before,
                                     .device_offset = extent.device_offset,
                                     .length = (uint32_t)page};
    }
}

/* Step 1. From queueing on nothing may suspend until the range is locked: ranges are locked in the
 * order of the queue, or a later ticket could hold what an earlier one needs. The reserve lock
 * covers unreserve() too: neither sees the other half done. */
MAY_YIELD static int append_enter(FsInode *inode, AppendTicket *ticket) {
    const FileSystemOps *ops = inode->fs->type->ops;
    struct FsAppend *append = inode->append;
    int r;

    fiber_mutex_lock(&append->reserve_lock);
    r = ops->reserve(inode, ticket->end);
    if (r == -ENOSPC && fs_reclaim(inode->fs)) {
        r = ops->reserve(inode, ticket->end);
    }
    if (r == 0) {
        if (ticket->end > append_end(inode)) {
            ragged_end_find(inode, ticket); /* nobody has bytes behind it */
        }
        ticket->base = MIN(ticket->offset, append_end(inode));
        list_append(&append->queue, &ticket->node);
    } else {
        ops->unreserve(inode, append_end(inode));
    }
    fiber_mutex_unlock(&append->reserve_lock);
    return r;
}

MAY_YIELD static void append_wait_turn(struct FsAppend *append, AppendTicket *ticket) {
    while (list_first(&append->queue) != &ticket->node) {
        ticket->fiber = fiber_self();
        fiber_suspend();
    }
    ticket->fiber = NULL;
}

static void append_leave(struct FsAppend *append, AppendTicket *ticket) {
    ListNode *node;

    list_remove(&ticket->node);
    node = list_first(&append->queue);
    if (node != NULL && container_of(node, AppendTicket, node)->fiber != NULL) {
        fiber_wake(container_of(node, AppendTicket, node)->fiber);
    }
}

/* Step 4, with the turn and the range still held. */
MAY_YIELD static void append_fail(FsInode *inode, AppendTicket *ticket) {
    struct FsAppend *append = inode->append;
    uint64_t size = inode->attr.size;

    if (list_last(&append->queue) != &ticket->node &&
        ticket->base <= MAX(size, append->zeroed_to) &&
        fs_file_zero(inode, MAX(ticket->base, size), ticket->end) == 0) {
        append->zeroed_to = MAX(append->zeroed_to, ticket->end);
    } else {
        append->zeroed_to = MIN(append->zeroed_to, ticket->base);
    }
    append_leave(append, ticket);
    fiber_mutex_lock(&append->reserve_lock);
    inode->fs->type->ops->unreserve(inode, append_end(inode));
    fiber_mutex_unlock(&append->reserve_lock);
}

/* The payload, its ragged end from a page of our own (the caller's memory may be read-only). */
MAY_YIELD static int append_payload(FsInode *inode, const AppendTicket *ticket,
                                    const uint8_t *bytes) {
    const RaggedEnd *ragged = &ticket->ragged;
    _cleanup_free_ void *page = NULL;
    BlockBatch batch;
    uint64_t whole;
    int r, waited;

    if (ragged->length == 0) {
        return file_transfer(inode, TRANSFER_WRITE, ticket->offset, ticket->end, NULL, bytes);
    }
    if (posix_memalign(&page, ragged->length, ragged->length) != 0) {
        return -ENOMEM;
    }
    whole = ragged->offset - ticket->offset;
    memcpy(page, bytes + whole, ticket->end - ragged->offset);
    memset((uint8_t *)page + (ticket->end - ragged->offset), 0,
           ragged->length - (ticket->end - ragged->offset));
    block_batch_init(&batch, inode->fs->device);
    r = block_batch_write(&batch, ragged->device_offset, page, ragged->length);
    if (r == 0 && whole > 0) {
        r = file_transfer(inode, TRANSFER_WRITE, ticket->offset, ragged->offset, NULL, bytes);
    }
    waited = block_batch_wait(&batch);
    return r < 0 ? r : waited;
}

MAY_YIELD static int file_extend(FsInode *inode, const FsCall *call, uint64_t offset,
                                 const uint8_t *bytes, uint32_t length) {
    AppendTicket ticket = {.offset = offset, .end = offset + length};
    FsRangeHold hold;
    int r;

    if (append_get(inode) == NULL) {
        return -ENOMEM;
    }
    r = append_enter(inode, &ticket);
    if (r < 0) {
        append_put(inode);
        return r;
    }
    fs_range_lock(&inode->ranges, &hold, ticket.base,
                  MAX(ticket.end, ticket.ragged.offset + ticket.ragged.length) - ticket.base, true);
    r = fs_file_zero(inode, ticket.base, offset);
    if (r == 0) {
        r = append_payload(inode, &ticket, bytes);
    }
    append_wait_turn(inode->append, &ticket);
    if (r == 0 && ticket.base > MAX(inode->attr.size, inode->append->zeroed_to)) {
        r = -EIO; /* one before it failed and left garbage where this one would begin */
    }
    if (r == 0) {
        r = inode->fs->type->ops->write_commit(inode, call, offset, length);
    }
    if (r == 0) {
        append_leave(inode->append, &ticket);
    } else {
        append_fail(inode, &ticket);
    }
    fs_range_unlock(&inode->ranges, &hold);
    append_put(inode);
    return r;
}

MAY_YIELD static int file_overwrite(FsInode *inode, const FsCall *call, uint64_t offset,
                                    const uint8_t *bytes, uint32_t length) {
    FsRangeHold hold;
    int r;

    fs_range_lock(&inode->ranges, &hold, offset, length, true);
    r = file_transfer(inode, TRANSFER_WRITE, offset, offset + length, NULL, bytes);
    if (r == 0) {
        r = inode->fs->type->ops->write_commit(inode, call, offset, length);
    }
    fs_range_unlock(&inode->ranges, &hold);
    return r;
}

MAY_YIELD int64_t fs_file_write(FsInode *inode, const FsCall *call, uint64_t offset,
                                const void *buf, uint32_t length) {
    const FileSystemOps *ops = inode->fs->type->ops;
    int r;

    if (length == 0) {
        return 0;
    }
    if (ops->write_begin != NULL) {
        r = ops->write_begin(inode, call, offset, buf, length);
        if (r < 0) {
            return r;
        }
    }
    if (offset + length > inode->attr.size) {
        r = file_extend(inode, call, offset, buf, length);
    } else {
        r = file_overwrite(inode, call, offset, buf, length);
    }
    return r < 0 ? r : (int64_t)length;
}
