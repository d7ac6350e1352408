// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/local_socket.hpp>
#include <rejoin/os/windows/poll.hpp>

#if defined(_WIN32)
#include <cstring>
#include <new>

namespace rejoin::inline v0_1 {

/// A named pipe between two processes of this host, or one that waits for somebody to connect. Its `fd` is readable when there may be
/// something to read, room to write, or somebody who has connected. What the system calls, on threads of its own, rings a bell and does
/// nothing else. Owned, move-only; belongs to the loop's thread.
class NamedPipe {
public:
    using End = NamedPipe;
    /// Sockets go over it by a ticket in the bytes (WSADuplicateSocketW).
    static constexpr bool passes_descriptors = false;
    static constexpr Ready when_it_takes_more = Ready::readable;

    NamedPipe() = default;
    NamedPipe(NamedPipe&& other) noexcept : context_(std::exchange(other.context_, nullptr)) {}
    NamedPipe& operator=(NamedPipe&& other) noexcept {
        std::swap(context_, other.context_);
        return *this;
    }
    ~NamedPipe() { close(); }

    /// Two ends that are connected with each other.
    static Result<void> pair(NamedPipe& one, NamedPipe& other) {
        static volatile LONG made = 0;
        Text<64> name("rejoin-");
        name.append_number(static_cast<std::int64_t>(::GetCurrentProcessId()));
        name.append("-");
        name.append_number(::InterlockedIncrement(&made));
        auto waiting = listen({name.data(), name.size()});
        if (!waiting) return waiting.error();
        auto connected = connect({name.data(), name.size()});
        if (!connected) return connected.error();
        while (!waiting->context_->reading.over()) ::Sleep(0);  // it has been told already
        waiting->context_->read();
        one = std::move(*waiting);
        other = std::move(*connected);
        return {};
    }
    /// Connects to the pipe of that name (at most 200 characters from space to `~`, no `\`). Never waits: ERROR_FILE_NOT_FOUND where there
    /// is none, `would_block` where somebody else is just being let in.
    static Result<NamedPipe> connect(TextView name) {
        Name path;
        if (!path.set(name)) return Errc::invalid_argument;
        const HANDLE pipe = ::CreateFileW(path.text, GENERIC_READ | GENERIC_WRITE, 0, nullptr, OPEN_EXISTING,
                                          FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, nullptr);
        if (pipe == INVALID_HANDLE_VALUE) return ::GetLastError() == ERROR_PIPE_BUSY ? Error(Errc::would_block) : last_error();
        auto made = own(pipe, false);
        if (made) made->context_->read();
        return made;
    }
    /// Waits for others to connect, as `accept` tells; ERROR_ACCESS_DENIED where another process has that name. Only this user, and
    /// administrators, can write to it (the system's default for named pipes), and nobody from another host.
    static Result<NamedPipe> listen(TextView name) {
        Name path;
        if (!path.set(name)) return Errc::invalid_argument;
        const HANDLE pipe = path.instance(FILE_FLAG_FIRST_PIPE_INSTANCE);
        if (pipe == INVALID_HANDLE_VALUE) return last_error();
        auto made = own(pipe, true);
        if (!made) return made;
        made->context_->path = path;
        if (const Error error = made->context_->wait_for_client()) return error;
        return made;
    }
    /// Who has connected to a pipe that listens, which goes on listening. `would_block`: nobody yet.
    Result<NamedPipe> accept() {
        context_->bell.clear();
        if (!context_->reading.over()) return Errc::would_block;
        const HANDLE next = context_->path.instance(0);
        if (next == INVALID_HANDLE_VALUE) return last_error();
        auto made = own(std::exchange(context_->pipe, next), true);
        if (made) made->context_->read();
        if (const Error error = context_->wait_for_client()) return error;
        return made;
    }
    void close() {
        if (context_ == nullptr) return;
        const bool done = context_->close();
        if (done) delete context_;  // else the system may still use it: leaked rather than freed
        context_ = nullptr;
    }
    explicit operator bool() const { return context_ != nullptr; }
    SOCKET fd() const { return context_->bell.fd(); }

    /// Who is at the other end.
    static Result<PeerCredentials> peer_credentials(const NamedPipe& end) {
        const DWORD process = end.peer_process();
        PeerCredentials peer;
        TokenUser ours, theirs;
        if (process == 0) return last_error();
        peer.process = static_cast<std::int32_t>(process);
        if (const Error error = ours.ask(::GetCurrentProcess())) return error;
        const HANDLE other = ::OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, process);
        const bool known = other != nullptr && !theirs.ask(other);
        if (other != nullptr) ::CloseHandle(other);
        if (known && ::EqualSid(ours.sid(), theirs.sid()) != FALSE) peer.user = 0;
        return peer;
    }
    static bool trusted(const PeerCredentials& peer) { return peer.user == 0; }
    static bool gone(Error error) {
        return error == Error::system(ERROR_BROKEN_PIPE) || error == Error::system(ERROR_NO_DATA) ||
               error == Error::system(ERROR_PIPE_NOT_CONNECTED);
    }

    /// Sends bytes, at least two: how many of them were taken. Of those that the system has and the peer has no room for yet, all but the
    /// first count as not taken: the caller sends them again, until they are.
    static Result<std::size_t> send(NamedPipe& end, Bytes bytes, const Socket* = nullptr) { return end.context_->send(bytes); }
    static Result<LocalReceived> receive(NamedPipe& end, MutableBytes to) { return end.context_->receive(to); }

    /// Appends what lets the process at the other end, and no other, have a copy of the socket (WSAPROTOCOL_INFOW).
    static Error issue_ticket(const NamedPipe& end, const Socket& socket, Array<std::byte>& ticket) {
        WSAPROTOCOL_INFOW info;
        if (::WSADuplicateSocketW(socket.fd(), end.peer_process(), &info) != 0) return detail::winsock_error();
        return ticket.append(reinterpret_cast<const std::byte*>(&info), sizeof info) ? Error() : Error(Errc::out_of_memory);
    }
    /// The socket that a ticket is for; none where it is no good.
    static Socket redeem_ticket(Bytes ticket) {
        WSAPROTOCOL_INFOW info;
        if (ticket.size() != sizeof info || detail::start_winsock()) return {};
        std::memcpy(&info, ticket.data(), sizeof info);
        return Socket(::WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info, 0,
                                   WSA_FLAG_OVERLAPPED | detail::no_handle_inherit));
    }
    /// Two plain stream sockets, for any program, that are connected with each other: over the loopback, as Windows has no other.
    static Result<void> stream_pair(Socket& one, Socket& other) {
        auto listening = Socket::tcp(Family::v4), connecting = Socket::tcp(Family::v4);
        if (!listening || !connecting) return listening ? connecting.error() : listening.error();
        const Endpoint any("127.0.0.1", 0);
        if (auto bound = listening->bind(any.ip(), 0); !bound) return bound;
        if (auto started = listening->listen(1); !started) return started;
        const auto connected = connecting->connect(any.ip(), listening->local_endpoint().port());
        if (!connected && connected.error() != Errc::would_block) return connected;
        detail::PollEntry entry{listening->fd(), detail::poll_in, 0};
        detail::poll_wait(&entry, 1, 1000);
        auto accepted = listening->accept();
        if (!accepted) return accepted.error();
        // Anybody on this host could have been first.
        if (!(accepted->peer_endpoint() == connecting->local_endpoint())) return Error::system(WSAEACCES);
        one = std::move(*accepted);
        other = std::move(*connecting);
        return {};
    }
    static bool refuse_descriptors(const Socket&) { return false; }

private:
    static constexpr std::size_t buffer_size = 64 * 1024;

    static Error last_error() { return Error::system(static_cast<int>(::GetLastError())); }

    // One overlapped call at a time, whose end rings the bell.
    struct Call {
        OVERLAPPED state{};
        HANDLE event = nullptr, wait = nullptr;
        bool pending = false;

        bool open(detail::Bell& bell) {
            event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
            const auto rung = [](PVOID to, BOOLEAN) CALLBACK { static_cast<detail::Bell*>(to)->ring(); };
            return event != nullptr && ::RegisterWaitForSingleObject(&wait, event, rung, &bell, INFINITE, WT_EXECUTEDEFAULT) != FALSE;
        }
        OVERLAPPED* begin() {
            state = {};
            state.hEvent = event;
            pending = true;
            return &state;
        }
        bool over() const { return !pending || HasOverlappedIoCompleted(&state); }
        // False when the system may still use it.
        bool close(HANDLE pipe) {
            bool done = wait == nullptr || ::UnregisterWaitEx(wait, INVALID_HANDLE_VALUE) != FALSE;
            if (!over()) ::CancelIoEx(pipe, &state);
            if (!over()) done = ::WaitForSingleObject(event, 1000) == WAIT_OBJECT_0 && done;
            if (done && event != nullptr) ::CloseHandle(event);
            return done;
        }
    };
    struct Name {
        wchar_t text[220];

        bool set(TextView name) {
            static constexpr wchar_t root[] = L"\\\\.\\pipe\\";
            std::size_t n = 0;
            for (; root[n] != 0; ++n) text[n] = root[n];
            if (name.size() == 0 || name.size() > 200) return false;
            for (char c : name) {
                if (c < ' ' || c > '~' || c == '\\') return false;
                text[n++] = static_cast<wchar_t>(c);
            }
            text[n] = 0;
            return true;
        }
        HANDLE instance(DWORD first) const {
            constexpr DWORD mode = PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | 8;  // PIPE_REJECT_REMOTE_CLIENTS
            return ::CreateNamedPipeW(text, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | first, mode, PIPE_UNLIMITED_INSTANCES, buffer_size,
                                      buffer_size, 0, nullptr);
        }
    };
    struct Context {
        HANDLE pipe = INVALID_HANDLE_VALUE;
        bool server = false;
        detail::Bell bell;
        Call reading, writing;  // or waiting for who connects
        Name path;              // of one that listens
        Error failed;           // what reading came to
        std::size_t in_from = 0, in_size = 0, out_size = 0;
        std::byte in[buffer_size], out[buffer_size];

        Error wait_for_client() {
            if (::ConnectNamedPipe(pipe, reading.begin()) != FALSE || ::GetLastError() == ERROR_IO_PENDING) return {};
            reading.pending = false;
            if (::GetLastError() != ERROR_PIPE_CONNECTED) return last_error();
            bell.ring();
            return {};
        }
        void read() {
            in_from = in_size = 0;
            if (::ReadFile(pipe, in, buffer_size, nullptr, reading.begin()) != FALSE || ::GetLastError() == ERROR_IO_PENDING) return;
            failed = last_error();
            reading.pending = false;
            bell.ring();
        }
        Result<LocalReceived> receive(MutableBytes to) {
            bell.clear();  // first, so that what comes meanwhile rings again
            if (failed) return failed;
            if (in_from == in_size) {
                if (!reading.over()) return Errc::would_block;
                DWORD n = 0;
                if (::GetOverlappedResult(pipe, &reading.state, &n, FALSE) == FALSE) return failed = last_error();
                reading.pending = false;
                in_size = n;
            }
            const std::size_t left = in_size - in_from, n = left < to.size() ? left : to.size();
            copy(to.data(), {in + in_from, n});
            in_from += n;
            if (in_from == in_size)
                read();
            else
                bell.ring();
            return LocalReceived{n, false, {}};
        }
        Result<std::size_t> send(Bytes bytes) {
            if (writing.pending) {
                if (!writing.over()) return Errc::would_block;
                DWORD n = 0;
                writing.pending = false;
                if (::GetOverlappedResult(pipe, &writing.state, &n, FALSE) == FALSE) return last_error();
                // Of what was taken then the caller says the rest again, unless it has given up: then this is something else.
                const std::size_t rest = out_size - 1;
                if (bytes.size() >= rest && std::memcmp(bytes.data(), out + 1, rest) == 0) return rest;
            }
            out_size = bytes.size() < buffer_size ? bytes.size() : buffer_size;
            copy(out, bytes.first(out_size));
            DWORD n = 0;
            if (::WriteFile(pipe, out, static_cast<DWORD>(out_size), &n, writing.begin()) == FALSE) {
                if (::GetLastError() == ERROR_IO_PENDING) return std::size_t{1};
                writing.pending = false;
                return last_error();
            }
            writing.pending = false;
            return out_size;
        }
        bool close() {
            bool done = reading.close(pipe);
            done = writing.close(pipe) && done;
            if (pipe != INVALID_HANDLE_VALUE) ::CloseHandle(pipe);
            return done;
        }
    };
    struct TokenUser {
        alignas(TOKEN_USER) std::byte room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];

        Error ask(HANDLE process) {
            HANDLE token = nullptr;
            DWORD size = 0;
            if (::OpenProcessToken(process, TOKEN_QUERY, &token) == FALSE) return last_error();
            const bool told = ::GetTokenInformation(token, ::TokenUser, room, sizeof room, &size) != FALSE;
            const Error error = told ? Error() : last_error();
            ::CloseHandle(token);
            return error;
        }
        PSID sid() { return reinterpret_cast<TOKEN_USER*>(room)->User.Sid; }
    };
    static Result<NamedPipe> own(HANDLE pipe, bool server) {
        NamedPipe made;
        made.context_ = new (std::nothrow) Context;
        if (made.context_ == nullptr) {
            ::CloseHandle(pipe);
            return Errc::out_of_memory;
        }
        Context& context = *made.context_;
        context.pipe = pipe;
        context.server = server;
        if (const Error error = context.bell.open()) return error;
        if (!context.reading.open(context.bell) || !context.writing.open(context.bell)) return last_error();
        return made;
    }
    DWORD peer_process() const {
        ULONG process = 0;
        if (context_->server)
            ::GetNamedPipeClientProcessId(context_->pipe, &process);
        else
            ::GetNamedPipeServerProcessId(context_->pipe, &process);
        return process;
    }

    Context* context_ = nullptr;
};

using LocalSocket = NamedPipe;

}  // namespace rejoin::inline v0_1
#endif
