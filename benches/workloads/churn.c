/*
 * A loop of malloc and free, as hard on a tracer of allocations as a program can be.
 *
 * Each line on standard input starts one window of 200 ms of processor time of each thread, and is answered by one line:
 * nanoseconds of processor time for a pair of malloc and free, the mean of all threads. Between windows the program sleeps,
 * so that a tracer can come and go. 1024 slots of each thread are freed and filled anew in random order with blocks of 16 to
 * 527 bytes, below a call stack 16 deep. The argument is the number of threads, 1 if there is none.
 */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEEP __attribute__((noinline))

enum { SLOTS = 1024, SMALLEST = 16, SIZES = 512, DEPTH = 16, PAIRS_PER_LOOK = 256, MOST_THREADS = 64 };

static const int64_t WINDOW_NS = 200000000;

static _Thread_local void *slots[SLOTS];
static _Thread_local uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

KEEP static void exchange(void)
{
    uint64_t random = next_random();
    void **slot = &slots[random % SLOTS];
    free(*slot);
    *slot = malloc(SMALLEST + (random >> 32) % SIZES);
    if (*slot == NULL) {
        fputs("churn: out of memory\n", stderr);
        exit(1);
    }
}

KEEP static double window(void)
{
    int64_t start = now_ns(), spent = 0;
    uint64_t pairs = 0;
    while (spent < WINDOW_NS) {
        for (int i = 0; i < PAIRS_PER_LOOK; i++)
            exchange();
        pairs += PAIRS_PER_LOOK;
        spent = now_ns() - start;
    }
    return (double)spent / (double)pairs;
}

/* The addition after the call keeps the frame. */
KEEP static double descend(int depth)
{
    volatile double result = depth == 0 ? window() : descend(depth - 1);
    return result + 0.0;
}

/* What the threads wait for, and what they answer. */
static pthread_barrier_t start, end;
static double results[MOST_THREADS];

static void *work(void *result)
{
    for (;;) {
        pthread_barrier_wait(&start);
        *(double *)result = descend(DEPTH);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

int main(int count, char **words)
{
    int threads = count > 1 ? atoi(words[1]) : 1;
    if (threads < 1 || threads > MOST_THREADS) {
        fputs("churn: so many threads there cannot be\n", stderr);
        return 2;
    }
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    pthread_barrier_init(&end, NULL, (unsigned)threads);
    for (int i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, &results[i]) != 0) {
            fputs("churn: no thread\n", stderr);
            return 1;
        }
    }
    char line[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        pthread_barrier_wait(&start);
        results[0] = descend(DEPTH);
        pthread_barrier_wait(&end);
        double sum = 0;
        for (int i = 0; i < threads; i++)
            sum += results[i];
        printf("%.3f\n", sum / threads);
        fflush(stdout);
    }
}
