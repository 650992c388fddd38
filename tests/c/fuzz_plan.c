/* Feeds the decoder with anything (libFuzzer): a plan is decoded to its last field, or refused, and never read beyond.
 *
 * plan_fields.h is made by the test from plan.h: FIELD(OPCODE, structure, name, type) for every reference in a record.
 */
#include <setjmp.h>
#include <stdlib.h>

#include "init.h"

static jmp_buf refused;
static volatile unsigned char seen;

void plan_invalid(const char *what) {
    (void)what;
    longjmp(refused, 1);
}

static void read_all(const void *at, size_t length) {
    for (size_t i = 0; i < length; i++)
        seen = (unsigned char)(seen ^ ((const unsigned char *)at)[i]);
}

static void read_string(const char *string) {
    if (string)
        read_all(string, strlen(string) + 1);
}

static void read_str_t(struct context *ctx, str_t offset) { read_string(plan_string(ctx, offset)); }

static void read_strv_t(struct context *ctx, strv_t offset) {
    struct strings strings = plan_strings(ctx, offset);
    for (uint32_t i = 0; i < strings.count; i++)
        read_string(strings_at(&strings, i));
}

static void read_u32v_t(struct context *ctx, u32v_t offset) {
    uint32_t count;
    const uint32_t *numbers = plan_numbers(ctx, offset, &count);
    read_all(numbers, (size_t)count * sizeof *numbers);
}

static void read_blob_t(struct context *ctx, blob_t offset) {
    struct bytes bytes = plan_bytes(ctx, offset);
    read_all(bytes.at, bytes.length);
}

static void read_slot_t(struct context *ctx, slot_t slot) {
    int fd = slot_fd(ctx, slot);
    read_all(&fd, sizeof fd);
}

#define SIZE(OPCODE, name) [OP_##OPCODE] = sizeof(struct op_##name),
static const size_t sizes[OP_COUNT] = {PLAN_OPS(SIZE)};

static void read_record(struct context *ctx, const struct op_head *op) {
    if (op->opcode == OP_NONE || op->opcode >= OP_COUNT || op->bytes != sizes[op->opcode])
        plan_invalid("opcode");
    read_all(op, op->bytes);
#define FIELD(OPCODE, structure, name, type)                                                                           \
    if (op->opcode == OPCODE)                                                                                          \
        read_##type(ctx, ((const struct structure *)op)->name);
#include "plan_fields.h"
}

static void decode(struct context *ctx, const void *image, size_t bytes) {
    if (plan_load(ctx, image, bytes) != 0)
        return;
    const struct op_head *op = NULL;
    for (uint32_t i = 0; i < ctx->plan->op_count; i++)
        read_record(ctx, op = plan_next(ctx, op));
    for (uint32_t i = 0; i < ctx->plan->join_count; i++)
        read_slot_t(ctx, (slot_t)ctx->plan->joins[i].slot);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes) {
    struct context *ctx = calloc(1, sizeof *ctx);
    void *image = malloc(bytes ? bytes : 1); /* of exactly that length, for the address sanitizer */
    memcpy(image, data, bytes);
    if (setjmp(refused) == 0)
        decode(ctx, image, bytes);
    free(image);
    free(ctx);
    return 0;
}
