/* Device nodes, FIFOs and symbolic links of the container, made in the descriptor of their directory.
 *
 * Nothing here follows a link at the last component: what is given mode and owner is a descriptor that has been looked
 * at (CVE-2026-41579, CVE-2026-88265).
 */
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mount.h"

/* chmod(2) of what an O_PATH descriptor refers to; fchmodat2(2) is newer than the kernels that we run on. */
static int change_mode(struct context *ctx, int fd, mode_t mode, const char *path) {
    char link[40] = "self/fd/", number[24];
    strcat(link, format_number(number, fd));
    return fchmodat(ctx->proc_fd, link, mode, 0) ? failed(ctx, "chmod", path) : 0;
}

int op_make_device(struct context *ctx, const struct op_make_device *op) {
    const char *path = plan_text(ctx, op->path), *leaf;
    char buffer[PATH_MAX];
    cleanup_fd int parent = root_parent(ctx, path, buffer, &leaf);
    if (parent < 0)
        return parent;
    dev_t numbers = S_ISFIFO(op->mode) ? 0 : makedev(op->major, op->minor);
    if (mknodat(parent, leaf, op->mode, numbers) != 0 && errno != EEXIST)
        return failed(ctx, "mknod", path);
    cleanup_fd int node = openat(parent, leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat info;
    if (node < 0 || fstat(node, &info) != 0)
        return failed(ctx, "open", path);
    if ((info.st_mode & S_IFMT) != (op->mode & S_IFMT) || (!S_ISFIFO(op->mode) && info.st_rdev != numbers)) {
        DETAIL(ctx, path, " exists and is not the device asked for");
        return -EEXIST;
    }
    if ((info.st_uid != op->uid || info.st_gid != op->gid) && fchownat(node, "", op->uid, op->gid, AT_EMPTY_PATH) != 0)
        return failed(ctx, "chown", path);
    mode_t mode = op->mode & 07777; /* a default ACL of the directory may have taken bits away */
    return (info.st_mode & 07777) == mode ? 0 : change_mode(ctx, node, mode, path);
}

static bool is_link_to(int parent, const char *leaf, const char *target) {
    char text[PATH_MAX];
    ssize_t length = readlinkat(parent, leaf, text, sizeof text);
    return length >= 0 && (size_t)length == strlen(target) && memcmp(text, target, (size_t)length) == 0;
}

static int make_link(struct context *ctx, const char *path, const char *target, bool replace) {
    const char *leaf;
    char buffer[PATH_MAX];
    cleanup_fd int parent = root_parent(ctx, path, buffer, &leaf);
    if (parent < 0)
        return parent;
    if (symlinkat(target, parent, leaf) == 0)
        return 0;
    if (errno != EEXIST)
        return failed(ctx, "symlink", path);
    if (is_link_to(parent, leaf, target))
        return 0;
    if (!replace)
        return failed_with(ctx, EEXIST, "symlink", path);
    if (unlinkat(parent, leaf, 0) != 0)
        return failed(ctx, "unlink", path);
    return symlinkat(target, parent, leaf) ? failed(ctx, "symlink", path) : 0;
}

/* 1 where the target exists below the root, 0 where it does not; a relative one begins at the link's directory. */
static int target_exists(struct context *ctx, const char *path, const char *target) {
    char absolute[2 * PATH_MAX];
    size_t length = *target == '/' ? 0 : (size_t)(strrchr(path, '/') ? strrchr(path, '/') + 1 - path : 0);
    if (length >= PATH_MAX || strlen(target) >= PATH_MAX)
        return failed_with(ctx, ENAMETOOLONG, "openat2", target);
    memcpy(absolute, path, length);
    strcpy(absolute + length, target);
    /* Not what a last symbolic link points to: /proc/self/fd/0 is a magic one, which is there and enough. */
    cleanup_fd int fd = root_open(ctx, absolute, O_PATH | O_NOFOLLOW);
    if (fd >= 0)
        return 1;
    return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd;
}

int op_make_symlink(struct context *ctx, const struct op_make_symlink *op) {
    const char *path = plan_text(ctx, op->path), *target = plan_text(ctx, op->target);
    int exists = op->flags & SYMLINK_IF_TARGET ? target_exists(ctx, path, target) : 1;
    return exists <= 0 ? exists : make_link(ctx, path, target, op->flags & SYMLINK_REPLACE);
}

int op_copy_symlink(struct context *ctx, const struct op_copy_symlink *op) {
    const char *source = plan_text(ctx, op->source), *target = plan_text(ctx, op->target);
    char text[PATH_MAX];
    ssize_t length = readlink(source, text, sizeof text - 1);
    if (length < 0)
        return failed(ctx, "readlink", source);
    text[length] = '\0';
    return make_link(ctx, target, text, false);
}
