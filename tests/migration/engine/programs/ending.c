/* How a process ends. It has moved when it is told to go on. */
#include "say.h"

static void exit_status(void) { exit(200); }
static void exit_at_once(void) { _exit(17); }
static void exit_large(void) { exit(0x1ff); }
static void late(void) { printf("atexit\n"); }
static void flushed(void) {
    atexit(late);
    for (int i = 0; i < 20000; i++) printf("line %d\n", i);
    exit(3);
}
static void core(void) {
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &most);
}
static void with_core(void) {
    core();
    abort();
}
static void no_core(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    abort();
}
static void segv(void) {
    core();
    *(volatile int *)8 = 1;
}
static void fpe(void) {
    volatile int zero = 0;
    exit(1 / zero);
}
static void ill(void) { __asm__("ud2"); }
static void trap(void) { __asm__("int3"); }
static int deep(int n) {
    volatile char room[4096];
    room[0] = n;
    return (n < 0 ? 0 : deep(n + 1)) + room[0];
}
static void stack(void) { exit(deep(0)); }
static void term(void) { raise(SIGTERM); }
static void kill9(void) { kill(getpid(), SIGKILL); }
static void realtime(void) { raise(SIGRTMIN + 3); }
static void broken(void) {
    int ends[2];
    SURE(pipe(ends));
    close(ends[0]);
    say("%ld", (long)write(ends[1], "x", 1));
}
static void alarmed(void) {
    alarm(1);
    pause();
}
static void limit_cpu(void) {
    struct rlimit one = {1, 2};
    setrlimit(RLIMIT_CPU, &one);
    for (;;) {}
}
/* Limits that it had before it moved. */
static void limited_cpu(void) {
    for (;;) {}
}
static void limit_file(void) {
    struct rlimit small = {100, 100};
    int file = SURE(open("small", O_CREAT | O_WRONLY, 0600));
    setrlimit(RLIMIT_FSIZE, &small);
    static char much[1000];
    long first = write(file, much, 1000);
    say("%ld", first);
    say("%ld", (long)write(file, much, 1000));
}
static void handler(int number) {
    say("handler %d", number);
    signal(number, SIG_DFL);
    raise(number);
}
static void again(void) {
    signal(SIGTERM, handler);
    raise(SIGTERM);
}
static void waits(void) { pause(); }
static void computes(void) {
    static volatile sig_atomic_t never;
    compute_while(&never, 0);
}
static void reads(void) { told(); }
static void calls(void) {
    for (;;) getpriority(PRIO_PROCESS, 0);
}
static void ignores(void) {
    signal(SIGTERM, SIG_IGN);
    told();
}

static const struct scenario all[] = {
    {"exit_status", exit_status}, {"exit_at_once", exit_at_once}, {"exit_large", exit_large},
    {"flushed", flushed}, {"with_core", with_core}, {"no_core", no_core}, {"segv", segv}, {"fpe", fpe},
    {"ill", ill}, {"trap", trap}, {"stack", stack}, {"term", term}, {"kill9", kill9}, {"realtime", realtime},
    {"broken", broken}, {"alarmed", alarmed}, {"limit_cpu", limit_cpu}, {"limit_file", limit_file},
    {"limited_cpu", limited_cpu}, {"killed_by_limit", limited_cpu},
    {"again", again}, {"waits", waits}, {"computes", computes}, {"reads", reads}, {"calls", calls}, {"ignores", ignores},
    {NULL, NULL},
};

int main(int words, char **word) {
    struct rlimit warns = {1, 2}, kills = {1, 1};
    if (words > 1 && !strcmp(word[1], "limited_cpu")) setrlimit(RLIMIT_CPU, &warns);
    if (words > 1 && !strcmp(word[1], "killed_by_limit")) setrlimit(RLIMIT_CPU, &kills);
    checkpoint();
    checkpoint();
    return run_scenario(all, words > 1 ? word[1] : "");
}
