/* SPDX-License-Identifier: BSL-1.0 */
/* Takes a connection that is pushed to it: cc receiver.c && ./a.out PATH. With the standard library alone, one at a time.
 *
 * Greets on the connection, and sends back whatever comes. include/rejoin/handoff/README.md has the protocol. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* What stands behind "name": in a line; "" where it does not. Enough for lines that rejoin writes. */
static const char *field(const char *line, const char *name)
{
    char key[40];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(line, key);
    return at == NULL ? "" : at + strlen(key);
}

/* Reads bytes, and at most one descriptor, which is -1 for none. */
static ssize_t receive(int channel, char *to, size_t size, int *descriptor)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = {to, size};
    struct msghdr message = {0};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    *descriptor = -1;
    ssize_t n = recvmsg(channel, &message, 0);
    struct cmsghdr *header = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
    return n;
}

static void serve(int connection, const char *note)
{
    char buffer[4096];
    fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) & ~O_NONBLOCK); /* shared with the sender, and ours now */
    ssize_t n = snprintf(buffer, sizeof buffer, "hello from C, %.*s\n", (int)strcspn(note, "\""), note);
    do
        if (write(connection, buffer, (size_t)n) != n)
            break;
    while ((n = read(connection, buffer, sizeof buffer)) > 0);
    close(connection);
}

static void talk(int channel)
{
    char line[65536], note[256] = "";
    size_t size = 0;
    int offered = -1;
    for (;;) {
        int descriptor;
        ssize_t n = size < sizeof line - 1 ? receive(channel, line + size, sizeof line - 1 - size, &descriptor) : 0;
        if (descriptor >= 0)
            offered = descriptor;
        if (n <= 0)
            break;
        size += (size_t)n;
        line[size] = 0;
        for (char *end; (end = memchr(line, '\n', size)) != NULL;) {
            *end = 0;
            if (strncmp(field(line, "cmd"), "\"NODE_HANDLE\"", 13) == 0) { /* OFFER: touched only when it is committed */
                const char *text = field(line, "note");
                snprintf(note, sizeof note, "%s", *text == '"' ? text + 1 : text);
                if (write(channel, "{\"cmd\":\"NODE_HANDLE_ACK\"}\n", 26) != 26)
                    break;
            } else if (strncmp(field(line, "rejoin"), "\"commit\"", 8) == 0) {
                serve(offered, note);
                return;
            } else if (strncmp(field(line, "rejoin"), "\"withdraw\"", 10) == 0) {
                close(offered);
                offered = -1;
            }
            size -= (size_t)(end + 1 - line);
            memmove(line, end + 1, size + 1);
        }
    }
    if (offered >= 0) /* the sender died, and took nothing back */
        serve(offered, note);
}

int main(int argc, char **argv)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (argc != 2 || strlen(argv[1]) >= sizeof at.sun_path)
        return 2;
    strcpy(at.sun_path, argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 10) != 0) {
        perror(argv[1]);
        return 1;
    }
    puts("listening");
    fflush(stdout);
    for (;;) {
        int channel = accept(listener, NULL, NULL);
        if (channel < 0)
            return 1;
        talk(channel);
        close(channel);
    }
}
