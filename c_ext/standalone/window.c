/* The first thing that runs, before libc: what a start of the saved image writes to is taken into one huge page.
 *
 * CPython counts references, so that a start writes to about 300 pages of the file's data. Each would cost a fault and
 * a copy. A huge page costs one fault, and read(2) fills it: a third of the time, and less again when the process ends.
 * The kernel may have none (transparent_hugepage/enabled is "never", memory is fragmented or short): then everything is
 * as the kernel had mapped it.
 *
 * There is no libc yet, and no thread-local storage: system calls only. Nothing here may write to the window but what
 * fills it. */
#include "window.h"

#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE_BYTES ((size_t)4096)
#define PROC_SUPER_MAGIC 0x9fa0

int window_is_huge;

#ifdef __x86_64__

/* Of the linker's script (tools/standalone/layout.py). */
extern char used_end[] __attribute__((weak)), saved_start[] __attribute__((weak)), hot_end[] __attribute__((weak));

/* In the order of struct statfs, which begins with the file system's magic. */
struct file_system {
    long type, others[31];
};

static long call6(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static long call3(long number, long a, long b, long c) { return call6(number, a, b, c, 0, 0, 0); }

static const Elf64_Phdr *segment_of(const uintptr_t *stack, const char *address) {
    const uintptr_t *at = stack + 1 + stack[0] + 1; /* behind argc, argv and its NULL */
    while (*at++)
        ;
    const Elf64_Phdr *segments = NULL;
    size_t count = 0;
    for (const Elf64_auxv_t *each = (const Elf64_auxv_t *)at; each->a_type != AT_NULL; each++) {
        if (each->a_type == AT_PHDR)
            segments = (const Elf64_Phdr *)each->a_un.a_val;
        if (each->a_type == AT_PHNUM)
            count = each->a_un.a_val;
    }
    for (size_t i = 0; segments && i < count; i++)
        if (segments[i].p_type == PT_LOAD && (uintptr_t)address - segments[i].p_vaddr < segments[i].p_memsz)
            return &segments[i];
    return NULL;
}

static long map(size_t bytes, int flags, long fd, size_t offset) {
    flags |= MAP_PRIVATE | MAP_FIXED;
    return call6(SYS_mmap, (long)saved_start, (long)bytes, PROT_READ | PROT_WRITE, flags, fd, (long)offset);
}

/* Of the file: what there is, and no more than the window takes. */
static size_t window_bytes(const Elf64_Phdr *segment) {
    return segment->p_filesz < HUGE_PAGE_BYTES ? segment->p_filesz : HUGE_PAGE_BYTES;
}

/* As the kernel had it: the file's pages, and zeros behind them. */
static int map_file(const Elf64_Phdr *segment, long fd) {
    size_t bytes = window_bytes(segment);
    if (map(bytes, 0, fd, segment->p_offset) < 0)
        return -1;
    volatile char *end = saved_start + bytes;
    for (size_t rest = -bytes % PAGE_BYTES; rest; rest--)
        *end++ = 0;
    return 0;
}

static int fill(const Elf64_Phdr *segment, long fd) {
    size_t bytes = window_bytes(segment), done = 0;
    while (done < bytes) {
        long got = call6(SYS_pread64, fd, (long)(saved_start + done), (long)(bytes - done),
                         (long)(segment->p_offset + done), 0, 0);
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}

/* 0 where memory is as it must be, in whichever way; else the program cannot go on. */
static int take_window(const Elf64_Phdr *segment, long fd) {
    unsigned char resident = 0;
    if (map(HUGE_PAGE_BYTES, MAP_ANONYMOUS, -1, 0) < 0)
        return 0;
    call3(SYS_madvise, (long)saved_start, (long)HUGE_PAGE_BYTES, MADV_HUGEPAGE);
    *(volatile char *)saved_start = 0;
    /* Of a huge page, everything is there once anything is (mincore(2)). */
    call3(SYS_mincore, (long)(saved_start + HUGE_PAGE_BYTES / 2), (long)PAGE_BYTES, (long)&resident);
    if (!(resident & 1))
        return map_file(segment, fd);
    if (fill(segment, fd) != 0)
        return -1;
    window_is_huge = 1;
    return 0;
}

/* Code and constants that few commands use: the kernel is not to map them with a huge page of the page cache, for one
 * byte. What the others use is in front of them. */
static void leave_the_rest(const Elf64_Phdr *code) {
    uintptr_t start = ((uintptr_t)used_end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (code)
        call3(SYS_madvise, (long)start, (long)(code->p_vaddr + code->p_memsz - start), MADV_NOHUGEPAGE);
}

__attribute__((used)) void window_begin(const uintptr_t *stack) {
    struct file_system file_system = {0};
    const Elf64_Phdr *segment = segment_of(stack, saved_start);
    if (!segment || hot_end - saved_start < (ptrdiff_t)HUGE_PAGE_BYTES)
        return;
    leave_the_rest(segment_of(stack, used_end));
    /* Somebody else's /proc would give us somebody else's memory. */
    if (call3(SYS_statfs, (long)"/proc/self", (long)&file_system, 0) != 0 || file_system.type != PROC_SUPER_MAGIC)
        return;
    long fd = call3(SYS_open, (long)"/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (take_window(segment, fd) != 0)
        call3(SYS_exit_group, 127, 0, 0);
    call3(SYS_close, fd, 0, 0);
}

/* The entry point. The stack is as the kernel made it, aligned to 16; rdx is for _start. */
__asm__(".globl window_start\n"
        ".type window_start, @function\n"
        "window_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    push %rdx\n"
        "    push %rdx\n"
        "    call window_begin\n"
        "    pop %rdx\n"
        "    pop %rdx\n"
        "    jmp _start\n"
        ".size window_start, . - window_start\n");

#endif
