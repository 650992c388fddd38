/* What libseccomp knows: architectures, and the names of system calls to numbers. */
#ifndef OCIRT_SECCOMP_NAMES_H
#define OCIRT_SECCOMP_NAMES_H

#ifndef OCIRT_CDEF
#include <stdint.h>
#endif

/* For `count` names, each of which ends with NUL, the numbers in an architecture. Negative ones are libseccomp's: -1 is
 * an unknown name, -101 to -120 go through socketcall(2), -201 to -224 through ipc(2), others don't exist there.
 * `direct`: the number of such a call's own entry, where it has one; else -1. */
void ocirt_seccomp_numbers(uint32_t arch, const char *names, uint32_t count, int32_t *numbers, int32_t *direct);

int ocirt_seccomp_number(uint32_t arch, const char *name);
uint32_t ocirt_seccomp_arch(const char *name); /* "x86_64" to a SCMP_ARCH_* token; "": the native one; 0: unknown */
uint32_t ocirt_seccomp_version(void);          /* of libseccomp, e.g. 0x020504 */
uint32_t ocirt_seccomp_flags(void);            /* SECCOMP_FILTER_FLAG_* that the running kernel takes */

#endif
