/*
 * A little server with a leak, for `cargo xtask demo`: about a thousand made-up requests per second, until killed.
 *
 * handle_request() parses a request into a buffer that is freed (churn), looks its path up in a cache of bounded
 * size, and calls remember_session(), which keeps a record of every session and forgets none: that is the leak.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEEP __attribute__((noinline))

enum { CACHE_SLOTS = 64, PATHS = 256, REQUEST_BYTES = 2048, NANOSECONDS_PER_REQUEST = 1000000 };

struct session {
    struct session *next;
    uint64_t id;
    char user[32];
    char state[464];
};

struct page {
    unsigned path;
    size_t length;
    char *body;
};

static struct session *sessions;
static struct page *cache[CACHE_SLOTS];

static void *must(void *block)
{
    if (block == NULL) {
        fputs("demo: out of memory\n", stderr);
        exit(1);
    }
    return block;
}

/* The leak: every session is linked in, none is ever taken out. */
KEEP static struct session *remember_session(uint64_t id)
{
    struct session *session = must(malloc(sizeof *session));
    memset(session, 0, sizeof *session);
    session->id = id;
    snprintf(session->user, sizeof session->user, "user-%llu", (unsigned long long)(id % 1000));
    session->next = sessions;
    sessions = session;
    return session;
}

KEEP static struct page *render_page(unsigned path)
{
    struct page *page = must(malloc(sizeof *page));
    page->path = path;
    page->length = 256 + path;
    page->body = must(malloc(page->length));
    memset(page->body, 'a' + (int)(path % 26), page->length);
    return page;
}

static void drop_page(struct page *page)
{
    if (page != NULL) {
        free(page->body);
        free(page);
    }
}

/* A slot holds one page; another path with the same slot replaces it. */
KEEP static const struct page *cached_page(unsigned path)
{
    struct page **slot = &cache[path % CACHE_SLOTS];
    if (*slot == NULL || (*slot)->path != path) {
        drop_page(*slot);
        *slot = render_page(path);
    }
    return *slot;
}

KEEP static unsigned parse_request(uint64_t id)
{
    char *request = must(malloc(REQUEST_BYTES));
    unsigned path = 0;
    snprintf(request, REQUEST_BYTES, "GET /pages/%u HTTP/1.1", (unsigned)(id * 7919 % PATHS));
    sscanf(request, "GET /pages/%u", &path);
    free(request);
    return path;
}

KEEP static size_t handle_request(uint64_t id)
{
    unsigned path = parse_request(id);
    const struct page *page = cached_page(path);
    struct session *session = remember_session(id);
    session->state[0] = page->body[0];
    return page->length;
}

int main(void)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = NANOSECONDS_PER_REQUEST};
    volatile size_t sent = 0;
    for (uint64_t id = 0;; id++) {
        sent += handle_request(id);
        nanosleep(&pause, NULL);
    }
}
