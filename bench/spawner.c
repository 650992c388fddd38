/* Spawns commands, waits for them, and tells what each took: the small process between the benchmark and the runtimes.
 *
 * A program of its own because of what a large parent adds to its children: fork(2) copies its page tables, and a
 * process begins with the peak memory of the one that spawned it (exec_mmap() in the kernel's fs/exec.c keeps it), so
 * that below Python no runtime would show less than Python's own.
 *
 * The argument is the number of a stream socket. A request on it is a length in bytes (32 bits) and words, each ended
 * with a NUL: for each step the number of its commands, and for each command the number of its words and the words.
 * The commands of a step run side by side, the steps one after another. The answer is a struct outcome for each
 * command. Children get /dev/null as their input and output, and this process's stderr. At the end of the socket it
 * exits.
 *
 * It is a subreaper, as an engine's shim is: what a runtime leaves running becomes its child, and is reaped here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES = 1 << 18, MAX_WORDS = 64, MAX_AT_ONCE = 64, MAX_COMMANDS = 1024 };
enum { EXIT_USAGE = 2, EXIT_PROTOCOL = 3 };

struct outcome {
    int64_t begin_nsec; /* CLOCK_MONOTONIC, before the spawn */
    int64_t end_nsec;   /* after the wait */
    int64_t peak_kib;   /* ru_maxrss, of the command and what it has waited for */
    int64_t status;     /* as wait(2) has it, or minus the errno of posix_spawn(3) */
};

static char request[REQUEST_BYTES];
static struct outcome outcomes[MAX_COMMANDS];
static char *cursor, *request_end;

static int64_t now_nsec(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Reads or writes all of a buffer. Returns 0 at the end of the stream. */
static int transfer(int fd, void *buffer, size_t bytes, int is_write) {
    for (size_t done = 0; done < bytes;) {
        char *rest = (char *)buffer + done;
        ssize_t n = is_write ? write(fd, rest, bytes - done) : read(fd, rest, bytes - done);
        if (n == 0 || (n < 0 && errno != EINTR))
            return 0;
        done += n > 0 ? (size_t)n : 0;
    }
    return 1;
}

static char *next_word(void) {
    char *word = cursor;
    if (cursor >= request_end)
        _exit(EXIT_PROTOCOL);
    cursor += strlen(cursor) + 1;
    return word;
}

static int next_count(int limit) {
    int count = atoi(next_word());
    if (count < 1 || count > limit)
        _exit(EXIT_PROTOCOL);
    return count;
}

/* Returns the pid, or 0 where there is nothing to wait for. */
static pid_t spawn_next(struct outcome *outcome) {
    char *arguments[MAX_WORDS + 1];
    int words = next_count(MAX_WORDS);
    pid_t pid;

    for (int i = 0; i < words; i++)
        arguments[i] = next_word();
    arguments[words] = NULL;
    outcome->begin_nsec = now_nsec();
    int error = posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ);
    if (error == 0)
        return pid;
    *outcome = (struct outcome){outcome->begin_nsec, now_nsec(), 0, -error};
    return 0;
}

static int run_step(struct outcome *results) {
    pid_t pids[MAX_AT_ONCE];
    int commands = next_count(MAX_AT_ONCE), left = 0;

    for (int i = 0; i < commands; i++) {
        pids[i] = spawn_next(&results[i]);
        left += pids[i] != 0;
    }
    while (left > 0) {
        struct rusage usage;
        int status;
        pid_t pid = wait4(-1, &status, 0, &usage);
        int64_t end_nsec = now_nsec();
        if (pid < 0 && errno != EINTR)
            _exit(EXIT_PROTOCOL);
        for (int i = 0; pid > 0 && i < commands; i++) {
            if (pids[i] != pid)
                continue;
            results[i] = (struct outcome){results[i].begin_nsec, end_nsec, usage.ru_maxrss, status};
            pids[i] = 0;
            left--;
        }
    }
    return commands;
}

static void reap_orphans(void) {
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return EXIT_USAGE;
    int fd = atoi(argv[1]), null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(null_fd, STDOUT_FILENO) < 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return EXIT_USAGE;

    for (uint32_t bytes; transfer(fd, &bytes, sizeof bytes, 0);) {
        int commands = 0;
        if (bytes == 0 || bytes > sizeof request || !transfer(fd, request, bytes, 0) || request[bytes - 1] != 0)
            return EXIT_PROTOCOL;
        reap_orphans();
        cursor = request;
        request_end = request + bytes;
        while (cursor < request_end) {
            if (commands + MAX_AT_ONCE > MAX_COMMANDS)
                return EXIT_PROTOCOL;
            commands += run_step(outcomes + commands);
        }
        if (!transfer(fd, outcomes, commands * sizeof *outcomes, 1))
            return EXIT_PROTOCOL;
    }
    return 0;
}
