// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/text.hpp>
#include <rejoin/os/local_socket.hpp>

#if !defined(_WIN32)
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char** environ;

namespace rejoin::inline v0_1 {

/// A descriptor, and what a program that inherits it calls it.
struct NamedDescriptor {
    int fd = -1;
    TextView name;  ///< at most 255 characters from space to `~`, no `:`; may be empty
    /// Whether it is made to block, as simple programs expect. False for one that other processes go on using, such as a listening socket
    /// that several share: O_NONBLOCK belongs to all copies of a descriptor.
    bool blocks = true;
};

/// How a program is started with sockets of this process.
struct ProgramStart {
    /// What to run, and its arguments; the last is null. A name without `/` is looked for as execvp(3) does.
    const char* const* arguments = nullptr;
    /// Becomes its standard input and output, as inetd does it; -1: none.
    int standard_io = -1;
    int standard_error = -1;  ///< becomes its standard error; -1: it has this process'
    /// Become its descriptors 3, 4, … with LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID, as sd_listen_fds(3) expects them.
    std::span<const NamedDescriptor> listen;
    /// Becomes a Node child's channel, behind those, with NODE_CHANNEL_FD; -1: none. `Channel` speaks over the other end of its pair.
    int channel = -1;
};

namespace detail {

// The environment for a program that is started, in one block, made before fork(2): the child may allocate nothing.
class Environment {
public:
    Result<void> make(const ProgramStart& start) {
        if (!start.listen.empty()) {
            Text<32> count("LISTEN_FDS=");
            count.append_number(static_cast<std::int64_t>(start.listen.size()));
            if (!add({count.data(), count.size()}) || !add("LISTEN_PID=00000000000000000000")) return Errc::out_of_memory;
            pid_at_ = text_.size() - 21;
            if (!put("LISTEN_FDNAMES=")) return Errc::out_of_memory;
            for (const NamedDescriptor& named : start.listen) {
                if (named.name.size() > 255) return Errc::invalid_argument;
                for (char c : named.name)
                    if (c < ' ' || c > '~' || c == ':') return Errc::invalid_argument;
                if (!put(&named == &start.listen[0] ? TextView() : TextView(":")) || !put(named.name)) return Errc::out_of_memory;
            }
            if (!text_.push(0)) return Errc::out_of_memory;
        }
        if (start.channel >= 0) {
            Text<40> fd("NODE_CHANNEL_FD=");
            fd.append_number(3 + static_cast<std::int64_t>(start.listen.size()));
            if (!add({fd.data(), fd.size()}) || !add("NODE_CHANNEL_SERIALIZATION_MODE=json")) return Errc::out_of_memory;
        }
        const std::size_t own = text_.size();
        for (std::size_t at = 0; at < own; at += std::strlen(text_.data() + at) + 1)
            if (!pointers_.push(text_.data() + at)) return Errc::out_of_memory;
        for (char** variable = environ; *variable != nullptr; ++variable) {
            bool ours = false;
            for (TextView name : {"LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES=", "NODE_CHANNEL_FD=", "NODE_CHANNEL_SERIALIZATION_MODE="})
                ours = ours || std::strncmp(*variable, name.data(), name.size()) == 0;
            if (!ours && !pointers_.push(*variable)) return Errc::out_of_memory;
        }
        if (!pointers_.push(nullptr)) return Errc::out_of_memory;
        return {};
    }
    // In the child, which is the first to know its number.
    void set_process(pid_t process) {
        if (pid_at_ == 0) return;
        std::size_t digits = 1;
        for (pid_t rest = process; rest >= 10; rest /= 10) ++digits;
        text_[pid_at_ + digits] = 0;
        for (; digits > 0; process /= 10) text_[pid_at_ + --digits] = static_cast<char>('0' + process % 10);
    }
    char** get() { return pointers_.data(); }

private:
    bool put(TextView text) { return text_.append(text.data(), text.size()); }
    bool add(TextView variable) { return put(variable) && text_.push(0); }

    Array<char> text_;
    Array<char*> pointers_;
    std::size_t pid_at_ = 0;
};

}  // namespace detail

/// Starts a program that inherits sockets, which stay this process' as well: close what is not needed here. Once it runs, what became its
/// standard input and output blocks, as such programs expect. Returns the process' number, for waitpid(2); the system's error where it
/// could not be started, ENOENT for a program that is not there; `invalid_argument`; `out_of_memory`.
inline Result<pid_t> start_program(const ProgramStart& start) {
    if (start.arguments == nullptr || start.arguments[0] == nullptr || start.listen.size() > 4096) return Errc::invalid_argument;
    detail::Environment environment;
    if (auto made = environment.make(start); !made) return made.error();

    // Copies above every place where one has to be, so that no place is another's source; closed by exec, and here in the end.
    struct Move {
        int from, to;  // to nowhere: -1
        int flags;     // as they were, where it is to block; else -1
    };
    struct Moves {
        ~Moves() {
            for (const Move& move : all) ::close(move.from);
        }
        Error add(int fd, int to, int above, bool blocks) {
            const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, above);
            if (copy < 0) return Error::system(errno);
            if (all.push({copy, to, blocks ? ::fcntl(copy, F_GETFL) : -1})) return {};
            ::close(copy);
            return Errc::out_of_memory;
        }
        Array<Move> all;
    } moves;
    int to = 3;
    const int above = to + static_cast<int>(start.listen.size()) + 1;
    Error error;
    for (int place : {0, 1})
        if (start.standard_io >= 0 && !error) error = moves.add(start.standard_io, place, above, true);
    if (start.standard_error >= 0 && !error) error = moves.add(start.standard_error, 2, above, true);
    for (const NamedDescriptor& named : start.listen)
        if (!error) error = moves.add(named.fd, to++, above, named.blocks);
    if (start.channel >= 0 && !error) error = moves.add(start.channel, to, above, false);
    Socket hears, reports;
    if (!error) error = UnixSocket::pair(hears, reports).error();
    if (!error) error = moves.add(reports.fd(), -1, above, false);
    if (error) return error;
    const int report = moves.all.back().from;

    const pid_t child = ::fork();
    if (child < 0) return Error::system(errno);
    if (child == 0) {  // only what signal-safety(7) allows
        int failure = 0;
        for (const Move& move : moves.all)
            if (move.to >= 0 && ::dup2(move.from, move.to) < 0) failure = errno;
        const auto set_flags = [&](int without) {
            for (const Move& move : moves.all)
                if (move.flags >= 0) ::fcntl(move.from, F_SETFL, move.flags & ~without);
        };
        environment.set_process(::getpid());
        environ = environment.get();
        if (failure == 0) {
            set_flags(O_NONBLOCK);
            ::execvp(start.arguments[0], const_cast<char* const*>(start.arguments));
            failure = errno;
            set_flags(0);
        }
        static_cast<void>(!::write(report, &failure, sizeof failure));
        ::_exit(127);
    }
    ::close(report);
    moves.all.pop();
    reports.close();
    // Ends without a word once exec has closed the other end.
    ::fcntl(hears.fd(), F_SETFL, ::fcntl(hears.fd(), F_GETFL) & ~O_NONBLOCK);
    int failure = 0;
    ssize_t n = 0;
    do n = ::read(hears.fd(), &failure, sizeof failure);
    while (n < 0 && errno == EINTR);
    if (n != static_cast<ssize_t>(sizeof failure)) return child;
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    return Error::system(failure);
}

/// A socket that this process was started with.
struct Inherited {
    Socket socket;
    Text<255> name;
};

/// The sockets that this process was started with (LISTEN_FDS, sd_listen_fds(3)), in order: owned, non-blocking, close-on-exec. None when
/// they were meant for another process. To be asked once: the environment is then cleared of them, for the programs that this one starts.
/// `malformed` for an environment that makes no sense; `out_of_memory`.
inline Result<Array<Inherited>> inherited_sockets() {
    Array<Inherited> all;
    const char* const fds = ::getenv("LISTEN_FDS");
    const char* const pid = ::getenv("LISTEN_PID");
    if (fds == nullptr || pid == nullptr || ::strtol(pid, nullptr, 10) != ::getpid()) return all;
    char* end = nullptr;
    const long count = ::strtol(fds, &end, 10);
    if (*end != 0 || count < 0 || count > 4096) return Errc::malformed;
    const char* name = ::getenv("LISTEN_FDNAMES");
    if (!all.reserve(static_cast<std::size_t>(count))) return Errc::out_of_memory;
    for (int fd = 3; fd < 3 + count; ++fd) {
        Inherited one;
        if (::fcntl(fd, F_GETFD) < 0) return Errc::malformed;
        one.socket = Socket(fd);
        if (name != nullptr) {
            const std::size_t size = ::strcspn(name, ":");
            one.name = TextView(name, size);
            name = name[size] == ':' ? name + size + 1 : nullptr;
        }
        all.push(std::move(one));
    }
    for (const char* variable : {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}) ::unsetenv(variable);
    return all;
}
/// The connection that is this process' standard input, as inetd starts it: a copy, owned. `invalid_argument` where that is no socket.
inline Result<Socket> standard_socket() {
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(0, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return Errc::invalid_argument;
    const int fd = ::fcntl(0, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return Error::system(errno);
    return Socket(fd);
}
/// The channel to the Node process, or the `start_program`, that has started this one (NODE_CHANNEL_FD): for `Channel::start`, once.
/// `invalid_state` where there is none; `unsupported` for a channel that does not speak JSON.
inline Result<Socket> parent_channel() {
    const char* const fd = ::getenv("NODE_CHANNEL_FD");
    const char* const mode = ::getenv("NODE_CHANNEL_SERIALIZATION_MODE");
    if (fd == nullptr) return Errc::invalid_state;
    if (mode != nullptr && !(TextView(mode) == TextView("json"))) return Errc::unsupported;
    char* end = nullptr;
    const long number = ::strtol(fd, &end, 10);
    if (end == fd || *end != 0 || number < 0 || number > INT_MAX || ::fcntl(static_cast<int>(number), F_GETFD) < 0)
        return Errc::invalid_state;
    ::unsetenv("NODE_CHANNEL_FD");
    ::unsetenv("NODE_CHANNEL_SERIALIZATION_MODE");
    return Socket(static_cast<int>(number));
}

}  // namespace rejoin::inline v0_1
#endif
