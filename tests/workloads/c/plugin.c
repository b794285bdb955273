/* plugin: a library that allocates blocks of PLUGIN_BYTES bytes, three calls deep. */
#include <stdlib.h>

#define KEPT __attribute__((noinline, noclone))

static KEPT void *plugin_leaf(void) {
    void *block = malloc(PLUGIN_BYTES);
    __asm__ volatile("");
    return block;
}

static KEPT void *plugin_below(int depth) {
    void *block = depth == 0 ? plugin_leaf() : plugin_below(depth - 1);
    __asm__ volatile("");
    return block;
}

void *plugin_allocate(void) {
    void *block = plugin_below(2);
    __asm__ volatile("");
    return block;
}
