/* Writes to the runtime's own procfs: security labels, and what else a process tells the kernel about itself there.
 *
 * The file is reached from the descriptor of OPEN_PROC without leaving that mount and without magic links: whatever the
 * container has mounted at /proc, or below it, is never looked at (CVE-2019-16884, CVE-2025-52881).
 */
#include <linux/openat2.h>

#include "init.h"

static int failed_at(struct context *ctx, int error, const char *syscall, const char *path) {
    DETAIL(ctx, syscall, " /proc/", path);
    return -error;
}

int write_proc(struct context *ctx, const char *path, const char *value) {
    if (ctx->proc_fd < 0)
        plan_invalid("OPEN_PROC is missing");
    /* thread-self is a plain symbolic link inside of procfs: these flags let it be. */
    uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    cleanup_fd int fd = open_beneath(ctx->proc_fd, path, O_WRONLY | O_CLOEXEC, resolve);
    if (fd < 0)
        return failed_at(ctx, -fd, "openat2", path);
    /* One write: the kernel takes an attribute as a whole, and no bytes at all as "back to the default". */
    int error = write_value(fd, value, strlen(value));
    return error ? failed_at(ctx, error, "write", path) : 0;
}

int op_set_selinux(struct context *ctx, const struct op_set_selinux *op) {
    return write_proc(ctx, "thread-self/attr/exec", plan_text(ctx, op->label));
}

int op_set_apparmor(struct context *ctx, const struct op_set_apparmor *op) {
    static const char verb[] = "exec ";
    const char *profile = plan_text(ctx, op->profile);
    char command[PATH_MAX];
    size_t bytes = strlen(profile);
    if (bytes > sizeof command - sizeof verb)
        return failed_with(ctx, ENAMETOOLONG, "AppArmor profile", profile);
    memcpy(command, verb, sizeof verb);
    memcpy(command + sizeof verb - 1, profile, bytes + 1);
    int error = write_proc(ctx, "thread-self/attr/apparmor/exec", command);
    /* Before Linux 5.8 there is only the file that all security modules share. */
    return error == -ENOENT ? write_proc(ctx, "thread-self/attr/exec", command) : error;
}
