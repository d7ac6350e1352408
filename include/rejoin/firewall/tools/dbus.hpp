// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>

// As much of D-Bus (dbus.freedesktop.org, specification 0.38) as it takes to call a method with texts and numbers, and to read what it
// returns. Pure.
namespace rejoin::inline v0_1::firewall::dbus {

inline constexpr std::size_t message_max = 1 << 20;  // the standard allows 128 MiB

/// Writes a method call, little-endian; `interactive authorization` is not allowed, so that nobody is asked for a password.
class Call {
public:
    Call(std::uint32_t serial, TextView destination, TextView path, TextView of, TextView member) {
        const std::byte fixed[] = {std::byte{'l'}, std::byte{1}, {}, std::byte{1}};
        ok_ = bytes_.append(fixed, 4);
        number(bytes_, 0);  // the body's length
        number(bytes_, serial);
        number(bytes_, 0);  // that of the fields
        field(1, 'o', path);
        field(2, 's', of);
        field(3, 's', member);
        field(6, 's', destination);
    }
    Call& add(TextView value) {
        signature_[arguments_++ & 7] = 's';
        text(body_, value);
        return *this;
    }
    Call& add(std::int32_t value) {
        signature_[arguments_++ & 7] = 'i';
        number(body_, static_cast<std::uint32_t>(value));
        return *this;
    }
    /// All of it; empty where memory is out.
    Bytes end() {
        if (arguments_ > 0) {
            align(bytes_, 8);
            const std::byte of_signature[] = {std::byte{8}, std::byte{1}, std::byte{'g'}, {}, static_cast<std::byte>(arguments_)};
            ok_ =
                ok_ && bytes_.append(of_signature, 5) && bytes_.append(TextView(signature_, arguments_ + 1).bytes().data(), arguments_ + 1);
        }
        if (!ok_) return {};
        set(12, static_cast<std::uint32_t>(bytes_.size() - 16));
        set(4, static_cast<std::uint32_t>(body_.size()));
        align(bytes_, 8);
        ok_ = ok_ && bytes_.append(body_.data(), body_.size());
        return ok_ ? Bytes(bytes_.data(), bytes_.size()) : Bytes();
    }

private:
    void align(Array<std::byte>& to, std::size_t n) {
        while (ok_ && to.size() % n != 0) ok_ = to.push(std::byte{0});
    }
    void number(Array<std::byte>& to, std::uint32_t value) {
        align(to, 4);
        for (int shift = 0; shift < 32; shift += 8) ok_ = ok_ && to.push(static_cast<std::byte>(value >> shift));
    }
    void text(Array<std::byte>& to, TextView value) {
        number(to, static_cast<std::uint32_t>(value.size()));
        const Bytes bytes = value.bytes();
        ok_ = ok_ && to.append(bytes.data(), bytes.size()) && to.push(std::byte{0});
    }
    void field(int code, char type, TextView value) {
        align(bytes_, 8);
        const std::byte head[] = {static_cast<std::byte>(code), std::byte{1}, static_cast<std::byte>(type), {}};
        ok_ = ok_ && bytes_.append(head, 4);
        text(bytes_, value);
    }
    void set(std::size_t at, std::uint32_t value) {
        for (std::size_t i = 0; i < 4; ++i) bytes_[at + i] = static_cast<std::byte>(value >> (8 * i));
    }

    Array<std::byte> bytes_, body_;
    char signature_[9] = {};
    std::size_t arguments_ = 0;
    bool ok_ = true;
};

/// A message that came: its views hold as long as its bytes.
struct Reply {
    enum class Kind : std::uint8_t { other, returned, failed };
    Kind kind = Kind::other;
    std::uint32_t to = 0;  ///< the serial of the call that it answers
    TextView error_name;
    TextView signature;
    Bytes body;
    std::endian order = std::endian::little;

    /// The first value, where it is a text, a truth or an array of texts: each in turn to `f(TextView)`. False for anything else.
    TextView text() const {
        TextView first;
        if (signature == TextView("s")) take(body, order, first);
        return first;
    }
    bool truth() const { return signature == TextView("b") && body.size() >= 4 && load<std::uint32_t>(body.data(), order) == 1; }
    template <class F>
    bool each_text(F f) const {
        if (!(signature == TextView("as")) || body.size() < 4) return false;
        const std::size_t size = load<std::uint32_t>(body.data(), order);
        if (size > body.size() - 4) return false;
        Bytes rest = body.first(4 + size);
        for (std::size_t at = 4; at < rest.size();) {
            at = (at + 3) & ~std::size_t{3};
            if (at >= rest.size()) return false;
            TextView one;
            const std::size_t took = take(rest.subspan(at), order, one);
            if (took == 0) return false;
            f(one);
            at += took;
        }
        return true;
    }

    // A text, with its length and its zero: how many bytes that was; 0 where it does not fit.
    static std::size_t take(Bytes from, std::endian order, TextView& to) {
        if (from.size() < 5) return 0;
        const std::size_t size = load<std::uint32_t>(from.data(), order);
        if (size > from.size() - 5 || from[4 + size] != std::byte{0}) return 0;
        to = {reinterpret_cast<const char*>(from.data() + 4), size};
        return size + 5;
    }
};

/// Takes a message off the front of `bytes`: true when there is one, false while it is not whole. `malformed`; `too_large`.
inline Result<bool> next(Bytes& bytes, Reply& to) {
    if (bytes.size() < 16) return false;
    if (bytes[0] != std::byte{'l'} && bytes[0] != std::byte{'B'}) return Errc::malformed;
    to = {};
    to.order = bytes[0] == std::byte{'l'} ? std::endian::little : std::endian::big;
    if (bytes[3] != std::byte{1}) return Errc::malformed;
    const std::size_t body = load<std::uint32_t>(bytes.data() + 4, to.order), fields = load<std::uint32_t>(bytes.data() + 12, to.order);
    if (body > message_max || fields > message_max) return Errc::too_large;
    const std::size_t start = (16 + fields + 7) & ~std::size_t{7};
    if (bytes.size() < start + body) return false;
    to.kind = bytes[1] == std::byte{2} ? Reply::Kind::returned : bytes[1] == std::byte{3} ? Reply::Kind::failed : Reply::Kind::other;
    const Bytes header = bytes.first(16 + fields);
    for (std::size_t at = 16; at < header.size();) {
        at = (at + 7) & ~std::size_t{7};
        if (header.size() < at + 4 || header[at + 1] != std::byte{1} || header[at + 3] != std::byte{0}) return Errc::malformed;
        const auto code = std::to_integer<int>(header[at]);
        const auto type = std::to_integer<char>(header[at + 2]);
        const Bytes value = header.subspan(at + 4);
        std::size_t took = 0;
        TextView text;
        if (type == 'u') {
            if (value.size() < 4) return Errc::malformed;
            if (code == 5) to.to = load<std::uint32_t>(value.data(), to.order);
            took = 4;
        } else if (type == 's' || type == 'o') {
            took = Reply::take(value, to.order, text);
            if (code == 4) to.error_name = text;
        } else if (type == 'g') {
            if (value.size() < 2 || std::to_integer<std::size_t>(value[0]) + 2 > value.size()) return Errc::malformed;
            took = std::to_integer<std::size_t>(value[0]) + 2;
            if (code == 8) to.signature = {reinterpret_cast<const char*>(value.data() + 1), took - 2};
        }
        if (took == 0) return Errc::malformed;
        at += 4 + took;
    }
    to.body = bytes.subspan(start, body);
    bytes = bytes.subspan(start + body);
    return true;
}

}  // namespace rejoin::inline v0_1::firewall::dbus
