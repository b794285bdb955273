/*
 * burst BLOCKS BYTES FREED: allocates as fast as it can, all from one site, then frees the first FREED of them. No
 * address is given out twice.
 */
#include <sys/mman.h>

#include "protocol.h"

SITE_FUNCTION static void *allocate(size_t bytes) {
    return malloc(bytes); /* SITE burst */
}

int main(int argc, char **argv) {
    uint64_t blocks = number_argument(argc, argv, 1);
    uint64_t bytes = number_argument(argc, argv, 2);
    uint64_t freed = number_argument(argc, argv, 3);
    require(freed <= blocks);
    void **all = mmap(NULL, blocks * sizeof *all, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    require(all != MAP_FAILED);
    ready_and_go();
    for (uint64_t i = 0; i < blocks; i++) {
        all[i] = allocate(bytes);
        require(all[i] != NULL);
        count_allocation(bytes);
    }
    for (uint64_t i = 0; i < freed; i++) {
        free(all[i]);
        count_free(bytes);
    }
    tell_counts_and_exit();
}
