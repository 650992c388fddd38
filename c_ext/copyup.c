/* Copies the contents of a directory into a tmpfs that is about to cover it (option tmpcopyup).
 *
 * Works on descriptors, follows no link, and stays on the mount of the directory: a mount below it is copied as the
 * empty directory that the mount point is. Content, kinds, modes, owners, times and extended attributes are kept, hard
 * links are not. What an unprivileged user namespace cannot have is left out: device nodes, owners that are not mapped,
 * attributes of foreign namespaces.
 */
#include <linux/limits.h>
#include <linux/openat2.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "mount.h"

#define MAX_DEPTH 128
#define DIRECTORY_BYTES 2048
#define CHUNK (1 << 30)

struct entry { /* struct linux_dirent64 of getdents64(2) */
    uint64_t inode;
    int64_t offset;
    unsigned short bytes;
    unsigned char type;
    char name[];
};

struct node {
    int from; /* its directory in the original */
    int to;   /* its directory in the copy */
    const char *name;
    struct stat info;
};

/* A step's failure names the directory that is copied and the entry at fault. */
static int copy_failed(struct context *ctx, const char *syscall_name, const char *name) {
    int error = errno;
    DETAIL(ctx, "copy up: ", syscall_name, " ", name);
    return -error;
}

static bool cannot_be_had(void) { return errno == EPERM || errno == ENOTSUP || errno == EINVAL; }

static int copy_xattrs(struct context *ctx, int from, int to, const char *name) {
    char names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
    ssize_t length = flistxattr(from, names, sizeof names);
    if (length < 0)
        return errno == ENOTSUP ? 0 : copy_failed(ctx, "listxattr", name);
    for (const char *key = names; key < names + length; key += strlen(key) + 1) {
        ssize_t size = fgetxattr(from, key, value, sizeof value);
        if (size < 0 && errno == ENODATA)
            continue;
        if (size < 0)
            return copy_failed(ctx, "getxattr", name);
        if (fsetxattr(to, key, value, (size_t)size, 0) != 0 && !cannot_be_had())
            return copy_failed(ctx, "setxattr", name);
    }
    return 0;
}

/* Of a file or directory that is open on both sides; the owner first, since chown(2) takes mode bits and capabilities.
 */
static int copy_metadata(struct context *ctx, int from, int to, const struct node *node) {
    const struct timespec times[] = {node->info.st_atim, node->info.st_mtim};
    if (fchown(to, node->info.st_uid, node->info.st_gid) != 0 && !cannot_be_had())
        return copy_failed(ctx, "chown", node->name);
    if (fchmod(to, node->info.st_mode & 07777) != 0)
        return copy_failed(ctx, "chmod", node->name);
    int error = copy_xattrs(ctx, from, to, node->name);
    if (error)
        return error;
    return futimens(to, times) ? copy_failed(ctx, "utimensat", node->name) : 0;
}

static int copy_file(struct context *ctx, struct node *node) {
    uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
    cleanup_fd int from = open_beneath(node->from, node->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, resolve);
    if (from == -EXDEV)
        return 0;
    if (from < 0 || fstat(from, &node->info) != 0)
        return copy_failed(ctx, "open", node->name);
    if (!S_ISREG(node->info.st_mode))
        return failed_with(ctx, EBUSY, "copy up: exchanged meanwhile:", node->name);
    cleanup_fd int to = openat(node->to, node->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return copy_failed(ctx, "create", node->name);
    ssize_t sent;
    while ((sent = sendfile(to, from, NULL, CHUNK)) > 0)
        ;
    return sent < 0 ? copy_failed(ctx, "sendfile", node->name) : copy_metadata(ctx, from, to, node);
}

static int copy_other(struct context *ctx, struct node *node) {
    const struct timespec times[] = {node->info.st_atim, node->info.st_mtim};
    char text[PATH_MAX];
    if (S_ISLNK(node->info.st_mode)) {
        ssize_t length = readlinkat(node->from, node->name, text, sizeof text - 1);
        if (length < 0)
            return copy_failed(ctx, "readlink", node->name);
        text[length] = '\0';
        if (symlinkat(text, node->to, node->name) != 0)
            return copy_failed(ctx, "symlink", node->name);
    } else if (mknodat(node->to, node->name, node->info.st_mode, node->info.st_rdev) != 0) {
        return errno == EPERM ? 0 : copy_failed(ctx, "mknod", node->name);
    }
    if (fchownat(node->to, node->name, node->info.st_uid, node->info.st_gid, AT_SYMLINK_NOFOLLOW) != 0 &&
        !cannot_be_had())
        return copy_failed(ctx, "chown", node->name);
    if (utimensat(node->to, node->name, times, AT_SYMLINK_NOFOLLOW) != 0)
        return copy_failed(ctx, "utimensat", node->name);
    return 0;
}

static int copy_contents(struct context *ctx, int from, int to, int depth);

static int copy_directory(struct context *ctx, struct node *node, int depth) {
    uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
    if (mkdirat(node->to, node->name, 0700) != 0)
        return copy_failed(ctx, "mkdir", node->name);
    cleanup_fd int from = open_beneath(node->from, node->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, resolve);
    if (from == -EXDEV)
        return fchmodat(node->to, node->name, 0755, 0) ? copy_failed(ctx, "chmod", node->name) : 0;
    if (from < 0 || fstat(from, &node->info) != 0)
        return copy_failed(ctx, "open", node->name);
    cleanup_fd int to = openat(node->to, node->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return copy_failed(ctx, "open the copy of", node->name);
    int error = copy_contents(ctx, from, to, depth + 1);
    return error ? error : copy_metadata(ctx, from, to, node);
}

static int copy_entry(struct context *ctx, struct node *node, int depth) {
    if (strcmp(node->name, ".") == 0 || strcmp(node->name, "..") == 0)
        return 0;
    if (fstatat(node->from, node->name, &node->info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : copy_failed(ctx, "stat", node->name);
    if (S_ISDIR(node->info.st_mode))
        return copy_directory(ctx, node, depth);
    return S_ISREG(node->info.st_mode) ? copy_file(ctx, node) : copy_other(ctx, node);
}

static int copy_contents(struct context *ctx, int from, int to, int depth) {
    _Alignas(8) char entries[DIRECTORY_BYTES];
    long length;
    if (depth > MAX_DEPTH)
        return failed_with(ctx, ELOOP, "copy up: directories", "more than 128 levels deep");
    while ((length = syscall(SYS_getdents64, from, entries, sizeof entries)) > 0) {
        for (long at = 0; at < length;) {
            const struct entry *entry = (const void *)(entries + at);
            struct node node = {.from = from, .to = to, .name = entry->name};
            int error = copy_entry(ctx, &node, depth);
            if (error)
                return error;
            at += entry->bytes;
        }
    }
    return length < 0 ? copy_failed(ctx, "getdents64", "a directory") : 0;
}

int copy_up(struct context *ctx, int from_fd, int to_fd, const char *object) {
    cleanup_fd int from = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return from < 0 ? failed(ctx, "open", object) : copy_contents(ctx, from, to_fd, 0);
}
