/* Makes every sync of a process take a millisecond longer, as on a cloud volume:
   LD_PRELOAD=slow_sync.so at_size wait DIR. What `make bench-ledger` measures waiting with. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int synced_later(const char *name, int file) {
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = sync(file);
    nanosleep(&(struct timespec){0, 1000000}, 0);
    return result;
}

int fdatasync(int file) { return synced_later("fdatasync", file); }

int fsync(int file) { return synced_later("fsync", file); }
