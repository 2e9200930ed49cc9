/* Asleep with a time limit: "ready", then what came of it and how many milliseconds it took. */
#include "say.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <sys/sem.h>

static long limit_ms;
static struct timespec limit;
static int ends[2];

static struct timespec at(clockid_t clock) {
    struct timespec when;
    clock_gettime(clock, &when);
    when.tv_sec += limit.tv_sec;
    when.tv_nsec += limit.tv_nsec;
    if (when.tv_nsec >= 1000000000) {
        when.tv_sec++;
        when.tv_nsec -= 1000000000;
    }
    return when;
}

static long do_nanosleep(void) { return syscall(SYS_nanosleep, &limit, NULL); }
static long do_nanosleep_rest(void) {
    struct timespec left;
    return syscall(SYS_nanosleep, &limit, &left);
}
static long do_sleep_relative(void) { return clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, NULL); }
static long do_sleep_wall(void) { return clock_nanosleep(CLOCK_REALTIME, 0, &limit, NULL); }
static long do_sleep_until(void) {
    struct timespec when = at(CLOCK_MONOTONIC);
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}
static long do_sleep_until_wall(void) {
    struct timespec when = at(CLOCK_REALTIME);
    return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &when, NULL);
}
static long do_sleep_boottime(void) { return clock_nanosleep(CLOCK_BOOTTIME, 0, &limit, NULL); }
static long do_usleep(void) { return usleep(limit_ms * 1000); }
static long do_poll(void) {
    struct pollfd wanted = {ends[0], POLLIN, 0};
    return poll(&wanted, 1, limit_ms);
}
static long do_ppoll(void) {
    struct pollfd wanted = {ends[0], POLLIN, 0};
    return ppoll(&wanted, 1, &limit, NULL);
}
static long do_select(void) {
    struct timeval time = {limit.tv_sec, limit.tv_nsec / 1000};
    fd_set in;
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    return syscall(SYS_select, ends[0] + 1, &in, NULL, NULL, &time);
}
static long do_pselect(void) {
    fd_set in;
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    return pselect(ends[0] + 1, &in, NULL, NULL, &limit, NULL);
}
static long epoll_of(int how) {
    int set = SURE(epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {0}};
    SURE(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event));
    if (how == 2) return syscall(SYS_epoll_pwait2, set, &event, 1, &limit, NULL, 8);
    return how ? epoll_pwait(set, &event, 1, limit_ms, &(sigset_t){0}) : syscall(SYS_epoll_wait, set, &event, 1, limit_ms);
}
static long do_epoll_wait(void) { return epoll_of(0); }
static long do_epoll_pwait(void) { return epoll_of(1); }
static long do_epoll_pwait2(void) { return epoll_of(2); }
static uint32_t word;
static long do_futex(void) { return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &limit, NULL, 0); }
static long do_futex_until(void) {
    struct timespec when = at(CLOCK_MONOTONIC);
    return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &when, NULL, FUTEX_BITSET_MATCH_ANY);
}
static long do_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigtimedwait(&set, NULL, &limit);
}
static long do_recv(void) {
    struct timeval time = {limit.tv_sec, limit.tv_nsec / 1000};
    SURE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    SURE(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    char byte;
    return recv(ends[0], &byte, 1, 0);
}
static long do_semtimedop(void) {
    int set = SURE(semget(IPC_PRIVATE, 1, 0600));
    struct sembuf down = {0, -1, 0};
    long result = semtimedop(set, &down, 1, &limit);
    int error = errno;
    semctl(set, 0, IPC_RMID);
    errno = error;
    return result;
}
static long do_mq(void) {
    char name[64], byte[64];
    sprintf(name, "/omtime-%d", getpid());
    struct mq_attr shape = {.mq_maxmsg = 2, .mq_msgsize = 64};
    int queue = SURE(mq_open(name, O_CREAT | O_RDWR, 0600, &shape));
    mq_unlink(name);
    struct timespec when = at(CLOCK_REALTIME);
    return mq_timedreceive(queue, byte, 64, NULL, &when);
}
static void nothing(int number) { (void)number; }
static long do_alarm(void) {
    struct itimerval once = {.it_value = {limit.tv_sec, limit.tv_nsec / 1000}};
    signal(SIGALRM, nothing);
    SURE(setitimer(ITIMER_REAL, &once, NULL));
    return pause();
}
static long do_timer(void) {
    struct itimerspec once = {.it_value = limit};
    timer_t timer;
    signal(SIGALRM, nothing);
    SURE(timer_create(CLOCK_MONOTONIC, NULL, &timer));
    SURE(timer_settime(timer, 0, &once, NULL));
    return pause();
}
static long do_timerfd(void) {
    struct itimerspec once = {.it_value = limit};
    uint64_t count;
    int timer = SURE(timerfd_create(CLOCK_MONOTONIC, 0));
    SURE(timerfd_settime(timer, 0, &once, NULL));
    return read(timer, &count, 8);
}
static long do_many_sleeps(void) {
    struct timespec short_time = {0, limit.tv_sec * 20000000 + limit.tv_nsec / 50};
    for (int i = 0; i < 50; i++) nanosleep(&short_time, NULL);
    return 0;
}
/* A timer of the process keeps ringing; it goes on sleeping for what is left, as POSIX tells it to. */
static long do_rings(void) {
    struct itimerval often = {{0, 70000}, {0, 70000}};
    struct timespec left = limit;
    signal(SIGALRM, nothing);
    SURE(setitimer(ITIMER_REAL, &often, NULL));
    while (nanosleep(&left, &left) < 0 && errno == EINTR) continue;
    return 0;
}

static const struct { const char *name; long (*run)(void); } all[] = {
    {"nanosleep", do_nanosleep}, {"nanosleep_rest", do_nanosleep_rest}, {"sleep_relative", do_sleep_relative},
    {"sleep_wall", do_sleep_wall}, {"sleep_until", do_sleep_until}, {"sleep_until_wall", do_sleep_until_wall},
    {"sleep_boottime", do_sleep_boottime}, {"usleep", do_usleep}, {"poll", do_poll}, {"ppoll", do_ppoll},
    {"select", do_select}, {"pselect", do_pselect}, {"epoll_wait", do_epoll_wait},
    {"epoll_pwait", do_epoll_pwait}, {"epoll_pwait2", do_epoll_pwait2}, {"futex", do_futex},
    {"futex_until", do_futex_until}, {"sigtimedwait", do_sigtimedwait}, {"recv", do_recv},
    {"semtimedop", do_semtimedop}, {"mq", do_mq}, {"alarm", do_alarm}, {"timer", do_timer},
    {"timerfd", do_timerfd}, {"many_sleeps", do_many_sleeps}, {"rings", do_rings},
};

int main(int count, char **words) {
    if (count < 3) return 97;
    limit_ms = atol(words[2]);
    limit = (struct timespec){limit_ms / 1000, limit_ms % 1000 * 1000000};
    SURE(pipe(ends));
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, words[1]) == 0) {
            say("ready");
            int64_t before = nanoseconds(CLOCK_MONOTONIC), wall = nanoseconds(CLOCK_REALTIME);
            long result = all[i].run();
            int error = errno;
            int64_t took = nanoseconds(CLOCK_MONOTONIC) - before, wall_took = nanoseconds(CLOCK_REALTIME) - wall;
            say("%ld %s", result, result < 0 ? strerrorname_np(error) : "-");
            say("%ld %ld", took / 1000000, wall_took / 1000000);
            return 0;
        }
    return 96;
}
