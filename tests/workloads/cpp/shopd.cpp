// shopd: a little service with a leak, for docs/tasks. It takes about a thousand orders a second until its input ends, or as
// many as its argument says, and then ends.
//
// Each order is parsed (churn), its page comes out of a cache of bounded size, and a journal remembers the order and forgets
// none: that is the leak.
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <string>

#define KEEP __attribute__((noinline))

struct Order {
    Order *before;
    unsigned long id;
    char customer[56];
    char items[448];
};

class Journal {
public:
    KEEP void remember(const Order &order) {
        Order *kept = new Order(order);  // SITE leak
        kept->before = last_;
        last_ = kept;
    }

private:
    Order *last_ = nullptr;
};

class Catalogue {
public:
    KEEP const char *render(unsigned product) {
        char *&slot = pages_[product % SLOTS];
        delete[] slot;
        slot = new char[1024];  // SITE cache
        snprintf(slot, 1024, "product %u", product);
        return slot;
    }

private:
    enum { SLOTS = 64 };
    char *pages_[SLOTS] = {};
};

KEEP static std::string parse(unsigned long id) {
    return "order number " + std::to_string(id) + " of a customer with a long name";
}

/* What a service mostly does: it works, without allocating. */
KEEP static unsigned long price(const char *items) {
    unsigned long sum = 0;
    for (int round = 0; round < 100000; round++) sum = sum * 31 + (unsigned char)items[round % 64];
    return sum;
}

static Journal journal;
static Catalogue catalogue;

KEEP static void handle_order(unsigned long id) {
    const std::string request = parse(id);
    Order order = {};
    order.id = id;
    snprintf(order.customer, sizeof order.customer, "%s", request.c_str());
    snprintf(order.items, sizeof order.items, "%s", catalogue.render(id * 7919 % 1000));
    static volatile unsigned long revenue;
    revenue = revenue + price(order.items);
    journal.remember(order);
}

/* Waits a millisecond; whether whoever started the service has gone. */
static bool is_over() {
    struct pollfd input = {0, 0, 0};
    return poll(&input, 1, 1) > 0 && (input.revents & (POLLHUP | POLLERR | POLLNVAL));
}

int main(int argc, char **argv) {
    if (argc > 1) {
        const unsigned long orders = strtoul(argv[1], nullptr, 10);
        for (unsigned long id = 0; id < orders; id++) handle_order(id);
        return 0;
    }
    puts("ready");
    fflush(stdout);
    for (unsigned long id = 0; !is_over(); id++) handle_order(id);
}
