/* Runs a process and all that it starts under ptrace(2), counts their system calls, and has one of them go wrong: the
 * caller is killed as it enters the call, or the call fails with a given errno without being executed (but close(2)).
 *
 * Processes and threads are numbered in the order in which they appear; the first is the one that was handed over. Its
 * calls count from the marker on: getpgid(MARKER), which the kernel answers with ESRCH. Where this process ends, all
 * that it traces goes on by itself.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* <linux/ptrace.h> and <sys/ptrace.h> exclude each other. */
struct syscall_info {
    uint8_t op;
    uint8_t padding[3];
    uint32_t arch;
    uint64_t instruction_pointer, stack_pointer;
    uint64_t nr; /* at the entry: the call's number, then its arguments */
    uint64_t args[6];
    uint64_t more[2];
};
enum { CALL_ENTRY = 1, CALL_EXIT = 2 };

enum {
    MARKER = 0x6f636972,
    MAX_PROCESSES = 64,
    MAX_CALLS = 16384,
    TEXT_BYTES = 200,
};

/* error: 0 kills the process. process -1: none. Without a fault every process is counted, with one only that fault's.
 */
struct fault {
    int32_t process;
    int32_t call; /* counted from 1 */
    int32_t error;
};

struct outcome {
    int32_t status; /* of the first process, as wait(2) has it */
    int32_t hung;   /* the deadline passed: all were killed */
    int32_t fired;  /* the number of the call that went wrong, and 1 */
    int32_t process_count;
    int32_t pids[MAX_PROCESSES];
    int32_t threads[MAX_PROCESSES]; /* bool: of the first process */
    int32_t counts[MAX_PROCESSES];
    int32_t call_count;
    int32_t callers[MAX_CALLS];
    int32_t calls[MAX_CALLS]; /* negative: -1 - number, by somebody else's program */
    char text[TEXT_BYTES];    /* a string argument of the call that went wrong, or what hung */
};

static const struct fault *fault;
static struct outcome *outcome;
static bool marked, failing;
static volatile sig_atomic_t expired;

static void expire(int number) {
    (void)number;
    expired = 1;
}

/* Whether it is another thread of the first process. */
static bool is_thread(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d", outcome->pids[0], pid);
    return outcome->process_count && access(path, F_OK) == 0;
}

static int index_of(pid_t pid) {
    for (int i = 0; i < outcome->process_count; i++)
        if (outcome->pids[i] == pid)
            return i;
    if (outcome->process_count == MAX_PROCESSES)
        return MAX_PROCESSES - 1;
    outcome->pids[outcome->process_count] = pid;
    outcome->threads[outcome->process_count] = is_thread(pid);
    return outcome->process_count++;
}

#if defined(__x86_64__)
static int set_call(pid_t pid, long number) {
    return (int)ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), number);
}
static int set_result(pid_t pid, long result) {
    return (int)ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), result);
}
#elif defined(__aarch64__)
static int set_call(pid_t pid, long number) {
    int value = (int)number;
    struct iovec data = {&value, sizeof value};
    return (int)ptrace(PTRACE_SETREGSET, pid, (void *)NT_ARM_SYSTEM_CALL, &data);
}
static int set_result(pid_t pid, long result) {
    struct user_regs_struct registers;
    struct iovec data = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &data) != 0)
        return -1;
    registers.regs[0] = (unsigned long)result;
    return (int)ptrace(PTRACE_SETREGSET, pid, (void *)NT_PRSTATUS, &data);
}
#else
#error "tracer.c: not written for this architecture"
#endif

static char own_name[32];

static void read_name(pid_t pid, char name[static 32]) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *file = fopen(path, "re");
    if (!file || !fgets(name, 32, file))
        name[0] = '\0';
    if (file)
        fclose(file);
}

/* Whether a process executes ocirt or ocirt-init, and not a hook or the container's program: by its name. */
static bool is_ours(pid_t pid) {
    char name[32];
    read_name(pid, name);
    return !strcmp(name, own_name) || !strcmp(name, "ocirt-init\n");
}

/* The first of the call's arguments that is the address of a printable text, if there is one. */
static void describe(pid_t pid, const struct syscall_info *info) {
    for (int i = 0; i < 4; i++) {
        char buffer[TEXT_BYTES] = "";
        size_t page_left = 4096 - info->args[i] % 4096, length = 0;
        struct iovec local = {buffer, page_left < sizeof buffer - 1 ? page_left : sizeof buffer - 1};
        struct iovec remote = {(void *)(uintptr_t)info->args[i], local.iov_len};
        if (info->args[i] < 4096 || process_vm_readv(pid, &local, 1, &remote, 1, 0) <= 0)
            continue;
        while (buffer[length] >= ' ' && buffer[length] < 0x7f)
            length++;
        if (length > 1) {
            buffer[length] = '\0';
            memcpy(outcome->text, buffer, sizeof buffer);
            return;
        }
    }
}

static void enter_call(pid_t pid, int process, const struct syscall_info *info) {
    if (process == 0 && !marked) {
        marked = info->nr == SYS_getpgid && info->args[0] == MARKER;
        return;
    }
    int count = ++outcome->counts[process];
    if (fault->process < 0 && outcome->call_count < MAX_CALLS) {
        outcome->callers[outcome->call_count] = process;
        outcome->calls[outcome->call_count++] = is_ours(pid) ? (int32_t)info->nr : -1 - (int32_t)info->nr;
    }
    if (outcome->fired || process != fault->process || count != fault->call || !is_ours(pid))
        return;
    outcome->fired = (int32_t)info->nr + 1;
    describe(pid, info);
    if (!fault->error)
        kill(pid, SIGKILL);
    else /* close(2) has been done even when it says otherwise */
        failing = info->nr == SYS_close || set_call(pid, -1) == 0;
}

static void stop_at_call(pid_t pid, int process) {
    struct syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0)
        return;
    if (info.op == CALL_ENTRY) {
        enter_call(pid, process, &info);
    } else if (info.op == CALL_EXIT && failing && process == fault->process) {
        failing = false;
        set_result(pid, -(long)fault->error);
    }
}

/* How a process goes on: with its calls being looked at as long as that is of interest. */
static void resume(pid_t pid, int process, int signal) {
    bool interesting = fault->process < 0 || (process == fault->process && (!outcome->fired || failing));
    ptrace(interesting ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, (long)signal);
}

static void handle_stop(pid_t pid, int status) {
    int process = index_of(pid), signal = WSTOPSIG(status), event = status >> 16, delivered = 0;
    unsigned long child = 0;
    if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
        ptrace(PTRACE_LISTEN, pid, 0, 0); /* a group stop: it lasts until SIGCONT */
        return;
    }
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
        if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) == 0)
            index_of((pid_t)child);
    } else if (signal == (SIGTRAP | 0x80)) {
        stop_at_call(pid, process);
    } else if (!event) {
        delivered = signal;
    }
    resume(pid, process, delivered);
}

static void say_what_hangs(void) {
    size_t used = 0;
    for (int i = 0; i < outcome->process_count && used < sizeof outcome->text - 1; i++) {
        char path[64], call[64] = "?";
        snprintf(path, sizeof path, "/proc/%d/syscall", outcome->pids[i]);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (!fgets(call, sizeof call, file))
            call[0] = '\0';
        fclose(file);
        call[strcspn(call, "\n")] = '\0';
        used += (size_t)snprintf(outcome->text + used, sizeof outcome->text - used, "process %d: %s; ", i, call);
    }
}

/* Trace `pid` until it ends, and `other` (0: none), the second process; `ready_fd` is closed when pid may go on.
 * Returns 0, or an errno. */
int trace(pid_t pid, pid_t other, int ready_fd, const struct fault *wanted, struct outcome *result, int deadline_msec) {
    fault = wanted;
    outcome = result;
    const long options =
        PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    struct sigaction action = {.sa_handler = expire};
    struct itimerval timer = {.it_value = {deadline_msec / 1000, deadline_msec % 1000 * 1000}, .it_interval = {1, 0}};
    index_of(pid);
    read_name(pid, own_name);
    if (other && (ptrace(PTRACE_SEIZE, other, 0, options) != 0 || ptrace(PTRACE_INTERRUPT, other, 0, 0) != 0))
        return errno;
    if (other)
        index_of(other);
    if (sigaction(SIGALRM, &action, NULL) != 0 || ptrace(PTRACE_SEIZE, pid, 0, options) != 0 ||
        ptrace(PTRACE_INTERRUPT, pid, 0, 0) != 0 || setitimer(ITIMER_REAL, &timer, NULL) != 0)
        return errno;
    close(ready_fd);
    for (;;) {
        int status;
        pid_t stopped = waitpid(-1, &status, __WALL);
        if (stopped < 0 && errno == EINTR) {
            if (expired && !outcome->hung) {
                outcome->hung = 1;
                say_what_hangs();
            }
            for (int i = 0; expired && i < outcome->process_count; i++)
                kill(outcome->pids[i], SIGKILL);
            continue;
        }
        if (stopped < 0)
            return errno;
        if (WIFSTOPPED(status)) {
            handle_stop(stopped, status);
        } else if (stopped == pid) {
            outcome->status = status;
            return 0;
        }
    }
}
