/* Does to the library all that a program must not do. Each call must say so by its code; nothing may crash, and the
 * library must work afterwards. Usage: misuse EMPTY-FOLDER */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "satellite.h"

#define HELLO "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define NOTHING "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static int wrong;

#define IS(expected, call)                                                                                      \
    do {                                                                                                        \
        int got_ = (call);                                                                                      \
        char text_[256];                                                                                        \
        satellite_last_error(text_, sizeof text_);                                                              \
        if (got_ != (expected) || (got_ == 0) != (text_[0] == 0)) {                                             \
            fprintf(stderr, "line %d: %s gave %d (%s)\n", __LINE__, #call, got_, text_);                        \
            wrong++;                                                                                            \
        }                                                                                                       \
    } while (0)

static satellite_store store;
static char long_text[20000];

/* A socket on loopback that listens and takes nobody: who connects waits for an answer. */
static int listening(char *address, size_t room)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &length) != 0) {
        perror("socket");
        exit(1);
    }
    snprintf(address, room, "127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    return fd;
}

static void opening(const char *dir)
{
    struct satellite_store_options options = {.size = sizeof options};
    satellite_store second = 9;

    IS(SATELLITE_ARGUMENT, satellite_store_open(NULL, NULL, &store));
    IS(SATELLITE_ARGUMENT, satellite_store_open(dir, NULL, NULL));
    IS(SATELLITE_ARGUMENT, satellite_store_open("", NULL, &store));
    IS(SATELLITE_ARGUMENT, satellite_store_open("\xff\xfe", NULL, &store));
    IS(SATELLITE_ARGUMENT, satellite_store_open(long_text, NULL, &store));
    IS(SATELLITE_STORE, satellite_store_open("/proc/nowhere", NULL, &store));
    options.size = 0;
    IS(SATELLITE_ARGUMENT, satellite_store_open(dir, &options, &store));
    options.size = SIZE_MAX;
    IS(SATELLITE_ARGUMENT, satellite_store_open(dir, &options, &store));
    options.size = sizeof options;
    options.floor = UINT64_MAX;
    IS(SATELLITE_OK, satellite_store_open(dir, &options, &store));
    IS(SATELLITE_NO_SPACE, satellite_blob_put(store, "a/b", HELLO, (const uint8_t *)"hello", 5));
    IS(SATELLITE_OK, satellite_store_close(store));
    IS(SATELLITE_HANDLE, satellite_store_close(store));
    IS(SATELLITE_OK, satellite_store_open(dir, NULL, &store));
    IS(SATELLITE_LOCKED, satellite_store_open(dir, NULL, &second));
    if (second != 0)
        wrong++;
}

static void handles(void)
{
    const satellite_store bad[] = {0, 1, 2, UINT64_MAX, UINT32_MAX, store + 1, store + ((uint64_t)1 << 32)};
    satellite_cancel cancels[5000];
    size_t i, count = 0;
    uint64_t number;
    uint16_t port;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        IS(SATELLITE_HANDLE, satellite_store_close(bad[i]));
        IS(SATELLITE_HANDLE, satellite_store_gc(bad[i], 0, &number));
        IS(SATELLITE_HANDLE, satellite_store_verify(bad[i], 0, NULL, NULL, NULL));
        IS(SATELLITE_HANDLE, satellite_store_usage(bad[i], NULL));
        IS(SATELLITE_HANDLE, satellite_blob_size(bad[i], HELLO, &number));
        IS(SATELLITE_HANDLE, satellite_image_list(bad[i], NULL, NULL));
        IS(SATELLITE_HANDLE, satellite_replicate(bad[i], NULL, NULL));
        IS(SATELLITE_HANDLE, satellite_serve(bad[i], NULL, &number));
        IS(SATELLITE_HANDLE, satellite_server_stop(bad[i]));
        IS(SATELLITE_HANDLE, satellite_server_port(bad[i], &port));
        IS(SATELLITE_HANDLE, satellite_cancel_raise(bad[i]));
        IS(SATELLITE_HANDLE, satellite_cancel_free(bad[i]));
    }
    /* Of another kind. */
    IS(SATELLITE_HANDLE, satellite_server_stop(store));
    IS(SATELLITE_HANDLE, satellite_cancel_free(store));
    /* More than there may be. */
    IS(SATELLITE_ARGUMENT, satellite_cancel_new(NULL));
    while (count < 5000 && satellite_cancel_new(&cancels[count]) == SATELLITE_OK)
        count++;
    IS(SATELLITE_SYSTEM, satellite_cancel_new(&cancels[0] + count));
    if (count < 1000)
        wrong++;
    while (count-- > 0)
        IS(SATELLITE_OK, satellite_cancel_free(cancels[count]));
    IS(SATELLITE_HANDLE, satellite_cancel_free(cancels[0]));
}

static int no_more(void *context, const struct satellite_image *image)
{
    (void)context;
    (void)image;
    return -1;
}

static void content(void)
{
    uint8_t byte = 'x';
    uint8_t room[5];
    uint64_t number = 7;
    size_t got = 7;
    char text[SATELLITE_DIGEST_ROOM];
    int pipes[2];

    IS(SATELLITE_ARGUMENT, satellite_blob_put(store, "a/b", HELLO, NULL, 5));
    IS(SATELLITE_ARGUMENT, satellite_blob_put(store, "a/b", HELLO, &byte, SIZE_MAX));
    IS(SATELLITE_ARGUMENT, satellite_blob_put(store, "A//b", HELLO, &byte, 1));
    IS(SATELLITE_ARGUMENT, satellite_blob_put(store, "a/b", "sha256:", &byte, 1));
    IS(SATELLITE_ARGUMENT, satellite_blob_put(store, "a/b", long_text, &byte, 1));
    IS(SATELLITE_ARGUMENT, satellite_blob_put(store, NULL, NULL, NULL, 0));
    IS(SATELLITE_CONTENT, satellite_blob_put(store, "a/b", HELLO, &byte, 1));
    IS(SATELLITE_OK, satellite_blob_put(store, "a/b", NOTHING, NULL, 0));
    IS(SATELLITE_OK, satellite_blob_put(store, "a/b", HELLO, (const uint8_t *)"hello", 5));
    IS(SATELLITE_ARGUMENT, satellite_blob_put_fd(store, "a/b", HELLO, -1));
    IS(SATELLITE_ARGUMENT, satellite_blob_put_fd(store, "a/b", HELLO, 999999));
    if (pipe(pipes) == 0) {
        IS(SATELLITE_SYSTEM, satellite_blob_put_fd(store, "a/b", HELLO, pipes[1]));
        close(pipes[0]);
        close(pipes[1]);
    }

    IS(SATELLITE_ARGUMENT, satellite_blob_size(store, NULL, &number));
    IS(SATELLITE_ARGUMENT, satellite_blob_size(store, HELLO, NULL));
    IS(SATELLITE_ARGUMENT, satellite_blob_read(store, HELLO, 0, NULL, 5, &got));
    IS(SATELLITE_ARGUMENT, satellite_blob_read(store, HELLO, 0, room, 5, NULL));
    IS(SATELLITE_OK, satellite_blob_read(store, HELLO, UINT64_MAX, room, SIZE_MAX, &got));
    if (got != 0)
        wrong++;
    IS(SATELLITE_OK, satellite_blob_read(store, HELLO, 0, room, SIZE_MAX, &got));
    if (got != 5 || memcmp(room, "hello", 5) != 0)
        wrong++;

    IS(SATELLITE_ARGUMENT, satellite_manifest_put(store, "a/b", HELLO, NULL, NULL, 3));
    IS(SATELLITE_CONTENT, satellite_manifest_put(store, "a/b", HELLO, "v1", (const uint8_t *)"hello", 5));
    IS(SATELLITE_ARGUMENT, satellite_manifest_put(store, "a/b", HELLO, "no tag", (const uint8_t *)"{}", 2));
    IS(SATELLITE_ARGUMENT, satellite_manifest_resolve(store, "a/b", "", NULL));
    IS(SATELLITE_NOT_FOUND, satellite_manifest_resolve(store, "a/b", "v1", NULL));
    IS(SATELLITE_ARGUMENT, satellite_image_list(store, NULL, NULL));
    IS(SATELLITE_OK, satellite_image_list(store, no_more, NULL));
    IS(SATELLITE_NOT_FOUND, satellite_image_remove(store, "a/b", HELLO));
    IS(SATELLITE_ARGUMENT, satellite_store_verify(store, 99, NULL, NULL, NULL));
    IS(SATELLITE_ARGUMENT, satellite_store_usage(store, NULL));
    IS(SATELLITE_OK, satellite_store_gc(store, INT64_MAX, NULL));

    IS(SATELLITE_ARGUMENT, satellite_digest(NULL, 1, text, sizeof text));
    IS(SATELLITE_ARGUMENT, satellite_digest(&byte, 1, NULL, sizeof text));
    IS(SATELLITE_TOO_SMALL, satellite_digest(&byte, 1, text, 71));
    IS(SATELLITE_OK, satellite_digest(&byte, 1, text, 72));
    satellite_last_error(NULL, 0);
    satellite_last_error(NULL, SIZE_MAX);
}

static int fails(void *context, const struct satellite_progress *progress)
{
    (void)progress;
    ++*(int *)context;
    return 1;
}

static void *raise_soon(void *cancel)
{
    struct timespec pause = {0, 200 * 1000 * 1000};

    nanosleep(&pause, NULL);
    IS(SATELLITE_OK, satellite_cancel_raise(*(satellite_cancel *)cancel));
    return NULL;
}

static void replicating(void)
{
    struct satellite_source source = {.size = sizeof source};
    char address[64], image[128];
    int silent = listening(address, sizeof address);
    int calls = 0;
    satellite_cancel cancel;
    pthread_t thread;

    snprintf(image, sizeof image, "%s/a/b:v1", address);
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, NULL, NULL));
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, &source, NULL));
    source.image = "not an image";
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, &source, NULL));
    source.image = image;
    source.flags = 0x80;
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, &source, NULL));
    source.flags = SATELLITE_PLAIN_HTTP;
    source.user = "only";
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, &source, NULL));
    source.user = NULL;
    source.platforms = "linux";
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, &source, NULL));
    source.platforms = NULL;
    source.proxy = "socks5://proxy";
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, &source, NULL));
    source.proxy = NULL;
    source.ca_file = "/nonexistent.pem";
    IS(SATELLITE_ARGUMENT, satellite_replicate(store, &source, NULL));
    source.ca_file = NULL;
    source.cancel = store;
    IS(SATELLITE_HANDLE, satellite_replicate(store, &source, NULL));
    source.cancel = 0;

    /* A call-back that fails ends a registry's silence. */
    source.progress = fails;
    source.context = &calls;
    IS(SATELLITE_CANCELLED, satellite_replicate(store, &source, NULL));
    if (calls != 1)
        wrong++;
    source.progress = NULL;

    /* So does another thread; and what was cancelled stays so. */
    IS(SATELLITE_OK, satellite_cancel_new(&cancel));
    source.cancel = cancel;
    if (pthread_create(&thread, NULL, raise_soon, &cancel) == 0) {
        IS(SATELLITE_CANCELLED, satellite_replicate(store, &source, NULL));
        pthread_join(thread, NULL);
    }
    IS(SATELLITE_CANCELLED, satellite_replicate(store, &source, NULL));
    IS(SATELLITE_OK, satellite_cancel_free(cancel));
    IS(SATELLITE_HANDLE, satellite_replicate(store, &source, NULL));
    close(silent);
}

/* Asks for a blob and goes away without reading it: the answer meets a closed socket. */
static void hang_up(uint16_t port, const char *digest)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct linger now = {1, 0};
    char request[256];
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(request, sizeof request, "GET /v2/a/b/blobs/%s HTTP/1.1\r\nhost: x\r\n\r\n", digest);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) {
        perror("connect");
        wrong++;
    } else if (recv(fd, request, 1, 0) != 1) {
        perror("recv");
        wrong++;
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void serving(void)
{
    struct satellite_service service = {.size = sizeof service};
    static uint8_t large[4 << 20];
    char digest[SATELLITE_DIGEST_ROOM], address[64];
    satellite_server server, second;
    uint16_t port;
    int i, plain, listens;

    IS(SATELLITE_ARGUMENT, satellite_serve(store, NULL, &server));
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, NULL));
    service.socket = -1;
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    service.socket = 999999;
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    plain = socket(AF_INET, SOCK_STREAM, 0);
    service.socket = plain;
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    close(plain);
    service.address = "localhost";
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    service.address = "127.0.0.1:0";
    service.flags = 0x100;
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    service.flags = 0;
    service.tls_key = "/nonexistent.pem";
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    service.tls_certificate = "/nonexistent.pem";
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    service.tls_key = service.tls_certificate = NULL;
    service.htpasswd = "/nonexistent";
    IS(SATELLITE_ARGUMENT, satellite_serve(store, &service, &server));
    service.htpasswd = NULL;
    listens = listening(address, sizeof address);
    service.address = address;
    IS(SATELLITE_SYSTEM, satellite_serve(store, &service, &server));

    /* On a socket that the program made, and closes. */
    service.address = NULL;
    service.socket = listens;
    IS(SATELLITE_OK, satellite_serve(store, &service, &server));
    close(listens);
    service.address = "127.0.0.1:0";
    IS(SATELLITE_OK, satellite_serve(store, &service, &second));
    IS(SATELLITE_OK, satellite_server_stop(second));
    IS(SATELLITE_HANDLE, satellite_server_stop(second));
    IS(SATELLITE_ARGUMENT, satellite_server_port(server, NULL));
    IS(SATELLITE_OK, satellite_server_port(server, &port));
    IS(SATELLITE_OK, satellite_digest(large, sizeof large, digest, sizeof digest));
    IS(SATELLITE_OK, satellite_blob_put(store, "a/b", digest, large, sizeof large));
    for (i = 0; i < 20; i++)
        hang_up(port, digest);
    IS(SATELLITE_HANDLE, satellite_store_close(server));
    IS(SATELLITE_OK, satellite_server_stop(server));
    IS(SATELLITE_HANDLE, satellite_server_port(server, &port));
}

static int lines, inside;

static void within_log(void *context, int level, const char *target, const char *message)
{
    if (context != &lines || level < SATELLITE_LOG_ERROR || target[0] == 0 || message[0] == 0)
        exit(9);
    __atomic_fetch_add(&lines, 1, __ATOMIC_SEQ_CST);
    if (satellite_store_gc(store, 0, NULL) == SATELLITE_REENTRANT && satellite_log(NULL, NULL, 0) == SATELLITE_REENTRANT)
        __atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
}

static void logging(void)
{
    struct satellite_service service = {.size = sizeof service, .address = "127.0.0.1:0"};
    satellite_server server;
    uint16_t port;

    IS(SATELLITE_ARGUMENT, satellite_log(within_log, &lines, 0));
    IS(SATELLITE_ARGUMENT, satellite_log(within_log, &lines, 99));
    IS(SATELLITE_OK, satellite_log(within_log, &lines, SATELLITE_LOG_TRACE));
    IS(SATELLITE_OK, satellite_serve(store, &service, &server));
    IS(SATELLITE_OK, satellite_server_port(server, &port));
    hang_up(port, HELLO);
    IS(SATELLITE_OK, satellite_server_stop(server));
    IS(SATELLITE_OK, satellite_log(NULL, NULL, 0));
    if (lines == 0 || lines != inside) {
        fprintf(stderr, "%d lines of log, %d refusals\n", lines, inside);
        wrong++;
    }
}

static void *use(void *unused)
{
    uint64_t size;
    int i;

    (void)unused;
    for (i = 0; i < 50; i++) {
        int code = satellite_blob_size(store, HELLO, &size);

        if (code != SATELLITE_OK && code != SATELLITE_HANDLE)
            wrong++;
        code = satellite_store_gc(store, 1000, NULL);
        if (code != SATELLITE_OK && code != SATELLITE_HANDLE)
            wrong++;
    }
    return NULL;
}

/* Several threads use the store while it is closed, by two of them. */
static void *close_it(void *result)
{
    *(int *)result = satellite_store_close(store);
    return NULL;
}

static void closing(void)
{
    pthread_t users[3], closers[2];
    int results[2], i;

    for (i = 0; i < 3; i++)
        pthread_create(&users[i], NULL, use, NULL);
    for (i = 0; i < 2; i++)
        pthread_create(&closers[i], NULL, close_it, &results[i]);
    for (i = 0; i < 2; i++)
        pthread_join(closers[i], NULL);
    for (i = 0; i < 3; i++)
        pthread_join(users[i], NULL);
    if (results[0] + results[1] != SATELLITE_HANDLE || results[0] == results[1])
        wrong++;
}

static int open_files(void)
{
    int fd, count = 0;

    for (fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

/* Each replication gives back its sockets, whether it found what it was to fetch, or was cancelled. */
static void replicating_again_and_again(void)
{
    struct satellite_service service = {.size = sizeof service, .address = "127.0.0.1:0"};
    struct satellite_source source = {.size = sizeof source};
    satellite_server server;
    uint16_t port;
    char image[64];
    int i, calls, before = 0;

    IS(SATELLITE_OK, satellite_serve(store, &service, &server));
    IS(SATELLITE_OK, satellite_server_port(server, &port));
    snprintf(image, sizeof image, "127.0.0.1:%u/a/none:v1", (unsigned)port);
    source.image = image;
    for (i = 0; i < 20; i++) {
        source.progress = i % 2 == 0 ? fails : NULL;
        source.context = &calls;
        IS(i % 2 == 0 ? SATELLITE_CANCELLED : SATELLITE_NOT_FOUND, satellite_replicate(store, &source, NULL));
        if (i == 4)
            before = open_files();
    }
    IS(SATELLITE_OK, satellite_server_stop(server));
    if (open_files() > before) {
        fprintf(stderr, "%d files open before, %d after\n", before, open_files());
        wrong++;
    }
}

/* Opening and closing takes nothing that it does not give back; what is made once for all stores is there by now. */
static void again_and_again(const char *dir)
{
#if defined(__GLIBC__)
    size_t before = 0;
    int i;

    for (i = 0; i < 40; i++) {
        struct mallinfo2 memory;

        IS(SATELLITE_OK, satellite_store_open(dir, NULL, &store));
        IS(SATELLITE_OK, satellite_store_close(store));
        memory = mallinfo2();
        if (i == 10)
            before = memory.uordblks + memory.hblkhd;
        if (i == 39 && memory.uordblks + memory.hblkhd > before + 64 * 1024) {
            fprintf(stderr, "%zu bytes before, %zu after\n", before, memory.uordblks + memory.hblkhd);
            wrong++;
        }
    }
#else
    (void)dir;
#endif
}

int main(int argc, char **argv)
{
    if (argc != 2 || satellite_abi_version() != SATELLITE_ABI_VERSION ||
        satellite_features() != (SATELLITE_HAS_SERVE | SATELLITE_HAS_REPLICATE))
        return 2;
    memset(long_text, 'a', sizeof long_text - 1);
    opening(argv[1]);
    handles();
    content();
    replicating();
    serving();
    logging();
    replicating_again_and_again();
    closing();
    again_and_again(argv[1]);
    printf("%d wrong\n", wrong);
    return wrong != 0;
}
