/*
 * Live blocks and pairs of malloc and free, as many and as fast as it is told.
 *
 * pairs THREADS: starts the threads and says `ready`; nothing is allocated from then on but what it is told, by a line each:
 *   fill BLOCKS           allocates so many blocks of 48 bytes, and keeps them
 *   run THREADS RATE MS   so many threads make pairs for MS milliseconds, RATE a second in all; as many as they can for 0
 * Each is answered by a line: nanoseconds it took, pairs made in it, blocks allocated and freed so far.
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MOST_THREADS = 64, SLOTS = 256, BYTES = 48, TICKS_PER_S = 1000, PAIRS_PER_LOOK = 64 };

static const int64_t SECOND_NS = 1000000000;

struct worker {
    pthread_t thread;
    void *slots[SLOTS];
    uint64_t pairs, next;
} __attribute__((aligned(64)));

static struct worker workers[MOST_THREADS];
static pthread_barrier_t start, end;
static int active;
static uint64_t pairs_per_tick;
static int64_t deadline_ns;
static uint64_t filled;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

static void sleep_until(int64_t at_ns)
{
    struct timespec at = { at_ns / SECOND_NS, at_ns % SECOND_NS };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void make_pairs(struct worker *worker, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        void **slot = &worker->slots[worker->next++ % SLOTS];
        free(*slot);
        *slot = malloc(BYTES);
        if (*slot == NULL)
            abort();
    }
    worker->pairs += count;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    for (;;) {
        pthread_barrier_wait(&start);
        if (worker - workers < active) {
            int64_t tick_ns = now_ns();
            while (tick_ns < deadline_ns) {
                make_pairs(worker, pairs_per_tick ? pairs_per_tick : PAIRS_PER_LOOK);
                if (pairs_per_tick)
                    sleep_until(tick_ns += SECOND_NS / TICKS_PER_S);
                else
                    tick_ns = now_ns();
            }
        }
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static uint64_t all_pairs(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < MOST_THREADS; i++)
        sum += workers[i].pairs;
    return sum;
}

/* Filled slots are not freed before they are used again. */
static uint64_t held(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < MOST_THREADS; i++)
        for (int slot = 0; slot < SLOTS; slot++)
            sum += workers[i].slots[slot] != NULL;
    return sum;
}

static void fill(uint64_t blocks)
{
    void **kept = mmap(NULL, blocks * sizeof *kept, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (kept == MAP_FAILED)
        abort();
    for (uint64_t i = 0; i < blocks; i++)
        if ((kept[i] = malloc(BYTES)) == NULL)
            abort();
    filled += blocks;
}

static void run(int threads, uint64_t rate, int64_t ms)
{
    active = threads;
    pairs_per_tick = rate / TICKS_PER_S / (uint64_t)threads;
    deadline_ns = now_ns() + ms * 1000000;
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
}

int main(int argc, char **argv)
{
    static char in[BUFSIZ], out[BUFSIZ];
    setvbuf(stdin, in, _IOLBF, sizeof in);
    setvbuf(stdout, out, _IOLBF, sizeof out);
    int threads = argc == 2 ? atoi(argv[1]) : 0;
    if (threads < 1 || threads > MOST_THREADS)
        return 1;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            return 1;
    puts("ready");
    char line[80];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long blocks, rate;
        long ms;
        int used;
        uint64_t before = all_pairs();
        int64_t start_ns = now_ns();
        if (sscanf(line, "fill %lu", &blocks) == 1)
            fill(blocks);
        else if (sscanf(line, "run %d %lu %ld", &used, &rate, &ms) == 3 && used >= 1 && used <= threads)
            run(used, rate, ms);
        else
            return 1;
        uint64_t pairs = all_pairs(), allocated = filled + pairs;
        printf("%lu %lu %lu %lu\n", (unsigned long)(now_ns() - start_ns), (unsigned long)(pairs - before),
               (unsigned long)allocated, (unsigned long)(pairs - held()));
    }
}
