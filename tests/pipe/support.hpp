// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <rejoin.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "os/system.hpp"
#include "os/until.hpp"

using namespace rejoin;

constexpr Duration ms(int n) { return Duration::milliseconds(n); }

inline std::string text(Bytes bytes) { return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }

/// Options whose times suit a test: whatever is tried again is tried at once.
template <class P>
typename P::Options quick() {
    typename P::Options options;
    if constexpr (requires { options.recovery.backoff_base; }) {
        options.recovery.backoff_base = ms(1);
        options.recovery.backoff_cap = ms(20);
        options.recovery.budget = 1'000'000;
        options.recovery.regain_jitter = Duration();
    }
    return options;
}
template <class L>
typename L::Options quick_listener() {
    typename L::Options options;
    options.pipe = quick<typename L::AcceptedPipe>();
    return options;
}

/// Writes down what a pipe's handlers hear.
struct Heard {
    template <class P>
    explicit Heard(P& pipe) {
        listen(pipe);
    }
    Heard() = default;
    template <class P>
    void listen(P& pipe) {
        pipe.on_state([this](PipeState state, const Failure& why) {
            states.push_back(state);
            failures.push_back(why);
        });
        pipe.on_receive([this](Bytes b) { bytes += text(b); });
        pipe.on_drained([this] { ++drained; });
        pipe.on_network_change([this](const NetworkChange& change) { changes.push_back(change.kind); }, Notice::at_once);
    }
    bool is(PipeState state) const { return !states.empty() && states.back() == state; }
    int times(PipeState state) const { return static_cast<int>(std::count(states.begin(), states.end(), state)); }
    Failure why() const { return failures.empty() ? Failure{} : failures.back(); }
    /// Closed, and in order.
    bool over() const { return is(PipeState::closed) && !why(); }

    std::vector<PipeState> states;
    std::vector<Failure> failures;
    std::string bytes;
    int drained = 0;
    std::vector<NetworkChange::Kind> changes;
};

/// Bytes that tell where in the stream they belong.
inline std::byte at(std::uint64_t offset) { return static_cast<std::byte>((offset * 0x9e3779b97f4a7c15) >> 56); }

/// Sends so many of them, as fast as the pipe takes them.
template <class P>
struct Source {
    Source(P& p, std::uint64_t n, bool close_behind = false) : pipe(p), total(n), close(close_behind) {
        pipe.on_drained([this] { go(); });
        go();
    }
    void go() {
        while (sent < total) {
            std::byte piece[10'000];
            const std::size_t n = total - sent < sizeof piece ? static_cast<std::size_t>(total - sent) : sizeof piece;
            for (std::size_t i = 0; i < n; ++i) piece[i] = at(sent + i);
            if (!pipe.send(Bytes(piece, n))) return;
            sent += n;
        }
        if (std::exchange(close, false)) pipe.close();
    }
    P& pipe;
    std::uint64_t total, sent = 0;
    bool close;
};

/// Checks that just these come, in order.
struct Sink {
    Sink() = default;
    template <class P>
    explicit Sink(P& pipe) {
        listen(pipe);
    }
    template <class P>
    void listen(P& pipe) {
        pipe.on_receive([this](Bytes bytes) {
            for (std::byte b : bytes) good = good && b == at(received++);
        });
    }
    std::uint64_t received = 0;
    bool good = true;
};

/// Something between client and server that passes bytes on, until told otherwise. Each connection to it is one more to the target.
class Middle {
public:
    enum Way { to_server, to_client };

    Middle(Loop& loop, Endpoint target) : loop_(loop), target_(std::move(target)) { REQUIRE(acceptor_.listen({"127.0.0.1", 0}, 100)); }
    Endpoint endpoint() const { return acceptor_.local_endpoint(); }
    void retarget(Endpoint target) { target_ = std::move(target); }

    /// Resets every connection.
    void cut() {
        for (Link& link : links_) link.cut(true);
    }
    /// Closes every connection, as a process that dies does.
    void hang_up() {
        for (Link& link : links_) link.cut(false);
    }
    /// Keeps what comes, on old and new connections, until it is let go.
    void hold(bool held) {
        held_ = held;
        if (!held)
            for (Link& link : links_) link.flush();
    }
    /// The next connection is cut when it has passed so many bytes on in that direction.
    void cut_next_after(Way way, std::size_t n, bool reset) { next_cut_ = Cut{way, n, reset}; }

    int connections = 0;
    int cuts = 0;
    std::size_t passed[2] = {};  // in all

private:
    struct Cut {
        Way way;
        std::size_t after;
        bool reset;
    };
    struct Link;
    struct Side final : ConnectionObserver {
        Side(Link& l, Way w) : link(l), into(w), connection(l.middle.loop_, *this) {}
        void on_open() override {
            open = true;
            link.flush();
        }
        bool on_bytes(Bytes bytes) override {
            Side& other = into == to_server ? link.client : link.server;
            other.pending += text(bytes);
            link.flush();
            return true;
        }
        bool on_writable() override {
            link.flush();
            return true;
        }
        void on_end() override {
            (into == to_server ? link.client : link.server).end_due = true;
            link.flush();
        }
        void on_error(Error) override { link.cut(true); }
        void flush() {
            if (link.dead || !open || link.middle.held_) return;
            std::size_t n = pending.size();
            const bool cut_now = link.cut_at && link.cut_at->way == into && link.passed + n >= link.cut_at->after;
            if (cut_now) n = link.cut_at->after - link.passed;
            while (n > 0) {
                const Bytes piece[] = {TextView(pending.data(), n).bytes()};
                auto wrote = connection.write(piece);
                if (!wrote && wrote.error() != Errc::would_block) return link.cut(true);
                if (!wrote) return connection.want_writable();
                pending.erase(0, *wrote);
                n -= *wrote;
                link.middle.passed[into] += *wrote;
                if (link.cut_at && link.cut_at->way == into) link.passed += *wrote;
            }
            if (cut_now) return link.cut(link.cut_at->reset);
            if (std::exchange(end_due, false)) connection.end();
        }
        Link& link;
        Way into;
        TcpConnection connection;
        std::string pending;
        bool open = false;
        bool end_due = false;
    };
    struct Link {
        Link(Middle& m, Socket&& socket)
            : middle(m), cut_at(std::exchange(m.next_cut_, std::nullopt)), client(*this, to_client), server(*this, to_server) {
            client.open = true;
            dead = !client.connection.adopt(std::move(socket)) || !server.connection.open(m.target_, {});
            if (cut_at && cut_at->after == 0) cut(cut_at->reset);
        }
        void flush() {
            client.flush();
            server.flush();
        }
        void cut(bool reset) {
            if (std::exchange(dead, true)) return;
            ++middle.cuts;
            for (Side* side : {&client, &server}) {
                if (reset)
                    side->connection.abort();
                else
                    side->connection.release();  // closed at once
            }
        }
        Middle& middle;
        std::optional<Cut> cut_at;
        std::size_t passed = 0;
        Side client, server;
        bool dead = false;
    };
    void accepted(Socket&& socket) {
        ++connections;
        links_.emplace_back(*this, std::move(socket));
    }

    Loop& loop_;
    Endpoint target_;
    bool held_ = false;
    std::optional<Cut> next_cut_;
    std::list<Link> links_;
    TcpAcceptor acceptor_{loop_, Delegate<void(Socket&&)>::to<&Middle::accepted>(this)};
};

/// A plain socket that listens at 127.0.0.1 and does nothing by itself.
struct Mute {
    explicit Mute(int backlog = 100) : listener(std::move(*Socket::tcp(Family::v4))) {
        listener.reuse_address();
        REQUIRE(listener.bind(IpAddress::v4(127, 0, 0, 1), 0));
        REQUIRE(listener.listen(backlog));
    }
    Endpoint endpoint() const { return listener.local_endpoint(); }
    /// Takes what waits now.
    void accept() {
        while (auto socket = listener.accept()) accepted.push_back(std::move(*socket));
    }
    Socket listener;
    std::vector<Socket> accepted;
};

/// A place where connections stay unanswered, as behind a filter that drops them: its queue is full.
struct BlackHole : Mute {
    BlackHole() : Mute(0) {
        for (int i = 0; i < 3; ++i) {
            fill.push_back(std::move(*Socket::tcp(Family::v4)));
            static_cast<void>(fill.back().connect(endpoint().ip(), endpoint().port()));
        }
    }
    std::vector<Socket> fill;
};

/// A network of one interface: its address, and whether there is a route to the internet over it. It leads to all of 127/8 and ::1,
/// so that tests over loopback run "over" it.
inline NetworkState network(bool route, std::vector<const char*> addresses = {"127.0.0.1"}) {
    NetworkState state;
    Interface eth;
    eth.index = 2;
    eth.name = TextView("eth0");
    eth.up = eth.carrier = true;
    REQUIRE(state.put(eth));
    for (const char* address : addresses) {
        InterfaceAddress a;
        a.interface_index = 2;
        a.ip = *IpAddress::parse(address);
        REQUIRE(state.put(a));
    }
    state.route[0].present = route;
    if (route) state.route[0].interface_index = 2;
    return state;
}
