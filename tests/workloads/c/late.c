/* late: loads a library that brings an allocator, says `loaded`, and on `go` uses it: 100 blocks, 40 of them given back. */
#include "protocol.h"

#include <dlfcn.h>

int main(int argc, char **argv) {
    if (argc < 2) _exit(BAD_ARGUMENTS);
    ready_and_go();
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    require(library != NULL);
    void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(library, "malloc");
    void (*give_back)(void *) = (void (*)(void *))dlsym(library, "free");
    require(allocate != NULL && give_back != NULL);
    ready_and_go();
    void *blocks[100];
    for (int i = 0; i < 100; i++) {
        blocks[i] = allocate(3001);
        count_allocation(3001);
    }
    for (int i = 0; i < 40; i++) {
        give_back(blocks[i]);
        count_free(3001);
    }
    tell_counts_and_exit();
}
