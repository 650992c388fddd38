#include "seccomp_names.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* An architecture's direct calls lie within so many numbers of its multiplexers. */
#define DIRECT_RANGE 1000

static int is_multiplexed(int number) { return number <= -101 && number >= -224; }

/* libseccomp prefers the way through the multiplexer, and tells of the other one by number alone. */
static void find_direct(uint32_t arch, const char *names, uint32_t count, const int32_t *numbers, int32_t *direct) {
    int multiplexer = seccomp_syscall_resolve_name_arch(arch, "socketcall");
    for (int number = multiplexer - DIRECT_RANGE; number < multiplexer + DIRECT_RANGE; number++) {
        char *found = number < 0 ? NULL : seccomp_syscall_resolve_num_arch(arch, number);
        const char *name = names;
        for (uint32_t i = 0; found && i < count; i++, name += strlen(name) + 1)
            if (is_multiplexed(numbers[i]) && strcmp(found, name) == 0)
                direct[i] = number;
        free(found);
    }
}

void ocirt_seccomp_numbers(uint32_t arch, const char *names, uint32_t count, int32_t *numbers, int32_t *direct) {
    const char *name = names;
    int multiplexed = 0;

    for (uint32_t i = 0; i < count; i++, name += strlen(name) + 1) {
        numbers[i] = seccomp_syscall_resolve_name_arch(arch, name);
        direct[i] = -1;
        multiplexed |= is_multiplexed(numbers[i]);
    }
    if (multiplexed)
        find_direct(arch, names, count, numbers, direct);
}

uint32_t ocirt_seccomp_arch(const char *name) {
    return *name ? seccomp_arch_resolve_name(name) : seccomp_arch_native();
}

int ocirt_seccomp_number(uint32_t arch, const char *name) { return seccomp_syscall_resolve_name_arch(arch, name); }

uint32_t ocirt_seccomp_version(void) {
    const struct scmp_version *version = seccomp_version();
    return version->major << 16 | version->minor << 8 | version->micro;
}

uint32_t ocirt_seccomp_flags(void) {
    uint32_t flags = 0;

    for (uint32_t flag = 1; flag <= 1U << 5; flag <<= 1) {
        uint32_t with = flag;
        if (flag == 1U << 4) /* TSYNC_ESRCH says how TSYNC reports */
            with |= SECCOMP_FILTER_FLAG_TSYNC;
        if (flag == 1U << 5) /* WAIT_KILLABLE_RECV is about a listener */
            with |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
        /* the filter at NULL is read after the flags have been accepted */
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, with, NULL) < 0 && errno == EFAULT)
            flags |= flag;
    }
    return flags;
}
