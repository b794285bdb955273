// listed: a function that is inlined into two others, one of which gives half of it back, and a recursion that allocates.
//
//   take      3 blocks of 1000 bytes for `keep`; 2 of 500 for `churn`, of which one is freed
//   walk      4 blocks of 10 bytes, each one call deeper
#include "../c/protocol.h"

namespace listed {

template <class Item>
struct Pool {
    __attribute__((always_inline)) inline void *take(unsigned long count) {
        void *block = malloc(count * sizeof(Item));  // SITE take
        count_allocation(count * sizeof(Item));
        return block;
    }
};

SITE_FUNCTION void keep(Pool<char> &pool) {
    for (int i = 0; i < 3; i++) {
        sink = pool.take(1000);  // SITE keep
    }
}

SITE_FUNCTION void churn(Pool<char> &pool) {
    void *freed = pool.take(500);  // SITE freed
    sink = pool.take(500);         // SITE kept
    free(freed);
    count_free(500);
}

SITE_FUNCTION void walk(int depth) {
    sink = malloc(10);  // SITE walk
    count_allocation(10);
    if (depth > 0) walk(depth - 1);  // SITE again
    asm volatile("");
}

}  // namespace listed

int main() {
    ready_and_go();
    listed::Pool<char> pool;
    listed::keep(pool);
    listed::churn(pool);
    listed::walk(3);  // SITE first
    tell_counts_and_exit();
}
