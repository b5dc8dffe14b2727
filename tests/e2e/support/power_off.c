/* Shuts an ext4 file system down as a power cut would: what is not on disk yet is dropped (EXT4_IOC_SHUTDOWN with
 * EXT4_GOING_FLAGS_NOLOGFLUSH). The argument is where it is mounted. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int argc, char **argv) {
    uint32_t without_flush = 2;
    int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0 || ioctl(fd, _IOR('X', 125, uint32_t), &without_flush) != 0) {
        perror("power_off");
        return 1;
    }
    return 0;
}
