/* The conversation with the runtime: init asks, one question at a time, and ends when the other side is gone. */
#include <sys/socket.h>

#include "init.h"

int send_message(int socket, const struct message *message, int fd) {
    struct iovec data = {.iov_base = (void *)message, .iov_len = sizeof *message};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
    if (fd >= 0) {
        control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        header.msg_control = &control;
        header.msg_controllen = sizeof control.bytes;
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* A filter that denies the exit with an errno would have libc's _exit try for ever. A fault needs no system call. */
void leave(int code) {
    syscall(SYS_exit_group, code);
    __builtin_trap();
}

void report_failure(struct context *ctx, int error) {
    struct message message = {.kind = MESSAGE_FAILED, .op = ctx->op, .error = ctx->plain ? 0 : error};
    message.value = ctx->plan ? ctx->plan->op_count - ctx->op : 0;
    memcpy(message.detail, ctx->detail, sizeof message.detail);
    if (ctx->result_fd >= 0) {
        while (write(ctx->result_fd, &message, sizeof message) < 0 && errno == EINTR)
            ;
    } else if (ctx->socket >= 0) {
        send_message(ctx->socket, &message, -1);
    }
    leave(1);
}

/* Not with sendmsg(2), which a seccomp filter may deny by now. */
static int write_message(struct context *ctx, const struct message *message) {
    while (write(ctx->socket, message, sizeof *message) < 0)
        if (errno != EINTR)
            return failed(ctx, "write", "to the runtime");
    return 0;
}

int sync_with_runtime(struct context *ctx, uint32_t kind, int fd) {
    struct message message = {.kind = MESSAGE_SYNC, .op = ctx->op, .value = kind};
    int error = fd < 0 ? write_message(ctx, &message) : send_message(ctx->socket, &message, fd);
    if (error)
        return fd < 0 ? error : failed_with(ctx, -error, "sendmsg", NULL);
    if (kind != SYNC_DEVICES)
        await_go(ctx);
    return 0;
}

void await_go(struct context *ctx) {
    struct message message;
    ssize_t got;
    do
        got = read(ctx->socket, &message, sizeof message);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        report_failure(ctx, -failed(ctx, "read", "the runtime's answer"));
    /* The runtime is gone, or gave up: nothing may be left of us. */
    if (got != sizeof message || message.kind != MESSAGE_GO)
        leave(1);
}

int op_sync(struct context *ctx, const struct op_sync *op) {
    if (op->kind != SYNC_NETDEVS)
        return sync_with_runtime(ctx, op->kind, -1);
    /* A netlink socket belongs to the network namespace that it was opened in: the runtime need not enter ours. */
    cleanup_fd int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0 /* NETLINK_ROUTE */);
    return netlink < 0 ? failed(ctx, "socket", "AF_NETLINK") : sync_with_runtime(ctx, op->kind, netlink);
}

int slot_fd(const struct context *ctx, slot_t slot) {
    if (slot == NO_SLOT)
        return -1;
    if (slot >= ctx->plan->slot_count)
        plan_invalid("slot");
    return ctx->slots[slot];
}

int set_slot(struct context *ctx, slot_t slot, int fd) {
    if (slot == NO_SLOT) {
        close(fd);
        return 0;
    }
    int old = slot_fd(ctx, slot);
    if (old >= 0)
        close(old);
    ctx->slots[slot] = fd;
    return 0;
}
