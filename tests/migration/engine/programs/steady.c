/* Counts, a line for every so much work, until it is told to stop or has said so many lines as it is asked for;
 * with enough memory behind it that a move takes its time. */
#include "say.h"

int main(int words, char **word) {
    int lines = words > 1 ? atoi(word[1]) : INT_MAX;
    struct pollfd stop = {0, POLLIN, 0};
    size_t room = 2 << 20;
    unsigned char *memory = malloc(room);
    for (size_t i = 0; i < room; i++) memory[i] = i * 7 + (i >> 9);
    unsigned long x = 1;
    for (int i = 0; i < lines && (words > 1 || poll(&stop, 1, 0) == 0); i++) {
        for (long j = 0; j < 2000000; j++) x = x * 6364136223846793005UL + 1442695040888963407UL;
        memory[x % room] ^= i;
        say("%d %lu", i, x);
    }
    unsigned long sum = 0;
    for (size_t i = 0; i < room; i++) sum = sum * 31 + memory[i];
    say("%lu", sum);
    return 7;
}
