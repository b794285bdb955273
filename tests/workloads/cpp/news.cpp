// news SCENARIO: C++ allocations. Each operator new ends in one malloc or aligned_alloc, and is one allocation.
#include <sys/resource.h>

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

// Each operator of C++17 by its name, with each operator delete that takes its blocks back.
void every_operator() {
    const std::align_val_t wide{64};
    const auto &quiet = std::nothrow;
    // Multiples of the alignment: libstdc++ asks for that many.
    for (size_t bytes = 128; bytes < 50000; bytes = (bytes * 3 / 2) & ~size_t{63}) {
        void *blocks[] = {
            ::operator new(bytes),        ::operator new(bytes),
            ::operator new(bytes),        ::operator new(bytes, quiet),
            ::operator new[](bytes),      ::operator new[](bytes),
            ::operator new[](bytes),      ::operator new[](bytes, quiet),
            ::operator new(bytes, wide),  ::operator new(bytes, wide),
            ::operator new(bytes, wide),  ::operator new(bytes, wide, quiet),
            ::operator new[](bytes, wide), ::operator new[](bytes, wide),
            ::operator new[](bytes, wide), ::operator new[](bytes, wide, quiet),
        };
        for (void *block : blocks) {
            require(block != nullptr);
            count_allocation(bytes);
        }
        // One of each four stays.
        ::operator delete(blocks[0]);
        ::operator delete(blocks[1], bytes);
        ::operator delete(blocks[3], quiet);
        ::operator delete[](blocks[4]);
        ::operator delete[](blocks[5], bytes);
        ::operator delete[](blocks[7], quiet);
        ::operator delete(blocks[8], wide);
        ::operator delete(blocks[9], bytes, wide);
        ::operator delete(blocks[11], wide, quiet);
        ::operator delete[](blocks[12], wide);
        ::operator delete[](blocks[13], bytes, wide);
        ::operator delete[](blocks[15], wide, quiet);
        for (int i = 0; i < 12; i++) count_free(bytes);
    }
}

void limit_memory(rlim_t bytes) {
    struct rlimit limit;
    require(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = bytes;
    require(setrlimit(RLIMIT_AS, &limit) == 0);
}

SITE_FUNCTION void *obtain(size_t bytes) { return ::operator new(bytes); }

// Calls that throw and calls that do not, from one place; no allocator can tell the size to be too much.
void throwing() {
    limit_memory(rlim_t{16} << 30);
    int caught = 0;
    for (int i = 0; i < 20; i++) {
        size_t bytes = i % 3 == 0 ? size_t{1} << 45 : 100 + i;
        try {
            sink = obtain(bytes);
            count_allocation(bytes);
        } catch (const std::bad_alloc &) {
            caught++;
            count_allocation(THROWN_BYTES);
            count_free(THROWN_BYTES);
        }
    }
    require(caught == 7);
}

int handled;

// Allocates itself before it makes room.
void make_room() {
    handled++;
    void *block = malloc(333);
    count_allocation(333);
    free(block);
    count_free(333);
    limit_memory(RLIM_INFINITY);
}

void new_handler() {
    const size_t bytes = size_t{256} << 20;
    std::set_new_handler(make_room);
    for (int i = 0; i < 3; i++) {
        limit_memory(1 << 20);
        sink = obtain(bytes);
        count_allocation(bytes);
    }
    require(handled == 3);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) _exit(BAD_ARGUMENTS);
    ready_and_go();
    if (strcmp(argv[1], "every_form") == 0)
        every_form();
    else if (strcmp(argv[1], "bad_alloc") == 0)
        bad_alloc();
    else if (strcmp(argv[1], "every_operator") == 0)
        every_operator();
    else if (strcmp(argv[1], "throwing") == 0)
        throwing();
    else if (strcmp(argv[1], "new_handler") == 0)
        new_handler();
    else
        _exit(BAD_ARGUMENTS);
    tell_counts_and_exit();
}
