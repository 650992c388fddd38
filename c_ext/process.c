/* Properties of the process that the user's program inherits: names, limits, scheduling, keyring, umask.
 *
 * Raw system calls where musl has no wrapper. An operation whose failure the specification forgives carries the errno
 * in its record; nothing is forgiven here.
 */
#include <linux/keyctl.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include "init.h"

int op_set_hostname(struct context *ctx, const struct op_set_hostname *op) {
    const char *name = plan_text(ctx, op->name);
    return sethostname(name, strlen(name)) ? failed(ctx, "sethostname", name) : 0;
}

int op_set_domainname(struct context *ctx, const struct op_set_domainname *op) {
    const char *name = plan_text(ctx, op->name);
    return setdomainname(name, strlen(name)) ? failed(ctx, "setdomainname", name) : 0;
}

int op_set_oom_score_adj(struct context *ctx, const struct op_set_oom_score_adj *op) {
    char number[24];
    return write_proc(ctx, "thread-self/oom_score_adj", format_number(number, op->value));
}

int op_join_cgroup(struct context *ctx, const struct op_join_cgroup *op) {
    cleanup_fd int fd = openat(slot_fd(ctx, op->slot), "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return failed(ctx, "openat", "cgroup.procs");
    int error = write_value(fd, "0", 1);
    return error ? failed_with(ctx, error, "write", "cgroup.procs") : 0;
}

int op_set_cpu_affinity(struct context *ctx, const struct op_set_cpu_affinity *op) {
    struct bytes mask = plan_bytes(ctx, op->mask);
    return syscall(SYS_sched_setaffinity, 0, mask.length, mask.at) ? failed(ctx, "sched_setaffinity", NULL) : 0;
}

/* What a session keyring has from its birth, and SEARCH for its owner: `exec` finds the keyring by its name only with
 * that. Whoever possesses it may do everything, other users nothing (keyrings(7), keyctl_setperm(3)). */
#define KEYRING_PERMISSIONS 0x3f1b0000U

int op_new_keyring(struct context *ctx, const struct op_new_keyring *op) {
    const char *name = plan_text(ctx, op->name), *label = plan_string(ctx, op->label);
    int error = label ? write_proc(ctx, "thread-self/attr/keycreate", label) : 0;
    if (error)
        return error;
    long keyring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name);
    if (keyring < 0)
        return failed(ctx, "keyctl KEYCTL_JOIN_SESSION_KEYRING", name);
    if (syscall(SYS_keyctl, KEYCTL_SETPERM, keyring, KEYRING_PERMISSIONS) != 0)
        return failed(ctx, "keyctl KEYCTL_SETPERM", name);
    return label ? write_proc(ctx, "thread-self/attr/keycreate", "") : 0;
}

int op_set_rlimit(struct context *ctx, const struct op_set_rlimit *op) {
    static const char *const names[] = {
        [RLIMIT_CPU] = "RLIMIT_CPU",           [RLIMIT_FSIZE] = "RLIMIT_FSIZE",
        [RLIMIT_DATA] = "RLIMIT_DATA",         [RLIMIT_STACK] = "RLIMIT_STACK",
        [RLIMIT_CORE] = "RLIMIT_CORE",         [RLIMIT_RSS] = "RLIMIT_RSS",
        [RLIMIT_NPROC] = "RLIMIT_NPROC",       [RLIMIT_NOFILE] = "RLIMIT_NOFILE",
        [RLIMIT_MEMLOCK] = "RLIMIT_MEMLOCK",   [RLIMIT_AS] = "RLIMIT_AS",
        [RLIMIT_LOCKS] = "RLIMIT_LOCKS",       [RLIMIT_SIGPENDING] = "RLIMIT_SIGPENDING",
        [RLIMIT_MSGQUEUE] = "RLIMIT_MSGQUEUE", [RLIMIT_NICE] = "RLIMIT_NICE",
        [RLIMIT_RTPRIO] = "RLIMIT_RTPRIO",     [RLIMIT_RTTIME] = "RLIMIT_RTTIME",
    };
    const uint64_t limit[2] = {op->soft, op->hard}; /* struct rlimit64 */
    if (syscall(SYS_prlimit64, 0, op->resource, limit, NULL) == 0)
        return 0;
    bool known = op->resource < sizeof names / sizeof *names && names[op->resource];
    return failed(ctx, "prlimit64", known ? names[op->resource] : "unknown resource");
}

int op_set_scheduler(struct context *ctx, const struct op_set_scheduler *op) {
    /* struct sched_attr of Linux 5.3 (sched_setattr(2)); libcs that declare it disagree about where. */
    struct {
        uint32_t size;
        uint32_t policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime;
        uint64_t deadline;
        uint64_t period;
        uint32_t util_min;
        uint32_t util_max;
    } attributes = {
        .size = sizeof attributes,
        .policy = op->policy,
        .flags = op->flags,
        .nice = op->nice,
        .priority = op->priority,
        .runtime = op->runtime_nsec,
        .deadline = op->deadline_nsec,
        .period = op->period_nsec,
    };
    return syscall(SYS_sched_setattr, 0, &attributes, 0) ? failed(ctx, "sched_setattr", NULL) : 0;
}

int op_set_io_priority(struct context *ctx, const struct op_set_io_priority *op) {
    enum { WHO_PROCESS = 1 }; /* ioprio_set(2) */
    return syscall(SYS_ioprio_set, WHO_PROCESS, 0, op->value) ? failed(ctx, "ioprio_set", NULL) : 0;
}

int op_set_personality(struct context *ctx, const struct op_set_personality *op) {
    return personality(op->persona) < 0 ? failed(ctx, "personality", NULL) : 0;
}

int op_set_memory_policy(struct context *ctx, const struct op_set_memory_policy *op) {
    struct bytes nodes = plan_bytes(ctx, op->nodes);
    /* The kernel counts one bit less than it is told (get_nodes() in mm/mempolicy.c): with a mask of 0 bits, -1. */
    const void *mask = nodes.length ? nodes.at : NULL;
    unsigned long bits = nodes.length ? nodes.length * 8UL + 1 : 0;
    return syscall(SYS_set_mempolicy, op->mode, mask, bits) ? failed(ctx, "set_mempolicy", NULL) : 0;
}

int op_set_umask(struct context *ctx, const struct op_set_umask *op) {
    ctx->umask = op->mask & 0777;
    return 0;
}
