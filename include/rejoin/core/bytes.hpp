// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <rejoin/core/version.hpp>
#include <span>

namespace rejoin::inline v0_1 {

/// Bytes to look at; never owns them.
using Bytes = std::span<const std::byte>;
/// Bytes to write into; never owns them.
using MutableBytes = std::span<std::byte>;

/// Characters to look at, from a literal, a `char*`, or anything with `data()` and `size()` of `char` (std::string,
/// std::string_view, Text). Never owns them; for the length of one call.
class TextView {
public:
    constexpr TextView() = default;
    constexpr TextView(const char* text) : data_(text), size_(text == nullptr ? 0 : __builtin_strlen(text)) {}
    constexpr TextView(const char* data, std::size_t size) : data_(data), size_(size) {}
    template <class S>
    requires requires(const S& s) {
        { s.data() } -> std::convertible_to<const char*>;
        { s.size() } -> std::convertible_to<std::size_t>;
    }
    constexpr TextView(const S& text) : data_(text.data()), size_(text.size()) {}

    constexpr const char* data() const { return data_; }
    constexpr std::size_t size() const { return size_; }
    constexpr char operator[](std::size_t i) const { return data_[i]; }
    constexpr const char* begin() const { return data_; }
    constexpr const char* end() const { return data_ + size_; }
    Bytes bytes() const { return {reinterpret_cast<const std::byte*>(data_), size_}; }

private:
    const char* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Whether the characters are the same; for whatever a `TextView` can look at.
inline bool operator==(TextView a, TextView b) {
    return a.size() == b.size() && (a.size() == 0 || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

/// Reads an unsigned integer at `from` in the given byte order; any alignment. The caller has checked that it is there.
template <class T>
T load(const std::byte* from, std::endian order) {
    unsigned char raw[sizeof(T)];
    std::memcpy(raw, from, sizeof(T));
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
        value = static_cast<T>((value << 8) | raw[order == std::endian::big ? i : sizeof(T) - 1 - i]);
    return value;
}

/// Reads a big-endian (network order) unsigned integer; any alignment.
template <class T>
T load_big(const std::byte* from) {
    return load<T>(from, std::endian::big);
}

/// Writes a big-endian (network order) unsigned integer; any alignment.
template <class T>
void store_big(std::byte* to, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<std::byte>(value >> (8 * (sizeof(T) - 1 - i)));
}

/// Copies `from` to `to`, which has room; nothing is fine too (memcpy alone forbids a null pointer of no bytes).
inline void copy(std::byte* to, Bytes from) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

}  // namespace rejoin::inline v0_1
