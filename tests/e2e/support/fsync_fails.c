/* Preloaded into a server. While the file that FSYNC_FAILS_IF names exists, every fsync and fdatasync fails with EIO; while
   the file that FSYNC_DELAY names exists, each takes so many milliseconds more as are written in it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int fails(void) {
    const char *file = getenv("FSYNC_FAILS_IF");
    return file != NULL && access(file, F_OK) == 0;
}

static void delay(void) {
    const char *name = getenv("FSYNC_DELAY");
    FILE *file = name == NULL ? NULL : fopen(name, "r");
    long milliseconds = 0;
    if (file == NULL) {
        return;
    }
    if (fscanf(file, "%ld", &milliseconds) == 1 && milliseconds > 0) {
        struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
        nanosleep(&time, NULL);
    }
    fclose(file);
}

static int sync_with(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (fails()) {
        errno = EIO;
        return -1;
    }
    delay();
    return real(fd);
}

int fsync(int fd) { return sync_with("fsync", fd); }

int fdatasync(int fd) { return sync_with("fdatasync", fd); }
