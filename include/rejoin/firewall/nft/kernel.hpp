// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/nft/steps.hpp>
#include <rejoin/os/linux/netlink_socket.hpp>

#if defined(__linux__)
namespace rejoin::inline v0_1::firewall::nft {

/// The kernel's nf_tables, asked and told by netlink: no program is started. Of the network namespace in which it was opened.
class Kernel {
public:
    static Result<Kernel> open() {
        Kernel made;
        auto socket = NetlinkSocket::netfilter();
        if (!socket) return socket.error();
        made.socket_ = std::move(*socket);
        if (made.room_.extend(room_size) == nullptr) return Errc::out_of_memory;
        return made;
    }

    /// All that is there. EPERM without privilege; errors of `Ruleset::read`.
    Error read(Ruleset& to) {
        for (int tries = 0; tries < 10; ++tries) {
            to = Ruleset();
            Error error;
            for (Message what : {getchain, getset})
                if (!error) error = dump(to, [&](Writer& w) { ask(w, what, ++sequence_); });
            for (std::size_t i = 0; i < to.sets().size() && !error; ++i) {
                Set& set = to.sets()[i];
                if (!set.matters()) continue;
                error = dump(to, [&](Writer& w) { ask_elements(w, set, ++sequence_); });
                set.known = !error;
                if (error == Error::system(ENOENT)) error = {};  // it has gone meanwhile
            }
            if (!error) error = dump(to, [&](Writer& w) { ask(w, getrule, ++sequence_); });
            if (error || !to.interrupted()) return error;
        }
        return Errc::would_block;  // it changes all the time
    }
    /// Tells it what `write(Writer&, std::uint32_t& sequence)` writes: all of that, or nothing.
    template <class F>
    Error change(F write) {
        Writer batch;
        begin(batch);
        write(batch, sequence_);
        nft::end(batch, ++sequence_);
        const Bytes all = batch.end();
        if (!batch.ok()) return Errc::out_of_memory;
        if (auto sent = socket_.send(all); !sent) return sent.error();
        Error first;
        // Each message but the two around them is answered, in order, and all of that is there.
        for (bool last = false; !last;) {
            const auto read = receive([&](Bytes datagram) {
                for (Received one; next_message(datagram, std::endian::native, one);) {
                    if (one.type != nlmsg_error) continue;
                    if (one.error != 0 && !first) first = Error::system(one.error);
                    last = last || one.sequence == sequence_ - 1;
                }
                return Error();
            });
            if (read) return first || read == Errc::would_block ? first : read;
        }
        return first;
    }

private:
    Kernel() = default;
    template <class F>
    Error dump(Ruleset& to, F ask_for) {
        Writer request;
        ask_for(request);
        const Bytes bytes = request.end();
        if (!request.ok()) return Errc::out_of_memory;
        if (auto sent = socket_.send(bytes); !sent) return sent.error();
        for (bool done = false; !done;)
            if (const Error error = receive([&](Bytes datagram) { return to.read(datagram, sequence_, done); })) return error;
        return {};
    }
    // What is there, in one call: a dump's end comes in a datagram of its own.
    static constexpr std::size_t datagrams_max = 4, room_size = datagrams_max * 32 * 1024;
    template <class F>
    Error receive(F f) {
        std::size_t sizes[datagrams_max];
        const auto count = socket_.receive({room_.data(), room_.size()}, sizes);
        if (!count) return count.error();
        for (std::size_t i = 0; i < *count; ++i)
            if (const Error error = f(Bytes(room_.data() + i * (room_size / datagrams_max), sizes[i]))) return error;
        return {};
    }

    NetlinkSocket socket_;
    std::uint32_t sequence_ = 0;
    Array<std::byte> room_;
};

}  // namespace rejoin::inline v0_1::firewall::nft
#endif
