/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer target over everything that a peer can send: requests, responses,
 * directory entries, HELLO. Beyond not crashing, decoding must be exact: what is
 * accepted encodes to the very bytes that came in.
 */
#include "berth/channel.h"
#include "berth/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

static void try_request(const uint8_t *data, size_t size) {
    static uint8_t again[FS_MESSAGE_MAX];
    char text[128], line[200];
    FSRequest request;

    if (fs_request_decode(data, size, &request, text) == 0) {
        (void)fs_request_to_text(&request, line, sizeof(line));
        require(fs_request_encode(&request, again, sizeof(again)) == (int)size);
        require(memcmp(again, data, size) == 0);
    }
}

static void try_response(const uint8_t *data, size_t size) {
    static uint8_t again[FS_MESSAGE_MAX];
    char text[128], line[200];
    FSResponse response;

    if (fs_response_decode(data, size, &response, text) == 0) {
        (void)fs_response_to_text(&response, line, sizeof(line));
        require(fs_response_encode(&response, again, sizeof(again)) == (int)size);
        require(memcmp(again, data, size) == 0);
    }
}

/* A whole listing, as the front-end walks it. */
static void try_dirents(const uint8_t *data, size_t size) {
    uint8_t again[512];
    FsDirEntry entry;

    while (size > 0) {
        int n = fs_dirent_decode(data, size, &entry);

        if (n < 0) {
            return;
        }
        require(n > 0 && (size_t)n <= size && (size_t)n <= sizeof(again));
        require(fs_dirent_encode(&entry, again, sizeof(again)) == n);
        require(memcmp(again, data, (size_t)n) == 0);
        data += n;
        size -= (size_t)n;
    }
}

static void try_hello(const uint8_t *data, size_t size) {
    uint8_t again[HELLO_SIZE];
    char text[128];
    Hello hello;

    if (hello_decode(data, size, &hello, text) == 0) {
        hello_encode(&hello, again);
        require(memcmp(again, data, size) == 0);
    }
}

/* The first byte chooses, so that each decoder gets a corpus of its own. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    switch (data[0] % 4) {
    case 0:
        try_request(data + 1, size - 1);
        break;
    case 1:
        try_response(data + 1, size - 1);
        break;
    case 2:
        try_dirents(data + 1, size - 1);
        break;
    default:
        try_hello(data + 1, size - 1);
        break;
    }
    return 0;
}
