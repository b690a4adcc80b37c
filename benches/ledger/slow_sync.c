/* Makes every sync of a process take SLOW_SYNC_US microseconds longer, as on a slower disk:
   LD_PRELOAD=slow_sync.so SLOW_SYNC_US=1000 at_size wait DIR. What `make bench-ledger` measures
   waiting with. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int synced_later(const char *name, int file) {
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = sync(file);
    const char *micros = getenv("SLOW_SYNC_US");
    nanosleep(&(struct timespec){0, micros ? atol(micros) * 1000 : 0}, 0);
    return result;
}

int fdatasync(int file) { return synced_later("fdatasync", file); }

int fsync(int file) { return synced_later("fsync", file); }
