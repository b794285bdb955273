/*
 * sampled SEED: 4000 blocks of 16 to 4096 bytes that stay and as many that are freed, in an order and of sizes that
 * the seed decides.
 */
#include "protocol.h"

enum { BLOCKS = 4000, SMALLEST = 16, LARGEST = 4096 };

static uint64_t state;

/* splitmix64 */
static uint64_t next_random(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

SITE_FUNCTION static void *keep(size_t bytes) {
    return malloc(bytes); /* SITE keep */
}

int main(int argc, char **argv) {
    state = number_argument(argc, argv, 1);
    ready_and_go();
    for (int kept = 0, freed = 0; kept < BLOCKS || freed < BLOCKS;) {
        uint64_t random = next_random();
        size_t bytes = SMALLEST + (random >> 1) % (LARGEST - SMALLEST + 1);
        if (kept < BLOCKS && (random & 1 || freed == BLOCKS)) {
            sink = keep(bytes);
            kept++;
        } else {
            free(malloc(bytes));
            count_free(bytes);
            freed++;
        }
        count_allocation(bytes);
    }
    tell_counts_and_exit();
}
