/* malloc(3), and the runtime heap: segregated fits in aligned spans.
 *
 * Memory is handed out in spans of 8 KiB, aligned to their size, so that the span of a block is found by masking its
 * address. A small span serves blocks of one class; its header has the list of those that were freed, and the rest that
 * was never used is carved off in order, so that no page is touched before it is needed. A small span without blocks in
 * use goes back to the pool. Larger requests are a run of spans of their own, mapped and unmapped where they are large.
 *
 * Threads: most commands have none, and glibc says so (__libc_single_threaded), which costs one load; with threads
 * there is one lock. It is not taken around fork(2): ocirt's one other thread (assistant.c) asks for no memory. */
#include "alloc.h"
#include "window.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <unistd.h>

#define SPAN_BYTES ((size_t)8 << 10)
#define PAGE_BYTES ((size_t)4096)
#define HEADER_BYTES ((size_t)64)
#define SMALLEST ((size_t)16)
#define LARGEST_SMALL ((size_t)1 << 10)
/* 16 to 128 by 16, then four classes in each doubling up to 1 KiB. */
#define LINEAR_CLASSES 8
#define CLASSES (LINEAR_CLASSES + 4 * 3)
/* Spans mapped at once for small blocks, and kept in the pool without being unmapped. */
#define CHUNK_SPANS 128
#define LARGE (-1)
/* What a usual command touches of the first arenas: in the huge page. */
#define ARENA_NEAR_BYTES ((size_t)384 << 10)
/* Larger requests are tables and buffers that are mostly not touched. */
#define NEAR_SPANS 3

struct block {
    struct block *next;
};

struct span {
    struct block *free;           /* blocks that were freed */
    uint32_t fresh;               /* offset of what was never used */
    uint32_t used;                /* blocks in use */
    uint32_t bytes;               /* of a block */
    int32_t class;                /* or LARGE */
    struct span *next, *previous; /* of the spans of this class with free blocks */
    size_t spans;                 /* LARGE: how many it has */
};

_Static_assert(sizeof(struct span) <= HEADER_BYTES, "the header must fit");

/* A run of free spans; lists are ordered by address, neighbours are joined. */
struct run {
    struct run *next;
    size_t spans;
};

/* The reserve: for spans, and for what is large, each handed out in order, once. */
struct stretch {
    char *next, *end;
};

static struct stretch reserve_small, reserve_large;
static char *reserve_start;
static struct run *runs;
static struct span *partial[CLASSES];
static size_t mapped_bytes;
static int lock;
static int zeroed; /* whether the spans that were taken last have never been used */

static int enter(void) {
    if (__libc_single_threaded)
        return 0;
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&lock, __ATOMIC_RELAXED))
            ;
    return 1;
}

static void leave(int locked) {
    if (locked)
        __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

static struct span *span_of(const void *block) { return (struct span *)((uintptr_t)block & ~(SPAN_BYTES - 1)); }

static size_t rounded(size_t value, size_t unit) { return (value + unit - 1) & ~(unit - 1); }

static int class_of(size_t bytes) {
    if (bytes <= 128)
        return bytes <= SMALLEST ? 0 : (int)((bytes - 1) / 16);
    int doubling = 63 - __builtin_clzl(bytes - 1); /* 7 for 129 to 256 */
    return LINEAR_CLASSES + 4 * (doubling - 7) + (int)((bytes - 1) >> (doubling - 2) & 3);
}

static size_t class_bytes(int class) {
    if (class < LINEAR_CLASSES)
        return 16 * ((size_t) class + 1);
    int doubling = 7 + (class - LINEAR_CLASSES) / 4, quarter = (class - LINEAR_CLASSES) % 4;
    return ((size_t)1 << doubling) + ((size_t)(quarter + 1) << (doubling - 2));
}

/* ---- spans ---- */

static void *map_spans(size_t spans) {
    size_t bytes = spans * SPAN_BYTES, slack = SPAN_BYTES - PAGE_BYTES;
    char *at = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    char *aligned = (char *)rounded((uintptr_t)at, SPAN_BYTES);
    size_t before = (size_t)(aligned - at);
    if (before)
        munmap(at, before);
    if (slack - before)
        munmap(aligned + bytes, slack - before);
    mapped_bytes += bytes;
    return aligned;
}

static void put_run(char *at, size_t spans) {
    struct run **link = &runs, *before = NULL;
    while (*link && (char *)*link < at) {
        before = *link;
        link = &before->next;
    }
    struct run *run = (struct run *)at, *after = *link;
    run->spans = spans;
    run->next = after;
    *link = run;
    if (after && at + spans * SPAN_BYTES == (char *)after) {
        run->spans += after->spans;
        run->next = after->next;
    }
    if (before && (char *)before + before->spans * SPAN_BYTES == at) {
        before->spans += run->spans;
        before->next = run->next;
    }
}

static void *take_run(size_t spans) {
    for (struct run **link = &runs; *link; link = &(*link)->next) {
        struct run *run = *link;
        if (run->spans < spans)
            continue;
        if (run->spans > spans) {
            struct run *rest = (struct run *)((char *)run + spans * SPAN_BYTES);
            rest->spans = run->spans - spans;
            rest->next = run->next;
            *link = rest;
        } else {
            *link = run->next;
        }
        return run;
    }
    return NULL;
}

static void *take_stretch(struct stretch *from, size_t spans) {
    if (spans > (size_t)(from->end - from->next) / SPAN_BYTES)
        return NULL;
    char *at = from->next;
    from->next += spans * SPAN_BYTES;
    return at;
}

static void *take_reserve(size_t spans) {
    void *at = spans <= NEAR_SPANS ? take_stretch(&reserve_small, spans) : NULL;
    return at ? at : take_stretch(&reserve_large, spans);
}

/* Runs that are large are the kernel's again; those that are not stay for small blocks, without their contents. */
static void give_spans(void *at, size_t spans) {
    int in_reserve = (char *)at >= reserve_start && (char *)at < reserve_large.end;
    if (!in_reserve && spans >= CHUNK_SPANS) {
        munmap(at, spans * SPAN_BYTES);
        mapped_bytes -= spans * SPAN_BYTES;
        return;
    }
    if (spans >= CHUNK_SPANS)
        madvise(at, spans * SPAN_BYTES, MADV_DONTNEED);
    put_run(at, spans);
}

static void *get_spans(size_t spans) {
    void *at = take_run(spans);
    zeroed = !at;
    if (!at)
        at = take_reserve(spans);
    if (!at && spans >= CHUNK_SPANS)
        return map_spans(spans);
    if (!at && (at = map_spans(CHUNK_SPANS)) != NULL)
        put_run((char *)at + spans * SPAN_BYTES, CHUNK_SPANS - spans);
    return at;
}

/* The huge page that the reserve begins in is there already (window.c): small spans and the beginning of the first
 * arena share what is left of it. */
void runtime_heap_begin(char *start, size_t bytes) {
    char *end = start + bytes, *first = (char *)rounded((uintptr_t)start, SPAN_BYTES);
    char *boundary = (char *)rounded((uintptr_t)first, HUGE_PAGE_BYTES), *arena = boundary - ARENA_NEAR_BYTES;
    if (!bytes)
        first = arena = end;
    else if (boundary > end || arena < first)
        arena = first;
    reserve_start = first;
    reserve_small = (struct stretch){first, arena};
    reserve_large = (struct stretch){arena, end};
}

size_t runtime_heap_mapped_bytes(void) { return mapped_bytes; }

void *arena_alloc(size_t bytes) {
    if (!image_heap_sealed)
        return image_heap_aligned(PAGE_BYTES, bytes);
    int locked = enter();
    void *at = get_spans(rounded(bytes, SPAN_BYTES) / SPAN_BYTES);
    leave(locked);
    return at;
}

void arena_free(void *arena, size_t bytes) {
    if (in_image_heap(arena)) {
        if (!image_heap_sealed)
            image_heap_free(arena);
        return;
    }
    int locked = enter();
    give_spans(arena, rounded(bytes, SPAN_BYTES) / SPAN_BYTES);
    leave(locked);
}

/* ---- blocks ---- */

static void link_span(struct span *span) {
    span->previous = NULL;
    span->next = partial[span->class];
    if (span->next)
        span->next->previous = span;
    partial[span->class] = span;
}

static void unlink_span(struct span *span) {
    if (span->previous)
        span->previous->next = span->next;
    else
        partial[span->class] = span->next;
    if (span->next)
        span->next->previous = span->previous;
}

static int is_full(const struct span *span) { return !span->free && span->fresh + span->bytes > SPAN_BYTES; }

static void *small_alloc(size_t bytes) {
    int class = class_of(bytes);
    struct span *span = partial[class];
    if (!span) {
        span = get_spans(1);
        if (!span)
            return NULL;
        *span = (struct span){.class = class, .bytes = (uint32_t)class_bytes(class), .fresh = HEADER_BYTES};
        link_span(span);
    }
    struct block *block = span->free;
    if (block) {
        span->free = block->next;
    } else {
        block = (struct block *)((char *)span + span->fresh);
        span->fresh += span->bytes;
    }
    span->used++;
    if (is_full(span))
        unlink_span(span);
    return block;
}

static void small_free(struct span *span, char *address) {
    /* The start of the block: memalign returns addresses inside. */
    size_t offset = (size_t)(address - (char *)span) - HEADER_BYTES;
    struct block *block = (struct block *)((char *)span + HEADER_BYTES + offset - offset % span->bytes);
    int was_full = is_full(span);
    block->next = span->free;
    span->free = block;
    span->used--;
    if (was_full)
        link_span(span);
    /* One is kept for the next block of its class. */
    if (!span->used && (span->next || span->previous)) {
        unlink_span(span);
        give_spans(span, 1);
    }
}

static void *large_alloc(size_t bytes) {
    size_t spans = rounded(bytes + HEADER_BYTES, SPAN_BYTES) / SPAN_BYTES;
    struct span *span = get_spans(spans);
    if (!span)
        return NULL;
    *span = (struct span){.class = LARGE, .spans = spans};
    return (char *)span + HEADER_BYTES;
}

/* ---- malloc(3) ---- */

static void *out_of_memory(void) {
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t bytes) {
    if (bytes > PTRDIFF_MAX - 2 * SPAN_BYTES)
        return out_of_memory();
    int locked = enter();
    void *block;
    if (!image_heap_sealed)
        block = image_heap_alloc(bytes);
    else
        block = bytes <= LARGEST_SMALL ? small_alloc(bytes) : large_alloc(bytes);
    leave(locked);
    return block ? block : out_of_memory();
}

void free(void *address) {
    if (!address)
        return;
    if (in_image_heap(address)) {
        if (!image_heap_sealed)
            image_heap_free(address);
        return;
    }
    int locked = enter(), before = errno;
    struct span *span = span_of(address);
    if (span->class == LARGE)
        give_spans(span, span->spans);
    else
        small_free(span, address);
    errno = before;
    leave(locked);
}

size_t malloc_usable_size(void *address) {
    if (!address)
        return 0;
    if (in_image_heap(address))
        return image_heap_usable(address);
    const struct span *span = span_of(address);
    size_t offset = (size_t)((char *)address - (const char *)span);
    if (span->class == LARGE)
        return span->spans * SPAN_BYTES - offset;
    return span->bytes - (offset - HEADER_BYTES) % span->bytes;
}

void *calloc(size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return out_of_memory();
    if (!image_heap_sealed || total <= LARGEST_SMALL || total > PTRDIFF_MAX - 2 * SPAN_BYTES) {
        void *block = malloc(total);
        return block ? memset(block, 0, total) : NULL;
    }
    /* A table that is mostly empty is mostly not touched: CPython's map of arenas is. */
    int locked = enter();
    void *block = large_alloc(total);
    int clean = zeroed;
    leave(locked);
    if (!block)
        return out_of_memory();
    return clean ? block : memset(block, 0, total);
}

void *realloc(void *address, size_t bytes) {
    if (!address)
        return malloc(bytes);
    size_t has = malloc_usable_size(address);
    if (bytes <= has && bytes >= has / 4)
        return address;
    void *block = malloc(bytes);
    if (block) {
        memcpy(block, address, bytes < has ? bytes : has);
        free(address);
    }
    return block;
}

/* A block of a small span, or of a large one where the alignment is up to half a span: free() finds the span by the
 * address all the same. */
void *memalign(size_t alignment, size_t bytes) {
    if (alignment <= 16)
        return malloc(bytes);
    if (alignment & (alignment - 1)) {
        errno = EINVAL;
        return NULL;
    }
    if (alignment > SPAN_BYTES / 2 || bytes > PTRDIFF_MAX - 3 * SPAN_BYTES)
        return out_of_memory();
    if (!image_heap_sealed) {
        void *aligned = image_heap_aligned(alignment, bytes);
        return aligned ? aligned : out_of_memory();
    }
    char *block = malloc(bytes + alignment);
    return block ? (void *)rounded((uintptr_t)block, alignment) : NULL;
}

void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void **result, size_t alignment, size_t bytes) {
    int before = errno;
    void *block = alignment % sizeof(void *) ? NULL : memalign(alignment, bytes);
    int error = block ? 0 : alignment % sizeof(void *) ? EINVAL : errno;
    errno = before;
    if (block)
        *result = block;
    return error;
}

void *valloc(size_t bytes) { return memalign(PAGE_BYTES, bytes); }

void *pvalloc(size_t bytes) { return memalign(PAGE_BYTES, rounded(bytes, PAGE_BYTES)); }
