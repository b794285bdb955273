/*
 * leak KIND THREADS: leaks exactly 30000 bytes with one allocation function, spread over the threads, beside
 * allocations that are freed. KIND `nothing` only does the latter.
 */
#include <malloc.h>

#include "protocol.h"

enum { LEAKED_BYTES = 30000, CHURN_BLOCKS = 100, CHURN_BYTES = 200 };

SITE_FUNCTION static void *leak_malloc(size_t bytes) {
    return malloc(bytes); /* SITE malloc */
}

SITE_FUNCTION static void *leak_calloc(size_t bytes) {
    return calloc(2, bytes / 2); /* SITE calloc */
}

SITE_FUNCTION static void *leak_realloc(size_t bytes) {
    void *small = malloc(bytes / 3);
    count_allocation(bytes / 3);
    void *block = realloc(small, bytes); /* SITE realloc */
    count_free(bytes / 3);
    return block;
}

SITE_FUNCTION static void *leak_reallocarray(size_t bytes) {
    return reallocarray(NULL, 2, bytes / 2); /* SITE reallocarray */
}

SITE_FUNCTION static void *leak_posix_memalign(size_t bytes) {
    void *block = NULL;
    require(posix_memalign(&block, 64, bytes) == 0); /* SITE posix_memalign */
    return block;
}

SITE_FUNCTION static void *leak_aligned_alloc(size_t bytes) {
    return aligned_alloc(64, bytes); /* SITE aligned_alloc */
}

SITE_FUNCTION static void *leak_memalign(size_t bytes) {
    return memalign(64, bytes); /* SITE memalign */
}

SITE_FUNCTION static void *leak_valloc(size_t bytes) {
    return valloc(bytes); /* SITE valloc */
}

SITE_FUNCTION static void *leak_pvalloc(size_t bytes) {
    return pvalloc(bytes); /* SITE pvalloc */
}

static const struct {
    const char *name;
    void *(*leak)(size_t);
} kinds[] = {
    {"malloc", leak_malloc},
    {"calloc", leak_calloc},
    {"realloc", leak_realloc},
    {"reallocarray", leak_reallocarray},
    {"posix_memalign", leak_posix_memalign},
    {"aligned_alloc", leak_aligned_alloc},
    {"memalign", leak_memalign},
    {"valloc", leak_valloc},
    {"pvalloc", leak_pvalloc},
    {"nothing", NULL},
};

static void *(*leak)(size_t);
static size_t bytes_of_one;
static struct crew crew;

SITE_FUNCTION static void churn(void) {
    for (int i = 0; i < CHURN_BLOCKS; i++) {
        void *block = malloc(CHURN_BYTES);
        require(block != NULL);
        count_allocation(CHURN_BYTES);
        free(block);
        count_free(CHURN_BYTES);
    }
}

static void do_share(void) {
    churn();
    if (leak == NULL) return;
    sink = leak(bytes_of_one);
    require(sink != NULL);
    count_allocation(bytes_of_one);
}

static void *work(void *unused) {
    (void)unused;
    pthread_barrier_wait(&crew.barrier);
    do_share();
    pthread_barrier_wait(&crew.barrier);
    for (;;) pause(); /* a thread that ends gives memory back */
    return NULL;
}

int main(int argc, char **argv) {
    unsigned threads = (unsigned)number_argument(argc, argv, 2);
    size_t kind = 0;
    while (kind < sizeof kinds / sizeof *kinds && strcmp(kinds[kind].name, argv[1]) != 0) kind++;
    if (kind == sizeof kinds / sizeof *kinds || threads == 0) _exit(BAD_ARGUMENTS);
    leak = kinds[kind].leak;
    bytes_of_one = LEAKED_BYTES / threads;
    if (threads > 1) hire(&crew, threads, work);
    ready_and_go();
    if (threads > 1) {
        pthread_barrier_wait(&crew.barrier);
        pthread_barrier_wait(&crew.barrier);
    } else {
        do_share();
    }
    tell_counts_and_exit();
}
