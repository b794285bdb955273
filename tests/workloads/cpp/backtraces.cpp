// backtraces: allocates at the end of dozens of call chains, and says for each what backtrace() of libgcc sees there: one line
// `SIZE MODULE+OFFSET ...`, from the caller of the allocating function outwards. Recursion, std::function, alloca,
// qsort and bsearch callbacks, exceptions in flight, threads, and a signal handler.
#include "../c/protocol.h"

#include <alloca.h>
#include <climits>
#include <csignal>
#include <cstdio>
#include <dlfcn.h>
#include <execinfo.h>
#include <functional>
#include <link.h>
#include <thread>
#include <vector>

#define KEPT __attribute__((noinline, noclone))

static const int MOST_FRAMES = 120;
static unsigned long size_bytes = 5000;
static struct line lines[64];
static int line_count;

static void add_hexadecimal(struct line *line, unsigned long number) {
    char digits[20];
    int length = snprintf(digits, sizeof digits, "%lx", number);
    require(length > 0);
    add_text(line, digits);
}

// Writes down this stack without the frame of `allocate` itself, whose return addresses differ.
KEPT void note(void **frames, int count) {
    struct line *line = &lines[line_count++];
    require(line_count < 64);
    add_number(line, size_bytes);
    for (int i = 1; i < count; i++) {
        Dl_info info;
        struct link_map *map;
        require(dladdr1(frames[i], &info, reinterpret_cast<void **>(&map), RTLD_DL_LINKMAP) != 0);
        char path[PATH_MAX];
        require(realpath(info.dli_fname, path) != nullptr);
        const char *name = strrchr(path, '/');
        add_text(line, " ");
        add_text(line, name + 1);
        add_text(line, "+");
        add_hexadecimal(line, reinterpret_cast<unsigned long>(frames[i]) - map->l_addr);
    }
}

KEPT void allocate() {
    void *frames[MOST_FRAMES];
    int count = backtrace(frames, MOST_FRAMES);
    size_bytes++;
    sink = malloc(size_bytes);
    count_allocation(size_bytes);
    note(frames, count);
}

KEPT void recurse(int depth, const std::function<void()> &leaf) {
    if (depth == 0) leaf();
    else recurse(depth - 1, leaf);
    asm volatile("");
}

KEPT void mutual_b(int depth, const std::function<void()> &leaf);
KEPT void mutual_a(int depth, const std::function<void()> &leaf) {
    if (depth == 0) return leaf();
    mutual_b(depth - 1, leaf);
    asm volatile("");
}
KEPT void mutual_b(int depth, const std::function<void()> &leaf) {
    std::vector<int> ballast(static_cast<unsigned long>(depth) + 1);
    if (depth == 0) leaf();
    else mutual_a(depth - 1, leaf);
    asm volatile("" : : "r"(ballast.data()));
}

KEPT void below_alloca(unsigned long size) {
    volatile char *room = static_cast<char *>(alloca(size));
    room[0] = 1;
    allocate();
    room[size - 1] = 1;
}

// A frame whose stack is aligned beyond what calls guarantee: its frame address stands in memory.
KEPT void aligned(int depth) {
    alignas(64) volatile char room[128];
    room[0] = static_cast<char>(depth);
    if (depth > 0) aligned(depth - 1);
    else allocate();
    asm volatile("" : : "r"(room));
}

KEPT int compare(const void *, const void *) {
    static int calls;
    if (calls++ == 0) allocate();
    return 0;
}

struct Thrower {
    ~Thrower() { allocate(); }
};

KEPT void throw_through() {
    Thrower thrower;
    throw 7;
}

KEPT void on_signal(int) { allocate(); }

KEPT void all_kinds() {
    for (int depth = 0; depth < 8; depth++) recurse(depth, allocate);
    for (int depth = 0; depth < 8; depth++) mutual_a(depth, [] { allocate(); asm volatile(""); });
    for (unsigned long size : {100ul, 3000ul, 60000ul}) below_alloca(size);
    for (int depth = 0; depth < 3; depth++) aligned(depth);
    int numbers[3] = {3, 1, 2};
    qsort(numbers, 3, sizeof *numbers, compare);
    try {
        throw_through();
    } catch (int) {
    }
    recurse(3, [] { raise(SIGUSR1); });
}

int main() {
    void *frames[MOST_FRAMES];
    require(backtrace(frames, MOST_FRAMES) > 0); // loads libgcc, which allocates
    signal(SIGUSR1, on_signal);
    ready_and_go();
    all_kinds();
    std::thread([] { recurse(2, allocate); }).join();
    std::thread(all_kinds).join();
    for (int i = 0; i < line_count; i++) say_line(&lines[i]);
    say("end");
    await_word("exit");
    _exit(0);
}
