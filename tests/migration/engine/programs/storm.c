/* Counts queued real-time signals while it computes, and says how many came and whether in order. */
#include "say.h"

static volatile sig_atomic_t count, wrong, over;
static void queued(int number, siginfo_t *about, void *context) {
    (void)number;
    (void)context;
    if (about->si_value.sival_int != count) wrong++;
    count++;
}
static void last(int number) {
    (void)number;
    over = 1;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = queued, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&action.sa_mask);
    SURE(sigaction(SIGRTMIN, &action, NULL));
    signal(SIGRTMAX, last);
    say("ready");
    compute_while(&over, 0);
    say("%d %d", count, wrong);
    return 0;
}
