/*
 * signals: says `ready`, then `caught NUMBER` for each SIGTERM, SIGHUP and SIGUSR1; ends with status 40 + NUMBER after SIGTERM.
 */
#include <signal.h>

#include "protocol.h"

int main(void) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGHUP);
    sigaddset(&awaited, SIGUSR1);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    sink = malloc(64);
    say("ready");
    for (;;) {
        int number = 0;
        require(sigwait(&awaited, &number) == 0);
        struct line line = {};
        add_text(&line, "caught ");
        add_number(&line, (uint64_t)number);
        say_line(&line);
        if (number == SIGTERM) _exit(40 + number);
    }
}
