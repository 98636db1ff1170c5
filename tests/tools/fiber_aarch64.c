/* SPDX-License-Identifier: MIT */
/*
 * A small program of fibers for machines that the test suite itself does not
 * run on: registers (integer and floating point) over switches, locks under
 * chaos, a group, the pool. Needs neither Check nor io_uring. See
 * fiber_aarch64.sh.
 */
#include "berth/fiber.h"
#include "berth/log.h"

#include <stdarg.h>
#include <stdio.h>

/* The only thing the fibers need of the base library. */
void log_write(LogLevel level, const char *fmt, ...) {
    va_list args;

    (void)level;
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

#define EXPECT(condition)                                                 \
    do {                                                                  \
        if (!(condition)) {                                               \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            exit(EXIT_FAILURE);                                           \
        }                                                                 \
    } while (0)

enum { FIBERS = 8, ROUNDS = 1000 };

typedef struct Sum {
    uint64_t integer;
    double real;
} Sum;

static void compute(void *arg) {
    Sum *sum = arg;
    uint64_t a = sum->integer, b = a * 3, c = a * 5, d = a * 7, e = a * 11, f = a * 13;
    double u = sum->real, v = u * 3, w = u * 5, x = u * 7;

    for (unsigned i = 0; i < ROUNDS; i++) {
        fiber_yield();
        a += b ^ i, b += c, c += d ^ a, d += e, e += f, f += a;
        u += v, v += w * 0.5, w += x * 0.25, x += 1;
    }
    sum->integer = a + b + c + d + e + f;
    sum->real = u + v + w + x;
}

static void test_registers(void) {
    Sum together[FIBERS], alone;

    for (unsigned i = 0; i < FIBERS; i++) {
        together[i] = (Sum){i + 1, i + 0.5};
        EXPECT(fiber_spawn(compute, &together[i], "together") != NULL);
    }
    EXPECT(fiber_run_ready() == FIBERS * (ROUNDS + 1));
    for (unsigned i = 0; i < FIBERS; i++) {
        alone = (Sum){i + 1, i + 0.5};
        EXPECT(fiber_spawn(compute, &alone, "alone") != NULL);
        (void)fiber_run_ready();
        EXPECT(alone.integer == together[i].integer);
        EXPECT(alone.real == together[i].real);
    }
}

static FiberMutex mutex;
static unsigned holders, most_holders, passes;

static int lock_task(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < 10; i++) {
        fiber_mutex_lock(&mutex);
        most_holders = MAX(most_holders, ++holders);
        fiber_maybe_yield();
        holders--;
        passes++;
        fiber_mutex_unlock(&mutex);
    }
    return -EIO;
}

static void lock_in_group(void *arg) {
    FiberGroup group;

    fiber_group_init(&group, 4);
    for (unsigned i = 0; i < 20; i++) {
        fiber_group_start(&group, lock_task, NULL);
    }
    *(int *)arg = fiber_group_wait(&group);
}

static void test_locks(void) {
    for (uint64_t seed = 0; seed < 20; seed++) {
        int result = 0;

        passes = most_holders = 0;
        fiber_mutex_init(&mutex);
        fiber_set_chaos(seed);
        EXPECT(fiber_spawn(lock_in_group, &result, "owner") != NULL);
        (void)fiber_run_ready();
        EXPECT(fiber_count() == 0);
        EXPECT(result == -EIO && passes == 200 && most_holders == 1);
    }
    fiber_set_chaos(0);
}

int main(void) {
    EXPECT(fiber_sched_init(32) == 0);
    test_registers();
    test_locks();
    EXPECT(fiber_stack_high_water() > 0 && fiber_stack_high_water() < FIBER_STACK_SIZE);
    fiber_sched_done();
    (void)puts("ok");
    return EXIT_SUCCESS;
}
