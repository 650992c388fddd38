/* bpf(2) as far as the device filter of a cgroup needs it (BPF_PROG_TYPE_CGROUP_DEVICE, Linux 4.15), and what tells a
 * cgroup2 file system. All return a value >= 0 or a negative errno; the policy is in ocirt/cgroup/bpf.py. */
#ifndef OCIRT_BPF_H
#define OCIRT_BPF_H

#ifndef OCIRT_CDEF
#include <stdint.h>
#endif

/* BPF_PROG_LOAD: a descriptor. After a failure, log (log_bytes large, NUL-terminated) has the verifier's words; name
 * has at most 15 characters of [A-Za-z0-9_.]. */
int ocirt_bpf_load_device_filter(const void *instructions, uint32_t count, const char *name, char *log,
                                 uint32_t log_bytes);

/* BPF_PROG_QUERY: how many device programs are attached to the cgroup itself; the first `capacity` ids are stored. */
int ocirt_bpf_query_device_filters(int cgroup_fd, uint32_t *ids, uint32_t capacity);

int ocirt_bpf_open(uint32_t id);                /* BPF_PROG_GET_FD_BY_ID: a descriptor */
int ocirt_bpf_name(int program_fd, char *name); /* BPF_OBJ_GET_INFO_BY_FD; room for 16 bytes */

/* BPF_PROG_ATTACH beside the programs that are there; replace_fd >= 0: in that one's place, atomically (Linux 5.6). */
int ocirt_bpf_attach_device_filter(int cgroup_fd, int program_fd, int replace_fd);
int ocirt_bpf_detach_device_filter(int cgroup_fd, int program_fd); /* BPF_PROG_DETACH */

int ocirt_is_cgroup2(const char *path); /* statfs(2): 1, or 0 for another kind of file system */

#endif
