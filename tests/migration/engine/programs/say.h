/* What the test programs have in common. Each takes the name of a case and says, line by line, what it sees. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

struct scenario {
    const char *name;
    void (*run)(void);
};

/* One line, at once. */
__attribute__((format(printf, 1, 2), unused)) static void say(const char *form, ...) {
    char line[4096];
    va_list rest;
    va_start(rest, form);
    int length = vsnprintf(line, sizeof line - 1, form, rest);
    va_end(rest);
    line[length++] = '\n';
    for (int done = 0; done < length;) {
        ssize_t count = write(1, line + done, length - done);
        if (count < 0 && errno != EINTR) _exit(99);
        if (count > 0) done += count;
    }
}

__attribute__((noreturn, unused)) static void die(const char *what) {
    say("FAILED %s: %s", what, strerror(errno));
    exit(98);
}

__attribute__((unused)) static long sure(long result, const char *what) {
    if (result < 0) die(what);
    return result;
}
#define SURE(call) sure((long)(call), #call)

/* One byte of standard input: the test says when. */
__attribute__((unused)) static int told(void) {
    char byte;
    ssize_t count;
    do count = read(0, &byte, 1);
    while (count < 0 && errno == EINTR);
    return count == 1;
}

/* The test moves the process now. */
__attribute__((unused)) static void checkpoint(void) {
    say("ready");
    if (!told()) _exit(95);
}

/* A child that does `work` when the test says so. */
__attribute__((unused)) static pid_t when_told(void (*work)(void)) {
    pid_t child = SURE(fork());
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (told()) work();
        _exit(3);
    }
    return child;
}

/* Compute until something volatile says stop. */
__attribute__((unused)) static void compute_while(volatile sig_atomic_t *flag, int value) {
    volatile unsigned long x = 1;
    while (*flag == value) x = x * 6364136223846793005UL + 1442695040888963407UL;
}

__attribute__((unused)) static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

__attribute__((unused)) static int run_scenario(const struct scenario *all, const char *name) {
    for (; all->name; all++)
        if (strcmp(all->name, name) == 0) {
            all->run();
            return 0;
        }
    say("no scenario %s", name);
    return 97;
}
