/* The new file is this one with other contents of its writable segments, and without what follows them: sections, and
 * the archive of modules. What is libc's is as it was linked, so that libc starts as in any program (thread-local
 * storage, vDSO, stack protector, the processor's features), and everything else is as it is now.
 *
 * The linker's script (tools/standalone/layout.py) has put them apart:
 *
 *   code, libc's data | saved_start: data, bss, hot part of the heap | the heap's other part
 *   as linked         | as it is now                                 | as it is now */
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
extern char saved_start[] __attribute__((weak)), hot_end[] __attribute__((weak)), saved_end[] __attribute__((weak));

int image_saved;

int image_can_be_saved(void) { return saved_start != NULL && hot_end != NULL && saved_end != NULL; }

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

static const char zeros[4096]; /* a page */

/* Likewise, with holes for pages of zeros. The last byte isn't zero. */
static int write_sparse(int fd, const char *bytes, size_t count) {
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

/* A segment of the new file: where its bytes are now, and how many of them are not just zeros at the end. */
struct part {
    Elf64_Phdr *segment;
    const char *from;
    size_t count;
};

static Elf64_Phdr *segment_of(char *file, const void *address) {
    Elf64_Ehdr *header = (Elf64_Ehdr *)file;
    Elf64_Phdr *segments = (Elf64_Phdr *)(file + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && (uintptr_t)address - segments[i].p_vaddr < segments[i].p_memsz)
            return &segments[i];
    return NULL;
}

/* Memory as it is now, from the beginning of a segment. */
static struct part memory(Elf64_Phdr *segment, const char *end) {
    const char *start = (const char *)segment->p_vaddr;
    while (end > start && !end[-1])
        end--;
    return (struct part){segment, start, (size_t)(end - start)};
}

/* Puts a part behind the one before it, at the offset in a page that its address has. */
static Elf64_Off place(const struct part *part, Elf64_Off end) {
    Elf64_Off page = sizeof zeros;
    part->segment->p_offset = (end + page - 1) / page * page + part->segment->p_vaddr % page;
    part->segment->p_filesz = part->count;
    return part->segment->p_offset + part->count;
}

static int write_image(int fd, char *file) {
    Elf64_Ehdr *header = (Elf64_Ehdr *)file;
    Elf64_Phdr *first = segment_of(file, saved_start), *second = segment_of(file, image_heap);
    if (!first || !second || first->p_vaddr != (uintptr_t)saved_start || second->p_vaddr != (uintptr_t)image_heap)
        return -ENOEXEC;
    header->e_shoff = 0;
    header->e_shnum = header->e_shstrndx = 0;
    image_saved = 1;
    image_is_being_made = 0;
    image_heap_seal();
    size_t as_linked = first->p_offset;
    const struct part parts[] = {memory(first, hot_end), memory(second, image_heap + image_heap_size)};
    second->p_memsz = image_heap_size;
    place(&parts[1], place(&parts[0], as_linked));
    int result = write_all(fd, file, as_linked);
    for (int i = 0; i < 2 && !result; i++)
        result = lseek(fd, (off_t)parts[i].segment->p_offset, SEEK_SET) < 0
                     ? -errno
                     : write_sparse(fd, parts[i].from, parts[i].count);
    return result;
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
