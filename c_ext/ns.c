/* The namespaces: joining by descriptor, one clone3(2) for the new ones, and what must follow inside.
 *
 * Where it can, the runtime spawns ocirt-init in the new pid namespace, and it is the container's init itself: a
 * process less, and its birth and end. What stands against it is a user namespace, and a pid namespace to be joined.
 *
 * An execve(2) between clone3(CLONE_NEWUSER) and the writing of uid_map would drop every capability (Linux 6.18), so
 * the clone happens here, after ocirt-init has been executed. CLONE_PARENT makes the container's init a child of the
 * runtime, so that it is orphaned to the caller's subreaper when the runtime exits; exit_signal must be 0 with it.
 */
#include <grp.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "init.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static int join_pass(struct context *ctx, bool user, bool joined[static PLAN_MAX_JOINS], bool must) {
    for (uint32_t i = 0; i < ctx->plan->join_count; i++) {
        const struct plan_join *join = &ctx->plan->joins[i];
        if (joined[i] || (join->type == CLONE_NEWUSER) != user)
            continue;
        if (setns(slot_fd(ctx, (slot_t)join->slot), (int)join->type) == 0) {
            joined[i] = true;
        } else if (must || errno != EPERM) {
            char number[24];
            return failed(ctx, "setns", format_number(number, join->slot));
        }
    }
    return 0;
}

/* A namespace may belong to our user namespace or to the one that is joined: what fails with EPERM before joining the
 * user namespace is tried again after it (nsenter(1) does the same). */
int join_namespaces(struct context *ctx) {
    bool joined[PLAN_MAX_JOINS] = {0};
    int error = join_pass(ctx, false, joined, false);
    if (!error)
        error = join_pass(ctx, true, joined, true);
    if (!error)
        error = join_pass(ctx, false, joined, true);
    if (!error && ctx->plan->pidfd_flags &&
        setns(slot_fd(ctx, (slot_t)ctx->plan->pidfd_slot), (int)ctx->plan->pidfd_flags) != 0)
        error = failed(ctx, "setns", "into the container's namespaces");
    return error;
}

int enter_new_namespaces(struct context *ctx, int *pidfd) {
    uint64_t flags = ctx->plan->clone_flags & ~(uint64_t)CLONE_NEWTIME;
    if (ctx->plan->flags & PLAN_ALONE)
        return unshare((int)flags) ? failed(ctx, "unshare", NULL) : 0;
    struct clone_args args = {.pidfd = (uintptr_t)pidfd, .flags = CLONE_PARENT | CLONE_PIDFD | flags};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    return pid < 0 ? failed(ctx, "clone3", NULL) : (int)pid;
}

/* clone3(CLONE_NEWTIME) leaves timens_offsets unwritable (Linux 6.18), so: unshare, have them written, enter. */
static int enter_time_namespace(struct context *ctx) {
    if (unshare(CLONE_NEWTIME) != 0)
        return failed(ctx, "unshare", "CLONE_NEWTIME");
    if (ctx->plan->flags & PLAN_TIME_OFFSETS) {
        int error = sync_with_runtime(ctx, SYNC_TIMENS, -1);
        if (error)
            return error;
    }
    cleanup_fd int ns = openat(ctx->proc_fd, "thread-self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
    if (ns < 0)
        return failed(ctx, "open", "/proc/thread-self/ns/time_for_children");
    return setns(ns, CLONE_NEWTIME) ? failed(ctx, "setns", "time") : 0;
}

/* From here on, nobody in a joined pid namespace may trace us or take our descriptors (CVE-2016-9962). */
static int protect_from_tracing(struct context *ctx) {
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? failed(ctx, "prctl", "PR_SET_DUMPABLE") : 0;
}

int settle_namespaces(struct context *ctx) {
    const struct plan_header *plan = ctx->plan;
    int error = plan->flags & PLAN_MAPS ? sync_with_runtime(ctx, SYNC_MAPS, -1) : 0;
    if (!error && plan->clone_flags & CLONE_NEWTIME)
        error = enter_time_namespace(ctx);
    /* An unprivileged runtime could write maps and offsets only while we were dumpable. */
    return error ? error : protect_from_tracing(ctx);
}

int assume_ids(struct context *ctx) {
    const struct plan_header *plan = ctx->plan;
    if (plan->flags & PLAN_SET_IDS) {
        if (!(plan->flags & PLAN_KEEP_GROUPS) && setgroups(0, NULL) != 0)
            return failed(ctx, "setgroups", NULL);
        if (setresgid(plan->user_root_gid, plan->user_root_gid, plan->user_root_gid) != 0)
            return failed(ctx, "setresgid", NULL);
        if (setresuid(plan->user_root_uid, plan->user_root_uid, plan->user_root_uid) != 0)
            return failed(ctx, "setresuid", NULL);
    }
    return protect_from_tracing(ctx); /* new ids make it what fs.suid_dumpable says */
}

int op_raise_loopback(struct context *ctx, const struct op_raise_loopback *op) {
    (void)op;
    /* A socket of any family will do, and of this one every kernel has some. */
    cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return failed(ctx, "socket", "AF_UNIX");
    struct ifreq loopback = {.ifr_name = "lo"};
    if (ioctl(fd, SIOCGIFFLAGS, &loopback) == 0 && loopback.ifr_flags & IFF_UP)
        return 0; /* by the runtime, which made the namespace */
    loopback.ifr_flags = IFF_UP | IFF_RUNNING;
    return ioctl(fd, SIOCSIFFLAGS, &loopback) ? failed(ctx, "ioctl SIOCSIFFLAGS", "lo") : 0;
}
