// SPDX-License-Identifier: BSL-1.0
// A client in two processes: half_read PORT SENT READ. The first connects, sends so many bytes of its standard input, writes so many of the
// answer to its standard output, and pushes the connection: with what it has read beyond that, and what it has not sent. The second goes on
// until the server ends the connection.
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <rejoin.hpp>
#include <string>

namespace {

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;
using Client = Pipe<NoEvents, Tcp, FailFast>;

void write_out(Bytes bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(1, bytes.data(), bytes.size());
        if (n <= 0) std::exit(3);
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
}
int second(Socket channel_end) {
    Loop loop;
    Client client(loop);
    client.on_receive([](Bytes bytes) { write_out(bytes); });
    bool ended = false;
    client.on_state([&](PipeState state, const Failure&) {
        ended = state == PipeState::closing || state == PipeState::closed;
        if (ended) loop.stop();
    });
    Channel channel(loop);
    channel.on_parcel([&](Parcel&& parcel) {
        if (!client.adopt(std::move(parcel))) std::exit(4);
        write_out({parcel.unread.data(), parcel.unread.size()});
    });
    if (!channel.start(std::move(channel_end))) return 5;
    static_cast<void>(loop.run());
    return ended ? 0 : 6;
}
int first(Socket channel_end, int port, const std::string& request, std::size_t send_here, std::size_t read_here) {
    Loop loop;
    Channel channel(loop);
    if (!channel.start(std::move(channel_end))) return 5;
    Client client(loop);
    int result = 7;
    std::size_t left = read_here;
    client.on_receive([&](Bytes bytes) {
        const Bytes mine = bytes.first(bytes.size() < left ? bytes.size() : left), rest = bytes.subspan(mine.size());
        write_out(mine);
        if ((left -= mine.size()) > 0) return;
        auto parcel = client.depart();
        if (!parcel || !parcel->unread.append(rest.data(), rest.size())) std::exit(8);
        const Bytes unsent = TextView(request.data() + send_here, request.size() - send_here).bytes();
        if (!parcel->unsent.append(unsent.data(), unsent.size())) std::exit(8);
        const auto done = [&](Error error, Parcel&&) {
            result = error ? 9 : 0;
            loop.stop();
        };
        if (!channel.offer(std::move(*parcel), done)) std::exit(9);
    });
    if (!client.connect({"127.0.0.1", port}) || !client.send(TextView(request.data(), send_here))) return 10;
    static_cast<void>(loop.run());
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    std::string request;
    for (int c; (c = std::getchar()) != EOF;) request += static_cast<char>(c);
    Socket one, other;
    if (!UnixSocket::pair(one, other)) return 3;
    const pid_t child = ::fork();
    if (child == 0) {
        one.close();
        std::exit(second(std::move(other)));
    }
    other.close();
    const int result =
        first(std::move(one), std::atoi(argv[1]), request, std::strtoul(argv[2], nullptr, 10), std::strtoul(argv[3], nullptr, 10));
    int status = 1;
    if (::waitpid(child, &status, 0) != child || status != 0) return 11;
    return result;
}
