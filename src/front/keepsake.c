/* SPDX-License-Identifier: MIT */
/*
 * The two memories of keepsake.h: a header of fixed size, and a table of nodes that
 * doubles when it is full. All of it is allocated before it is used, so that a full
 * machine is an error there and then.
 */
#include "keepsake.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define KEEPSAKE_MAGIC UINT64_C(0x656b617370656562)
#define KEEPSAKE_VERSION 1u
#define NODES_FIRST 1024u
#define NODES_MAX (1u << 28)

static int memory_grow(int fd, uint64_t size) {
    int r;

    do {
        r = fallocate(fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
    } while (r == -EINTR);
    return r == -ENOSPC ? -ENOMEM : r;
}

static int memory_new(const char *name, uint64_t size, int *ret_fd) {
    int fd = memfd_create(name, MFD_CLOEXEC), r;

    if (fd < 0) {
        return -errno;
    }
    r = memory_grow(fd, size);
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

static void *memory_map(int fd, uint64_t size) {
    void *base = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return base == MAP_FAILED ? NULL : base;
}

static int map_all(Keepsake *keepsake, uint32_t node_capacity) {
    keepsake->free = malloc(node_capacity * sizeof(*keepsake->free));
    keepsake->header = memory_map(keepsake->fd, sizeof(*keepsake->header));
    keepsake->nodes =
        memory_map(keepsake->nodes_fd, (uint64_t)node_capacity * sizeof(*keepsake->nodes));
    keepsake->node_capacity = node_capacity;
    if (keepsake->free == NULL || keepsake->header == NULL || keepsake->nodes == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = node_capacity; i-- > 0;) {
        if (keepsake->nodes[i].file_id == 0) {
            keepsake->free[keepsake->free_count++] = i;
        }
    }
    return 0;
}

int keepsake_new(Keepsake *keepsake) {
    int r;

    *keepsake = (Keepsake){.fd = -1, .nodes_fd = -1};
    r = memory_new("berth-mount", sizeof(*keepsake->header), &keepsake->fd);
    if (r == 0) {
        r = memory_new("berth-nodes", NODES_FIRST * sizeof(*keepsake->nodes), &keepsake->nodes_fd);
    }
    if (r == 0) {
        r = map_all(keepsake, NODES_FIRST);
    }
    if (r < 0) {
        keepsake_done(keepsake);
        return r;
    }
    keepsake->header->magic = KEEPSAKE_MAGIC;
    keepsake->header->version = KEEPSAKE_VERSION;
    keepsake->header->slot_count = KEEPSAKE_SLOTS;
    return 0;
}

int keepsake_open(Keepsake *keepsake, int fd, int nodes_fd) {
    struct stat st, nodes;
    int r = -EPROTO;

    *keepsake = (Keepsake){.fd = fd, .nodes_fd = nodes_fd};
    if (fstat(fd, &st) == 0 && fstat(nodes_fd, &nodes) == 0 &&
        (uint64_t)st.st_size >= sizeof(*keepsake->header) &&
        (uint64_t)nodes.st_size / sizeof(*keepsake->nodes) - 1 < NODES_MAX) {
        r = map_all(keepsake, (uint32_t)((uint64_t)nodes.st_size / sizeof(*keepsake->nodes)));
    }
    if (r == 0 && (keepsake->header->magic != KEEPSAKE_MAGIC ||
                   keepsake->header->version != KEEPSAKE_VERSION ||
                   keepsake->header->slot_count != KEEPSAKE_SLOTS ||
                   keepsake->header->init_length > KEEPSAKE_INIT_MAX)) {
        r = -EPROTO; /* of another version of the program */
    }
    if (r < 0) {
        keepsake_done(keepsake);
    }
    return r;
}

void keepsake_done(Keepsake *keepsake) {
    if (keepsake->header != NULL) {
        (void)munmap(keepsake->header, sizeof(*keepsake->header));
    }
    if (keepsake->nodes != NULL) {
        (void)munmap(keepsake->nodes, keepsake->node_capacity * sizeof(*keepsake->nodes));
    }
    free(keepsake->free);
    base_closep(&keepsake->fd);
    base_closep(&keepsake->nodes_fd);
    *keepsake = (Keepsake){.fd = -1, .nodes_fd = -1};
}

static int nodes_double(Keepsake *keepsake) {
    uint32_t capacity = keepsake->node_capacity * 2;
    uint64_t size = (uint64_t)capacity * sizeof(*keepsake->nodes);
    uint32_t *stack;
    void *nodes;
    int r = capacity > NODES_MAX ? -ENOMEM : memory_grow(keepsake->nodes_fd, size);

    if (r < 0) {
        return r;
    }
    stack = reallocarray(keepsake->free, capacity, sizeof(*stack));
    if (stack == NULL) {
        return -ENOMEM;
    }
    keepsake->free = stack;
    nodes = mremap(keepsake->nodes, (size_t)size / 2, (size_t)size, MREMAP_MAYMOVE);
    if (nodes == MAP_FAILED) {
        return -errno;
    }
    keepsake->nodes = nodes;
    for (uint32_t i = capacity; i-- > keepsake->node_capacity;) {
        keepsake->free[keepsake->free_count++] = i;
    }
    keepsake->node_capacity = capacity;
    return 0;
}

int keepsake_node_take(Keepsake *keepsake, uint64_t file_id, uint32_t *ret_place) {
    int r = keepsake->free_count == 0 ? nodes_double(keepsake) : 0;

    if (r < 0) {
        return r;
    }
    *ret_place = keepsake->free[--keepsake->free_count];
    keepsake->nodes[*ret_place] = (KeepsakeNode){.lookups = 0};
    __atomic_store_n(&keepsake->nodes[*ret_place].file_id, file_id, __ATOMIC_RELEASE);
    return 0;
}

void keepsake_node_set(Keepsake *keepsake, uint32_t place, uint64_t lookups) {
    __atomic_store_n(&keepsake->nodes[place].lookups, lookups, __ATOMIC_RELEASE);
    if (lookups == 0) {
        __atomic_store_n(&keepsake->nodes[place].file_id, UINT64_C(0), __ATOMIC_RELEASE);
        keepsake->free[keepsake->free_count++] = place;
    }
}
