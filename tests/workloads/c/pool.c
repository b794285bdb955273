/* pool: an allocator of the program's own, over memory that the C library's never sees. */
#include "protocol.h"

static _Alignas(16) char memory[1 << 20];
static size_t used;

SITE_FUNCTION void *pool_get(size_t size) {
    size_t start = used;
    used += (size + 31) / 16 * 16;
    memcpy(memory + start, &size, sizeof size);
    return memory + start + 16;
}

SITE_FUNCTION void pool_put(void *block) {
    sink = block;
}

SITE_FUNCTION void *pool_change(void *block, size_t size) {
    void *moved = pool_get(size);
    if (block) pool_put(block);
    return moved;
}

int main(void) {
    ready_and_go();
    void *blocks[50];
    for (size_t i = 0; i < 50; i++) {
        blocks[i] = pool_get(100 + i);
        count_allocation(100 + i);
    }
    for (size_t i = 0; i < 10; i++) {
        blocks[i] = pool_change(blocks[i], 1000 + i);
        count_free(100 + i);
        count_allocation(1000 + i);
    }
    for (size_t i = 0; i < 20; i++) {
        pool_put(blocks[i]);
        count_free(i < 10 ? 1000 + i : 100 + i);
    }
    tell_counts_and_exit();
}
