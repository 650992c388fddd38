/* Without pivot_root(2) the host's mounts stay in the container's mount namespace, below its "/".
 *
 * The kernel lets a user namespace mount a new procfs or sysfs only where one is visible without masks; the host's own
 * are, and would undo the masks of the container. So they go before the root is moved over "/".
 */
#include <linux/magic.h>
#include <sys/statfs.h>

#include "mount.h"

#define POINT_FIELD 4 /* of /proc/PID/mountinfo: the mount point */

struct lines {
    int fd;
    size_t begin, end;
    char buffer[4 * PATH_MAX + 1024]; /* a path may be all escapes */
};

/* The next line without its end; NULL at the end of the file. */
static char *next_line(struct lines *lines) {
    for (;;) {
        char *line = lines->buffer + lines->begin;
        char *newline = memchr(line, '\n', lines->end - lines->begin);
        if (newline) {
            *newline = '\0';
            lines->begin = (size_t)(newline + 1 - lines->buffer);
            return line;
        }
        lines->end -= lines->begin;
        memmove(lines->buffer, line, lines->end);
        lines->begin = 0;
        ssize_t got = read(lines->fd, lines->buffer + lines->end, sizeof lines->buffer - lines->end);
        if (got <= 0)
            return NULL;
        lines->end += (size_t)got;
    }
}

/* proc_pid_mountinfo(5): blank, tab, newline and backslash are \ooo. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        bool escape = *from == '\\' && from[1] && from[2] && from[3];
        *to = escape ? (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0') : *from;
        from += escape ? 4 : 1;
    }
    *to = '\0';
}

/* The mount point of a line that tells of a procfs or sysfs; else NULL. */
static char *kernel_view(char *line) {
    const char *separator = strstr(line, " - ");
    if (!separator || (strncmp(separator + 3, "proc ", 5) != 0 && strncmp(separator + 3, "sysfs ", 6) != 0))
        return NULL;
    char *point = line;
    for (int field = 0; field < POINT_FIELD; field++)
        point = strchr(point, ' ') + 1;
    *strchr(point, ' ') = '\0';
    unescape(point);
    return point;
}

static bool is_within(const char *path, const char *directory) {
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* Detach what is mounted there, or cover it where a user namespace has locked it. */
static int take_away(struct context *ctx, const char *point) {
    cleanup_fd int fd = open(point, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct statfs filesystem;
    if (fd < 0 || fstatfs(fd, &filesystem) != 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : failed(ctx, "open", point); /* gone with one above it */
    if (filesystem.f_type != PROC_SUPER_MAGIC && filesystem.f_type != SYSFS_MAGIC)
        return 0; /* covered already */
    cleanup_fd int parent = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return failed(ctx, "open the parent of", point);
    /* The host must see neither it go, nor what is mounted below it. */
    struct mount_attributes slave = {.recursive_propagation = MS_SLAVE};
    int error = isolate(ctx, parent, MS_SLAVE, point);
    if (!error)
        error = change_propagation(ctx, fd, &slave, point);
    if (error)
        return error;
    if (syscall(SYS_umount2, point, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return 0;
    if (errno != EINVAL && errno != EPERM)
        return failed(ctx, "umount2", point);
    cleanup_fd int cover = empty_tmpfs(ctx);
    if (cover < 0)
        return cover;
    return move_mount(cover, fd) ? failed(ctx, "move_mount", point) : 0;
}

int take_kernel_views_away(struct context *ctx) {
    char link[40] = "self/fd/", number[24], root[PATH_MAX];
    strcat(link, format_number(number, ctx->root_fd));
    ssize_t length = readlinkat(ctx->proc_fd, link, root, sizeof root - 1);
    if (length < 0)
        return failed(ctx, "readlink", "/proc/self/fd");
    root[length] = '\0';
    if (length <= 1)
        return FAILED_PLAINLY(ctx, "the root lies on / and cannot be moved there");
    struct lines lines = {.fd = openat(ctx->proc_fd, "self/mountinfo", O_RDONLY | O_CLOEXEC)};
    if (lines.fd < 0)
        return failed(ctx, "open", "/proc/self/mountinfo");
    int error = 0;
    for (char *line; !error && (line = next_line(&lines));) {
        const char *point = kernel_view(line);
        if (point && !is_within(point, root))
            error = take_away(ctx, point);
    }
    close(lines.fd);
    return error;
}
