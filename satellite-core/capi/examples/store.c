/* A store without a network: files go in as blobs, ranges of them come out. */
#include "common.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

static const char usage[] =
    "usage: store DIR put REPOSITORY DIGEST FILE   stores a file whose digest is known (sha256:...)\n"
    "       store DIR read DIGEST [OFFSET LENGTH]  writes a blob, or a range of it, to standard output\n"
    "       store DIR list                         images: repository, tag, digest, media type\n"
    "       store DIR verify                       reads everything again\n"
    "       store DIR gc [SECONDS]                 deletes what nothing refers to and is older\n";

static int put(satellite_store store, const char *repository, const char *digest, const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    int code;

    if (fd < 0) {
        perror(file);
        return 1;
    }
    code = satellite_blob_put_fd(store, repository, digest, fd);
    close(fd);
    return code == SATELLITE_OK ? 0 : failed("put");
}

static int read_blob(satellite_store store, const char *digest, uint64_t offset, uint64_t length)
{
    static uint8_t buffer[64 * 1024];
    size_t got;

    while (length > 0) {
        size_t room = length < sizeof buffer ? (size_t)length : sizeof buffer;

        if (satellite_blob_read(store, digest, offset, buffer, room, &got) != SATELLITE_OK)
            return failed("read");
        if (got == 0)
            break;
        if (fwrite(buffer, 1, got, stdout) != got) {
            perror("standard output");
            return 1;
        }
        offset += got;
        length -= got;
    }
    return 0;
}

static int print_image(void *context, const struct satellite_image *image)
{
    (void)context;
    printf("%s %s %s %s\n", image->repository, image->tag ? image->tag : "-", image->digest, image->media_type);
    return 0;
}

static int print_finding(void *context, const char *finding)
{
    (void)context;
    puts(finding);
    return 0;
}

static int command(satellite_store store, int argc, char **argv)
{
    uint64_t count = 0;

    if (argc == 4 && strcmp(argv[0], "put") == 0)
        return put(store, argv[1], argv[2], argv[3]);
    if (argc == 2 && strcmp(argv[0], "read") == 0)
        return read_blob(store, argv[1], 0, UINT64_MAX);
    if (argc == 4 && strcmp(argv[0], "read") == 0)
        return read_blob(store, argv[1], strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    if (argc == 1 && strcmp(argv[0], "list") == 0)
        return satellite_image_list(store, print_image, NULL) == SATELLITE_OK ? 0 : failed("list");
    if (argc == 1 && strcmp(argv[0], "verify") == 0) {
        if (satellite_store_verify(store, SATELLITE_MEND_NOTHING, print_finding, NULL, &count) != SATELLITE_OK)
            return failed("verify");
        printf("%" PRIu64 " findings\n", count);
        return count == 0 ? 0 : 1;
    }
    if ((argc == 1 || argc == 2) && strcmp(argv[0], "gc") == 0) {
        if (satellite_store_gc(store, argc == 2 ? strtoll(argv[1], NULL, 10) : -1, &count) != SATELLITE_OK)
            return failed("gc");
        printf("%" PRIu64 " bytes freed\n", count);
        return 0;
    }
    fputs(usage, stderr);
    return 2;
}

int main(int argc, char **argv)
{
    satellite_store store;
    int code;

    if (argc < 3) {
        fputs(usage, stderr);
        return 2;
    }
    if (check_version() != 0)
        return 1;
    if (satellite_store_open(argv[1], NULL, &store) != SATELLITE_OK)
        return failed("open");
    code = command(store, argc - 2, argv + 2);
    if (satellite_store_close(store) != SATELLITE_OK)
        return failed("close");
    return code;
}
