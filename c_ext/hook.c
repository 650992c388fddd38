/* A hook: somebody else's program, run to its end or to its timeout, whatever it does.
 *
 * It gets the state on a pipe that init fills as the hook reads it, its own environment and nothing of init's
 * descriptors. What it prints is taken up, and the beginning kept for the error. It leads a process group of its own,
 * which is killed as a whole at the timeout. A process that it leaves behind may keep the pipes open: only the hook's
 * own end is waited for (pidfd).
 *
 * startContainer hooks run below the container's seccomp filter. So this keeps to system calls that profiles for
 * containers allow: clone rather than clone3, and a pidfd from it rather than from pidfd_open.
 */
#include <alloca.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "init.h"

#define OUTPUT_BYTES 320
#define CHILD_STACK_BYTES 16384

enum end { READ_END, WRITE_END };

struct failure {
    int error;
    const char *syscall; /* the same address in parent and child */
};

struct hook {
    struct context *ctx;
    const char *path;
    char *const *argv;
    char *const *envp;
    const char *call; /* what is being done while waiting */
    pid_t init;       /* as the hook sees it */
    pid_t pid;
    int pidfd;
    int input[2];
    int output[2];
    int failure[2];       /* a struct failure where it does not come to its execution */
    const char *state[3]; /* what is left to be written, in pieces */
    uint32_t timeout_sec;
    struct timespec deadline;
    size_t output_length;
    char printed[OUTPUT_BYTES];
};

static void close_end(int *fd) {
    close_fd(fd);
    *fd = -1;
}

static void close_pipe(int pipe[2]) {
    close_end(&pipe[READ_END]);
    close_end(&pipe[WRITE_END]);
}

static struct failure become_hook(const struct hook *hook) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return (struct failure){errno, "prctl"};
    if (getppid() != hook->init)
        return (struct failure){ESRCH, "getppid"};
    if (setsid() < 0)
        return (struct failure){errno, "setsid"};
    if (dup2(hook->input[READ_END], 0) < 0 || dup2(hook->output[WRITE_END], 1) < 0 ||
        dup2(hook->output[WRITE_END], 2) < 0)
        return (struct failure){errno, "dup2"};
    /* Ours are close-on-exec from their birth; those of --preserve-fds are for the user's program alone. */
    if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
        if (errno != ENOSYS && errno != EPERM) /* what an old seccomp profile says of a call that it does not know */
            return (struct failure){errno, "close_range"};
        for (int fd = 3; fd < 3 + (int)hook->ctx->plan->preserve_fds; fd++)
            close(fd);
    }
    umask(hook->ctx->umask);
    execve(hook->path, hook->argv, hook->envp);
    return (struct failure){errno, "execve"};
}

static int run_child(void *argument) {
    const struct hook *hook = argument;
    struct failure failure = become_hook(hook);
    _exit(write(hook->failure[WRITE_END], &failure, sizeof failure) == sizeof failure ? 127 : 126);
}

/* Keeps what there is room for; the rest is read and forgotten, so that the hook never waits for us. */
static void take_output(struct hook *hook) {
    char buffer[4096];
    ssize_t got = read(hook->output[READ_END], buffer, sizeof buffer);
    if (got == 0 || (got < 0 && errno != EINTR))
        close_end(&hook->output[READ_END]);
    for (ssize_t i = 0; i < got && hook->output_length < sizeof hook->printed - 1; i++) {
        /* one line in the end, whatever a hook may print */
        bool printable = (unsigned char)buffer[i] > ' ' && buffer[i] != 0x7f;
        bool blank_before = !hook->output_length || hook->printed[hook->output_length - 1] == ' ';
        if (printable || !blank_before)
            hook->printed[hook->output_length++] = printable ? buffer[i] : ' ';
    }
}

/* A pipe that poll(2) calls writable takes PIPE_BUF bytes without blocking. */
static int give_state(struct hook *hook) {
    const char **piece = hook->state;
    while (piece < hook->state + 3 && !**piece)
        piece++;
    if (piece == hook->state + 3) {
        close_pipe(hook->input); /* end of file for the hook */
        return 0;
    }
    size_t left = strlen(*piece);
    ssize_t written = write(hook->input[WRITE_END], *piece, left < PIPE_BUF ? left : PIPE_BUF);
    if (written > 0)
        *piece += written;
    return written < 0 && errno != EINTR ? errno : 0;
}

/* What is left until the deadline; false: nothing. */
static bool time_left(const struct hook *hook, struct timespec *left) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    left->tv_sec = hook->deadline.tv_sec - now.tv_sec;
    left->tv_nsec = hook->deadline.tv_nsec - now.tv_nsec;
    if (left->tv_nsec < 0) {
        left->tv_sec--;
        left->tv_nsec += 1000000000;
    }
    return left->tv_sec >= 0;
}

static void kill_hook(const struct hook *hook) {
    kill(-hook->pid, SIGKILL);
    kill(hook->pid, SIGKILL); /* it may not have come to lead its group yet */
}

/* Wait for the hook's end. 0: it has ended; ETIMEDOUT; or another errno, of the system call that `call` names. */
static int supervise(struct hook *hook) {
    for (;;) {
        struct pollfd fds[] = {
            {.fd = hook->pidfd, .events = POLLIN},
            {.fd = hook->output[READ_END], .events = POLLIN},
            {.fd = hook->input[WRITE_END], .events = POLLOUT},
            {.fd = hook->ctx->socket}, /* for POLLHUP alone */
        };
        struct timespec left;
        if (hook->timeout_sec && !time_left(hook, &left))
            return ETIMEDOUT;
        hook->call = "ppoll";
        if (ppoll(fds, sizeof fds / sizeof *fds, hook->timeout_sec ? &left : NULL, NULL) < 0 && errno != EINTR)
            return errno;
        if (fds[3].revents) {
            /* The runtime is gone, or gave up: nothing may be left of us, nor of the hook. */
            kill_hook(hook);
            leave(1);
        }
        if (fds[1].revents)
            take_output(hook);
        hook->call = "write state to";
        int error = fds[2].revents ? give_state(hook) : 0;
        if (error)
            return error;
        if (fds[0].revents)
            return 0;
    }
}

/* What was printed last, as long as there is room for it: a process that stays may go on printing. */
static void drain_output(struct hook *hook) {
    struct pollfd fd = {.fd = hook->output[READ_END], .events = POLLIN};
    while (fd.fd >= 0 && hook->output_length < sizeof hook->printed - 1 && poll(&fd, 1, 0) > 0) {
        take_output(hook);
        fd.fd = hook->output[READ_END];
    }
    while (hook->output_length && hook->printed[hook->output_length - 1] == ' ')
        hook->output_length--;
    hook->printed[hook->output_length] = '\0';
}

static int judge(struct hook *hook, int status) {
    struct failure failure;
    if (read(hook->failure[READ_END], &failure, sizeof failure) == sizeof failure)
        return failed_with(hook->ctx, failure.error, failure.syscall, hook->path);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    char number[24];
    bool exited = WIFEXITED(status);
    drain_output(hook);
    return FAILED_PLAINLY(hook->ctx, exited ? "exit status " : "killed by signal ",
                          format_number(number, exited ? WEXITSTATUS(status) : WTERMSIG(status)),
                          hook->output_length ? ": " : "", hook->printed);
}

static int start_hook(struct hook *hook) {
    char stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    if (pipe2(hook->input, O_CLOEXEC) != 0 || pipe2(hook->output, O_CLOEXEC) != 0 ||
        pipe2(hook->failure, O_CLOEXEC) != 0)
        return failed(hook->ctx, "pipe2", NULL);
    clock_gettime(CLOCK_MONOTONIC, &hook->deadline);
    hook->deadline.tv_sec += hook->timeout_sec;
    hook->init = getpid();
    hook->pid = clone(run_child, stack + sizeof stack, CLONE_PIDFD | SIGCHLD, hook, &hook->pidfd);
    if (hook->pid < 0)
        return failed(hook->ctx, "clone", NULL);
    /* The reading end of the input stays open: with it, a hook that reads nothing cannot make our writing a SIGPIPE. */
    close_end(&hook->output[WRITE_END]);
    close_end(&hook->failure[WRITE_END]);
    return 0;
}

static int run_to_end(struct hook *hook) {
    int status, error = supervise(hook);
    if (error)
        kill_hook(hook);
    while (waitpid(hook->pid, &status, 0) < 0)
        if (errno != EINTR)
            return failed(hook->ctx, "wait4", NULL);
    if (error == ETIMEDOUT) {
        char number[24];
        return FAILED_PLAINLY(hook->ctx, "timed out after ", format_number(number, hook->timeout_sec), " s");
    }
    return error ? failed_with(hook->ctx, error, hook->call, hook->path) : judge(hook, status);
}

int op_run_hook(struct context *ctx, const struct op_run_hook *op) {
    struct hook hook = {.ctx = ctx, .pidfd = -1, .input = {-1, -1}, .output = {-1, -1}, .failure = {-1, -1}};
    struct strings args = plan_strings(ctx, op->args), env = plan_strings(ctx, op->env);
    char number[24];
    if (args.count > VECTOR_MAX || env.count > VECTOR_MAX - args.count)
        return failed_with(ctx, E2BIG, "execve", plan_text(ctx, op->path));
    const char **argv = alloca((args.count + 2) * sizeof *argv), **envp = alloca((env.count + 2) * sizeof *envp);
    fill_vector(argv, &args);
    fill_vector(envp, &env);
    hook.path = plan_text(ctx, op->path);
    if (!args.count) {
        argv[0] = hook.path;
        argv[1] = NULL;
    }
    hook.argv = (char *const *)argv;
    hook.envp = (char *const *)envp;
    hook.state[0] = plan_text(ctx, op->state_head);
    hook.state[1] = format_number(number, getpid());
    hook.state[2] = plan_text(ctx, op->state_tail);
    hook.timeout_sec = op->timeout_sec;
    int error = start_hook(&hook);
    if (!error)
        error = run_to_end(&hook);
    close_pipe(hook.input);
    close_pipe(hook.output);
    close_pipe(hook.failure);
    close_end(&hook.pidfd);
    return error;
}
