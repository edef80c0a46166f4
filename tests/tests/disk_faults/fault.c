/* Makes calls on files below FAULT_DIR fail, as the four numbers in FAULT_FILE say: which calls (a bit each), errno, how
 * many of them still succeed, how many then fail. For LD_PRELOAD; the numbers are shared memory, changed while it runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, CREATE = 8, READ = 16, TRUNCATE = 32 };
static volatile int *control;
static const char *dir;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULT_FILE");
    dir = getenv("FAULT_DIR");
    int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *at = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED) control = at;
        close(fd);
    }
}

static int ours(int fd, const char *path) {
    char link[64], real[PATH_MAX];
    if (!path) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, real, sizeof real - 1);
        if (n < 0) return 0;
        real[n] = 0;
        path = real;
    }
    return dir && strncmp(path, dir, strlen(dir)) == 0;
}

static int fails(int call, int fd, const char *path) {
    int before = errno;
    if (!control || !(control[0] & call) || !ours(fd, path)) { errno = before; return 0; }
    if (__sync_fetch_and_sub(&control[2], 1) > 0) { errno = before; return 0; }
    if (__sync_fetch_and_sub(&control[3], 1) <= 0) { errno = before; return 0; }
    errno = control[1];
    return 1;
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *b, size_t n) { NEXT(write); return fails(WRITE, fd, 0) ? -1 : next(fd, b, n); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { NEXT(pwrite64); return fails(WRITE, fd, 0) ? -1 : next(fd, b, n, o); }
ssize_t read(int fd, void *b, size_t n) { NEXT(read); return fails(READ, fd, 0) ? -1 : next(fd, b, n); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o) { NEXT(pread64); return fails(READ, fd, 0) ? -1 : next(fd, b, n, o); }
int fsync(int fd) { NEXT(fsync); return fails(SYNC, fd, 0) ? -1 : next(fd); }
int fdatasync(int fd) { NEXT(fdatasync); return fails(SYNC, fd, 0) ? -1 : next(fd); }
int rename(const char *a, const char *b) { NEXT(rename); return fails(RENAME, -1, b) ? -1 : next(a, b); }
int ftruncate64(int fd, off64_t n) { NEXT(ftruncate64); return fails(TRUNCATE, fd, 0) ? -1 : next(fd, n); }
int open64(const char *path, int flags, ...) {
    NEXT(open64);
    va_list list;
    va_start(list, flags);
    int mode = va_arg(list, int);
    va_end(list);
    if ((flags & O_CREAT) && fails(CREATE, -1, path)) return -1;
    return next(path, flags, mode);
}
