/* Blocked in a system call until the test says so: "ready", then what the call returned and brought. */
#include "say.h"
#include <mqueue.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <linux/futex.h>

static int ends[2], descriptor;
static pid_t blocked;
static char buffer[1 << 16];
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void ready(void) { say("ready"); }

static void result(long value) {
    int error = errno;
    say("%ld %s", value, value < 0 ? strerrorname_np(error) : "-");
}

static void got(long count) {
    int error = errno;
    if (count > 0) say("%ld %.*s", count, (int)count, buffer);
    else say("%ld %s", count, count < 0 ? strerrorname_np(error) : "-");
}

static void send_word(void) { SURE(write(ends[1], "hello", 5)); }
static void send_signal(void) { SURE(kill(blocked, SIGUSR1)); }
static volatile sig_atomic_t caught;
static void handler(int number) { caught = number; }

static void catch(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    SURE(sigaction(SIGUSR1, &action, NULL));
}

static void read_pipe(void) {
    SURE(pipe(ends));
    when_told(send_word);
    ready();
    got(read(ends[0], buffer, sizeof buffer));
}

static void readv_pipe(void) {
    char head[2], tail[10];
    struct iovec parts[2] = {{head, 2}, {tail, 10}};
    SURE(pipe(ends));
    when_told(send_word);
    ready();
    long count = readv(ends[0], parts, 2);
    say("%ld %.2s %.*s", count, head, (int)count - 2, tail);
}

static void send_line(void) { SURE(write(ends[1], "hello\n", 6)); }
static void read_terminal(void) {
    SURE(openpty(&ends[1], &ends[0], NULL, NULL, NULL));
    when_told(send_line);
    ready();
    long count = read(ends[0], buffer, sizeof buffer);
    say("%ld %.*s", count, (int)count - 1, buffer);
}

static void read_socket(void) {
    SURE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    when_told(send_word);
    ready();
    got(read(ends[0], buffer, sizeof buffer));
}

static void send_eight(void) {
    uint64_t value = 8;
    SURE(write(ends[1], &value, 8));
}
static void read_eventfd(void) {
    ends[1] = SURE(eventfd(0, 0));
    when_told(send_eight);
    ready();
    uint64_t value = 0;
    long count = read(ends[1], &value, 8);
    say("%ld %lu", count, value);
}

static void expire(void) {
    struct itimerspec soon = {.it_value = {0, 1}};
    SURE(timerfd_settime(ends[1], 0, &soon, NULL));
}
static void read_timerfd(void) {
    ends[1] = SURE(timerfd_create(CLOCK_MONOTONIC, 0));
    when_told(expire);
    ready();
    uint64_t value = 0;
    long count = read(ends[1], &value, 8);
    say("%ld %lu", count, value);
}

static void touch_here(void) { SURE(open("touched", O_CREAT | O_WRONLY, 0600)); }
static void read_inotify(void) {
    descriptor = SURE(inotify_init());
    SURE(inotify_add_watch(descriptor, ".", IN_CREATE));
    when_told(touch_here);
    ready();
    long count = read(descriptor, buffer, sizeof buffer);
    struct inotify_event *event = (struct inotify_event *)buffer;
    say("%ld %s", count, count > 0 ? event->name : "-");
}

static void poll_pipe(void) {
    SURE(pipe(ends));
    when_told(send_word);
    ready();
    struct pollfd wanted[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLERR, 0}};
    long count = poll(wanted, 2, -1);
    say("%ld %d %d", count, wanted[0].revents, wanted[1].revents);
}

static void ppoll_pipe(void) {
    SURE(pipe(ends));
    when_told(send_word);
    ready();
    struct pollfd wanted = {ends[0], POLLIN, 0};
    sigset_t none;
    sigemptyset(&none);
    long count = ppoll(&wanted, 1, NULL, &none);
    say("%ld %d", count, wanted.revents);
}

static void select_pipe(void) {
    SURE(pipe(ends));
    when_told(send_word);
    ready();
    fd_set in;
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    long count = syscall(SYS_select, ends[0] + 1, &in, NULL, NULL, NULL);
    say("%ld %d", count, !!FD_ISSET(ends[0], &in));
}

static void pselect_pipe(void) {
    SURE(pipe(ends));
    when_told(send_word);
    ready();
    fd_set in;
    sigset_t none;
    sigemptyset(&none);
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    long count = pselect(ends[0] + 1, &in, NULL, NULL, NULL, &none);
    say("%ld %d", count, !!FD_ISSET(ends[0], &in));
}

/* Only the mask of the call lets the signal in. */
static void ppoll_signal(void) {
    sigset_t set, none;
    blocked = getpid();
    catch(SA_RESTART);
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SURE(sigprocmask(SIG_BLOCK, &set, NULL));
    when_told(send_signal);
    ready();
    result(ppoll(NULL, 0, NULL, &none));
    sigpending(&none);
    say("%d %d", caught == SIGUSR1, sigismember(&none, SIGUSR1));
}

static void epoll_events(int how) {
    int set = SURE(epoll_create1(0));
    SURE(pipe(ends));
    struct epoll_event event = {EPOLLIN, {.u64 = 0x123456789abcdef0}}, out[4];
    memset(out, 0, sizeof out);
    SURE(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event));
    when_told(send_word);
    ready();
    long count = how == 0   ? syscall(SYS_epoll_wait, set, out, 4, -1)
                 : how == 1 ? epoll_pwait(set, out, 4, -1, &(sigset_t){0})
                            : syscall(SYS_epoll_pwait2, set, out, 4, NULL, NULL, 8);
    say("%ld %x %lx", count, out[0].events, (unsigned long)out[0].data.u64);
}
static void epoll_plain(void) { epoll_events(0); }
static void epoll_masked(void) { epoll_events(1); }
static void epoll_second(void) { epoll_events(2); }

static void leave(void) { _exit(42); }
static void wait_child(void) {
    when_told(leave);
    ready();
    int status = 0;
    struct rusage usage = {0};
    pid_t child = wait4(-1, &status, 0, &usage);
    say("%d %d %d", child > 0, WEXITSTATUS(status), usage.ru_maxrss > 0);
    result(wait4(-1, &status, 0, NULL));
}

static void waitid_child(void) {
    pid_t child = when_told(leave);
    ready();
    siginfo_t info = {0};
    long count = waitid(P_ALL, 0, &info, WEXITED);
    say("%ld %d %d %d %d", count, info.si_signo, info.si_code, info.si_pid == child, info.si_status);
}

static void drain(void) {
    for (int left = 40000; left > 0;) left -= SURE(read(ends[0], buffer, left));
}
static void write_pipe(void) {
    SURE(pipe(ends));
    SURE(fcntl(ends[1], F_SETFL, O_NONBLOCK));
    long filled = 0, count;
    while ((count = write(ends[1], buffer, 4096)) > 0) filled += count;
    SURE(fcntl(ends[1], F_SETFL, 0));
    when_told(drain);
    ready();
    say("%ld %ld", filled, (long)write(ends[1], buffer, 4096));
}

static void bind_here(int kind, int backlog) {
    strcpy(address.sun_path, "door");
    descriptor = SURE(socket(AF_UNIX, kind, 0));
    SURE(bind(descriptor, (void *)&address, sizeof address));
    if (kind != SOCK_DGRAM) SURE(listen(descriptor, backlog));
}
static void knock(void) {
    int caller = SURE(socket(AF_UNIX, SOCK_STREAM, 0));
    SURE(connect(caller, (void *)&address, sizeof address));
    SURE(write(caller, "hello", 5));
    pause();
}
static void accept_caller(void) {
    bind_here(SOCK_STREAM, 4);
    when_told(knock);
    ready();
    struct sockaddr_un peer = {0};
    socklen_t length = sizeof peer;
    int caller = accept(descriptor, (void *)&peer, &length);
    say("%d %d %d", caller > descriptor, peer.sun_family, length);
    got(read(caller, buffer, sizeof buffer));
}

static struct sockaddr_in inet = {.sin_family = AF_INET};
static void knock_inet(void) {
    int caller = SURE(socket(AF_INET, SOCK_STREAM, 0));
    SURE(connect(caller, (void *)&inet, sizeof inet));
    SURE(write(caller, "hello", 5));
    pause();
}
static void accept_inet(void) {
    socklen_t length = sizeof inet;
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    descriptor = SURE(socket(AF_INET, SOCK_STREAM, 0));
    SURE(bind(descriptor, (void *)&inet, sizeof inet));
    SURE(getsockname(descriptor, (void *)&inet, &length));
    SURE(listen(descriptor, 1));
    when_told(knock_inet);
    ready();
    struct sockaddr_in peer = {0};
    int caller = accept4(descriptor, (void *)&peer, &length, SOCK_CLOEXEC);
    say("%d %d %x", caller > descriptor, peer.sin_family, ntohl(peer.sin_addr.s_addr));
    got(read(caller, buffer, sizeof buffer));
}

static void let_in(void) {
    SURE(accept(descriptor, NULL, NULL));
    pause();
}
static void connect_full(void) {
    bind_here(SOCK_STREAM, 0);
    int first = SURE(socket(AF_UNIX, SOCK_STREAM, 0)), second = SURE(socket(AF_UNIX, SOCK_STREAM, 0));
    SURE(connect(first, (void *)&address, sizeof address));
    when_told(let_in);
    ready();
    result(connect(second, (void *)&address, sizeof address));
}

static void send_from_named(void) {
    int caller = SURE(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un own = {AF_UNIX, "caller"};
    SURE(bind(caller, (void *)&own, sizeof own));
    SURE(sendto(caller, "hello", 5, 0, (void *)&address, sizeof address));
}
static void recv_from(void) {
    bind_here(SOCK_DGRAM, 0);
    when_told(send_from_named);
    ready();
    struct sockaddr_un peer = {0};
    socklen_t length = sizeof peer;
    long count = recvfrom(descriptor, buffer, sizeof buffer, 0, (void *)&peer, &length);
    say("%ld %.5s %s %d", count, buffer, peer.sun_path, length);
}

static void pass_descriptor(void) {
    int passed = SURE(open("passed", O_CREAT | O_RDWR, 0600));
    SURE(write(passed, "inside", 6));
    SURE(lseek(passed, 0, SEEK_SET));
    char room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {"hello", 5};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &passed, sizeof passed);
    SURE(sendmsg(ends[1], &message, 0));
}
static void recv_descriptor(void) {
    SURE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    when_told(pass_descriptor);
    ready();
    char room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    long count = recvmsg(ends[0], &message, MSG_CMSG_CLOEXEC);
    int passed = -1;
    if (count > 0) memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof passed);
    char inside[16] = "";
    say("%ld %.5s %zd %s", count, buffer, read(passed, inside, 15), inside);
}

static void unlock(void) {
    SURE(flock(descriptor, LOCK_UN));
    pause();
}
static void lock_file(void) {
    descriptor = SURE(open("locked", O_CREAT | O_RDWR, 0600));
    SURE(flock(descriptor, LOCK_EX));
    int mine = SURE(open("locked", O_RDWR));
    when_told(unlock);
    ready();
    result(flock(mine, LOCK_EX));
    result(flock(descriptor, LOCK_EX | LOCK_NB));
}

static void hold_record(void) {
    struct flock whole = {.l_type = F_WRLCK};
    SURE(fcntl(descriptor, F_SETLK, &whole));
    SURE(write(ends[1], "", 1));
    if (told()) _exit(0);
}
static void lock_record(void) {
    SURE(pipe(ends));
    descriptor = SURE(open("locked", O_CREAT | O_RDWR, 0600));
    if (SURE(fork()) == 0) {
        hold_record();
        _exit(1);
    }
    SURE(read(ends[0], buffer, 1));
    ready();
    struct flock whole = {.l_type = F_WRLCK};
    result(fcntl(descriptor, F_SETLKW, &whole));
}

static void suspend(void) {
    sigset_t set, none;
    blocked = getpid();
    catch(0);
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SURE(sigprocmask(SIG_BLOCK, &set, NULL));
    when_told(send_signal);
    ready();
    result(sigsuspend(&none));
    sigprocmask(SIG_SETMASK, NULL, &none);
    say("%d %d", caught == SIGUSR1, sigismember(&none, SIGUSR1));
}

static void wait_signal(void) {
    sigset_t set;
    blocked = getpid();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SURE(sigprocmask(SIG_BLOCK, &set, NULL));
    pid_t child = when_told(send_signal);
    ready();
    siginfo_t info = {0};
    long number = sigwaitinfo(&set, &info);
    say("%d %d %d", number == SIGUSR1, info.si_code, info.si_pid == child);
}

static void pause_for_signal(void) {
    blocked = getpid();
    catch(SA_RESTART);
    when_told(send_signal);
    ready();
    result(pause());
    say("%d", caught == SIGUSR1);
}

static void read_eintr(void) {
    blocked = getpid();
    catch(0);
    SURE(pipe(ends));
    when_told(send_signal);
    ready();
    got(read(ends[0], buffer, sizeof buffer));
    say("%d", caught == SIGUSR1);
}

static void signal_and_send(void) {
    SURE(kill(blocked, SIGUSR1));
    while (told() == 0) pause();
    send_word();
}
static void say_handler(int number) {
    caught = number;
    say("handler");
}
static void read_restart(void) {
    blocked = getpid();
    struct sigaction action = {.sa_handler = say_handler, .sa_flags = SA_RESTART};
    SURE(sigaction(SIGUSR1, &action, NULL));
    SURE(pipe(ends));
    when_told(signal_and_send);
    ready();
    got(read(ends[0], buffer, sizeof buffer));
}

static void futex_eintr(void) {
    static uint32_t word;
    blocked = getpid();
    catch(0);
    when_told(send_signal);
    ready();
    result(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
}

static void nanosleep_eintr(void) {
    blocked = getpid();
    catch(SA_RESTART);
    when_told(send_signal);
    ready();
    struct timespec long_time = {1000, 0}, left = {0, 0};
    result(syscall(SYS_nanosleep, &long_time, &left));
    say("%d", left.tv_sec > 900 && left.tv_sec < 1000);
}

static void open_writer(void) {
    int end = SURE(open("fifo", O_WRONLY));
    SURE(write(end, "hello", 5));
}
static void open_fifo(void) {
    SURE(mkfifo("fifo", 0600));
    when_told(open_writer);
    ready();
    int end = open("fifo", O_RDONLY);
    got(read(end, buffer, sizeof buffer));
}

static int queue;
static void send_message(void) {
    struct { long kind; char text[8]; } message = {7, "hello"};
    SURE(msgsnd(queue, &message, 6, 0));
}
static void receive_message(void) {
    queue = SURE(msgget(IPC_PRIVATE, 0600));
    when_told(send_message);
    ready();
    struct { long kind; char text[64]; } message = {0};
    long count = msgrcv(queue, &message, 64, 0, 0);
    say("%ld %ld %s", count, message.kind, message.text);
    msgctl(queue, IPC_RMID, NULL);
}

static void raise_semaphore(void) {
    struct sembuf up = {0, 1, 0};
    SURE(semop(queue, &up, 1));
}
static void lower_semaphore(void) {
    queue = SURE(semget(IPC_PRIVATE, 1, 0600));
    when_told(raise_semaphore);
    ready();
    struct sembuf down = {0, -1, 0};
    result(semop(queue, &down, 1));
    semctl(queue, 0, IPC_RMID);
}

static void send_queue(void) { SURE(mq_send(queue, "hello", 5, 9)); }
static void receive_queue(void) {
    char name[64];
    sprintf(name, "/omtest-%d", getpid());
    struct mq_attr shape = {.mq_maxmsg = 2, .mq_msgsize = 64};
    queue = SURE(mq_open(name, O_CREAT | O_RDWR, 0600, &shape));
    mq_unlink(name);
    when_told(send_queue);
    ready();
    unsigned priority = 0;
    long count = mq_receive(queue, buffer, 64, &priority);
    say("%ld %.5s %u", count, buffer, priority);
}

static void splice_pipe(void) {
    SURE(pipe(ends));
    int file = SURE(open("spliced", O_CREAT | O_RDWR, 0600));
    when_told(send_word);
    ready();
    long count = splice(ends[0], NULL, file, NULL, 4096, 0);
    say("%ld %zd %.5s", count, pread(file, buffer, 10, 0), buffer);
}

static void recv_many(void) {
    SURE(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
    when_told(send_word);
    ready();
    struct iovec parts[2] = {{buffer, 10}, {buffer + 10, 10}};
    struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = parts, .msg_iovlen = 1}},
                                  {.msg_hdr = {.msg_iov = parts + 1, .msg_iovlen = 1}}};
    long count = recvmmsg(ends[0], messages, 2, MSG_WAITFORONE, NULL);
    say("%ld %u %.5s", count, messages[0].msg_len, buffer);
}

static const struct scenario all[] = {
    {"read_pipe", read_pipe}, {"readv_pipe", readv_pipe}, {"read_terminal", read_terminal},
    {"read_socket", read_socket}, {"read_eventfd", read_eventfd}, {"read_timerfd", read_timerfd},
    {"read_inotify", read_inotify}, {"poll_pipe", poll_pipe}, {"ppoll_pipe", ppoll_pipe},
    {"ppoll_signal", ppoll_signal}, {"select_pipe", select_pipe}, {"pselect_pipe", pselect_pipe},
    {"epoll_plain", epoll_plain}, {"epoll_masked", epoll_masked}, {"epoll_second", epoll_second},
    {"wait_child", wait_child}, {"waitid_child", waitid_child}, {"write_pipe", write_pipe},
    {"accept_caller", accept_caller}, {"accept_inet", accept_inet}, {"connect_full", connect_full},
    {"recv_from", recv_from}, {"recv_descriptor", recv_descriptor}, {"recv_many", recv_many},
    {"lock_file", lock_file}, {"lock_record", lock_record}, {"suspend", suspend},
    {"wait_signal", wait_signal}, {"pause", pause_for_signal}, {"read_eintr", read_eintr},
    {"read_restart", read_restart}, {"futex_eintr", futex_eintr}, {"nanosleep_eintr", nanosleep_eintr},
    {"open_fifo", open_fifo}, {"receive_message", receive_message}, {"lower_semaphore", lower_semaphore},
    {"receive_queue", receive_queue}, {"splice_pipe", splice_pipe}, {NULL, NULL},
};

int main(int count, char **words) { return run_scenario(all, count > 1 ? words[1] : ""); }
