/*
 * How a workload speaks with its test, without touching the allocator.
 *
 *   workload: ready            the set-up is done, nothing was counted yet
 *   test:     go
 *   workload: {"allocated_count":...}   what the program itself asked for and gave back
 *   test:     exit
 *
 * A realloc of a block that succeeds gives the old block back and allocates a new one; one that fails does nothing.
 * When the test goes away (end of input) so does the workload.
 */
#ifndef OUTLIVE_PROTOCOL_H
#define OUTLIVE_PROTOCOL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WITHOUT_USE __attribute__((unused))
#define SITE_FUNCTION __attribute__((noinline, noclone))

enum { BAD_CONVERSATION = 98, BAD_ARGUMENTS = 97, BROKEN_EXPECTATION = 96 };

/* The program's own counts, as requested sizes. */
static struct {
    uint64_t allocated_count, allocated_bytes, freed_count, freed_bytes;
} own;

/* Where blocks go that nobody frees; volatile, so that no call is optimised away. */
static void *volatile sink WITHOUT_USE;

static WITHOUT_USE void count_allocation(uint64_t bytes) {
    __atomic_fetch_add(&own.allocated_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&own.allocated_bytes, bytes, __ATOMIC_RELAXED);
}

static WITHOUT_USE void count_free(uint64_t bytes) {
    __atomic_fetch_add(&own.freed_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&own.freed_bytes, bytes, __ATOMIC_RELAXED);
}

/* Ends the program when something is not as the workload needs it. */
static WITHOUT_USE void require(int holds) {
    if (!holds) _exit(BROKEN_EXPECTATION);
}

static WITHOUT_USE void write_all(const char *text, size_t length) {
    while (length > 0) {
        ssize_t written = write(1, text, length);
        if (written <= 0) _exit(BAD_CONVERSATION);
        text += written;
        length -= (size_t)written;
    }
}

/* One line of output, built without allocating. */
struct line {
    char text[1024];
    size_t length;
};

static WITHOUT_USE void add_text(struct line *line, const char *text) {
    while (*text && line->length + 1 < sizeof line->text) line->text[line->length++] = *text++;
}

static WITHOUT_USE void add_number(struct line *line, uint64_t number) {
    char digits[24], *digit = digits + sizeof digits;
    *--digit = 0;
    do *--digit = (char)('0' + number % 10);
    while (number /= 10);
    add_text(line, digit);
}

/* `"name":number`, with the bracket or comma before it. */
static WITHOUT_USE void add_field(struct line *line, const char *name, uint64_t number) {
    add_text(line, line->length == 0 ? "{\"" : ",\"");
    add_text(line, name);
    add_text(line, "\":");
    add_number(line, number);
}

static WITHOUT_USE void say_line(struct line *line) {
    line->text[line->length++] = '\n';
    write_all(line->text, line->length);
}

static WITHOUT_USE void say(const char *text) {
    struct line line = {};
    add_text(&line, text);
    say_line(&line);
}

static WITHOUT_USE void say_counts(void) {
    struct line line = {};
    add_field(&line, "allocated_count", own.allocated_count);
    add_field(&line, "allocated_bytes", own.allocated_bytes);
    add_field(&line, "freed_count", own.freed_count);
    add_field(&line, "freed_bytes", own.freed_bytes);
    add_field(&line, "live_count", own.allocated_count - own.freed_count);
    add_field(&line, "live_bytes", own.allocated_bytes - own.freed_bytes);
    add_text(&line, "}");
    say_line(&line);
}

/* Reads one line. */
static WITHOUT_USE void read_word(char *got, size_t size) {
    size_t length = 0;
    for (;;) {
        char c;
        if (read(0, &c, 1) != 1) _exit(BAD_CONVERSATION);
        if (c == '\n') break;
        if (length + 1 >= size) _exit(BAD_CONVERSATION);
        got[length++] = c;
    }
    got[length] = 0;
}

/* Reads one line and insists that it is this word. */
static WITHOUT_USE void await_word(const char *word) {
    char got[64];
    read_word(got, sizeof got);
    if (strcmp(got, word) != 0) _exit(BAD_CONVERSATION);
}

static WITHOUT_USE void ready_and_go(void) {
    say("ready");
    await_word("go");
}

/* The end of most workloads. No exit handler may run: it could free. */
static WITHOUT_USE void tell_counts_and_exit(void) {
    say_counts();
    await_word("exit");
    _exit(0);
}

/* A number from the command line; strtoull does not allocate. */
static WITHOUT_USE uint64_t number_argument(int argc, char **argv, int index) {
    if (index >= argc) _exit(BAD_ARGUMENTS);
    return strtoull(argv[index], NULL, 10);
}

/* Threads that exist before `ready`: creating one allocates. */
enum { MAX_CREW = 64 };
struct crew {
    pthread_t threads[MAX_CREW];
    pthread_barrier_t barrier; /* all threads and main */
    unsigned size;
};

static WITHOUT_USE void hire(struct crew *crew, unsigned size, void *(*work)(void *)) {
    require(size <= MAX_CREW);
    crew->size = size;
    require(pthread_barrier_init(&crew->barrier, NULL, size + 1) == 0);
    for (uintptr_t i = 0; i < size; i++)
        require(pthread_create(&crew->threads[i], NULL, work, (void *)i) == 0);
}

#endif
