/* A process with something that ties it to its home; "unharmed" if that still works afterwards. */
#include "say.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/signalfd.h>

static void *wait_for_ever(void *nothing) {
    for (;;) pause();
    return nothing;
}
static void nothing(int number) { (void)number; }

int main(int words, char **word) {
    const char *name = words > 1 ? word[1] : "";
    volatile char *memory = NULL;
    pthread_t thread;
    if (!strcmp(name, "threads")) SURE(-pthread_create(&thread, NULL, wait_for_ever, NULL));
    if (!strcmp(name, "shared")) {
        memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            wait_for_ever(NULL);
        }
    }
    if (!strcmp(name, "sysv")) {
        int segment = shmget(IPC_PRIVATE, 4096, 0600);
        if (segment < 0) return 1;
        memory = shmat(segment, NULL, 0);
        shmctl(segment, IPC_RMID, NULL);
    }
    if (!strcmp(name, "locked")) {
        memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mlock((void *)memory, 4096)) return 1;
    }
    if (!strcmp(name, "device")) {
        int device = open("/dev/fb0", O_RDWR);
        if (device < 0) device = open("/dev/kvm", O_RDWR);
        if (device < 0) return 1;
        memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, device, 0);
        if (memory == MAP_FAILED) return 1;
        memory = NULL;
    }
    if (!strcmp(name, "writable")) {
        int file = SURE(open("mapped", O_CREAT | O_RDWR, 0600));
        SURE(ftruncate(file, 4096));
        memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (!strcmp(name, "itimer")) {
        struct itimerval often = {{1000, 0}, {1000, 0}};
        signal(SIGPROF, nothing);
        SURE(setitimer(ITIMER_PROF, &often, NULL));
    }
    if (!strcmp(name, "timer")) {
        timer_t timer;
        SURE(timer_create(CLOCK_PROCESS_CPUTIME_ID, NULL, &timer));
    }
    if (!strcmp(name, "seccomp")) {
        struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {1, all};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        SURE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
    }
    if (!strcmp(name, "signalfd")) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        SURE(signalfd(-1, &set, 0));
    }
    if (memory) memory[10] = 42;
    checkpoint();
    if (memory && memory[10] != 42) return 2;
    say("unharmed");
    return 0;
}
