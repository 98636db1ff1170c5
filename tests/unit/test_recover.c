/* SPDX-License-Identifier: MIT */
/*
 * Death and succession. One life after the other, each a process of its own,
 * takes over the lifeline and a medium in shared memory, compares all it finds
 * with a model (blocks, objects, replies, freed ranges), goes on working and
 * dies: before or after a commit, inside a write or flush of a checkpoint (the
 * write half done), or between any two stores to the lifeline's header, slots and
 * objects in recovery, commit or checkpoint. The parent lets the rescue writer
 * work on a copy of what each left.
 *
 * What a life is about to do is noted in shared memory first, so that its
 * successor repeats it, as a front-end would send it again.
 */
#include "../../src/cache/internal.h"
#include "cache_support.h"
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

#define WORLD_BLOCKS 64u
#define STABLE_BLOCKS 40u /* 1 to 39 are never freed; 40 to 63 are, and made anew */
#define MAX_STEPS 4000u
#define WORLD_SLOTS 8u
#define WORLD_IDS 12u
#define EXIT_KILLED 7
#define EXIT_WRONG 9

/* One operation, as data. */
typedef struct Step {
    Plan plan;
    uint64_t free_block; /* 0: none */
    uint64_t file_id;    /* 0: none */
    bool object_put;
    uint32_t blob_length;
    uint8_t blob[40];
    uint64_t lsn; /* of its record */
} Step;

typedef struct World {
    uint64_t started, done; /* steps; what is between may have been committed */
    uint64_t checked;       /* steps seen by a successor: never fewer later */
    uint64_t recoveries, replayed_bytes;
    uint8_t initial[WORLD_BLOCKS * BLOCK];
    uint8_t medium[WORLD_BLOCKS * BLOCK];
    Step steps[MAX_STEPS]; /* step n is [n - 1] */
} World;

static World *world;
static int memory_fd = -1;

PRINTF_LIKE(1, 2) static void wrong(const char *fmt, ...) {
    va_list args;

    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
    _exit(EXIT_WRONG);
}

/* ---- the model: the state after so many steps ---- */

typedef struct Model {
    uint8_t blocks[WORLD_BLOCKS * BLOCK];
    bool freed[WORLD_BLOCKS];
    const Step *objects[WORLD_IDS + 1]; /* that put it, or NULL */
} Model;

static void model_step(Model *model, uint64_t number) {
    const Step *step = &world->steps[number - 1];
    Volume volume = {.model = model->blocks};
    Plan plan = step->plan;

    plan.volume = &volume;
    plan_model(&plan);
    for (unsigned i = 0; i < plan.count; i++) {
        model->freed[plan.ops[i].block] = false;
    }
    memcpy(model->blocks, &number, sizeof(number));
    if (step->free_block != 0) {
        model->freed[step->free_block] = true;
    }
    if (step->file_id != 0) {
        model->objects[step->file_id] = step->object_put ? step : NULL;
    }
}

static void model_build(Model *model, uint64_t steps) {
    *model = (Model){0};
    memcpy(model->blocks, world->initial, sizeof(model->blocks));
    for (uint64_t i = 1; i <= steps; i++) {
        model_step(model, i);
    }
}

/* ---- dying ---- */

static uint64_t events_left; /* until death at an event; 0: not armed */

static bool doomed_now(void) {
    return events_left > 0 && --events_left == 0;
}

#if defined(__x86_64__)
#define TRAP_FLAG 0x100

static uint64_t stores_left;
static Lifeline *guarded;

static void guard(int protection) {
    if (mprotect(guarded->header, guarded->control_size, protection) < 0) {
        _exit(EXIT_WRONG);
    }
}

/* The store that the guard has stopped is let through, alone. */
static void on_fault(int number, siginfo_t *info, void *context) {
    const uint8_t *start = (const uint8_t *)guarded->header;
    const uint8_t *at = info->si_addr;
    ucontext_t *where = context;

    if (at < start || at >= start + guarded->control_size) {
        (void)signal(number, SIG_DFL);
        return;
    }
    guard(PROT_READ | PROT_WRITE);
    where->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void after_store(int number, siginfo_t *info, void *context) {
    ucontext_t *where = context;

    (void)number;
    (void)info;
    if (--stores_left == 0) {
        _exit(EXIT_KILLED);
    }
    guard(PROT_READ);
    where->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

/* Death comes after so many stores to header, slots and objects from now on. 0: not. */
static void count_stores(Lifeline *lifeline, uint64_t limit) {
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction trap = {.sa_sigaction = after_store, .sa_flags = SA_SIGINFO};

    if (limit == 0) {
        return;
    }
    guarded = lifeline;
    stores_left = limit;
    (void)sigaction(SIGSEGV, &fault, NULL);
    (void)sigaction(SIGTRAP, &trap, NULL);
    guard(PROT_READ);
}

static void stop_counting(void) {
    if (stores_left > 0) {
        guard(PROT_READ | PROT_WRITE);
        stores_left = 0;
    }
}
#else
static void count_stores(Lifeline *lifeline, uint64_t limit) {
    (void)lifeline;
    (void)limit;
}
static void stop_counting(void) {
}
#endif

/* ---- a device whose user may die in the middle of a request ---- */

static void mortal_submit(BlockDevice *device, BlockRequest *request) {
    const bool dies = doomed_now();
    uint8_t *at = world->medium + request->offset;

    if (dies && random_below(2) == 0) {
        _exit(EXIT_KILLED);
    }
    for (int i = 0; i < request->iov_count; i++) {
        size_t length = request->iov[i].iov_len;

        if (request->op == BLOCK_READ) {
            memcpy(request->iov[i].iov_base, at, length);
        } else {
            memcpy(at, request->iov[i].iov_base, dies ? random_below(length) : length);
        }
        at += length;
    }
    if (dies) {
        _exit(EXIT_KILLED);
    }
    block_complete(request, 0);
    (void)device;
}

static void mortal_free(BlockDevice *device) {
    (void)device;
}

static const BlockBackend mortal_backend = {
    .name = "mortal", .submit = mortal_submit, .free = mortal_free};

/* ---- one step ---- */

static int encode_number(void *arg, uint8_t *buf, uint32_t capacity) {
    const uint64_t number = *(const uint64_t *)arg;
    uint32_t length = 8 + (uint32_t)(number % 200);

    if (doomed_now() || capacity < length) {
        _exit(EXIT_KILLED);
    }
    memset(buf, (int)(number & 0xff), length);
    memcpy(buf, &number, sizeof(number));
    return (int)length;
}

static void after_commit(void *arg) {
    (void)arg;
    if (doomed_now()) {
        _exit(EXIT_KILLED);
    }
}

typedef struct Life {
    Volume volume;
    Lifeline *lifeline;
    uint64_t number; /* of the step under way */
} Life;

static int step_objects(Txn *txn, const Step *step) {
    if (step->file_id == 0) {
        return 0;
    }
    return step->object_put ? txn_object_put(txn, step->file_id, TXN_OBJECT_ORPHAN, step->blob,
                                             step->blob_length)
                            : txn_object_remove(txn, step->file_id, TXN_OBJECT_ORPHAN);
}

static int step_body(Txn *txn, void *arg) {
    Life *life = arg;
    Step *step = &world->steps[life->number - 1];
    Cache *cache = life->volume.cache;
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r = cache_get(cache, 0, &buffer);

    step->lsn = txn->lsn;
    for (unsigned i = 0; r == 0 && i < step->plan.count; i++) {
        r = op_run(txn, cache, &step->plan.ops[i]);
    }
    if (r == 0) {
        r = txn_write(txn, buffer, 0, &life->number, sizeof(life->number), TXN_CLASS_MAX - 1);
    }
    if (r == 0 && step->free_block != 0) {
        r = txn_free_blocks(txn, step->free_block, 1);
    }
    if (r == 0) {
        r = step_objects(txn, step);
    }
    return r == 0 ? txn_on_commit(txn, after_commit, NULL) : r;
}

static void invent_step(Life *life, const Model *model, Step *step) {
    bool fresh[WORLD_BLOCKS] = {false};
    unsigned kept = 0;

    plan_random(&step->plan, &life->volume, WORLD_BLOCKS - 1);
    for (unsigned i = 0; i < step->plan.count; i++) {
        Op op = step->plan.ops[i];

        op.block++;
        if (model->freed[op.block] && !fresh[op.block]) {
            if (cache_range_pending(life->volume.cache, op.block, 1)) {
                continue;
            }
            op.kind = OP_NEW;
        }
        fresh[op.block] = true;
        step->plan.ops[kept++] = op;
    }
    step->plan.count = kept;
    step->free_block = STABLE_BLOCKS + random_below(WORLD_BLOCKS - STABLE_BLOCKS);
    if (random_below(3) != 0 || model->freed[step->free_block] || fresh[step->free_block] ||
        cache_range_pending(life->volume.cache, step->free_block, 1)) {
        step->free_block = 0;
    }
    step->file_id = random_below(2) == 0 ? 0 : 1 + random_below(WORLD_IDS);
    step->object_put = random_below(3) != 0;
    step->blob_length = random_below(sizeof(step->blob) + 1);
    for (unsigned i = 0; i < sizeof(step->blob); i++) {
        step->blob[i] = (uint8_t)random_next();
    }
}

static unsigned slot_of(uint64_t number) {
    return (unsigned)(number * 3 % WORLD_SLOTS);
}

/* Runs step `number`, whichever life invented it. */
static void run_step(Life *life, uint64_t number) {
    uint64_t value = number;
    TxnReply reply = {
        .slot = (uint16_t)slot_of(number), .seq = number, .encode = encode_number, .arg = &value};
    uint8_t bytes[256];
    int r;

    if (cache_slot_reply(life->volume.cache, slot_of(number), number, bytes) != 0) {
        wrong("step %lu is recorded before it ran", (unsigned long)number);
    }
    life->number = number;
    r = txn_run(life->volume.cache, &reply, step_body, life);
    if (r == -EAGAIN) {
        /* The log is full and nothing may be written before the fence. */
        cache_settled(life->volume.cache);
        r = txn_run(life->volume.cache, &reply, step_body, life);
    }
    if (r != 0) {
        wrong("step %lu: %d", (unsigned long)number, r);
    }
    world->done = number;
}

/* ---- what a successor finds ---- */

static void check_blocks(Life *life, const Model *model) {
    for (uint64_t i = 0; i < WORLD_BLOCKS; i++) {
        Buffer *buffer;

        if (model->freed[i]) {
            continue;
        }
        if (cache_get(life->volume.cache, i, &buffer) != 0) {
            wrong("block %lu cannot be read", (unsigned long)i);
        }
        if (memcmp(buffer->data, model->blocks + i * BLOCK, BLOCK) != 0) {
            wrong("block %lu differs from the model", (unsigned long)i);
        }
        cache_put(buffer);
    }
}

static int count_object(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                        uint32_t length) {
    (void)blob;
    (void)length;
    if (file_id == 0 || file_id > WORLD_IDS || kind != TXN_OBJECT_ORPHAN) {
        wrong("object %lu was never put", (unsigned long)file_id);
    }
    ++*(unsigned *)arg;
    return 0;
}

static void check_objects(Life *life, const Model *model) {
    unsigned found = 0, expected = 0;
    uint64_t ids[64];

    (void)cache_object_iterate(life->volume.cache, count_object, &found);
    for (uint64_t id = 1; id <= WORLD_IDS; id++) {
        const Step *put = model->objects[id];
        uint8_t blob[TXN_OBJECT_BLOB_MAX];
        int r = cache_object_get(life->volume.cache, id, TXN_OBJECT_ORPHAN, blob, sizeof(blob));

        expected += put != NULL;
        if (put == NULL ? r != -ENOENT
                        : r != (int)put->blob_length || memcmp(blob, put->blob, (size_t)r) != 0) {
            wrong("object %lu is not as it was: %d", (unsigned long)id, r);
        }
    }
    if (found != expected ||
        lifeline_memory_objects(memory_fd, WORLD_SLOTS, ids, ARRAY_SIZE(ids)) != (int)expected) {
        wrong("%u objects instead of %u", found, expected);
    }
}

static void check_replies(Life *life, uint64_t steps) {
    for (uint64_t number = steps; number > 0 && number + WORLD_SLOTS > steps; number--) {
        uint8_t reply[256], expected[256];
        int length = encode_number(&number, expected, sizeof(expected));
        Cache *cache = life->volume.cache;

        if (cache_slot_reply(cache, slot_of(number), number, reply) != length ||
            memcmp(reply, expected, (size_t)length) != 0) {
            wrong("the reply of step %lu is lost", (unsigned long)number);
        }
        if (cache_slot_reply(cache, slot_of(number), number + 1, reply) != 0 ||
            cache_slot_reply(cache, slot_of(number), number - 1, reply) != -EPROTO) {
            wrong("the slot of step %lu answers others", (unsigned long)number);
        }
    }
}

static void check_pending(Life *life, uint64_t steps) {
    uint64_t tail = life->volume.cache->log->tail;
    bool pending[WORLD_BLOCKS] = {false};

    for (uint64_t i = 1; i <= steps; i++) {
        const Step *step = &world->steps[i - 1];

        if (step->free_block != 0 && step->lsn >= tail) {
            pending[step->free_block] = true;
        }
    }
    for (uint64_t i = 1; i < WORLD_BLOCKS; i++) {
        if (cache_range_pending(life->volume.cache, i, 1) != pending[i]) {
            wrong("block %lu is %spending", (unsigned long)i, pending[i] ? "not " : "");
        }
    }
}

/* Returns the number of steps that have happened. */
static uint64_t check_all(Life *life, Model *model) {
    uint64_t steps = 0;
    Buffer *buffer;

    if (cache_get(life->volume.cache, 0, &buffer) != 0) {
        wrong("block 0 cannot be read");
    }
    memcpy(&steps, buffer->data, sizeof(steps));
    cache_put(buffer);
    if (steps < world->done || steps > world->started || steps < world->checked) {
        wrong("%lu steps after %lu answered and %lu started", (unsigned long)steps,
              (unsigned long)world->done, (unsigned long)world->started);
    }
    world->done = world->checked = steps;
    model_build(model, steps);
    check_blocks(life, model);
    check_objects(life, model);
    check_replies(life, steps);
    check_pending(life, steps);
    return steps;
}

/* ---- a life ---- */

static void life_failed(void *arg, int error) {
    (void)arg;
    wrong("write-out failed: %d", error);
}

static void take_over(Life *life, uint64_t stores) {
    CacheConfig config = {.block_size = BLOCK, .recover = true, .failed = life_failed};
    int r;

    life->volume.device = block_device_new(&mortal_backend, NULL, sizeof(world->medium), BLOCK);
    if (lifeline_open(memory_fd, WORLD_SLOTS, &life->lifeline) < 0 || life->volume.device == NULL) {
        wrong("cannot begin");
    }
    config.device = life->volume.device;
    config.lifeline = life->lifeline;
    count_stores(life->lifeline, stores);
    r = cache_new(&config, &life->volume.cache);
    stop_counting();
    if (r != 0) {
        wrong("cache_new: %d", r);
    }
    if (cache_recovered(life->volume.cache)) {
        world->recoveries++;
        world->replayed_bytes += lifeline_used(life->volume.cache->log);
    }
}

static void work(Life *life, Model *model, uint64_t steps) {
    unsigned count = random_below(40);

    for (unsigned i = 0; i < count && steps < MAX_STEPS; i++) {
        if (steps == world->started) {
            invent_step(life, model, &world->steps[steps]);
            world->started = steps + 1;
        }
        count_stores(life->lifeline, random_below(8) == 0 ? 1 + random_below(60) : 0);
        run_step(life, ++steps);
        stop_counting();
        model_step(model, steps);
        if (random_below(12) == 0) {
            cache_settled(life->volume.cache);
            count_stores(life->lifeline, random_below(3) == 0 ? 1 + random_below(24) : 0);
            if (cache_sync(life->volume.cache) != 0) {
                wrong("cache_sync");
            }
            stop_counting();
        }
    }
}

static _Noreturn void live(uint64_t seed, bool last) {
    static Model model;
    Life life = {0};
    uint64_t steps;

    random_seed(seed);
    take_over(&life, last || random_below(3) != 0 ? 0 : 1 + random_below(70));
    steps = check_all(&life, &model);
    if (last) {
        cache_settled(life.volume.cache);
        if (cache_sync(life.volume.cache) != 0) {
            wrong("cache_sync");
        }
        (void)cache_free(life.volume.cache);
        (void)lifeline_free(life.lifeline);
        (void)block_free(life.volume.device);
        _exit(0);
    }
    if (random_below(2) == 0) {
        cache_settled(life.volume.cache);
    }
    events_left = random_below(3) == 0 ? 0 : 1 + random_below(120);
    work(&life, &model, steps);
    _exit(EXIT_KILLED);
}

/* ---- the parent ---- */

static void compare_medium(const uint8_t *medium, const char *who, uint64_t seed) {
    static Model model;
    uint64_t steps;

    memcpy(&steps, medium, sizeof(steps));
    ck_assert_msg(steps >= world->done && steps <= world->started, "seed %lu: %s: %lu steps",
                  (unsigned long)seed, who, (unsigned long)steps);
    model_build(&model, steps);
    for (uint64_t i = 0; i < WORLD_BLOCKS; i++) {
        ck_assert_msg(
            model.freed[i] || memcmp(medium + i * BLOCK, model.blocks + i * BLOCK, BLOCK) == 0,
            "seed %lu: %s: block %lu differs", (unsigned long)seed, who, (unsigned long)i);
    }
}

static void check_rescue(uint64_t seed) {
    static uint8_t copy[WORLD_BLOCKS * BLOCK];
    _cleanup_(block_freep) BlockDevice *device = NULL;
    LifelineRescue report;

    memcpy(copy, world->medium, sizeof(copy));
    ck_assert_int_eq(block_memory_new(sizeof(copy), BLOCK, copy, &device), 0);
    ck_assert_int_eq(lifeline_memory_rescue(memory_fd, WORLD_SLOTS, device, NULL, &report), 0);
    ck_assert_str_eq(report.text, "");
    compare_medium(copy, "rescue", seed);
}

static void live_and_die(uint64_t seed, bool last) {
    pid_t child = fork();
    int status;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        live(seed, last);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == (last ? 0 : EXIT_KILLED),
                  "seed %lu: status %x", (unsigned long)seed, (unsigned)status);
    check_rescue(seed);
}

static void world_begin(uint64_t seed) {
    world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(world, MAP_FAILED);
    /* Tiny: it turns around many times. */
    ck_assert_int_eq(lifeline_memory_new(1, WORLD_SLOTS, &memory_fd), 0);
    random_seed(seed);
    for (size_t i = sizeof(uint64_t); i < sizeof(world->initial); i++) {
        world->initial[i] = (uint8_t)random_next();
    }
    memcpy(world->medium, world->initial, sizeof(world->medium));
}

static void world_end(void) {
    (void)close(memory_fd);
    (void)munmap(world, sizeof(*world));
}

START_TEST(test_lives) {
    unsigned lives = 60;

    world_begin((uint64_t)_i + 1000);
    for (unsigned i = 0; i < lives; i++) {
        live_and_die((uint64_t)_i * 1000 + i, false);
    }
    ck_assert_uint_gt(world->recoveries, 20);
    ck_assert_uint_gt(world->replayed_bytes, 100000);
    ck_assert_uint_gt(world->done, 100);
    live_and_die((uint64_t)_i * 1000 + lives, true);
    compare_medium(world->medium, "checkpoint", (uint64_t)_i);
    world_end();
}
END_TEST

/* ---- every store in turn ---- */

/* A short life, always the same, that ends after so many stores, or does not. */
static _Noreturn void rehearse(uint64_t stores) {
    static Model model;
    Life life = {0};

    random_seed(42);
    take_over(&life, 0);
    model_build(&model, 0);
    count_stores(life.lifeline, stores);
    for (uint64_t i = 1; i <= 8; i++) {
        Step *step = &world->steps[i - 1];

        invent_step(&life, &model, step);
        /* Put, put again, removed, the place taken by another. */
        step->file_id = i < 4 ? 1 : 2 + i % 2;
        step->object_put = i != 3;
        world->started = i;
        run_step(&life, i);
        model_step(&model, i);
        if (i % 4 == 0 && cache_sync(life.volume.cache) != 0) {
            wrong("cache_sync");
        }
    }
    _exit(0);
}

/* The successor, which dies as well. */
static _Noreturn void rehearse_recovery(uint64_t stores) {
    Life life = {0};

    take_over(&life, stores);
    _exit(EXIT_KILLED);
}

static int run_child(void (*fn)(uint64_t stores), uint64_t stores) {
    pid_t child = fork();
    int status;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        fn(stores);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) != EXIT_WRONG, "store %lu: status %x",
                  (unsigned long)stores, (unsigned)status);
    return WEXITSTATUS(status);
}

START_TEST(test_every_store) {
    uint64_t stores = 0;
    int ended;

    do {
        stores++;
        world_begin(1);
        ended = run_child(rehearse, stores);
        check_rescue(stores);
        ck_assert_int_eq(run_child(rehearse_recovery, 1 + stores % 45), EXIT_KILLED);
        check_rescue(stores);
        live_and_die(stores, true);
        compare_medium(world->medium, "checkpoint", stores);
        world_end();
    } while (ended == EXIT_KILLED);
#if defined(__x86_64__)
    ck_assert_uint_gt(stores, 100);
#endif
}
END_TEST

static Suite *recover_suite(void) {
    Suite *suite = suite_create("recovery");
    TCase *lives = tcase_create("lives");

    tcase_set_timeout(lives, 100);
    tcase_add_loop_test(lives, test_lives, 0, 10);
    tcase_add_test(lives, test_every_store);
    suite_add_tcase(suite, lives);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(recover_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
