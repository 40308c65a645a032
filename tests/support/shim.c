/* Faults in the file calls of a process, one at a chosen point. Preloaded with LD_PRELOAD.

   fault_arm(dir, at, mode, log)   from now on, fault the at-th call on a file below `dir`
                                   (0: only count); says "fired AT CALL" in the file `log`
   fault_count()                   calls so far

   mode: before | after | torn     kill the process before, after or half-way through the call
         eio | enospc              the call fails once
         eio-ever | enospc-ever    it and every later one fail

   SQLite and Python both call these libc functions. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long calls = 0, point = 0;
static char folder[PATH_MAX], wanted[32], told[PATH_MAX];

void fault_arm(const char *dir, long at, const char *mode, const char *log) {
    calls = 0;
    point = at;
    snprintf(folder, sizeof folder, "%s", dir);
    snprintf(wanted, sizeof wanted, "%s", mode);
    snprintf(told, sizeof told, "%s", log);
}

long fault_count(void) { return calls; }

static int below(const char *path) {
    return folder[0] != 0 && strncmp(path, folder, strlen(folder)) == 0;
}

static int watched(int fd) {
    char link[64], path[PATH_MAX];
    if (folder[0] == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
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

/* 0: go on; 1: the call must fail with errno set; 2: do half of it and die; 3: do it and die. */
static int fault(const char *call) {
    long number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    int ever = strstr(wanted, "-ever") != NULL;
    if (point == 0 || number < point || (number > point && !ever)) return 0;
    if (number == point) say(number, call);
    if (strcmp(wanted, "before") == 0) die();
    if (strcmp(wanted, "torn") == 0) return 2;
    if (strcmp(wanted, "after") == 0) return 3;
    errno = strncmp(wanted, "enospc", 6) == 0 ? ENOSPC : EIO;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__) = NULL; \
    if (real == NULL) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    int f = watched(fd) ? fault("write") : 0;
    if (f == 1) return -1;
    ssize_t done = real(fd, data, f == 2 ? size / 2 : size);
    if (f) die();
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    int f = watched(fd) ? fault("pwrite") : 0;
    if (f == 1) return -1;
    ssize_t done = real(fd, data, f == 2 ? size / 2 : size, at);
    if (f) die();
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return pwrite64(fd, data, size, at);
}

/* A call that has no half: torn means before. FAILED is what it returns when it fails. */
#define WHOLE(name, matters, failed, parameters, arguments) \
    int name parameters { \
        static int (*real) parameters = NULL; \
        if (real == NULL) real = dlsym(RTLD_NEXT, #name); \
        int f = (matters) ? fault(#name) : 0; \
        if (f == 1) return failed; \
        if (f == 2) die(); \
        int done = real arguments; \
        if (f) die(); \
        return done; \
    }

WHOLE(fsync, watched(fd), -1, (int fd), (fd))
WHOLE(fdatasync, watched(fd), -1, (int fd), (fd))
WHOLE(ftruncate64, watched(fd), -1, (int fd, off64_t size), (fd, size))
WHOLE(ftruncate, watched(fd), -1, (int fd, off_t size), (fd, size))
WHOLE(posix_fallocate64, watched(fd), errno, (int fd, off64_t at, off64_t size), (fd, at, size))
WHOLE(posix_fallocate, watched(fd), errno, (int fd, off_t at, off_t size), (fd, at, size))
WHOLE(rename, below(from), -1, (const char *from, const char *to), (from, to))
WHOLE(unlink, below(path), -1, (const char *path), (path))
WHOLE(mkdir, below(path), -1, (const char *path, mode_t mode), (path, mode))
