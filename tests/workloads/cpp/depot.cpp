// depot: an allocation in an inlined member function of a class template, below a function that only `.symtab` names.
#include "../c/protocol.h"

namespace depot {

template <class Item>
struct Shelf {
    __attribute__((always_inline)) inline void place(unsigned long count) {
        sink = malloc(count * sizeof(Item));  // SITE place
        count_allocation(count * sizeof(Item));
    }
};

namespace {

SITE_FUNCTION void fill(Shelf<long> &shelf) {
    shelf.place(10);  // SITE fill
    asm volatile("");
}

}  // namespace
}  // namespace depot

int main() {
    ready_and_go();
    depot::Shelf<long> shelf;
    for (int i = 0; i < 5; i++) depot::fill(shelf);
    tell_counts_and_exit();
}
