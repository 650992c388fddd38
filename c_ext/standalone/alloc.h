/* The allocators of the standalone binary, behind malloc(3).
 *
 * Until the image is saved everything comes from the *image heap* (image_heap.c): two static areas in writable
 * segments, so that saving those saves everything. A start of the saved image never gives that memory back, nor writes
 * to it to keep books, since a page that isn't written stays the file's. It takes memory from the *runtime heap*
 * (alloc.c): the reserve, which is what the hot area has left, then mmap(2). */
#ifndef OCIRT_STANDALONE_ALLOC_H
#define OCIRT_STANDALONE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* An arena for PyObject_SetArenaAllocator: `bytes` rounded up to spans of 8 KiB, aligned to them. NULL: no memory. */
void *arena_alloc(size_t bytes);
void arena_free(void *arena, size_t bytes);

/* Gives the runtime heap zeroed memory to begin with. */
void runtime_heap_begin(char *reserve, size_t bytes);

/* Bytes that the runtime heap has mapped: what the test of growth looks at. */
size_t runtime_heap_mapped_bytes(void);

/* ---- image_heap.c ---- */

/* The heap while the image is made; the sizes are cut to what was used when it is sealed. */
extern char image_hot[], image_heap[];
extern size_t image_hot_size, image_heap_size;
extern int image_heap_sealed;

/* Whether an address is a block of the image heap. */
static inline int in_image_heap(const void *address) {
    return (uintptr_t)address - (uintptr_t)image_hot < image_hot_size ||
           (uintptr_t)address - (uintptr_t)image_heap < image_heap_size;
}

void *image_heap_alloc(size_t bytes);
void *image_heap_aligned(size_t alignment, size_t bytes);
void image_heap_free(void *block);
size_t image_heap_usable(const void *block);

/* Ends the time before main(). Where blocks go: a file of tools/standalone/placement.py, or NULL. 0 or -errno. */
int image_heap_place(const char *path);

/* The next block's number is a round one: a block more or less before it changes no number behind it. */
void image_heap_begin_step(void);

/* Ends the time before the save: zeroes what is free, so that the image holds no leftovers, and begins the runtime
 * heap. */
void image_heap_seal(void);

/* The part that every start writes to, or that a usual one does, for MADV_POPULATE_WRITE. */
char *image_heap_hot(int usual, size_t *bytes);

#endif
