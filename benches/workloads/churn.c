/*
 * A loop of malloc and free, as hard on a tracer of allocations as a program can be.
 *
 * Each line on standard input starts one window of 200 ms of processor time, and is answered by one line: nanoseconds
 * of processor time for a pair of malloc and free. Between windows the program sleeps, so that a tracer can come and
 * go. 1024 slots are freed and filled anew in random order with blocks of 16 to 527 bytes, below a call stack 16 deep.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEEP __attribute__((noinline))

enum { SLOTS = 1024, SMALLEST = 16, SIZES = 512, DEPTH = 16, PAIRS_PER_LOOK = 256 };

static const int64_t WINDOW_NS = 200000000;

static void *slots[SLOTS];
static uint64_t random_state = 0x9e3779b97f4a7c15u;

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
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
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

int main(void)
{
    char line[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        printf("%.3f\n", descend(DEPTH));
        fflush(stdout);
    }
}
