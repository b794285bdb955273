// names: allocations in functions with names as long as templates make them, and with letters that take two columns.
#include "../c/protocol.h"

#include <map>
#include <string>
#include <vector>

namespace organisation::platform::services::checkout {

using Key = std::map<std::string, std::vector<std::map<std::string, std::string>>>;

template <class First, class Second>
struct Registry {
    SITE_FUNCTION void remember(const First &, Second &&) {
        sink = malloc(3000);  // SITE remember
        count_allocation(3000);
    }
};

}  // namespace organisation::platform::services::checkout

namespace 注文管理 {

SITE_FUNCTION void 注文をすべて覚えておくための関数注文をすべて覚えておくための関数() {
    sink = malloc(2000);  // SITE wide
    count_allocation(2000);
}

}  // namespace 注文管理

int main() {
    namespace checkout = organisation::platform::services::checkout;
    checkout::Registry<checkout::Key, checkout::Key> registry;
    checkout::Key key;
    ready_and_go();
    registry.remember(key, {});
    注文管理::注文をすべて覚えておくための関数注文をすべて覚えておくための関数();
    tell_counts_and_exit();
}
