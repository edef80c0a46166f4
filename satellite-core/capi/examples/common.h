/* What the examples share: the library's own words for what went wrong. */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

/* Before anything is included: ISO C alone has neither signals' actions nor sockets. */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "satellite.h"

/* Prints what the last call of this thread failed with. Gives the exit code. */
static inline int failed(const char *what)
{
    char text[1024];

    satellite_last_error(text, sizeof text);
    fprintf(stderr, "%s: %s\n", what, text);
    return 1;
}

/* A program must not go on with a library of another ABI than that of its header. */
static inline int check_version(void)
{
    if (satellite_abi_version() == SATELLITE_ABI_VERSION)
        return 0;
    fprintf(stderr, "libsatellite %s has ABI %u, %u is needed\n", satellite_version(), satellite_abi_version(),
            (unsigned)SATELLITE_ABI_VERSION);
    return 1;
}

#endif
