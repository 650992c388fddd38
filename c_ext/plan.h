/* The plan: what ocirt (Python) hands to ocirt-init (C), and what they say to each other while it is executed.
 *
 * This file is the single source of opcodes and layouts: C includes it, cffi parses its preprocessed text, and the
 * tables in docs/architecture.md are made from its comments. A plan is one sealed memfd:
 *
 *     struct plan_header | op records, op_bytes long | data, data_bytes long, the last byte NUL
 *
 * A record is an op_head and the fields of its struct, everything 8-aligned, in host byte order. References into the
 * data are byte offsets from its beginning; 0 stands for "absent" (the data begin with 8 zero bytes). Nothing in a
 * plan branches: a record is executed or the plan fails there.
 */
#ifndef OCIRT_PLAN_H
#define OCIRT_PLAN_H

#ifndef OCIRT_CDEF
#include <stdint.h>
#endif

enum {
    PLAN_MAGIC = 0x5452434f, /* "OCRT" */
    PLAN_VERSION = 1,
    PLAN_MAX_SLOTS = 512,
    PLAN_MAX_JOINS = 8,
    PLAN_MAX_TOLERATED = 2,
    MESSAGE_DETAIL_BYTES = 480
};

typedef uint32_t str_t;  /* a NUL-terminated string */
typedef uint32_t strv_t; /* u32 count, then that many str_t */
typedef uint32_t u32v_t; /* u32 count, then that many u32 */
typedef uint32_t blob_t; /* u32 length in bytes, then the bytes, 8-aligned */
typedef uint16_t slot_t; /* index of a descriptor held by init; NO_SLOT for none */
enum { NO_SLOT = 0xffff };

/* A namespace to join by a descriptor that Python opened and checked: setns(slot, type). */
struct plan_join {
    uint32_t type; /* CLONE_NEW* */
    uint32_t slot;
};

enum plan_flag {
    PLAN_MAPS = 1,         /* a new user namespace: ask for its mappings (SYNC_MAPS) */
    PLAN_SET_IDS = 2,      /* in a new or joined user namespace: become user_root_uid and user_root_gid */
    PLAN_TIME_OFFSETS = 4, /* a new time namespace with offsets: ask for them (SYNC_TIMENS) before entering it */
    PLAN_KEEP_GROUPS = 8,  /* with PLAN_SET_IDS: setgroups(2) is denied there, or the groups are wanted */
    PLAN_ALONE = 16 /* ocirt-init was born in its new pid namespace, if any, and is the container's init itself */
};

struct plan_header {
    uint32_t magic;
    uint32_t version;
    uint32_t bytes; /* of the whole plan */
    uint32_t op_count;
    uint32_t host_op_count; /* the first ops are the host section: executed before the namespaces are entered */
    uint32_t op_bytes;
    uint32_t data_bytes;
    uint32_t flags;       /* enum plan_flag */
    uint64_t clone_flags; /* CLONE_NEW* of the namespaces to create */
    uint64_t pidfd_flags; /* CLONE_NEW* of the namespaces to join through pidfd_slot (exec) */
    uint32_t pidfd_slot;  /* NO_SLOT: none */
    uint32_t join_count;  /* of joins[] */
    uint32_t slot_count;  /* slots [0, filled_slots) arrive with the spawn, the others are filled by operations */
    uint32_t filled_slots;
    uint32_t user_root_uid; /* the ids to assume in a new or joined user namespace */
    uint32_t user_root_gid;
    uint32_t preserve_fds;   /* descriptors 3 .. 2 + preserve_fds go to the user's program */
    uint32_t entry_op_count; /* the next ops are the entry section: inside, with the ids that the runtime has outside */
    struct plan_join joins[PLAN_MAX_JOINS];
};

struct op_head {
    uint16_t opcode;
    uint16_t bytes;                         /* of the whole record */
    uint16_t tolerated[PLAN_MAX_TOLERATED]; /* errnos with which the operation counts as done; 0: none */
};

/* Changes to a mount's attributes (mount_setattr(2)): at the mount itself, then recursively below it. */
struct mount_attributes {
    uint64_t set;
    uint64_t clear;
    uint64_t recursive_set;
    uint64_t recursive_clear;
    uint32_t propagation;           /* MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE or 0 */
    uint32_t recursive_propagation; /* the same for the whole tree, applied first */
};

/* ---- files, mounts and devices (mount.c, root.c, device.c) ---- */

/* Open the runtime's own /proc for sysctls and labels, before any file system of the container can stand there. */
struct op_open_proc {
    struct op_head head;
};

enum open_tree_flag { TREE_RECURSIVE = 1, TREE_NOFOLLOW = 2, TREE_SLAVE = 4 /* receives, never sends, mount events */ };
/* Open a detached copy of the mounts at a host path, the source of a bind mount, into a slot. */
struct op_open_tree {
    struct op_head head;
    str_t path;
    uint32_t flags;
    slot_t slot;
    uint16_t reserved[3];
};

/* Set the propagation of "/" and of all mounts below it. */
struct op_set_propagation {
    struct op_head head;
    uint32_t propagation; /* MS_* */
    uint32_t recursive;   /* bool */
};

enum attach_root_flag {
    ROOT_STACK_ON_SLASH = 1 /* where path cannot be reached: over "/" of the new mount namespace */
};
/* Mount the root file system's tree over its own path and hold it: every later path is resolved below it. */
struct op_attach_root {
    struct op_head head;
    str_t path;
    slot_t tree; /* from OPEN_TREE */
    uint16_t flags;
};

/* Hold the directory at path as the root, without a mount namespace. */
struct op_open_root {
    struct op_head head;
    str_t path;
    uint32_t reserved;
};

enum mount_flag {
    MOUNT_REAL_DIRECTORY = 1,  /* the target must not be reached through a symbolic link (CVE-2019-19921) */
    MOUNT_TAKE_OVER = 2,       /* a tmpfs takes over mode and owner of the directory that it covers; its options win */
    MOUNT_COPY_UP = 4,         /* and its contents */
    MOUNT_TARGET_NOFOLLOW = 8, /* a symbolic link as the last component of the target is covered itself */
    MOUNT_CREATE_FILE = 16     /* a missing target is made as a file (else: a directory, or as the bind's source is) */
};
/* Mount a new instance of a file system. */
struct op_mount_fs {
    struct op_head head;
    str_t fstype;
    str_t source;
    str_t target;
    strv_t options; /* of the file system: "key" or "key=value"; also ro, sync, dirsync, lazytime, mand */
    uint32_t flags;
    slot_t slot; /* keeps the mount's descriptor for later operations; NO_SLOT: none does */
    uint16_t reserved;
    struct mount_attributes attributes;
};

/* Mount an open tree at a target: a bind mount. */
struct op_bind {
    struct op_head head;
    str_t target;
    uint32_t flags;
    slot_t tree;
    slot_t slot;
    uint32_t reserved;
    struct mount_attributes attributes;
};

/* Recreate at the target the symbolic link that stands at a host path, instead of mounting it (option copy-symlink). */
struct op_copy_symlink {
    struct op_head head;
    str_t source;
    str_t target;
};

/* Change the flags and options of the mount that is already at the target (option remount). */
struct op_remount {
    struct op_head head;
    str_t target;
    strv_t options; /* of the file system; absent: the mount's attributes only */
    struct mount_attributes attributes;
};

/* Change the attributes of a mount that is held in a slot, or of the root (NO_SLOT). */
struct op_set_mount_attributes {
    struct op_head head;
    slot_t slot;
    uint16_t reserved[3];
    struct mount_attributes attributes;
};

/* Make a device node or FIFO; one of the same kind and numbers that is there already gets mode and owner. */
struct op_make_device {
    struct op_head head;
    str_t path;
    uint32_t mode; /* S_IFCHR, S_IFBLK or S_IFIFO, and the permissions; the umask does not count */
    uint32_t major;
    uint32_t minor;
    uint32_t uid;
    uint32_t gid;
};

enum symlink_flag { SYMLINK_REPLACE = 1, SYMLINK_IF_TARGET = 2 /* only where the target exists below the root */ };
/* Make a symbolic link; one that is there already with the same target will do. */
struct op_make_symlink {
    struct op_head head;
    str_t path;
    str_t target;
    uint32_t flags;
    uint32_t reserved;
};

enum pivot_kind {
    PIVOT_ROOT = 0,  /* pivot_root(2) */
    PIVOT_MOVE = 1,  /* --no-pivot: move the mount over "/" and chroot, for a root on the initial ramfs */
    PIVOT_CHROOT = 2 /* no mount namespace: chroot alone */
};
/* Make the held root the process's "/" and detach what was there. */
struct op_pivot {
    struct op_head head;
    uint32_t kind;
    uint32_t reserved;
};

/* Cover a path so that it cannot be read: a verified /dev/null over a file, an empty read-only tmpfs over a directory.
 */
struct op_mask_path {
    struct op_head head;
    str_t path;
    uint32_t reserved;
};

/* Make a path read-only by binding it on itself. */
struct op_make_readonly {
    struct op_head head;
    str_t path;
    uint32_t reserved;
};

/* Write a sysctl below /proc/sys of the procfs from OPEN_PROC. */
struct op_set_sysctl {
    struct op_head head;
    str_t name; /* with slashes: net/ipv4/ip_forward */
    str_t value;
};

/* ---- the process (cred.c, process.c, tty.c) ---- */

/* sethostname(2). */
struct op_set_hostname {
    struct op_head head;
    str_t name;
    uint32_t reserved;
};

/* setdomainname(2). */
struct op_set_domainname {
    struct op_head head;
    str_t name;
    uint32_t reserved;
};

/* Write /proc/self/oom_score_adj of the runtime's procfs; inherited by everything after it. */
struct op_set_oom_score_adj {
    struct op_head head;
    int32_t value;
    uint32_t reserved;
};

/* Enter the cgroup whose directory is in the slot (only where the CPU affinity asks for a moment outside of it). */
struct op_join_cgroup {
    struct op_head head;
    slot_t slot;
    uint16_t reserved[3];
};

/* sched_setaffinity(2) with a mask of the kernel's layout. */
struct op_set_cpu_affinity {
    struct op_head head;
    blob_t mask;
    uint32_t reserved;
};

/* Join a new session keyring of that name (keyctl(2)), with the SELinux label for it where one is given. */
struct op_new_keyring {
    struct op_head head;
    str_t name;
    str_t label;
};

/* prlimit(2); resource is RLIMIT_*. */
struct op_set_rlimit {
    struct op_head head;
    uint32_t resource; /* RLIMIT_* */
    uint32_t reserved;
    uint64_t soft;
    uint64_t hard;
};

/* sched_setattr(2). */
struct op_set_scheduler {
    struct op_head head;
    uint32_t policy; /* SCHED_* */
    int32_t nice;
    uint32_t priority;
    uint32_t reserved;
    uint64_t flags;        /* SCHED_FLAG_* */
    uint64_t runtime_nsec; /* SCHED_DEADLINE */
    uint64_t deadline_nsec;
    uint64_t period_nsec;
};

/* ioprio_set(2) for this process; the value is IOPRIO_PRIO_VALUE(class, level). */
struct op_set_io_priority {
    struct op_head head;
    uint32_t value; /* IOPRIO_PRIO_VALUE(class, level) */
    uint32_t reserved;
};

/* personality(2). */
struct op_set_personality {
    struct op_head head;
    uint32_t persona;
    uint32_t reserved;
};

/* set_mempolicy(2) with mode | flags and a mask of nodes. */
struct op_set_memory_policy {
    struct op_head head;
    uint32_t mode;
    blob_t nodes;
};

/* The umask of the user's program and of hooks. */
struct op_set_umask {
    struct op_head head;
    uint32_t mask;
    uint32_t reserved;
};

/* The AppArmor profile to change to at execve(2), written to /proc/thread-self/attr of the procfs from OPEN_PROC. */
struct op_set_apparmor {
    struct op_head head;
    str_t profile;
    uint32_t reserved;
};

/* The SELinux label to take at execve(2), written likewise. */
struct op_set_selinux {
    struct op_head head;
    str_t label;
    uint32_t reserved;
};

/* Set no_new_privs (prctl(2)). */
struct op_set_no_new_privileges {
    struct op_head head;
};

/* Load a seccomp filter. */
struct op_load_seccomp {
    struct op_head head;
    blob_t filter;     /* array of struct sock_filter */
    uint32_t flags;    /* SECCOMP_FILTER_FLAG_* */
    uint32_t listener; /* bool: a helper sharing the descriptor table sends the listener with SYNC_SECCOMP_FD */
    uint32_t reserved;
};

/* Drop every capability from the bounding set that is not in keep. */
struct op_drop_bounding {
    struct op_head head;
    uint64_t keep;
};

enum user_flag { USER_KEEP_GROUPS = 1 /* setgroups(2) is denied, or the original groups are wanted */ };
/* Become the user, keeping the permitted capabilities until SET_CAPABILITIES. */
struct op_set_user {
    struct op_head head;
    uint32_t uid;
    uint32_t gid;
    u32v_t groups; /* supplementary */
    uint32_t flags;
};

/* Set the capability sets, ambient last. */
struct op_set_capabilities {
    struct op_head head;
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
    uint64_t ambient;
};

enum chdir_flag {
    CHDIR_CREATE = 1, /* a missing directory is made (0755) */
    CHDIR_AGAIN = 2   /* as the user, where root did not get there (EACCES); otherwise nothing is left to do */
};
/* Enter the working directory, which must be inside the root: getcwd(2) tells (CVE-2024-21626). */
struct op_change_directory {
    struct op_head head;
    str_t path;
    uint32_t flags;
};

/* Find HOME in the container's /etc/passwd for the environment of EXECUTE; "/" where the uid is not there. */
struct op_find_home {
    struct op_head head;
    uint32_t uid;
    uint32_t reserved;
};

enum console_flag { CONSOLE_BIND = 1 /* on /dev/console */ };
/* Open a terminal of the container's devpts, make it stdio and the controlling one, send its other end (SYNC_CONSOLE).
 */
struct op_open_console {
    struct op_head head;
    uint16_t rows; /* 0 and 0: as the kernel has it */
    uint16_t columns;
    uint32_t flags;
    uint32_t uid; /* owner of the terminal */
    uint32_t reserved;
};

/* Give the descriptors 0 to 2 to the container's user, but for /dev/null. */
struct op_chown_stdio {
    struct op_head head;
    uint32_t uid;
    uint32_t reserved;
};

/* Run a hook with a state on its stdin: state_head, the pid of this process in its own pid namespace, state_tail. */
struct op_run_hook {
    struct op_head head;
    str_t path;
    strv_t args;
    strv_t env;
    str_t state_head;
    str_t state_tail;
    uint32_t timeout_sec; /* 0: none */
};

/* Find the program to execute as execvp(3) would, with the search path given. */
struct op_resolve_executable {
    struct op_head head;
    str_t file;
    str_t search_path; /* PATH of the container; absent: the default of execvp */
};

/* Close every descriptor but stdio, the preserved ones, the runtime's socket and the FIFOs in the slots (or NO_SLOT).
 */
struct op_close_descriptors {
    struct op_head head;
    slot_t start;
    slot_t result;
    uint32_t reserved;
};

enum sync_kind {
    SYNC_MAPS = 1,          /* write uid_map, gid_map and setgroups of the new user namespace */
    SYNC_TIMENS = 2,        /* write timens_offsets */
    SYNC_NETDEVS = 3,       /* fd: a rtnetlink socket of the container's network namespace; move the devices into it */
    SYNC_RUNTIME_HOOKS = 4, /* run the prestart and createRuntime hooks */
    SYNC_CONSOLE = 5,       /* fd: the terminal's other end */
    SYNC_DEVICES = 6,       /* no device is made or opened any more: attach the device filter; is not answered */
    SYNC_SECCOMP_FD = 7,    /* fd: the seccomp listener, for the agent */
    SYNC_READY = 8 /* everything is done but to wait for start: save the state; after the answer init survives us */
};
/* Ask the runtime for something and wait for its answer, where it gives one. */
struct op_sync {
    struct op_head head;
    uint32_t kind;
    uint32_t reserved;
};

/* Wait until `start` writes a byte to the start FIFO; from here on failures are reported to the result FIFO. */
struct op_wait_start {
    struct op_head head;
    slot_t start;
    slot_t result;
    uint32_t reserved;
};

/* Become the user's program. */
struct op_execute {
    struct op_head head;
    strv_t args;
    strv_t env;
};

/* Bring the loopback interface of a new network namespace up. */
struct op_raise_loopback {
    struct op_head head;
};

/* Every operation: X(OPCODE, name). The opcode's number is its place, from 1. */
#define PLAN_OPS(X)                                                                                                    \
    X(OPEN_PROC, open_proc)                                                                                            \
    X(OPEN_TREE, open_tree)                                                                                            \
    X(SET_PROPAGATION, set_propagation)                                                                                \
    X(ATTACH_ROOT, attach_root)                                                                                        \
    X(OPEN_ROOT, open_root)                                                                                            \
    X(MOUNT_FS, mount_fs)                                                                                              \
    X(BIND, bind)                                                                                                      \
    X(COPY_SYMLINK, copy_symlink)                                                                                      \
    X(REMOUNT, remount)                                                                                                \
    X(SET_MOUNT_ATTRIBUTES, set_mount_attributes)                                                                      \
    X(MAKE_DEVICE, make_device)                                                                                        \
    X(MAKE_SYMLINK, make_symlink)                                                                                      \
    X(PIVOT, pivot)                                                                                                    \
    X(MASK_PATH, mask_path)                                                                                            \
    X(MAKE_READONLY, make_readonly)                                                                                    \
    X(SET_SYSCTL, set_sysctl)                                                                                          \
    X(SET_HOSTNAME, set_hostname)                                                                                      \
    X(SET_DOMAINNAME, set_domainname)                                                                                  \
    X(SET_OOM_SCORE_ADJ, set_oom_score_adj)                                                                            \
    X(JOIN_CGROUP, join_cgroup)                                                                                        \
    X(SET_CPU_AFFINITY, set_cpu_affinity)                                                                              \
    X(NEW_KEYRING, new_keyring)                                                                                        \
    X(SET_RLIMIT, set_rlimit)                                                                                          \
    X(SET_SCHEDULER, set_scheduler)                                                                                    \
    X(SET_IO_PRIORITY, set_io_priority)                                                                                \
    X(SET_PERSONALITY, set_personality)                                                                                \
    X(SET_MEMORY_POLICY, set_memory_policy)                                                                            \
    X(SET_UMASK, set_umask)                                                                                            \
    X(SET_APPARMOR, set_apparmor)                                                                                      \
    X(SET_SELINUX, set_selinux)                                                                                        \
    X(SET_NO_NEW_PRIVILEGES, set_no_new_privileges)                                                                    \
    X(LOAD_SECCOMP, load_seccomp)                                                                                      \
    X(DROP_BOUNDING, drop_bounding)                                                                                    \
    X(SET_USER, set_user)                                                                                              \
    X(SET_CAPABILITIES, set_capabilities)                                                                              \
    X(CHANGE_DIRECTORY, change_directory)                                                                              \
    X(FIND_HOME, find_home)                                                                                            \
    X(OPEN_CONSOLE, open_console)                                                                                      \
    X(CHOWN_STDIO, chown_stdio)                                                                                        \
    X(RUN_HOOK, run_hook)                                                                                              \
    X(RESOLVE_EXECUTABLE, resolve_executable)                                                                          \
    X(CLOSE_DESCRIPTORS, close_descriptors)                                                                            \
    X(SYNC, sync)                                                                                                      \
    X(WAIT_START, wait_start)                                                                                          \
    X(EXECUTE, execute)                                                                                                \
    X(RAISE_LOOPBACK, raise_loopback)

#define PLAN_OPCODE(OPCODE, name) OP_##OPCODE,
enum opcode { OP_NONE = 0, PLAN_OPS(PLAN_OPCODE) OP_COUNT };

/* ---- messages, one datagram each, over the socket pair of the runtime and init ---- */

enum message_kind {
    MESSAGE_CLONED =
        1, /* init -> runtime: value = pid of the container's init in the runtime's pid namespace; fd: pidfd */
    MESSAGE_SYNC = 2, /* init -> runtime: value = enum sync_kind */
    MESSAGE_FAILED =
        3, /* init -> runtime, or into the result FIFO: op, error, detail; value: op counted from the end */
    MESSAGE_EXECUTE = 4, /* init -> runtime, or into the result FIFO: execve(2) comes next */
    MESSAGE_GO = 5       /* runtime -> init: the plan is written; the answer to MESSAGE_SYNC */
};

struct message {
    uint32_t kind;
    uint32_t op;    /* index of the operation; UINT32_MAX: outside of any (namespaces, the plan itself) */
    int32_t error;  /* errno */
    uint32_t value; /* as the kind has it */
    char detail[MESSAGE_DETAIL_BYTES]; /* NUL-terminated: the system call and its object, or the kernel's own words */
};

#endif
