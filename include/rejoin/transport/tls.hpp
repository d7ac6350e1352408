// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/loop.hpp>
#include <rejoin/transport/connection.hpp>

namespace rejoin::inline v0_1 {

/// A TLS engine, which is the user's to bring: one for each connection. Pure: records in, records out. `rejoin/openssl.hpp`, which is not
/// part of `rejoin.hpp`, is one.
///
///     E::Context                                      what the engines of one loop share, such as certificates; `loop.service` makes it as
///                                                     `E::Context(loop)` when first asked for
///     Error start(E::Context&, bool server, const char* name)
///                                                     begins; a client proves the server to be `name`, a name or an address in words
///     Error receive(Bytes)                            records, or parts of them, that came; `proof_invalid` for a peer that is not the
///     right
///                                                     one, `malformed` for what is no TLS
///     bool established()                              the handshake is over, and the peer is the right one
///     Result<size_t> read(MutableBytes)               what was received, in the clear; else `would_block`, or `end_of_stream` once the
///     peer has
///                                                     said that it ends
///     Error write(Bytes)                              seals all of it, at most 16 KiB; only once established
///     Error end()                                     says that this side ends
///     Bytes pending(), void sent(size_t)              records that are to be sent; and that so much of them was
template <class E>
concept TlsEngine = requires(E& engine, typename E::Context& context, const E& seen, Bytes bytes, MutableBytes room) {
    { engine.start(context, true, static_cast<const char*>(nullptr)) } -> std::same_as<Error>;
    { engine.receive(bytes) } -> std::same_as<Error>;
    { seen.established() } -> std::same_as<bool>;
    { engine.read(room) } -> std::same_as<Result<std::size_t>>;
    { engine.write(bytes) } -> std::same_as<Error>;
    { engine.end() } -> std::same_as<Error>;
    { engine.pending() } -> std::same_as<Bytes>;
    engine.sent(std::size_t{});
};

/// A stream connection of another kind, with an engine between it and the observer. It is open once the handshake is over. An end that the
/// peer has not announced is an error, `end_of_stream`: somebody may have cut the stream short (RFC 8446, 6.1).
template <class C, TlsEngine E>
class TlsConnection final : private ConnectionObserver {
public:
    TlsConnection(Loop& loop, ConnectionObserver& observer)
        : loop_(loop),
          observer_(&observer),
          inner_(loop, static_cast<ConnectionObserver&>(*this)),
          again_(loop, Delegate<void()>::template to<&TlsConnection::go_on>(this)),
          patience_(loop, Delegate<void()>::template to<&TlsConnection::late>(this)) {}

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }
    [[gnu::cold]] Result<void> open(const Endpoint& to, const Way& way) {
        const auto number = to_text(to.ip());
        opening_ = true;
        if (const Error error = engine_.start(loop_.service<typename E::Context>(), false, way.name != nullptr ? way.name : number.c_str()))
            return error;
        return inner_.open(to, way);
    }
    /// As the server. Open at once, although nothing can be written until the handshake is over; a peer that takes longer for that than
    /// `handshake_max` is given up with `timed_out`.
    template <class S>
    [[gnu::cold]] Result<void> adopt(S accepted) requires requires(C& c) {
        c.adopt(std::move(accepted));
    }
    {
        if (const Error error = engine_.start(loop_.service<typename E::Context>(), true, nullptr)) return error;
        patience_.after(handshake_max);
        return inner_.adopt(std::move(accepted));
    }

    Result<std::size_t> write(std::span<const Bytes> pieces) {
        std::size_t taken = 0;
        if (!established_) return Errc::would_block;
        // Small pieces share a record: each costs 22 bytes and a call.
        std::byte record[record_max];
        for (std::size_t at = 0; !pieces.empty() && engine_.pending().size() < pending_max;) {
            std::size_t size = 0;
            while (!pieces.empty() && size < record_max) {
                const std::size_t left = pieces[0].size() - at, n = left < record_max - size ? left : record_max - size;
                if (n > 0) std::memcpy(record + size, pieces[0].data() + at, n);
                size += n;
                at += n;
                if (at == pieces[0].size()) {
                    pieces = pieces.subspan(1);
                    at = 0;
                }
            }
            if (const Error error = engine_.write({record, size})) return error;
            taken += size;
        }
        if (const Error error = flush()) return error;
        if (taken == 0) return Errc::would_block;
        return taken;
    }
    void want_writable() { writable_wanted_ = true, again_.schedule(); }
    void pause(bool paused) {
        paused_ = paused;
        inner_.pause(paused && established_);  // a handshake goes on
        if (!paused) again_.schedule();        // the engine may hold what came before
    }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t n) { read_limit_ = n; }
    void end() {
        ending_ = !engine_.end();
        static_cast<void>(flush());
    }
    void abort() {
        again_.cancel();
        patience_.cancel();
        inner_.abort();
    }
    Endpoint local_endpoint() const { return inner_.local_endpoint(); }
    Endpoint peer_endpoint() const { return inner_.peer_endpoint(); }
    auto path_info() const requires requires(const C& c) { c.path_info(); }
    { return inner_.path_info(); }
    /// For what else the engine knows, such as the peer's certificate.
    E& engine() { return engine_; }

    static constexpr Duration handshake_max = Duration::seconds(5);

private:
    static constexpr std::size_t record_max = 16 * 1024, pending_max = 64 * 1024;

    void on_open() override {
        if (const Error error = flush()) observer_->on_error(error);
    }
    bool on_bytes(Bytes bytes) override {
        if (const Error error = engine_.receive(bytes)) {
            static_cast<void>(flush());  // tells the peer why
            observer_->on_error(error);
            return false;
        }
        return progress();
    }
    bool on_writable() override { return progress(); }
    void on_end() override {
        inner_ended_ = true;
        progress();
    }
    void on_error(Error error) override { observer_->on_error(error); }
    void go_on() { progress(); }
    void late() { observer_->on_error(Errc::timed_out); }

    // Whatever can be done now. False when this is gone, or of no use any more.
    bool progress() {
        if (const Error error = flush()) return observer_->on_error(error), false;
        if (!established_ && engine_.established()) {
            established_ = true;
            patience_.cancel();
            inner_.pause(paused_);
            if (opening_) {
                again_.schedule();  // for what came together with the handshake's end: the observer may destroy this
                observer_->on_open();
                return false;
            }
        }
        if (writable_wanted_ && established_ && engine_.pending().empty()) {
            writable_wanted_ = false;
            if (!observer_->on_writable()) return false;
        }
        return deliver();
    }
    bool deliver() {
        while (established_ && !paused_ && !ended_) {
            const MutableBytes room = loop_.scratch();
            const auto size = engine_.read(room.first(read_limit_ < room.size() ? read_limit_ : room.size()));
            if (size) {
                if (!observer_->on_bytes(room.first(*size))) return false;
                continue;
            }
            if (size.error() == Errc::would_block) break;
            ended_ = size.error() == Errc::end_of_stream;
            ended_ ? observer_->on_end() : observer_->on_error(size.error());
            return false;
        }
        if (inner_ended_ && !ended_ && !paused_) return observer_->on_error(Errc::end_of_stream), false;
        return true;
    }
    // Sends what the engine has to say, as far as the connection takes it.
    Error flush() {
        for (Bytes out = engine_.pending(); !out.empty(); out = engine_.pending()) {
            const auto wrote = inner_.write({&out, 1});
            if (!wrote) {
                if (wrote.error() == Errc::would_block) inner_.want_writable();
                return wrote.error() == Errc::would_block ? Error() : wrote.error();
            }
            engine_.sent(*wrote);
        }
        if (std::exchange(ending_, false)) inner_.end();
        return {};
    }

    Loop& loop_;
    ConnectionObserver* observer_;
    C inner_;
    E engine_;
    Loop::Deferred again_;
    Loop::Timer patience_;
    std::uint32_t read_limit_ = UINT32_MAX;
    bool opening_ = false;  // the observer waits for `on_open`
    bool established_ = false;
    bool paused_ = false;
    bool writable_wanted_ = false;
    bool ending_ = false;       // the connection is to end once everything is sent
    bool inner_ended_ = false;  // the connection
    bool ended_ = false;        // what the peer says
};

/// The transport policy `T`, a stream's, under TLS by that engine: `mqtt::Client<SystemEvents, Tls<Tcp, OpenSsl>>`,
/// `Pipe<SystemEvents, Resumable<Tls<Tcp, OpenSsl>>>`. A pipe over it has no socket to give away.
template <class T, TlsEngine E>
struct Tls : T {
    using Connection = TlsConnection<typename T::Connection, E>;
};

}  // namespace rejoin::inline v0_1
