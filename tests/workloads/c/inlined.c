/*
 * inlined: the allocation sits in a function that is inlined into another, which is inlined into a third.
 */
#include "protocol.h"

__attribute__((always_inline)) static inline void *innermost(size_t bytes) {
    return malloc(bytes); /* SITE innermost */
}

__attribute__((always_inline)) static inline void *middle(size_t bytes) {
    return innermost(bytes + 1); /* SITE middle */
}

SITE_FUNCTION static void outermost(void) {
    sink = middle(999); /* SITE outermost */
    count_allocation(1000);
}

int main(void) {
    ready_and_go();
    outermost();
    tell_counts_and_exit();
}
