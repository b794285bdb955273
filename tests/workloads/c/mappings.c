/*
 * Maps and unmaps in every way, one scenario a run. After `go` the scenario says what two of the site functions below
 * still have mapped, how often they mapped something, and by how much the process's memory has grown since `go` by the
 * kernel's own count: {"first":bytes,"first_count":n,"second":bytes,...,"gained":bytes}.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "protocol.h"

enum { PAGE = 4096 };
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define WRITABLE (PROT_READ | PROT_WRITE)

/* Bytes that each site has left, and its calls. */
static struct {
    uint64_t first, first_count, second, second_count;
} expected;

/* Bytes mapped, as the kernel counts them (/proc/self/statm begins with it, in pages). */
static uint64_t all_mapped(void) {
    char text[64] = {};
    int file = open("/proc/self/statm", O_RDONLY);
    require(file >= 0 && read(file, text, sizeof text - 1) > 0 && close(file) == 0);
    return strtoull(text, NULL, 10) * PAGE;
}
static uint64_t mapped_at_go;

static char *mapped(void *result) {
    require(result != MAP_FAILED);
    return result;
}

SITE_FUNCTION static char *first_site(size_t pages) {
    char *at = mapped(mmap(NULL, pages * PAGE, WRITABLE, ANONYMOUS, -1, 0)); /* SITE first */
    return at;
}

SITE_FUNCTION static char *second_site(char *where, size_t pages) {
    int fixed = where == NULL ? 0 : MAP_FIXED;
    char *at = mapped(mmap(where, pages * PAGE, WRITABLE, ANONYMOUS | fixed, -1, 0)); /* SITE second */
    return at;
}

SITE_FUNCTION static char *growing_site(char *old, size_t pages, size_t new_pages, int flags, char *to) {
    char *at = mapped(mremap(old, pages * PAGE, new_pages * PAGE, flags, to)); /* SITE growing */
    return at;
}

SITE_FUNCTION static char *direct_site(size_t pages) {
    return mapped((void *)syscall(SYS_mmap, NULL, pages * PAGE, WRITABLE, ANONYMOUS, -1, 0)); /* SITE direct */
}

/* Bytes that no page is full of: the kernel maps whole ones. */
SITE_FUNCTION static char *odd_site(void) {
    return mapped(mmap(NULL, 5 * PAGE - 100, WRITABLE, ANONYMOUS, -1, 0)); /* SITE odd */
}

SITE_FUNCTION static void break_site(char *to) {
    require(brk(to) == 0); /* SITE break */
}

static void expect(uint64_t first, uint64_t first_count, uint64_t second, uint64_t second_count) {
    expected.first = first * PAGE;
    expected.first_count = first_count;
    expected.second = second * PAGE;
    expected.second_count = second_count;
}

static void whole(void) {
    char *gone = first_site(10);
    first_site(20);
    first_site(30);
    require(munmap(gone, 10 * PAGE) == 0);
    expect(50, 3, 0, 0);
}

static void partial(void) {
    char *at = first_site(100);
    require(munmap(at, 10 * PAGE) == 0);             /* the start */
    require(munmap(at + 40 * PAGE, 20 * PAGE) == 0); /* the middle: two pieces are left */
    require(munmap(at + 90 * PAGE, 10 * PAGE) == 0); /* the end */
    require(munmap(at + 35 * PAGE, 30 * PAGE) == 0); /* over the hole */
    require(munmap(at + 35 * PAGE, 30 * PAGE) == 0); /* nothing: allowed */
    expect(100 - 10 - 10 - 30, 1, 0, 0);
}

/* One munmap over three mappings, and a byte that stands for its page. */
static void across(void) {
    char *at = first_site(30);
    second_site(at + 10 * PAGE, 10);
    require(munmap(at + 5 * PAGE, 20 * PAGE - 4000) == 0);
    expect(5 + 5, 1, 0, 1);
}

static void fixed(void) {
    char *at = first_site(50);
    second_site(at + 10 * PAGE, 5);
    second_site(at + 12 * PAGE, 8);
    expect(50 - 10, 1, 2 + 8, 2);
}

static void refused(void) {
    char *at = first_site(8);
    require(munmap(at + 1, PAGE) == -1);
    require(munmap(at, 0) == -1);
    require(munmap(at, (size_t)-PAGE) == -1);
    require(mremap(at, 8 * PAGE, 0, 0) == MAP_FAILED);
    require(mremap(at, 8 * PAGE, (size_t)1 << 50, MREMAP_MAYMOVE) == MAP_FAILED);
    require(mmap(NULL, 0, WRITABLE, ANONYMOUS, -1, 0) == MAP_FAILED);
    require(mmap(NULL, PAGE, WRITABLE, MAP_PRIVATE, -1, 0) == MAP_FAILED);
    expect(8, 1, 0, 0);
}

/* munmap in the middle is refused only when there are too many mappings: protections that differ make as many. */
static void refused_split(void) {
    enum { PAGES = 66000 };
    char *at = first_site(PAGES);
    size_t split = 0;
    while (split < PAGES / 2 && mprotect(at + 2 * split * PAGE, PAGE, PROT_READ) == 0) split++;
    require(split < PAGES / 2);
    char *rest = at + (2 * split + 10) * PAGE;
    require(munmap(rest, PAGE) == -1 || munmap(rest + 2 * PAGE, PAGE) == -1);
    size_t gone = 0;
    unsigned char core;
    for (size_t i = 0; i < PAGES; i++) gone += mincore(at + i * PAGE, PAGE, &core) != 0;
    expect(PAGES - gone, 1, 0, 0);
}

static void remap_grows(void) {
    char *at = first_site(10);
    first_site(3);
    growing_site(at, 10, 4000, MREMAP_MAYMOVE, NULL);
    expect(13, 2, 3990, 1);
}

static void remap_shrinks(void) {
    char *at = first_site(10);
    growing_site(at, 10, 4, 0, NULL);
    expect(4, 1, 0, 0);
}

/* Moves onto what another site has mapped; then back to where nothing is. */
static void remap_moves(void) {
    char *at = first_site(10);
    char *target = second_site(NULL, 30);
    growing_site(at, 10, 10, MREMAP_MAYMOVE | MREMAP_FIXED, target + 5 * PAGE);
    growing_site(target + 8 * PAGE, 2, 1, MREMAP_MAYMOVE | MREMAP_FIXED, at);
    expect(9, 1, 20, 1);
}

static void remap_keeps(void) {
    char *at = first_site(10);
    growing_site(at, 10, 10, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    expect(10, 1, 10, 1);
}

/* brk by hand: nothing here allocates, so the heap is nobody else's. */
static void breaks(void) {
    char *start = sbrk(0);
    require(start != (char *)-1);
    char *page = (char *)(((uintptr_t)start + PAGE - 1) / PAGE * PAGE);
    break_site(page);
    break_site(page + 1);
    break_site(page + PAGE - 1); /* the same page */
    break_site(page + 40 * PAGE);
    break_site(page + 30 * PAGE);
    break_site(page + 31 * PAGE);
    expect(31, 3, 0, 0);
}

static void direct(void) {
    char *at = direct_site(16);
    require(syscall(SYS_munmap, at + 4 * PAGE, 2 * PAGE) == 0);
    expect(14, 1, 0, 0);
}

static void odd(void) {
    char *at = odd_site();
    require(munmap(at + 3 * PAGE, 1) == 0);
    expect(4, 1, 0, 0);
}

/* Mapped before `go`: unmapping it, replacing it and moving it are known and harmless. */
static char *before;
static void inherited(void) {
    require(munmap(before + 10 * PAGE, 10 * PAGE) == 0);
    second_site(before + 2 * PAGE, 3);
    growing_site(before + 30 * PAGE, 10, 16, MREMAP_MAYMOVE, NULL);
    expect(6, 1, 3, 1);
}

/* glibc answers with mmap, and with mremap for realloc: each is one allocation and no mapping site. */
static void large_blocks(void) {
    enum { MIB = 1 << 20 };
    char *kept = malloc(MIB);
    count_allocation(MIB);
    char *grown = malloc(MIB);
    count_allocation(MIB);
    grown = realloc(grown, 8 * MIB);
    count_free(MIB);
    count_allocation(8 * MIB);
    char *gone = calloc(3, MIB);
    count_allocation(3 * MIB);
    sink = memalign(64 * 1024, 2 * MIB);
    count_allocation(2 * MIB);
    require(kept && grown && gone && sink);
    free(gone);
    count_free(3 * MIB);
    first_site(7);
    expect(7, 1, 0, 0);
}

/* Small blocks: the heap grows by brk, an arena of another thread by mmap. */
static void *fill(void *unused) {
    for (int i = 0; i < 3000; i++) {
        sink = malloc(1000);
        require(sink != NULL);
        count_allocation(1000);
    }
    return unused;
}
static pthread_barrier_t start;
static void *fill_later(void *unused) {
    pthread_barrier_wait(&start);
    return fill(unused);
}
static pthread_t filler;
static void small_blocks(void) {
    fill(NULL);
    pthread_barrier_wait(&start);
    require(pthread_join(filler, NULL) == 0);
    first_site(7);
    expect(7, 1, 0, 0);
}

/* Threads map, unmap in part, and are given each other's addresses. */
enum { THREADS = 4, ROUNDS = 500 };
static void *map_and_unmap(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        char *at = first_site(8);
        require(munmap(at + 2 * PAGE, 2 * PAGE) == 0);
        at = growing_site(at + 4 * PAGE, 4, 2, MREMAP_MAYMOVE, NULL);
        if (i % 10 != 0) require(munmap(at - 4 * PAGE, 6 * PAGE) == 0);
    }
    return unused;
}
static struct crew crew;
static void *work(void *number) {
    pthread_barrier_wait(&crew.barrier);
    map_and_unmap(number);
    pthread_barrier_wait(&crew.barrier);
    return NULL;
}
static void churn(void) {
    pthread_barrier_wait(&crew.barrier);
    pthread_barrier_wait(&crew.barrier);
    expect(THREADS * (ROUNDS / 10) * 4, THREADS * ROUNDS, 0, 0);
}

/* The stack of a thread is mapped by whoever creates it. */
static pthread_barrier_t never;
static void *idle(void *unused) {
    pthread_barrier_wait(&never);
    return unused;
}
SITE_FUNCTION static void creating_site(void) {
    pthread_t thread;
    pthread_attr_t attributes;
    require(pthread_attr_init(&attributes) == 0);
    require(pthread_attr_setstacksize(&attributes, 1 << 20) == 0);
    require(pthread_attr_setguardsize(&attributes, 0) == 0);
    require(pthread_create(&thread, &attributes, idle, NULL) == 0); /* SITE creating */
}
static void thread_stack(void) {
    creating_site();
    expect((1 << 20) / PAGE, 1, 0, 0);
}

static const char *own_path;

SITE_FUNCTION static char *file_site(int file, int protection, int how) {
    return mapped(mmap(NULL, 6 * PAGE, protection, how, file, 0)); /* SITE file */
}
static void files(void) {
    int own_file = open(own_path, O_RDONLY);
    int memory = memfd_create("mappings", 0);
    require(own_file >= 0 && memory >= 0 && ftruncate(memory, 6 * PAGE) == 0);
    file_site(own_file, PROT_READ, MAP_PRIVATE); /* only read: in no site */
    file_site(own_file, PROT_READ, MAP_SHARED);
    file_site(own_file, WRITABLE, MAP_PRIVATE);
    file_site(memory, WRITABLE, MAP_SHARED);
    mapped(mmap(NULL, 4 * PAGE, WRITABLE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    expect(12, 2, 4, 1);
}

/* A child's mappings are its own. */
static void forks(void) {
    char *at = first_site(10);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        require(munmap(at, 10 * PAGE) == 0);
        first_site(99);
        _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && status == 0);
    expect(10, 1, 0, 0);
}

/* A child that is followed: what it was born with is its parent's. */
static void family(void) {
    char *at = first_site(10);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        struct line line = {};
        add_text(&line, "child ");
        add_number(&line, (uint64_t)getpid());
        say_line(&line);
        await_word("child go");
        require(munmap(at, 4 * PAGE) == 0);
        second_site(NULL, 7);
        say("child done");
        await_word("child exit");
        _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && status == 0);
    expect(10, 1, 0, 0);
}

static void executes(char *program) {
    first_site(500);
    say("mapped");
    await_word("exec");
    execl(program, program, "whole", NULL);
    _exit(BROKEN_EXPECTATION);
}

static void say_expected_and_exit(void) {
    struct line line = {};
    add_field(&line, "gained", all_mapped() - mapped_at_go);
    add_field(&line, "first", expected.first);
    add_field(&line, "first_count", expected.first_count);
    add_field(&line, "second", expected.second);
    add_field(&line, "second_count", expected.second_count);
    add_field(&line, "allocated_count", own.allocated_count);
    add_field(&line, "allocated_bytes", own.allocated_bytes);
    add_field(&line, "freed_count", own.freed_count);
    add_field(&line, "freed_bytes", own.freed_bytes);
    add_field(&line, "live_count", own.allocated_count - own.freed_count);
    add_field(&line, "live_bytes", own.allocated_bytes - own.freed_bytes);
    add_text(&line, "}");
    say_line(&line);
    await_word("exit");
    _exit(0);
}

static void prepare(const char *scenario) {
    if (strcmp(scenario, "inherited") == 0) before = first_site(50);
    if (strcmp(scenario, "churn") == 0) hire(&crew, THREADS, work);
    if (strcmp(scenario, "thread_stack") == 0) require(pthread_barrier_init(&never, NULL, 2) == 0);
    if (strcmp(scenario, "small_blocks") == 0) {
        require(pthread_barrier_init(&start, NULL, 2) == 0);
        require(pthread_create(&filler, NULL, fill_later, NULL) == 0);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } scenarios[] = {
        {"whole", whole},
        {"partial", partial},
        {"across", across},
        {"fixed", fixed},
        {"refused", refused},
        {"refused_split", refused_split},
        {"remap_grows", remap_grows},
        {"remap_shrinks", remap_shrinks},
        {"remap_moves", remap_moves},
        {"remap_keeps", remap_keeps},
        {"breaks", breaks},
        {"direct", direct},
        {"odd", odd},
        {"inherited", inherited},
        {"large_blocks", large_blocks},
        {"small_blocks", small_blocks},
        {"churn", churn},
        {"thread_stack", thread_stack},
        {"files", files},
        {"forks", forks},
        {"family", family},
    };
    if (argc != 2) _exit(BAD_ARGUMENTS);
    own_path = argv[0];
    prepare(argv[1]);
    if (strcmp(argv[1], "executes") == 0) {
        ready_and_go();
        executes(argv[0]);
    }
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, argv[1]) != 0) continue;
        mapped_at_go = all_mapped();
        ready_and_go();
        scenarios[i].run();
        say_expected_and_exit();
    }
    _exit(BAD_ARGUMENTS);
}
