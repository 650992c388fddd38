/* For the counts that cpython.py compiles CPython by: at its exit, a start of the saved image adds what it has executed
 * to the files beside the objects. Only in the program that is made for that. */
#include "save.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct gcov_info;
void __gcov_reset(void), __gcov_dump(void); /* of gcc's libgcov */
void __real___gcov_init(struct gcov_info *object), __wrap___gcov_init(struct gcov_info *object);
_Noreturn void __wrap__exit(int code);

/* What the making of the image has executed does not count. */
__attribute__((constructor)) static void begin(void) {
    if (image_saved)
        __gcov_reset();
}

/* The image's list of objects is complete. */
void __wrap___gcov_init(struct gcov_info *object) {
    if (!image_saved)
        __real___gcov_init(object);
}

_Noreturn void __wrap__exit(int code) {
    if (image_saved && getenv("OCIRT_PROFILE"))
        __gcov_dump();
    for (;;)
        syscall(SYS_exit_group, code);
}
