/* The kernel's mount interface by descriptors (musl has no wrappers for it), and what the files that mount share. */
#ifndef OCIRT_MOUNT_H
#define OCIRT_MOUNT_H

#include <linux/mount.h>

#include "init.h"

/* <sys/mount.h> has them, and clashes with <linux/mount.h> */
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static inline int open_tree(int dir_fd, const char *path, unsigned flags) {
    return (int)syscall(SYS_open_tree, dir_fd, path, flags | OPEN_TREE_CLOEXEC);
}

/* A detached copy of what is mounted at a descriptor. */
static inline int clone_tree(int fd, unsigned flags) {
    return open_tree(fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | flags);
}

static inline int move_mount(int mount_fd, int target_fd) {
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    return (int)syscall(SYS_move_mount, mount_fd, "", target_fd, "", flags);
}

/* Take a descriptor out of its slot; -1 where that is empty. */
static inline int take_slot(struct context *ctx, slot_t slot) {
    int fd = slot_fd(ctx, slot);
    if (fd >= 0)
        ctx->slots[slot] = -1;
    return fd;
}

/* path.c: root_open() and root_make() in one, with RESOLVE_* flags beyond those that all paths are resolved with. */
int root_path(struct context *ctx, const char *path, enum make what, uint64_t flags, uint64_t resolve);

/* attributes.c; `object` is named in the detail */
int change_flags(struct context *ctx, int mount_fd, const struct mount_attributes *change, const char *object);
int change_propagation(struct context *ctx, int mount_fd, const struct mount_attributes *change, const char *object);
/* Change the propagation of the one mount that a directory is in. */
int isolate(struct context *ctx, int dir_fd, uint64_t propagation, const char *object);
bool is_mount_root(int fd);
bool same_mount_root(int fd, int other_fd); /* whether both are the root of one mount */

/* filesystem.c: a file system's configuration, with the kernel's own words in the details of failures */
int filesystem_open(struct context *ctx, const char *type);
int filesystem_set(struct context *ctx, int fs_fd, const char *option); /* "key" or "key=value" */
int filesystem_set_all(struct context *ctx, int fs_fd, strv_t options);
int filesystem_command(struct context *ctx, int fs_fd, unsigned command, const char *object);
int filesystem_mount(struct context *ctx, int fs_fd, uint64_t flags, const char *object); /* a detached mount */
int empty_tmpfs(struct context *ctx);                                                     /* the same, read-only */

/* hostviews.c: detach or cover every procfs and sysfs outside of the root. */
int take_kernel_views_away(struct context *ctx);

/* copyup.c: copy what is in a directory into another one. */
int copy_up(struct context *ctx, int from_fd, int to_fd, const char *object);

#endif
