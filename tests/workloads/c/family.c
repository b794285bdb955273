/*
 * family: forks on `go` and says `child PID`; the child then awaits `child go`, allocates, tells its counts, awaits
 * `child exit` and ends; then the parent tells its own.
 */
#include <sys/wait.h>

#include "protocol.h"

SITE_FUNCTION static void parent_keeps(void) {
    for (int i = 0; i < 30; i++) {
        sink = malloc(100); /* SITE parent */
        count_allocation(100);
    }
}

SITE_FUNCTION static void child_keeps(void) {
    for (int i = 0; i < 20; i++) {
        sink = malloc(700); /* SITE child */
        count_allocation(700);
    }
}

int main(void) {
    ready_and_go();
    parent_keeps();
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        memset(&own, 0, sizeof own);
        struct line line = {};
        add_text(&line, "child ");
        add_number(&line, (uint64_t)getpid());
        say_line(&line);
        await_word("child go");
        child_keeps();
        say_counts();
        await_word("child exit");
        _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && status == 0);
    parent_keeps();
    tell_counts_and_exit();
}
