/* The decoder: every offset and length is checked where it is used, so that a damaged plan is an error, never a read
 * outside of it (CVE-2021-43784 was an overflow in this place). */
#include "init.h"

int plan_load(struct context *ctx, const void *image, size_t bytes) {
    const struct plan_header *plan = image;
    if (bytes < sizeof *plan || plan->magic != PLAN_MAGIC || plan->version != PLAN_VERSION || plan->bytes != bytes)
        return -EINVAL;
    uint64_t expected = (uint64_t)sizeof *plan + plan->op_bytes + plan->data_bytes;
    if (expected != bytes || plan->op_bytes % 8 || plan->data_bytes < 8)
        return -EINVAL;
    if (plan->slot_count > PLAN_MAX_SLOTS || plan->filled_slots > plan->slot_count ||
        plan->join_count > PLAN_MAX_JOINS || plan->host_op_count > plan->op_count ||
        plan->entry_op_count > plan->op_count - plan->host_op_count)
        return -EINVAL;
    ctx->plan = plan;
    ctx->ops = (const char *)image + sizeof *plan;
    ctx->data = ctx->ops + plan->op_bytes;
    return ctx->data[plan->data_bytes - 1] ? -EINVAL : 0;
}

const struct op_head *plan_next(const struct context *ctx, const struct op_head *op) {
    size_t at = op ? (size_t)((const char *)op - ctx->ops) + op->bytes : 0;
    const struct op_head *next = (const void *)(ctx->ops + at);
    size_t left = ctx->plan->op_bytes - at;
    if (left < sizeof *next || next->bytes < sizeof *next || next->bytes % 8 || next->bytes > left)
        plan_invalid("record");
    return next;
}

/* A place in the data with at least `bytes` bytes behind it. */
static const void *data_at(const struct context *ctx, uint32_t offset, uint64_t bytes, uint32_t alignment) {
    if (offset % alignment || offset + bytes > ctx->plan->data_bytes)
        plan_invalid("offset");
    return ctx->data + offset;
}

const char *plan_string(const struct context *ctx, str_t offset) {
    return offset ? data_at(ctx, offset, 1, 1) : NULL; /* the data end with NUL */
}

const char *plan_text(const struct context *ctx, str_t offset) {
    const char *string = plan_string(ctx, offset);
    if (!string)
        plan_invalid("string");
    return string;
}

struct strings plan_strings(const struct context *ctx, strv_t offset) {
    struct strings strings = {.ctx = ctx};
    strings.offsets = plan_numbers(ctx, offset, &strings.count);
    return strings;
}

const char *strings_at(const struct strings *strings, uint32_t i) {
    const char *string = i < strings->count ? plan_string(strings->ctx, strings->offsets[i]) : NULL;
    if (!string)
        plan_invalid("string list");
    return string;
}

struct bytes plan_bytes(const struct context *ctx, blob_t offset) {
    if (!offset)
        return (struct bytes){0};
    uint32_t length = *(const uint32_t *)data_at(ctx, offset, 8, 8);
    return (struct bytes){.at = data_at(ctx, offset + 8, length, 8), .length = length};
}

const uint32_t *plan_numbers(const struct context *ctx, u32v_t offset, uint32_t *count) {
    *count = 0;
    if (!offset)
        return NULL;
    *count = *(const uint32_t *)data_at(ctx, offset, 4, 4);
    return data_at(ctx, offset + 4, (uint64_t)*count * 4, 4);
}
