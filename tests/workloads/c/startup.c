/*
 * startup: allocates in a constructor and first thing in main; with `startup_library` linked in also in the
 * library's constructor. Never frees.
 */
#include "protocol.h"

#ifdef WITH_LIBRARY
extern void *library_keeps;
#endif

static void *constructor_keeps;

__attribute__((constructor)) static void program_constructor(void) {
    constructor_keeps = malloc(222); /* SITE constructor */
    count_allocation(222);
}

int main(void) {
    sink = malloc(111); /* SITE main */
    count_allocation(111);
#ifdef WITH_LIBRARY
    require(library_keeps != NULL);
    count_allocation(333);
#endif
    tell_counts_and_exit();
}
