#include "bpf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

_Static_assert(BPF_OBJ_NAME_LEN == 16, "ocirt_bpf_name() promises 16 bytes");

/* `attr` is cleared by the callers as a whole: the kernel refuses anything but zeroes after what the command knows. */
static int bpf(enum bpf_cmd command, union bpf_attr *attr, size_t bytes) {
    long result = syscall(SYS_bpf, command, attr, bytes);
    return result < 0 ? -errno : (int)result;
}

/* The verifier gives up with EAGAIN when a signal is pending. */
static int load(union bpf_attr *attr) {
    int fd = -EAGAIN;
    for (int tries = 0; fd == -EAGAIN && tries < 10; tries++)
        fd = bpf(BPF_PROG_LOAD, attr, sizeof(*attr));
    return fd;
}

int ocirt_bpf_load_device_filter(const void *instructions, uint32_t count, const char *name, char *log,
                                 uint32_t log_bytes) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (uint64_t)(uintptr_t)instructions;
    attr.insn_cnt = count;
    /* Calls no helper that asks for a license compatible with the GPL. */
    attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
    strncpy(attr.prog_name, name, sizeof(attr.prog_name) - 1);

    log[0] = '\0';
    int fd = load(&attr);
    if (fd >= 0 || fd == -EPERM)
        return fd;

    /* Once more with the log: the verifier writes it only when asked, which costs the good case time. */
    attr.log_level = 1;
    attr.log_buf = (uint64_t)(uintptr_t)log;
    attr.log_size = log_bytes;
    int logged = load(&attr);
    /* ENOSPC: the program is as bad as before, and the log too long. */
    return logged == -ENOSPC ? fd : logged;
}

int ocirt_bpf_query_device_filters(int cgroup_fd, uint32_t *ids, uint32_t capacity) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.query.target_fd = (uint32_t)cgroup_fd;
    attr.query.attach_type = BPF_CGROUP_DEVICE;
    attr.query.prog_ids = (uint64_t)(uintptr_t)ids;
    attr.query.prog_cnt = capacity;
    int result = bpf(BPF_PROG_QUERY, &attr, sizeof(attr));
    if (result < 0 && result != -ENOSPC)
        return result;
    return (int)attr.query.prog_cnt;
}

int ocirt_bpf_open(uint32_t id) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.prog_id = id;
    return bpf(BPF_PROG_GET_FD_BY_ID, &attr, sizeof(attr));
}

int ocirt_bpf_name(int program_fd, char *name) {
    struct bpf_prog_info info;
    union bpf_attr attr;
    memset(&info, 0, sizeof(info));
    memset(&attr, 0, sizeof(attr));
    attr.info.bpf_fd = (uint32_t)program_fd;
    attr.info.info_len = sizeof(info);
    attr.info.info = (uint64_t)(uintptr_t)&info;
    int result = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr));
    if (result < 0)
        return result;
    memcpy(name, info.name, sizeof(info.name));
    name[sizeof(info.name) - 1] = '\0';
    return 0;
}

int ocirt_bpf_attach_device_filter(int cgroup_fd, int program_fd, int replace_fd) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)cgroup_fd;
    attr.attach_bpf_fd = (uint32_t)program_fd;
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    if (replace_fd >= 0) {
        attr.attach_flags |= BPF_F_REPLACE;
        attr.replace_bpf_fd = (uint32_t)replace_fd;
    }
    return bpf(BPF_PROG_ATTACH, &attr, sizeof(attr));
}

int ocirt_bpf_detach_device_filter(int cgroup_fd, int program_fd) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)cgroup_fd;
    attr.attach_bpf_fd = (uint32_t)program_fd;
    attr.attach_type = BPF_CGROUP_DEVICE;
    return bpf(BPF_PROG_DETACH, &attr, sizeof(attr));
}

int ocirt_is_cgroup2(const char *path) {
    struct statfs stat;
    if (statfs(path, &stat) < 0)
        return -errno;
    return stat.f_type == CGROUP2_SUPER_MAGIC;
}
