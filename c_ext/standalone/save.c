/* The new file is this one with other contents of its writable segment, and without what follows that: sections, and
 * the archive of modules. Of the segment, what is libc's is as it was linked, so that libc starts as in any program
 * (thread- local storage, vDSO, stack protector, the processor's features), and everything else is as it is now.
 *
 * The linker's script (tools/standalone/layout.py) puts libc's part first and the heap last:
 *
 *   p_vaddr: relocation read-only, GOT, libc | saved_start: data, bss, heap ... heap's end
 *   as linked                                | as it is now                               */
#include "save.h"

#include "alloc.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Weak: the plain binary is linked without a layout where the linker knows none. */
extern char saved_start[] __attribute__((weak)), saved_end[] __attribute__((weak));

int image_saved;

int image_can_be_saved(void) { return saved_start != NULL && saved_end != NULL; }

static int write_all(int fd, const char *bytes, size_t count) {
    while (count) {
        ssize_t written = write(fd, bytes, count);
        if (written < 0)
            return -errno;
        bytes += written;
        count -= (size_t)written;
    }
    return 0;
}

/* Likewise, with holes for pages of zeros. The last byte isn't zero. */
static int write_sparse(int fd, const char *bytes, size_t count) {
    static const char zeros[4096];
    int result = 0;
    while (count && !result) {
        size_t part = count < sizeof zeros ? count : sizeof zeros;
        if (memcmp(bytes, zeros, part) != 0)
            result = write_all(fd, bytes, part);
        else if (lseek(fd, (off_t)part, SEEK_CUR) < 0)
            result = -errno;
        bytes += part;
        count -= part;
    }
    return result;
}

static Elf64_Phdr *writable_segment(char *file) {
    Elf64_Ehdr *header = (Elf64_Ehdr *)file;
    Elf64_Phdr *segments = (Elf64_Phdr *)(file + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && segments[i].p_flags & PF_W &&
            (uintptr_t)saved_start - segments[i].p_vaddr < segments[i].p_memsz)
            return &segments[i];
    return NULL;
}

/* The file up to the writable segment with its new size, what libc has of that segment, and the memory. Memory from the
 * last byte on that is not zero need not be in the file. */
static int write_image(int fd, char *file) {
    Elf64_Phdr *segment = writable_segment(file);
    if (!segment)
        return -ENOEXEC;
    Elf64_Ehdr *header = (Elf64_Ehdr *)file;
    header->e_shoff = 0;
    header->e_shnum = header->e_shstrndx = 0;
    image_saved = 1;
    image_is_being_made = 0;
    char *last, *end = image_heap_seal(&last);
    while (last > saved_start && !last[-1])
        last--;
    size_t linked = (size_t)(saved_start - (char *)segment->p_vaddr);
    segment->p_filesz = linked + (size_t)(last - saved_start);
    segment->p_memsz = linked + (size_t)(end - saved_start);
    int result = write_all(fd, file, segment->p_offset + linked);
    return result ? result : write_sparse(fd, saved_start, (size_t)(last - saved_start));
}

int save_image(const char *path) {
    if (!image_can_be_saved())
        return -ENOTSUP;
    int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (in < 0 || fstat(in, &status) != 0)
        return -errno;
    char *file = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, in, 0);
    if (file == MAP_FAILED)
        return -errno;
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (out < 0)
        return -errno;
    int result = write_image(out, file);
    if (close(out) != 0 && !result)
        result = -errno;
    return result;
}
