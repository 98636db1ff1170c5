/* SPDX-License-Identifier: MIT */
/*
 * Death at every instruction. A victim executes one request after another on a FAT volume whose
 * lifeline and device are shared memory; this traces it (ptrace) and lets it make one instruction
 * at a time, from the moment a request is there until its response is. Whenever what outlives the
 * victim has changed, a child recovers a copy as a successor would, re-sends the request, and
 * compares with the volume before and after: all or nothing before, everything after, the same
 * answer, done once. In some of these states the recovery is stepped through as well.
 *
 * What counts as a change: the header, the slots, the table of device writes, the object table
 * while a record is being applied, and the device after a system call. Bytes of the ring behind
 * head are dropped by any successor, so they make no new state (but they are in the copies).
 *
 * usage: single_step IMAGE [--every N] [--recoveries N] [--only LABEL]
 *     --every N: asks fsck.fat about every Nth state (default 16); --recoveries N: steps through
 *     recovery in every Nth state (default 400, 0: never)
 */
#include "single_step.h"
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <xxhash.h>

#define STATES_MAX 100000u
#define OBJECTS_WATCHED 64u
#define STEPS_MAX 40000000ul

typedef struct Options {
    const char *image, *only;
    unsigned long every, recoveries;
} Options;

typedef struct Tracer {
    pid_t victim;
    Shared *shared;
    Memory memory;
    const Options *options;
    uint64_t *seen; /* hashes of states judged; a table of STATES_MAX * 2 places */
    uint64_t device_hash;
    unsigned depth; /* 1: this victim is itself a recovery */
} Tracer;

/* ---- the victims ---- */

#define STOP_HERE() __asm__ volatile("int3" ::: "memory")

static void hand_over(Shared *shared, World *world) {
    STOP_HERE();
    shared->phase = PHASE_READY;
    world_execute(world, shared, &shared->response);
    shared->phase = PHASE_ANSWERED;
    STOP_HERE();
    shared->phase = PHASE_PREPARING;
}

_Noreturn static void victim_main(const Memory *memory, Shared *shared, const Options *options) {
    World world;
    int r = world_open(memory, &world);

    r = r == 0 ? world_mount(&world, false, 0) : r;
    for (unsigned i = 0; i < step_count && r >= 0; i++) {
        r = step_prepare(&world.driver, shared, i);
        if (r < 0) {
            (void)snprintf(shared->trouble, sizeof(shared->trouble), "preparing: %s", strerror(-r));
            break;
        }
        if (steps[i].quiet ||
            (options->only != NULL && strcmp(options->only, steps[i].label) != 0)) {
            world_execute(&world, shared, &shared->response);
        } else {
            hand_over(shared, &world);
        }
        for (unsigned j = 1; j <= 2; j++) {
            if (shared->held[j] != shared->held[0]) {
                step_let_go(&world.driver, shared->held[j]);
            }
        }
        if (steps[i].type == FS_MSG_LOOKUP) {
            shared->held[0] = shared->response.attr.file_id;
        }
        if (steps[i].quiet && shared->response.result < 0) {
            (void)snprintf(shared->trouble, sizeof(shared->trouble), "result %d",
                           shared->response.result);
            r = -1;
        }
    }
    shared->phase = PHASE_OVER;
    STOP_HERE();
    _exit(0);
}

/* A successor that may die as well. */
_Noreturn static void successor_main(const Memory *memory, Shared *shared) {
    World world;

    if (world_open(memory, &world) == 0) {
        STOP_HERE();
        shared->phase = PHASE_READY;
        (void)world_mount(&world, true, shared->seen);
        shared->phase = PHASE_ANSWERED;
        STOP_HERE();
    }
    _exit(0);
}

/* ---- tracing ---- */

_Noreturn static void die(const Tracer *tracer, const char *what) {
    fprintf(stderr, "single_step: \"%s\", step %lu, state %lu%s: %s: %s\n", tracer->shared->label,
            tracer->shared->steps, tracer->shared->states,
            tracer->depth > 0 ? ", in its recovery" : "", what,
            tracer->shared->trouble[0] != '\0' ? tracer->shared->trouble : strerror(errno));
    (void)kill(tracer->victim, SIGKILL);
    exit(1);
}

/* Waits for the victim's next stop. */
static int wait_stop(Tracer *tracer) {
    int status;

    if (waitpid(tracer->victim, &status, 0) != tracer->victim) {
        die(tracer, "waitpid");
    }
    if (!WIFSTOPPED(status)) {
        die(tracer, "the victim has ended");
    }
    if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
        (void)snprintf(tracer->shared->trouble, sizeof(tracer->shared->trouble), "%s",
                       strsignal(WSTOPSIG(status)));
        die(tracer, "the victim was ended by a signal");
    }
    return WSTOPSIG(status);
}

static void go(Tracer *tracer, bool one_step) {
    if (ptrace(one_step ? PTRACE_SINGLESTEP : PTRACE_CONT, tracer->victim, NULL, NULL) < 0) {
        die(tracer, "ptrace");
    }
}

/* A system call leaves its return address in rcx: only then can the device have changed. */
static bool was_system_call(const Tracer *tracer) {
    struct user_regs_struct registers;

    return ptrace(PTRACE_GETREGS, tracer->victim, NULL, &registers) == 0 &&
           registers.rcx == registers.rip;
}

static uint64_t state_hash(Tracer *tracer, bool look_at_device) {
    const uint8_t *base = tracer->memory.lifeline;
    const LifelineHeader *header = (const void *)base;
    LifelineLayout layout = lifeline_layout(STEP_SLOTS);
    uint64_t hash = XXH3_64bits(header, sizeof(*header));

    hash = XXH3_64bits_withSeed(base + layout.slots, STEP_SLOTS * sizeof(LifelineSlot), hash);
    hash = XXH3_64bits_withSeed(base + layout.writes, 8 * sizeof(BlockInflight), hash);
    if (header->applied != header->head) {
        hash = XXH3_64bits_withSeed(base + layout.objects, OBJECTS_WATCHED * sizeof(LifelineObject),
                                    hash);
    }
    if (look_at_device) {
        tracer->device_hash = XXH3_64bits(tracer->memory.device, tracer->memory.device_size);
    }
    return hash ^ tracer->device_hash;
}

/* True the first time. */
static bool is_new(Tracer *tracer, uint64_t hash) {
    size_t at = (size_t)(hash % (2 * STATES_MAX));

    for (hash |= 1; tracer->seen[at] != 0; at = (at + 1) % (2 * STATES_MAX)) {
        if (tracer->seen[at] == hash) {
            return false;
        }
    }
    tracer->seen[at] = hash;
    return ++tracer->shared->states < STATES_MAX;
}

typedef int JudgeFn(const Memory *memory, Shared *shared);

static int judge_plain(const Memory *memory, Shared *shared) {
    return judge_state(memory, shared, false);
}

static int judge_with_fsck(const Memory *memory, Shared *shared) {
    return judge_state(memory, shared, true);
}

/* Each judgement dies with its process, and whatever it has made. */
static void judge(Tracer *tracer, JudgeFn *fn) {
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        _exit(fn(&tracer->memory, tracer->shared) == 0 ? 0 : 1);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        die(tracer, "fork");
    }
    if (!WIFEXITED(status)) {
        die(tracer, "the successor was ended by a signal");
    }
    if (WEXITSTATUS(status) != 0) {
        die(tracer, "wrong");
    }
}

static void step_through(Tracer *tracer);

/* The recovery of this state, instruction by instruction, on a copy. */
static void step_recovery(Tracer *tracer) {
    Tracer inner = {.shared = tracer->shared,
                    .options = tracer->options,
                    .seen = tracer->seen,
                    .depth = tracer->depth + 1};

    tracer->shared->recoveries++;
    if (memory_copy(&tracer->memory, &inner.memory) < 0) {
        die(tracer, "copy");
    }
    inner.victim = fork();
    if (inner.victim == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        successor_main(&inner.memory, inner.shared);
    }
    (void)wait_stop(&inner);
    step_through(&inner);
    (void)kill(inner.victim, SIGKILL);
    (void)waitpid(inner.victim, NULL, 0);
    (void)munmap((void *)(uintptr_t)inner.memory.lifeline, inner.memory.lifeline_size);
    (void)munmap((void *)(uintptr_t)inner.memory.device, inner.memory.device_size);
    close(inner.memory.lifeline_fd);
    close(inner.memory.device_fd);
}

static void judge_new_state(Tracer *tracer) {
    unsigned long number = ++tracer->shared->checked;

    judge(tracer, number % tracer->options->every == 0 ? judge_with_fsck : judge_plain);
    if (tracer->depth == 0 && tracer->options->recoveries != 0 &&
        number % tracer->options->recoveries == 0) {
        step_recovery(tracer);
        tracer->shared->phase = PHASE_READY;
    }
}

/* From the victim's stop before a request to its stop after it. */
static void step_through(Tracer *tracer) {
    Shared *shared = tracer->shared;
    unsigned long count = 0;

    (void)is_new(tracer, state_hash(tracer, true));
    go(tracer, true);
    (void)wait_stop(tracer);
    while (shared->phase != PHASE_ANSWERED) {
        bool called;

        go(tracer, true);
        (void)wait_stop(tracer);
        shared->steps++;
        if (++count > STEPS_MAX) {
            die(tracer, "no end");
        }
        called = was_system_call(tracer);
        if (is_new(tracer, state_hash(tracer, called))) {
            judge_new_state(tracer);
        }
    }
    judge(tracer, judge_with_fsck);
}

static void run(Tracer *tracer) {
    Shared *shared = tracer->shared;

    (void)wait_stop(tracer);
    while (shared->phase != PHASE_OVER) {
        unsigned long steps_before = shared->steps;

        if (shared->trouble[0] != '\0') {
            die(tracer, "the victim");
        }
        judge(tracer, judge_foresee);
        memset(tracer->seen, 0, 2 * STATES_MAX * sizeof(*tracer->seen));
        shared->states = 0;
        step_through(tracer);
        if (shared->response.result != shared->expected.result) {
            die(tracer, "the victim's result is not the foreseen one");
        }
        printf("%-40s result %4d, %8lu instructions, %5lu states\n", shared->label,
               shared->response.result, shared->steps - steps_before, shared->states);
        go(tracer, false); /* to the end marker */
        (void)wait_stop(tracer);
        go(tracer, false); /* to the next request */
        (void)wait_stop(tracer);
    }
    if (shared->trouble[0] != '\0') {
        die(tracer, "the victim");
    }
    printf("%lu instructions, %lu states recovered, %lu recoveries stepped through\n",
           shared->steps, shared->checked, shared->recoveries);
}

static int parse(int argc, char **argv, Options *ret) {
    static const struct option names[] = {{"every", required_argument, NULL, 'e'},
                                          {"recoveries", required_argument, NULL, 'r'},
                                          {"only", required_argument, NULL, 'o'},
                                          {0}};
    int c;

    *ret = (Options){.every = 16, .recoveries = 400};
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (c == 'e') {
            ret->every = MAX(strtoul(optarg, NULL, 10), 1ul);
        } else if (c == 'r') {
            ret->recoveries = strtoul(optarg, NULL, 10);
        } else if (c == 'o') {
            ret->only = optarg;
        } else {
            return -1;
        }
    }
    ret->image = argv[optind];
    return argc == optind + 1 ? 0 : -1;
}

/* Tracer and victim take turns: side by side they would only wake each other across processors. */
static void stay_on_one_processor(void) {
    cpu_set_t set;
    int here = sched_getcpu();

    CPU_ZERO(&set);
    CPU_SET(here < 0 ? 0 : (unsigned)here, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv) {
    Options options;
    Tracer tracer = {.options = &options};
    int r;

    if (parse(argc, argv, &options) < 0) {
        fprintf(stderr, "usage: single_step IMAGE [--every N] [--recoveries N] [--only LABEL]\n");
        return 2;
    }
    stay_on_one_processor();
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    tracer.shared =
        mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    tracer.seen = calloc(2 * STATES_MAX, sizeof(*tracer.seen));
    r = memory_new(options.image, &tracer.memory);
    if (tracer.shared == MAP_FAILED || tracer.seen == NULL || r < 0) {
        fprintf(stderr, "single_step: %s\n", strerror(r < 0 ? -r : errno));
        return 2;
    }
    tracer.victim = fork();
    if (tracer.victim == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) {
            _exit(77);
        }
        victim_main(&tracer.memory, tracer.shared, &options);
    }
    run(&tracer);
    (void)kill(tracer.victim, SIGKILL);
    return 0;
}
