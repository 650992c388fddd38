/* The heap of the image: blocks with a header, in zones, which lie in two areas: what starts use is together with the
 * program's data, in the beginning of a segment that one huge page takes (window.c); the rest is elsewhere.
 *
 * Every block that is handed out has a serial number. The build is deterministic, so that the same number means the
 * same object at every build of the same sources, and a placement can say in which zone it belongs (tools/standalone/
 * placement.py, which finds that out):
 *
 * - early: what libc asks for before main() knows the placement.
 * - always: what every start writes to, even that of --version.
 * - hot: what a usual start writes to: every use of an object writes its reference count. Together, these blocks need a
 *   fraction of the pages that they would be strewn over.
 * - read: what it reads only. From here on blocks stay with the file.
 * - sometimes: what a start uses for less usual things.
 * - spread: each block on pages of its own, for the profile that tells the four above.
 * - kept: what is still there when the image is saved.
 * - other: what is gone by then, and all of which nothing is known. Last, so that it need not be in the file.
 *
 * Freed blocks are taken again within their zone. */
#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGNMENT ((size_t)16)
#define PAGE_BYTES ((size_t)4096)
#ifndef HEAP_BYTES
#define HEAP_BYTES ((size_t)96 << 20)
#endif
/* What the hot zones leave of their area is the runtime heap's. */
#define HOT_BYTES ((size_t)4 << 20)
#define RESERVE_BYTES ((size_t)3 << 19)
#define EARLY_BYTES ((size_t)16 << 10)
/* Blocks up to this size are kept by size when they are freed, others in one list. */
#define LARGEST_LISTED ((size_t)2 << 10)

/* Freed bytes after which a zone that has no fitting block looks for neighbours to join. */
#define JOIN_BYTES ((size_t)256 << 10)

#define MAX_SERIAL ((1u << 22) - 1)
/* Two runs of one program have differed by a block, for a reason that is not known: numbers go on at a round one with
 * each module that is imported. */
#define STEP_SERIALS 1024

struct header {
    uint32_t bytes;       /* of the chunk, header included */
    uint32_t serial : 22; /* 0: free */
    uint32_t slack : 10;  /* units of ALIGNMENT that are more than was asked for */
};

struct chunk {
    struct header header;
    struct chunk *next; /* of the free ones; the block is here */
};

enum zone_name { EARLY, ALWAYS, HOT, READ, SOMETIMES, SPREAD, KEPT, OTHER, ZONES };

struct zone {
    char *fresh, *end, *touched; /* nothing beyond `touched` has ever been used */
    struct chunk *listed[LARGEST_LISTED / ALIGNMENT + 1];
    struct chunk *large;
    char *first;
    size_t freed; /* bytes since neighbours were joined */
};

/* The file: this, then a byte for each serial number, from 1 on. */
struct placement {
    uint64_t bytes[KEPT + 1], count; /* bytes[EARLY] is not used */
    unsigned char zones[];
};

/* The linker's script puts them apart: tools/standalone/layout.py. */
char image_hot[HOT_BYTES] __attribute__((aligned(4096), section(".bss.hot")));
char image_heap[HEAP_BYTES] __attribute__((aligned(4096), section(".bss.heap")));
size_t image_hot_size = HOT_BYTES, image_heap_size = HEAP_BYTES;
int image_heap_sealed;
static struct zone zones[ZONES];
static const struct placement *placement;
static uint32_t serials;
static int begun;
static size_t always_bytes, hot_bytes;

static size_t rounded(size_t value, size_t unit) { return (value + unit - 1) & ~(unit - 1); }

static struct header *header_of(const void *block) { return (struct header *)((char *)block - sizeof(struct header)); }

/* Chunks begin 8 bytes before a multiple of 16, so that their blocks are aligned. */
static void make_zones(const uint64_t *bytes) {
    char *at = image_hot;
    for (int zone = 0; zone < ZONES; zone++) {
        if (zone == READ)
            at = image_heap;
        size_t rest = (size_t)(image_heap + HEAP_BYTES - at);
        size_t size = zone == EARLY ? EARLY_BYTES : zone < OTHER ? rounded(bytes[zone], PAGE_BYTES) : rest;
        char *first = at + ALIGNMENT - sizeof(struct header);
        if (zone != EARLY || !begun)
            zones[zone] = (struct zone){.first = first, .fresh = first, .touched = first, .end = at + size};
        at += size;
    }
    always_bytes = rounded(bytes[ALWAYS], PAGE_BYTES);
    hot_bytes = rounded(bytes[HOT], PAGE_BYTES);
}

int image_heap_place(const char *path) {
    struct stat status;
    if (!zones[OTHER].end)
        make_zones((const uint64_t[KEPT + 1]){0});
    begun = 1;
    if (!path)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return -errno;
    const struct placement *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        return -errno;
    size_t hot = EARLY_BYTES, others = 0;
    for (int zone = ALWAYS; zone < OTHER; zone++)
        *(zone < READ ? &hot : &others) += rounded(file->bytes[zone], PAGE_BYTES);
    if ((size_t)status.st_size != sizeof *file + file->count || hot > HOT_BYTES - RESERVE_BYTES)
        return -EINVAL;
    if (others > HEAP_BYTES / 4 * 3)
        return -EINVAL;
    if (zones[HOT].fresh != zones[HOT].first || zones[OTHER].fresh != zones[OTHER].first)
        return -EBUSY;
    make_zones(file->bytes);
    placement = file;
    return 0;
}

static enum zone_name zone_of_serial(uint32_t serial) {
    if (!begun)
        return EARLY;
    return placement && serial <= placement->count ? (enum zone_name)placement->zones[serial - 1] % ZONES : OTHER;
}

static struct zone *zone_of(const void *address) {
    struct zone *zone = zones;
    while (zone < &zones[OTHER] && ((const char *)address < zone->first || (const char *)address >= zone->end))
        zone++;
    return zone;
}

static void put_free(struct zone *zone, struct chunk *chunk) {
    size_t bytes = chunk->header.bytes;
    struct chunk **list = bytes <= LARGEST_LISTED ? &zone->listed[bytes / ALIGNMENT] : &zone->large;
    chunk->header.serial = 0;
    chunk->next = *list;
    *list = chunk;
}

/* What has been freed side by side becomes one; what ends the zone is fresh again. */
static void join_free(struct zone *zone) {
    memset(zone->listed, 0, sizeof zone->listed);
    zone->large = NULL;
    zone->freed = 0;
    for (char *at = zone->first; at < zone->fresh;) {
        struct chunk *chunk = (struct chunk *)at;
        at += chunk->header.bytes;
        if (chunk->header.serial)
            continue;
        while (at < zone->fresh && !((struct chunk *)at)->header.serial)
            at += ((struct chunk *)at)->header.bytes;
        chunk->header.bytes = (uint32_t)(at - (char *)chunk);
        if (at < zone->fresh)
            put_free(zone, chunk);
        else
            zone->fresh = (char *)chunk;
    }
}

static struct chunk *take_large(struct zone *zone, size_t bytes) {
    for (struct chunk **link = &zone->large; *link; link = &(*link)->next) {
        struct chunk *chunk = *link;
        if (chunk->header.bytes < bytes)
            continue;
        *link = chunk->next;
        size_t rest = chunk->header.bytes - bytes;
        if (rest >= 2 * ALIGNMENT) {
            struct chunk *second = (struct chunk *)((char *)chunk + bytes);
            second->header.bytes = (uint32_t)rest;
            chunk->header.bytes = (uint32_t)bytes;
            put_free(zone, second);
        }
        return chunk;
    }
    return NULL;
}

static struct chunk *take_fresh(struct zone *zone, size_t bytes, size_t unit) {
    char *at = zone->fresh;
    if (unit > ALIGNMENT) { /* pages of its own */
        at = (char *)rounded((uintptr_t)at, unit) + ALIGNMENT - sizeof(struct header);
        bytes = rounded(bytes + ALIGNMENT, unit) - (ALIGNMENT - sizeof(struct header));
    }
    if (at >= zone->end || bytes > (size_t)(zone->end - at))
        return NULL;
    zone->fresh = at + bytes;
    if (zone->touched < zone->fresh)
        zone->touched = zone->fresh;
    struct chunk *chunk = (struct chunk *)at;
    chunk->header.bytes = (uint32_t)bytes;
    return chunk;
}

static struct chunk *take(enum zone_name name, size_t bytes) {
    struct zone *zone = &zones[name];
    if (name == SPREAD)
        return take_fresh(zone, bytes, PAGE_BYTES);
    struct chunk *chunk = bytes <= LARGEST_LISTED ? zone->listed[bytes / ALIGNMENT] : NULL;
    if (chunk)
        zone->listed[bytes / ALIGNMENT] = chunk->next;
    else
        chunk = take_large(zone, bytes);
    if (!chunk && zone->freed > JOIN_BYTES) {
        join_free(zone);
        chunk = take_large(zone, bytes);
    }
    return chunk ? chunk : take_fresh(zone, bytes, ALIGNMENT);
}

void image_heap_begin_step(void) { serials = (uint32_t)rounded(serials, STEP_SERIALS); }

void *image_heap_alloc(size_t bytes) {
    if (bytes > HEAP_BYTES || serials == MAX_SERIAL - 1)
        return NULL;
    if (!zones[OTHER].end)
        make_zones((const uint64_t[KEPT + 1]){0});
    size_t wanted = rounded(bytes + sizeof(struct header), ALIGNMENT);
    if (wanted < 2 * ALIGNMENT)
        wanted = 2 * ALIGNMENT;
    /* Before main(), libc's requests differ with the path of the program. */
    uint32_t serial = begun ? ++serials : MAX_SERIAL;
    enum zone_name name = zone_of_serial(serial);
    struct chunk *chunk = take(name, wanted);
    /* One that its zone has no room for is not what the placement took it for. Behind all that is gone it would make
     * the file as long as all that. */
    if (!chunk && name < KEPT)
        chunk = take(KEPT, wanted);
    if (!chunk && name != OTHER)
        chunk = take(OTHER, wanted);
    if (!chunk)
        return NULL;
    chunk->header.serial = serial;
    chunk->header.slack = (uint32_t)((chunk->header.bytes - wanted) / ALIGNMENT);
    return &chunk->next;
}

/* The header must stand right before the block, so the chunk is split there. */
void *image_heap_aligned(size_t alignment, size_t bytes) {
    char *block = image_heap_alloc(bytes + alignment + 2 * ALIGNMENT);
    if (!block || !((uintptr_t)block & (alignment - 1)))
        return block;
    char *aligned = (char *)rounded((uintptr_t)block + 2 * ALIGNMENT, alignment);
    struct header *first = header_of(block), *second = header_of(aligned);
    second->bytes = first->bytes - (uint32_t)(aligned - block);
    second->serial = first->serial;
    second->slack = 0;
    first->bytes = (uint32_t)(aligned - block);
    image_heap_free(block);
    return aligned;
}

void image_heap_free(void *block) {
    struct chunk *chunk = (struct chunk *)header_of(block);
    struct zone *zone = zone_of(chunk);
    zone->freed += chunk->header.bytes;
    put_free(zone, chunk);
}

/* As much in every placement: whether realloc(3) takes another block must not depend on it. */
size_t image_heap_usable(const void *block) {
    const struct header *header = header_of(block);
    return header->bytes / ALIGNMENT * ALIGNMENT - header->slack * ALIGNMENT - sizeof(struct header);
}

char *image_heap_hot(int usual, size_t *bytes) {
    *bytes = usual ? always_bytes + hot_bytes : always_bytes;
    return image_hot + EARLY_BYTES;
}

static void wipe(struct chunk *chunk) {
    for (struct chunk *next; chunk; chunk = next) {
        next = chunk->next;
        memset(&chunk->next, 0, chunk->header.bytes - sizeof(struct header));
    }
}

void image_heap_seal(void) {
    /* libc starts anew, and asks anew for what it had before main(): its path, the vDSO's map. */
    memset(image_hot, 0, EARLY_BYTES);
    memset(&zones[EARLY], 0, sizeof zones[EARLY]);
    for (int i = ALWAYS; i < ZONES; i++) {
        struct zone *zone = &zones[i];
        if (i == SPREAD)
            continue; /* for profiles only */
        join_free(zone);
        for (size_t list = 0; list <= LARGEST_LISTED / ALIGNMENT; list++)
            wipe(zone->listed[list]);
        wipe(zone->large);
        memset(zone->fresh, 0, (size_t)(zone->touched - zone->fresh));
        memset(zone->listed, 0, sizeof zone->listed);
        zone->large = NULL;
    }
    image_heap_size = (size_t)(zones[OTHER].fresh - image_heap);
    image_hot_size = EARLY_BYTES + always_bytes + hot_bytes;
    image_heap_sealed = 1;
    placement = NULL;
    runtime_heap_begin(image_hot + image_hot_size, HOT_BYTES - image_hot_size);
}
