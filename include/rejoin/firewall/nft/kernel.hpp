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
        if (made.room_.extend(64 * 1024) == nullptr) return Errc::out_of_memory;
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
        for (;;) {
            const auto size = socket_.receive({room_.data(), room_.size()});
            if (!size) return first || size.error() == Errc::would_block ? first : size.error();
            Bytes datagram(room_.data(), *size);
            for (Received one; next_message(datagram, std::endian::native, one);)
                if (one.type == nlmsg_error && one.error != 0 && !first) first = Error::system(one.error);
        }
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
        for (bool done = false; !done;) {
            const auto size = socket_.receive({room_.data(), room_.size()});
            if (!size) return size.error();
            if (const Error error = to.read({room_.data(), *size}, sequence_, done)) return error;
        }
        return {};
    }

    NetlinkSocket socket_;
    std::uint32_t sequence_ = 0;
    Array<std::byte> room_;
};

}  // namespace rejoin::inline v0_1::firewall::nft
#endif
