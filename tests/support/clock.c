/* The wall clock of a process, set by a file. Preloaded with LD_PRELOAD.

   CLOCK_OFFSET names a file of two signed 64-bit integers, nanoseconds: what is added to the wall
   clock, and what to the time since the machine's start. It is mapped, so a change holds at once in
   every process on it. Both grow when days pass, the first alone changes when a clock is set. The
   monotonic clock, by which processes wait, stands still in a sleeping machine and is left alone. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static int (*real)(clockid_t, struct timespec *) = NULL;
static volatile int64_t *offset = NULL;

__attribute__((constructor)) static void begin(void) {
    real = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CLOCK_OFFSET");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) _exit(99); /* a process on the true time would prove nothing */
    void *map = mmap(NULL, 2 * sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) _exit(99);
    offset = map;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    if (real == NULL) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    int wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (done == 0 && offset != NULL && (wall || id == CLOCK_BOOTTIME)) {
        int64_t all = at->tv_sec * SECOND + at->tv_nsec + offset[wall ? 0 : 1];
        at->tv_sec = all / SECOND;
        at->tv_nsec = all % SECOND;
    }
    return done;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL) *at = now.tv_sec;
    return now.tv_sec;
}
