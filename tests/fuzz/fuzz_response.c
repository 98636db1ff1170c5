/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: what the front-end does with the messages of a daemon. The kernel's
 * requests are real ones, through libfuse and the start halves; the answers are the
 * input's, through replies_handle() and the finish halves. The kernel's side of it
 * is a model that keeps the books: every request is answered once, with an errno, a
 * name or a length that a kernel can take, and at the end the front-end knows of as
 * many lookups as were told.
 *
 *     mode (1) | { operation (1) | its parameters }
 *     a request     below ASK_COUNT: which of asks[] | object (1) | size, flags (1)
 *     an answer     how (1) | to which of those in flight (1) | length (2) | message
 *                   with HOW_ARENA: | length (2) | what lies in the arena
 * Where the message's start, id, type and number would be, the right ones are put,
 * but for those that `how` keeps.
 */
#include "../../src/front/private.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#define IN_FLIGHT_MAX 12u
#define GRANTS_MAX 20000u
#define REPLY_MAX 70000u
#define ASK_MAX 8000u

enum { MODE_FOLD = 1, MODE_EPOCH = 2 };
enum {
    HOW_START = 1,
    HOW_ID = 2,
    HOW_TYPE = 4,
    HOW_NUMBER = 8,
    HOW_ARENA = 16,
    HOW_TWICE = 32,
    HOW_LOST = 64, /* the kernel does not take the reply: its request was interrupted */
};

/* The requests: their fixed part, how many names follow, and what room for the answer is asked. */
static const struct Ask {
    uint32_t opcode, body, names;
} asks[] = {
    {FUSE_LOOKUP, 0, 1},
    {FUSE_GETATTR, sizeof(struct fuse_getattr_in), 0},
    {FUSE_SETATTR, sizeof(struct fuse_setattr_in), 0},
    {FUSE_READLINK, 0, 0},
    {FUSE_SYMLINK, 0, 2},
    {FUSE_MKNOD, sizeof(struct fuse_mknod_in), 1},
    {FUSE_MKDIR, sizeof(struct fuse_mkdir_in), 1},
    {FUSE_UNLINK, 0, 1},
    {FUSE_RMDIR, 0, 1},
    {FUSE_RENAME2, sizeof(struct fuse_rename2_in), 2},
    {FUSE_LINK, sizeof(struct fuse_link_in), 1},
    {FUSE_CREATE, sizeof(struct fuse_create_in), 1},
    {FUSE_READDIRPLUS, sizeof(struct fuse_read_in), 0},
    {FUSE_READ, sizeof(struct fuse_read_in), 0},
    {FUSE_WRITE, sizeof(struct fuse_write_in), 0},
    {FUSE_FSYNC, sizeof(struct fuse_fsync_in), 0},
    {FUSE_FALLOCATE, sizeof(struct fuse_fallocate_in), 0},
    {FUSE_LSEEK, sizeof(struct fuse_lseek_in), 0},
    {FUSE_STATFS, 0, 0},
    {FUSE_GETXATTR, sizeof(struct fuse_getxattr_in), 1},
    {FUSE_LISTXATTR, sizeof(struct fuse_getxattr_in), 0},
    {FUSE_SETXATTR, FUSE_COMPAT_SETXATTR_IN_SIZE, 1},
    {FUSE_REMOVEXATTR, 0, 1},
    {FUSE_IOCTL, sizeof(struct fuse_ioctl_in), 0},
};
#define ASK_OWN ARRAY_SIZE(asks) /* MOUNT, GET_STATS: the front-end's own */
#define ASK_COUNT (ASK_OWN + 2)

typedef struct Input {
    const uint8_t *at;
    size_t left;
} Input;

/* The kernel's side. */
static struct {
    uint64_t unique; /* of the last request */
    uint64_t waiting[IN_FLIGHT_MAX];
    uint32_t opcode[IN_FLIGHT_MAX], size[IN_FLIGHT_MAX];
    uint64_t grants[GRANTS_MAX];
    unsigned grant_count;
    bool lose;
} kernel;

static Front front;
static DaemonProcess daemon_process;
static const FileSystemType fake_type = {.name = "fake", .daemon = "faked"};

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

static uint8_t take_byte(Input *input) {
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->at++;
}

/* A length of two bytes, and that many bytes. */
static size_t take_bytes(Input *input, size_t most, const uint8_t **ret) {
    size_t length = take_byte(input);

    length |= (size_t)take_byte(input) << 8;
    length = MIN(length, most);
    length = MIN(length, input->left);
    *ret = input->at;
    input->at += length;
    input->left -= length;
    return length;
}

static void ignore_line(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

/* ---- what the kernel makes of a reply ---- */

static void kernel_grant(uint64_t file_id) {
    require(file_id != FS_ROOT_ID);
    if (file_id != 0) {
        require(kernel.grant_count < GRANTS_MAX);
        kernel.grants[kernel.grant_count++] = file_id;
    }
}

static void check_attr(const struct fuse_attr *attr) {
    require((attr->mode & S_IFMT) != 0 && attr->size <= INT64_MAX);
    require(attr->mtimensec < 1000000000 && attr->atimensec < 1000000000);
    require(is_power_of_2(attr->blksize));
}

static void check_entry(const uint8_t *body, size_t length) {
    struct fuse_entry_out entry;

    require(length >= sizeof(entry));
    memcpy(&entry, body, sizeof(entry));
    if (entry.nodeid != 0) {
        check_attr(&entry.attr);
    }
    kernel_grant(entry.nodeid);
}

static void check_listing(const uint8_t *body, size_t length) {
    struct fuse_direntplus entry;

    for (size_t at = 0; at < length;) {
        const size_t head = offsetof(struct fuse_direntplus, dirent.name);
        const uint8_t *name = body + at + head;

        require(length - at >= head);
        memcpy(&entry, body + at, head);
        require(length - at >= head + entry.dirent.namelen);
        require(entry.dirent.namelen > 0 && entry.dirent.namelen <= FS_NAME_MAX);
        require(memchr(name, 0, entry.dirent.namelen) == NULL);
        require(memchr(name, '/', entry.dirent.namelen) == NULL);
        require(entry.dirent.off != 0 && entry.dirent.off <= INT64_MAX);
        kernel_grant(entry.entry_out.nodeid);
        at += head + (entry.dirent.namelen + 7) / 8 * 8;
    }
}

static void check_body(uint32_t opcode, uint32_t size, const uint8_t *body, size_t length) {
    switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_LINK:
    case FUSE_CREATE:
        check_entry(body, length);
        break;
    case FUSE_GETATTR:
    case FUSE_SETATTR:
        require(length == sizeof(struct fuse_attr_out));
        check_attr(&((const struct fuse_attr_out *)(const void *)body)->attr);
        break;
    case FUSE_READDIRPLUS:
        require(length <= size);
        check_listing(body, length);
        break;
    case FUSE_READ:
        require(length <= size);
        break;
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR:
        require(length <= MAX(size, (uint32_t)sizeof(struct fuse_getxattr_out)));
        break;
    case FUSE_READLINK:
        require(length <= FS_INLINE_MAX); /* what is above PATH_MAX is an EIO of the kernel's */
        break;
    case FUSE_WRITE:
        require(((const struct fuse_write_out *)(const void *)body)->size <= size);
        break;
    default:
        break;
    }
}

static void kernel_reply(const uint8_t *reply, size_t length) {
    struct fuse_out_header header;
    unsigned i = 0;

    require(length >= sizeof(header));
    memcpy(&header, reply, sizeof(header));
    require(header.len == length);
    if (header.unique == 0) {
        return; /* a notification */
    }
    while (i < IN_FLIGHT_MAX && kernel.waiting[i] != header.unique) {
        i++;
    }
    require(i < IN_FLIGHT_MAX); /* not asked, or answered before */
    kernel.waiting[i] = 0;
    require(header.error <= 0 && header.error > -1000);
    if (header.error == 0 && !kernel.lose) {
        check_body(kernel.opcode[i], kernel.size[i], reply + sizeof(header),
                   length - sizeof(header));
    }
}

static ssize_t kernel_writev(int fd, struct iovec *iov, int count, void *userdata) {
    static _Alignas(16) uint8_t reply[REPLY_MAX];
    size_t length = 0;

    (void)fd;
    (void)userdata;
    for (int i = 0; i < count; i++) {
        require(iov[i].iov_len <= sizeof(reply) - length);
        memcpy(reply + length, iov[i].iov_base, iov[i].iov_len);
        length += iov[i].iov_len;
    }
    kernel_reply(reply, length);
    if (kernel.lose) {
        errno = ENOENT;
        return -1;
    }
    return (ssize_t)length;
}

static ssize_t kernel_read(int fd, void *buf, size_t length, void *userdata) {
    (void)fd;
    (void)buf;
    (void)length;
    (void)userdata;
    return 0;
}

/* ---- requests ---- */

static void submit(uint8_t *request, size_t length, uint32_t opcode, uint32_t object,
                   uint32_t size) {
    struct fuse_in_header header = {
        .len = (uint32_t)length, .opcode = opcode, .unique = ++kernel.unique, .nodeid = object};
    struct fuse_buf buf = {.size = length, .mem = request};
    unsigned i = 0;

    while (i < IN_FLIGHT_MAX && kernel.waiting[i] != 0) {
        i++;
    }
    if (i == IN_FLIGHT_MAX) {
        return;
    }
    kernel.waiting[i] = header.unique;
    kernel.opcode[i] = opcode;
    kernel.size[i] = size;
    memcpy(request, &header, sizeof(header));
    wire_request(&front, request, length);
    fuse_session_process_buf(front.session, &buf);
}

/* The fixed part: what matters to the answer. */
static void fill_body(uint8_t *body, uint32_t opcode, uint8_t how, uint32_t size) {
    struct fuse_read_in read_in = {.size = size, .offset = how >> 4};
    struct fuse_write_in write_in = {.size = 100, .write_flags = how & 4};
    struct fuse_setattr_in set_in = {.valid = how & 0x7f, .size = how};
    struct fuse_getxattr_in xattr_in = {.size = (how & 3) == 0 ? 0 : size};
    struct fuse_lseek_in seek_in = {.whence = (how & 1) != 0 ? SEEK_DATA : SEEK_HOLE};
    struct fuse_fallocate_in room_in = {.length = 1 + how};
    struct fuse_ioctl_in ioctl_in = {.cmd = 0x80047210u + (how & 1), .out_size = 4};

    if (opcode == FUSE_READ || opcode == FUSE_READDIRPLUS) {
        memcpy(body, &read_in, sizeof(read_in));
    } else if (opcode == FUSE_WRITE) {
        memcpy(body, &write_in, sizeof(write_in));
    } else if (opcode == FUSE_SETATTR) {
        memcpy(body, &set_in, sizeof(set_in));
    } else if (opcode == FUSE_GETXATTR || opcode == FUSE_LISTXATTR) {
        memcpy(body, &xattr_in, sizeof(xattr_in));
    } else if (opcode == FUSE_LSEEK) {
        memcpy(body, &seek_in, sizeof(seek_in));
    } else if (opcode == FUSE_FALLOCATE) {
        memcpy(body, &room_in, sizeof(room_in));
    } else if (opcode == FUSE_IOCTL) {
        memcpy(body, &ioctl_in, sizeof(ioctl_in));
    } else if (opcode == FUSE_LINK || opcode == FUSE_RENAME2) {
        body[0] = 3; /* the old object, the new directory */
    }
}

static void finish_own(Front *of, Pending *pending, const FSResponse *response) {
    volatile uint8_t seen;

    (void)of;
    (void)pending;
    for (uint32_t i = 0; response->data != NULL && i < response->data_length; i++) {
        seen = response->data[i];
        (void)seen;
    }
}

static void ask_own(bool stats) {
    Pending *pending = pending_get(&front, stats ? FS_MSG_GET_STATS : FS_MSG_MOUNT, finish_own);

    if (stats) {
        pending->request.length = ARENA_SMALL;
        require(pending_take_in(&front, pending, ARENA_SMALL) == 0);
    }
    pending_start(&front, pending);
}

static void ask(Input *input, unsigned which) {
    static const uint32_t sizes[] = {100, 4096, 8000, 60000};
    static _Alignas(16) uint8_t request[ASK_MAX];
    uint8_t object = take_byte(input), how = take_byte(input);
    uint32_t size = sizes[how & 3];
    uint8_t *at = request + sizeof(struct fuse_in_header);

    if (front.pending.in_flight_count >= IN_FLIGHT_MAX) {
        return;
    }
    if (which >= ASK_OWN) {
        ask_own(which > ASK_OWN);
    } else {
        memset(request, 0, sizeof(request));
        fill_body(at, asks[which].opcode, how, size);
        at += asks[which].body;
        for (unsigned i = 0; i < asks[which].names; i++) {
            at += sprintf((char *)at, "name %u", how >> 5) + 1;
        }
        at += asks[which].opcode == FUSE_WRITE ? 100 : 0;
        submit(request, (size_t)(at - request), asks[which].opcode, object % 8 + 1, size);
    }
    for (unsigned i = 0; i < PENDING_SLOTS; i++) { /* as if all had been sent */
        front.pending.slots[i].sent_to = &daemon_process;
    }
}

/* ---- answers ---- */

static Pending *pick(unsigned number) {
    Pending *found = NULL;
    ListNode *node = list_first(&front.pending.in_flight);

    for (unsigned i = 0; node != NULL && i <= number; i++) {
        found = container_of(node, Pending, node);
        node = list_next(&front.pending.in_flight, node);
    }
    return found;
}

static void put_le(uint8_t *at, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

/* Offsets of man berth-protocol.7. */
static size_t make_message(uint8_t *message, const uint8_t *bytes, size_t length, uint8_t how,
                           const Pending *pending, uint64_t number) {
    size_t total = MAX(length, (size_t)FS_RESPONSE_HEADER);

    memset(message, 0, total);
    memcpy(message, bytes, length);
    if ((how & HOW_START) == 0) {
        put_le(message, FS_PROTOCOL_MAGIC, 4);
        put_le(message + 4, FS_PROTOCOL_VERSION, 2);
        put_le(message + 8, total, 4);
    } else {
        total = length;
    }
    if ((how & HOW_TYPE) == 0) {
        put_le(message + 6, pending->request.type, 2);
    }
    if ((how & HOW_ID) == 0) {
        put_le(message + 16, pending->request.request_id, 8);
    }
    if ((how & HOW_NUMBER) == 0) {
        put_le(message + 24, number, 8);
    }
    return total;
}

/* False: it broke the protocol. */
static bool answer(Input *input, uint64_t *last_number) {
    static uint8_t message[FS_MESSAGE_MAX], scratch[ARENA_SMALL];
    uint8_t how = take_byte(input);
    Pending *pending = pick(take_byte(input));
    const uint8_t *bytes, *arena;
    size_t length = take_bytes(input, FS_MESSAGE_MAX, &bytes), in_arena = 0;
    char text[128] = "";
    int r;

    if ((how & HOW_ARENA) != 0) {
        in_arena = take_bytes(input, ARENA_SMALL, &arena);
    }
    if (pending == NULL || kernel.grant_count > GRANTS_MAX / 2) {
        return true;
    }
    if (in_arena > 0 && pending->has_in) {
        memcpy(pending->in.data, arena, MIN(in_arena, (size_t)pending->in.length));
    }
    length = make_message(message, bytes, length, how, pending, *last_number + 1);
    kernel.lose = (how & HOW_LOST) != 0;
    r = replies_handle(&daemon_process, message, length, last_number, scratch, text);
    if (r == 0 && (how & HOW_TWICE) != 0) {
        r = replies_handle(&daemon_process, message, length, last_number, scratch, text);
        require(r < 0);
    }
    kernel.lose = false;
    require(r == 0 || (r == -EPROTO && text[0] != 0));
    return r == 0 && !daemon_process.killed;
}

/* ---- one run ---- */

static void check_arena(Arena *arena, unsigned slots) {
    ArenaSlot taken[2 * IN_FLIGHT_MAX];

    for (unsigned i = 0; i < slots; i++) { /* none was lost */
        require(arena_slot_get(arena, i % 2 == 0 ? 1 : FS_IO_MAX, false, &taken[i]) == 0);
    }
    for (unsigned i = 0; i < slots; i++) {
        arena_slot_put(arena, &taken[i]);
    }
}

static void check_books(void) {
    for (unsigned i = 0; i < IN_FLIGHT_MAX; i++) {
        require(kernel.waiting[i] == 0); /* all answered */
    }
    check_arena(front.arena_in, 2 * IN_FLIGHT_MAX);
    for (unsigned i = 0; i < kernel.grant_count; i++) {
        const NodeForget one = {.file_id = kernel.grants[i], .lookups = 1};
        uint64_t id = one.file_id, seen;

        require(nodes_keep_gone(&front.nodes, &id, 1, &seen) == 0); /* still held */
        (void)nodes_forget(&front.nodes, &one, 1, &id);
    }
    require(nodes_count(&front.nodes) == 1); /* the root */
}

static void set_up_once(void) {
    static const struct fuse_custom_io io = {.writev = kernel_writev, .read = kernel_read};
    struct {
        struct fuse_in_header header;
        struct fuse_init_in body;
    } init = {.body = {.major = 7, .minor = 38, .max_readahead = 1 << 20, .flags = UINT32_MAX}};
    char name[] = "fuzz", option[] = "-omax_read=1048576"; /* as op_init() says: FS_IO_MAX */
    char *argv[] = {name, option, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(2, argv);

    log_set_sink(ignore_line, NULL);
    front.type = &fake_type;
    front.source_given = "fake.img";
    front.init_fd = eventfd(0, EFD_CLOEXEC);
    front.lifeline_fd = front.fuse_fd = -1;
    fences_init(&front.fences);
    require(arena_new("fuzz-in", IN_FLIGHT_MAX, IN_FLIGHT_MAX, 0, false, &front.arena_in) == 0);
    require(arena_new("fuzz-out", IN_FLIGHT_MAX, IN_FLIGHT_MAX, 80, true, &front.arena_out) == 0);
    front.session = fuse_session_new(&args, &front_fuse_ops, sizeof(front_fuse_ops), &front);
    fuse_opt_free_args(&args);
    require(front.session != NULL &&
            fuse_session_custom_io(front.session, &io, open("/dev/null", O_RDWR | O_CLOEXEC)) == 0);
    submit((uint8_t *)&init, sizeof(init), FUSE_INIT, 0, 0);
    front.long_timeout = 60;
}

static void begin(uint8_t mode) {
    require(pending_table_init(&front.pending) == 0 && nodes_init(&front.nodes, NULL) == 0);
    daemon_process =
        (DaemonProcess){.front = &front, .pidfd = -1, .log_fd = -1, .fence_fd = -1, .image_fd = -1};
    front.daemon = &daemon_process;
    front.volume.case_insensitive = (mode & MODE_FOLD) != 0;
    front.inc_epoch = (mode & MODE_EPOCH) != 0;
    front.volume.readonly = false;
    kernel.grant_count = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Input input = {.at = data, .left = size};
    uint64_t last_number = 0;
    bool sound = true;

    if (front.session == NULL) {
        set_up_once();
    }
    begin(take_byte(&input));
    while (input.left > 0 && sound) {
        uint8_t operation = take_byte(&input);

        if (operation < ASK_COUNT) {
            ask(&input, operation);
        } else {
            sound = answer(&input, &last_number);
        }
    }
    pending_fail_all(&front, -EIO);
    check_books();
    nodes_done(&front.nodes);
    pending_table_done(&front.pending);
    return 0;
}
