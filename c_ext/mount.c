/* The mounts of the container: new file systems, binds, remounts.
 *
 * Guarantees: a mount is made detached, gets its flags, and is moved on the descriptor of a target that was resolved
 * below the root; a target that is exchanged meanwhile is covered where it is now, below the root or nowhere visible.
 * The descriptor kept is the mount's: that of the target reaches what is covered.
 */
#include <linux/openat2.h>
#include <sys/stat.h>

#include "mount.h"

int op_open_tree(struct context *ctx, const struct op_open_tree *op) {
    const char *path = plan_text(ctx, op->path);
    unsigned recursive = op->flags & TREE_RECURSIVE ? AT_RECURSIVE : 0;
    unsigned nofollow = op->flags & TREE_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
    cleanup_fd int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | recursive | nofollow);
    if (tree < 0)
        return failed(ctx, "open_tree", path);
    struct mount_attributes slave = {.recursive_propagation = op->flags & TREE_SLAVE ? MS_SLAVE : 0};
    int error = change_propagation(ctx, tree, &slave, path);
    return error ? error : set_slot(ctx, op->slot, take(&tree));
}

int op_set_propagation(struct context *ctx, const struct op_set_propagation *op) {
    cleanup_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct mount_attributes change = {.propagation = op->propagation};
    if (op->recursive)
        change = (struct mount_attributes){.recursive_propagation = op->propagation};
    return root < 0 ? failed(ctx, "open", "/") : change_propagation(ctx, root, &change, "/");
}

/* Attach a mount that has its flags. Its propagation comes after that: attached below a shared mount it becomes shared.
 */
static int attach(struct context *ctx, int *mount_fd, int target_fd, const char *target, slot_t slot,
                  const struct mount_attributes *attributes) {
    bool on_root = same_mount_root(target_fd, ctx->root_fd);
    if (move_mount(*mount_fd, target_fd) != 0)
        return failed(ctx, "move_mount", target);
    int error = change_propagation(ctx, *mount_fd, attributes, target);
    if (error)
        return error;
    if (on_root) { /* "/" is what was mounted last on it; the descriptor of what it covers leads nowhere else */
        int covered = ctx->root_fd;
        ctx->root_fd = fcntl(*mount_fd, F_DUPFD_CLOEXEC, 0);
        close(covered);
        if (ctx->root_fd < 0)
            return failed(ctx, "fcntl", "F_DUPFD_CLOEXEC");
    }
    return set_slot(ctx, slot, take(mount_fd));
}

/* The place to cover. */
static int open_target(struct context *ctx, const char *target, enum make what, uint64_t open_flags, uint32_t flags) {
    uint64_t resolve = flags & MOUNT_REAL_DIRECTORY ? RESOLVE_NO_SYMLINKS : 0;
    uint64_t last = flags & MOUNT_TARGET_NOFOLLOW ? O_NOFOLLOW : 0;
    int fd = root_path(ctx, target, what, open_flags | O_PATH | last, resolve);
    if (flags & MOUNT_REAL_DIRECTORY && (fd == -ELOOP || fd == -ENOTDIR))
        DETAIL(ctx, "openat2 ", target, ": must be a real directory");
    return fd;
}

/* The same for a file system; *covered tells whether the directory was there before. */
static int directory_target(struct context *ctx, const char *target, uint32_t flags, bool *covered) {
    int fd = open_target(ctx, target, MAKE_NOTHING, O_DIRECTORY, flags);
    *covered = fd >= 0;
    return fd == -ENOENT ? open_target(ctx, target, MAKE_DIRECTORY, O_DIRECTORY, flags) : fd;
}

/* A number that fits into `option` behind its key, in digits of the base. */
static void append_number(char *option, unsigned number, unsigned base) {
    char digits[24], *at = digits + sizeof digits - 1;
    *at = '\0';
    do
        *--at = (char)('0' + number % base);
    while (number /= base);
    strcat(option, at);
}

/* Mode and owner come before the options of the mount, which therefore win. An id that has no mapping in this user
 * namespace cannot be taken over (EINVAL): the owner is then the container's root. */
static int take_over(struct context *ctx, int fs_fd, int target_fd) {
    char mode[40] = "mode=", uid[40] = "uid=", gid[40] = "gid=";
    struct stat info;
    if (fstat(target_fd, &info) != 0)
        return failed(ctx, "fstat", "the covered directory");
    append_number(mode, info.st_mode & 07777, 8);
    append_number(uid, info.st_uid, 10);
    append_number(gid, info.st_gid, 10);
    int error = filesystem_set(ctx, fs_fd, mode);
    if (!error && (error = filesystem_set(ctx, fs_fd, uid)) == -EINVAL)
        error = 0;
    if (!error && (error = filesystem_set(ctx, fs_fd, gid)) == -EINVAL)
        error = 0;
    return error;
}

static int set_source(struct context *ctx, int fs_fd, const char *source) {
    char option[sizeof "source=" + PATH_MAX] = "source=";
    if (!source || !*source)
        return 0;
    if (strlen(source) >= PATH_MAX)
        return failed_with(ctx, ENAMETOOLONG, "fsconfig source", source);
    strcat(option, source);
    return filesystem_set(ctx, fs_fd, option);
}

static bool is_option(struct context *ctx, strv_t options, const char *word) {
    struct strings strings = plan_strings(ctx, options);
    for (uint32_t i = 0; i < strings.count; i++)
        if (strcmp(strings_at(&strings, i), word) == 0)
            return true;
    return false;
}

/* A new mount has no others below it: what is asked for recursively is asked for the one. In a user namespace a new
 * procfs or sysfs must have the flags of the one that is visible already from its birth: hence here. */
static uint64_t initial_flags(const struct mount_attributes *attributes) {
    return (attributes->recursive_set & ~attributes->clear) | attributes->set;
}

static int make_filesystem(struct context *ctx, const struct op_mount_fs *op, int target_fd, bool covered) {
    const char *type = plan_text(ctx, op->fstype);
    cleanup_fd int fs_fd = filesystem_open(ctx, type);
    if (fs_fd < 0)
        return fs_fd;
    int error = set_source(ctx, fs_fd, plan_string(ctx, op->source));
    if (!error && covered && op->flags & MOUNT_TAKE_OVER)
        error = take_over(ctx, fs_fd, target_fd);
    if (!error)
        error = filesystem_set_all(ctx, fs_fd, op->options);
    uint64_t flags = initial_flags(&op->attributes);
    if (!error && op->flags & MOUNT_COPY_UP) { /* made read-only by fill() */
        error = filesystem_set(ctx, fs_fd, "rw");
        flags &= ~(uint64_t)MOUNT_ATTR_RDONLY;
    }
    return error ? error : filesystem_mount(ctx, fs_fd, flags, type);
}

static int fill(struct context *ctx, const struct op_mount_fs *op, int mount_fd, int target_fd, const char *target) {
    bool read_only = initial_flags(&op->attributes) & MOUNT_ATTR_RDONLY || is_option(ctx, op->options, "ro");
    struct mount_attributes change = {.set = read_only ? MOUNT_ATTR_RDONLY : 0};
    int error = copy_up(ctx, target_fd, mount_fd, target);
    return error ? error : change_flags(ctx, mount_fd, &change, target);
}

int op_mount_fs(struct context *ctx, const struct op_mount_fs *op) {
    const char *target = plan_text(ctx, op->target);
    bool covered;
    cleanup_fd int target_fd = directory_target(ctx, target, op->flags, &covered);
    if (target_fd < 0)
        return target_fd;
    cleanup_fd int mount_fd = make_filesystem(ctx, op, target_fd, covered);
    if (mount_fd < 0)
        return mount_fd;
    int error = op->flags & MOUNT_COPY_UP ? fill(ctx, op, mount_fd, target_fd, target) : 0;
    return error ? error : attach(ctx, &mount_fd, target_fd, target, op->slot, &op->attributes);
}

int op_bind(struct context *ctx, const struct op_bind *op) {
    const char *target = plan_text(ctx, op->target);
    cleanup_fd int tree = take_slot(ctx, op->tree);
    struct stat source, covered;
    if (fstat(tree, &source) != 0)
        return failed(ctx, "fstat", "the tree to bind");
    bool file = !S_ISDIR(source.st_mode) || op->flags & MOUNT_CREATE_FILE;
    cleanup_fd int target_fd = open_target(ctx, target, file ? MAKE_FILE : MAKE_DIRECTORY, 0, op->flags);
    if (target_fd < 0)
        return target_fd;
    if (fstat(target_fd, &covered) != 0)
        return failed(ctx, "fstat", target);
    if (S_ISDIR(source.st_mode) != S_ISDIR(covered.st_mode)) {
        DETAIL(ctx, "bind ", target, ": a directory cannot cover a file, nor a file a directory");
        return -ENOTDIR;
    }
    int error = change_flags(ctx, tree, &op->attributes, target);
    return error ? error : attach(ctx, &tree, target_fd, target, op->slot, &op->attributes);
}

/* Change the options of the file system itself. */
static int reconfigure(struct context *ctx, int mount_fd, strv_t options, const char *target) {
    cleanup_fd int fs_fd = (int)syscall(SYS_fspick, mount_fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
    if (fs_fd < 0)
        return failed(ctx, "fspick", target);
    int error = filesystem_set_all(ctx, fs_fd, options);
    return error ? error : filesystem_command(ctx, fs_fd, FSCONFIG_CMD_RECONFIGURE, target);
}

int op_remount(struct context *ctx, const struct op_remount *op) {
    const char *target = plan_text(ctx, op->target);
    cleanup_fd int mount_fd = root_open(ctx, target, O_PATH);
    if (mount_fd < 0)
        return mount_fd;
    if (!is_mount_root(mount_fd)) {
        DETAIL(ctx, "remount ", target, ": not a mount point");
        return -EINVAL;
    }
    int error = op->options ? reconfigure(ctx, mount_fd, op->options, target) : 0;
    if (!error)
        error = change_flags(ctx, mount_fd, &op->attributes, target);
    return error ? error : change_propagation(ctx, mount_fd, &op->attributes, target);
}

int op_set_mount_attributes(struct context *ctx, const struct op_set_mount_attributes *op) {
    int mount_fd = op->slot == NO_SLOT ? ctx->root_fd : slot_fd(ctx, op->slot);
    const char *object = op->slot == NO_SLOT ? "the root" : "a mount";
    int error = change_flags(ctx, mount_fd, &op->attributes, object);
    return error ? error : change_propagation(ctx, mount_fd, &op->attributes, object);
}
