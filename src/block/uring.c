/* SPDX-License-Identifier: MIT */
/*
 * The suspending backend: io_uring, or the loop's helper threads where there
 * is no ring. Everything runs on the loop's thread.
 *
 * A request is cut into pieces (direct or buffered, at most 1 MiB each; the
 * rule is in uring_split.c). Pieces come from a fixed pool, which bounds what
 * is in flight; requests that find it empty wait in arrival order. A request
 * holds one reference for standing in that queue and one per piece, and ends
 * when the last is dropped. After the first error no further piece is cut.
 *
 * A piece ends only when all its bytes have moved: short transfers are
 * continued, interrupted ones started again, direct ones that the medium
 * refuses go on buffered, and what the ring cancels unasked (it could start no
 * worker: a limit on processes) ends as a blocking call. The end of the file
 * inside the device is -EIO: the image was truncated under us. (No part of it
 * is ever mapped.)
 *
 * Both descriptions refer to one inode, so one fdatasync covers what went
 * through either. It is made on the given (buffered) one: write-back errors
 * are kept per inode and seen once per description, and errors of direct
 * writes were results of those writes.
 *
 * Small writes go through the page cache: a copy of a few KiB is done sooner than a device
 * has answered, and only a flush has to wait for that. With large ones the device is
 * as fast, and the cache is spared.
 *
 * Small reads first try the page cache without waiting. A miss starts reading
 * into the cache what is then read again directly, so misses are followed by a
 * growing number of requests that do not try.
 *
 * The ring gives every flush to a worker thread, and every buffered write unless the image's
 * filesystem can do it without waiting (few can): two wake-ups for what is often a copy
 * of a few KiB. A small one that is alone in flight is therefore done at once while such
 * are quick (at_once.h). An image on tmpfs has no device to wait for: there small
 * pieces are done at once always; large ones keep a second processor busy.
 */
#include "at_once.h"
#include "berth/stats.h"
#include "uring_split.h"
#include <assert.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define PIECE_COUNT 128
#define PIECE_IOV_MAX 64
#define PIECE_LENGTH_MAX (1024 * 1024)
#define PIECE_ATTEMPTS_MAX 100
#define HOT_READ_MAX (128 * 1024)
#define AT_ONCE_MAX (128 * 1024)
#define SMALL_WRITE_MAX (64 * 1024)
/* What a worker's two wake-ups may take, and for a flush some more: who waits for one waits long.
 */
#define QUICK_WRITE_NS 100000u
#define QUICK_FLUSH_NS 500000u
#define HOT_PENALTY_MAX 255u

typedef struct UringState UringState;

typedef struct Piece {
    LoopIo io;
    ListNode node; /* in state->idle */
    UringState *state;
    BlockRequest *request;
    bool direct;
    unsigned attempts; /* since the last progress */
    uint64_t offset;   /* in the image */
    uint64_t length;   /* still to move */
    int iov_first, iov_count;
    struct iovec iov[PIECE_IOV_MAX];
} Piece;

/* Lies in request->backend. */
typedef struct UringRequest {
    IovCursor cursor;
    uint64_t cut; /* bytes given to pieces (or, flush and discard: non-zero when started) */
    unsigned refs;
    int error;
} UringRequest;
static_assert(sizeof(UringRequest) <= sizeof(((BlockRequest *)NULL)->backend), "private space");

struct UringState {
    BlockDevice *device;
    Loop *loop;
    BlockImage image;
    int direct_fd;              /* -1: none */
    int fixed_fd, fixed_direct; /* places in the ring's file table, -1: none */
    SplitRule rule;
    SplitRule small_rule; /* the same for small writes */
    bool in_memory;       /* the image lies on tmpfs */
    bool hot_reads;       /* the medium can answer without waiting */
    unsigned hot_skip, hot_penalty;
    AtOnce writes_at_once, flushes_at_once;
    unsigned in_flight; /* pieces */
    bool pumping;
    List waiting; /* requests not wholly cut into pieces */
    List idle;    /* pieces */
    Piece pieces[PIECE_COUNT];
};

static UringRequest *uring_request(BlockRequest *request) {
    return (void *)request->backend;
}

static void pump(UringState *state);
static void piece_finished(Piece *piece, int result);

static void request_unref(BlockRequest *request) {
    UringRequest *own = uring_request(request);

    assert(own->refs > 0);
    if (--own->refs == 0) {
        block_complete(request, own->error);
    }
}

/* ---- pieces ---- */

static void piece_io_done(LoopIo *io, int result) {
    piece_finished(container_of(io, Piece, io), result);
}

static void piece_offload_done(void *arg, int result) {
    piece_finished(arg, result);
}

/* The blocking form, on a helper thread as a rule: touches only the piece, which waits for it. */
static int piece_call(void *arg) {
    const Piece *piece = arg;
    const UringState *state = piece->state;

    return (int)image_call(piece->direct ? state->direct_fd : state->image.fd, piece->request->op,
                           piece->iov + piece->iov_first, piece->iov_count, piece->offset,
                           piece->length);
}

static void piece_prepare(const Piece *piece, struct io_uring_sqe *sqe) {
    int fd = piece->direct ? piece->state->fixed_direct : piece->state->fixed_fd;
    const struct iovec *iov = piece->iov + piece->iov_first;
    unsigned count = (unsigned)piece->iov_count;

    switch (piece->request->op) {
    case BLOCK_READ:
        if (count == 1) {
            io_uring_prep_read(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, piece->offset);
        } else {
            io_uring_prep_readv(sqe, fd, iov, count, piece->offset);
        }
        break;
    case BLOCK_WRITE:
        if (count == 1) {
            io_uring_prep_write(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, piece->offset);
        } else {
            io_uring_prep_writev(sqe, fd, iov, count, piece->offset);
        }
        break;
    case BLOCK_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case BLOCK_DISCARD:
        io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)piece->offset, (off_t)piece->length);
        break;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    if (piece->attempts > 0) {
        sqe->flags |= IOSQE_ASYNC; /* a worker may wait where the first try would not */
    }
}

/* How a piece of its kind is judged, NULL: it never blocks the loop. */
static AtOnce *piece_at_once(Piece *piece) {
    UringState *state = piece->state;
    bool write = piece->request->op == BLOCK_WRITE && !piece->direct;

    if (state->in_flight != 1 || piece->length > AT_ONCE_MAX) {
        return NULL;
    }
    return piece->request->op == BLOCK_FLUSH ? &state->flushes_at_once
           : write                           ? &state->writes_at_once
                                             : NULL;
}

/* False: it is for the ring, or a worker. */
static bool piece_try_at_once(Piece *piece, int *ret) {
    AtOnce *at_once = piece_at_once(piece);
    uint64_t started;

    if (at_once == NULL || !at_once_next(at_once)) {
        return false;
    }
    started = clock_monotonic_ns();
    fiber_syscall_begin(); /* the device may be slow for once, and the process be killed in it */
    *ret = piece_call(piece);
    fiber_syscall_end();
    at_once_took(at_once, clock_monotonic_ns() - started);
    return true;
}

static void piece_start(Piece *piece) {
    UringState *state = piece->state;
    int r;

    if (state->in_memory && piece->length <= AT_ONCE_MAX) {
        piece_finished(piece, piece_call(piece));
    } else if (piece_try_at_once(piece, &r)) {
        piece_finished(piece, r);
    } else if (loop_has_ring(state->loop)) {
        struct io_uring_sqe *sqe = loop_sqe(state->loop);

        piece_prepare(piece, sqe);
        loop_sqe_attach(state->loop, sqe, &piece->io);
    } else {
        r = loop_offload_submit(state->loop, piece_call, piece, piece_offload_done);
        if (r < 0) {
            piece_finished(piece, r);
        }
    }
}

static void piece_advance(Piece *piece, uint64_t bytes) {
    const SplitRule *rule = &piece->state->rule;
    struct iovec *iov;

    piece->offset += bytes;
    piece->length -= bytes;
    piece->attempts = 0;
    while (bytes > 0) {
        iov = &piece->iov[piece->iov_first];
        if (bytes < iov->iov_len) {
            iov->iov_base = (uint8_t *)iov->iov_base + bytes;
            iov->iov_len -= (size_t)bytes;
            break;
        }
        bytes -= iov->iov_len;
        piece->iov_first++;
        piece->iov_count--;
    }
    if (piece->direct && piece->length > 0 &&
        (piece->offset % rule->step != 0 ||
         (uintptr_t)piece->iov[piece->iov_first].iov_base % rule->memory_step != 0)) {
        piece->direct = false; /* stopped inside a page: this piece's own, so nobody races */
    }
}

static void piece_end(Piece *piece, int result) {
    UringState *state = piece->state;
    BlockRequest *request = piece->request;
    UringRequest *own = uring_request(request);

    if (result < 0 && own->error == 0) {
        own->error = result;
    }
    piece->request = NULL;
    list_append(&state->idle, &piece->node);
    state->in_flight--;
    request_unref(request);
    pump(state);
}

static bool worth_another_try(const Piece *piece, int result) {
    return (result == -EINTR || result == -EAGAIN) && piece->attempts < PIECE_ATTEMPTS_MAX;
}

static void piece_finished(Piece *piece, int result) {
    UringState *state = piece->state;
    BlockOp op = piece->request->op;

    if (worth_another_try(piece, result)) {
        piece->attempts++;
        piece_start(piece);
        return;
    }
    if (result == -ECANCELED) {
        /* The kernel has no worker for us. Asked again it may even hang: block instead. */
        result = piece_call(piece);
    }
    if (result == -EINVAL && piece->direct) {
        /* The medium wants more alignment than it said. */
        state->rule.direct = state->small_rule.direct = false;
        state->device->direct_alignment = 0;
        piece->direct = false;
        piece_start(piece);
        return;
    }
    if (result >= 0 && (op == BLOCK_READ || op == BLOCK_WRITE)) {
        if (result == 0 || (uint64_t)result > piece->length) {
            piece_end(piece, -EIO);
            return;
        }
        piece_advance(piece, (uint64_t)result);
        if (piece->length > 0) {
            piece_start(piece);
            return;
        }
    }
    if (result == -EAGAIN || result == -EINTR) {
        result = -EIO; /* never the caller's business */
    }
    piece_end(piece, MIN(result, 0));
}

/* ---- requests ---- */

static const SplitRule *rule_of(const UringState *state, const BlockRequest *request) {
    return request->op == BLOCK_WRITE && request->length <= SMALL_WRITE_MAX ? &state->small_rule
                                                                            : &state->rule;
}

/* Fills piece with what comes next; false when the request needs no (more) pieces. */
static bool cut_piece(UringState *state, BlockRequest *request, Piece *piece) {
    UringRequest *own = uring_request(request);

    if (own->error != 0 || (own->cut >= request->length && own->cut > 0)) {
        return false;
    }
    piece->request = request;
    piece->attempts = 0;
    piece->iov_first = piece->iov_count = 0;
    piece->direct = false;
    piece->offset = state->image.start + request->offset + own->cut;
    piece->length = request->length;
    if (request->op == BLOCK_READ || request->op == BLOCK_WRITE) {
        SplitPart part;

        uring_split_next(rule_of(state, request), &own->cursor, piece->offset,
                         request->length - own->cut, piece->iov, PIECE_IOV_MAX, &part);
        piece->direct = part.direct;
        piece->iov_count = part.iov_count;
        piece->length = part.length;
        iov_cursor_advance(&own->cursor, part.length);
    }
    own->cut += MAX(piece->length, (uint64_t)1); /* a flush has no length */
    own->refs++;
    return true;
}

/* Gives idle pieces to waiting requests. Completions inside it are seen by the running loop. */
static void pump(UringState *state) {
    ListNode *node;

    if (state->pumping) {
        return;
    }
    state->pumping = true;
    while ((node = list_first(&state->waiting)) != NULL && !list_empty(&state->idle)) {
        BlockRequest *request = container_of(node, BlockRequest, node);
        Piece *piece = container_of(list_first(&state->idle), Piece, node);

        if (cut_piece(state, request, piece)) {
            list_remove(&piece->node);
            state->in_flight++;
            piece_start(piece);
        } else {
            list_remove(node);
            request_unref(request);
        }
    }
    state->pumping = false;
}

/* Takes from the page cache what is there, as far as it goes without a gap. */
static void read_hot(UringState *state, BlockRequest *request) {
    UringRequest *own = uring_request(request);
    ssize_t n;

    if (!state->hot_reads || request->length > HOT_READ_MAX) {
        return;
    }
    if (state->hot_skip > 0) {
        state->hot_skip--;
        return;
    }
    n = preadv2(state->image.fd, request->iov, request->iov_count,
                (off_t)(state->image.start + request->offset), RWF_NOWAIT);
    if (n > 0) {
        iov_cursor_advance(&own->cursor, (uint64_t)n);
        own->cut = (uint64_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        state->hot_reads = false; /* not here; a real error will come again */
    }
    if (own->cut == request->length) {
        state->hot_penalty = 0;
    } else {
        state->hot_penalty = MIN(state->hot_penalty * 2 + 1, HOT_PENALTY_MAX);
        state->hot_skip = state->hot_penalty;
    }
}

static void uring_submit(BlockDevice *device, BlockRequest *request) {
    UringState *state = device->state;
    UringRequest *own = uring_request(request);

    *own = (UringRequest){.refs = 1};
    iov_cursor_init(&own->cursor, request->iov, request->iov_count);
    if (request->op == BLOCK_READ) {
        read_hot(state, request);
    }
    list_append(&state->waiting, &request->node);
    pump(state);
}

/* ---- opening and closing ---- */

/*
 * A description of our own for direct I/O. Only with one can the page cache
 * and the device be chosen per piece, and the given one stays as it is.
 */
static int open_direct(const BlockImage *image, SplitRule *rule) {
    char path[32];
    struct statx stx = {.stx_mask = 0};
    uint64_t step = MAX((uint64_t)sysconf(_SC_PAGESIZE), (uint64_t)image->sector_size);
    uint64_t memory_step = image->sector_size;
    int fd;

    step = MAX(step, (uint64_t)4096);
#ifdef STATX_DIOALIGN
    if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) != 0) {
        if (stx.stx_dio_offset_align == 0) {
            return -EOPNOTSUPP;
        }
        step = MAX(step, (uint64_t)stx.stx_dio_offset_align);
        memory_step = MAX(stx.stx_dio_mem_align, 1u);
    }
#endif
    if (!is_power_of_2(step) || !is_power_of_2(memory_step) || memory_step > step ||
        step > PIECE_LENGTH_MAX) {
        return -EOPNOTSUPP;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
    fd = open(path, (image->readonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    rule->direct = true;
    rule->step = step;
    rule->memory_step = memory_step;
    return fd;
}

static void state_free(UringState *state) {
    if (state->fixed_fd >= 0) {
        loop_unregister_fd(state->loop, state->fixed_fd);
    }
    if (state->fixed_direct >= 0) {
        loop_unregister_fd(state->loop, state->fixed_direct);
    }
    if (state->direct_fd >= 0) {
        (void)close(state->direct_fd);
    }
    if (state->image.fd >= 0) {
        (void)close(state->image.fd);
    }
    free(state);
}

static void uring_free(BlockDevice *device) {
    UringState *state = device->state;

    assert(list_empty(&state->waiting));
    state_free(state);
}

static const BlockBackend uring_backend = {
    .name = "uring", .suspends = true, .submit = uring_submit, .free = uring_free};

static bool on_tmpfs(int fd) {
    struct statfs st;

    return fstatfs(fd, &st) == 0 && st.f_type == TMPFS_MAGIC;
}

static UringState *state_new(Loop *loop) {
    UringState *state = calloc(1, sizeof(*state));

    if (state == NULL) {
        return NULL;
    }
    state->loop = loop;
    state->image.fd = state->direct_fd = state->fixed_fd = state->fixed_direct = -1;
    state->rule.length_max = PIECE_LENGTH_MAX;
    state->hot_reads = true;
    state->writes_at_once.quick_ns = QUICK_WRITE_NS;
    state->flushes_at_once.quick_ns = QUICK_FLUSH_NS;
    list_init(&state->waiting);
    list_init(&state->idle);
    for (size_t i = 0; i < PIECE_COUNT; i++) {
        Piece *piece = &state->pieces[i];

        piece->state = state;
        piece->io.done = piece_io_done;
        list_append(&state->idle, &piece->node);
    }
    return state;
}

static int state_open(UringState *state, const BlockOpenConfig *config) {
    int r = image_open(config, &state->image);

    if (r < 0) {
        return r;
    }
    state->in_memory = on_tmpfs(state->image.fd);
    if (config->direct != 0) {
        r = open_direct(&state->image, &state->rule);
        if (r < 0 && config->direct > 0) {
            return r == -EINVAL ? -EOPNOTSUPP : r;
        }
        state->direct_fd = MAX(r, -1);
    }
    if (state->direct_fd >= 0) {
        /* What is left for the page cache is heads and tails: reading ahead would be waste. */
        (void)posix_fadvise(state->image.fd, 0, 0, POSIX_FADV_RANDOM);
    }
    state->small_rule = state->rule;
    state->small_rule.direct = config->direct > 0;
    if (!loop_has_ring(state->loop)) {
        return 0;
    }
    r = loop_register_fd(state->loop, state->image.fd);
    if (r < 0) {
        return r;
    }
    state->fixed_fd = r;
    if (state->direct_fd >= 0) {
        r = loop_register_fd(state->loop, state->direct_fd);
        if (r < 0) {
            return r;
        }
        state->fixed_direct = r;
    }
    return 0;
}

int block_uring_new(const BlockOpenConfig *config, Loop *loop, BlockDevice **ret) {
    UringState *state = state_new(loop);
    BlockDevice *device;
    int r;

    if (state == NULL) {
        return -ENOMEM;
    }
    r = state_open(state, config);
    if (r < 0) {
        state_free(state);
        return r;
    }
    device = block_device_new(&uring_backend, state, state->image.size, state->image.sector_size);
    if (device == NULL) {
        state_free(state);
        return -ENOMEM;
    }
    device->readonly = state->image.readonly;
    if (state->rule.direct && state->image.start % state->rule.step == 0) {
        device->direct_alignment = (uint32_t)state->rule.step; /* else no device offset helps */
    }
    state->device = device;
    *ret = device;
    return 0;
}
