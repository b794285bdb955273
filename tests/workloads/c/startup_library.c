/* A shared library that allocates when it is loaded, before the program's own constructors. */
#include <stdlib.h>

void *library_keeps;

__attribute__((constructor)) static void library_constructor(void) {
    library_keeps = malloc(333); /* SITE library */
}
