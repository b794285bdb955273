// news SCENARIO: C++ allocations. Each operator new ends in one malloc or aligned_alloc, and is one allocation.
#include <new>

#include "../c/protocol.h"

namespace {

struct alignas(128) Wide {
    char bytes[256];
};

struct Plain {
    char bytes[48];
};

// What libstdc++ allocates for a thrown std::bad_alloc: its header and the object.
constexpr uint64_t THROWN_BYTES = 128 + sizeof(std::bad_alloc);

void every_form() {
    for (int i = 0; i < 10; i++) {
        sink = new Plain;
        count_allocation(sizeof(Plain));
        delete new Plain;
        count_allocation(sizeof(Plain));
        count_free(sizeof(Plain));
        delete[] new char[77];
        count_allocation(77);
        count_free(77);
        sink = new (std::nothrow) char[55];
        count_allocation(55);
        delete new Wide;
        count_allocation(sizeof(Wide));
        count_free(sizeof(Wide));
        sink = new Wide[2];
        count_allocation(2 * sizeof(Wide));
        sink = new (std::nothrow) Wide;
        count_allocation(sizeof(Wide));
    }
}

volatile size_t too_much = size_t{1} << 62;

// A probe on the return of operator new would end the program here instead.
void bad_alloc() {
    int caught = 0;
    for (int i = 0; i < 3; i++) {
        try {
            sink = ::operator new(too_much);
        } catch (const std::bad_alloc &) {
            caught++;
            count_allocation(THROWN_BYTES);
            count_free(THROWN_BYTES);
        }
    }
    require(caught == 3);
    require(::operator new(too_much, std::nothrow) == nullptr);
    count_allocation(THROWN_BYTES);  // the nothrow form catches the other's exception
    count_free(THROWN_BYTES);
    sink = new Plain;
    count_allocation(sizeof(Plain));
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) _exit(BAD_ARGUMENTS);
    ready_and_go();
    if (strcmp(argv[1], "every_form") == 0)
        every_form();
    else if (strcmp(argv[1], "bad_alloc") == 0)
        bad_alloc();
    else
        _exit(BAD_ARGUMENTS);
    tell_counts_and_exit();
}
