/* SPDX-License-Identifier: MIT */
/* Writing one class of a folded batch (writer.h). */
#include "writer.h"

#define CHUNK_BYTES (2U << 20)

typedef struct ClassWriter {
    const Fold *fold;
    BlockDevice *device;
    uint32_t block_size;
    BlockBatch batch;
    uint8_t *chunk;
    size_t size, used;
    size_t run_start; /* bytes [run_start, used) are adjacent blocks not yet submitted */
    uint64_t run_block;
} ClassWriter;

static int submit_run(ClassWriter *writer) {
    uint64_t offset = writer->run_block * writer->block_size;
    uint64_t length = writer->used - writer->run_start;
    uint8_t *start = writer->chunk + writer->run_start;

    if (length == 0) {
        return 0;
    }
    writer->run_start = writer->used;
    /* The device's last block may be short. */
    return block_batch_write(&writer->batch, offset, start,
                             MIN(length, writer->device->size - offset));
}

static int finish_chunk(ClassWriter *writer) {
    int r = submit_run(writer);
    int waited = block_batch_wait(&writer->batch);

    writer->used = writer->run_start = 0;
    block_batch_init(&writer->batch, writer->device);
    return r < 0 ? r : waited;
}

static int write_block(ClassWriter *writer, const FoldBlock *block, unsigned class) {
    uint64_t run_blocks = (writer->used - writer->run_start) / writer->block_size;
    int r = 0;

    if (run_blocks > 0 && block->block != writer->run_block + run_blocks) {
        r = submit_run(writer);
        run_blocks = 0;
    }
    if (r == 0 && writer->used + writer->block_size > writer->size) {
        r = finish_chunk(writer);
        run_blocks = 0;
    }
    if (r < 0) {
        return r;
    }
    if (run_blocks == 0) {
        writer->run_block = block->block;
    }
    r = fold_block(writer->fold, block, class, writer->chunk + writer->used);
    if (r == 0) {
        writer->used += writer->block_size;
    }
    return r;
}

/* The blocks with items of any of these classes, as after `class`. */
static int write_blocks(const Fold *fold, BlockDevice *device, unsigned classes, unsigned class,
                        uint64_t *blocks) {
    ClassWriter writer = {.fold = fold, .device = device, .block_size = fold->log.block_size};
    void *chunk = NULL;
    int waited;
    int r = 0;

    writer.size =
        (size_t)MIN((uint64_t)CHUNK_BYTES, (uint64_t)fold->block_count * writer.block_size);
    if (writer.size == 0) {
        return 0;
    }
    if (posix_memalign(&chunk, 4096, writer.size) != 0) {
        return -ENOMEM;
    }
    writer.chunk = chunk;
    block_batch_init(&writer.batch, device);
    for (size_t i = 0; r == 0 && i < fold->block_count; i++) {
        if ((fold->blocks[i].classes & classes) != 0) {
            r = write_block(&writer, &fold->blocks[i], class);
            *blocks += r == 0;
        }
    }
    /* Also after an error: the chunk must outlive the writes. */
    waited = finish_chunk(&writer);
    free(chunk);
    return r < 0 ? r : waited;
}

int fold_write_class(const Fold *fold, BlockDevice *device, unsigned class, uint64_t *blocks) {
    return write_blocks(fold, device, 1U << class, class, blocks);
}

int fold_write_all(const Fold *fold, BlockDevice *device, uint64_t *blocks) {
    return write_blocks(fold, device, UINT8_MAX, FOLD_ALL, blocks);
}
