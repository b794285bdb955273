/*
 * plugins: on each `go` loads the next library it is given, lets it allocate at once ten times, and says `ready`; on the
 * next `go` unloads it. What a library allocates stays.
 */
#include "protocol.h"

#include <dlfcn.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        ready_and_go();
        void *library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        require(library != NULL);
        void *(*allocate)(void) = (void *(*)(void))dlsym(library, "plugin_allocate");
        require(allocate != NULL);
        for (int j = 0; j < 10; j++) sink = allocate();
        ready_and_go();
        require(dlclose(library) == 0);
    }
    tell_counts_and_exit();
}
