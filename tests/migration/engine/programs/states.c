/* Memory, descriptors, identity, children: what a process sees of itself; moved at every checkpoint. */
#include "say.h"
#include <dirent.h>
#include <netinet/in.h>
#include <dlfcn.h>
#include <immintrin.h>
#include <pthread.h>
#include <sys/personality.h>
#include <sys/wait.h>

static unsigned long sum(const unsigned char *at, size_t length) {
    unsigned long total = 0;
    for (size_t i = 0; i < length; i++) total = total * 31 + at[i];
    return total;
}

static void heap(void) {
    unsigned char *pieces[200];
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 200; i++) {
            size_t size = (i * 7919 + round * 104729) % 90000 + 1;
            pieces[i] = malloc(size);
            memset(pieces[i], i + round, size);
        }
        checkpoint();
        unsigned long total = 0;
        for (int i = 0; i < 200; i++) {
            size_t size = (i * 7919 + round * 104729) % 90000 + 1;
            total += sum(pieces[i], size);
            if ((i + round) % 3) free(pieces[i]);
            else pieces[i] = realloc(pieces[i], size * 2);
        }
        say("%lu", total);
    }
}

static void maps(void) {
    unsigned char *a = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *sparse = mmap(NULL, 64UL << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int i = 0; i < 1 << 20; i++) a[i] = i >> 3;
    for (int i = 0; i < 6; i++) {
        checkpoint();
        unsigned char *b = mmap(NULL, 300000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(b, i, 300000);
        SURE(mprotect(a + i * 4096, 4096, i % 2 ? PROT_READ : PROT_NONE));
        SURE(mprotect(sparse + ((long)i << 32), 8192, PROT_READ | PROT_WRITE));
        sparse[((long)i << 32) + 5000] = i + 1;
        checkpoint();
        b = mremap(b, 300000, 900000, MREMAP_MAYMOVE);
        say("%lu", sum(b, 900000));
        SURE(mprotect(a + i * 4096, 4096, PROT_READ | PROT_WRITE));
        say("%lu %d", sum(a, 1 << 20), sparse[((long)i << 32) + 5000]);
        SURE(munmap(b + 4096, 8192));
        SURE(madvise(a + 65536, 8192, MADV_DONTNEED));
        unsigned char *old = sbrk(50000);
        memset(old, 3, 50000);
    }
    say("%lu", sum(a, 1 << 20));
}

static int deep(int n) {
    volatile char room[8192];
    memset((void *)room, n, sizeof room);
    int below = n > 0 ? deep(n - 1) : 0;
    return below + room[n % 8192];
}
static void stack(void) {
    for (int i = 1; i <= 6; i++) {
        checkpoint();
        say("%d", deep(i * 80));
    }
}

static void shared(void) {
    unsigned char *mine = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int file = SURE(open("mapped", O_CREAT | O_RDWR, 0600));
    for (int i = 0; i < 4096; i++) SURE(write(file, "content", 7));
    const unsigned char *read_only = mmap(NULL, 28672, PROT_READ, MAP_SHARED, file, 0);
    unsigned char *copy = mmap(NULL, 28672, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    copy[5000] = 'X';
    for (int i = 0; i < 5; i++) {
        memset(mine + i * 4096, i + 1, 4096);
        checkpoint();
        copy[i * 4096 + 1] = 'Y';
        say("%lu %lu %lu", sum(mine, 65536), sum(read_only, 28672), sum(copy, 28672));
    }
}

static void map_files(void) {
    for (int i = 0; i < 4; i++) {
        checkpoint();
        void *math = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        double (*cosine)(double) = math ? (double (*)(double))dlsym(math, "cos") : NULL;
        say("%.12f", cosine ? cosine(i) : 9.0);
        int file = SURE(open("mapped", O_CREAT | O_RDWR, 0600));
        SURE(ftruncate(file, 8192));
        char *there = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        there[4096 + i] = 'a' + i;
        munmap(there, 8192);
        char back[8];
        SURE(pread(file, back, 8, 4096));
        say("%.4s", back);
        close(file);
    }
}

static double vectors(void) {
    double result = 0;
    __m128d a = _mm_set_pd(1.5, 2.5);
    for (int i = 0; i < 1000; i++) a = _mm_add_pd(_mm_mul_pd(a, _mm_set1_pd(1.0000001)), _mm_set1_pd(0.25));
    double out[2];
    _mm_storeu_pd(out, a);
    result += out[0] * 3 + out[1];
    return result;
}
__attribute__((target("avx2"))) static unsigned long wide(volatile sig_atomic_t *flag) {
    __m256i x = _mm256_set_epi64x(1, 2, 3, 4), y = _mm256_set1_epi64x(0x9e3779b97f4a7c15);
    unsigned long rounds = 0;
    while (*flag == 0) {
        x = _mm256_xor_si256(_mm256_add_epi64(x, y), _mm256_srli_epi64(x, 7));
        if (++rounds == 30000000) break;
    }
    unsigned long out[4];
    _mm256_storeu_si256((void *)out, x);
    return out[0] ^ out[1] ^ out[2] ^ out[3];
}
static void floating(void) {
    static volatile sig_atomic_t never;
    unsigned short control = 0x0f7f, now; /* x87: round to zero */
    long double x = 1.0L;
    __asm__ volatile("fldcw %0" : : "m"(control));
    _mm_setcsr(_mm_getcsr() | 0x6000);
    for (int i = 0; i < 5; i++) {
        checkpoint();
        for (int j = 0; j < 1000; j++) x = x * 1.0001L + 0.1L / 3;
        __asm__ volatile("fnstcw %0" : "=m"(now));
        say("%.18Lf %x %x %.15f", x, now, _mm_getcsr() & 0x6000, vectors());
        if (__builtin_cpu_supports("avx2")) say("%lx", wide(&never));
    }
}

static void identity(void) {
    struct utsname name;
    char path[PATH_MAX];
    struct rlimit limit;
    cpu_set_t cpus;
    SURE(mkdir("inner", 0700));
    pid_t pid = getpid(), parent = getppid();
    time_t start = time(NULL);
    int64_t clock = nanoseconds(CLOCK_MONOTONIC), boot = nanoseconds(CLOCK_BOOTTIME), cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    clock_t ticks = times(&(struct tms){0});
    for (int i = 0; i < 6; i++) {
        checkpoint();
        SURE(uname(&name));
        say("%d %d %d %d", getpid() == pid, getppid() == parent, gettid() == pid, getpgrp() == pid);
        say("%d %d %d %d %d", getuid(), geteuid(), getgid(), getegid(), getsid(0) == getsid(parent) || getsid(0) == pid);
        say("%s %s %s", name.nodename, name.release, name.machine);
        gethostname(path, sizeof path);
        say("%s", path);
        say("%o", umask(027 + i));
        SURE(setpriority(PRIO_PROCESS, 0, i));
        say("%d", getpriority(PRIO_PROCESS, 0));
        limit = (struct rlimit){100 + i, 200};
        SURE(setrlimit(RLIMIT_NOFILE, &limit));
        SURE(getrlimit(RLIMIT_NOFILE, &limit));
        say("%lu %lu %ld", limit.rlim_cur, limit.rlim_max, sysconf(_SC_OPEN_MAX));
        SURE(sched_getaffinity(0, sizeof cpus, &cpus));
        say("%d %ld", CPU_COUNT(&cpus), sysconf(_SC_NPROCESSORS_ONLN));
        SURE(chdir(i % 2 ? ".." : "inner"));
        say("%s", strrchr(getcwd(path, sizeof path), '/'));
        int64_t clock_now = nanoseconds(CLOCK_MONOTONIC), boot_now = nanoseconds(CLOCK_BOOTTIME), cpu_now = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        clock_t ticks_now = times(&(struct tms){0});
        say("%d %d %d %d", clock_now >= clock, boot_now >= boot, ticks_now >= ticks, time(NULL) >= start);
        say("%d", clock_now - clock < 5000000000LL && cpu_now - cpu < 2000000000LL);
        clock = clock_now, boot = boot_now, cpu = cpu_now, ticks = ticks_now;
    }
}

/* Never back while it is away; at home the kernel's own figure counts, which knows of nothing else. */
static void cpu_time(void) {
    int64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), now = cpu, start = cpu;
    struct rusage usage = {0}, later;
    struct tms before = {0}, after;
    for (int i = 0; i < 3; i++) {
        checkpoint();
        for (int j = 0; j < 20; j++) {
            now = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
            SURE(getrusage(RUSAGE_SELF, &later));
            SURE(times(&after));
            int64_t ran = later.ru_utime.tv_sec * 1000000 + later.ru_utime.tv_usec - usage.ru_utime.tv_sec * 1000000 - usage.ru_utime.tv_usec;
            if (now < cpu || ran < 0 || after.tms_utime < before.tms_utime)
                say("back: %ld %ld %ld", (long)(now - cpu), (long)ran, after.tms_utime - before.tms_utime);
            cpu = now, usage = later, before = after;
            for (volatile int k = 0; k < 5000000; k++) {}
        }
    }
    say("%d", now - start > 1000000);
}

static void proc_self(void) {
    char line[512], name[64];
    for (int i = 0; i < 4; i++) {
        checkpoint();
        int in_text = 0, in_stack = 0, pid = -1;
        FILE *file = fopen("/proc/self/maps", "r");
        while (file && fgets(line, sizeof line, file)) {
            unsigned long start, end;
            sscanf(line, "%lx-%lx", &start, &end);
            if ((unsigned long)proc_self >= start && (unsigned long)proc_self < end) in_text = strstr(line, "states") != NULL;
            if ((unsigned long)line >= start && (unsigned long)line < end) in_stack = strstr(line, "rw-p") != NULL;
        }
        fclose(file);
        file = fopen("/proc/self/stat", "r");
        SURE(fscanf(file, "%d (%63[^)])", &pid, name));
        fclose(file);
        say("%d %d %d %s", in_text, in_stack, pid == getpid(), name);
        file = fopen("/proc/self/status", "r");
        long size = 0;
        while (fgets(line, sizeof line, file)) sscanf(line, "VmData: %ld", &size);
        fclose(file);
        ssize_t length = readlink("/proc/self/exe", line, sizeof line);
        line[length] = 0;
        say("%d %s", size > 50, strrchr(line, '/') ? "exe" : "no");
        snprintf(line, sizeof line, "/proc/%d/cmdline", getpid());
        file = fopen(line, "r");
        size_t count = fread(line, 1, sizeof line - 1, file);
        line[count] = 0;
        fclose(file);
        say("%zu %s", count > 0 ? strlen(strrchr(line, '/') + 1) : 0, line + strlen(line) + 1);
    }
}

static void *worker(void *argument) {
    *(int *)argument += 100;
    return argument;
}
static void children(void) {
    for (int i = 0; i < 4; i++) {
        int status, value = i;
        checkpoint();
        pid_t child = fork();
        if (child == 0) _exit(10 + i);
        say("%d %d", waitpid(child, &status, 0) == child, WEXITSTATUS(status));
        checkpoint();
        child = vfork();
        if (child == 0) {
            execlp("true", "true", NULL);
            _exit(1);
        }
        say("%d %d", waitpid(child, &status, 0) == child, WEXITSTATUS(status));
        checkpoint();
        fflush(stdout);
        say("%d", system("exit 5") >> 8);
        checkpoint();
        FILE *pipe = popen("echo from below", "r");
        char line[100] = "";
        say("%s", fgets(line, sizeof line, pipe) ? line : "nothing");
        say("%d", pclose(pipe));
        checkpoint();
        pthread_t thread;
        SURE(-pthread_create(&thread, NULL, worker, &value));
        pthread_join(thread, NULL);
        say("%d", value);
    }
}
static void becomes(void) {
    checkpoint();
    execlp("sh", "sh", "-c", "echo I am $0; exit 9", "another", NULL);
    die("exec");
}
static void environment(void) {
    SURE(setenv("WHERE", "set before", 1));
    checkpoint();
    say("%s", getenv("WHERE"));
    SURE(setenv("WHERE", "set away", 1));
    checkpoint();
    say("%s %d", getenv("WHERE"), getenv("PATH") != NULL);
    prctl(PR_SET_NAME, "renamed");
    checkpoint();
    char name[16];
    prctl(PR_GET_NAME, name);
    say("%s", name);
}

static void files(void) {
    char text[4096];
    int append = SURE(open("append", O_CREAT | O_RDWR | O_APPEND, 0600)), other = SURE(open("append", O_RDWR));
    int shared = SURE(open("shared", O_CREAT | O_RDWR, 0600)), copy = SURE(dup(shared));
    int gone = SURE(open("gone", O_CREAT | O_RDWR, 0600)), path = SURE(open(".", O_PATH));
    int memory = SURE(memfd_create("memory", 0)), zero = SURE(open("/dev/zero", O_RDONLY)), null = SURE(open("/dev/null", O_RDWR));
    int random = SURE(open("/dev/urandom", O_RDONLY));
    SURE(unlink("gone"));
    for (int i = 0; i < 30; i++) {
        sprintf(text, "entry%02d", i);
        close(SURE(open(text, O_CREAT | O_WRONLY, 0600)));
    }
    DIR *folder = opendir(".");
    for (int i = 0; i < 5; i++) {
        checkpoint();
        SURE(write(other, "AAAA", 4));
        SURE(write(append, "bb", 2));
        SURE(pwrite(memory, "memory", 6, i * 3));
        SURE(write(gone, "gone", 4));
        pid_t child = fork();
        if (child == 0) _exit(write(shared, "child", 5) != 5);
        waitpid(child, NULL, 0);
        say("%ld", (long)lseek(copy, 0, SEEK_CUR));
        SURE(write(copy, "parent", 6));
        struct stat about;
        SURE(fstat(gone, &about));
        say("%ld %ld", (long)about.st_size, (long)about.st_nlink);
        SURE(fstatat(path, "append", &about, 0));
        say("%ld %o", (long)about.st_size, about.st_mode);
        say("%zd %zd %zd %zd", read(zero, text, 100), write(null, text, 100), read(null, text, 100), read(random, text, 100));
        int entries = 0, letters = 0;
        for (struct dirent *entry; entries < 5 && (entry = readdir(folder));) entries++, letters += strlen(entry->d_name);
        say("%d", entries);
        say("%zd %.40s", pread(memory, text, 100, 0), text);
        int fresh = SURE(open("fresh", O_CREAT | O_TRUNC | O_RDWR, 0640));
        say("%d %d", fresh, fcntl(fresh, F_GETFD));
        SURE(dup2(fresh, 100 + i));
        struct iovec parts[3] = {{"one ", 4}, {"two ", 4}, {"three", 5}};
        say("%zd", writev(100 + i, parts, 3));
        close(fresh);
        SURE(rename("fresh", "older"));
        say("%d", access("fresh", F_OK));
    }
}

static void sockets(void) {
    int pair[2], set = SURE(epoll_create1(0)), event = SURE(eventfd(3, 0)), timer = SURE(timerfd_create(CLOCK_MONOTONIC, 0));
    int watch = SURE(inotify_init1(IN_NONBLOCK));
    char text[4096];
    struct epoll_event wanted = {EPOLLIN, {.u32 = 1}}, seen[4];
    SURE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    SURE(epoll_ctl(set, EPOLL_CTL_ADD, pair[0], &wanted));
    SURE(inotify_add_watch(watch, ".", IN_CREATE | IN_DELETE));
    int door = SURE(socket(AF_INET, SOCK_STREAM, 0)), udp = SURE(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, udp_at = at;
    socklen_t length = sizeof at;
    SURE(bind(door, (void *)&at, sizeof at));
    SURE(listen(door, 5));
    SURE(getsockname(door, (void *)&at, &length));
    SURE(bind(udp, (void *)&udp_at, sizeof udp_at));
    SURE(getsockname(udp, (void *)&udp_at, &length));
    for (int i = 0; i < 5; i++) {
        checkpoint();
        say("%d", epoll_wait(set, seen, 4, 0));
        SURE(send(pair[1], "packet", 6, 0));
        checkpoint();
        say("%d %d", epoll_wait(set, seen, 4, -1), seen[0].data.u32);
        say("%zd", recv(pair[0], text, sizeof text, 0));
        int caller = SURE(socket(AF_INET, SOCK_STREAM, 0)), yes = 1;
        SURE(setsockopt(caller, IPPROTO_TCP, 1, &yes, sizeof yes));
        SURE(connect(caller, (void *)&at, sizeof at));
        int callee = SURE(accept(door, NULL, NULL));
        SURE(send(caller, "hello over tcp", 14, 0));
        checkpoint();
        say("%zd %.14s", recv(callee, text, sizeof text, 0), text);
        SURE(shutdown(caller, SHUT_WR));
        say("%zd", recv(callee, text, sizeof text, 0));
        close(caller);
        close(callee);
        SURE(sendto(udp, "datagram", 8, 0, (void *)&udp_at, sizeof udp_at));
        struct sockaddr_in from = {0};
        length = sizeof from;
        say("%zd %d", recvfrom(udp, text, sizeof text, 0, (void *)&from, &length), from.sin_port == udp_at.sin_port);
        uint64_t value = 0;
        SURE(read(event, &value, 8));
        say("%lu", value);
        value = i + 5;
        SURE(write(event, &value, 8));
        struct itimerspec soon = {.it_value = {0, 5000000}};
        SURE(timerfd_settime(timer, 0, &soon, NULL));
        checkpoint();
        say("%zd %lu", read(timer, &value, 8), value);
        close(SURE(open("noticed", O_CREAT | O_WRONLY, 0600)));
        SURE(unlink("noticed"));
        say("%zd", read(watch, text, sizeof text));
    }
}

static void big_calls(void) {
    size_t size = 3 << 20;
    unsigned char *much = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++) much[i] = i * 13 + (i >> 11);
    for (int i = 0; i < 3; i++) {
        checkpoint();
        int file = SURE(open("big", O_CREAT | O_TRUNC | O_RDWR, 0600));
        say("%zd", write(file, much, size));
        SURE(lseek(file, 0, SEEK_SET));
        say("%zd %d", read(file, back, size), memcmp(much, back, size));
        close(file);
    }
    say("%ld", syscall(SYS_write, 1, 16, 10));
    say("%s", strerrorname_np(errno));
    say("%ld", syscall(SYS_pread64, 0, 16, 10, 0));
    say("%s", strerrorname_np(errno));
}

static const struct scenario all[] = {
    {"heap", heap}, {"maps", maps}, {"stack", stack}, {"shared", shared}, {"map_files", map_files},
    {"floating", floating}, {"identity", identity}, {"cpu_time", cpu_time}, {"proc_self", proc_self}, {"children", children},
    {"becomes", becomes}, {"environment", environment}, {"files", files}, {"sockets", sockets},
    {"big_calls", big_calls}, {NULL, NULL},
};

int main(int words, char **word) { return run_scenario(all, words > 1 ? word[1] : ""); }
