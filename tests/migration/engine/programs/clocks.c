/* Reads a clock, as fast as it can, until SIGTERM; says how often it ran backwards or was far from the kernel's.
 * "bare": nothing but that. "timer": in a handler of a timer too, a thousand times a second, so that readings
 * are interrupted in mid-course. */
#include "say.h"

static volatile sig_atomic_t over, wrong, handled;

static void stop(int number) {
    (void)number;
    over = 1;
}

static void look(clockid_t clock, int64_t *last) {
    int64_t now = nanoseconds(clock);
    if (now < *last) wrong++;
    *last = now;
}

static void tick(int number) {
    (void)number;
    static int64_t last;
    look(CLOCK_MONOTONIC, &last);
    handled++;
}

static int64_t asked_of_the_kernel(clockid_t clock) {
    struct timespec now;
    SURE(syscall(SYS_clock_gettime, clock, &now));
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int words, char **word) {
    int64_t last[3] = {0, 0, 0};
    signal(SIGTERM, stop);
    if (words > 1 && strcmp(word[1], "timer") == 0) {
        struct itimerval often = {{0, 1000}, {0, 1000}};
        signal(SIGALRM, tick);
        SURE(setitimer(ITIMER_REAL, &often, NULL));
    }
    say("ready");
    while (!over)
        for (int i = 0; i < 100000 && !over; i++) {
            look(CLOCK_MONOTONIC, &last[0]);
            look(CLOCK_BOOTTIME, &last[1]);
            look(CLOCK_MONOTONIC_COARSE, &last[2]);
        }
    /* In the vdso and in the kernel it is the same clock. */
    int64_t before = nanoseconds(CLOCK_MONOTONIC), between = asked_of_the_kernel(CLOCK_MONOTONIC);
    if (between < before || nanoseconds(CLOCK_MONOTONIC) < between) wrong++;
    say("wrong %d handled %d", wrong, handled > 0);
    return 0;
}
