/*
 * usdt: samples its own allocations and tells of the samples by static probe points, as OpenTelemetry's contract has it.
 * It samples only while somebody listens. Built with -DPROVIDER=otel_memory or -DPROVIDER=ddheap.
 *
 * What it says it allocated is what it told: a sample stands for as many blocks as its weighted bytes hold of its size.
 * After `look` it says what the points' semaphores are; `go` and `exit` as in protocol.h.
 */
#include "protocol.h"

#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#define JOINED(provider, point) provider##_##point##_semaphore
#define SEMAPHORE_OF(provider, point) JOINED(provider, point)
#define SEMAPHORE(point) SEMAPHORE_OF(PROVIDER, point)

__extension__ unsigned short SEMAPHORE(alloc) __attribute__((unused, section(".probes")));
__extension__ unsigned short SEMAPHORE(free) __attribute__((unused, section(".probes")));

/* One small block in so many is a sample; a large one always is. */
enum { EVERY = 8, LARGE = 100000, ROUNDS = 4000, SLOTS = 256 };

struct sample {
    void *block;
    uint64_t bytes, stands_for;
};
static struct sample samples[SLOTS]; /* by the slot of the block */
static uint64_t calls;

static void told_allocation(uint64_t bytes, uint64_t stands_for) {
    __atomic_fetch_add(&own.allocated_count, stands_for, __ATOMIC_RELAXED);
    __atomic_fetch_add(&own.allocated_bytes, bytes * stands_for, __ATOMIC_RELAXED);
}

SITE_FUNCTION static void *sampled_malloc(size_t bytes, struct sample *sample) {
    void *block = malloc(bytes);
    require(block != NULL);
    int is_large = bytes >= LARGE;
    if (SEMAPHORE(alloc) == 0 || (!is_large && ++calls % EVERY != 0)) return block;
    *sample = (struct sample){block, bytes, is_large ? 1 : EVERY};
    uint64_t weighted = bytes * sample->stands_for;
    STAP_PROBE3(PROVIDER, alloc, block, bytes, weighted); /* SITE told */
    told_allocation(bytes, sample->stands_for);
    return block;
}

SITE_FUNCTION static void sampled_free(void *block, struct sample *sample) {
    if (sample->block == block) {
        STAP_PROBE1(PROVIDER, free, sample->block);
        own.freed_count += sample->stands_for;
        own.freed_bytes += sample->bytes * sample->stands_for;
        *sample = (struct sample){};
    }
    free(block);
}

SITE_FUNCTION static void churn(void) {
    static void *blocks[SLOTS];
    for (uint64_t round = 0; round < ROUNDS; round++) {
        unsigned slot = (unsigned)(round * 97 % SLOTS);
        if (blocks[slot]) sampled_free(blocks[slot], &samples[slot]);
        size_t bytes = round % 50 == 0 ? LARGE + round : 16 + round * 31 % 3000;
        blocks[slot] = sampled_malloc(bytes, &samples[slot]); /* SITE churn */
    }
}

/* Arguments in other places: a constant, narrow numbers, an element of an array. */
SITE_FUNCTION static void tell_of_narrow_numbers(void) {
    static void *blocks[4];
    volatile uint64_t index = 2;
    blocks[index] = malloc(48);
    volatile int32_t bytes = 48;
    if (SEMAPHORE(alloc) == 0) return;
    STAP_PROBE3(PROVIDER, alloc, blocks[index], bytes, 480);
    told_allocation(48, 10);
    int16_t narrow = (int16_t)(bytes + 16);
    void *other = sink = malloc(64);
    STAP_PROBE3(PROVIDER, alloc, other, narrow, (uint32_t)narrow * 3);
    told_allocation(64, 3);
}

static void say_semaphores(void) {
    struct line line = {};
    add_field(&line, "alloc", SEMAPHORE(alloc));
    add_field(&line, "free", SEMAPHORE(free));
    add_text(&line, "}");
    say_line(&line);
}

int main(void) {
    say("ready");
    for (;;) {
        char word[16];
        read_word(word, sizeof word);
        if (strcmp(word, "look") == 0) {
            say_semaphores();
        } else if (strcmp(word, "go") == 0) {
            churn();
            tell_of_narrow_numbers();
            say_counts();
        } else {
            _exit(strcmp(word, "exit") == 0 ? 0 : BAD_CONVERSATION);
        }
    }
}
