/* A thread that makes what takes the kernel long and spawns ocirt-init, while Python checks, compiles and encodes.
 *
 * Of all that a start asks of the kernel a network namespace takes the longest: 0.8 ms on Linux 6.18. A spawn takes
 * 0.2, in which the one who spawns waits for the execve(2), as with vfork(2): a thread alone, and not the process. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)32 << 10)
#define TAKEN (-4096) /* no errno */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    void *stack; /* of the thread, and thus of the child until it executes; NULL: there is none */
    int new_network;
    int prepared, network, image; /* the namespace is there, or an errno; the memfd, an errno or TAKEN */
    struct spawn *request;        /* to be done */
    int done, pid, pidfd;
    int ending;
} assistant = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

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

static void *assist(void *nothing) {
    int network = assistant.new_network ? make_network() : 0, image = ocirt_init_image();
    pthread_mutex_lock(&assistant.lock);
    assistant.network = network;
    assistant.image = image;
    assistant.prepared = 1;
    pthread_cond_broadcast(&assistant.changed);
    for (;;) {
        while (!assistant.request && !assistant.ending)
            pthread_cond_wait(&assistant.changed, &assistant.lock);
        struct spawn *request = assistant.request;
        if (!request)
            break;
        pthread_mutex_unlock(&assistant.lock);
        int pidfd = -1, pid = ocirt_spawn(request, &pidfd);
        pthread_mutex_lock(&assistant.lock);
        assistant.request = NULL;
        assistant.pid = pid;
        assistant.pidfd = pidfd;
        assistant.done = 1;
        pthread_cond_broadcast(&assistant.changed);
    }
    if (assistant.image >= 0)
        close(assistant.image);
    pthread_mutex_unlock(&assistant.lock);
    return nothing;
}

int ocirt_assistant_begin(int new_network) {
    pthread_attr_t attributes;
    sigset_t all, before;
    ocirt_assistant_end();
    if (assistant.stack)
        pthread_join(assistant.thread, NULL);
    else /* of the heap, where a short process has memory already */
        assistant.stack = malloc(STACK_BYTES);
    if (!assistant.stack)
        return -ENOMEM;
    assistant.new_network = new_network;
    assistant.prepared = assistant.done = assistant.ending = 0;
    pthread_attr_init(&attributes);
    int error = pthread_attr_setstack(&attributes, assistant.stack, STACK_BYTES);
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

static int is_there(void) { return assistant.stack && !assistant.ending; }

static void await(const int *fact) {
    pthread_mutex_lock(&assistant.lock);
    while (!*fact)
        pthread_cond_wait(&assistant.changed, &assistant.lock);
    pthread_mutex_unlock(&assistant.lock);
}

int ocirt_assistant_network(void) {
    if (!is_there())
        return 0;
    await(&assistant.prepared);
    return assistant.network;
}

int ocirt_assistant_image(void) {
    if (!is_there())
        return ocirt_init_image();
    await(&assistant.prepared);
    pthread_mutex_lock(&assistant.lock);
    int image = assistant.image;
    assistant.image = TAKEN;
    pthread_mutex_unlock(&assistant.lock);
    return image == TAKEN ? ocirt_init_image() : image;
}

void ocirt_assistant_spawn(struct spawn *request) {
    if (!is_there()) {
        assistant.pidfd = -1;
        assistant.pid = ocirt_spawn(request, &assistant.pidfd);
        return;
    }
    pthread_mutex_lock(&assistant.lock);
    assistant.done = 0;
    assistant.request = request;
    pthread_cond_broadcast(&assistant.changed);
    pthread_mutex_unlock(&assistant.lock);
}

int ocirt_assistant_spawned(int *pidfd) {
    if (is_there())
        await(&assistant.done);
    *pidfd = assistant.pidfd;
    return assistant.pid;
}

void ocirt_assistant_end(void) {
    pthread_mutex_lock(&assistant.lock);
    assistant.ending = 1;
    pthread_cond_broadcast(&assistant.changed);
    pthread_mutex_unlock(&assistant.lock);
}
