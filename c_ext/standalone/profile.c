/* For the profile that placement.py makes: at its exit, a start of the saved image tells which pages of the image heap
 * it has written to. Only in the program that is made for that. */
#include "alloc.h"
#include "save.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES 4096

/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 61 of a file. */
#define PRESENT (UINT64_C(1) << 63)
#define OF_FILE (UINT64_C(1) << 61)

_Noreturn void __wrap__exit(int code);

/* A byte for each page: 'w' where it is this process's own, as every page is that was written to; 'r' where it is
 * mapped, which profile_begin() makes mean that it was read. */
static void tell(const char *path) {
    char name[256];
    snprintf(name, sizeof name, "%s.%d", path, (int)syscall(SYS_getpid));
    int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), out = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (map < 0 || out < 0)
        return;
    for (size_t page = 0; page < image_heap_size / PAGE_BYTES; page += 512) {
        uint64_t entries[512];
        char told[512];
        ssize_t got = pread(map, entries, sizeof entries, (off_t)(((uintptr_t)image_heap / PAGE_BYTES + page) * 8));
        for (ssize_t i = 0; i < got / 8; i++)
            told[i] = !(entries[i] & PRESENT) ? '-' : entries[i] & OF_FILE ? 'r' : 'w';
        if (got <= 0 || write(out, told, (size_t)got / 8) < 0)
            return;
    }
}

/* No read-ahead: a page gets into the page cache, from which the kernel maps around a fault, only when it is used. The
 * builder has dropped the file from the cache. */
__attribute__((constructor)) static void profile_begin(void) {
    uintptr_t start = ((uintptr_t)image_heap + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (image_saved)
        madvise((void *)start, image_heap_size / PAGE_BYTES * PAGE_BYTES, MADV_RANDOM);
}

_Noreturn void __wrap__exit(int code) {
    const char *path = image_saved ? getenv("OCIRT_PROFILE") : NULL;
    if (path)
        tell(path);
    for (;;)
        syscall(SYS_exit_group, code);
}
