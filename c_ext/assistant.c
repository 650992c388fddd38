/* A thread that makes what takes the kernel long and spawns ocirt-init, while Python checks, compiles and encodes.
 *
 * Of all that a start asks of the kernel a network namespace takes the longest: 0.8 ms on Linux 6.18. A spawn takes
 * 0.2, in which the one who spawns waits for the execve(2), as with vfork(2): a thread alone, and not the process. */
#include "native.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)32 << 10)
#define TAKEN (-4096) /* no errno */
#define ENDING (-1)
#define WAKE_TRIES 1000

static struct {
    pthread_t thread;
    void *stack; /* of the thread, and thus of the child until it executes; NULL: there is none */
    int new_network;
    cpu_set_t cpus;     /* those of the caller */
    int is_elsewhere;   /* bool: the thread may not begin on the caller's */
    int wanted;         /* the caller's word: how many spawns it has asked for, or ENDING */
    int done;           /* the thread's word: 0, then 1 more than the spawns that it has done */
    int network, image; /* from done 1 on: 1 where the namespace is there, or an errno; the memfd, an errno or TAKEN */
    struct spawn *request;
    int pid, pidfd;
} assistant;

/* Not with libc's locks, which end the process where futex(2) fails. */
static int word(const int *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }

static void wait_while(const int *at, int value) {
    while (word(at) == value)
        syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void set_word(int *at, int value) {
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
    for (int i = 0; i < WAKE_TRIES && syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0) < 0; i++)
        sched_yield();
}

/* Other threads keep the namespace that they have. Where lo cannot be raised here, init tries again, and says why. */
static int make_network(void) {
    if (unshare(CLONE_NEWNET) != 0)
        return -errno;
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        ioctl(fd, SIOCSIFFLAGS, &loopback);
        close(fd);
    }
    return 1;
}

/* Where the kernel would have it wait for the caller's own processor, nothing would be done meanwhile: of two that are
 * idle, Linux 6.18 takes the caller's for half of all new threads. */
static void stay_elsewhere(pthread_attr_t *attributes) {
    int here = sched_getcpu();
    assistant.is_elsewhere = 0;
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof assistant.cpus, &assistant.cpus) != 0)
        return;
    cpu_set_t others = assistant.cpus;
    CPU_CLR(here, &others);
    assistant.is_elsewhere = CPU_COUNT(&others) && !pthread_attr_setaffinity_np(attributes, sizeof others, &others);
}

static void *assist(void *nothing) {
    if (assistant.is_elsewhere)
        sched_setaffinity(0, sizeof assistant.cpus, &assistant.cpus);
    assistant.network = assistant.new_network ? make_network() : 0;
    assistant.image = ocirt_init_image();
    for (int spawns = 0;; spawns++) {
        set_word(&assistant.done, spawns + 1);
        wait_while(&assistant.wanted, spawns);
        if (word(&assistant.wanted) == ENDING)
            break;
        assistant.pidfd = -1;
        assistant.pid = ocirt_spawn(assistant.request, &assistant.pidfd);
    }
    int image = __atomic_exchange_n(&assistant.image, TAKEN, __ATOMIC_ACQ_REL);
    if (image >= 0)
        close(image);
    return nothing;
}

int ocirt_assistant_begin(int new_network) {
    pthread_attr_t attributes;
    sigset_t all, before;
    if (assistant.stack) /* of one that has ended */
        pthread_join(assistant.thread, NULL);
    else /* of the heap, where a short process has memory already */
        assistant.stack = malloc(STACK_BYTES);
    if (!assistant.stack)
        return -ENOMEM;
    assistant.new_network = new_network;
    assistant.wanted = assistant.done = 0;
    pthread_attr_init(&attributes);
    int error = pthread_attr_setstack(&attributes, assistant.stack, STACK_BYTES);
    stay_elsewhere(&attributes);
    /* Signals are the caller's to see. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    if (!error)
        error = pthread_create(&assistant.thread, &attributes, assist, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error) {
        free(assistant.stack);
        assistant.stack = NULL;
    }
    return -error;
}

/* Where all others are busy, it may take the caller's processor, which is free now. */
static void await_preparation(void) {
    if (!word(&assistant.done) && assistant.is_elsewhere)
        pthread_setaffinity_np(assistant.thread, sizeof assistant.cpus, &assistant.cpus);
    wait_while(&assistant.done, 0);
}

int ocirt_assistant_network(void) {
    await_preparation();
    return assistant.network;
}

int ocirt_assistant_image(void) {
    await_preparation();
    int image = __atomic_exchange_n(&assistant.image, TAKEN, __ATOMIC_ACQ_REL);
    return image == TAKEN ? ocirt_init_image() : image;
}

void ocirt_assistant_spawn(struct spawn *request) {
    assistant.request = request;
    set_word(&assistant.wanted, assistant.wanted + 1); /* nobody else writes it */
}

int ocirt_assistant_spawned(int *pidfd) {
    wait_while(&assistant.done, assistant.wanted);
    *pidfd = assistant.pidfd;
    return assistant.pid;
}

void ocirt_assistant_end(void) { set_word(&assistant.wanted, ENDING); }
