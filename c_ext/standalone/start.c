/* Starts libc as __libc_start_main of glibc 2.36 (csu/libc-start.c) does in a static program, but for one thing: it
 * does not ask the processor what it is. That takes glibc seventy times cpuid, which a hypervisor traps: 0.3 ms of
 * every command on the machine that the figures are from, a quarter of `--version`. What the answers are for is the
 * choice of memcpy and the like: without them libc takes those that every x86-64 processor can execute.
 *
 * Tunables stay what they are by default, whatever GLIBC_TUNABLES says: ocirt starts containers for others. main()
 * never returns, so nothing is registered for the exit.
 *
 * tools/standalone/link.py links it where libc's own object has just the symbols that are known here. */
#ifdef __x86_64__

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>

/* What libc's object defines, besides: the defaults of sysdeps/x86/cacheinfo.h, which memcpy and memset look at. */
long __x86_data_cache_size = 32 << 10, __x86_data_cache_size_half = 16 << 10;
long __x86_shared_cache_size = 1 << 20, __x86_shared_cache_size_half = 1 << 19;
long __x86_shared_non_temporal_threshold = 3 << 18;
long __x86_rep_movsb_threshold = 2048, __x86_rep_stosb_threshold = 2048, __x86_rep_movsb_stop_threshold = 3 << 18;
int __x86_string_control;

extern char **__environ;
extern void *__libc_stack_end;
extern int __libc_enable_secure;
extern uintptr_t *_dl_random; /* AT_RANDOM: 16 bytes */

void _dl_aux_init(ElfW(auxv_t) *);
void __libc_setup_tls(void);
void __libc_early_init(_Bool initial);
void __libc_init_first(int argc, char **argv, char **environment);
void __libc_check_standard_fds(void);
void _init(void);

typedef void initializer(int argc, char **argv, char **environment);
extern initializer *__preinit_array_start[], *__preinit_array_end[], *__init_array_start[], *__init_array_end[];
extern const ElfW(Rela) __rela_iplt_start[] __attribute__((weak)), __rela_iplt_end[] __attribute__((weak));

int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);

/* The functions that libc has in several variants (STT_GNU_IFUNC). The linker makes no other relocations without PIE.
 */
static void choose_variants(void) {
    for (const ElfW(Rela) *each = __rela_iplt_start; each < __rela_iplt_end; each++)
        *(uintptr_t *)each->r_offset = ((uintptr_t(*)(void))each->r_addend)();
}

static void run(initializer **start, initializer **end, int argc, char **argv) {
    for (; start < end; start++)
        (*start)(argc, argv, __environ);
}

int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end) {
    __environ = argv + argc + 1;
    __libc_stack_end = stack_end;
    char **end = __environ;
    while (*end++)
        ;
    _dl_aux_init((ElfW(auxv_t) *)end);
    choose_variants();
    __libc_setup_tls();
    /* The canary has a byte that ends strings, for overflows by strcpy; the other is the key of setjmp's pointers. */
    __asm__ volatile("movq %0, %%fs:0x28" : : "r"(_dl_random[0] & ~(uintptr_t)0xff));
    __asm__ volatile("movq %0, %%fs:0x30" : : "r"(_dl_random[1]));
    __libc_early_init(1);
    __libc_init_first(argc, argv, __environ);
    if (__libc_enable_secure)
        __libc_check_standard_fds();
    run(__preinit_array_start, __preinit_array_end, argc, argv);
    _init();
    run(__init_array_start, __init_array_end, argc, argv);
    exit(program(argc, argv, __environ));
}

#endif
