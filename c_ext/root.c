/* The container's root: attached as a mount, held, and made the process's "/".
 *
 * Guarantees: the mount below which the root is attached is private by then, so that nothing that is done here
 * reaches the host; after op_pivot() no path leads to what was "/" before.
 */
#include <linux/magic.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "mount.h"

#define PROC_ROOT_INODE 1

int op_open_proc(struct context *ctx, const struct op_open_proc *op) {
    (void)op;
    cleanup_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (proc < 0)
        return failed(ctx, "open", "/proc");
    struct statfs filesystem;
    struct stat info;
    if (fstatfs(proc, &filesystem) != 0 || fstat(proc, &info) != 0)
        return failed(ctx, "fstatfs", "/proc");
    if (filesystem.f_type != PROC_SUPER_MAGIC || info.st_ino != PROC_ROOT_INODE)
        return FAILED_PLAINLY(ctx, "/proc is not the root of a procfs");
    close_fd(&ctx->proc_fd);
    ctx->proc_fd = take(&proc);
    return 0;
}

int op_open_root(struct context *ctx, const struct op_open_root *op) {
    const char *path = plan_text(ctx, op->path);
    int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return failed(ctx, "open", path);
    close_fd(&ctx->root_fd);
    ctx->root_fd = root;
    return 0;
}

int op_attach_root(struct context *ctx, const struct op_attach_root *op) {
    const char *path = plan_text(ctx, op->path);
    cleanup_fd int tree = take_slot(ctx, op->tree);
    cleanup_fd int target = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool hidden = target < 0 && (errno == EACCES || errno == ENOENT || errno == ENOTDIR);
    if (hidden && op->flags & ROOT_STACK_ON_SLASH)
        target = open(path = "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (target < 0)
        return failed(ctx, "open", path);
    int error = isolate(ctx, target, MS_PRIVATE, path);
    /* pivot_root(2) refuses a shared root, too; and shared with the host, mounts on it would appear there. */
    struct mount_attributes slave = {.propagation = MS_SLAVE};
    if (!error)
        error = change_propagation(ctx, tree, &slave, path);
    if (error)
        return error;
    if (move_mount(tree, target) != 0)
        return failed(ctx, "move_mount", path);
    close_fd(&ctx->root_fd);
    ctx->root_fd = take(&tree);
    return 0;
}

/* Leave a chroot(2) that the runtime may be in, for the root of its mount namespace: that is what has to go. It would
 * stay, out of sight, and be the root of whoever joins the container's mount namespace, as exec does. */
static int leave_chroot(struct context *ctx) {
    if (ctx->proc_fd < 0)
        plan_invalid("OPEN_PROC is missing");
    cleanup_fd int before = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int ns = openat(ctx->proc_fd, "thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (before < 0 || ns < 0)
        return failed(ctx, "open", before < 0 ? "/" : "/proc/thread-self/ns/mnt");
    if (setns(ns, CLONE_NEWNS) != 0)
        return failed(ctx, "setns", "mnt");
    cleanup_fd int slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (slash < 0)
        return failed(ctx, "open", "/");
    /* setns(2) goes to the topmost mount on the namespace's root: the container's own, where that is stacked there. */
    if (same_mount_root(slash, ctx->root_fd) && (fchdir(before) != 0 || chroot(".") != 0))
        return failed(ctx, "chroot", "/");
    return 0;
}

/* The old root is mounted over the new one for a moment (pivot_root(2), "pivot_root(".", ".")"), and detached. */
static int pivot_root(struct context *ctx) {
    cleanup_fd int old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (old_root < 0)
        return failed(ctx, "open", "/");
    if (syscall(SYS_pivot_root, ".", ".") != 0)
        return failed(ctx, "pivot_root", NULL);
    /* The host must not see its mounts go. */
    struct mount_attributes slave = {.recursive_propagation = MS_SLAVE};
    int error = change_propagation(ctx, old_root, &slave, "the old root");
    if (error)
        return error;
    if (fchdir(old_root) != 0)
        return failed(ctx, "fchdir", "the old root");
    return syscall(SYS_umount2, ".", MNT_DETACH) ? failed(ctx, "umount2", "the old root") : 0;
}

static int move_root(struct context *ctx) {
    int error = take_kernel_views_away(ctx);
    cleanup_fd int slash = error ? -1 : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (error)
        return error;
    if (slash < 0 || move_mount(ctx->root_fd, slash) != 0)
        return failed(ctx, slash < 0 ? "open" : "move_mount", "/");
    return chroot(".") ? failed(ctx, "chroot", NULL) : 0;
}

int op_pivot(struct context *ctx, const struct op_pivot *op) {
    int error = op->kind == PIVOT_CHROOT ? 0 : leave_chroot(ctx);
    if (error)
        return error;
    if (fchdir(ctx->root_fd) != 0)
        return failed(ctx, "fchdir", "the root");
    if (op->kind == PIVOT_ROOT)
        error = pivot_root(ctx);
    else if (op->kind == PIVOT_MOVE)
        error = move_root(ctx);
    else if (op->kind != PIVOT_CHROOT)
        plan_invalid("kind of pivot");
    else if (chroot(".") != 0)
        error = failed(ctx, "chroot", NULL);
    if (error)
        return error;
    return chdir("/") ? failed(ctx, "chdir", "/") : 0;
}
