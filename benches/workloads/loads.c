/*
 * A program that allocates as often as it is told.
 *
 * loads TURNS DEPTH: each line on standard input starts one window of PAIRS pairs of malloc and free below a call stack DEPTH
 * deep, with TURNS turns of a loop after each, and is answered by one line: nanoseconds of processor time. It does the same
 * work in each window.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEEP __attribute__((noinline))

enum { PAIRS = 20000, SLOTS = 1024, SMALLEST = 16, SIZES = 512 };

static void *slots[SLOTS];
static uint64_t turns;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

KEEP static void pair(uint64_t number)
{
    void **slot = &slots[number * 7919 % SLOTS];
    free(*slot);
    *slot = malloc(SMALLEST + number * 104729 % SIZES);
    if (*slot == NULL)
        exit(1);
    for (volatile uint64_t turn = 0; turn < turns; turn++) {}
}

/* The addition after the call keeps the frame. */
KEEP static int descend(int depth)
{
    if (depth > 0)
        return descend(depth - 1) + 1;
    for (uint64_t number = 0; number < PAIRS; number++)
        pair(number);
    return 0;
}

int main(int argc, char **argv)
{
    char line[16];
    if (argc != 3)
        return 1;
    turns = strtoull(argv[1], NULL, 10);
    while (fgets(line, sizeof line, stdin) != NULL) {
        int64_t start = now_ns();
        descend(atoi(argv[2]));
        printf("%lld\n", (long long)(now_ns() - start));
        fflush(stdout);
    }
}
