/*
 * sites: four call sites that a report has to put in order.
 *
 *   go     hold_big       1 block of 1000000 bytes
 *          hold_many      1000 blocks of 100 bytes
 *          churn          2000 blocks of 2000 bytes, all freed
 *   later  hold_late      2 blocks of 300000 bytes
 */
#include "protocol.h"

SITE_FUNCTION static void hold_big(void) {
    sink = malloc(1000000); /* SITE big */
    count_allocation(1000000);
}

SITE_FUNCTION static void hold_many(void) {
    for (int i = 0; i < 1000; i++) {
        sink = malloc(100); /* SITE many */
        count_allocation(100);
    }
}

SITE_FUNCTION static void churn(void) {
    for (int i = 0; i < 2000; i++) {
        void *block = malloc(2000); /* SITE churn */
        count_allocation(2000);
        free(block);
        count_free(2000);
    }
}

SITE_FUNCTION static void hold_late(void) {
    for (int i = 0; i < 2; i++) {
        sink = malloc(300000); /* SITE late */
        count_allocation(300000);
    }
}

int main(void) {
    ready_and_go();
    hold_big();
    hold_many();
    churn();
    say_counts();
    await_word("later");
    hold_late();
    say_counts();
    await_word("exit");
    _exit(0);
}
