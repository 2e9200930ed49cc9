/* What a process sees of signals; moved at every checkpoint. */
#include "say.h"
#include <setjmp.h>

static volatile sig_atomic_t count, last;
static siginfo_t info;
static pid_t helper;

static void counting(int number) {
    count++;
    last = number;
}
static void telling(int number, siginfo_t *about, void *context) {
    (void)context;
    last = number;
    info = *about;
    count++;
}
static void catch(int number, int flags, void (*plain)(int), void (*full)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_flags = flags};
    if (full) {
        action.sa_sigaction = full;
        action.sa_flags |= SA_SIGINFO;
    } else action.sa_handler = plain;
    SURE(sigaction(number, &action, NULL));
}

/* A child at home that sends a signal to its parent whenever it gets a byte, which says which. */
static int orders[2];
static void start_helper(void) {
    SURE(pipe(orders));
    pid_t parent = getpid();
    helper = SURE(fork());
    if (helper) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    unsigned char number;
    while (read(orders[0], &number, 1) == 1) {
        union sigval value = {.sival_ptr = (void *)0x1122334455667788};
        if (number > 64) sigqueue(parent, number - 64, value);
        else kill(parent, number);
    }
    _exit(0);
}
static void order(unsigned char number) { SURE(write(orders[1], &number, 1)); }
static void await_count(int wanted) {
    while (count < wanted) usleep(1000);
}

static void from_child(void) {
    catch(SIGUSR1, 0, NULL, telling);
    start_helper();
    for (int i = 1; i <= 4; i++) {
        checkpoint();
        order(i % 2 ? SIGUSR1 : 64 + SIGUSR1);
        await_count(i);
        say("%d %d %d %d", last, info.si_code, info.si_pid == helper, info.si_uid == getuid());
        if (i % 2 == 0) say("%p", info.si_value.sival_ptr);
    }
}

static void while_computing(void) {
    catch(SIGUSR1, SA_RESTART, counting, NULL);
    start_helper();
    for (int i = 0; i < 5; i++) {
        checkpoint();
        order(SIGUSR1);
        compute_while(&count, i);
        say("%d", count);
    }
}

static void to_itself(void) {
    catch(SIGUSR2, 0, NULL, telling);
    for (int i = 0; i < 4; i++) {
        checkpoint();
        int before = count;
        if (i == 0) raise(SIGUSR2);
        if (i == 1) kill(getpid(), SIGUSR2);
        if (i == 2) sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 77});
        if (i == 3) syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2);
        /* POSIX: one is delivered before kill returns */
        say("%d %d %d %d", count - before, info.si_code, info.si_pid == getpid(), i == 2 ? info.si_value.sival_int : 0);
    }
}

static int order_seen[40], seen_count;
static void record(int number, siginfo_t *about, void *context) {
    (void)context;
    order_seen[seen_count++] = (number - SIGRTMIN) * 100 + about->si_value.sival_int;
    count++;
}
static void realtime_queue(void) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < 3; i++) {
        catch(SIGRTMIN + i, 0, NULL, record);
        sigaddset(&set, SIGRTMIN + i);
    }
    SURE(sigprocmask(SIG_BLOCK, &set, NULL));
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3; i++)
            sigqueue(getpid(), SIGRTMIN + 2 - i, (union sigval){.sival_int = round * 10 + i});
        checkpoint();
    }
    SURE(sigprocmask(SIG_UNBLOCK, &set, NULL));
    for (int i = 0; i < seen_count; i++) say("%d", order_seen[i]);
}

static void blocked_then_unblocked(void) {
    sigset_t set, pending;
    catch(SIGUSR1, 0, NULL, telling);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    SURE(sigprocmask(SIG_BLOCK, &set, NULL));
    start_helper();
    for (int i = 0; i < 3; i++) {
        checkpoint();
        order(SIGUSR1);
        do sigpending(&pending);
        while (!sigismember(&pending, SIGUSR1));
        say("%d", count);
        checkpoint();
        sigpending(&pending);
        say("pending %d %d", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGTERM));
        SURE(sigprocmask(SIG_UNBLOCK, &set, NULL));
        say("%d %d", count, info.si_pid == helper);
        SURE(sigprocmask(SIG_BLOCK, &set, NULL));
    }
}

static void nested_inner(int number) { say("inner %d", number == SIGUSR2); }
static void nested_outer(int number) {
    say("outer %d", number == SIGUSR1);
    checkpoint();
    raise(SIGUSR2);
    checkpoint();
    say("outer ends");
}
static void nested(void) {
    catch(SIGUSR1, 0, nested_outer, NULL);
    catch(SIGUSR2, 0, nested_inner, NULL);
    checkpoint();
    raise(SIGUSR1);
    checkpoint();
    raise(SIGUSR1);
    say("done");
}

static char other_stack[65536];
static void on_stack(int number) {
    char here;
    say("%d on the other stack: %d", number, &here >= other_stack && &here < other_stack + sizeof other_stack);
    checkpoint();
}
static void alternate_stack(void) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, now;
    SURE(sigaltstack(&stack, NULL));
    catch(SIGUSR1, SA_ONSTACK, on_stack, NULL);
    for (int i = 0; i < 4; i++) {
        checkpoint();
        raise(SIGUSR1);
        SURE(sigaltstack(NULL, &now));
        say("%d %d", now.ss_sp == other_stack, now.ss_flags);
    }
}

/* Frozen while it is on the other stack, home again when it is not. */
static void staying(int number) {
    (void)number;
    checkpoint();
    stack_t now;
    SURE(sigaltstack(NULL, &now));
    say("in use %d", now.ss_flags);
}
static void moved_on_alternate_stack(void) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, now;
    SURE(sigaltstack(&stack, NULL));
    catch(SIGUSR1, SA_ONSTACK, staying, NULL);
    for (int i = 0; i < 3; i++) {
        raise(SIGUSR1);
        checkpoint();
        SURE(sigaltstack(NULL, &now));
        say("%d %d", now.ss_sp == other_stack, now.ss_flags);
    }
}

static sigjmp_buf back;
static void *fault_at;
static int fault_code;
static void faulted(int number, siginfo_t *about, void *context) {
    (void)number;
    (void)context;
    fault_at = about->si_addr;
    fault_code = about->si_code;
    siglongjmp(back, number);
}
static void faults(void) {
    char *page = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    catch(SIGSEGV, 0, NULL, faulted);
    catch(SIGFPE, 0, NULL, faulted);
    catch(SIGILL, 0, NULL, faulted);
    catch(SIGTRAP, 0, NULL, faulted);
    for (int i = 0; i < 4; i++) {
        checkpoint();
        volatile int zero = 0;
        int number;
        if ((number = sigsetjmp(back, 1)) == 0) page[123] = 1;
        else say("%d %d %ld", number, fault_code, (long)((char *)fault_at - page));
        if ((number = sigsetjmp(back, 1)) == 0) *(volatile int *)16 = 1;
        else say("%d %d %p", number, fault_code, fault_at);
        if ((number = sigsetjmp(back, 1)) == 0) zero = 1 / zero;
        else say("%d %d", number, fault_code);
        if ((number = sigsetjmp(back, 1)) == 0) __asm__ volatile("ud2");
        else say("%d %d", number, fault_code);
        if ((number = sigsetjmp(back, 1)) == 0) __asm__ volatile("int3");
        else say("%d %d", number, fault_code);
    }
}

/* A handler that mends what faulted: mprotect and go on. */
static char *mended;
static void mend(int number, siginfo_t *about, void *context) {
    (void)number;
    (void)context;
    count++;
    mprotect((void *)((uintptr_t)about->si_addr & -4096), 4096, PROT_READ | PROT_WRITE);
}
static void mending(void) {
    mended = mmap(NULL, 16 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    catch(SIGSEGV, 0, NULL, mend);
    for (int i = 0; i < 8; i++) {
        checkpoint();
        mended[i * 8192] = i + 1;
    }
    int sum = 0;
    for (int i = 0; i < 8; i++) sum += mended[i * 8192];
    say("%d %d", count, sum);
}

static void broken_pipe(void) {
    int ends[2];
    catch(SIGPIPE, 0, NULL, telling);
    SURE(pipe(ends));
    close(ends[0]);
    for (int i = 0; i < 3; i++) {
        checkpoint();
        long result = write(ends[1], "x", 1);
        int error = errno;
        say("%ld %d %d", result, error == EPIPE, count);
    }
    signal(SIGPIPE, SIG_IGN);
    long result = write(ends[1], "x", 1);
    say("%ld %d %d", result, errno == EPIPE, count);
}

static void child_ends(void) {
    catch(SIGCHLD, SA_RESTART, NULL, telling);
    for (int i = 1; i <= 4; i++) {
        int ends[2], status = 0;
        SURE(pipe(ends));
        pid_t child = SURE(fork());
        if (child == 0) {
            char byte;
            close(ends[1]);
            if (read(ends[0], &byte, 1) == 0) _exit(i);
        }
        close(ends[0]);
        checkpoint();
        close(ends[1]);
        await_count(i);
        say("%d %d %d %d", last == SIGCHLD, info.si_code == CLD_EXITED, info.si_status, info.si_pid == child);
        say("%d %d", waitpid(-1, &status, 0) == child, WEXITSTATUS(status));
    }
}

static void timers(void) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 4711};
    struct itimerspec soon = {.it_value = {0, 20000000}};
    struct itimerval once = {.it_value = {0, 20000}}, left;
    catch(SIGALRM, 0, NULL, telling);
    catch(SIGRTMIN, 0, NULL, telling);
    SURE(timer_create(CLOCK_MONOTONIC, &event, &timer));
    for (int i = 0; i < 3; i++) {
        int before = count;
        checkpoint();
        SURE(setitimer(ITIMER_REAL, &once, NULL));
        await_count(before + 1);
        say("%d %d", last == SIGALRM, info.si_code == SI_KERNEL);
        SURE(timer_settime(timer, 0, &soon, NULL));
        await_count(before + 2);
        say("%d %d %d", last == SIGRTMIN, info.si_code == SI_TIMER, info.si_value.sival_int);
        alarm(1000);
        getitimer(ITIMER_REAL, &left);
        say("%d %u", left.it_value.tv_sec > 990, alarm(0) > 990);
    }
}

static void dispositions(void) {
    struct sigaction action;
    signal(SIGHUP, SIG_IGN);
    catch(SIGUSR1, SA_RESTART | SA_NODEFER, counting, NULL);
    start_helper();
    for (int i = 0; i < 4; i++) {
        checkpoint();
        order(SIGHUP);
        order(SIGURG);
        order(SIGCONT);
        order(SIGUSR1);
        await_count(i + 1);
        sigaction(SIGHUP, NULL, &action);
        say("%d", action.sa_handler == SIG_IGN);
        sigaction(SIGUSR1, NULL, &action);
        say("%d %x", action.sa_handler == counting, action.sa_flags & ~0x04000000);
        sigaction(SIGTERM, NULL, &action);
        say("%d", action.sa_handler == SIG_DFL);
    }
    catch(SIGUSR2, SA_RESETHAND, counting, NULL);
    checkpoint();
    raise(SIGUSR2);
    sigaction(SIGUSR2, NULL, &action);
    say("%d", action.sa_handler == SIG_DFL);
}

/* A child inherits what is ignored. */
static void inherited(void) {
    checkpoint();
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    fflush(stdout);
    if (system("kill -HUP $$; kill -INT $$; echo alive")) say("no");
}

static const struct scenario all[] = {
    {"from_child", from_child}, {"while_computing", while_computing}, {"to_itself", to_itself},
    {"realtime_queue", realtime_queue}, {"blocked_then_unblocked", blocked_then_unblocked},
    {"nested", nested}, {"alternate_stack", alternate_stack},
    {"moved_on_alternate_stack", moved_on_alternate_stack}, {"faults", faults}, {"mending", mending},
    {"broken_pipe", broken_pipe}, {"child_ends", child_ends}, {"timers", timers},
    {"dispositions", dispositions}, {"inherited", inherited}, {NULL, NULL},
};

int main(int words, char **word) { return run_scenario(all, words > 1 ? word[1] : ""); }
