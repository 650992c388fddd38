/* ocirt-init: executes a plan. It knows no JSON and no policy.
 *
 *     ocirt-init FD      FD: the runtime's socket; FD + 1: the plan, from GO on; FD + 2 ...: the filled slots
 *
 * The first process executes the host section, enters the joined namespaces and clones the container's init into the
 * new ones; that one executes the rest. With PLAN_ALONE it makes the new ones around itself, and is the container's
 * init. All end when the runtime's socket closes before SYNC_READY is answered.
 */
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "init.h"

static struct context context = {.socket = -1,
                                 .result_fd = -1,
                                 .proc_fd = -1,
                                 .root_fd = -1,
                                 .file_mask = -1,
                                 .directory_mask = -1,
                                 .op = UINT32_MAX};

void plan_invalid(const char *what) {
    DETAIL(&context, "invalid plan: ", what);
    report_failure(&context, EINVAL);
}

#define PLAN_RUN(OPCODE, name)                                                                                         \
    static int run_##name(struct context *ctx, const struct op_head *op) {                                             \
        return op_##name(ctx, (const struct op_##name *)op);                                                           \
    }
PLAN_OPS(PLAN_RUN)

#define PLAN_ENTRY(OPCODE, name) [OP_##OPCODE] = {run_##name, sizeof(struct op_##name)},
static const struct {
    int (*run)(struct context *ctx, const struct op_head *op);
    size_t bytes;
} operations[OP_COUNT] = {PLAN_OPS(PLAN_ENTRY)};

static bool tolerated(const struct op_head *op, int error) {
    for (size_t i = 0; i < PLAN_MAX_TOLERATED; i++)
        if (error && op->tolerated[i] == -error)
            return true;
    return false;
}

/* Execute the next ops up to, not including, `end`; *last is the record executed last. */
static void execute_until(struct context *ctx, const struct op_head **last, uint32_t first, uint32_t end) {
    for (ctx->op = first; ctx->op < end; ctx->op++) {
        *last = plan_next(ctx, *last);
        uint16_t opcode = (*last)->opcode;
        if (opcode == OP_NONE || opcode >= OP_COUNT || (*last)->bytes != operations[opcode].bytes)
            plan_invalid("opcode");
        int error = operations[opcode].run(ctx, *last);
        if (error && !tolerated(*last, error))
            report_failure(ctx, -error);
        ctx->detail[0] = '\0';
        ctx->plain = false;
    }
    ctx->op = UINT32_MAX;
}

static void load(struct context *ctx, int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        report_failure(ctx, -failed(ctx, "fstat", "the plan"));
    if (info.st_size <= 0)
        plan_invalid("empty");
    void *image = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image == MAP_FAILED)
        report_failure(ctx, -failed(ctx, "mmap", "the plan"));
    if (plan_load(ctx, image, (size_t)info.st_size) != 0)
        plan_invalid("header");
    close(fd);
    for (size_t i = 0; i < PLAN_MAX_SLOTS; i++)
        ctx->slots[i] = i < ctx->plan->filled_slots ? fd + 1 + (int)i : -1;
}

/* The runtime's interpreter ignores SIGPIPE and SIGXFSZ, and callers may have blocked signals: a program starts clean.
 */
static void reset_signals(void) {
    /* Not through libc, which keeps signals 32 and 33 to itself: posix_spawn(3) of glibc leaves them ignored. */
    static const unsigned long default_action[4];
    for (int number = 1; number <= 64; number++)
        syscall(SYS_rt_sigaction, number, default_action, NULL, 8);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whatever CPUs the runtime's own service is bound to, the container gets all that its cpuset allows. The kernel masks
 * out what is not allowed now, and remembers the rest for a cpuset that grows. */
static void reset_cpu_affinity(void) {
    unsigned char all[1024]; /* CPUs: 8 a byte; more than any kernel has */
    memset(all, 0xff, sizeof all);
    /* An LSM or a seccomp filter of the runtime's may refuse it; what was inherited stays then, as with runc. */
    syscall(SYS_sched_setaffinity, 0, sizeof all, all);
}

static void end_by_signal(int number) { leave(128 + number); }

/* To the first process of a pid namespace, the kernel delivers only signals that it has a handler for: without one,
 * `kill ID TERM` of a created container would do nothing. execve(2) resets handlers. */
static void accept_signals(void) {
    static const int numbers[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        signal(numbers[i], end_by_signal);
}

static _Noreturn void run_container(struct context *ctx, const struct op_head *last) {
    if (getpid() == 1)
        accept_signals();
    ctx->umask = umask(0);
    if (setsid() < 0 && errno != EPERM)
        report_failure(ctx, -failed(ctx, "setsid", NULL));
    uint32_t entered = ctx->plan->host_op_count, inside = entered + ctx->plan->entry_op_count;
    int error = settle_namespaces(ctx);
    if (error)
        report_failure(ctx, -error);
    execute_until(ctx, &last, entered, inside);
    error = assume_ids(ctx);
    if (error)
        report_failure(ctx, -error);
    execute_until(ctx, &last, inside, ctx->plan->op_count);
    _exit(0);
}

int main(int argc, char **argv) {
    struct context *ctx = &context;
    int fd = 0;
    for (const char *c = argc > 1 ? argv[1] : ""; *c >= '0' && *c <= '9' && fd < 1 << 20; c++)
        fd = fd * 10 + (*c - '0');
    if (fd < 3)
        _exit(2); /* not started by ocirt */
    ctx->socket = fd;
    /* What arrives with the spawn is for us alone; the descriptors below are stdio and those of --preserve-fds. */
    if (syscall(SYS_close_range, fd, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        report_failure(ctx, -failed(ctx, "close_range", NULL));
    /* By its name the commands tell a container that waits for start from one that runs. */
    if (prctl(PR_SET_NAME, "ocirt-init", 0, 0, 0) != 0)
        report_failure(ctx, -failed(ctx, "prctl", "PR_SET_NAME"));
    reset_signals();
    reset_cpu_affinity();
    await_go(ctx); /* the runtime has encoded the plan meanwhile */
    load(ctx, fd + 1);

    const struct op_head *last = NULL;
    execute_until(ctx, &last, 0, ctx->plan->host_op_count);
    /* Before any namespace is joined, and not earlier: our files in /proc become root's with it, and an unprivileged
     * user could not write oom_score_adj in the host section any more. */
    if (!(ctx->plan->flags & PLAN_MAPS) && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        report_failure(ctx, -failed(ctx, "prctl", "PR_SET_DUMPABLE"));
    int pidfd = -1, error = join_namespaces(ctx);
    int pid = error ? error : enter_new_namespaces(ctx, &pidfd);
    if (pid < 0)
        report_failure(ctx, -pid);
    if (pid == 0)
        run_container(ctx, last);
    struct message message = {.kind = MESSAGE_CLONED, .op = UINT32_MAX, .value = (uint32_t)pid};
    _exit(send_message(ctx->socket, &message, pidfd) ? 1 : 0);
}
