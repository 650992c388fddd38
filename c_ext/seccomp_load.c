/* Loading a seccomp filter, and getting its listener to the runtime although the filter may forbid that.
 *
 * From the moment the filter is in force, sendmsg(2) may fail, or wait for the agent that is to get this very listener.
 * So a helper is made beforehand that shares the descriptor table, is not filtered, and does the sending:
 *
 *     init                          helper                     runtime
 *      | seccomp -> listener           |                           |
 *      | write listener's number ----> |                           |
 *      |                               | SYNC_SECCOMP_FD + fd ---> |
 *      | <------------------------------------------------- GO --- |
 *      | close, wait4                  exit
 *
 * init needs no more than write(2) before the agent has the listener; a profile that notifies of write(2) is refused by
 * the compiler, as any runtime must.
 */
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "init.h"

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4) /* Linux 5.7 */
#endif

enum { NO_LISTENER = -1 };

struct helper {
    pid_t pid;
    int number[2]; /* the pipe through which it gets the listener's number */
};

/* Tell the runtime, if that can be done at all, and hang up for init, which waits for an answer that will not come. */
static _Noreturn void give_up(struct context *ctx, int error, const char *syscall, const char *object) {
    struct message message = {.kind = MESSAGE_FAILED, .op = ctx->op, .error = error};
    failed_with(ctx, error, syscall, object);
    memcpy(message.detail, ctx->detail, sizeof message.detail);
    send_message(ctx->socket, &message, -1);
    shutdown(ctx->socket, SHUT_RDWR);
    _exit(1);
}

static _Noreturn void run_helper(struct context *ctx, const struct helper *helper, pid_t init) {
    /* Both ends of the pipe are open in the shared table for as long as one of us lives: there is no end of file. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        give_up(ctx, errno, "prctl", "PR_SET_PDEATHSIG");
    if (getppid() != init)
        _exit(1);
    int listener;
    ssize_t got;
    do
        got = read(helper->number[0], &listener, sizeof listener);
    while (got < 0 && errno == EINTR);
    if (got != sizeof listener || listener == NO_LISTENER)
        _exit(1);
    struct message message = {.kind = MESSAGE_SYNC, .op = ctx->op, .value = SYNC_SECCOMP_FD};
    int error = send_message(ctx->socket, &message, listener);
    if (error)
        give_up(ctx, -error, "sendmsg", "the seccomp listener");
    _exit(0);
}

static int start_helper(struct context *ctx, struct helper *helper) {
    if (pipe2(helper->number, O_CLOEXEC) != 0)
        return failed(ctx, "pipe2", NULL);
    struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
    pid_t init = getpid();
    helper->pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (helper->pid < 0)
        return failed(ctx, "clone3", "seccomp helper");
    if (helper->pid == 0)
        run_helper(ctx, helper, init);
    return 0;
}

/* A helper that the filter does not let us reap is a zombie until the container ends: harmless, and the profile's wish.
 */
static void end_helper(const struct helper *helper) {
    close(helper->number[0]);
    close(helper->number[1]);
    while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int load_filter(struct context *ctx, unsigned long flags, struct sock_fprog *program) {
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
    return listener < 0 ? failed(ctx, "seccomp", "SECCOMP_SET_MODE_FILTER") : (int)listener;
}

int op_load_seccomp(struct context *ctx, const struct op_load_seccomp *op) {
    struct bytes filter = plan_bytes(ctx, op->filter);
    if (filter.length % sizeof(struct sock_filter) || filter.length / sizeof(struct sock_filter) > BPF_MAXINSNS)
        plan_invalid("seccomp filter");
    struct sock_fprog program = {.len = (unsigned short)(filter.length / sizeof(struct sock_filter))};
    program.filter = (struct sock_filter *)filter.at;
    if (!op->listener)
        return load_filter(ctx, op->flags, &program);

    struct helper helper;
    int error = start_helper(ctx, &helper);
    if (error)
        return error;
    unsigned long flags = op->flags | SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if (flags & SECCOMP_FILTER_FLAG_TSYNC)
        flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH; /* else the result could be a thread's id (seccomp(2)) */
    int listener = load_filter(ctx, flags, &program);
    int number = listener < 0 ? NO_LISTENER : listener;
    if (write(helper.number[1], &number, sizeof number) != sizeof number)
        return failed(ctx, "write", "to the seccomp helper"); /* init exits, which ends the helper */
    if (listener >= 0) {
        await_go(ctx);
        close(listener);
    }
    end_helper(&helper);
    return listener < 0 ? listener : 0;
}
