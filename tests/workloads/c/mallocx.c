/* mallocx: jemalloc's own interface, as the library that is loaded has it. */
#include "protocol.h"

#define DECLARE(type, name, ...) extern type name(__VA_ARGS__) __attribute__((weak))
DECLARE(void *, mallocx, size_t, int);
DECLARE(void *, rallocx, void *, size_t, int);
DECLARE(size_t, xallocx, void *, size_t, size_t, int);
DECLARE(void, sdallocx, void *, size_t, int);
DECLARE(void, dallocx, void *, int);

static unsigned resized, stayed;

/* The bytes that the block has afterwards. */
static size_t resize_in_place(void *block, size_t before, size_t bytes) {
    if (xallocx(block, bytes, 0, 0) < bytes) {
        stayed++;
        return before;
    }
    resized++;
    count_free(before);
    count_allocation(bytes);
    return bytes;
}

int main(void) {
    require(mallocx && rallocx && xallocx && sdallocx && dallocx);
    ready_and_go();
    for (size_t round = 0; round < 50; round++) {
        size_t bytes = 100 + round;
        void *block = mallocx(bytes, 0);
        require(block != NULL);
        count_allocation(bytes);
        bytes = resize_in_place(block, bytes, bytes + 1);
        bytes = resize_in_place(block, bytes, 1 << 20);
        block = rallocx(block, 2 << 20, 0);
        require(block != NULL);
        count_free(bytes);
        count_allocation(2 << 20);
        bytes = resize_in_place(block, 2 << 20, 1 << 20);
        if (round % 3 == 0) {
            sink = block;
            continue;
        }
        if (round % 3 == 1)
            sdallocx(block, bytes, 0);
        else
            dallocx(block, 0);
        count_free(bytes);
    }
    require(resized > 50 && stayed > 0);
    tell_counts_and_exit();
}
