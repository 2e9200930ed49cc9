/* File work on command: one line in, the seconds that it took out. Works in the current directory.
 *
 *   mix BLOCK COUNT     COUNT transactions as PostMark's (Katcher 1997): half of them read a file or append to
 *                       one, half create or delete one, in transfers of BLOCK bytes; files of 500 bytes to 9.77 KB
 *   random BLOCK COUNT  COUNT reads and COUNT writes of BLOCK bytes at random places of one file of 64 MB
 *   stream BLOCK COUNT  COUNT writes of BLOCK bytes one behind the other, then COUNT reads
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 200, LEAST = 500, MOST = 10004, LARGE = 64 << 20 };
static char buffer[1 << 20];
static unsigned long state;

static unsigned random_below(unsigned limit)
{
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(state >> 33) % limit;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int sure(int result)
{
    if (result < 0) { perror("filework"); exit(1); }
    return result;
}

static char *name(unsigned number)
{
    static char text[32];
    sprintf(text, "f%u", number);
    return text;
}

static void put(int file, unsigned size, unsigned block)
{
    for (unsigned done = 0; done < size; done += block)
        sure((int)write(file, buffer, size - done < block ? size - done : block));
}

static void create(unsigned number, unsigned block)
{
    int file = sure(open(name(number), O_CREAT | O_WRONLY | O_TRUNC, 0600));
    put(file, LEAST + random_below(MOST - LEAST), block);
    sure(close(file));
}

static void mix(unsigned block, unsigned count)
{
    static char there[FILES];
    for (unsigned number = 0; number < FILES; number++) create(number, block), there[number] = 1;
    for (unsigned done = 0; done < count; done++) {
        unsigned number = random_below(FILES);
        if (random_below(2)) {
            if (there[number]) sure(unlink(name(number))); else create(number, block);
            there[number] = !there[number];
        } else if (there[number]) {
            if (random_below(2)) {
                int file = sure(open(name(number), O_RDONLY));
                while (sure((int)read(file, buffer, block)) > 0) {}
                sure(close(file));
            } else {
                int file = sure(open(name(number), O_WRONLY | O_APPEND));
                put(file, 1 + random_below(1000), block);
                sure(close(file));
            }
        }
    }
    for (unsigned number = 0; number < FILES; number++) if (there[number]) sure(unlink(name(number)));
}

static void anywhere(unsigned block, unsigned count)
{
    int file = sure(open("large", O_CREAT | O_RDWR, 0600));
    sure(ftruncate(file, LARGE));
    for (unsigned done = 0; done < count; done++) {
        off_t at = (off_t)random_below(LARGE / block) * block;
        sure((int)(done & 1 ? pwrite(file, buffer, block, at) : pread(file, buffer, block, at)));
    }
    sure(close(file));
}

static void stream(unsigned block, unsigned count)
{
    int file = sure(open("stream", O_CREAT | O_RDWR | O_TRUNC, 0600));
    put(file, block * count, block);
    sure(close(file));
    file = sure(open("stream", O_RDONLY));
    while (sure((int)read(file, buffer, block)) > 0) {}
    sure(close(file));
    sure(unlink("stream"));
}

int main(void)
{
    char line[80], what[16];
    unsigned block, count;
    memset(buffer, 'x', sizeof buffer);
    setvbuf(stdout, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin) && sscanf(line, "%15s %u %u", what, &block, &count) == 3) {
        state = 42;
        double begun = now();
        if (*what == 'm') mix(block, count);
        else if (*what == 'r') anywhere(block, count);
        else stream(block, count);
        printf("%.6f\n", now() - begun);
    }
    return 0;
}
