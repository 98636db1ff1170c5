/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target without libFuzzer: over every file named (files of a directory named), as it
 * is and with a few seeded mutations. So the targets stay alive in every build and compiler.
 *
 * usage: TARGET [--mutations N] [--prefix BYTE] FILE|DIRECTORY...
 * --prefix puts one byte before each file's contents.
 */
#include "berth/base.h"
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned mutations = 3, runs;
static int prefix = -1;
static uint64_t random_state = 88172645463325252u;

static char current[512]; /* what a crash would be about */

/* Present in sanitizer builds, which end without a signal. */
extern void __sanitizer_set_death_callback(void (*fn)(void)) __attribute__((weak));

static void say_current(void) {
    (void)!write(STDERR_FILENO, current, strlen(current));
}

static void on_signal(int number) {
    say_current();
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void run_bytes(uint8_t *bytes, size_t size, const char *name) {
    for (unsigned m = 0; m <= mutations && size > 0; m++) {
        for (unsigned k = 0; m > 0 && k < 8; k++) {
            /* Metadata lives at the front: most changes go there. */
            size_t limit = (next_random() & 3) != 0 ? MIN(size, (size_t)8192) : size;
            bytes[next_random() % limit] = (uint8_t)next_random();
        }
        snprintf(current, sizeof(current), "%s, mutation %u of seed 1\n", name, m);
        (void)LLVMFuzzerTestOneInput(bytes, size);
        runs++;
    }
}

static void run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat st;

    if (file == NULL || fstat(fileno(file), &st) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    size_t head = prefix >= 0;
    size_t size = (size_t)st.st_size + head;
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL || fread(bytes + head, 1, (size_t)st.st_size, file) != (size_t)st.st_size) {
        fprintf(stderr, "%s: cannot read\n", path);
        exit(1);
    }
    bytes[0] = head != 0 ? (uint8_t)prefix : bytes[0];
    run_bytes(bytes, size, path);
    free(bytes);
    fclose(file);
}

static void run_path(const char *path) {
    struct stat st;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    DIR *directory = opendir(path);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        static char full[4096];
        if (entry->d_name[0] != '.') {
            snprintf(full, sizeof(full), "%s/%s", path, entry->d_name);
            run_file(full);
        }
    }
    closedir(directory);
}

int main(int argc, char **argv) {
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(say_current);
    } else {
        signal(SIGSEGV, on_signal);
        signal(SIGABRT, on_signal);
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mutations") == 0 && i + 1 < argc) {
            mutations = (unsigned)strtoul(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--prefix") == 0 && i + 1 < argc) {
            prefix = (int)strtol(argv[++i], NULL, 0);
        } else {
            run_path(argv[i]);
        }
    }
    printf("%u inputs\n", runs);
    return runs == 0;
}
