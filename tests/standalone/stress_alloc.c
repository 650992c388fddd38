/* A million random calls of malloc(3) and its kin on the allocators of the standalone binary, before and after the heap
 * is sealed as for a save. Every block has a pattern that is checked before the block is changed: overlaps show. */
#include "alloc.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 4000

static struct {
    unsigned char *at;
    size_t bytes;
    unsigned char pattern;
} blocks[BLOCKS];

static unsigned long long state = 88172645463325252ull;

static unsigned long random_number(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned long)(state >> 11);
}

static void fail(const char *what, int i) {
    fprintf(stderr, "%s: block %d of %zu bytes at %p\n", what, i, blocks[i].bytes, (void *)blocks[i].at);
    exit(1);
}

static size_t random_bytes(void) {
    unsigned long kind = random_number() % 100;
    if (kind < 70)
        return random_number() % 512;
    if (kind < 95)
        return random_number() % 9000;
    if (kind < 99)
        return random_number() % 70000;
    return random_number() % 600000;
}

static void check(int i) {
    for (size_t at = 0; at < blocks[i].bytes; at++)
        if (blocks[i].at[at] != blocks[i].pattern)
            fail("overwritten", i);
}

static void fill(int i, unsigned char *at, size_t bytes, size_t alignment) {
    blocks[i].at = at;
    blocks[i].bytes = bytes;
    blocks[i].pattern = (unsigned char)random_number();
    if (!at)
        fail("no memory", i);
    if ((size_t)at % alignment)
        fail("not aligned", i);
    if (malloc_usable_size(at) < bytes)
        fail("usable size", i);
    memset(at, blocks[i].pattern, bytes);
}

static void allocate(int i) {
    size_t bytes = random_bytes(), alignment = (size_t)16 << random_number() % 9;
    unsigned char *at;
    switch (random_number() % 8) {
    case 0:
        at = calloc(bytes / 8 + 1, 8);
        bytes = (bytes / 8 + 1) * 8;
        for (size_t k = 0; at && k < bytes; k++)
            if (at[k])
                fail("calloc: not zero", i);
        fill(i, at, bytes, 16);
        break;
    case 1:
        fill(i, aligned_alloc(alignment, bytes), bytes, alignment);
        break;
    default:
        fill(i, malloc(bytes), bytes, 16);
    }
}

static void change(int i) {
    if (!blocks[i].at) {
        allocate(i);
        return;
    }
    check(i);
    if (random_number() % 3) {
        free(blocks[i].at);
        blocks[i].at = NULL;
        return;
    }
    size_t before = blocks[i].bytes, bytes = random_bytes() + 1;
    unsigned char *at = realloc(blocks[i].at, bytes);
    for (size_t k = 0; at && k < before && k < bytes; k++)
        if (at[k] != blocks[i].pattern)
            fail("realloc: lost", i);
    fill(i, at, bytes, 16);
}

int main(void) {
    if (image_heap_place(NULL) != 0)
        return 1;
    for (long n = 0; n < 100000; n++)
        change((int)(random_number() % BLOCKS));
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].at)
            check(i);
    image_heap_seal();
    /* There is no hot zone, so that the area is the reserve's, nearly all of it. */
    if (!image_heap_size || image_hot_size > (1u << 20))
        return 1;
    size_t settled = 0;
    for (long n = 0; n < 1000000; n++) {
        change((int)(random_number() % BLOCKS));
        if (n == 500000)
            settled = runtime_heap_mapped_bytes();
    }
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].at)
            check(i), free(blocks[i].at);
    size_t mapped = runtime_heap_mapped_bytes();
    /* As many blocks of the same kinds as halfway: it may not have grown by more than chance. */
    if (mapped > settled + settled / 2 + (8u << 20)) {
        fprintf(stderr, "grown from %zu to %zu mapped bytes\n", settled, mapped);
        return 1;
    }
    volatile size_t large = (size_t)1 << 40; /* for the compiler, which would know better */
    if (malloc(large << 22) || calloc(large, large))
        return 1;
    printf("settled %zu, at the end %zu mapped bytes\n", settled, mapped);
    return 0;
}
