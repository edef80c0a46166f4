/* Puts a blob into the store named on the command line and reads a range of it back. */
#include <stdio.h>
#include <string.h>

#include "satellite.h"

static int failed(const char *what)
{
    char text[512];
    satellite_last_error(text, sizeof text);
    fprintf(stderr, "%s: %s\n", what, text);
    return 1;
}

int main(int argc, char **argv)
{
    static const char digest[] = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    uint64_t store;
    uint8_t part[3];
    size_t read;

    if (argc != 2 || satellite_abi_version() != SATELLITE_ABI_VERSION)
        return 2;
    if (satellite_store_open(argv[1], &store) != SATELLITE_OK)
        return failed("open");
    if (satellite_blob_put(store, "demo/hello", digest, (const uint8_t *)"hello", 5) != SATELLITE_OK)
        return failed("put");
    if (satellite_blob_read(store, digest, 1, part, sizeof part, &read) != SATELLITE_OK)
        return failed("read");
    if (read != 3 || memcmp(part, "ell", 3) != 0)
        return 3;
    if (satellite_store_close(store) != SATELLITE_OK)
        return failed("close");
    if (satellite_store_close(store) != SATELLITE_HANDLE)
        return 4;
    puts("ell");
    return 0;
}
