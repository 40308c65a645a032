/* Faults in the file calls of a process, one at a chosen point. Preloaded with LD_PRELOAD.

   fault_arm(dir, at, mode, log)   from now on, fault the at-th call on a file below `dir`
                                   (0: only count); says "fired AT CALL" in the file `log`
   fault_count()                   calls so far

   A command that cannot be made to call fault_arm is armed by its environment: FAULT_BELOW,
   FAULT_AT, FAULT_MODE, FAULT_LOG.

   mode: before | after | torn     kill the process before, after or half-way through the call
         eio | enospc              the call fails once
         eio-ever | enospc-ever    it and every later one fail
         short                     only writes are counted; this one takes half of its bytes
         stop                      the process stops before the call, until it is told to go on
         stop-unsynced             the same, and no sync ever reaches the disk
         slow                      every sync takes 50 ms more, the at-th call 2 s more
         record                    nothing fails; every call goes into `log`, in its true order
                                   (tests/support/powercut.py reads it)

   SQLite and Python both call these libc functions. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long calls = 0, point = 0;
static int recording = 0;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX], wanted[32], told[PATH_MAX];

void fault_arm(const char *dir, long at, const char *mode, const char *log) {
    calls = 0;
    point = at;
    snprintf(folder, sizeof folder, "%s", dir);
    snprintf(wanted, sizeof wanted, "%s", mode);
    snprintf(told, sizeof told, "%s", log);
    recording = strcmp(mode, "record") == 0;
}

__attribute__((constructor)) static void by_environment(void) {
    const char *dir = getenv("FAULT_BELOW"), *at = getenv("FAULT_AT"), *mode = getenv("FAULT_MODE"),
               *log = getenv("FAULT_LOG");
    if (dir && at && mode && log) fault_arm(dir, atol(at), mode, log);
}

long fault_count(void) { return calls; }

static int below(const char *path) {
    return folder[0] != 0 && strncmp(path, folder, strlen(folder)) == 0;
}

/* The file of an open descriptor; 0 if it is none of ours. */
static int path_of(int fd, char *path) {
    char link[64];
    if (folder[0] == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

static int watched(int fd) {
    char path[PATH_MAX];
    return path_of(fd, path);
}

/* One entry of the record: "OP OFFSET SIZE LENGTH-OF-PATH LENGTH-OF-OTHER\n" PATH OTHER DATA */
static void note(const char *op, const char *path, const char *other, int64_t at, const void *data,
                 size_t size) {
    static int fd = -1;
    char head[128];
    if (fd < 0) fd = syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int n = snprintf(head, sizeof head, "%s %lld %zu %zu %zu\n", op, (long long)at,
                     data ? size : 0, strlen(path), strlen(other));
    syscall(SYS_write, fd, head, n);
    syscall(SYS_write, fd, path, strlen(path));
    syscall(SYS_write, fd, other, strlen(other));
    while (data && size) {
        ssize_t done = syscall(SYS_write, fd, data, size);
        if (done <= 0) break;
        data = (const char *)data + done;
        size -= done;
    }
}

static void say(long number, const char *call) {
    char line[128];
    int n = snprintf(line, sizeof line, "fired %ld %s\n", number, call);
    int fd = syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, n);
    syscall(SYS_close, fd);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* 0: go on; 1: the call must fail with errno set; 2: do half of it and die; 3: do it and die;
   4: do half of it and say so. */
static int fault(const char *call) {
    if (strcmp(wanted, "short") == 0 && strstr(call, "write") == NULL) return 0;
    long number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (strcmp(wanted, "slow") == 0) {
        if (strstr(call, "sync")) usleep(50 * 1000);
        if (number != point) return 0;
        say(number, call);
        usleep(2 * 1000 * 1000);
        return 0;
    }
    int ever = strstr(wanted, "-ever") != NULL;
    if (point == 0 || number < point || (number > point && !ever)) return 0;
    if (number == point) say(number, call);
    if (strncmp(wanted, "stop", 4) == 0) {
        syscall(SYS_kill, getpid(), SIGSTOP);
        return 0;
    }
    if (strcmp(wanted, "before") == 0) die();
    if (strcmp(wanted, "torn") == 0) return 2;
    if (strcmp(wanted, "after") == 0) return 3;
    if (strcmp(wanted, "short") == 0) return 4;
    errno = strncmp(wanted, "enospc", 6) == 0 ? ENOSPC : EIO;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__) = NULL; \
    if (real == NULL) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    char path[PATH_MAX];
    if (recording && path_of(fd, path)) {
        pthread_mutex_lock(&order);
        off_t at = fcntl(fd, F_GETFL) & O_APPEND ? -1 : lseek(fd, 0, SEEK_CUR);
        ssize_t wrote = real(fd, data, size);
        if (wrote > 0) note("write", path, "", at, data, wrote);
        pthread_mutex_unlock(&order);
        return wrote;
    }
    int f = watched(fd) ? fault("write") : 0;
    if (f == 1) return -1;
    ssize_t done = real(fd, data, f == 2 ? size / 2 : f == 4 ? (size + 1) / 2 : size);
    if (f && f != 4) die();
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    char path[PATH_MAX];
    if (recording && path_of(fd, path)) {
        pthread_mutex_lock(&order);
        ssize_t wrote = real(fd, data, size, at);
        if (wrote > 0) note("write", path, "", at, data, wrote);
        pthread_mutex_unlock(&order);
        return wrote;
    }
    int f = watched(fd) ? fault("pwrite") : 0;
    if (f == 1) return -1;
    ssize_t done = real(fd, data, f == 2 ? size / 2 : f == 4 ? (size + 1) / 2 : size, at);
    if (f && f != 4) die();
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return pwrite64(fd, data, size, at);
}

/* A call that has no half: torn means before. FAILED is what it returns when it fails, NOTE what
   the record says of it. */
#define WHOLE(name, matters, failed, parameters, arguments, NOTE) \
    int name parameters { \
        static int (*real) parameters = NULL; \
        if (real == NULL) real = dlsym(RTLD_NEXT, #name); \
        char path_[PATH_MAX]; \
        (void)path_; \
        if (recording) { \
            pthread_mutex_lock(&order); \
            int done = arguments; \
            if (done == 0 && (matters)) NOTE; \
            pthread_mutex_unlock(&order); \
            return done; \
        } \
        int f = (matters) ? fault(#name) : 0; \
        if (f == 1) return failed; \
        if (f == 2) die(); \
        int done = arguments; \
        if (f) die(); \
        return done; \
    }

#define OF(fd) path_of(fd, path_)
/* A sync, or none where none is wanted. */
#define SYNC(fd) (strcmp(wanted, "stop-unsynced") == 0 && watched(fd) ? 0 : real(fd))
WHOLE(fsync, OF(fd), -1, (int fd), SYNC(fd), note("sync", path_, "", 0, NULL, 0))
WHOLE(fdatasync, OF(fd), -1, (int fd), SYNC(fd), note("sync", path_, "", 0, NULL, 0))
WHOLE(ftruncate64, OF(fd), -1, (int fd, off64_t size), real(fd, size),
      note("cut", path_, "", size, NULL, 0))
WHOLE(ftruncate, OF(fd), -1, (int fd, off_t size), real(fd, size),
      note("cut", path_, "", size, NULL, 0))
WHOLE(posix_fallocate64, OF(fd), errno, (int fd, off64_t at, off64_t size), real(fd, at, size), (void)0)
WHOLE(posix_fallocate, OF(fd), errno, (int fd, off_t at, off_t size), real(fd, at, size), (void)0)
WHOLE(rename, below(from), -1, (const char *from, const char *to), real(from, to),
      note("rename", from, to, 0, NULL, 0))
WHOLE(link, below(to), -1, (const char *from, const char *to), real(from, to), (void)0)
WHOLE(unlink, below(path), -1, (const char *path), real(path), note("unlink", path, "", 0, NULL, 0))
WHOLE(mkdir, below(path), -1, (const char *path, mode_t mode), real(path, mode),
      note("mkdir", path, "", 0, NULL, 0))

/* Opening is never faulted; the record wants to know which files are made or emptied by it. */
static int opened(int (*real)(int, const char *, int, ...), int dir, const char *path, int flags,
                  mode_t mode) {
    if (!recording || !(flags & (O_CREAT | O_TRUNC))) return real(dir, path, flags, mode);
    char full[PATH_MAX];
    pthread_mutex_lock(&order);
    int there = faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = real(dir, path, flags, mode);
    if (fd >= 0 && path_of(fd, full)) {
        if (!there) note("make", full, "", 0, NULL, 0);
        else if (flags & O_TRUNC) note("cut", full, "", 0, NULL, 0);
    }
    pthread_mutex_unlock(&order);
    return fd;
}

#define OPEN(name, before, dir) \
    int name(before const char *path, int flags, ...) { \
        static int (*real)(int, const char *, int, ...) = NULL; \
        if (real == NULL) real = dlsym(RTLD_NEXT, "openat64"); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return opened(real, dir, path, flags, mode); \
    }
#define NOTHING
#define DIRECTORY int at,
OPEN(open, NOTHING, AT_FDCWD)
OPEN(open64, NOTHING, AT_FDCWD)
OPEN(openat, DIRECTORY, at)
OPEN(openat64, DIRECTORY, at)
