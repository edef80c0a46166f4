/* Serves a store as a registry, until its standard input ends or a signal comes. */
#include "common.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static const char usage[] =
    "usage: serve DIR ADDRESS:PORT   e.g. 127.0.0.1:5000; port 0 is any that is free\n"
    "       serve DIR socket         on a socket that this program made, as a supervisor might give one\n"
    "Prints the port, and ends when standard input does.\n";

static void stop(int number)
{
    (void)number;
}

/* A socket on loopback that listens. */
static int listening(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 64) == 0)
        return fd;
    perror("socket");
    exit(1);
}

int main(int argc, char **argv)
{
    struct satellite_service service = {.size = sizeof service, .drain_seconds = 5};
    struct sigaction action;
    satellite_store store;
    satellite_server server;
    uint16_t port;
    char byte;

    if (argc != 3) {
        fputs(usage, stderr);
        return 2;
    }
    if (check_version() != 0)
        return 1;
    /* Without SA_RESTART, so that a signal ends the read below. */
    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    if (satellite_store_open(argv[1], NULL, &store) != SATELLITE_OK)
        return failed("open");
    if (strcmp(argv[2], "socket") == 0)
        service.socket = listening();
    else
        service.address = argv[2];
    if (satellite_serve(store, &service, &server) != SATELLITE_OK)
        return failed("serve");
    if (service.address == NULL)
        close(service.socket);
    if (satellite_server_port(server, &port) != SATELLITE_OK)
        return failed("port");
    printf("%u\n", (unsigned)port);
    fflush(stdout);

    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    if (satellite_server_stop(server) != SATELLITE_OK)
        return failed("stop");
    if (satellite_store_close(store) != SATELLITE_OK)
        return failed("close");
    return 0;
}
