#include "seccomp_compile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What libseccomp may use is told, not probed from the running kernel: a profile's program is then the same
 * everywhere. Level 6 is Linux 5.7, below ocirt's floor, and the highest of libseccomp 2.5. */
#define API_LEVEL 6
/* An architecture's direct calls lie within so many numbers of its multiplexers. */
#define DIRECT_RANGE 1000

static int add_entries(scmp_filter_ctx filter, const struct scmp_profile *profile, struct scmp_result *result) {
    const char *name = profile->names;
    int32_t *numbers = result->numbers;

    result->at = 0;
    for (uint32_t i = 0; i < profile->entry_count; i++) {
        const struct scmp_entry *entry = &profile->entries[i];
        for (uint32_t j = 0; j < entry->name_count; j++, result->at++) {
            for (uint32_t k = 0; k < profile->arch_count; k++)
                numbers[k] = seccomp_syscall_resolve_name_arch(profile->archs[k], name);
            if (entry->add && numbers[0] != __NR_SCMP_ERROR) {
                int error = seccomp_rule_add_array(filter, entry->action, numbers[0], 0, NULL);
                if (error)
                    return error;
            }
            name += strlen(name) + 1;
            numbers += profile->arch_count;
        }
    }
    return 0;
}

static int export_program(scmp_filter_ctx filter, struct scmp_result *result) {
    int fd = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = seccomp_export_bpf(filter, fd);
    off_t bytes = error ? error : lseek(fd, 0, SEEK_CUR);
    if (bytes < 0 && !error)
        bytes = -errno;
    if (bytes >= 0 && bytes <= result->capacity && pread(fd, result->program, (size_t)bytes, 0) != bytes)
        bytes = -EIO;
    close(fd);
    return (int)bytes;
}

static int compile(scmp_filter_ctx filter, const struct scmp_profile *profile, struct scmp_result *result) {
    result->stage = SCMP_ARCH;
    for (result->at = 0; result->at < profile->arch_count; result->at++) {
        int error = seccomp_arch_add(filter, profile->archs[result->at]);
        if (error && error != -EEXIST)
            return error;
    }
    result->stage = SCMP_RULE;
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, profile->optimize);
    if (!error)
        error = add_entries(filter, profile, result);
    if (error)
        return error;
    result->stage = SCMP_EXPORT;
    return export_program(filter, result);
}

int ocirt_seccomp_compile(const struct scmp_profile *profile, struct scmp_result *result) {
    result->stage = SCMP_INIT;
    result->at = 0;
    int error = seccomp_api_set(API_LEVEL);
    if (error)
        return error;
    scmp_filter_ctx filter = seccomp_init(profile->default_action);
    if (!filter)
        return -ENOMEM;
    int bytes = compile(filter, profile, result);
    seccomp_release(filter);
    return bytes;
}

int ocirt_seccomp_direct(uint32_t arch, const char *name, int multiplexer) {
    for (int number = multiplexer - DIRECT_RANGE; number < multiplexer + DIRECT_RANGE; number++) {
        if (number < 0)
            continue;
        char *found = seccomp_syscall_resolve_num_arch(arch, number);
        int same = found && strcmp(found, name) == 0;
        free(found);
        if (same)
            return number;
    }
    return -1;
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
