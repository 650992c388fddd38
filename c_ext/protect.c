/* What stands between the container and the kernel's files: masks, read-only paths, and sysctls written beforehand.
 *
 * A file is masked by the container's own /dev/null, bound by the descriptor that was verified (CVE-2025-31133): not by
 * the host's, whose mode and owner a container could then change, and which cannot be made in a user namespace, where
 * the container's is bound from the host anyway. If it is not the null device the mask fails, and with it the
 * container. A mask is read-only, so that nothing about it can be changed; reading and writing a device still works.
 */
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mount.h"

static int null_device(struct context *ctx) {
    cleanup_fd int null_fd = root_open(ctx, "/dev/null", O_PATH | O_NOFOLLOW);
    struct stat info;
    if (null_fd < 0)
        return null_fd;
    if (fstat(null_fd, &info) != 0)
        return failed(ctx, "fstat", "/dev/null");
    if (!S_ISCHR(info.st_mode) || info.st_rdev != makedev(1, 3))
        return FAILED_PLAINLY(ctx, "/dev/null of the container is not the null device");
    cleanup_fd int tree = clone_tree(null_fd, 0);
    if (tree < 0)
        return failed(ctx, "open_tree", "/dev/null");
    struct mount_attributes change = {.set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC};
    int error = change_flags(ctx, tree, &change, "/dev/null");
    return error ? error : take(&tree);
}

int op_mask_path(struct context *ctx, const struct op_mask_path *op) {
    const char *path = plan_text(ctx, op->path);
    cleanup_fd int target = root_open(ctx, path, O_PATH);
    struct stat info;
    if (target < 0)
        return target == -ENOENT || target == -ENOTDIR ? 0 : target;
    if (fstat(target, &info) != 0)
        return failed(ctx, "fstat", path);
    if (same_mount_root(target, ctx->root_fd))
        return failed_with(ctx, EINVAL, "mask the root itself:", path);
    bool directory = S_ISDIR(info.st_mode);
    /* All masks are copies of the first one of their kind, possible once that is part of this mount namespace. */
    int *first = directory ? &ctx->directory_mask : &ctx->file_mask;
    cleanup_fd int mask = *first >= 0 ? clone_tree(*first, 0) : directory ? empty_tmpfs(ctx) : null_device(ctx);
    if (mask < 0)
        return *first >= 0 ? failed(ctx, "open_tree", path) : mask;
    if (move_mount(mask, target) != 0)
        return failed(ctx, "move_mount", path);
    if (*first < 0)
        *first = take(&mask);
    return 0;
}

int op_make_readonly(struct context *ctx, const struct op_make_readonly *op) {
    const char *path = plan_text(ctx, op->path);
    struct mount_attributes change = {.set = MOUNT_ATTR_RDONLY};
    cleanup_fd int target = root_open(ctx, path, O_PATH);
    if (target < 0)
        return target == -ENOENT || target == -ENOTDIR ? 0 : target;
    if (same_mount_root(target, ctx->root_fd)) /* nothing that covers it would be reached */
        return change_flags(ctx, target, &change, path);
    /* With what is mounted below, which keeps its flags: /sys may be read-only and its cgroups not. */
    cleanup_fd int tree = clone_tree(target, AT_RECURSIVE);
    if (tree < 0)
        return failed(ctx, "open_tree", path);
    int error = change_flags(ctx, tree, &change, path);
    if (error)
        return error;
    return move_mount(tree, target) ? failed(ctx, "move_mount", path) : 0;
}

int op_set_sysctl(struct context *ctx, const struct op_set_sysctl *op) {
    const char *name = plan_text(ctx, op->name), *value = plan_text(ctx, op->value);
    uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    cleanup_fd int sys = open_beneath(ctx->proc_fd, "sys", O_PATH | O_DIRECTORY, resolve);
    if (sys < 0)
        return failed_with(ctx, -sys, "openat2", "/proc/sys");
    cleanup_fd int file = open_beneath(sys, name, O_WRONLY | O_NOCTTY, resolve);
    if (file < 0)
        return failed_with(ctx, -file, "openat2 /proc/sys:", name);
    int error = write_value(file, value, strlen(value));
    return error ? failed_with(ctx, error, "write sysctl", name) : 0;
}
