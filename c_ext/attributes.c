/* The attributes and the propagation of mounts (mount_setattr(2)), held by descriptor. */
#include <linux/stat.h>

#include "mount.h"

static int set_attributes(struct context *ctx, int mount_fd, unsigned flags, struct mount_attr attr,
                          const char *object) {
    if (!attr.attr_set && !attr.attr_clr && !attr.propagation)
        return 0;
    if (syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH | flags, &attr, sizeof attr) == 0)
        return 0;
    if (errno == EPERM && attr.attr_clr) {
        DETAIL(ctx, "mount_setattr ", object, ": clears flags that the user namespace locks");
        return -EPERM;
    }
    return failed(ctx, "mount_setattr", object);
}

int change_flags(struct context *ctx, int mount_fd, const struct mount_attributes *change, const char *object) {
    struct mount_attr tree = {.attr_set = change->recursive_set, .attr_clr = change->recursive_clear};
    struct mount_attr top = {.attr_set = change->set, .attr_clr = change->clear};
    int error = set_attributes(ctx, mount_fd, AT_RECURSIVE, tree, object);
    return error ? error : set_attributes(ctx, mount_fd, 0, top, object);
}

int change_propagation(struct context *ctx, int mount_fd, const struct mount_attributes *change, const char *object) {
    struct mount_attr tree = {.propagation = change->recursive_propagation};
    struct mount_attr top = {.propagation = change->propagation};
    int error = set_attributes(ctx, mount_fd, AT_RECURSIVE, tree, object);
    return error ? error : set_attributes(ctx, mount_fd, 0, top, object);
}

/* The id of the mount whose root the descriptor is of; 0: it is of another place. */
static uint64_t mount_root_id(int fd) {
    struct statx info;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &info) != 0)
        return 0;
    return info.stx_attributes & STATX_ATTR_MOUNT_ROOT ? info.stx_mnt_id : 0;
}

bool is_mount_root(int fd) { return mount_root_id(fd) != 0; }

bool same_mount_root(int fd, int other_fd) {
    uint64_t id = mount_root_id(fd);
    return id && id == mount_root_id(other_fd);
}

int isolate(struct context *ctx, int dir_fd, uint64_t propagation, const char *object) {
    /* mount_setattr(2) wants the mount's root, and ".." leads there without leaving the mount before. */
    cleanup_fd int fd = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int depth = 0; fd >= 0 && !is_mount_root(fd); depth++) {
        if (depth == PATH_MAX / 2) /* "/" of a chroot(2), where ".." is the directory itself */
            return failed_with(ctx, EINVAL, "find the mount point above", object);
        int parent = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close_fd(&fd);
        fd = parent;
    }
    if (fd < 0)
        return failed(ctx, "find the mount point above", object);
    struct mount_attr attr = {.propagation = propagation};
    return set_attributes(ctx, fd, 0, attr, object);
}
