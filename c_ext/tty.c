/* The container's terminal, from its own devpts.
 *
 * Nothing is opened by a name that the container could have exchanged: ptmx is looked up inside of a directory that is
 * proven to be a devpts, and its other end comes from TIOCGPTPEER, never from /dev/pts/N (CVE-2025-52565).
 */
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "mount.h"

static int open_ptmx(struct context *ctx) {
    static const char path[] = "/dev/pts/ptmx";
    cleanup_fd int devpts = root_open(ctx, "/dev/pts", O_PATH | O_DIRECTORY);
    if (devpts < 0)
        return devpts;
    struct statfs fs;
    if (fstatfs(devpts, &fs) != 0)
        return failed(ctx, "fstatfs", "/dev/pts");
    if (fs.f_type != DEVPTS_SUPER_MAGIC)
        return FAILED_PLAINLY(ctx, "/dev/pts is not a devpts");
    /* Without leaving that mount there is but one "ptmx". */
    uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
    cleanup_fd int ptmx = open_beneath(devpts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, resolve);
    if (ptmx < 0)
        return failed_with(ctx, -ptmx, "openat2", path);
    struct stat info;
    if (fstat(ptmx, &info) != 0)
        return failed(ctx, "fstat", path);
    /* mknod_ptmx() of the kernel's fs/devpts/inode.c */
    if (!S_ISCHR(info.st_mode) || info.st_ino != 2 || info.st_rdev != makedev(5, 2))
        return FAILED_PLAINLY(ctx, path, " is not the terminal multiplexer");
    return take(&ptmx);
}

static int open_peer(struct context *ctx, int ptmx) {
    int unlock = 0;
    if (ioctl(ptmx, TIOCSPTLCK, &unlock) != 0)
        return failed(ctx, "ioctl", "TIOCSPTLCK");
    int peer = ioctl(ptmx, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return peer < 0 ? failed(ctx, "ioctl", "TIOCGPTPEER") : peer;
}

/* What /dev/console is to be mounted on: a file or device that is there, or else a new file. Never what a symbolic link
 * points to (CVE-2026-88264). */
static int open_console_target(struct context *ctx) {
    static const char path[] = "/dev/console";
    char buffer[PATH_MAX];
    const char *leaf;
    cleanup_fd int parent = root_parent(ctx, path, buffer, &leaf);
    if (parent < 0)
        return parent;
    cleanup_fd int target = openat(parent, leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0 && errno == ENOENT)
        target = openat(parent, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (target < 0)
        return failed(ctx, "openat", path);
    struct stat info;
    if (fstat(target, &info) != 0)
        return failed(ctx, "fstat", path);
    if (!S_ISREG(info.st_mode) && !S_ISCHR(info.st_mode))
        return FAILED_PLAINLY(ctx, path, S_ISLNK(info.st_mode) ? " is a symbolic link" : " is no file or device");
    return take(&target);
}

static int bind_console(struct context *ctx, int peer) {
    cleanup_fd int target = open_console_target(ctx);
    if (target < 0)
        return target;
    cleanup_fd int tree = clone_tree(peer, 0);
    if (tree < 0)
        return failed(ctx, "open_tree", "the terminal");
    return move_mount(tree, target) ? failed(ctx, "move_mount", "/dev/console") : 0;
}

/* The line discipline stays the kernel's, newline translation included: who gets the other end decides about it, and
 * callers of runc count on that (conmon sets it, Docker's client needs it set, a foreground `run` clears it). */
int op_open_console(struct context *ctx, const struct op_open_console *op) {
    int error = hold_root(ctx);
    if (error)
        return error;
    cleanup_fd int ptmx = open_ptmx(ctx);
    if (ptmx < 0)
        return ptmx;
    cleanup_fd int peer = open_peer(ctx, ptmx);
    if (peer < 0)
        return peer;
    const struct winsize size = {.ws_row = op->rows, .ws_col = op->columns};
    if ((op->rows || op->columns) && ioctl(ptmx, TIOCSWINSZ, &size) != 0)
        return failed(ctx, "ioctl", "TIOCSWINSZ");
    error = give_to_user(ctx, peer, op->uid);
    if (!error && op->flags & CONSOLE_BIND)
        error = bind_console(ctx, peer);
    if (!error)
        error = sync_with_runtime(ctx, SYNC_CONSOLE, ptmx);
    if (error)
        return error;
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(peer, fd) < 0)
            return failed(ctx, "dup2", "stdio");
    return ioctl(0, TIOCSCTTY, 0) ? failed(ctx, "ioctl", "TIOCSCTTY") : 0;
}
