// What a process inside a container sees of itself, as one JSON object on stdout. Static: it needs nothing of a rootfs.
//
//   probe [PATH...]         all facts, and those of the paths
//   probe call NAME [N...]  makes the system call with numbers for arguments; prints its result and errno
//   probe notify TEXT       sends the text to the socket $NOTIFY_SOCKET, as sd_notify(3) does, and goes on
//   probe hold              prints "ready" and sleeps until a signal ends it; SIGTERM makes it exit with 42

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define KEYCTL_GET_KEYRING_ID 0
#define KEYCTL_DESCRIBE 6
#define KEY_SPEC_SESSION_KEYRING (-3)

static const char *separator = "";

static void put_bytes(const char *bytes, size_t length) {
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void put_string(const char *text) { put_bytes(text, strlen(text)); }

static void key(const char *name) {
    printf("%s", separator);
    put_string(name);
    putchar(':');
    separator = ",\n";
}

static void open_object(const char *name) {
    key(name);
    putchar('{');
    separator = "";
}

static void close_object(void) {
    putchar('}');
    separator = ",\n";
}

static void number(const char *name, long long value) {
    key(name);
    printf("%lld", value);
}

static void string(const char *name, const char *value) {
    key(name);
    put_string(value);
}

static void strings(const char *name, char *const *list) {
    key(name);
    putchar('[');
    for (int i = 0; list[i]; i++) {
        if (i)
            putchar(',');
        put_string(list[i]);
    }
    putchar(']');
}

// A file's text, or null where it can't be read.
static void file_text(const char *name, const char *path) {
    static char text[1 << 20];
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    key(name);
    if (fd < 0) {
        printf("null");
        return;
    }
    for (ssize_t n; length < sizeof(text) && (n = read(fd, text + length, sizeof(text) - length)) > 0;)
        length += (size_t)n;
    close(fd);
    put_bytes(text, length);
}

static void put_identity(void) {
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid, groups[1024];
    getresuid(&ruid, &euid, &suid);
    getresgid(&rgid, &egid, &sgid);
    key("uids");
    printf("[%u,%u,%u]", ruid, euid, suid);
    key("gids");
    printf("[%u,%u,%u]", rgid, egid, sgid);
    int count = getgroups(1024, groups);
    key("groups");
    putchar('[');
    for (int i = 0; i < count; i++)
        printf("%s%u", i ? "," : "", groups[i]);
    putchar(']');
    mode_t mask = umask(0);
    umask(mask);
    number("umask", mask);
    number("pid", getpid());
    number("ppid", getppid());
    number("sid", getsid(0));
    number("pgid", getpgid(0));
}

static void put_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    uint64_t bounding = 0, ambient = 0;
    syscall(SYS_capget, &header, data);
    for (int cap = 0; cap < 64; cap++) {
        bounding |= (uint64_t)(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1) << cap;
        ambient |= (uint64_t)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1) << cap;
    }
    open_object("capabilities");
    number("inheritable", (long long)((uint64_t)data[1].inheritable << 32 | data[0].inheritable));
    number("permitted", (long long)((uint64_t)data[1].permitted << 32 | data[0].permitted));
    number("effective", (long long)((uint64_t)data[1].effective << 32 | data[0].effective));
    number("bounding", (long long)bounding);
    number("ambient", (long long)ambient);
    close_object();
    number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    number("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    number("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
}

static void put_limits(void) {
    static const char *const names[] = {"CPU",      "FSIZE",  "DATA",    "STACK", "CORE",  "RSS",
                                        "NPROC",    "NOFILE", "MEMLOCK", "AS",    "LOCKS", "SIGPENDING",
                                        "MSGQUEUE", "NICE",   "RTPRIO",  "RTTIME"};
    open_object("rlimits");
    for (int i = 0; i < (int)(sizeof(names) / sizeof(names[0])); i++) {
        struct rlimit limit;
        if (getrlimit((__rlimit_resource_t)i, &limit) != 0)
            continue;
        key(names[i]);
        printf("[%lld,%lld]", (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
    close_object();
}

static void put_scheduling(void) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {0};
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) == 0) {
        open_object("scheduler");
        number("policy", attr.policy);
        number("flags", (long long)attr.flags);
        number("nice", attr.nice);
        number("priority", attr.priority);
        number("runtime", (long long)attr.runtime);
        number("deadline", (long long)attr.deadline);
        number("period", (long long)attr.period);
        close_object();
    }
    long priority = syscall(SYS_ioprio_get, 1, 0);
    open_object("io_priority");
    number("class", priority >> 13);
    number("priority", priority & 0x1fff);
    close_object();
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    sched_getaffinity(0, sizeof(cpus), &cpus);
    key("cpus");
    putchar('[');
    for (int cpu = 0, first = 1; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &cpus)) {
            printf("%s%d", first ? "" : ",", cpu);
            first = 0;
        }
    putchar(']');
    int policy = -1;
    unsigned long nodes[16] = {0};
    if (syscall(SYS_get_mempolicy, &policy, nodes, sizeof(nodes) * 8, NULL, 0) == 0) {
        open_object("memory_policy");
        number("mode", policy);
        number("nodes", (long long)nodes[0]);
        close_object();
    }
    number("personality", personality(0xffffffff));
}

static void put_descriptors(void) {
    open_object("fds");
    for (int fd = 0; fd < 1024; fd++) {
        char path[64], target[4096] = "", name[16];
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = 0;
        snprintf(name, sizeof(name), "%d", fd);
        string(name, target);
    }
    close_object();
    open_object("terminal");
    for (int fd = 0; fd < 3; fd++) {
        static const char *const names[] = {"stdin", "stdout", "stderr"};
        struct winsize size;
        key(names[fd]);
        if (ioctl(fd, TIOCGWINSZ, &size) == 0)
            printf("[%u,%u]", size.ws_row, size.ws_col);
        else
            printf("null");
    }
    close_object();
}

static void put_namespaces(void) {
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    open_object("namespaces");
    for (int i = 0; i < 8; i++) {
        char path[64];
        struct stat info;
        snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
        if (stat(path, &info) == 0)
            number(names[i], (long long)info.st_ino);
    }
    close_object();
    struct timespec monotonic, boottime;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock_gettime(CLOCK_BOOTTIME, &boottime);
    number("monotonic", monotonic.tv_sec);
    number("boottime", boottime.tv_sec);
    struct utsname names_of;
    uname(&names_of);
    string("hostname", names_of.nodename);
    string("domainname", names_of.domainname);
    string("machine", names_of.machine);
}

static void put_keyring(void) {
    char text[256] = "";
    long id = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0, 0);
    if (id >= 0)
        syscall(SYS_keyctl, KEYCTL_DESCRIBE, id, text, sizeof(text) - 1, 0);
    string("keyring", text);
}

static int errno_of_open(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static void put_path(const char *path) {
    struct stat info;
    char target[4096] = "";
    open_object(path);
    if (lstat(path, &info) != 0) {
        number("errno", errno);
        close_object();
        return;
    }
    number("mode", info.st_mode & 07777);
    number("uid", info.st_uid);
    number("gid", info.st_gid);
    number("inode", (long long)info.st_ino);
    number("size", info.st_size);
    key("rdev");
    printf("[%u,%u]", major(info.st_rdev), minor(info.st_rdev));
    static const char types[] = "?pc?d?b?f?l?s???";
    const char type[2] = {types[info.st_mode >> 12], 0};
    string("type", type);
    if (readlink(path, target, sizeof(target) - 1) >= 0)
        string("target", target);
    number("read_errno", errno_of_open(path, O_RDONLY));
    if (!S_ISDIR(info.st_mode))
        number("write_errno", errno_of_open(path, O_WRONLY));
    close_object();
}

static int print_facts(char **argv) {
    char cwd[4096] = "";
    putchar('{');
    strings("argv", argv);
    strings("env", environ);
    if (syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0)
        string("cwd", cwd);
    put_identity();
    put_capabilities();
    put_limits();
    put_scheduling();
    put_descriptors();
    put_namespaces();
    put_keyring();
    file_text("status", "/proc/self/status");
    file_text("mountinfo", "/proc/self/mountinfo");
    file_text("cgroup", "/proc/self/cgroup");
    file_text("oom_score_adj", "/proc/self/oom_score_adj");
    file_text("uid_map", "/proc/self/uid_map");
    file_text("gid_map", "/proc/self/gid_map");
    file_text("setgroups", "/proc/self/setgroups");
    file_text("attr", "/proc/self/attr/current");
    open_object("paths");
    for (int i = 1; argv[i]; i++)
        put_path(argv[i]);
    close_object();
    printf("}\n");
    return fflush(stdout) == 0 ? 0 : 1;
}

static const struct {
    const char *name;
    long number;
} calls[] = {
    {"getppid", SYS_getppid}, {"getpgid", SYS_getpgid}, {"getpriority", SYS_getpriority},
    {"mkdir", SYS_mkdir},     {"mount", SYS_mount},     {"personality", SYS_personality},
    {"socket", SYS_socket},   {"unshare", SYS_unshare}, {"sync", SYS_sync},
    {"newer", 1000000},
};

static int call(char **argv) {
    long arguments[6] = {0};
    for (int i = 0; i < 6 && argv[i + 1]; i++)
        arguments[i] = (long)strtoull(argv[i + 1], NULL, 0);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (strcmp(calls[i].name, argv[0]) != 0)
            continue;
        long *a = arguments;
        long result = syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
        printf("{\"result\":%ld,\"errno\":%d}\n", result, result == -1 ? errno : 0);
        return 0;
    }
    fprintf(stderr, "probe: no such call: %s\n", argv[0]);
    return 2;
}

static void on_term(int signal) {
    (void)signal;
    _exit(42);
}

_Noreturn static void hold(void) {
    signal(SIGTERM, on_term);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}

static int notify(const char *text) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path ? path : "");
    if (sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, sizeof(address)) < 0) {
        perror("probe: sendto");
        return 1;
    }
    hold();
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "call") == 0)
        return call(argv + 2);
    if (argc == 3 && strcmp(argv[1], "notify") == 0)
        return notify(argv[2]);
    if (argc == 2 && strcmp(argv[1], "hold") == 0)
        hold();
    return print_facts(argv);
}
