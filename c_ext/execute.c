/* The last steps: working directory, HOME, the program's file, the descriptors, waiting for start, execve(2).
 *
 * From LOAD_SECCOMP on a filter may be in force, so these keep to the system calls that programs in containers need
 * anyhow; and after WAIT_START, where no hook is run, to write(2), umask(2) and execve(2).
 */
#include <alloca.h>
#include <linux/close_range.h>
#include <sys/stat.h>

#include "init.h"

#define PASSWD_MAX_BYTES (16u << 20)
/* execvp(3) of musl, where the environment has no PATH */
#define DEFAULT_SEARCH_PATH "/usr/local/bin:/bin:/usr/bin"

int hold_root(struct context *ctx) {
    if (ctx->root_fd < 0)
        ctx->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return ctx->root_fd < 0 ? failed(ctx, "open", "/") : 0;
}

/* getcwd(2) finds a directory outside of the root, or in a mount that is none of this namespace's, to be no absolute
 * path; a descriptor of the host's that was reached through /proc/self/fd would be such a directory (CVE-2024-21626).
 */
static int check_directory(struct context *ctx, const char *path) {
    char buffer[PATH_MAX];
    if (syscall(SYS_getcwd, buffer, sizeof buffer) < 0)
        return failed(ctx, "getcwd", path);
    return buffer[0] == '/' ? 0 : FAILED_PLAINLY(ctx, path, " is outside of the container's root");
}

int op_change_directory(struct context *ctx, const struct op_change_directory *op) {
    const char *path = plan_text(ctx, op->path);
    /* Root got there, and the place was checked before a filter could forbid that. */
    if (op->flags & CHDIR_AGAIN && ctx->cwd_entered)
        return 0;
    if (op->flags & CHDIR_CREATE) {
        int error = hold_root(ctx);
        if (error)
            return error;
        cleanup_fd int made = root_make(ctx, path, MAKE_DIRECTORY, O_DIRECTORY);
        if (made < 0)
            return made;
    }
    if (chdir(path) != 0)
        return failed(ctx, "chdir", path);
    ctx->cwd_entered = true;
    return check_directory(ctx, path);
}

/* ---- HOME ---- */

struct line {
    char *fields[7]; /* passwd(5): name, password, uid, gid, gecos, home, shell */
    size_t count;
};

static struct line split_line(char *text) {
    struct line line = {.fields = {text}, .count = 1};
    for (char *c = text; *c; c++)
        if (*c == ':' && line.count < 7) {
            *c = '\0';
            line.fields[line.count++] = c + 1;
        }
    return line;
}

/* Digits alone, as the files of the image are the image's to write: atoi() would make root of anything. */
static bool is_number(const char *text, uint32_t number) {
    char buffer[24];
    return strcmp(text, format_number(buffer, number)) == 0;
}

static bool take_home(struct context *ctx, uint32_t uid, char *text) {
    static const char name[] = "HOME=";
    struct line line = split_line(text);
    if (line.count < 7 || !is_number(line.fields[2], uid))
        return false;
    const char *home = line.fields[5][0] == '/' ? line.fields[5] : "/";
    size_t bytes = strlen(home) + 1;
    if (bytes > sizeof ctx->home - sizeof name)
        return false;
    memcpy(ctx->home, name, sizeof name);
    memcpy(ctx->home + sizeof name - 1, home, bytes);
    return true;
}

/* Line by line, up to a size that no honest file has; a line that is too long for the buffer is nobody's. */
static void search_passwd(struct context *ctx, int fd, uint32_t uid) {
    char buffer[8192];
    size_t used = 0;
    bool skipping = false;
    for (size_t total = 0; total < PASSWD_MAX_BYTES;) {
        ssize_t got = read(fd, buffer + used, sizeof buffer - 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        bool at_end = got <= 0;
        used += at_end ? 0 : (size_t)got;
        total += at_end ? 0 : (size_t)got;
        char *start = buffer, *end = buffer + used;
        for (char *stop; start < end; start = stop + 1) {
            stop = memchr(start, '\n', (size_t)(end - start));
            if (!stop && !at_end)
                break;
            *(stop = stop ? stop : end) = '\0';
            if (!skipping && take_home(ctx, uid, start))
                return;
            skipping = false;
        }
        if (at_end)
            return;
        used = start < end ? (size_t)(end - start) : 0;
        memmove(buffer, start, used);
        if (used == sizeof buffer - 1) {
            skipping = true;
            used = 0;
        }
    }
}

/* A user that is not there, or a file that cannot be read, is no error: HOME is "/" then, as with runc. */
int op_find_home(struct context *ctx, const struct op_find_home *op) {
    int error = hold_root(ctx);
    if (error)
        return error;
    memcpy(ctx->home, "HOME=/", sizeof "HOME=/");
    /* The image may have a FIFO or a device there. */
    cleanup_fd int fd = root_open(ctx, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat info;
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
        search_passwd(ctx, fd, op->uid);
    return 0;
}

/* ---- the program ---- */

/* 0, or why the file cannot be executed. */
static int check_executable(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0)
        return errno;
    if (!S_ISREG(info.st_mode))
        return EACCES; /* execve(2) says the same of a directory */
    if (syscall(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
        return 0;
    /* A seccomp profile that is older than the call says one of these; execve(2) has the last word anyhow. */
    if (errno != ENOSYS && errno != EPERM)
        return errno;
    return info.st_mode & 0111 ? 0 : EACCES;
}

/* The next element of a search path, joined with the file, into ctx->executable. False: it doesn't fit. */
static bool join_path(struct context *ctx, const char *directory, size_t length, const char *file) {
    size_t bytes = strlen(file) + 1;
    if (!length) {
        directory = "."; /* an empty element of PATH is the working directory (execvp(3)) */
        length = 1;
    }
    if (length + 1 + bytes > sizeof ctx->executable)
        return false;
    memcpy(ctx->executable, directory, length);
    ctx->executable[length] = '/';
    memcpy(ctx->executable + length + 1, file, bytes);
    return true;
}

int op_resolve_executable(struct context *ctx, const struct op_resolve_executable *op) {
    const char *file = plan_text(ctx, op->file), *search = plan_string(ctx, op->search_path);
    if (strchr(file, '/')) {
        size_t bytes = strlen(file) + 1;
        int error = bytes > sizeof ctx->executable ? ENAMETOOLONG : check_executable(file);
        if (error)
            return failed_with(ctx, error, error == EACCES ? "access" : "stat", file);
        memcpy(ctx->executable, file, bytes);
        return 0;
    }
    int denied = 0;
    for (const char *at = search ? search : DEFAULT_SEARCH_PATH; *file;) {
        size_t length = strcspn(at, ":");
        if (join_path(ctx, at, length, file)) {
            int error = check_executable(ctx->executable);
            if (!error)
                return 0;
            if (error == EACCES && !denied) {
                failed_with(ctx, error, "access", ctx->executable);
                denied = error;
            }
        }
        if (!at[length])
            break;
        at += length + 1;
    }
    ctx->executable[0] = '\0';
    if (denied)
        return -denied;
    DETAIL(ctx, "executable file not found in $PATH");
    return -ENOENT;
}

/* ---- the descriptors ---- */

#define MAX_OWN_DESCRIPTORS (PLAN_MAX_SLOTS + 16)

/* Close first .. last. Where an old seccomp profile does not know close_range(2), one by one: init was started with no
 * other descriptors than its own, and has opened only a few, always with the lowest numbers. */
static int close_between(struct context *ctx, unsigned first, unsigned last) {
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return 0;
    if (errno != ENOSYS && errno != EPERM)
        return failed(ctx, "close_range", NULL);
    unsigned bound = 3 + ctx->plan->preserve_fds + MAX_OWN_DESCRIPTORS;
    for (unsigned fd = first; fd <= last && fd <= bound; fd++)
        close((int)fd);
    return 0;
}

int op_close_descriptors(struct context *ctx, const struct op_close_descriptors *op) {
    const int kept[] = {ctx->socket, slot_fd(ctx, op->start), slot_fd(ctx, op->result)};
    unsigned first = 3 + ctx->plan->preserve_fds;
    for (;;) {
        unsigned next = UINT_MAX; /* the lowest kept one that is not below first */
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            if (kept[i] >= 0 && (unsigned)kept[i] >= first && (unsigned)kept[i] < next)
                next = (unsigned)kept[i];
        int error = close_between(ctx, first, next == UINT_MAX ? next : next - 1);
        if (error)
            return error;
        if (next == UINT_MAX)
            break;
        first = next + 1;
    }
    ctx->proc_fd = ctx->root_fd = ctx->file_mask = ctx->directory_mask = -1;
    for (size_t i = 0; i < PLAN_MAX_SLOTS; i++)
        if (ctx->slots[i] != kept[1] && ctx->slots[i] != kept[2])
            ctx->slots[i] = -1;
    return 0;
}

/* ---- start ---- */

int op_wait_start(struct context *ctx, const struct op_wait_start *op) {
    /* The runtime that created us may go; from now on only `start` and signals reach us. */
    close_fd(&ctx->socket);
    ctx->socket = -1;
    int start = slot_fd(ctx, op->start);
    char byte;
    ssize_t got;
    do
        got = read(start, &byte, 1);
    while (got < 0 && errno == EINTR);
    ctx->result_fd = slot_fd(ctx, op->result);
    if (got != 1)
        return got < 0 ? failed(ctx, "read", "the start FIFO") : failed_with(ctx, EPIPE, "read", "the start FIFO");
    return 0;
}

void fill_vector(const char **vector, const struct strings *strings) {
    for (uint32_t i = 0; i < strings->count; i++)
        vector[i] = strings_at(strings, i);
    vector[strings->count] = NULL;
}

static bool has_home(const char *const *env) {
    while (*env && strncmp(*env, "HOME=", 5) != 0)
        env++;
    return *env;
}

int op_execute(struct context *ctx, const struct op_execute *op) {
    struct strings args = plan_strings(ctx, op->args), env = plan_strings(ctx, op->env);
    if (!ctx->executable[0] || !args.count)
        plan_invalid("nothing to execute");
    if (args.count > VECTOR_MAX || env.count > VECTOR_MAX - args.count)
        return failed_with(ctx, E2BIG, "execve", ctx->executable);
    const char **argv = alloca((args.count + 1) * sizeof *argv), **envp = alloca((env.count + 2) * sizeof *envp);
    fill_vector(argv, &args);
    fill_vector(envp, &env);
    if (ctx->home[0] && !has_home(envp)) {
        envp[env.count] = ctx->home;
        envp[env.count + 1] = NULL;
    }
    umask(ctx->umask);
    /* The reader knows: what follows is a failure, or the end of file that execve(2) makes of a close-on-exec
     * descriptor. */
    const struct message message = {.kind = MESSAGE_EXECUTE, .op = ctx->op};
    int reader = ctx->result_fd >= 0 ? ctx->result_fd : ctx->socket;
    while (reader >= 0 && write(reader, &message, sizeof message) < 0)
        if (errno != EINTR) /* without it, the reader would take us for dead */
            return failed(ctx, "write", "to the runtime");
    execve(ctx->executable, (char *const *)argv, (char *const *)envp);
    return failed(ctx, "execve", ctx->executable);
}
