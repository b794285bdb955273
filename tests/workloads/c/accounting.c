/*
 * accounting SCENARIO: calls with surprising bookkeeping, one scenario a run, in one thread.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "protocol.h"

/* Not constants for the compiler, which would warn of (or drop) the calls. */
static volatile size_t too_much = PTRDIFF_MAX;
static volatile size_t far_too_much = SIZE_MAX / 2 + 2;

SITE_FUNCTION static void *allocate(size_t bytes) {
    void *block = malloc(bytes); /* SITE allocate */
    require(block != NULL);
    count_allocation(bytes);
    return block;
}

static void release(void *block, size_t bytes) {
    free(block);
    count_free(bytes);
}

/* reallocarray calls realloc, which calls malloc: one allocation. */
static void nested(void) {
    void *block = reallocarray(NULL, 10, 100);
    require(block != NULL);
    count_allocation(1000);
    block = reallocarray(block, 2000, 100);
    require(block != NULL);
    count_free(1000);
    count_allocation(200000);
    sink = block;
    require(reallocarray(sink, far_too_much, 4) == NULL);
    void *other = reallocarray(NULL, 7, 11);
    count_allocation(77);
    release(other, 77);
}

static void realloc_of_null(void) {
    sink = realloc(NULL, 5000);
    require(sink != NULL);
    count_allocation(5000);
}

/* glibc frees the block and returns NULL. */
static void realloc_to_zero(void) {
    void *block = allocate(4000);
    require(realloc(block, 0) == NULL);
    count_free(4000);
    sink = allocate(10);
}

static void realloc_moves_and_stays(void) {
    void *block = allocate(100);
    for (size_t bytes = 200; bytes <= 204800; bytes *= 2) {
        void *wall = allocate(64); /* in the way: the next realloc has to move */
        block = realloc(block, bytes);
        require(block != NULL);
        count_free(bytes / 2);
        count_allocation(bytes);
        sink = wall;
    }
    block = realloc(block, 204800 - 8); /* stays */
    require(block != NULL);
    count_free(204800);
    count_allocation(204800 - 8);
    sink = block;
}

/* One block that grows and shrinks, always from one place. */
static void realloc_in_one_place(void) {
    void *block = NULL;
    for (size_t i = 0, before = 0; i < 10000; i++) {
        size_t bytes = 1000 + i % 7;
        block = realloc(block, bytes);
        require(block != NULL);
        if (i > 0) count_free(before);
        count_allocation(bytes);
        before = bytes;
    }
    sink = block;
}

/* The old block stays, and can still be freed. */
static void failing_realloc(void) {
    void *kept = allocate(3000), *freed = allocate(2000);
    require(realloc(kept, too_much) == NULL && errno == ENOMEM);
    require(realloc(freed, far_too_much) == NULL);
    require(realloc(NULL, too_much) == NULL);
    release(freed, 2000);
    sink = kept;
}

static void failing_calls(void) {
    void *block = NULL;
    require(malloc(too_much) == NULL);
    require(malloc(far_too_much) == NULL);
    require(calloc(far_too_much, 4) == NULL); /* the product overflows to a small number */
    require(calloc(1, too_much) == NULL);
    require(aligned_alloc(64, too_much) == NULL);
    require(posix_memalign(&block, 64, too_much) != 0);
    require(posix_memalign(&block, 3, 100) == EINVAL); /* no alignment */
    sink = allocate(123);
}

static void free_of_null(void) {
    for (int i = 0; i < 1000; i++) free(NULL);
    release(allocate(50), 50);
    sink = allocate(60);
}

static void zero_sizes(void) {
    sink = malloc(0);
    count_allocation(0);
    void *block = calloc(0, 8);
    count_allocation(0);
    release(block, 0);
    sink = allocate(17);
}

/* The child's frees and allocations are not the parent's. */
static void fork_frees(void) {
    enum { BLOCKS = 100 };
    void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) blocks[i] = allocate(1000);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
        for (int i = 0; i < BLOCKS / 2; i++) sink = malloc(5000);
        _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && status == 0);
    for (int i = 0; i < BLOCKS / 2; i++) release(blocks[i], 1000);
    sink = allocate(77);
}

/* The new program is this one with the scenario `plain`, and says `ready` again. */
static void exec_replaces(char *program) {
    for (int i = 0; i < 100; i++) sink = allocate(1000);
    say_counts();
    await_word("exec");
    char *arguments[] = {program, "plain", NULL};
    execv("/proc/self/exe", arguments);
    _exit(BROKEN_EXPECTATION);
}

static void plain(void) {
    for (int i = 0; i < 10; i++) sink = allocate(400);
    release(allocate(300), 300);
}

static sigjmp_buf before_abort;

static void leave_abort(int signal) {
    (void)signal;
    siglongjmp(before_abort, 1);
}

SITE_FUNCTION static void allocate_deeper(int depth) {
    volatile char padding[96];
    padding[0] = (char)depth;
    if (depth > 0) {
        allocate_deeper(depth - 1);
        padding[1] = padding[0];
        return;
    }
    sink = allocate(40);
}

/* glibc aborts inside realloc because the pointer is no block; the handler jumps out: realloc never returns. */
static void jump_over_realloc(void) {
    static _Alignas(16) char no_heap[64];
    struct sigaction action = {.sa_handler = leave_abort};
    require(sigaction(SIGABRT, &action, NULL) == 0);
    void *kept = allocate(500);
    if (sigsetjmp(before_abort, 1) == 0) {
        sink = realloc(no_heap + 24, 4321);
        require(0);
    }
    allocate_deeper(3); /* deeper in the stack than the call that never returned */
    for (int i = 0; i < 10; i++) release(allocate(100), 100);
    void *grown = realloc(kept, 700);
    require(grown != NULL);
    count_free(500);
    count_allocation(700);
    sink = grown;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } scenarios[] = {
        {"nested", nested},
        {"realloc_of_null", realloc_of_null},
        {"realloc_to_zero", realloc_to_zero},
        {"realloc_moves_and_stays", realloc_moves_and_stays},
        {"realloc_in_one_place", realloc_in_one_place},
        {"failing_realloc", failing_realloc},
        {"failing_calls", failing_calls},
        {"free_of_null", free_of_null},
        {"zero_sizes", zero_sizes},
        {"fork_frees", fork_frees},
        {"plain", plain},
        {"jump_over_realloc", jump_over_realloc},
    };
    if (argc != 2) _exit(BAD_ARGUMENTS);
    if (strcmp(argv[1], "exec_replaces") == 0) {
        ready_and_go();
        exec_replaces(argv[0]);
    }
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, argv[1]) != 0) continue;
        ready_and_go();
        scenarios[i].run();
        tell_counts_and_exit();
    }
    _exit(BAD_ARGUMENTS);
}
