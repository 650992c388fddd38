/* path_in_root: the one way to a path below the container's root.
 *
 * Guarantees: whatever the image holds, and whatever changes it meanwhile, a descriptor from here is of something below
 * ctx->root_fd, and what is made is made there. The kernel resolves (openat2(2)); missing components are made one by
 * one, each relative to the descriptor of its parent; no path is ever put together and handed to a system call that
 * would resolve it from the host's root (CVE-2021-30465, CVE-2024-45310).
 */
#include <linux/openat2.h>
#include <sys/stat.h>

#include "init.h"

#define AGAIN_RETRIES 512 /* openat2(2): EAGAIN where ".." meets a rename anywhere on the machine */
#define MAKE_RETRIES 16   /* of something that others remove and make meanwhile */
#define MAX_LINKS 40      /* as the kernel's own */

int open_beneath(int dir_fd, const char *path, uint64_t flags, uint64_t resolve) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
    for (int retries = 0;; retries++) {
        long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
        if (fd >= 0)
            return (int)fd;
        if (errno != EAGAIN || retries == AGAIN_RETRIES)
            return -errno;
    }
}

/* A walk along a path of which something is missing. */
struct walk {
    const struct context *ctx;
    int fd;                 /* the directory that has been reached */
    char reached[PATH_MAX]; /* its path below the root, free of links and "..": the way back for ".." */
    char rest[PATH_MAX];    /* what has still to be walked */
    int links;
    bool no_symlinks;
};

/* Put `head`, a slash and `tail` into the buffer, of which either may be a part. */
static int join(char buffer[static PATH_MAX], const char *head, const char *tail) {
    size_t head_length = strlen(head), tail_length = strlen(tail);
    if (head_length + 1 + tail_length >= PATH_MAX)
        return -ENAMETOOLONG;
    memmove(buffer + head_length + 1, tail, tail_length + 1);
    memmove(buffer, head, head_length);
    buffer[head_length] = '/';
    return 0;
}

static void walk_enter(struct walk *walk, int fd) {
    close_fd(&walk->fd);
    walk->fd = fd;
}

/* Go (back) to walk->reached. A link there now is an attack or a mistake, and refused. */
static int walk_return(struct walk *walk) {
    uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
    int fd = open_beneath(walk->ctx->root_fd, *walk->reached ? walk->reached : "/", O_PATH | O_DIRECTORY, resolve);
    if (fd < 0)
        return fd;
    walk_enter(walk, fd);
    return 0;
}

static int walk_up(struct walk *walk) {
    char *slash = strrchr(walk->reached, '/');
    *(slash ? slash : walk->reached) = '\0';
    return walk_return(walk);
}

static int walk_link(struct walk *walk, int link_fd) {
    char text[PATH_MAX];
    ssize_t length = readlinkat(link_fd, "", text, sizeof text - 1);
    if (length < 0)
        return -errno;
    text[length] = '\0';
    if (walk->no_symlinks || ++walk->links > MAX_LINKS)
        return -ELOOP;
    int error = join(walk->rest, text, walk->rest);
    if (error || *text != '/')
        return error;
    *walk->reached = '\0';
    return walk_return(walk);
}

/* Take the next component off walk->rest; NULL at the end. */
static const char *walk_next(struct walk *walk, char name[static NAME_MAX + 1], int *error) {
    char *start = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(start, "/");
    if (length == 0)
        return NULL;
    if (length > NAME_MAX) {
        *error = -ENAMETOOLONG;
        return NULL;
    }
    memcpy(name, start, length);
    name[length] = '\0';
    start += length;
    start += strspn(start, "/");
    memmove(walk->rest, start, strlen(start) + 1);
    return name;
}

/* Open a component, made where it is missing, itself and not what it links to. */
static int open_or_make(int dir_fd, const char *name, bool file) {
    for (int retries = 0;; retries++) {
        int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT || retries == MAKE_RETRIES)
            return fd < 0 ? -errno : fd;
        int made = file ? mknodat(dir_fd, name, S_IFREG | 0644, 0) : mkdirat(dir_fd, name, 0755);
        if (made != 0 && errno != EEXIST)
            return -errno;
    }
}

static int walk_step(struct walk *walk, const char *name, enum make what) {
    if (strcmp(name, ".") == 0)
        return 0;
    if (strcmp(name, "..") == 0)
        return walk_up(walk);
    bool last = *walk->rest == '\0';
    cleanup_fd int fd = open_or_make(walk->fd, name, last && what == MAKE_FILE);
    struct stat info;
    if (fd < 0)
        return fd;
    if (fstat(fd, &info) != 0)
        return -errno;
    if (S_ISLNK(info.st_mode))
        return walk_link(walk, fd);
    if (!S_ISDIR(info.st_mode))
        return last ? 0 : -ENOTDIR;
    int error = join(walk->reached, walk->reached, name);
    if (!error)
        walk_enter(walk, take(&fd));
    return error;
}

static int make_missing(struct context *ctx, const char *path, enum make what, bool no_symlinks) {
    struct walk walk = {.ctx = ctx, .fd = -1, .no_symlinks = no_symlinks};
    char name[NAME_MAX + 1];
    int error = join(walk.rest, "", path);
    if (!error)
        error = walk_return(&walk);
    while (!error && walk_next(&walk, name, &error))
        error = walk_step(&walk, name, what);
    close_fd(&walk.fd);
    return error ? failed_with(ctx, -error, "make", path) : 0;
}

int root_path(struct context *ctx, const char *path, enum make what, uint64_t flags, uint64_t resolve) {
    for (int retries = 0;; retries++) {
        /* What has been made is resolved by the kernel again: its word counts, not that of the walk. */
        int fd = open_beneath(ctx->root_fd, path, flags, resolve | RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        if (fd >= 0)
            return fd;
        if (fd != -ENOENT || what == MAKE_NOTHING || retries == MAKE_RETRIES)
            return failed_with(ctx, -fd, "openat2", path);
        int error = make_missing(ctx, path, what, resolve & RESOLVE_NO_SYMLINKS);
        if (error)
            return error;
    }
}

int root_open(struct context *ctx, const char *path, uint64_t flags) {
    return root_path(ctx, path, MAKE_NOTHING, flags, 0);
}

int root_make(struct context *ctx, const char *path, enum make what, uint64_t flags) {
    return root_path(ctx, path, what, flags | O_PATH, 0);
}

int root_parent(struct context *ctx, const char *path, char buffer[static PATH_MAX], const char **leaf) {
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    if (length >= PATH_MAX)
        return failed_with(ctx, ENAMETOOLONG, "openat2", path);
    memcpy(buffer, path, length);
    buffer[length] = '\0';
    char *slash = strrchr(buffer, '/');
    *leaf = slash ? slash + 1 : buffer;
    if (**leaf == '\0' || strcmp(*leaf, ".") == 0 || strcmp(*leaf, "..") == 0)
        return failed_with(ctx, EINVAL, "a path without a last component:", path);
    if (slash)
        *slash = '\0';
    return root_make(ctx, slash && slash != buffer ? buffer : "/", MAKE_DIRECTORY, O_DIRECTORY);
}
