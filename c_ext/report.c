/* What went wrong, in words that Python puts behind the operation's origin: the system call and its object. */
#include "init.h"

void set_detail(struct context *ctx, const char *const parts[], size_t count) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        for (const char *c = parts[i] ? parts[i] : ""; *c && used < sizeof ctx->detail - 1; c++)
            ctx->detail[used++] = *c;
    ctx->detail[used] = '\0';
}

int failed_with(struct context *ctx, int error, const char *syscall, const char *object) {
    if (object)
        DETAIL(ctx, syscall, " ", object);
    else
        DETAIL(ctx, syscall);
    return -error;
}

int failed(struct context *ctx, const char *syscall, const char *object) {
    return failed_with(ctx, errno, syscall, object);
}

const char *format_number(char buffer[static 24], long long number) {
    char *at = buffer + 23;
    unsigned long long rest = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    *at = '\0';
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    return at;
}
