/* ocirt-init's own declarations: the context of an execution, access to the plan's data, and the helpers of all ops.
 *
 * Rules: an operation returns 0 or a negative errno and has left ctx->detail by then; no malloc, no stdio, no state
 * outside of the context. Descriptors are close-on-exec from their birth.
 */
#ifndef OCIRT_INIT_H
#define OCIRT_INIT_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "plan.h"

#define EXPORTED_HOME_BYTES (PATH_MAX + 8)

struct context {
    const struct plan_header *plan;
    const char *ops;
    const char *data;
    int socket;    /* to the runtime; -1 once it has been told that we are ready */
    int result_fd; /* the result FIFO, once `start` is being waited for; -1 before */
    int proc_fd;   /* OPEN_PROC; -1: none */
    int root_fd;   /* the container's root; -1: none */
    int file_mask; /* the first of each kind, of which the others are copies; -1: none yet */
    int directory_mask;
    int slots[PLAN_MAX_SLOTS];
    uint32_t op;  /* index of the operation under way, UINT32_MAX outside of any */
    mode_t umask; /* for the user's program and for hooks; init itself works with 0 */
    bool cwd_entered;
    bool plain; /* the detail says it all: report no errno */
    char detail[MESSAGE_DETAIL_BYTES];
    char executable[PATH_MAX];
    char home[EXPORTED_HOME_BYTES]; /* "HOME=...", empty: not looked for */
};

/* A descriptor that is closed when it goes out of scope; take() keeps it. */
static inline void close_fd(int *fd) {
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}
#define cleanup_fd __attribute__((cleanup(close_fd)))
static inline int take(int *fd) {
    int kept = *fd;
    *fd = -1;
    return kept;
}

/* One write(2), as files of /proc and /sys want their values: whole or not at all. 0 or the errno. */
static inline int write_value(int fd, const char *value, size_t bytes) {
    ssize_t written;
    do
        written = write(fd, value, bytes);
    while (written < 0 && errno == EINTR);
    return written < 0 ? errno : (size_t)written == bytes ? 0 : EIO;
}

/* plan.c: the decoder. Offsets and lengths are checked at each use; a bad one ends init with EINVAL (plan_invalid). */
struct strings {
    const struct context *ctx;
    const str_t *offsets;
    uint32_t count;
};
struct bytes {
    const void *at;
    uint32_t length;
};
_Noreturn void plan_invalid(const char *what);
int plan_load(struct context *ctx, const void *image, size_t bytes);
const struct op_head *plan_next(const struct context *ctx,
                                const struct op_head *op);        /* NULL: the first; no check of the count */
const char *plan_string(const struct context *ctx, str_t offset); /* NULL: absent */
const char *plan_text(const struct context *ctx, str_t offset);   /* never NULL */
struct strings plan_strings(const struct context *ctx, strv_t offset);
const char *strings_at(const struct strings *strings, uint32_t i);
struct bytes plan_bytes(const struct context *ctx, blob_t offset);
const uint32_t *plan_numbers(const struct context *ctx, u32v_t offset, uint32_t *count);

/* report.c: details of failures. All return the negative errno given (or that of errno), for `return failed(...)`. */
void set_detail(struct context *ctx, const char *const parts[], size_t count);
#define DETAIL(ctx, ...)                                                                                               \
    set_detail((ctx), (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
/* failed(ctx, "openat2", path): -errno, with the detail "openat2 PATH" */
int failed(struct context *ctx, const char *syscall, const char *object);
/* the same with a given errno */
int failed_with(struct context *ctx, int error, const char *syscall, const char *object);
/* a failure whose detail is the whole story, e.g. "exit status 1" */
#define FAILED_PLAINLY(ctx, ...) (DETAIL(ctx, __VA_ARGS__), (ctx)->plain = true, -ECANCELED)
const char *format_number(char buffer[static 24], long long number);

/* protocol.c */
int send_message(int socket, const struct message *message, int fd); /* fd -1: none. 0 or -errno */
_Noreturn void report_failure(struct context *ctx, int error);       /* to the runtime or the result FIFO; exits */
_Noreturn void leave(int code);                                      /* exits, whatever a seccomp filter says */
int sync_with_runtime(struct context *ctx, uint32_t kind, int fd);   /* asks and waits for GO; exits at end of file */
void await_go(struct context *ctx);                                  /* the second half of it */
int set_slot(struct context *ctx, slot_t slot, int fd);              /* closes what was there */
int slot_fd(const struct context *ctx, slot_t slot);                 /* -1: empty */

/* ns.c */
int join_namespaces(struct context *ctx);
int enter_new_namespaces(struct context *ctx, int *pidfd); /* 0 in the container; else its init's pid, of a clone */
int settle_namespaces(struct context *ctx);                /* in the container: mappings, time */
int assume_ids(struct context *ctx);                       /* and then the ids that rule the user namespace */

/* path.c: the one way to a path below the container's root */
enum make { MAKE_NOTHING, MAKE_DIRECTORY, MAKE_FILE };
/* Open a path below the root with O_PATH or the flags given; symlinks are resolved inside, magic links refused. */
int root_open(struct context *ctx, const char *path, uint64_t flags);
/* Likewise, making what is missing: parents as directories (0755), the last component as asked. Returns an O_PATH fd.
 */
int root_make(struct context *ctx, const char *path, enum make what, uint64_t flags);
/* Open the directory that holds the last component (made where missing), and point *leaf at that component. */
int root_parent(struct context *ctx, const char *path, char buffer[static PATH_MAX], const char **leaf);
int open_beneath(int dir_fd, const char *path, uint64_t flags,
                 uint64_t resolve); /* openat2 with EAGAIN retries; fd or -errno */

/* cred.c: the owner of an open file, where that can be changed and is not the null device */
int give_to_user(struct context *ctx, int fd, uint32_t uid);

/* label.c: write to a file of the runtime's own procfs, named without "/proc/" */
int write_proc(struct context *ctx, const char *path, const char *value);

/* execute.c */
int hold_root(struct context *ctx); /* root_fd of the process's own "/" where no operation has opened another */
/* The strings as execve(2) wants them, in a vector with room for one more; ends with NULL. */
void fill_vector(const char **vector, const struct strings *strings);
#define VECTOR_MAX 524288 /* pointers; execve(2) takes no more than 6 MiB of strings and pointers (E2BIG) */

#define PLAN_PROTOTYPE(OPCODE, name) int op_##name(struct context *ctx, const struct op_##name *op);
PLAN_OPS(PLAN_PROTOTYPE)

#endif
