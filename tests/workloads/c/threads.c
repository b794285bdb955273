/*
 * threads SCENARIO: bookkeeping across threads.
 *
 *   churn     every thread allocates and frees, and keeps some
 *   handover  blocks are freed by another thread than the one that allocated them
 *   reuse     two threads hand one address to and fro: freed by one, given out again to the same one
 *   killed    threads are ended inside malloc and free by a signal handler that calls pthread_exit
 */
#include <semaphore.h>
#include <signal.h>

#include "protocol.h"

enum { THREADS = 8, ROUNDS = 5000, HANDED = 2000, VICTIMS = 40, VICTIM_BYTES = 100 };

static struct crew crew;
static void (*task)(unsigned number);

static void *allocate(size_t bytes) {
    void *block = malloc(bytes);
    require(block != NULL);
    count_allocation(bytes);
    return block;
}

static void release(void *block, size_t bytes) {
    free(block);
    count_free(bytes);
}

static void churn(unsigned number) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t bytes = 16 + (i * 37 + number * 101) % 2000;
        void *block = allocate(bytes);
        if (i % 500 == 0)
            sink = block;
        else
            release(block, bytes);
    }
}

static void *handed[THREADS][HANDED];
static pthread_barrier_t all_allocated;

static void handover(unsigned number) {
    for (unsigned i = 0; i < HANDED; i++) handed[number][i] = allocate(32 + i % 64);
    pthread_barrier_wait(&all_allocated);
    unsigned neighbour = (number + 1) % THREADS;
    for (unsigned i = 0; i < HANDED; i++)
        if (i % 10 != 0) release(handed[neighbour][i], 32 + i % 64);
}

/* The block on the table belongs to the thread whose turn it is. */
static void *table;
static unsigned turn;
static unsigned same_address;

static void reuse(unsigned number) {
    if (number >= 2) return;
    for (unsigned round = 0; round < ROUNDS; round++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != number) sched_yield();
        void *given = table;
        if (given != NULL) release(given, 600);
        table = allocate(600);
        same_address += table == given;
        __atomic_store_n(&turn, 1 - number, __ATOMIC_RELEASE);
    }
}

static void *work(void *number) {
    pthread_barrier_wait(&crew.barrier);
    task((unsigned)(uintptr_t)number);
    pthread_barrier_wait(&crew.barrier);
    for (;;) pause(); /* a thread that ends gives memory back */
    return NULL;
}

/* killed: what the victims began and what they finished; a call that a signal ended is in the first only. */
static uint64_t begun_allocations, done_allocations, begun_frees, done_frees;
static sem_t turns[VICTIMS];
static int running_victim = -1;

static void end_thread(int signal) {
    (void)signal;
    pthread_exit(NULL);
}

static void *victim(void *number) {
    /* Served from the thread's cache from now on: no lock of the allocator is held when the signal comes. */
    free(malloc(VICTIM_BYTES));
    pthread_barrier_wait(&crew.barrier);
    while (sem_wait(&turns[(uintptr_t)number]) != 0) {}
    for (int i = 0;; i++) {
        if (i == 200) __atomic_store_n(&running_victim, (int)(uintptr_t)number, __ATOMIC_RELEASE);
        begun_allocations++;
        void *volatile block = malloc(VICTIM_BYTES);
        done_allocations++;
        begun_frees++;
        free(block);
        done_frees++;
    }
    return NULL;
}

static void *ends_at_once(void *unused) {
    (void)unused;
    pthread_exit(NULL); /* loads libgcc_s now rather than while counting */
}

static void kill_victims(void) {
    struct sigaction action = {.sa_handler = end_thread};
    require(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t first;
    require(pthread_create(&first, NULL, ends_at_once, NULL) == 0 && pthread_join(first, NULL) == 0);
    for (int i = 0; i < VICTIMS; i++) require(sem_init(&turns[i], 0, 0) == 0);
    hire(&crew, VICTIMS, victim);
    pthread_barrier_wait(&crew.barrier);
    ready_and_go();
    for (int i = 0; i < VICTIMS; i++) {
        require(sem_post(&turns[i]) == 0);
        while (__atomic_load_n(&running_victim, __ATOMIC_ACQUIRE) != i) sched_yield();
        require(pthread_kill(crew.threads[i], SIGUSR1) == 0);
        require(pthread_join(crew.threads[i], NULL) == 0);
    }
    struct line line = {};
    add_field(&line, "begun_allocations", begun_allocations);
    add_field(&line, "done_allocations", done_allocations);
    add_field(&line, "begun_frees", begun_frees);
    add_field(&line, "done_frees", done_frees);
    add_text(&line, "}");
    say_line(&line);
    await_word("exit");
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc != 2) _exit(BAD_ARGUMENTS);
    if (strcmp(argv[1], "killed") == 0) kill_victims();
    if (strcmp(argv[1], "churn") == 0) task = churn;
    if (strcmp(argv[1], "handover") == 0) task = handover;
    if (strcmp(argv[1], "reuse") == 0) task = reuse;
    if (task == NULL) _exit(BAD_ARGUMENTS);
    require(pthread_barrier_init(&all_allocated, NULL, THREADS) == 0);
    hire(&crew, THREADS, work);
    ready_and_go();
    pthread_barrier_wait(&crew.barrier);
    pthread_barrier_wait(&crew.barrier);
    if (task == reuse) require(same_address > ROUNDS / 2); /* else the scenario proves nothing */
    tell_counts_and_exit();
}
