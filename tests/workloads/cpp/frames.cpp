// frames: allocations deep in code without frame pointers: by operator new, in a qsort callback, below alloca, in a
// thread, and in a signal handler. Each site has a size of its own.
#include "../c/protocol.h"

#include <alloca.h>
#include <functional>
#include <pthread.h>
#include <signal.h>

#define KEPT __attribute__((noinline, noclone))

KEPT void by_new() {
    sink = ::operator new(1001);
    count_allocation(1001);
    asm volatile("");
}

KEPT void below(int depth, const std::function<void()> &leaf) {
    if (depth == 0) leaf();
    else below(depth - 1, leaf);
    asm volatile("");
}

KEPT int compare(const void *, const void *) {
    sink = malloc(1002);
    count_allocation(1002);
    return 0;
}

KEPT void sort_two() {
    int numbers[2] = {1, 2};
    qsort(numbers, 2, sizeof *numbers, compare);
    asm volatile("");
}

KEPT void below_alloca(unsigned long size) {
    volatile char *room = static_cast<char *>(alloca(size));
    room[0] = 1;
    sink = malloc(1003);
    count_allocation(1003);
    room[size - 1] = 1;
}

KEPT void *in_thread(void *) {
    sink = malloc(1004);
    count_allocation(1004);
    return nullptr;
}

KEPT void in_handler(int) {
    sink = malloc(1005);
    count_allocation(1005);
}

KEPT void raise_it() {
    raise(SIGUSR1);
    asm volatile("");
}

int main() {
    pthread_t thread;
    signal(SIGUSR1, in_handler);
    ready_and_go();
    below(3, by_new);
    sort_two();
    below_alloca(4000);
    raise_it();
    require(pthread_create(&thread, nullptr, in_thread, nullptr) == 0);
    require(pthread_join(thread, nullptr) == 0);
    tell_counts_and_exit();
}
