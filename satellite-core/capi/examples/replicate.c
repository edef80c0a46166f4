/* An image from a registry into a store, with progress; SIGINT or a time limit ends it, and the next run goes on. */
#include "common.h"

#include <inttypes.h>
#include <signal.h>
#include <time.h>

static const char usage[] =
    "usage: replicate [OPTION...] DIR IMAGE\n"
    "  -u USER       account at the registry; its password is in the environment, REGISTRY_PASSWORD\n"
    "  -c FILE       certification authorities in PEM\n"
    "  -p PLATFORMS  e.g. linux/arm64,linux/arm/v7 or all; default: this machine's\n"
    "  -l BYTES      most bytes a second\n"
    "  -t SECONDS    ends it after so long\n"
    "  -n            plain HTTP\n"
    "  -q            no progress\n"
    "  -v            the library's log\n";

struct watch {
    time_t until;
    int quiet;
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

/* On the thread that called satellite_replicate. */
static int progress(void *context, const struct satellite_progress *at)
{
    const struct watch *watch = context;

    if (!watch->quiet && at->bytes_total > 0)
        fprintf(stderr, "%" PRIu64 " of %" PRIu64 " bytes, %" PRIu64 " of %" PRIu64 " blobs\n", at->bytes_done,
                at->bytes_total, at->blobs_done, at->blobs_total);
    return stopped || (watch->until != 0 && time(NULL) >= watch->until);
}

/* On any thread of the library. */
static void print_log(void *context, int level, const char *target, const char *message)
{
    (void)context;
    fprintf(stderr, "[%d] %s: %s\n", level, target, message);
}

int main(int argc, char **argv)
{
    struct watch watch = {0, 0};
    struct satellite_source source = {.size = sizeof source, .progress = progress, .context = &watch};
    struct satellite_replicated replicated;
    struct sigaction action;
    satellite_store store;
    int at = 1;
    int code;

    for (; at < argc && argv[at][0] == '-'; at++) {
        char option = argv[at][1];
        const char *value = NULL;

        if (option == '\0' || argv[at][2] != '\0')
            option = '?';
        if (strchr("ucplt", option) != NULL) {
            if (++at == argc)
                break;
            value = argv[at];
        }
        switch (option) {
        case 'u': source.user = value; break;
        case 'c': source.ca_file = value; break;
        case 'p': source.platforms = value; break;
        case 'l': source.bytes_per_second = strtoull(value, NULL, 10); break;
        case 't': watch.until = time(NULL) + strtol(value, NULL, 10); break;
        case 'n': source.flags |= SATELLITE_PLAIN_HTTP; break;
        case 'q': watch.quiet = 1; break;
        case 'v': satellite_log(print_log, NULL, SATELLITE_LOG_DEBUG); break;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (argc - at != 2) {
        fputs(usage, stderr);
        return 2;
    }
    if (check_version() != 0)
        return 1;
    source.image = argv[at + 1];
    if (source.user != NULL)
        source.password = getenv("REGISTRY_PASSWORD");

    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    if (satellite_store_open(argv[at], NULL, &store) != SATELLITE_OK)
        return failed("open");
    code = satellite_replicate(store, &source, &replicated);
    if (code == SATELLITE_OK)
        printf("%s %" PRIu64 " received, %" PRIu64 " resumed, %" PRIu64 " present\n", replicated.digest,
               replicated.received, replicated.resumed, replicated.present);
    else
        failed("replicate");
    if (satellite_store_close(store) != SATELLITE_OK)
        return failed("close");
    /* The code of the library is that of the program: 12 is SATELLITE_CANCELLED. */
    return code;
}
