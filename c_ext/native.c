/* The cffi side: processes and mounts for the runtime itself. Nothing here runs in a container. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPAWN_MAX_FDS 80

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* ocirt-init's bytes, from the build. */
__asm__(".section .rodata\n.balign 4096\n.global ocirt_init_begin\nocirt_init_begin:\n.incbin \"" OCIRT_INIT_PATH
        "\"\n.global ocirt_init_end\nocirt_init_end:\n.byte 0\n.previous\n");
extern const char ocirt_init_begin[], ocirt_init_end[];

/* clone3(2) without a libc wrapper: with CLONE_VM the child runs on the caller's stack, and must not return through a
 * function that the parent has still to return from. */
static inline __attribute__((always_inline)) long clone3_inline(const struct clone_args *args) {
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_clone3), "D"(args), "S"(sizeof *args) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
    return x0;
#else
#error "clone3_inline: not written for this architecture"
#endif
}

/* Everything is marked close-on-exec first; then the sources are duplicated out of the way, since one may have the
 * number that another one is to get, and from there to their places. *exe_fd is what there is to execute. */
static int prepare_child(const struct spawn *request, int *exe_fd) {
    int count = request->fd_count, above = request->first_fd + count,
        keep = request->keep_below > 3 ? request->keep_below : 3;
    int moved[SPAWN_MAX_FDS + 3];
    if (count > SPAWN_MAX_FDS)
        return -EMFILE;
    if (syscall(SYS_close_range, keep, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        return -errno;
    for (int i = 0; i < count + 3; i++) {
        int fd = i < count ? request->fds[i] : request->stdio[i - count];
        moved[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, above);
        if (fd >= 0 && moved[i] < 0)
            return -errno;
    }
    *exe_fd = request->exe_fd < 0 ? -1 : fcntl(request->exe_fd, F_DUPFD_CLOEXEC, above);
    if (request->exe_fd >= 0 && *exe_fd < 0)
        return -errno;
    for (int i = 0; i < count + 3; i++)
        if (moved[i] >= 0 && dup3(moved[i], i < count ? request->first_fd + i : i - count, 0) < 0)
            return -errno;
    for (int fd = 3; fd < keep; fd++)
        if (fcntl(fd, F_SETFD, 0) != 0)
            return -errno; /* a hole among the descriptors to preserve */
    if (request->cwd_fd >= 0 && fchdir(request->cwd_fd) != 0)
        return -errno;
    if (request->death_signal && prctl(PR_SET_PDEATHSIG, request->death_signal) != 0)
        return -errno;
    return request->new_session && setsid() < 0 ? -errno : 0;
}

static __attribute__((noinline)) void run_child(const struct spawn *request, volatile int *error) {
    /* What is ignored would stay so; ocirt-init sees to that itself. Not through libc, which keeps signals 32 and 33 to
     * itself: a posix_spawn(3) may have left them ignored. */
    static const unsigned long default_action[4];
    sigset_t none;
    for (int number = 1; number <= 64 && request->exe_fd < 0; number++)
        syscall(SYS_rt_sigaction, number, default_action, NULL, 8);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int exe_fd = -1, result = prepare_child(request, &exe_fd);
    if (!result && exe_fd >= 0)
        syscall(SYS_execveat, exe_fd, "", request->argv, request->envp, AT_EMPTY_PATH);
    else if (!result)
        execve(request->path, request->argv, request->envp);
    *error = result ? result : -errno;
    _exit(127);
}

int ocirt_spawn(struct spawn *request, int *pidfd) {
    volatile int error = 0;
    /* Handlers of the interpreter must not run in the child, which shares its memory. */
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
                              .exit_signal = SIGCHLD};
    args.pidfd = (uintptr_t)pidfd;
    if (request->new_pids)
        args.flags |= CLONE_NEWPID;
    if (request->cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)request->cgroup_fd;
    }
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    long pid = clone3_inline(&args);
    if (pid == 0)
        run_child(request, &error);
    sigprocmask(SIG_SETMASK, &before, NULL);
    request->born = pid >= 0;
    if (pid < 0)
        return (int)pid;
    if (error) {
        siginfo_t info;
        while (syscall(SYS_waitid, 3 /* P_PIDFD */, *pidfd, &info, 4 /* WEXITED */, NULL) < 0 && errno == EINTR)
            ;
        close(*pidfd);
        *pidfd = -1;
        return error;
    }
    return (int)pid;
}

int ocirt_guard_group(int group, int *pipe_fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t guard = fork();
    if (guard == 0) {
        char byte;
        ssize_t got = 0;
        /* No descriptor of the caller's may stay open for the guard's sake, this pipe's other end least of all: a guard
         * that cannot see to that lets nothing go on unguarded. */
        close(ends[1]);
        if (syscall(SYS_close_range, 0, ends[0] - 1, 0) == 0 && syscall(SYS_close_range, ends[0] + 1, ~0U, 0) == 0)
            do
                got = read(ends[0], &byte, 1);
            while (got < 0 && errno == EINTR);
        if (got <= 0)
            kill(-group, SIGKILL);
        _exit(got <= 0);
    }
    int error = guard < 0 ? -errno : guard;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ends[0]);
    if (guard < 0)
        close(ends[1]);
    else
        *pipe_fd = ends[1];
    return error;
}

/* The kernel's sigset_t and sigaction, not libc's: a word of 64 bits. */
#define SIGNAL_SET_BYTES 8

int ocirt_catch_signals(uint64_t wanted, struct caught_signals *before) {
    before->ignored_before = 0;
    if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, &wanted, &before->blocked_before, SIGNAL_SET_BYTES) != 0)
        return -errno;
    /* The kernel drops an ignored signal even when it is blocked. */
    for (int number = 1; number <= 64; number++) {
        struct sigaction action;
        if (!(wanted >> (number - 1) & 1) || sigaction(number, NULL, &action) != 0 || action.sa_handler != SIG_IGN)
            continue;
        before->ignored_before |= 1ULL << (number - 1);
        signal(number, SIG_DFL);
    }
    int fd = (int)syscall(SYS_signalfd4, -1, &wanted, SIGNAL_SET_BYTES, SFD_CLOEXEC | SFD_NONBLOCK), error = -errno;
    if (fd >= 0)
        return fd;
    ocirt_release_signals(-1, before);
    return error;
}

void ocirt_release_signals(int fd, const struct caught_signals *before) {
    struct signalfd_siginfo unread[16];
    while (fd >= 0 && read(fd, unread, sizeof unread) > 0)
        ;
    if (fd >= 0)
        close(fd);
    for (int number = 1; number <= 64; number++)
        if (before->ignored_before >> (number - 1) & 1)
            signal(number, SIG_IGN);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before->blocked_before, NULL, SIGNAL_SET_BYTES);
}

int ocirt_memfd(const char *name, int executable) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | (executable ? MFD_EXEC : MFD_NOEXEC_SEAL));
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, flags); /* before Linux 6.3 */
    return fd < 0 ? -errno : fd;
}

int ocirt_fill_memfd(int fd, const void *data, size_t bytes) {
    const char *at = data;
    for (size_t left = bytes; left > 0;) {
        ssize_t written = write(fd, at, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written ? -errno : -EIO;
        at += written;
        left -= (size_t)written;
    }
    int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    return fcntl(fd, F_ADD_SEALS, seals) == 0 ? 0 : -errno;
}

int ocirt_sealed_memfd(const char *name, const void *data, size_t bytes, int executable) {
    int fd = ocirt_memfd(name, executable), error = fd < 0 ? 0 : ocirt_fill_memfd(fd, data, bytes);
    if (!error)
        return fd;
    close(fd);
    return error;
}

int ocirt_init_image(void) {
    return ocirt_sealed_memfd("ocirt-init", ocirt_init_begin, (size_t)(ocirt_init_end - ocirt_init_begin), 1);
}

int ocirt_write_at(int dir_fd, const char *name, const void *data, size_t bytes, int *opened) {
    int fd;
    do
        fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    *opened = fd >= 0;
    if (fd < 0)
        return -errno;
    ssize_t written;
    do
        written = write(fd, data, bytes);
    while (written < 0 && errno == EINTR);
    int error = written < 0 ? -errno : (size_t)written != bytes ? -EIO : 0;
    close(fd);
    return error;
}

int ocirt_replace(int dir_fd, const char *file, const char *name) {
    /* A file that rename(2) puts in the place of another one, ext4 writes to the disk first (auto_da_alloc in ext4(5)),
     * which takes 0.2 ms; not so where the two exchange their names. */
    if (renameat2(dir_fd, file, dir_fd, name, RENAME_EXCHANGE) == 0) {
        unlinkat(dir_fd, file, 0); /* what is left where that fails is overwritten by the next one */
        return 0;
    }
    return renameat(dir_fd, file, dir_fd, name) == 0 ? 0 : -errno;
}

int ocirt_call_error(int number) { return syscall(number, -1L, -1L, -1L, -1L, -1L, -1L) < 0 ? errno : 0; }

int ocirt_open_tree(int dir_fd, const char *path, unsigned int flags) {
    long fd = syscall(SYS_open_tree, dir_fd, path, flags);
    return fd < 0 ? -errno : (int)fd;
}

int ocirt_mount_setattr_idmap(int fd, int userns_fd, int recursive) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)userns_fd};
    unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    return syscall(SYS_mount_setattr, fd, "", flags, &attr, sizeof attr) < 0 ? -errno : 0;
}
