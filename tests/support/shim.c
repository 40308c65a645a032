/* Faults in the file calls of a process, one at a chosen point.

   FAULT_DIR   only calls on files below this folder count
   FAULT_AT    the number of the call to fault (from 1); 0 or unset: only count
   FAULT_MODE  before | after | torn | eio | enospc
   FAULT_LOG   file that receives "count N" at exit and "fired N CALL" when the fault fires

   Preloaded with LD_PRELOAD. SQLite and Python both call these libc functions. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long calls = 0;

static int below(const char *path) {
    const char *dir = getenv("FAULT_DIR");
    return dir != NULL && strncmp(path, dir, strlen(dir)) == 0;
}

static int watched(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

static void say(const char *what, long number, const char *call) {
    const char *log = getenv("FAULT_LOG");
    if (log == NULL) return;
    char line[128];
    int n = snprintf(line, sizeof line, "%s %ld %s\n", what, number, call);
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        syscall(SYS_write, fd, line, n);
        syscall(SYS_close, fd);
    }
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* 0: go on; 1: the call must fail with errno set; 2: do half of it and die; 3: do it and die. */
static int fault(const char *call) {
    long number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    const char *at = getenv("FAULT_AT");
    if (at == NULL || atol(at) != number) return 0;
    const char *mode = getenv("FAULT_MODE");
    say("fired", number, call);
    if (strcmp(mode, "before") == 0) die();
    if (strcmp(mode, "torn") == 0) return 2;
    if (strcmp(mode, "after") == 0) return 3;
    errno = strcmp(mode, "enospc") == 0 ? ENOSPC : EIO;
    return 1;
}

__attribute__((destructor)) static void count(void) { say("count", calls, "-"); }

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

#define ON_FD(name) \
    int name(int fd) { \
        REAL(int, name, int); \
        int f = watched(fd) ? fault(#name) : 0; \
        if (f == 1) return -1; \
        if (f == 2) die(); \
        int done = real(fd); \
        if (f) die(); \
        return done; \
    }
ON_FD(fsync)
ON_FD(fdatasync)

static int truncating(int fd, off64_t size, int (*real)(int, off64_t)) {
    int f = watched(fd) ? fault("ftruncate") : 0;
    if (f == 1) return -1;
    if (f == 2) die();
    int done = real(fd, size);
    if (f) die();
    return done;
}

int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    return truncating(fd, size, real);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    int f = below(from) ? fault("rename") : 0;
    if (f == 1) return -1;
    if (f == 2) die();
    int done = real(from, to);
    if (f) die();
    return done;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    int f = below(path) ? fault("unlink") : 0;
    if (f == 1) return -1;
    if (f == 2) die();
    int done = real(path);
    if (f) die();
    return done;
}
