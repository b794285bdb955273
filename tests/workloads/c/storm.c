/*
 * storm DEPTH SPIN FREES: a program whose allocations cost a tracer as much as the test wants.
 *
 * go     holds 1000 blocks of 100 bytes, and answers with the counts
 * storm  works until the next line comes, and answers with the counts: again and again, below DEPTH calls, it allocates a
 *        block, spins for SPIN microseconds of processor time, frees the block, and frees nothing FREES times. Of 8 blocks
 *        one is kept.
 */
#include <poll.h>
#include <time.h>

#include "protocol.h"

enum { HELD = 1000, HELD_BYTES = 100, SMALLEST = 16, SIZES = 1024, ROUNDS_PER_LOOK = 16, TRIAL_TURNS = 4000000 };

static uint64_t random_state = 0x9e3779b97f4a7c15u;
static uint64_t turns_per_round, frees;
/* volatile, so that no call is optimised away. */
static void *volatile nothing;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void spin(uint64_t turns) {
    for (volatile uint64_t turn = 0; turn < turns; turn++) {}
}

/* Turns of spin() in a microsecond of processor time. */
static double turns_per_us(void) {
    struct timespec start, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    spin(TRIAL_TURNS);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    return TRIAL_TURNS / ((end.tv_sec - start.tv_sec) * 1e6 + (end.tv_nsec - start.tv_nsec) / 1e3);
}

SITE_FUNCTION static void hold(void) {
    for (int i = 0; i < HELD; i++) {
        sink = malloc(HELD_BYTES); /* SITE hold */
        require(sink != NULL);
        count_allocation(HELD_BYTES);
    }
}

SITE_FUNCTION static void work(void) {
    uint64_t random = next_random();
    size_t bytes = SMALLEST + (random >> 8) % SIZES;
    void *block = malloc(bytes); /* SITE work */
    require(block != NULL);
    count_allocation(bytes);
    spin(turns_per_round);
    if (random % 8 == 0) {
        sink = block;
    } else {
        free(block);
        count_free(bytes);
    }
    for (uint64_t i = 0; i < frees; i++) free(nothing);
}

/* The addition after the call keeps the frame. */
SITE_FUNCTION static int descend(uint64_t depth) {
    if (depth > 0) return descend(depth - 1) + 1;
    for (int i = 0; i < ROUNDS_PER_LOOK; i++) work();
    return 0;
}

int main(int argc, char **argv) {
    uint64_t depth = number_argument(argc, argv, 1);
    turns_per_round = (uint64_t)(turns_per_us() * (double)number_argument(argc, argv, 2));
    frees = number_argument(argc, argv, 3);
    ready_and_go();
    hold();
    say_counts();
    for (;;) {
        char word[64];
        ssize_t length = read(0, word, sizeof word);
        if (length <= 0) _exit(BAD_CONVERSATION);
        if (memcmp(word, "exit", 4) == 0) _exit(0);
        struct pollfd input = {.fd = 0, .events = POLLIN};
        while (poll(&input, 1, 0) == 0) descend(depth);
        await_word("halt");
        say_counts();
    }
}
