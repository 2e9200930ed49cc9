/* Counts queued real-time signals, and says how many came and whether in order: while it computes, or ("calls")
 * while it makes calls that no signal ever interrupts, of which it says how many were all the same. */
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

static int interrupted(long result) { return result < 0 && errno == EINTR; }

static int make_calls(void) {
    int times = 0;
    struct stat about;
    while (!over) {
        int file = open("/dev/null", O_RDONLY);
        times += interrupted(file) + interrupted(fstat(file, &about)) + interrupted(close(file));
        times += interrupted(access("/nowhere", R_OK)) + interrupted(fcntl(1, F_GETFL)) + interrupted(umask(022));
    }
    return times;
}

int main(int words, char **word) {
    int calls = words > 1 && strcmp(word[1], "calls") == 0;
    struct sigaction action = {.sa_sigaction = queued, .sa_flags = SA_SIGINFO | (calls ? 0 : SA_RESTART)};
    sigfillset(&action.sa_mask);
    SURE(sigaction(SIGRTMIN, &action, NULL));
    signal(SIGRTMAX, last);
    say("ready");
    int times = 0;
    if (calls) times = make_calls();
    else compute_while(&over, 0);
    say("%d %d %d", count, wrong, times);
    return 0;
}
