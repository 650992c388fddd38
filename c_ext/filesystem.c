/* Configuring and mounting a file system (fsopen(2) and its kin), with what the kernel says about failures. */
#include "mount.h"

#define MAX_KEY 256   /* of fsconfig(2) */
#define MAX_VALUE 255 /* the same; a longer one is EINVAL without a word */

int filesystem_open(struct context *ctx, const char *type) {
    int fs_fd = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
    return fs_fd < 0 ? failed(ctx, "fsopen", type) : fs_fd;
}

/* The detail is the system call, its object and the last error in the log that the descriptor is read for. */
static int filesystem_failed(struct context *ctx, int fs_fd, const char *syscall_name, const char *object) {
    int error = errno;
    char entry[MESSAGE_DETAIL_BYTES], last[MESSAGE_DETAIL_BYTES] = "";
    ssize_t length;
    while ((length = read(fs_fd, entry, sizeof entry - 1)) > 0) { /* ENODATA at the end */
        entry[length] = '\0';
        entry[strcspn(entry, "\n")] = '\0';
        if (strncmp(entry, "e ", 2) == 0)
            strcpy(last, entry + 2);
    }
    DETAIL(ctx, syscall_name, " ", object, *last ? ": " : "", last);
    return -error;
}

static int configure(int fs_fd, unsigned command, const char *key, const char *value) {
    return (int)syscall(SYS_fsconfig, fs_fd, command, key, value, 0);
}

int filesystem_set(struct context *ctx, int fs_fd, const char *option) {
    const char *equals = strchr(option, '=');
    char key[MAX_KEY];
    size_t length = equals ? (size_t)(equals - option) : strlen(option);
    if (length >= sizeof key || (equals && strlen(equals + 1) > MAX_VALUE))
        return failed_with(ctx, ENAMETOOLONG, "fsconfig", option);
    memcpy(key, option, length);
    key[length] = '\0';
    int error = equals ? configure(fs_fd, FSCONFIG_SET_STRING, key, equals + 1)
                       : configure(fs_fd, FSCONFIG_SET_FLAG, key, NULL);
    return error ? filesystem_failed(ctx, fs_fd, "fsconfig", option) : 0;
}

/* overlay's list of layers may be longer than a value: they are then given one by one (Linux 6.7). */
static int set_layers(struct context *ctx, int fs_fd, const char *layers) {
    char option[sizeof "lowerdir+=" + MAX_VALUE] = "lowerdir+=";
    if (strchr(layers, '\\') || strstr(layers, "::"))
        return failed_with(ctx, ENAMETOOLONG, "fsconfig lowerdir:", "escapes and data layers in more than 255 bytes");
    for (int error = 0; *layers; layers += *layers == ':') {
        size_t length = strcspn(layers, ":");
        if (length > MAX_VALUE)
            return failed_with(ctx, ENAMETOOLONG, "fsconfig lowerdir", layers);
        memcpy(option + strlen("lowerdir+="), layers, length);
        option[strlen("lowerdir+=") + length] = '\0';
        layers += length;
        if ((error = filesystem_set(ctx, fs_fd, option)))
            return error;
    }
    return 0;
}

int filesystem_set_all(struct context *ctx, int fs_fd, strv_t options) {
    static const char layers[] = "lowerdir=";
    struct strings strings = plan_strings(ctx, options);
    for (uint32_t i = 0; i < strings.count; i++) {
        const char *option = strings_at(&strings, i);
        bool long_layers = strncmp(option, layers, strlen(layers)) == 0 && strlen(option) > strlen(layers) + MAX_VALUE;
        int error = long_layers ? set_layers(ctx, fs_fd, option + strlen(layers)) : filesystem_set(ctx, fs_fd, option);
        if (error)
            return error;
    }
    return 0;
}

int filesystem_command(struct context *ctx, int fs_fd, unsigned command, const char *object) {
    const char *name = command == FSCONFIG_CMD_CREATE ? "fsconfig create" : "fsconfig reconfigure";
    return configure(fs_fd, command, NULL, NULL) ? filesystem_failed(ctx, fs_fd, name, object) : 0;
}

int filesystem_mount(struct context *ctx, int fs_fd, uint64_t flags, const char *object) {
    int error = filesystem_command(ctx, fs_fd, FSCONFIG_CMD_CREATE, object);
    if (error)
        return error;
    int mount_fd = (int)syscall(SYS_fsmount, fs_fd, FSMOUNT_CLOEXEC, (unsigned)flags);
    return mount_fd < 0 ? filesystem_failed(ctx, fs_fd, "fsmount", object) : mount_fd;
}

int empty_tmpfs(struct context *ctx) {
    static const char *const options[] = {"source=tmpfs", "ro", "mode=0555", "nr_blocks=1", "nr_inodes=1"};
    cleanup_fd int fs_fd = filesystem_open(ctx, "tmpfs");
    int error = fs_fd < 0 ? fs_fd : 0;
    for (size_t i = 0; !error && i < sizeof options / sizeof *options; i++)
        error = filesystem_set(ctx, fs_fd, options[i]);
    uint64_t flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    return error ? error : filesystem_mount(ctx, fs_fd, flags, "tmpfs");
}
