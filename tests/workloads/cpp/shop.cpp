// shop: an allocation in a member function of a class template in a namespace.
#include "../c/protocol.h"

namespace shop {

template <class Item>
struct Cart {
    __attribute__((noinline)) void add(unsigned long count) {
        sink = malloc(count * sizeof(Item));  // SITE shop
        count_allocation(count * sizeof(Item));
    }
};

}  // namespace shop

int main() {
    ready_and_go();
    shop::Cart<int> cart;
    for (int i = 0; i < 5; i++) cart.add(100);
    tell_counts_and_exit();
}
