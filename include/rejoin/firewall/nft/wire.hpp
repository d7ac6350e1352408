// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <rejoin/core/array.hpp>
#include <rejoin/core/bytes.hpp>
#include <rejoin/core/text.hpp>

// nf_tables over netlink (linux/netfilter/nf_tables.h, nfnetlink.h): its numbers, named as the kernel has them but in small letters, and
// its messages, read and written. A message's header and the headers of attributes are in the machine's order, what is in attributes
// big-endian. Pure.
namespace rejoin::inline v0_1::firewall::nft {

// nlmsg_type and flags
inline constexpr std::uint16_t nlmsg_error = 2, nlmsg_done = 3, nfnl_msg_batch_begin = 0x10, nfnl_msg_batch_end = 0x11;
inline constexpr std::uint16_t subsystem = 10 << 8;  // NFNL_SUBSYS_NFTABLES
inline constexpr std::uint16_t nlm_f_request = 0x1, nlm_f_ack = 0x4, nlm_f_dump_intr = 0x10, nlm_f_excl = 0x200, nlm_f_create = 0x400,
                               nlm_f_append = 0x800, nlm_f_dump = 0x300;
enum Message : std::uint16_t {
    newtable = subsystem,
    gettable,
    deltable,
    newchain,
    getchain,
    delchain,
    newrule,
    getrule,
    delrule,
    newset,
    getset,
    delset,
    newsetelem,
    getsetelem,
    delsetelem,
};
// families, and hooks
inline constexpr std::uint8_t nfproto_unspec = 0, nfproto_inet = 1, nfproto_ipv4 = 2, nfproto_ipv6 = 10;
inline constexpr std::uint32_t hook_prerouting = 0, hook_input = 1;
// attributes
inline constexpr std::uint16_t nla_f_nested = 0x8000;
namespace chain {
inline constexpr std::uint16_t table = 1, handle = 2, name = 3, hook = 4, policy = 5, type = 7, flags = 10, hook_num = 1, hook_priority = 2;
}
namespace rule {
inline constexpr std::uint16_t table = 1, chain = 2, handle = 3, expressions = 4, position = 6, userdata = 7;
}
namespace set {
inline constexpr std::uint16_t table = 1, name = 2, flags = 3, key_type = 4, key_len = 5, data_type = 6, desc = 9, id = 10, userdata = 13;
inline constexpr std::uint32_t anonymous = 1, constant = 2, interval = 4, map = 8, timeout = 16, concat = 128;
}  // namespace set
namespace element {
inline constexpr std::uint16_t table = 1, set = 2, elements = 3, set_id = 4, key = 1, data = 2, flags = 3, timeout = 4;
inline constexpr std::uint32_t interval_end = 1, catchall = 2;
}  // namespace element
namespace expression {
inline constexpr std::uint16_t list_elem = 1, name = 1, data = 2, data_value = 1, data_verdict = 2, verdict_code = 1, verdict_chain = 2;
inline constexpr std::uint16_t immediate_dreg = 1, immediate_data = 2, cmp_sreg = 1, cmp_op = 2, cmp_data = 3, payload_dreg = 1,
                               payload_base = 2, payload_offset = 3, payload_len = 4, meta_dreg = 1, meta_key = 2, ct_dreg = 1, ct_key = 2,
                               bitwise_sreg = 1, bitwise_dreg = 2, bitwise_len = 3, bitwise_mask = 4, bitwise_xor = 5, bitwise_op = 6,
                               lookup_set = 1, lookup_sreg = 2, lookup_dreg = 3, lookup_flags = 5, range_sreg = 1, range_op = 2,
                               range_from = 3, range_to = 4, match_name = 1, match_info = 3;
inline constexpr std::uint32_t cmp_eq = 0, cmp_neq = 1, cmp_lt = 2, cmp_lte = 3, cmp_gt = 4, cmp_gte = 5, meta_protocol = 1, meta_iif = 4,
                               meta_iifname = 6, meta_nfproto = 15, meta_l4proto = 16, ct_state = 0, ct_state_new = 8, base_network = 1,
                               base_transport = 2;
inline constexpr std::uint32_t drop = 0, accept = 1, jump = 0xfffffffd, go_to = 0xfffffffc, leave = 0xfffffffb;
}  // namespace expression

inline constexpr std::size_t header_size = 16 + 4;  // nlmsghdr and nfgenmsg

/// Calls `f(type, payload) -> bool` for each attribute; false when one does not fit, or `f` refuses it.
template <class F>
bool each_attribute(Bytes attributes, std::endian order, F f) {
    while (!attributes.empty()) {
        if (attributes.size() < 4) return false;
        const std::size_t size = load<std::uint16_t>(attributes.data(), order);
        if (size < 4 || size > attributes.size()) return false;
        const auto type = static_cast<std::uint16_t>(load<std::uint16_t>(attributes.data() + 2, order) & 0x3fff);
        if (!f(type, attributes.subspan(4, size - 4))) return false;
        const std::size_t next = (size + 3) & ~std::size_t{3};
        attributes = attributes.subspan(next < attributes.size() ? next : attributes.size());
    }
    return true;
}
/// The payload of the first attribute of that type; empty when there is none.
inline Bytes attribute(Bytes attributes, std::endian order, std::uint16_t wanted) {
    Bytes found;
    each_attribute(attributes, order, [&](std::uint16_t type, Bytes payload) {
        if (type == wanted) found = payload;
        return type != wanted;
    });
    return found;
}
inline std::uint32_t number(Bytes payload, std::uint32_t otherwise = 0) {
    return payload.size() == 4 ? load_big<std::uint32_t>(payload.data()) : otherwise;
}
/// A text up to its zero.
inline TextView text(Bytes payload) {
    std::size_t size = 0;
    while (size < payload.size() && payload[size] != std::byte{0}) ++size;
    return {reinterpret_cast<const char*>(payload.data()), size};
}

/// One message of a datagram.
struct Received {
    std::uint16_t type = 0;  ///< `nlmsg_done`, `nlmsg_error`, or one of `Message` with `subsystem`
    std::uint16_t flags = 0;
    std::uint32_t sequence = 0;
    std::int32_t error = 0;  ///< errno, or 0 where an error says that there is none
    std::uint8_t family = 0;
    Bytes attributes;
};
/// Takes the first message off the datagram. False where there is none any more, or none that can be read.
inline bool next_message(Bytes& datagram, std::endian order, Received& to) {
    if (datagram.size() < 16) return false;
    const std::size_t size = load<std::uint32_t>(datagram.data(), order);
    if (size < 16 || size > datagram.size()) return false;
    const Bytes one = datagram.first(size);
    const std::size_t next = (size + 3) & ~std::size_t{3};
    datagram = datagram.subspan(next < datagram.size() ? next : datagram.size());
    to = {};
    to.type = load<std::uint16_t>(one.data() + 4, order);
    to.flags = load<std::uint16_t>(one.data() + 6, order);
    to.sequence = load<std::uint32_t>(one.data() + 8, order);
    if (to.type == nlmsg_error || to.type == nlmsg_done) {
        if (size >= 20) to.error = static_cast<std::int32_t>(0 - load<std::uint32_t>(one.data() + 16, order));
        return true;
    }
    if (size < header_size) return false;
    to.family = std::to_integer<std::uint8_t>(one[16]);
    to.attributes = one.subspan(header_size);
    return true;
}

/// Writes messages, one behind another. Memory that is out makes `ok` false, and what is written then is of no use.
class Writer {
public:
    explicit Writer(std::endian order = std::endian::native) : order_(order) {}

    void message(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence, std::uint8_t family, std::uint16_t resource = 0) {
        end();
        start_ = bytes_.size();
        std::byte* const to = bytes_.extend(header_size);
        if (to == nullptr) return fail();
        std::memset(to, 0, header_size);
        put<std::uint16_t>(start_ + 4, type);
        put<std::uint16_t>(start_ + 6, flags);
        put<std::uint32_t>(start_ + 8, sequence);
        to[16] = std::byte{family};
        store_big<std::uint16_t>(to + 18, resource);
        open_ = true;
    }
    void add(std::uint16_t type, Bytes payload) {
        const std::size_t at = begin(type);
        const std::size_t padded = (payload.size() + 3) & ~std::size_t{3};
        std::byte* const to = bytes_.extend(padded);
        if (to == nullptr && padded > 0) return fail();
        if (padded > 0) std::memset(to, 0, padded);
        copy(to, payload);
        if (ok_) put<std::uint16_t>(at, static_cast<std::uint16_t>(4 + payload.size()));
    }
    void add(std::uint16_t type, std::uint32_t value) {
        std::byte raw[4];
        store_big(raw, value);
        add(type, Bytes(raw));
    }
    void add(std::uint16_t type, std::uint64_t value) {
        std::byte raw[8];
        store_big(raw, value);
        add(type, Bytes(raw));
    }
    /// With its zero.
    void add(std::uint16_t type, TextView text) {
        Text<255> terminated(text);
        add(type, Bytes(reinterpret_cast<const std::byte*>(terminated.data()), terminated.size() + 1));
    }
    /// An attribute that holds others: those that are added until `close`.
    std::size_t begin_nested(std::uint16_t type) { return begin(static_cast<std::uint16_t>(type | nla_f_nested)); }
    void close(std::size_t at) {
        if (ok_) put<std::uint16_t>(at, static_cast<std::uint16_t>(bytes_.size() - at));
    }
    /// Ends the message that was begun; what was written.
    Bytes end() {
        if (open_ && ok_) put<std::uint32_t>(start_, static_cast<std::uint32_t>(bytes_.size() - start_));
        open_ = false;
        return {bytes_.data(), bytes_.size()};
    }
    bool ok() const { return ok_; }

private:
    void fail() { ok_ = false; }
    std::size_t begin(std::uint16_t type) {
        const std::size_t at = bytes_.size();
        std::byte* const to = bytes_.extend(4);
        if (to == nullptr) {
            fail();
            return at;
        }
        put<std::uint16_t>(at, 4);
        put<std::uint16_t>(at + 2, type);
        return at;
    }
    template <class T>
    void put(std::size_t at, T value) {
        if (order_ == std::endian::big) return store_big(bytes_.data() + at, value);
        for (std::size_t i = 0; i < sizeof(T); ++i) bytes_[at + i] = static_cast<std::byte>(value >> (8 * i));
    }

    std::endian order_;
    Array<std::byte> bytes_;
    std::size_t start_ = 0;
    bool open_ = false;
    bool ok_ = true;
};

}  // namespace rejoin::inline v0_1::firewall::nft
