/*
 * heaps SCENARIO: mimalloc's own interface, as the library that is loaded has it. `heaps` allocates in a heap of its own by
 * every function, `others` by the remaining ones, `destroyed` gives a heap back whole.
 */
#include "protocol.h"

typedef struct mi_heap_s heap_t;
#define DECLARE(type, name, ...) extern type name(__VA_ARGS__) __attribute__((weak))
DECLARE(heap_t *, mi_heap_new, void);
DECLARE(void, mi_heap_destroy, heap_t *);
DECLARE(void, mi_free, void *);
DECLARE(void, mi_free_size_aligned, void *, size_t, size_t);
DECLARE(void *, mi_heap_malloc, heap_t *, size_t);
DECLARE(void *, mi_heap_zalloc, heap_t *, size_t);
DECLARE(void *, mi_heap_malloc_small, heap_t *, size_t);
DECLARE(void *, mi_heap_malloc_aligned, heap_t *, size_t, size_t);
DECLARE(void *, mi_heap_malloc_aligned_at, heap_t *, size_t, size_t, size_t);
DECLARE(void *, mi_heap_zalloc_aligned, heap_t *, size_t, size_t);
DECLARE(void *, mi_heap_zalloc_aligned_at, heap_t *, size_t, size_t, size_t);
DECLARE(void *, mi_heap_calloc, heap_t *, size_t, size_t);
DECLARE(void *, mi_heap_mallocn, heap_t *, size_t, size_t);
DECLARE(void *, mi_heap_calloc_aligned, heap_t *, size_t, size_t, size_t);
DECLARE(void *, mi_heap_calloc_aligned_at, heap_t *, size_t, size_t, size_t, size_t);
DECLARE(void *, mi_heap_alloc_new, heap_t *, size_t);
DECLARE(void *, mi_heap_alloc_new_n, heap_t *, size_t, size_t);
DECLARE(void *, mi_heap_realloc, heap_t *, void *, size_t);
DECLARE(void *, mi_heap_reallocf, heap_t *, void *, size_t);
DECLARE(void *, mi_heap_rezalloc, heap_t *, void *, size_t);
DECLARE(void *, mi_heap_realloc_aligned, heap_t *, void *, size_t, size_t);
DECLARE(void *, mi_heap_realloc_aligned_at, heap_t *, void *, size_t, size_t, size_t);
DECLARE(void *, mi_heap_rezalloc_aligned, heap_t *, void *, size_t, size_t);
DECLARE(void *, mi_heap_rezalloc_aligned_at, heap_t *, void *, size_t, size_t, size_t);
DECLARE(void *, mi_heap_reallocn, heap_t *, void *, size_t, size_t);
DECLARE(void *, mi_heap_recalloc, heap_t *, void *, size_t, size_t);
DECLARE(void *, mi_heap_recalloc_aligned, heap_t *, void *, size_t, size_t, size_t);
DECLARE(void *, mi_heap_recalloc_aligned_at, heap_t *, void *, size_t, size_t, size_t, size_t);
DECLARE(void *, mi_new, size_t);
DECLARE(void *, mi_new_n, size_t, size_t);
DECLARE(void *, mi_new_realloc, void *, size_t);
DECLARE(void *, mi_new_reallocn, void *, size_t, size_t);
DECLARE(void *, mi_malloc_aligned_at, size_t, size_t, size_t);
DECLARE(void *, mi_calloc_aligned, size_t, size_t, size_t);
DECLARE(void *, mi_recalloc, void *, size_t, size_t);
DECLARE(void *, mi_reallocf, void *, size_t);
DECLARE(void *, mi_expand, void *, size_t);
DECLARE(void *, mi_aligned_recalloc, void *, size_t, size_t, size_t);
DECLARE(void *, mi_aligned_offset_recalloc, void *, size_t, size_t, size_t, size_t);

/* A new block; every third one is kept. */
static void given(void *block, size_t bytes) {
    static unsigned blocks;
    require(block != NULL);
    count_allocation(bytes);
    if (blocks++ % 3 == 0) {
        sink = block;
        return;
    }
    if (blocks % 2 == 0)
        mi_free(block);
    else
        mi_free_size_aligned(block, bytes, 1);
    count_free(bytes);
}

/* The same block with other bytes. */
static void *changed(void *block, size_t before, size_t bytes) {
    require(block != NULL);
    count_free(before);
    count_allocation(bytes);
    return block;
}

static void allocate_in(heap_t *heap, size_t bytes) {
    const size_t wide = 64;
    given(mi_heap_malloc(heap, bytes), bytes);
    given(mi_heap_zalloc(heap, bytes), bytes);
    given(mi_heap_malloc_small(heap, bytes), bytes);
    given(mi_heap_malloc_aligned(heap, bytes, wide), bytes);
    given(mi_heap_malloc_aligned_at(heap, bytes, wide, 16), bytes);
    given(mi_heap_zalloc_aligned(heap, bytes, wide), bytes);
    given(mi_heap_zalloc_aligned_at(heap, bytes, wide, 16), bytes);
    given(mi_heap_calloc(heap, 3, bytes), 3 * bytes);
    given(mi_heap_mallocn(heap, 3, bytes), 3 * bytes);
    given(mi_heap_calloc_aligned(heap, 3, bytes, wide), 3 * bytes);
    given(mi_heap_calloc_aligned_at(heap, 3, bytes, wide, 16), 3 * bytes);
    given(mi_heap_alloc_new(heap, bytes), bytes);
    given(mi_heap_alloc_new_n(heap, 3, bytes), 3 * bytes);
}

static void resize_in(heap_t *heap, size_t bytes) {
    const size_t wide = 64, more = 2 * bytes;
    void *block = mi_heap_realloc(heap, NULL, bytes);
    require(block != NULL);
    count_allocation(bytes);
    block = changed(mi_heap_realloc(heap, block, more), bytes, more);
    block = changed(mi_heap_reallocf(heap, block, bytes), more, bytes);
    block = changed(mi_heap_rezalloc(heap, block, more), bytes, more);
    block = changed(mi_heap_reallocn(heap, block, 3, bytes), more, 3 * bytes);
    block = changed(mi_heap_recalloc(heap, block, 4, bytes), 3 * bytes, 4 * bytes);
    block = changed(mi_heap_realloc_aligned(heap, block, bytes, wide), 4 * bytes, bytes);
    block = changed(mi_heap_rezalloc_aligned(heap, block, more, wide), bytes, more);
    block = changed(mi_heap_recalloc_aligned(heap, block, 5, bytes, wide), more, 5 * bytes);
    mi_free(block);
    count_free(5 * bytes);
    block = mi_heap_realloc_aligned_at(heap, NULL, bytes, wide, 16);
    require(block != NULL);
    count_allocation(bytes);
    block = changed(mi_heap_rezalloc_aligned_at(heap, block, more, wide, 16), bytes, more);
    block = changed(mi_heap_recalloc_aligned_at(heap, block, 5, bytes, wide, 16), more, 5 * bytes);
    sink = block;
    require(mi_heap_realloc(heap, block, (size_t)1 << 60) == NULL);
}

static void in_heap(heap_t *heap) {
    for (size_t bytes = 100; bytes < 500; bytes += 40) {
        allocate_in(heap, bytes);
        resize_in(heap, bytes);
    }
}

static void by_other_functions(void) {
    for (size_t bytes = 100; bytes < 500; bytes += 40) {
        void *block = mi_new(bytes);
        require(block != NULL);
        count_allocation(bytes);
        block = changed(mi_new_realloc(block, 2 * bytes), bytes, 2 * bytes);
        block = changed(mi_new_reallocn(block, 3, bytes), 2 * bytes, 3 * bytes);
        block = changed(mi_recalloc(block, 5, bytes), 3 * bytes, 5 * bytes);
        block = changed(mi_reallocf(block, bytes), 5 * bytes, bytes);
        /* What there is room for anyway; then what there is not. */
        block = changed(mi_expand(block, bytes + 1), bytes, bytes + 1);
        require(mi_expand(block, 1 << 20) == NULL);
        block = changed(mi_aligned_recalloc(block, 2, bytes, 64), bytes + 1, 2 * bytes);
        block = changed(mi_aligned_offset_recalloc(block, 3, bytes, 64, 16), 2 * bytes, 3 * bytes);
        sink = block;
        given(mi_new_n(3, bytes), 3 * bytes);
        given(mi_malloc_aligned_at(bytes, 64, 16), bytes);
        given(mi_calloc_aligned(3, bytes, 64), 3 * bytes);
        /* The old block is given back although there is no new one. */
        block = mi_new(bytes);
        count_allocation(bytes);
        require(mi_reallocf(block, (size_t)1 << 60) == NULL);
        count_free(bytes);
    }
}

static void destroy(heap_t *heap) {
    for (int i = 0; i < 10; i++) {
        sink = mi_heap_malloc(heap, 100);
        require(sink != NULL);
        count_allocation(100);
    }
    mi_heap_destroy(heap);
}

int main(int count, char **arguments) {
    require(count == 2 && mi_heap_new && mi_heap_recalloc_aligned_at && mi_aligned_offset_recalloc);
    /* The heap itself is a block. */
    heap_t *heap = mi_heap_new();
    require(heap != NULL);
    ready_and_go();
    if (strcmp(arguments[1], "heaps") == 0)
        in_heap(heap);
    else if (strcmp(arguments[1], "others") == 0)
        by_other_functions();
    else if (strcmp(arguments[1], "destroyed") == 0)
        destroy(heap);
    else
        _exit(BAD_ARGUMENTS);
    tell_counts_and_exit();
}
