/* Files that are open, or are opened, while the process moves. Each scenario works in a folder of its own. */
#define _GNU_SOURCE
#include "say.h"
#include <sys/sendfile.h>
#include <sys/statfs.h>

static char line[512];
static char *volatile nowhere = (char *)8;

static int fresh(const char *name, const char *text) {
    int file = SURE(open(name, O_CREAT | O_TRUNC | O_RDWR, 0644));
    SURE(write(file, text, strlen(text)));
    return file;
}
static void look(int file, const char *word, size_t size) {
    long count = read(file, line, size);
    line[count > 0 ? count : 0] = 0;
    say("%s: %ld %s at %ld", word, count, line, (long)lseek(file, 0, SEEK_CUR));
}
static void whole(const char *name) {
    int file = SURE(open(name, O_RDONLY));
    struct stat about;
    SURE(fstat(file, &about));
    look(file, name, sizeof line - 1);
    say("size %ld", (long)about.st_size);
    SURE(close(file));
}
static void before(void) {
    int both = fresh("both", "one two three four"), append = SURE(open("log", O_CREAT | O_WRONLY | O_APPEND, 0644));
    int only = SURE(open("both", O_RDONLY));
    SURE(lseek(both, 4, SEEK_SET));
    look(only, "only", 3);
    checkpoint();
    look(both, "both", 3);
    say("wrote %ld", (long)write(append, "first ", 6));
    SURE(pwrite(both, "ONE", 3, 0));
    look(only, "only", 5);
    checkpoint();
    look(both, "both", 6);
    say("wrote %ld", (long)write(append, "second ", 7));
    say("append at %ld", (long)lseek(append, 0, SEEK_CUR));
    look(only, "only", 5);
    checkpoint();
    look(both, "both", 6);
    look(only, "only", 50);
    say("closed %d %d", close(both), close(append));
    say("again %d", close(both));
    whole("both");
    whole("log");
}
static void away(void) {
    checkpoint();
    int file = fresh("new", "some words in a row");
    say("number %d", file);
    SURE(lseek(file, 5, SEEK_SET));
    look(file, "new", 5);
    checkpoint();
    look(file, "new", 4);
    struct iovec parts[2] = {{"AB", 2}, {"CDE", 3}};
    say("writev %ld", (long)writev(file, parts, 2));
    say("pread %ld", (long)pread(file, line, 4, 0));
    checkpoint();
    say("truncated %d", ftruncate(file, 8));
    say("end %ld", (long)lseek(file, 0, SEEK_END));
    say("synced %d %d", fsync(file), fdatasync(file));
    say("errors %ld %d", (long)read(file, nowhere, 100), (int)lseek(file, -5, SEEK_SET));
    say("read only %ld %s", (long)write(SURE(open("new", O_RDONLY)), "x", 1), strerror(errno));
    int another = SURE(open("new", O_WRONLY | O_APPEND));
    say("write only %ld %s", (long)read(another, line, 1), strerror(errno));
    say("appended %ld", (long)write(another, "tail", 4));
    checkpoint();
    whole("new");
    say("exclusive %d %s", open("new", O_CREAT | O_EXCL | O_RDWR, 0600), strerror(errno));
    say("missing %d %s", open("no/such", O_RDONLY), strerror(errno));
    say("folder %d %s", open(".", O_RDWR), strerror(errno));
    say("folder %d", open(".", O_RDONLY | O_DIRECTORY) > 0);
}
static void copies(void) {
    int file = fresh("shared", "abcdefghijklmnopqrstuvwxyz"), early = SURE(dup(file));
    checkpoint();
    int one = SURE(dup(file)), two = SURE(dup2(file, 40)), three = SURE(dup3(file, 41, O_CLOEXEC)),
        four = SURE(fcntl(file, F_DUPFD, 60));
    say("numbers %d %d %d %d %d", early, one, two, three, four);
    SURE(lseek(early, 2, SEEK_SET));
    look(one, "one", 2);
    look(two, "two", 2);
    look(three, "three", 2);
    checkpoint();
    look(four, "four", 2);
    look(file, "file", 2);
    say("closed %d %d", close(file), close(one));
    look(early, "early", 2);
    int other = fresh("other", "0123456789");
    SURE(lseek(other, 0, SEEK_SET));
    SURE(dup2(other, 40));
    look(40, "forty", 3);
    int null = SURE(open("/dev/null", O_RDWR));
    SURE(dup2(null, 41));
    say("null %ld %ld", (long)read(41, line, 5), (long)write(41, "x", 1));
    checkpoint();
    look(other, "other", 3);
    look(four, "four", 3);
    say("flags %x", fcntl(four, F_SETFL, O_APPEND | O_NONBLOCK));
    say("appending %ld", (long)write(four, "!", 1));
    say("flags %x %x", fcntl(early, F_GETFL), fcntl(four, F_GETFD));
    SURE(close_range(40, 100, 0));
    say("gone %ld %s", (long)read(four, line, 1), strerror(errno));
    look(early, "early", 3);
    whole("shared");
}
static void between(void) {
    int file = fresh("source", "0123456789abcdefghij"), target = fresh("target", "");
    int ends[2], sockets[2];
    SURE(pipe(ends));
    SURE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
    checkpoint();
    SURE(lseek(file, 0, SEEK_SET));
    say("sendfile %ld", (long)sendfile(ends[1], file, NULL, 4));
    look(ends[0], "pipe", 10);
    look(file, "file", 2);
    say("splice %ld", (long)splice(file, NULL, ends[1], NULL, 3, 0));
    look(file, "file", 1);
    look(ends[0], "pipe", 10);
    SURE(write(ends[1], "from the pipe", 13));
    say("splice %ld", (long)splice(ends[0], NULL, target, NULL, 20, 0));
    say("target at %ld", (long)lseek(target, 0, SEEK_CUR));
    checkpoint();
    say("copied %ld", (long)copy_file_range(file, NULL, target, NULL, 5, 0));
    say("at %ld %ld", (long)lseek(file, 0, SEEK_CUR), (long)lseek(target, 0, SEEK_CUR));
    int left = -1;
    SURE(ioctl(file, FIONREAD, &left));
    say("left %d", left);
    struct pollfd one = {file, POLLIN | POLLOUT, 0};
    say("poll %d %x", poll(&one, 1, 0), one.revents);
    /* the open file as such goes to another process, here by way of this one */
    char room[CMSG_SPACE(sizeof file)] = {0}, byte = 'x';
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(sizeof file), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &file, sizeof file);
    say("sent %ld", (long)sendmsg(sockets[0], &message, 0));
    memset(room, 0, sizeof room);
    say("received %ld", (long)recvmsg(sockets[1], &message, 0));
    int got;
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
    SURE(lseek(file, 1, SEEK_SET));
    look(got, "got", 3);
    look(file, "file", 3);
    checkpoint();
    look(got, "got", 3);
    whole("target");
}
static void unnamed(void) {
    int file = fresh("short", "lives on");
    checkpoint();
    int other = fresh("brief", "me too");
    SURE(unlink("short"));
    SURE(unlink("brief"));
    SURE(lseek(file, 0, SEEK_SET));
    look(file, "file", 5);
    SURE(lseek(other, 0, SEEK_SET));
    look(other, "other", 2);
    checkpoint();
    look(file, "file", 5);
    look(other, "other", 5);
}
static void related(void) {
    int file = fresh("both of us", "abcdefghijklmnop");
    SURE(lseek(file, 0, SEEK_SET));
    int ends[2];
    SURE(pipe(ends));
    pid_t child = SURE(fork());
    if (child == 0) {
        close(ends[1]);
        for (char byte; read(ends[0], &byte, 1) == 1;) SURE(lseek(file, 1, SEEK_CUR));
        _exit(7);
    }
    checkpoint();
    look(file, "mine", 2);
    SURE(write(ends[1], "x", 1));
    while (lseek(file, 0, SEEK_CUR) != 3) usleep(1000);
    look(file, "after the child", 2);
    checkpoint();
    SURE(close(ends[1]));
    int status;
    SURE(waitpid(child, &status, 0));
    look(file, "alone", 20);
}
static void forks(void) {
    int file = fresh("later", "abcdefghijklmnop");
    checkpoint();
    SURE(lseek(file, 0, SEEK_SET));
    look(file, "mine", 2);
    pid_t child = SURE(fork());
    if (child == 0) {
        look(file, "child", 3);
        _exit(0);
    }
    int status;
    SURE(waitpid(child, &status, 0));
    look(file, "after", 3);
    checkpoint();
    look(file, "again", 3);
}
static void maps(void) {
    int file = fresh("mapped", "0123456789");
    checkpoint();
    SURE(pwrite(file, "XY", 2, 3));
    char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    say("mapped %.10s", at);
    at[0] = 'Z';
    SURE(lseek(file, 2, SEEK_SET));
    checkpoint();
    say("mapped %.10s", at);
    look(file, "file", 4);
    whole("mapped");
}
static void locks(void) {
    int file = fresh("locked", "0123456789");
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3};
    SURE(fcntl(file, F_SETLK, &range));
    checkpoint();
    SURE(lseek(file, 5, SEEK_SET));
    struct flock here = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 1, .l_len = 2};
    say("locked %d", fcntl(file, F_SETLK, &here));
    say("flock %d", flock(file, LOCK_EX));
    look(file, "file", 2);
    checkpoint();
    pid_t child = SURE(fork());
    if (child == 0) {
        struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        SURE(fcntl(file, F_GETLK, &all));
        say("held from %ld for %ld", (long)all.l_start, (long)all.l_len);
        _exit(0);
    }
    SURE(waitpid(child, NULL, 0));
    look(file, "file", 2);
}
static void many(void) {
    static int files[300];
    char name[32];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "file %d", i);
        files[i] = fresh(name, name);
        if (i == 100) checkpoint();
        if (i == 200) checkpoint();
    }
    checkpoint();
    long sum = 0;
    for (int i = 0; i < 300; i++) {
        sum += lseek(files[i], 0, SEEK_CUR);
        lseek(files[i], 5, SEEK_SET);
        sum += read(files[i], line, 100) * 1000;
        if (i % 3 == 0) close(files[i]);
    }
    say("sum %ld", sum);
    checkpoint();
    for (int i = 0; i < 300; i++) sum = sum * 3 + lseek(files[i], 0, SEEK_CUR);
    say("sum %lx", sum);
}
static void exits(void) {
    int file = fresh("last", "");
    checkpoint();
    SURE(write(file, "written last", 12));
    exit(3);
}
static void execs(void) {
    int file = fresh("handed on", "abcdefgh");
    SURE(dup2(file, 0 + 9));
    checkpoint();
    SURE(lseek(file, 3, SEEK_SET));
    execl("/bin/sh", "sh", "-c", "cat <&9; echo; echo end", NULL);
}
static void grows(void) {
    int file = fresh("large", "");
    static char block[65536];
    checkpoint();
    unsigned long sum = 0;
    for (int i = 0; i < 200; i++) {
        memset(block, 'a' + i % 26, sizeof block);
        SURE(write(file, block, 1 + i * 327 % sizeof block));
    }
    checkpoint();
    SURE(lseek(file, 0, SEEK_SET));
    for (long count; (count = SURE(read(file, block, 5000))) > 0;)
        for (long i = 0; i < count; i++) sum = sum * 31 + (unsigned char)block[i];
    say("sum %lx at %ld", sum, (long)lseek(file, 0, SEEK_CUR));
    struct stat about;
    SURE(fstat(file, &about));
    say("size %ld", (long)about.st_size);
    checkpoint();
    say("allocated %d", fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
    struct rlimit small = {100000, 100000};
    SURE(setrlimit(RLIMIT_FSIZE, &small));
    signal(SIGXFSZ, SIG_IGN);
    say("too much %ld %s", (long)pwrite(file, block, 100, 200000), strerror(errno));
}

static const struct scenario all[] = {
    {"before", before}, {"away", away}, {"copies", copies}, {"between", between}, {"unnamed", unnamed},
    {"related", related}, {"forks", forks}, {"maps", maps}, {"locks", locks}, {"many", many},
    {"exits", exits}, {"execs", execs}, {"grows", grows},
    {NULL, NULL},
};

int main(int words, char **word) {
    signal(SIGPIPE, SIG_IGN);
    return run_scenario(all, words > 1 ? word[1] : "");
}
