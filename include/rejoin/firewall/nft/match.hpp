// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/nft/wire.hpp>
#include <rejoin/firewall/walk.hpp>

// Whether one rule of nf_tables holds for a sample: its expressions, as far as what they look at is known. What is not known here holds
// perhaps. Pure.
namespace rejoin::inline v0_1::firewall::nft {

/// An element of a set or map.
struct Element {
    std::byte key[16] = {};
    bool ends = false;     ///< an interval ends before it
    bool catches = false;  ///< all that no other does
    std::uint32_t verdict = 0;
    Text<127> chain;
};
struct Set {
    Text<127> table, name;
    std::uint8_t family = 0;
    std::uint32_t flags = 0, key_type = 0, key_length = 0;
    bool known = false;  ///< `elements` are all of them
    Array<Element> elements;

    /// Whether what it holds can matter: addresses of others are not known anyway (nft's datatypes 7, 8 and 9), nor is what is put
    /// together.
    bool matters() const {
        return key_length > 0 && key_length <= 16 && (flags & set::concat) == 0 && !(key_type >= 7 && key_type <= 9) && key_type < 64;
    }
};

/// What a rule does, and whether it does.
struct Outcome {
    Holds holds = Holds::always;
    FilterRule::Verdict verdict = FilterRule::Verdict::none;
    TextView chain;  ///< of a jump
};

namespace detail {

using V = FilterRule::Verdict;

constexpr V verdict_of(std::uint32_t code) {
    return code == expression::accept  ? V::accept
           : code == expression::drop  ? V::drop
           : code == expression::jump  ? V::jump
           : code == expression::go_to ? V::go_to
           : code == expression::leave ? V::leave
                                       : V::none;
}

// What the kernel's registers hold, or what is known of it.
class Registers {
public:
    enum class Kind : std::uint8_t { unknown, bytes, port, of_interface };
    struct Register {
        Kind kind = Kind::unknown;
        std::uint8_t size = 0;
        std::byte bytes[16] = {};
    };

    // NFT_REG_1 to 4 are 16 bytes, NFT_REG32_00 to 15 are their quarters.
    Register* at(std::uint32_t number) {
        if (number >= 1 && number <= 4) return &all_[(number - 1) * 4];
        return number >= 8 && number < 24 ? &all_[number - 8] : nullptr;
    }
    void set(std::uint32_t number, Bytes bytes) {
        Register* const to = at(number);
        if (to == nullptr) return;
        *to = {};
        if (bytes.size() > sizeof to->bytes) return;
        to->kind = Kind::bytes;
        to->size = static_cast<std::uint8_t>(bytes.size());
        copy(to->bytes, bytes);
    }
    void set(std::uint32_t number, Kind kind) {
        if (Register* const to = at(number)) *to = {kind, 0, {}};
    }
    void forget() {
        for (Register& one : all_) one = {};
    }

private:
    Register all_[16];
};

class Evaluation {
public:
    Evaluation(const Sample& sample, const Array<Set>& sets, std::uint8_t family, TextView table, std::endian order)
        : sample_(sample), sets_(sets), family_(family), table_(table), order_(order) {}

    Outcome of(Bytes expressions) {
        const bool whole = each_attribute(expressions, order_, [this](std::uint16_t type, Bytes one) {
            if (type == expression::list_elem)
                step(text(attribute(one, order_, expression::name)), attribute(one, order_, expression::data));
            return out_.holds != Holds::never && out_.verdict == V::none;
        });
        static_cast<void>(whole);
        return out_;
    }

private:
    using Kind = Registers::Kind;

    std::uint32_t value(Bytes data, std::uint16_t type, std::uint32_t otherwise = 0) const {
        return number(attribute(data, order_, type), otherwise);
    }
    void require(Holds holds) { out_.holds = both(out_.holds, holds); }
    void load(std::uint32_t to, std::uint32_t host) {
        std::byte raw[4];
        for (std::size_t i = 0; i < 4; ++i) raw[order_ == std::endian::big ? 3 - i : i] = static_cast<std::byte>(host >> (8 * i));
        registers_.set(to, Bytes(raw));
    }
    void load_byte(std::uint32_t to, unsigned value) {
        const std::byte raw[] = {static_cast<std::byte>(value)};
        registers_.set(to, Bytes(raw));
    }

    void step(TextView name, Bytes data) {
        if (name == TextView("immediate")) return immediate(data);
        if (name == TextView("cmp")) return compare(data);
        if (name == TextView("range")) return range(data);
        if (name == TextView("lookup")) return lookup(data);
        if (name == TextView("payload")) return payload(data);
        if (name == TextView("meta")) return meta(data);
        if (name == TextView("ct")) return conntrack(data);
        if (name == TextView("fib")) return fib(data);
        if (name == TextView("bitwise")) return bitwise(data);
        if (name == TextView("match"))
            return match(text(attribute(data, order_, expression::match_name)), attribute(data, order_, expression::match_info));
        if (name == TextView("target")) return target(text(attribute(data, order_, expression::match_name)));
        if (name == TextView("reject")) return decide(V::drop);
        if (name == TextView("queue")) return require(Holds::perhaps), decide(V::drop);  // who takes it from there may do so
        for (const char* harmless : {"counter", "log", "notrack", "objref", "dynset", "last", "dup"})
            if (name == TextView(harmless)) return;
        require(Holds::perhaps);
        registers_.forget();
    }
    void decide(V verdict, TextView chain = {}) {
        out_.verdict = verdict;
        out_.chain = chain;
    }

    void immediate(Bytes data) {
        const std::uint32_t to = value(data, expression::immediate_dreg);
        const Bytes what = attribute(data, order_, expression::immediate_data);
        if (to != 0) return registers_.set(to, attribute(what, order_, expression::data_value));
        const Bytes verdict = attribute(what, order_, expression::data_verdict);
        decide(verdict_of(value(verdict, expression::verdict_code, 0xffffffff)),
               text(attribute(verdict, order_, expression::verdict_chain)));
    }
    void payload(Bytes data) {
        const std::uint32_t to = value(data, expression::payload_dreg), base = value(data, expression::payload_base),
                            offset = value(data, expression::payload_offset), length = value(data, expression::payload_len);
        if (base == expression::base_transport && offset == 2 && length == 2) {
            if (sample_.first_port != sample_.last_port) return registers_.set(to, Kind::port);
            std::byte raw[2];
            store_big(raw, sample_.first_port);
            return registers_.set(to, Bytes(raw));
        }
        if (base == expression::base_transport && offset == 13 && length == 1 && sample_.protocol == Protocol::tcp)
            return load_byte(to, 2);  // SYN
        if (base == expression::base_network && length == 1 && offset == (sample_.v6 ? 6u : 9u))
            return load_byte(to, static_cast<unsigned>(sample_.protocol));
        registers_.set(to, Kind::unknown);
    }
    void meta(Bytes data) {
        const std::uint32_t to = value(data, expression::meta_dreg);
        switch (value(data, expression::meta_key, 0xffffffff)) {
            case expression::meta_l4proto:
                return load_byte(to, static_cast<unsigned>(sample_.protocol));
            case expression::meta_nfproto:
                return load_byte(to, sample_.v6 ? nfproto_ipv6 : nfproto_ipv4);
            case expression::meta_protocol: {
                const std::byte v4[] = {std::byte{8}, std::byte{0}}, v6[] = {std::byte{0x86}, std::byte{0xdd}};
                return registers_.set(to, sample_.v6 ? Bytes(v6) : Bytes(v4));
            }
            case 19:  // NFT_META_PKTTYPE: for this host
                return load_byte(to, 0);
            case expression::meta_iifname: {
                if (sample_.interface_name.empty()) return registers_.set(to, Kind::of_interface);
                std::byte name[16] = {};
                copy(name, TextView(sample_.interface_name).bytes());
                return registers_.set(to, Bytes(name));
            }
            case expression::meta_iif:
                if (sample_.interface_index == 0) return registers_.set(to, Kind::of_interface);
                return load(to, sample_.interface_index);
            default:
                registers_.set(to, Kind::unknown);
        }
    }
    void conntrack(Bytes data) {
        const std::uint32_t to = value(data, expression::ct_dreg);
        if (value(data, expression::ct_key, 0xffffffff) == expression::ct_state) return load(to, expression::ct_state_new);
        registers_.set(to, Kind::unknown);
    }
    void fib(Bytes data) {
        // NFTA_FIB_DREG, _RESULT (3: the kind of the address) and _FLAGS (2: of where it goes): to this host, RTN_LOCAL.
        const std::uint32_t to = value(data, 1);
        if (value(data, 2) == 3 && (value(data, 3) & 2) != 0) return load(to, 2);
        registers_.set(to, Kind::unknown);
    }
    void bitwise(Bytes data) {
        const Registers::Register* const from = registers_.at(value(data, expression::bitwise_sreg));
        const std::uint32_t to = value(data, expression::bitwise_dreg);
        const Bytes mask = attribute(attribute(data, order_, expression::bitwise_mask), order_, expression::data_value);
        const Bytes flip = attribute(attribute(data, order_, expression::bitwise_xor), order_, expression::data_value);
        if (from == nullptr || from->kind != Kind::bytes || value(data, expression::bitwise_op) != 0 || mask.size() != from->size ||
            flip.size() != from->size)
            return registers_.set(to, Kind::unknown);
        std::byte result[16];
        for (std::size_t i = 0; i < mask.size(); ++i) result[i] = (from->bytes[i] & mask[i]) ^ flip[i];
        registers_.set(to, Bytes(result, mask.size()));
    }

    // How many of the ports are such that `good(port)`.
    template <class F>
    Holds of_ports(F good) const {
        std::uint32_t count = 0, all = std::uint32_t{sample_.last_port} - sample_.first_port + 1;
        for (std::uint32_t i = 0; i < all; ++i) count += good(static_cast<std::uint16_t>(sample_.first_port + i)) ? 1u : 0u;
        return count == 0 ? Holds::never : count == all ? Holds::always : Holds::partly;
    }
    static bool compares(std::uint32_t op, int order) {
        switch (op) {
            case expression::cmp_eq:
                return order == 0;
            case expression::cmp_neq:
                return order != 0;
            case expression::cmp_lt:
                return order < 0;
            case expression::cmp_lte:
                return order <= 0;
            case expression::cmp_gt:
                return order > 0;
            default:
                return order >= 0;
        }
    }
    // Of an interface of which only that is known that it is not the loopback.
    Holds is_interface(Bytes wanted) const {
        const bool loopback = wanted.size() == 4 ? rejoin::load<std::uint32_t>(wanted.data(), order_) == 1 : text(wanted) == TextView("lo");
        return loopback ? Holds::never : Holds::perhaps;
    }
    void compare(Bytes data) {
        const Registers::Register* const from = registers_.at(value(data, expression::cmp_sreg));
        const std::uint32_t op = value(data, expression::cmp_op, 0xffffffff);
        const Bytes with = attribute(attribute(data, order_, expression::cmp_data), order_, expression::data_value);
        if (from == nullptr || with.empty() || op > expression::cmp_gte) return require(Holds::perhaps);
        if (from->kind == Kind::of_interface && op <= expression::cmp_neq)
            return require(op == expression::cmp_eq ? is_interface(with) : opposite(is_interface(with)));
        if (from->kind == Kind::port && with.size() == 2) {
            const int port = load_big<std::uint16_t>(with.data());
            return require(of_ports([&](std::uint16_t one) { return compares(op, one - port); }));
        }
        if (from->kind != Kind::bytes || with.size() > from->size) return require(Holds::perhaps);  // shorter: a name's beginning
        require(compares(op, std::memcmp(from->bytes, with.data(), with.size())) ? Holds::always : Holds::never);
    }
    void range(Bytes data) {
        const Registers::Register* const in = registers_.at(value(data, expression::range_sreg));
        const Bytes from = attribute(attribute(data, order_, expression::range_from), order_, expression::data_value);
        const Bytes to = attribute(attribute(data, order_, expression::range_to), order_, expression::data_value);
        Holds holds = Holds::perhaps;
        if (in != nullptr && in->kind == Kind::port && from.size() == 2 && to.size() == 2)
            holds = of_ports([&](std::uint16_t one) {
                return one >= load_big<std::uint16_t>(from.data()) && one <= load_big<std::uint16_t>(to.data());
            });
        else if (in != nullptr && in->kind == Kind::bytes && from.size() == in->size && to.size() == in->size && in->size > 0)
            holds = std::memcmp(in->bytes, from.data(), in->size) >= 0 && std::memcmp(in->bytes, to.data(), in->size) <= 0 ? Holds::always
                                                                                                                           : Holds::never;
        require(value(data, expression::range_op) == 0 ? holds : opposite(holds));
    }

    static const Element* find(const Set& set, const std::byte* key, std::size_t size) {
        const Element* found = nullptr;
        const Element* otherwise = nullptr;
        for (const Element& one : set.elements) {
            if (one.catches) {
                otherwise = &one;
                continue;
            }
            const int order = std::memcmp(one.key, key, size);
            if ((set.flags & set::interval) == 0) {
                if (order == 0) return &one;
            } else if (order <= 0 && (found == nullptr || std::memcmp(found->key, one.key, size) < 0 ||
                                      (std::memcmp(found->key, one.key, size) == 0 && found->ends))) {
                found = &one;  // the last that begins or ends before it
            }
        }
        return found != nullptr && !found->ends ? found : otherwise;
    }
    void lookup(Bytes data) {
        const TextView name = text(attribute(data, order_, expression::lookup_set));
        const Registers::Register* const from = registers_.at(value(data, expression::lookup_sreg));
        const Bytes dreg = attribute(data, order_, expression::lookup_dreg);
        const bool inverted = (value(data, expression::lookup_flags) & 1) != 0;
        const Set* set = nullptr;
        for (const Set& one : sets_)
            if (one.family == family_ && one.name == name && one.table == table_) set = &one;
        const bool known = set != nullptr && set->known && from != nullptr;
        if (dreg.empty()) {
            Holds holds = Holds::perhaps;
            if (known && from->kind == Kind::bytes && from->size >= set->key_length)
                holds = find(*set, from->bytes, set->key_length) != nullptr ? Holds::always : Holds::never;
            else if (known && from->kind == Kind::port && set->key_length == 2)
                holds = of_ports([&](std::uint16_t one) {
                    std::byte raw[2];
                    store_big(raw, one);
                    return find(*set, raw, 2) != nullptr;
                });
            return require(inverted ? opposite(holds) : holds);
        }
        if (number(dreg) != 0) return require(Holds::perhaps), registers_.set(number(dreg), Kind::unknown);
        if (known && from->kind == Kind::bytes && from->size >= set->key_length) {
            const Element* const one = find(*set, from->bytes, set->key_length);
            if (one == nullptr) return require(Holds::never);
            return decide(verdict_of(one->verdict), one->chain);
        }
        require(Holds::perhaps);
        decide(V::drop);  // some may be
    }

    // ---- What iptables-nft leaves to the modules of iptables: structures of the kernel's, in the machine's order.

    std::uint16_t two(Bytes info, std::size_t at) const { return rejoin::load<std::uint16_t>(info.data() + at, order_); }
    bool in_ports(Bytes info, std::size_t at, std::uint16_t port) const { return port >= two(info, at) && port <= two(info, at + 2); }
    void match(TextView name, Bytes info) {
        const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(info[i]); };
        if (name == TextView("comment")) return;
        if ((name == TextView("tcp") && info.size() >= 12) || (name == TextView("udp") && info.size() >= 9)) {
            const bool tcp = name == TextView("tcp");
            if (tcp != (sample_.protocol == Protocol::tcp)) return require(Holds::never);
            const unsigned inverted = at(tcp ? 11 : 8);
            const Holds ports = of_ports([&](std::uint16_t one) { return in_ports(info, 4, one); });
            require((inverted & 2) != 0 ? opposite(ports) : ports);
            if (two(info, 0) != 0 || two(info, 2) != 0xffff || (tcp && at(8) != 0)) require(Holds::perhaps);
            if (tcp && at(9) != 0 && ((2 & at(9)) == at(10)) == ((inverted & 4) != 0)) require(Holds::never);
            return;
        }
        if (name == TextView("multiport") && info.size() >= 48 && at(1) <= 15) {  // xt_multiport_v1
            if (at(0) != 1) return require(Holds::perhaps);
            const Holds holds = of_ports([&](std::uint16_t one) {
                for (std::size_t i = 0; i < at(1); ++i) {
                    const std::uint16_t first = two(info, 2 + 2 * i);
                    const std::uint16_t last = at(32 + i) != 0 && i + 1 < at(1) ? two(info, 2 + 2 * ++i) : first;
                    if (one >= first && one <= last) return true;
                }
                return false;
            });
            return require(at(47) != 0 ? opposite(holds) : holds);
        }
        if (name == TextView("conntrack") && info.size() >= 152 && two(info, 146) == 1) {  // xt_conntrack_mtinfo2 and 3: the state alone
            const bool is = (two(info, 150) & expression::ct_state_new) != 0;
            return require(is != ((two(info, 148) & 1) != 0) ? Holds::always : Holds::never);
        }
        if (name == TextView("state") && info.size() >= 4)  // xt_state_info
            return require((rejoin::load<std::uint32_t>(info.data(), order_) & expression::ct_state_new) != 0 ? Holds::always
                                                                                                              : Holds::never);
        if (name == TextView("addrtype") && info.size() >= 8 && two(info, 0) == 0 && two(info, 2) != 0) {  // xt_addrtype_info_v1
            const bool is = (two(info, 2) & 1 << 2) != 0;                                                  // RTN_LOCAL
            return require(is != ((rejoin::load<std::uint32_t>(info.data() + 4, order_) & 2) != 0) ? Holds::always : Holds::never);
        }
        require(Holds::perhaps);
    }
    void target(TextView name) {
        if (name == TextView("REJECT") || name == TextView("DROP") || name == TextView("TARPIT")) return decide(V::drop);
        if (name == TextView("ACCEPT")) return decide(V::accept);
    }

    const Sample& sample_;
    const Array<Set>& sets_;
    const std::uint8_t family_;
    const TextView table_;
    const std::endian order_;
    Registers registers_;
    Outcome out_;
};

}  // namespace detail

/// What a rule of that table, by its expressions, does with the sample.
inline Outcome evaluate(Bytes expressions, const Sample& sample, const Array<Set>& sets, std::uint8_t family, TextView table,
                        std::endian order) {
    return detail::Evaluation(sample, sets, family, table, order).of(expressions);
}

}  // namespace rejoin::inline v0_1::firewall::nft
