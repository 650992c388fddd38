/* What differs from one process to the next is the same for every one that makes an image: two builds of the same
 * sources give the same bytes. The linker puts these in the place of libc's (--wrap); in the saved image they pass on.
 */
#include "save.h"

#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

ssize_t __real_getrandom(void *bytes, size_t count, unsigned flags);
pid_t __real_getpid(void);
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __real_gettimeofday(struct timeval *now, void *zone);
time_t __real_time(time_t *now);
ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags);
pid_t __wrap_getpid(void);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_gettimeofday(struct timeval *now, void *zone);
time_t __wrap_time(time_t *now);

int image_is_being_made;

ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags) {
    if (!image_is_being_made)
        return __real_getrandom(bytes, count, flags);
    memset(bytes, 0, count);
    return (ssize_t)count;
}

pid_t __wrap_getpid(void) { return image_is_being_made ? 1 : __real_getpid(); }

int __wrap_clock_gettime(clockid_t clock, struct timespec *now) {
    if (!image_is_being_made)
        return __real_clock_gettime(clock, now);
    *now = (struct timespec){0};
    return 0;
}

int __wrap_gettimeofday(struct timeval *now, void *zone) {
    if (!image_is_being_made)
        return __real_gettimeofday(now, zone);
    *now = (struct timeval){0};
    return 0;
}

time_t __wrap_time(time_t *now) {
    if (!image_is_being_made)
        return __real_time(now);
    if (now)
        *now = 0;
    return 0;
}
