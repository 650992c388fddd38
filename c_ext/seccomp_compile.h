/* Names of system calls to numbers, and unconditional rules to a BPF program, in one call into libseccomp's many. */
#ifndef OCIRT_SECCOMP_COMPILE_H
#define OCIRT_SECCOMP_COMPILE_H

#ifndef OCIRT_CDEF
#include <stdint.h>
#endif

/* One action for some of the names. */
struct scmp_entry {
    uint32_t action;
    uint32_t name_count; /* the next that many names */
    uint32_t add;        /* bool: as a rule; otherwise the names are only resolved */
};

struct scmp_profile {
    uint32_t default_action;
    uint32_t optimize; /* SCMP_FLTATR_CTL_OPTIMIZE */
    uint32_t arch_count;
    uint32_t entry_count;
    const uint32_t *archs; /* SCMP_ARCH_* tokens, the native one first */
    const struct scmp_entry *entries;
    const char *names; /* in the order of the entries, each ends with NUL */
};

enum scmp_stage { SCMP_INIT = 1, SCMP_ARCH = 2, SCMP_RULE = 3, SCMP_EXPORT = 4 };

struct scmp_result {
    int32_t stage; /* where an error arose, enum scmp_stage */
    uint32_t at;   /* at SCMP_ARCH its place, at SCMP_RULE the name's */
    /* Filled, per name and within it per architecture: the number. Negative ones are libseccomp's: -1 is an unknown
     * name, -101 to -120 go through socketcall(2), -201 to -224 through ipc(2), others don't exist there. */
    int32_t *numbers;
    void *program;     /* filled with struct sock_filter */
    uint32_t capacity; /* of program, bytes */
};

/* The program's size in bytes (which may exceed the capacity: then nothing of it is filled in), or a negative errno. */
int ocirt_seccomp_compile(const struct scmp_profile *profile, struct scmp_result *result);

/* The number of a system call's own entry where socketcall(2) or ipc(2) is another way to it; -1: there is none. */
int ocirt_seccomp_direct(uint32_t arch, const char *name, int multiplexer);

uint32_t ocirt_seccomp_arch(const char *name); /* "x86_64" to a SCMP_ARCH_* token; "": the native one; 0: unknown */
int ocirt_seccomp_number(uint32_t arch, const char *name);
uint32_t ocirt_seccomp_version(void); /* of libseccomp, e.g. 0x020504 */
uint32_t ocirt_seccomp_flags(void);   /* SECCOMP_FILTER_FLAG_* that the running kernel takes */

#endif
