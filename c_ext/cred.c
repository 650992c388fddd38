/* Who the process is: user and groups, capabilities, no_new_privs, and what the user must own of stdio.
 *
 * The order of these operations is the plan's: the bounding set shrinks while CAP_SETPCAP is there, the user changes
 * with the permitted set kept, and only then is that set cut down to what was asked for.
 */
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "init.h"

#define CAPABILITY_BITS 64

int op_set_no_new_privileges(struct context *ctx, const struct op_set_no_new_privileges *op) {
    (void)op;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? failed(ctx, "prctl", "PR_SET_NO_NEW_PRIVS") : 0;
}

int op_drop_bounding(struct context *ctx, const struct op_drop_bounding *op) {
    for (int capability = 0; capability < CAPABILITY_BITS; capability++) {
        if (op->keep >> capability & 1 || prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
            continue;
        /* EINVAL says that the kernel knows none from here on, EPERM that CAP_SETPCAP is missing, whatever we ask for:
         * then the one may not exist, or not be held. */
        int error = errno, held = error == EPERM ? prctl(PR_CAPBSET_READ, capability, 0, 0, 0) : -1;
        if (held == 0)
            continue;
        if (held < 0 && errno == EINVAL)
            break;
        char number[24];
        return failed_with(ctx, error, "prctl PR_CAPBSET_DROP capability", format_number(number, capability));
    }
    return 0;
}

int op_set_user(struct context *ctx, const struct op_set_user *op) {
    char number[24];
    uint32_t count;
    const uint32_t *groups = plan_numbers(ctx, op->groups, &count);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
        return failed(ctx, "prctl", "PR_SET_KEEPCAPS");
    if (!(op->flags & USER_KEEP_GROUPS) && setgroups(count, groups) != 0)
        return failed(ctx, "setgroups", NULL);
    if (setresgid(op->gid, op->gid, op->gid) != 0)
        return failed(ctx, "setresgid", format_number(number, op->gid));
    if (setresuid(op->uid, op->uid, op->uid) != 0)
        return failed(ctx, "setresuid", format_number(number, op->uid));
    return 0;
}

int op_set_capabilities(struct context *ctx, const struct op_set_capabilities *op) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    for (int half = 0; half < _LINUX_CAPABILITY_U32S_3; half++) {
        sets[half].effective = (uint32_t)(op->effective >> 32 * half);
        sets[half].permitted = (uint32_t)(op->permitted >> 32 * half);
        sets[half].inheritable = (uint32_t)(op->inheritable >> 32 * half);
    }
    /* Ambient capabilities of the caller would survive in the sets that are not listed. */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return failed(ctx, "prctl", "PR_CAP_AMBIENT_CLEAR_ALL");
    if (syscall(SYS_capset, &header, sets) != 0)
        return failed(ctx, "capset", NULL);
    for (int capability = 0; capability < CAPABILITY_BITS; capability++) {
        if (!(op->ambient >> capability & 1))
            continue;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) {
            char number[24];
            return failed(ctx, "prctl PR_CAP_AMBIENT_RAISE capability", format_number(number, capability));
        }
    }
    return prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) ? failed(ctx, "prctl", "PR_SET_KEEPCAPS") : 0;
}

int give_to_user(struct context *ctx, int fd, uint32_t uid) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return errno == EBADF ? 0 : failed(ctx, "fstat", "stdio"); /* EBADF: the caller had it closed */
    /* The null device is everybody's. Its number alone does not make it: other file systems keep other things in the
     * rdev of what is no device (CVE-2026-88265). */
    if (info.st_uid == uid || (S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3)))
        return 0;
    /* The group stays: a mount's option gid= (5, tty, for devpts) is there for a reason. What cannot be given away
     * stays as it is, and the program still has it open: an owner that is not mapped in our user namespace (EPERM,
     * EINVAL), and a file on a read-only mount (EROFS). */
    if (fchownat(fd, "", uid, (gid_t)-1, AT_EMPTY_PATH) != 0 && errno != EPERM && errno != EINVAL && errno != EROFS) {
        char number[24];
        return failed(ctx, "fchownat", format_number(number, fd));
    }
    return 0;
}

int op_chown_stdio(struct context *ctx, const struct op_chown_stdio *op) {
    for (int fd = 0; fd <= 2; fd++) {
        int error = give_to_user(ctx, fd, op->uid);
        if (error)
            return error;
    }
    return 0;
}
