/* What Python's standard library lacks of the kernel's interface. All return a value >= 0 or a negative errno. */
#ifndef OCIRT_NATIVE_H
#define OCIRT_NATIVE_H

#ifndef OCIRT_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

/* A program to start with vfork semantics: the caller's page tables are not copied. */
struct spawn {
    int exe_fd; /* executed with execveat(2); -1: path is */
    const char *path;
    char *const *argv;
    char *const *envp;
    int stdio[3];   /* become 0, 1 and 2; -1: as the caller's */
    const int *fds; /* become first_fd, first_fd + 1, ... */
    int fd_count;
    int first_fd;
    int keep_below;   /* descriptors from 3 below this are left open, all other ones are closed */
    int cgroup_fd;    /* CLONE_INTO_CGROUP; -1: the caller's cgroup */
    int cwd_fd;       /* -1: the caller's */
    int new_pids;     /* bool: in a new pid namespace */
    int death_signal; /* PR_SET_PDEATHSIG; 0: none */
    int new_session;  /* bool */
    int born;         /* filled, bool: there was a process, and an error is what kept it from executing */
};
int ocirt_spawn(struct spawn *request, int *pidfd); /* the pid; an execve that failed is this call's error */

/* A thread for what takes the kernel long, while the caller goes on. It begins with a new network namespace, if it is
 * to have one, whose loopback interface is up, and ocirt-init's memfd. What it spawns is born in that namespace. One at
 * a time: begin gives 0, and the others are for after that. */
int ocirt_assistant_begin(int new_network);
int ocirt_assistant_network(void);                 /* waits: 1 where it has made the namespace, else 0 or an errno */
int ocirt_assistant_image(void);                   /* waits: a memfd of ocirt-init, the caller's to close */
void ocirt_assistant_spawn(struct spawn *request); /* sets off; the request is the assistant's until: */
int ocirt_assistant_spawned(int *pidfd);           /* waits, and gives what ocirt_spawn gives */
void ocirt_assistant_end(void);                    /* lets it go, and with it its hold of the namespace */

/* Watch over a process group, which a process kills if this one dies: that process's pid. The group's guard ends when a
 * byte is written into *pipe_fd; it is this process's to reap. */
int ocirt_guard_group(int group, int *pipe_fd);

/* Signals to read from a descriptor (signalfd(2)), in the place of a handler for each. A bit a signal: 1 << (number -
 * 1). The ignored ones among them arrive too. release has it all as before, and drops what has arrived unread. */
struct caught_signals {
    uint64_t blocked_before;
    uint64_t ignored_before;
};
int ocirt_catch_signals(uint64_t wanted, struct caught_signals *before); /* descriptor, non-blocking */
void ocirt_release_signals(int fd, const struct caught_signals *before);

int ocirt_memfd(const char *name, int executable);                                        /* descriptor; empty */
int ocirt_fill_memfd(int fd, const void *data, size_t bytes);                             /* and sealed: 0 */
int ocirt_sealed_memfd(const char *name, const void *data, size_t bytes, int executable); /* descriptor */
int ocirt_init_image(void); /* a sealed memfd of ocirt-init, to be executed */

/* One write(2) of the whole of `data`, into an existing file of a directory: 0. *opened tells whose error it is. */
int ocirt_write_at(int dir_fd, const char *name, const void *data, size_t bytes, int *opened);

/* In one step, a file of a directory takes another's name, which may be in use: 0. */
int ocirt_replace(int dir_fd, const char *file, const char *name);

/* The errno (not negative) of a system call with arguments that no call takes, all of them -1: ENOSYS where there is no
 * such call. For those that look at their arguments before they ask for privileges. */
int ocirt_call_error(int number);

int ocirt_open_tree(int dir_fd, const char *path, unsigned int flags);
int ocirt_mount_setattr_idmap(int fd, int userns_fd, int recursive);

#endif
