/*
 * stacks COUNT BLOCKS: allocates BLOCKS blocks of 32 bytes from each of COUNT distinct call stacks. The bits of a
 * stack's number decide which of two functions is called at each level.
 */
#include "protocol.h"

enum { LEVELS = 15, BYTES = 32 };

static void step(uint32_t number, int level);

SITE_FUNCTION static void turn_left(uint32_t number, int level) {
    step(number, level);
}

SITE_FUNCTION static void turn_right(uint32_t number, int level) {
    step(number, level);
}

SITE_FUNCTION static void step(uint32_t number, int level) {
    if (level == 0) {
        sink = malloc(BYTES); /* SITE stacks */
        require(sink != NULL);
        count_allocation(BYTES);
    } else if (number & 1) {
        turn_right(number >> 1, level - 1);
    } else {
        turn_left(number >> 1, level - 1);
    }
}

int main(int argc, char **argv) {
    uint32_t count = (uint32_t)number_argument(argc, argv, 1);
    uint32_t blocks = (uint32_t)number_argument(argc, argv, 2);
    require(count <= 1u << LEVELS);
    ready_and_go();
    for (uint32_t block = 0; block < blocks; block++)
        for (uint32_t number = 0; number < count; number++) step(number, LEVELS);
    tell_counts_and_exit();
}
