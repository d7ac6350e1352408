// SPDX-License-Identifier: BSL-1.0
// Made by amalgamate.cmake from include/: edit there.
#pragma once

// All of rejoin but what many programs do without: MQTT and the messages over it (rejoin/signal.hpp), firewalls and routers
// (rejoin/opening.hpp, rejoin/reach.hpp), and the adaptors to the standard types (rejoin/std.hpp) and to OpenSSL (rejoin/openssl.hpp).

#include <cstddef>
#include <cstdint>
#include <new>

#include <cstdint>
#include <new>

// The version, by Semantic Versioning 2.0.0. `#if` can compare REJOIN_VERSION: major * 10000 + minor * 100 + patch.
// The build reads these three lines; nothing else in the project repeats the numbers.
#define REJOIN_VERSION_MAJOR 0
#define REJOIN_VERSION_MINOR 1
#define REJOIN_VERSION_PATCH 0
#define REJOIN_VERSION (REJOIN_VERSION_MAJOR * 10000 + REJOIN_VERSION_MINOR * 100 + REJOIN_VERSION_PATCH)

/// Everything lives in `rejoin`, inside an inline namespace that names the version, so that two versions of the library can be
/// linked into one program.
namespace rejoin::inline v0_1 {}
#include <utility>

namespace rejoin::inline v0_1 {

/// The errors that are rejoin's own. Whatever the system says is kept as the system's code instead (`Error::Domain::system`).
enum class Errc : std::int32_t {
    ok = 0,
    would_block,       ///< a buffer is full; `on_drained` says when to go on
    invalid_argument,  ///< an argument or option is outside what its documentation allows
    invalid_state,     ///< the call makes no sense in the object's present state
    out_of_memory,     ///< an allocation failed; nothing was changed
    too_large,         ///< larger than a stated bound
    unsupported,       ///< this policy or system cannot do that
    timed_out,         ///< a deadline of rejoin's own passed
    cancelled,         ///< called off by the program
    malformed,         ///< bytes that the protocol does not allow
    version_mismatch,  ///< the peer speaks another version of the session protocol
    proof_invalid,     ///< the peer does not hold the session's key
    session_unknown,   ///< the peer does not know the session: it was restarted, or the session expired there
    session_limit,     ///< the peer holds as many sessions as it may
    session_aborted,   ///< the peer ended the session without delivering everything
    session_fenced,    ///< a newer connection of the same session took over
    session_expired,   ///< no connection for longer than the session may be without one
    unresponsive,      ///< nothing was heard for too long, although bytes were on their way
    address_lost,      ///< the local address or interface that the connection used is gone
    end_of_stream,     ///< the connection ended where it should have gone on
    overloaded,        ///< the server asks to come back later
    redirected,        ///< the server sends its clients to another one
};

/// An error: a code and whose code it is. 8 bytes, trivially copyable. No error is `Error{}`, which is false.
class Error {
public:
    enum class Domain : std::uint8_t {
        rejoin,    ///< an `Errc`
        system,    ///< the host's own code: errno, or WSAGetLastError
        resolver,  ///< an EAI_ code of getaddrinfo
    };

    constexpr Error() = default;
    constexpr Error(Errc code) : code_(static_cast<std::int32_t>(code)) {}
    static constexpr Error system(int code) { return Error(code, Domain::system); }
    static constexpr Error resolver(int code) { return Error(code, Domain::resolver); }

    constexpr explicit operator bool() const { return code_ != 0; }
    /// The code as its domain numbers it; 0 is no error in every domain.
    constexpr std::int32_t code() const { return code_; }
    constexpr Domain domain() const { return domain_; }

    friend constexpr bool operator==(const Error&, const Error&) = default;

private:
    constexpr Error(std::int32_t code, Domain domain) : code_(code), domain_(domain) {}
    std::int32_t code_ = 0;
    Domain domain_ = Domain::rejoin;
};
static_assert(sizeof(Error) == 8);

/// A value or the `Error` that stands in its place. Test it before use: `*r` and `r->` without a value are undefined.
template <class T>
class Result {
public:
    Result(T value) : has_value_(true) { ::new (static_cast<void*>(&value_)) T(std::move(value)); }
    Result(Error error) : error_(error), has_value_(false) {}
    Result(Errc error) : Result(Error(error)) {}
    Result(Result&& other) noexcept : has_value_(other.has_value_) {
        if (has_value_)
            ::new (static_cast<void*>(&value_)) T(std::move(other.value_));
        else
            error_ = other.error_;
    }
    Result& operator=(Result&& other) noexcept {
        if (this != &other) {
            this->~Result();
            ::new (static_cast<void*>(this)) Result(std::move(other));
        }
        return *this;
    }
    ~Result() {
        if (has_value_) value_.~T();
    }

    explicit operator bool() const { return has_value_; }
    T& operator*() & { return value_; }
    const T& operator*() const& { return value_; }
    T&& operator*() && { return std::move(value_); }
    T* operator->() { return &value_; }
    const T* operator->() const { return &value_; }
    /// The error, or no error when there is a value.
    Error error() const { return has_value_ ? Error() : error_; }

private:
    union {
        T value_;
        Error error_;
    };
    bool has_value_;
};

/// Success, or the `Error` that stands in its place.
template <>
class Result<void> {
public:
    constexpr Result() = default;
    constexpr Result(Error error) : error_(error) {}
    constexpr Result(Errc error) : error_(error) {}
    constexpr explicit operator bool() const { return !error_; }
    constexpr Error error() const { return error_; }

private:
    Error error_;
};

}  // namespace rejoin::inline v0_1
#include <type_traits>
#include <utility>

namespace rejoin::inline v0_1 {

namespace detail {

/// The memory of an `Array`, the same code for every type of element.
class ArrayMemory {
public:
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

protected:
    ArrayMemory() = default;
    ArrayMemory(ArrayMemory&& other) noexcept { swap(other); }
    ~ArrayMemory() { ::operator delete(data_); }
    void swap(ArrayMemory& other) {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
    }

    bool full() const { return size_ == capacity_; }
    std::size_t twice() const { return capacity_ == 0 ? 4 : std::size_t{capacity_} * 2; }
    /// Memory for `n` elements of `each` bytes; null when it is out.
    static void* allocate(std::size_t n, std::size_t each) {
        const std::size_t bytes = n * each;
        return n > UINT32_MAX || n > SIZE_MAX / 2 / each ? nullptr : ::operator new(bytes, std::nothrow);
    }
    void replace(void* with, std::size_t capacity) {
        ::operator delete(data_);
        data_ = with;
        capacity_ = static_cast<std::uint32_t>(capacity);
    }

    void* data_ = nullptr;
    std::uint32_t size_ = 0;
    std::uint32_t capacity_ = 0;
};

}  // namespace detail

/// A growing array that never throws: where memory runs out, `push` says so and nothing has changed. Move-only; `copy_from` copies.
template <class T>
class Array : public detail::ArrayMemory {
public:
    Array() = default;
    Array(Array&& other) = default;
    Array& operator=(Array&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Array() { clear(); }

    T* data() { return static_cast<T*>(data_); }
    const T* data() const { return static_cast<const T*>(data_); }
    T* begin() { return data(); }
    T* end() { return data() + size_; }
    const T* begin() const { return data(); }
    const T* end() const { return data() + size_; }
    T& operator[](std::size_t i) { return data()[i]; }
    const T& operator[](std::size_t i) const { return data()[i]; }
    T& back() { return data()[size_ - 1]; }

    /// Room for `n` elements in all; false when memory is out.
    [[gnu::cold]] bool reserve(std::size_t n) {
        if (n <= capacity_) return true;
        T* grown = static_cast<T*>(allocate(n, sizeof(T)));
        if (grown == nullptr) return false;
        if constexpr (std::is_trivially_copyable_v<T>) {
            if (size_ != 0) __builtin_memcpy(static_cast<void*>(grown), data_, size_ * sizeof(T));
        } else {
            for (std::size_t i = 0; i < size_; ++i) {
                ::new (static_cast<void*>(grown + i)) T(std::move((*this)[i]));
                (*this)[i].~T();
            }
        }
        replace(grown, n);
        return true;
    }

    /// Adds at the end; false when memory is out.
    bool push(T value) {
        if (full() && !reserve(twice())) return false;
        ::new (static_cast<void*>(end())) T(std::move(value));
        ++size_;
        return true;
    }

    /// Adds `n` elements at the end, of any value, for the caller to write; null when memory is out, or for none in an empty array.
    T* extend(std::size_t n) requires std::is_trivially_copyable_v<T> {
        const std::size_t need = size_ + n;
        if (need > capacity_ && !reserve(need > twice() ? need : twice())) return nullptr;
        size_ = static_cast<std::uint32_t>(need);
        return end() - n;
    }
    /// Adds copies of `n` elements at the end; false, and unchanged, when memory is out.
    bool append(const T* from, std::size_t n) requires std::is_trivially_copyable_v<T> {
        if (n == 0) return true;
        T* const to = extend(n);
        if (to != nullptr) __builtin_memcpy(to, from, n * sizeof(T));
        return to != nullptr;
    }
    /// Removes the last elements, so that `n` are left, of which there are at least as many.
    void truncate(std::size_t n) {
        while (size_ > n) pop();
    }
    void pop() { (*this)[--size_].~T(); }

    /// Removes element `i`, keeping the order of the rest.
    void erase(std::size_t i) {
        for (; i + 1 < size_; ++i) (*this)[i] = std::move((*this)[i + 1]);
        pop();
    }

    /// Removes every element and keeps the memory.
    void clear() { truncate(0); }

    /// Removes every element and gives the memory back.
    void reset() {
        clear();
        replace(nullptr, 0);
    }

    /// Becomes a copy of `other`; false, and empty, when memory is out.
    bool copy_from(const Array& other) {
        if (this == &other) return true;
        clear();
        if (!reserve(other.size_)) return false;
        for (const T& value : other) push(value);
        return true;
    }
};

}  // namespace rejoin::inline v0_1

#include <cstdint>

namespace rejoin::inline v0_1 {

/// What a descriptor is ready for, or is to be watched for. An error or a hang-up counts as both: the call that follows tells which.
enum class Ready : std::uint8_t { none = 0, readable = 1, writable = 2, both = 3 };

constexpr Ready operator|(Ready a, Ready b) { return static_cast<Ready>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool has(Ready set, Ready what) { return (static_cast<unsigned>(set) & static_cast<unsigned>(what)) != 0; }

}  // namespace rejoin::inline v0_1

// `Socket`, with one face on every system.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

#include <cstdint>

namespace rejoin::inline v0_1 {

/// What a socket is, as far as one has to know before using it.
enum class SocketKind : std::uint8_t {
    none,      ///< no socket, or nobody has said
    stream,    ///< connected: TCP or Unix
    listener,  ///< waits for connections
    datagram,  ///< UDP
};

}  // namespace rejoin::inline v0_1

#include <compare>
#include <cstdint>
#include <type_traits>

namespace rejoin::inline v0_1 {

namespace detail {

// Arithmetic that stops at the end it would run past: an option may hold `std::chrono::hours::max()`.
constexpr std::int64_t add(std::int64_t a, std::int64_t b) {
    std::int64_t sum = 0;
    return !__builtin_add_overflow(a, b, &sum) ? sum : b < 0 ? INT64_MIN : INT64_MAX;
}
constexpr std::int64_t subtract(std::int64_t a, std::int64_t b) {
    std::int64_t difference = 0;
    return !__builtin_sub_overflow(a, b, &difference) ? difference : b > 0 ? INT64_MIN : INT64_MAX;
}
constexpr std::int64_t multiply(std::int64_t a, std::int64_t b) {
    std::int64_t product = 0;
    return !__builtin_mul_overflow(a, b, &product) ? product : (a < 0) != (b < 0) ? INT64_MIN : INT64_MAX;
}

}  // namespace detail

/// A span of time in 64-bit nanoseconds (about 292 years either way). Converts from any `std::chrono::duration` without
/// including <chrono>; `rejoin/std.hpp` converts back. Conversion and arithmetic saturate, and `unlimited()` less anything is
/// `unlimited()`.
class Duration {
public:
    constexpr Duration() = default;

    /// From a chrono duration of any period and arithmetic representation, truncated to nanoseconds.
    template <class D>
    requires requires(const D& d) {
        d.count();
        D::period::num;
        D::period::den;
    }
    constexpr Duration(const D& d)
        : nanoseconds_(scaled(d.count(), D::period::num * (1'000'000'000 / divisor<D>), D::period::den / divisor<D>)) {}

    static constexpr Duration nanoseconds(std::int64_t n) { return Duration(n, Raw{}); }
    static constexpr Duration microseconds(std::int64_t n) { return nanoseconds(n) * 1'000; }
    static constexpr Duration milliseconds(std::int64_t n) { return nanoseconds(n) * 1'000'000; }
    static constexpr Duration seconds(std::int64_t n) { return nanoseconds(n) * 1'000'000'000; }
    /// Longer than any wait: "no limit". (Not `max`: windows.h makes that a macro.)
    static constexpr Duration unlimited() { return nanoseconds(INT64_MAX); }

    constexpr std::int64_t nanoseconds() const { return nanoseconds_; }
    constexpr std::int64_t microseconds() const { return nanoseconds_ / 1'000; }
    constexpr std::int64_t milliseconds() const { return nanoseconds_ / 1'000'000; }

    friend constexpr auto operator<=>(Duration, Duration) = default;
    friend constexpr Duration operator+(Duration a, Duration b) {
        return a == unlimited() || b == unlimited() ? unlimited() : nanoseconds(detail::add(a.nanoseconds_, b.nanoseconds_));
    }
    friend constexpr Duration operator-(Duration a, Duration b) {
        return a == unlimited() ? unlimited() : nanoseconds(detail::subtract(a.nanoseconds_, b.nanoseconds_));
    }
    friend constexpr Duration operator*(Duration a, std::int64_t n) { return nanoseconds(detail::multiply(a.nanoseconds_, n)); }
    friend constexpr Duration operator/(Duration a, std::int64_t n) { return nanoseconds(a.nanoseconds_ / n); }

private:
    struct Raw {};
    constexpr Duration(std::int64_t n, Raw) : nanoseconds_(n) {}

    // Whole nanoseconds first and then the rest, each side divided by what they share, so that only what is too long overflows.
    template <class Rep>
    static constexpr std::int64_t scaled(Rep count, std::int64_t by, std::int64_t over) {
        if constexpr (std::is_floating_point_v<Rep>) {
            const double n = static_cast<double>(count) * static_cast<double>(by) / static_cast<double>(over);
            return !(n < 0x1p63) ? INT64_MAX : n < -0x1p63 ? INT64_MIN : static_cast<std::int64_t>(n);
        } else {
            std::int64_t n = 0;
            if (__builtin_add_overflow(count, std::int64_t{0}, &n)) return INT64_MAX;  // an unsigned count
            return detail::add(detail::multiply(n / over, by), n % over * by / over);
        }
    }
    static constexpr std::int64_t common(std::int64_t a, std::int64_t b) { return b == 0 ? a : common(b, a % b); }
    template <class D>
    static constexpr std::int64_t divisor = common(1'000'000'000, D::period::den);

    std::int64_t nanoseconds_ = 0;
};

/// A moment on the monotonic clock, which neither jumps nor counts time asleep (CLOCK_MONOTONIC). Comparable only within a host's boot.
class TimePoint {
public:
    constexpr TimePoint() = default;
    static constexpr TimePoint from_nanoseconds(std::int64_t n) { return TimePoint(n); }
    /// Later than every moment: "never".
    static constexpr TimePoint never() { return TimePoint(INT64_MAX); }

    constexpr std::int64_t nanoseconds() const { return nanoseconds_; }

    friend constexpr auto operator<=>(TimePoint, TimePoint) = default;
    friend constexpr TimePoint operator+(TimePoint t, Duration d) {
        return d == Duration::unlimited() || t == never() ? never() : TimePoint(detail::add(t.nanoseconds_, d.nanoseconds()));
    }
    friend constexpr Duration operator-(TimePoint a, TimePoint b) {
        return a == never() ? Duration::unlimited() : Duration::nanoseconds(detail::subtract(a.nanoseconds_, b.nanoseconds_));
    }

private:
    constexpr explicit TimePoint(std::int64_t n) : nanoseconds_(n) {}
    std::int64_t nanoseconds_ = 0;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// What the kernel knows of a TCP connection's path (TCP_INFO).
struct PathInfo {
    bool known = false;                 ///< false where the system does not tell
    std::uint32_t in_flight = 0;        ///< segments sent that the peer's kernel has not acknowledged
    std::uint32_t retransmits = 0;      ///< retransmissions of the oldest of them, none answered
    std::uint32_t probes = 0;           ///< probes of a closed window or a quiet connection, none answered
    std::uint32_t segments_sent = 0;    ///< in all
    std::uint32_t segments_resent = 0;  ///< of these, how many were sent before
    Duration since_ack;                 ///< since the peer's kernel last acknowledged anything

    /// Whether the peer's kernel answers, be the peer's program stopped or its buffers full: nothing that went out in the last `d` (or
    /// before) waits for it, or it acknowledged something within `d`. One unanswered probe of a closed window is ordinary.
    bool acknowledges(Duration d) const { return known && ((in_flight == 0 && probes < 2) || since_ack <= d); }
};

}  // namespace rejoin::inline v0_1

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <cstddef>

namespace rejoin::inline v0_1 {

/// Text of at most `N` bytes in the object itself, always ended by a zero. What does not fit is cut off; nothing is allocated.
template <std::size_t N>
class Text {
public:
    constexpr Text() = default;
    Text(TextView text) { append(text); }

    const char* c_str() const { return text_; }
    const char* data() const { return text_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

    Text& append(TextView more) {
        for (char c : more) {
            if (size_ == N) break;
            text_[size_++] = c;
        }
        text_[size_] = 0;
        return *this;
    }

    /// Appends a number in decimal, with at least `width` digits (up to 24).
    Text& append_number(std::int64_t number, int width = 1) {
        const auto magnitude = number < 0 ? ~static_cast<std::uint64_t>(number) + 1 : static_cast<std::uint64_t>(number);
        if (number < 0) append("-");
        return append_digits(magnitude, 10, width);
    }
    /// Appends a number in lower-case hexadecimal, without a prefix.
    Text& append_hex(std::uint64_t number) { return append_digits(number, 16, 1); }

private:
    Text& append_digits(std::uint64_t number, unsigned base, int width) {
        char digits[24];
        std::size_t at = sizeof digits;
        do {
            digits[--at] = "0123456789abcdef"[number % base];
            number /= base;
        } while (number != 0 || (at > 0 && static_cast<int>(sizeof digits - at) < width));
        return append({digits + at, sizeof digits - at});
    }

    std::size_t size_ = 0;
    char text_[N + 1] = {};
};

/// What `describe` returns: one sentence for people.
using Description = Text<207>;

}  // namespace rejoin::inline v0_1
#include <utility>

namespace rejoin::inline v0_1 {

enum class Family : std::uint8_t { none, v4, v6 };

/// An IPv4 or IPv6 address, with the scope (interface index) that a link-local IPv6 address needs. A value of 24 bytes.
struct IpAddress {
    std::uint8_t bytes[16] = {};  ///< network order; IPv4 uses the first four
    std::uint32_t scope = 0;      ///< interface index of a link-local IPv6 address, else 0
    Family family = Family::none;

    static constexpr IpAddress v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
        IpAddress ip;
        ip.bytes[0] = a, ip.bytes[1] = b, ip.bytes[2] = c, ip.bytes[3] = d;
        ip.family = Family::v4;
        return ip;
    }

    /// From the usual text: four decimal numbers (no leading zeros, no short forms), or RFC 4291 §2.2 without a scope.
    /// Anything else is `invalid_argument`.
    static Result<IpAddress> parse(TextView text);

    std::size_t size() const { return family == Family::v4 ? 4 : family == Family::v6 ? 16 : 0; }
    bool is_loopback() const {
        if (family == Family::v4) return bytes[0] == 127;
        for (int i = 0; i < 15; ++i)
            if (bytes[i] != 0) return false;
        return family == Family::v6 && bytes[15] == 1;
    }
    bool is_link_local() const {
        return family == Family::v4 ? bytes[0] == 169 && bytes[1] == 254
                                    : family == Family::v6 && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
    }
    /// 0.0.0.0, ::, or none at all.
    bool is_unspecified() const {
        for (std::uint8_t b : bytes)
            if (b != 0) return false;
        return true;
    }

    friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

/// An IPv4 address that comes mapped into IPv6 (::ffff:192.0.2.1) as the IPv4 address it is; any other as it is.
inline IpAddress unmapped(const IpAddress& ip) {
    static constexpr std::uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (ip.family != Family::v6 || std::memcmp(ip.bytes, prefix, sizeof prefix) != 0) return ip;
    return IpAddress::v4(ip.bytes[12], ip.bytes[13], ip.bytes[14], ip.bytes[15]);
}

/// An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2); any other as it is.
inline IpAddress mapped(const IpAddress& ip) {
    if (ip.family != Family::v4) return ip;
    IpAddress v6 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 0, Family::v6};
    std::memcpy(v6.bytes + 12, ip.bytes, 4);
    return v6;
}

/// As people write it: dotted, or RFC 5952 (lower case, the longest run of zeros left out), with `%scope` where there is one.
[[gnu::cold]] inline Text<63> to_text(const IpAddress& ip) {
    Text<63> text;
    if (ip.family == Family::none) return text.append("none");
    if (ip.family == Family::v4) {
        for (int i = 0; i < 4; ++i) text.append(i == 0 ? "" : ".").append_number(ip.bytes[i]);
        return text;
    }
    const auto group = [&](int i) { return static_cast<unsigned>(ip.bytes[2 * i] << 8 | ip.bytes[2 * i + 1]); };
    int run_at = -1, run_length = 1;  // a single zero group is written out (RFC 5952 §4.2.2)
    for (int i = 0; i < 8; ++i) {
        int n = 0;
        while (i + n < 8 && group(i + n) == 0) ++n;
        if (n > run_length) run_at = i, run_length = n;
    }
    for (int i = 0; i < 8; ++i) {
        if (i == run_at) {
            text.append("::");
            i += run_length - 1;
        } else {
            if (i != 0 && i != run_at + run_length) text.append(":");
            text.append_hex(group(i));
        }
    }
    if (ip.scope != 0) text.append("%").append_number(ip.scope);
    return text;
}

namespace detail {

inline bool parse_v4(TextView text, std::uint8_t* to) {
    std::size_t at = 0;
    for (int part = 0; part < 4; ++part) {
        if (part != 0 && (at == text.size() || text[at++] != '.')) return false;
        unsigned value = 0;
        const std::size_t start = at;
        for (; at < text.size() && text[at] >= '0' && text[at] <= '9' && at - start < 4; ++at)
            value = value * 10 + static_cast<unsigned>(text[at] - '0');
        if (at == start || value > 255 || (at - start > 1 && text[start] == '0')) return false;
        to[part] = static_cast<std::uint8_t>(value);
    }
    return at == text.size();
}

[[gnu::cold]] inline bool parse_v6(TextView text, std::uint8_t* to) {
    std::uint8_t bytes[16] = {};
    std::size_t at = 0;
    int n = 0, gap = -1;  // bytes read, and where "::" stood
    if (text.size() >= 2 && text[0] == ':' && text[1] == ':') gap = 0, at = 2;
    while (at < text.size()) {
        if (n == 16) return false;
        std::size_t end = at;
        while (end < text.size() && text[end] != ':' && text[end] != '.') ++end;
        if (end < text.size() && text[end] == '.') {  // the last 32 bits may be dotted
            if (n > 12 || !parse_v4({text.data() + at, text.size() - at}, bytes + n)) return false;
            n += 4;
            at = text.size();
            break;
        }
        if (end == at || end - at > 4) return false;
        unsigned value = 0;
        for (; at < end; ++at) {
            const char c = text[at];
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) return false;
            value = value << 4 | static_cast<unsigned>(digit);
        }
        bytes[n++] = static_cast<std::uint8_t>(value >> 8);
        bytes[n++] = static_cast<std::uint8_t>(value);
        if (at == text.size()) break;
        if (++at == text.size()) return false;  // a single colon at the end
        if (text[at] == ':') {
            if (gap >= 0) return false;
            gap = n;
            ++at;
        }
    }
    if (gap < 0 ? n != 16 : n == 16) return false;
    for (int i = 0; i < n; ++i) to[i < gap || gap < 0 ? i : 16 - n + i] = bytes[i];
    return true;
}

}  // namespace detail

inline Result<IpAddress> IpAddress::parse(TextView text) {
    IpAddress ip;
    if (detail::parse_v4(text, ip.bytes)) {
        ip.family = Family::v4;
        return ip;
    }
    ip = {};
    if (!detail::parse_v6(text, ip.bytes)) return Errc::invalid_argument;
    ip.family = Family::v6;
    return ip;
}

/// Where to connect or listen: a number or a name, and a port. A host that is an address is kept as one; any other text of 1 to 253
/// bytes is a name, resolved when it is used. What cannot be either makes an endpoint that is not `valid`, which every call refuses.
class Endpoint {
public:
    Endpoint() = default;
    /// `{"127.0.0.1", 4000}`, `{"::1", 4000}`, `{"example.org", 4000}`; port 0 lets the system choose, where that makes sense.
    Endpoint(TextView host, int port) : port_(static_cast<std::uint16_t>(port)) {
        if (port < 0 || port > 65535) return;
        if (auto ip = IpAddress::parse(host)) {
            ip_ = *ip;
            return;
        }
        if (host.size() == 0 || host.size() > 253) return;
        for (char c : host)
            if (static_cast<unsigned char>(c) <= ' ') return;  // no name has these, and a zero would cut it short
        set_name(host);
    }
    Endpoint(const IpAddress& ip, std::uint16_t port) : ip_(ip), port_(port) {}
    /// As people write it: `192.0.2.1:80`, `[2001:db8::1]:80`, `example.org:80`; without a port, and then an IPv6 address without brackets
    /// too, where there is a usual one. Not `valid` for anything else.
    [[gnu::cold]] static Endpoint parse(TextView text, int usual_port = -1) {
        const auto find = [&](char wanted) {
            std::size_t i = 0;
            while (i < text.size() && text[i] != wanted) ++i;
            return i;
        };
        const bool bracketed = text.size() > 0 && text[0] == '[';
        std::size_t from = 0, end = find(bracketed ? ']' : ':'), at = end;  // the host's, and the port's colon
        if (bracketed) {
            if (end == text.size()) return {};
            from = 1;
            at = end + 1;
        } else if (const auto v6 = IpAddress::parse(text); v6 && v6->family == Family::v6) {
            end = at = text.size();
        }
        const TextView host(text.data() + from, end - from);
        int port = usual_port;
        if (at < text.size()) {
            if (text[at] != ':' || text.size() - at < 2 || text.size() - at > 6) return {};
            port = 0;
            for (++at; at < text.size(); ++at) {
                if (text[at] < '0' || text[at] > '9') return {};
                port = port * 10 + (text[at] - '0');
            }
        }
        const Endpoint read(host, port);
        return bracketed && read.ip().family != Family::v6 ? Endpoint() : read;
    }
    Endpoint(const Endpoint& other) : ip_(other.ip_), port_(other.port_) {
        if (other.name_ != nullptr) set_name(other.name_);
    }
    Endpoint(Endpoint&& other) noexcept : ip_(other.ip_), name_(std::exchange(other.name_, nullptr)), port_(other.port_) {}
    Endpoint& operator=(Endpoint other) noexcept {
        ip_ = other.ip_;
        port_ = other.port_;
        std::swap(name_, other.name_);
        return *this;
    }
    ~Endpoint() { std::free(name_); }

    bool valid() const { return ip_.family != Family::none || name_ != nullptr; }
    /// The address; of family `none` while the host is a name.
    const IpAddress& ip() const { return ip_; }
    std::uint16_t port() const { return port_; }
    /// The name to be resolved, or null when the host is an address. Lives as long as this endpoint.
    const char* name() const { return name_; }

    friend bool operator==(const Endpoint& a, const Endpoint& b) {
        return a.ip_ == b.ip_ && a.port_ == b.port_ && TextView(a.name_) == TextView(b.name_);
    }

private:
    void set_name(TextView host) {
        name_ = static_cast<char*>(std::malloc(host.size() + 1));
        if (name_ == nullptr) return;  // not valid, and refused as such
        std::memcpy(name_, host.data(), host.size());
        name_[host.size()] = 0;
    }

    IpAddress ip_;
    char* name_ = nullptr;
    std::uint16_t port_ = 0;
};

/// `192.0.2.1:80`, `[2001:db8::1]:80`, `example.org:80`.
inline Description to_text(const Endpoint& endpoint) {
    Description text;
    if (endpoint.name() != nullptr)
        text.append(endpoint.name());
    else if (endpoint.ip().family == Family::v6)
        text.append("[").append(to_text(endpoint.ip())).append("]");
    else
        text.append(to_text(endpoint.ip()));
    return text.append(":").append_number(endpoint.port());
}

}  // namespace rejoin::inline v0_1

// Winsock and what it brings of windows.h, lean, whether the program included windows.h before or includes it afterwards. A program that
// needs the rest of windows.h, or its macros `min` and `max`, includes it first. What is defined here for the inclusion alone is undefined
// again.
#if defined(_WIN32)
#if defined(_MSC_VER) && defined(_WINSOCKAPI_) && !defined(_WINSOCK2API_)
#error "rejoin needs Winsock 2: include <winsock2.h> before <windows.h>, or define WIN32_LEAN_AND_MEAN before it"
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#define REJOIN_LEAN
#endif
#if !defined(NOMINMAX)
#define NOMINMAX
#define REJOIN_NOMINMAX
#endif
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcpp"  // MinGW warns where windows.h came first, and copes
#endif

#include <winsock2.h>

#include <ws2tcpip.h>

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#if defined(REJOIN_LEAN)
#undef REJOIN_LEAN
#undef WIN32_LEAN_AND_MEAN
#endif
#if defined(REJOIN_NOMINMAX)
#undef REJOIN_NOMINMAX
#undef NOMINMAX
#endif
#if _WIN32_WINNT < 0x0601
#error "rejoin needs Windows 7 or later: _WIN32_WINNT is set to less than 0x0601"
#endif
#if defined(_MSC_VER)
#pragma comment(lib, "ws2_32")
#endif

namespace rejoin::inline v0_1::detail {

/// Readies Winsock for this process, the first time. It is never put away again: the system does that when the process ends. Any thread.
inline Error start_winsock() {
    static const int error = [] {
        WSADATA data;
        return ::WSAStartup(0x0202, &data);
    }();
    return error == 0 ? Error() : Error::system(error);
}

inline constexpr DWORD no_handle_inherit = 0x80;  // WSA_FLAG_NO_HANDLE_INHERIT, of Windows 7 and later

inline Error winsock_error() {
    const int code = ::WSAGetLastError();
    return code == WSAEWOULDBLOCK ? Error(Errc::would_block) : Error::system(code);
}

}  // namespace rejoin::inline v0_1::detail
#endif
#if !defined(_WIN32)
#include <netinet/in.h>
#include <sys/socket.h>
#endif

namespace rejoin::inline v0_1::detail {

/// The address of a system's sockaddr; of family `none` when it is of neither family.
inline IpAddress ip_of(const sockaddr* from) {
    IpAddress ip;
    if (from->sa_family == AF_INET) {
        ip.family = Family::v4;
        std::memcpy(ip.bytes, &reinterpret_cast<const sockaddr_in*>(from)->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        const auto* v6 = reinterpret_cast<const sockaddr_in6*>(from);
        ip.family = Family::v6;
        ip.scope = static_cast<std::uint32_t>(v6->sin6_scope_id);
        std::memcpy(ip.bytes, &v6->sin6_addr, 16);
    }
    return ip;
}

/// An address and a port as the system's calls take and give them.
struct SocketAddress {
    SocketAddress() = default;
    SocketAddress(const IpAddress& ip, std::uint16_t port) {
        if (ip.family == Family::v4) {
            v4.sin_family = AF_INET;
            v4.sin_port = htons(port);
            std::memcpy(&v4.sin_addr, ip.bytes, 4);
        } else {
            v6.sin6_family = AF_INET6;
            v6.sin6_port = htons(port);
            v6.sin6_scope_id = ip.scope;
            std::memcpy(&v6.sin6_addr, ip.bytes, 16);
        }
    }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&v6); }
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&v6); }
    socklen_t size() const { return v6.sin6_family == AF_INET ? sizeof v4 : sizeof v6; }
    /// Not valid when it is of neither family.
    Endpoint endpoint() const {
        const IpAddress ip = ip_of(get());
        if (ip.family == Family::none) return {};
        return {ip, ntohs(ip.family == Family::v4 ? v4.sin_port : v6.sin6_port)};
    }

    union {
        sockaddr_in6 v6{};
        sockaddr_in v4;
    };
};

}  // namespace rejoin::inline v0_1::detail

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <utility>

namespace rejoin::inline v0_1 {

/// A socket: owned, move-only, non-blocking, close-on-exec, never raising SIGPIPE. Errors are the system's own codes, but for "it would
/// have to wait", which is `would_block`.
class Socket {
public:
    using Handle = int;

    Socket() = default;
    /// Takes a descriptor over and makes it non-blocking and close-on-exec.
    explicit Socket(Handle fd) : fd_(fd) {
        if (fd < 0) return;
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        prepare();
    }
    /// Takes over a descriptor that was received, and is close-on-exec already: `check_in` before it is used as a socket.
    static Socket of_received(Handle fd) { return Socket(fd, Made{}); }
    /// Makes what was received non-blocking. False, and it is closed, for what is no socket.
    bool check_in() {
        struct stat is {};
        if (::fstat(fd_, &is) == 0 && S_ISSOCK(is.st_mode))
            prepare();
        else
            close();
        return fd_ >= 0;
    }
    Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Socket() { close(); }

    static Result<Socket> tcp(Family family) { return open(family, SOCK_STREAM); }
    static Result<Socket> udp(Family family) { return open(family, SOCK_DGRAM); }

    explicit operator bool() const { return fd_ >= 0; }
    Handle fd() const { return fd_; }
    /// Gives the descriptor to the caller, who closes it.
    Handle release() { return std::exchange(fd_, -1); }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }
    /// Closes with a reset instead of an orderly end (SO_LINGER of zero, socket(7)): what was not sent is discarded.
    void reset() {
        if (fd_ < 0) return;
        const linger now{1, 0};
        set(SOL_SOCKET, SO_LINGER, now);
        close();
    }

    /// Binds to a local address and port; port 0 is chosen by the system, for outgoing connections as late as it can be.
    Result<void> bind(const IpAddress& ip, std::uint16_t port) {
#if defined(IP_BIND_ADDRESS_NO_PORT)
        if (port == 0 && !listening_reuse_) set(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
#endif
        // Everybody's IPv6 address stands for IPv4 too, whatever the system's habit. OpenBSD has it otherwise, and cannot be asked.
        if (ip.family == Family::v6 && ip.is_unspecified()) set(IPPROTO_IPV6, IPV6_V6ONLY, 0);
        detail::SocketAddress to(ip, port);
        return result(::bind(fd_, to.get(), to.size()));
    }
    /// Lets a server listen again at once on a port whose old connections still linger (SO_REUSEADDR, socket(7)); before `bind`.
    void reuse_address() {
        listening_reuse_ = true;
        set(SOL_SOCKET, SO_REUSEADDR, 1);
    }
    /// Hears what is sent to a multicast group, by the interface that has the address `by`, or for IPv6 by that of the group's scope;
    /// beside other programs that do (ip(7), ipv6(7)). In place of `bind`.
    Result<void> join(const IpAddress& group, std::uint16_t port, const IpAddress& by) {
        set(SOL_SOCKET, SO_REUSEADDR, 1);
#if !defined(__linux__)
        set(SOL_SOCKET, SO_REUSEPORT, 1);  // which alone lets several bind there
#endif
        IpAddress any;
        any.family = group.family;
        if (auto bound = bind(any, port); !bound) return bound;
        if (group.family == Family::v4) {
            ip_mreq request{};
            std::memcpy(&request.imr_multiaddr, group.bytes, 4);
            std::memcpy(&request.imr_interface, by.bytes, 4);
            return result(::setsockopt(fd_, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
        }
        ipv6_mreq request{};
        std::memcpy(&request.ipv6mr_multiaddr, group.bytes, 16);
        request.ipv6mr_interface = group.scope;
        return result(::setsockopt(fd_, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof request));
    }
    Result<void> listen(int backlog) { return result(::listen(fd_, backlog)); }
    /// Starts to connect. `would_block`: under way; when it is writable, `take_error` has the outcome.
    Result<void> connect(const IpAddress& ip, std::uint16_t port) {
        detail::SocketAddress to(ip, port);
        if (::connect(fd_, to.get(), to.size()) == 0) return {};
        return errno == EINPROGRESS || errno == EINTR ? Error(Errc::would_block) : last_error();
    }
    /// Takes one waiting connection.
    Result<Socket> accept() {
        for (;;) {
#if defined(__linux__)
            const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0) return Socket(fd, Made{});
#else
            const int fd = ::accept(fd_, nullptr, nullptr);
            if (fd >= 0) return Socket(fd);
#endif
            if (errno != EINTR) return last_error();
        }
    }

    /// Whether an error of `accept` means that descriptors or memory are out: the connection still waits (accept(2)).
    static bool exhausted(Error error) {
        for (int code : {EMFILE, ENFILE, ENOBUFS, ENOMEM})
            if (error == Error::system(code)) return true;
        return false;
    }

    /// Reads what is there; 0 is the end of the stream.
    Result<std::size_t> receive(MutableBytes to) {
        for (;;) {
            const ssize_t n = ::recv(fd_, to.data(), to.size(), 0);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno != EINTR) return last_error();
        }
    }
    /// Writes the pieces in order in one system call; returns how many bytes the system took, at least one. At most 8 pieces count.
    Result<std::size_t> send(std::span<const Bytes> pieces) {
        if (pieces.size() == 1) return send(pieces[0]);
        iovec vectors[8];
        msghdr message{};
        message.msg_iov = vectors;
        for (Bytes piece : pieces.first(pieces.size() < 8 ? pieces.size() : 8))
            vectors[message.msg_iovlen++] = {const_cast<std::byte*>(piece.data()), piece.size()};
        for (;;) {
            const ssize_t n = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno != EINTR) return last_error();
        }
    }
    Result<std::size_t> send(Bytes bytes) {
        for (;;) {
            const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno != EINTR) return last_error();
        }
    }
    /// Sends one datagram from a UDP socket, whole or not at all. `would_block`: the system has no room for it now.
    Result<void> send_to(Bytes datagram, const IpAddress& ip, std::uint16_t port) {
        detail::SocketAddress to(ip, port);
        for (;;) {
            if (::sendto(fd_, datagram.data(), datagram.size(), MSG_NOSIGNAL, to.get(), to.size()) >= 0) return {};
            if (errno != EINTR) return last_error();
        }
    }
    /// Takes one datagram, and says whom it is from; it may be empty. One that does not fit is `too_large`, and gone.
    Result<std::size_t> receive_from(MutableBytes to, Endpoint& from) {
        detail::SocketAddress sender;
        iovec room{to.data(), to.size()};
        msghdr message{};
        message.msg_iov = &room;
        message.msg_iovlen = 1;
        for (;;) {
            message.msg_name = sender.get();
            message.msg_namelen = sizeof sender;
            const ssize_t n = ::recvmsg(fd_, &message, 0);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return last_error();
            from = sender.endpoint();
            if ((message.msg_flags & MSG_TRUNC) != 0) return Errc::too_large;
            return static_cast<std::size_t>(n);
        }
    }
    /// Ends the sending direction; the peer reads the end of the stream after everything that was sent.
    Result<void> shutdown_send() { return result(::shutdown(fd_, SHUT_WR)); }

    /// The pending error of the socket (SO_ERROR), which is thereby cleared; none is `Error{}`.
    Error take_error() {
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return Error::system(errno);
        return error == 0 ? Error() : Error::system(error);
    }
    /// What it is, asked of the system; `none` for a descriptor that is no socket. Where the system does not tell who listens (macOS), that
    /// is whoever has no peer.
    SocketKind kind() const {
        int type = 0, listening = 0;
        socklen_t size = sizeof type;
        if (::getsockopt(fd_, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return SocketKind::none;
        if (type == SOCK_DGRAM) return SocketKind::datagram;
        size = sizeof listening;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) listening = connected() ? 0 : 1;
        return listening != 0 ? SocketKind::listener : SocketKind::stream;
    }
    /// Whether it has a peer, of whatever family.
    bool connected() const {
        sockaddr_storage any;
        socklen_t size = sizeof any;
        return ::getpeername(fd_, reinterpret_cast<sockaddr*>(&any), &size) == 0;
    }
    Endpoint local_endpoint() const { return endpoint_of(::getsockname); }
    Endpoint peer_endpoint() const { return endpoint_of(::getpeername); }

    /// Sends small pieces at once (TCP_NODELAY): the library gathers by itself.
    void no_delay() { set(IPPROTO_TCP, TCP_NODELAY, 1); }
    /// Lets the kernel retransmit at least this often, where it can (Linux 6.15 and later: TCP_RTO_MAX_MS, 1 s to 120 s), so that a
    /// connection kept in use finds a returned path soon.
    void cap_retransmission(Duration at_least_every) {
#if defined(__linux__)
        set(IPPROTO_TCP, 44 /* TCP_RTO_MAX_MS */, static_cast<int>(at_least_every.milliseconds()));
#else
        static_cast<void>(at_least_every);
#endif
    }
    /// Sends segments of at most `n` bytes, and asks the peer to (TCP_MAXSEG, RFC 9293 §3.7.1); before `connect`.
    void limit_segments(int n) { set(IPPROTO_TCP, TCP_MAXSEG, n); }
    /// Leaves by that interface, whatever the routes prefer; before `connect`. Linux: SO_BINDTOIFINDEX (5.1; without privilege since 5.7),
    /// macOS: IP_BOUND_IF. `unsupported` on the BSDs.
    Result<void> leave_by(std::uint32_t interface_index, Family family) {
        const int index = static_cast<int>(interface_index);
#if defined(__linux__)
        static_cast<void>(family);
        return result(::setsockopt(fd_, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &index, sizeof index));
#elif defined(__APPLE__)
        return family == Family::v4 ? result(::setsockopt(fd_, IPPROTO_IP, 25 /* IP_BOUND_IF */, &index, sizeof index))
                                    : result(::setsockopt(fd_, IPPROTO_IPV6, 125 /* IPV6_BOUND_IF */, &index, sizeof index));
#else
        static_cast<void>(index), static_cast<void>(family);
        return Errc::unsupported;
#endif
    }
    PathInfo path_info() const;

private:
    struct Made {};
    Socket(Handle fd, Made) : fd_(fd) {}
    void prepare() {
        if (const int flags = ::fcntl(fd_, F_GETFL); (flags & O_NONBLOCK) == 0) ::fcntl(fd_, F_SETFL, flags | O_NONBLOCK);
#if defined(SO_NOSIGPIPE) && defined(__APPLE__)
        set(SOL_SOCKET, SO_NOSIGPIPE, 1);  // where MSG_NOSIGNAL is newer than the system may be
#endif
    }

    static Result<Socket> open(Family family, int type) {
        if (family == Family::none) return Errc::invalid_argument;
        const int domain = family == Family::v4 ? AF_INET : AF_INET6;
#if defined(__linux__)
        const int fd = ::socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) return last_error();
        return Socket(fd, Made{});
#else
        const int fd = ::socket(domain, type, 0);
        if (fd < 0) return last_error();
        return Socket(fd);
#endif
    }
    static Error last_error() { return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block) : Error::system(errno); }
    static Result<void> result(int returned) {
        if (returned != 0) return last_error();
        return {};
    }
    template <class T>
    void set(int level, int option, const T& value) {
        ::setsockopt(fd_, level, option, &value, sizeof value);
    }
    Endpoint endpoint_of(int (*get)(int, sockaddr*, socklen_t*)) const {
        detail::SocketAddress from;
        socklen_t size = sizeof from;
        if (get(fd_, from.get(), &size) != 0) return {};
        return from.endpoint();
    }

    Handle fd_ = -1;
    bool listening_reuse_ = false;
};

#if !defined(__linux__)
inline PathInfo Socket::path_info() const { return {}; }
#endif

}  // namespace rejoin::inline v0_1
#endif

#if defined(__linux__)

namespace rejoin::inline v0_1 {

inline PathInfo Socket::path_info() const {
    struct {  // the first part of tcp_info in linux/tcp.h; each C library's own declaration ends elsewhere
        std::uint8_t state, ca_state, retransmits, probes, backoff, options, window_scales, limits;
        std::uint32_t rto, ato, snd_mss, rcv_mss, unacked, sacked, lost, retrans, fackets;
        std::uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
        std::uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering, rcv_rtt, rcv_space, total_retrans;
        std::uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
        std::uint32_t segs_out, segs_in;
    } info{};
    static_assert(sizeof info == 144);
    socklen_t size = sizeof info;
    if (::getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
    PathInfo path;
    path.known = true;
    path.in_flight = info.unacked;
    path.probes = info.probes;
    path.retransmits = info.retransmits;
    path.segments_sent = info.segs_out;
    path.segments_resent = info.total_retrans;
    path.since_ack = Duration::milliseconds(info.last_ack_recv);
    return path;
}

}  // namespace rejoin::inline v0_1
#endif

#include <utility>

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// A socket: owned, move-only, non-blocking, not inherited by child processes. Errors are the system's own codes (WSAGetLastError), but for
/// "it would have to wait", which is `would_block`.
class Socket {
public:
    using Handle = SOCKET;

    Socket() = default;
    /// Takes a socket over and makes it non-blocking and not inheritable.
    explicit Socket(Handle fd) : fd_(fd) {
        if (fd == INVALID_SOCKET) return;
        u_long on = 1;
        ::ioctlsocket(fd, static_cast<long>(FIONBIO), &on);
        ::SetHandleInformation(reinterpret_cast<HANDLE>(fd), HANDLE_FLAG_INHERIT, 0);
    }
    /// Whether there is a socket: nothing is left to do for one that came from another process.
    bool check_in() { return fd_ != INVALID_SOCKET; }
    Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, INVALID_SOCKET)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Socket() { close(); }

    static Result<Socket> tcp(Family family) { return open(family, SOCK_STREAM); }
    /// An ICMP error that an earlier datagram met with does not come back from a later call (SIO_UDP_CONNRESET and SIO_UDP_NETRESET are
    /// off).
    static Result<Socket> udp(Family family) {
        auto made = open(family, SOCK_DGRAM);
        if (!made) return made;
        for (DWORD report : {0x9800000Cu /* SIO_UDP_CONNRESET */, 0x9800000Fu /* SIO_UDP_NETRESET */}) {
            BOOL off = FALSE;
            DWORD size = 0;
            ::WSAIoctl(made->fd_, report, &off, sizeof off, nullptr, 0, &size, nullptr, nullptr);
        }
        return made;
    }

    explicit operator bool() const { return fd_ != INVALID_SOCKET; }
    Handle fd() const { return fd_; }
    /// Gives the socket to the caller, who closes it.
    Handle release() { return std::exchange(fd_, INVALID_SOCKET); }
    void close() {
        if (fd_ != INVALID_SOCKET) ::closesocket(std::exchange(fd_, INVALID_SOCKET));
    }
    /// Closes with a reset instead of an orderly end (SO_LINGER of zero): what was not sent is discarded.
    void reset() {
        if (fd_ == INVALID_SOCKET) return;
        set(SOL_SOCKET, SO_LINGER, linger{1, 0});
        close();
    }

    /// Binds to a local address and port; port 0 is chosen by the system.
    Result<void> bind(const IpAddress& ip, std::uint16_t port) {
        // Everybody's IPv6 address stands for IPv4 too, as elsewhere.
        if (ip.family == Family::v6 && ip.is_unspecified()) set(IPPROTO_IPV6, IPV6_V6ONLY, DWORD{0});
        const detail::SocketAddress to(ip, port);
        return result(::bind(fd_, to.get(), to.size()));
    }
    /// For a server: nobody else may bind to its port (SO_EXCLUSIVEADDRUSE); before `bind`. Connections that linger do not keep a port from
    /// being bound here; what SO_REUSEADDR does here is to let any program take it away.
    void reuse_address() { set(SOL_SOCKET, SO_EXCLUSIVEADDRUSE, BOOL{TRUE}); }
    /// Hears what is sent to a multicast group, by the interface that has the address `by`, or for IPv6 by that of the group's scope;
    /// beside other programs that do (here SO_REUSEADDR is what lets several bind). In place of `bind`.
    Result<void> join(const IpAddress& group, std::uint16_t port, const IpAddress& by) {
        set(SOL_SOCKET, SO_REUSEADDR, BOOL{TRUE});
        IpAddress any;
        any.family = group.family;
        if (auto bound = bind(any, port); !bound) return bound;
        if (group.family == Family::v4) {
            ip_mreq request{};
            std::memcpy(&request.imr_multiaddr, group.bytes, 4);
            std::memcpy(&request.imr_interface, by.bytes, 4);
            return result(::setsockopt(fd_, IPPROTO_IP, IP_ADD_MEMBERSHIP, reinterpret_cast<const char*>(&request),
                                       static_cast<int>(sizeof request)));
        }
        ipv6_mreq request{};
        std::memcpy(&request.ipv6mr_multiaddr, group.bytes, 16);
        request.ipv6mr_interface = group.scope;
        return result(::setsockopt(fd_, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, reinterpret_cast<const char*>(&request),
                                   static_cast<int>(sizeof request)));
    }
    /// A backlog of more than 200 has to be asked for as a hint, the number negated, or counts as 200.
    Result<void> listen(int backlog) { return result(::listen(fd_, backlog > 200 ? -backlog : backlog)); }
    /// Starts to connect. `would_block`: under way; when it is writable, `take_error` has the outcome.
    Result<void> connect(const IpAddress& ip, std::uint16_t port) {
        const detail::SocketAddress to(ip, port);
        return result(::connect(fd_, to.get(), to.size()));
    }
    /// Takes one waiting connection.
    Result<Socket> accept() {
        const Handle fd = ::accept(fd_, nullptr, nullptr);
        if (fd == INVALID_SOCKET) return detail::winsock_error();
        return Socket(fd);
    }
    /// Whether an error of `accept` means that descriptors or memory are out: the connection still waits.
    static bool exhausted(Error error) { return error == Error::system(WSAEMFILE) || error == Error::system(WSAENOBUFS); }

    /// Reads what is there; 0 is the end of the stream.
    Result<std::size_t> receive(MutableBytes to) {
        const int n = ::recv(fd_, reinterpret_cast<char*>(to.data()), length(to.size()), 0);
        if (n >= 0) return static_cast<std::size_t>(n);
        return detail::winsock_error();
    }
    /// Writes the pieces in order in one system call; returns how many bytes the system took, at least one. At most 8 pieces count.
    Result<std::size_t> send(std::span<const Bytes> pieces) {
        WSABUF buffers[8];
        DWORD count = 0;
        for (Bytes piece : pieces.first(pieces.size() < 8 ? pieces.size() : 8))
            buffers[count++] = {static_cast<ULONG>(length(piece.size())), const_cast<CHAR*>(reinterpret_cast<const CHAR*>(piece.data()))};
        DWORD sent = 0;
        if (::WSASend(fd_, buffers, count, &sent, 0, nullptr, nullptr) != 0) return detail::winsock_error();
        return sent;
    }
    Result<std::size_t> send(Bytes bytes) { return send({&bytes, 1}); }
    /// Sends one datagram from a UDP socket, whole or not at all. `would_block`: the system has no room for it now.
    Result<void> send_to(Bytes datagram, const IpAddress& ip, std::uint16_t port) {
        const detail::SocketAddress to(ip, port);
        const int n = ::sendto(fd_, reinterpret_cast<const char*>(datagram.data()), length(datagram.size()), 0, to.get(), to.size());
        return result(n >= 0 ? 0 : n);
    }
    /// Takes one datagram, and says whom it is from; it may be empty. One that does not fit is `too_large`, and gone.
    Result<std::size_t> receive_from(MutableBytes to, Endpoint& from) {
        detail::SocketAddress sender;
        int size = sizeof sender;
        const int n = ::recvfrom(fd_, reinterpret_cast<char*>(to.data()), length(to.size()), 0, sender.get(), &size);
        if (n < 0 && ::WSAGetLastError() != WSAEMSGSIZE) return detail::winsock_error();
        from = sender.endpoint();
        if (n < 0) return Errc::too_large;
        return static_cast<std::size_t>(n);
    }
    /// Ends the sending direction; the peer reads the end of the stream after everything that was sent.
    Result<void> shutdown_send() { return result(::shutdown(fd_, SD_SEND)); }

    /// The pending error of the socket (SO_ERROR), which is thereby cleared; none is `Error{}`.
    Error take_error() {
        int error = 0;
        int size = sizeof error;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, reinterpret_cast<char*>(&error), &size) != 0) return detail::winsock_error();
        return error == 0 ? Error() : Error::system(error);
    }
    /// What it is, asked of the system; `none` for what is no socket.
    SocketKind kind() const {
        int type = 0, size = sizeof type;
        if (::getsockopt(fd_, SOL_SOCKET, SO_TYPE, reinterpret_cast<char*>(&type), &size) != 0) return SocketKind::none;
        if (type == SOCK_DGRAM) return SocketKind::datagram;
        BOOL listening = FALSE;
        size = sizeof listening;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ACCEPTCONN, reinterpret_cast<char*>(&listening), &size) != 0) listening = !connected();
        return listening ? SocketKind::listener : SocketKind::stream;
    }
    /// Whether it has a peer.
    bool connected() const { return peer_endpoint().valid(); }
    Endpoint local_endpoint() const { return endpoint_of(::getsockname); }
    Endpoint peer_endpoint() const { return endpoint_of(::getpeername); }

    /// Sends small pieces at once (TCP_NODELAY): the library gathers by itself.
    void no_delay() { set(IPPROTO_TCP, TCP_NODELAY, BOOL{TRUE}); }
    /// Windows has no bound on the time between retransmissions.
    void cap_retransmission(Duration) {}
    /// Windows lets nobody choose.
    void limit_segments(int) {}
    /// Leaves by that interface, whatever the routes prefer (IP_UNICAST_IF, in network order; IPV6_UNICAST_IF); before `connect`.
    Result<void> leave_by(std::uint32_t interface_index, Family family) {
        constexpr int unicast_if = 31;
        const DWORD index = family == Family::v4 ? htonl(interface_index) : interface_index;
        return result(::setsockopt(fd_, family == Family::v4 ? static_cast<int>(IPPROTO_IP) : static_cast<int>(IPPROTO_IPV6), unicast_if,
                                   reinterpret_cast<const char*>(&index), sizeof index));
    }
    /// From SIO_TCP_INFO (Windows 10 1703 and later). The system does not say when it last heard from the peer, nor what becomes of its
    /// probes of a closed window: so nothing is known while the window is closed.
    PathInfo path_info() const {
        struct {  // TCP_INFO_v0
            std::uint32_t state, mss;
            std::uint64_t connection_time_ms;
            std::uint8_t timestamps;
            std::uint32_t rtt_us, min_rtt_us, bytes_in_flight, congestion_window, send_window, receive_window, receive_buffer;
            std::uint64_t bytes_out, bytes_in;
            std::uint32_t reordered, retransmitted, fast_retransmits, duplicate_acks, timeout_episodes;
            std::uint8_t syn_retransmits;
        } info;
        DWORD version = 0, size = 0;
        PathInfo path;
        if (::WSAIoctl(fd_, 0xD8000027u /* SIO_TCP_INFO */, &version, sizeof version, &info, sizeof info, &size, nullptr, nullptr) != 0 ||
            size < sizeof info || info.mss == 0)
            return path;
        path.known = info.send_window > 0;
        path.in_flight = (info.bytes_in_flight + info.mss - 1) / info.mss;
        path.since_ack = Duration::unlimited();
        return path;
    }

private:
    static int length(std::size_t n) { return n > INT32_MAX ? INT32_MAX : static_cast<int>(n); }
    static Result<Socket> open(Family family, int type) {
        if (family == Family::none) return Errc::invalid_argument;
        if (const Error error = detail::start_winsock()) return error;
        const Handle fd =
            ::WSASocketW(family == Family::v4 ? AF_INET : AF_INET6, type, 0, nullptr, 0, WSA_FLAG_OVERLAPPED | detail::no_handle_inherit);
        if (fd == INVALID_SOCKET) return detail::winsock_error();
        return Socket(fd);
    }
    static Result<void> result(int returned) {
        if (returned != 0) return detail::winsock_error();
        return {};
    }
    template <class T>
    void set(int level, int option, const T& value) {
        ::setsockopt(fd_, level, option, reinterpret_cast<const char*>(&value), sizeof value);
    }
    Endpoint endpoint_of(int(WSAAPI* get)(SOCKET, sockaddr*, int*)) const {
        detail::SocketAddress from;
        int size = sizeof from;
        if (get(fd_, from.get(), &size) != 0) return {};
        return from.endpoint();
    }

    Handle fd_ = INVALID_SOCKET;
};

}  // namespace rejoin::inline v0_1
#endif

namespace rejoin::inline v0_1 {

/// Who is at the other end of a local socket: as whom it ran when it connected, listened, or made the pair (SO_PEERCRED, getpeereid(3),
/// GetNamedPipeClientProcessId).
struct PeerCredentials {
    /// Users have no numbers on Windows: there 0 is the user of this process, and UINT32_MAX any other.
    std::uint32_t user = UINT32_MAX;
    std::uint32_t group = UINT32_MAX;
    std::int32_t process = 0;  ///< 0 where the system does not say
};

/// What one read of a local socket brought.
struct LocalReceived {
    std::size_t bytes = 0;    ///< 0: the end
    bool descriptor = false;  ///< with a descriptor on one of them
    Socket socket;            ///< which this is, as far as anybody knows: `Socket::check_in` says whether it is one
};

}  // namespace rejoin::inline v0_1

// `LocalSocket`: a stream between two processes of this host, over which sockets go. `UnixSocket`, or on Windows `NamedPipe`.

#if !defined(_WIN32)
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace rejoin::inline v0_1 {

/// Unix domain stream sockets, unix(7), and the descriptors that travel over them. Every socket is a `Socket`: non-blocking and
/// close-on-exec.
class UnixSocket {
public:
    using End = Socket;
    /// A descriptor goes over it on a byte. Where that is not so, a ticket goes in the bytes.
    static constexpr bool passes_descriptors = true;
    /// What to watch an end for, to hear that it takes more again.
    static constexpr Ready when_it_takes_more = Ready::both;

    /// Two sockets that are connected with each other.
    static Result<void> pair(Socket& one, Socket& other) {
        int fds[2];
        if (::socketpair(AF_UNIX, type, 0, fds) != 0) return Error::system(errno);
        one = Socket(fds[0]);
        other = Socket(fds[1]);
        return {};
    }
    /// Connects to `path`; where the first character is `@` and the system is Linux, to that abstract name. Never waits: the system's
    /// error, ECONNREFUSED where nobody listens, `would_block` where those who do have too many waiting.
    static Result<Socket> connect(TextView path) {
        Address address;
        if (!address.set(path)) return Errc::invalid_argument;
        auto made = open();
        if (made && ::connect(made->fd(), address.get(), address.size) != 0)
            return errno == EAGAIN ? Error(Errc::would_block) : Error::system(errno);
        return made;
    }
    /// Listens at `path`, as `connect` has it. The folder of a path has to belong to this user, and nobody else may enter it, or anybody
    /// could put a socket of their own there: else EPERM. A socket left there by a process that is gone is replaced; EADDRINUSE where
    /// somebody listens. An abstract name has no such protection: look at the credentials of who connects.
    static Result<Socket> listen(TextView path, int backlog) {
        Address address;
        if (!address.set(path)) return Errc::invalid_argument;
        if (!address.abstract())
            if (auto ours = folder_is_ours(address); !ours) return ours.error();
        auto made = open();
        if (!made) return made;
        int bound = ::bind(made->fd(), address.get(), address.size);
        if (bound != 0 && errno == EADDRINUSE && !address.abstract()) {
            if (auto other = connect(path); other || other.error() != Error::system(ECONNREFUSED)) return Error::system(EADDRINUSE);
            ::unlink(address.name.sun_path);
            bound = ::bind(made->fd(), address.get(), address.size);
        }
        if (bound != 0) return Error::system(errno);
        if (auto listening = made->listen(backlog); !listening) return listening.error();
        return made;
    }
    /// Who is at the other end.
    static Result<PeerCredentials> peer_credentials(const Socket& socket) {
        PeerCredentials peer;
#if defined(__linux__)
        struct {
            pid_t pid;
            uid_t uid;
            gid_t gid;
        } of{};  // ucred, which glibc shows only to _GNU_SOURCE
        socklen_t size = sizeof of;
        if (::getsockopt(socket.fd(), SOL_SOCKET, SO_PEERCRED, &of, &size) != 0) return Error::system(errno);
        peer = {of.uid, of.gid, of.pid};
#else
        uid_t user = 0;
        gid_t group = 0;
        if (::getpeereid(socket.fd(), &user, &group) != 0) return Error::system(errno);
        peer.user = user;
        peer.group = group;
#endif
        return peer;
    }
    /// Whether that is the same user as this process.
    static bool trusted(const PeerCredentials& peer) { return peer.user == ::geteuid(); }
    /// Whether an error says that nobody is at the other end any more.
    static bool gone(Error error) { return error == Error::system(EPIPE) || error == Error::system(ECONNRESET); }
    /// Refuses descriptors: a peer that sends one gets EPERM. Linux 6.16 and later (SO_PASSRIGHTS); false elsewhere.
    static bool refuse_descriptors(const Socket& socket) {
#if defined(__linux__)
        const int no = 0;
        return ::setsockopt(socket.fd(), SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &no, sizeof no) == 0;
#else
        static_cast<void>(socket);
        return false;
#endif
    }

    /// Sends bytes, at least one, and on the first of them the socket `with`, unless null: it stays the sender's as well. How many of them
    /// were taken: where any was, the socket went too.
    static Result<std::size_t> send(const Socket& socket, Bytes bytes, const Socket* with = nullptr) {
        iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        alignas(cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int))] = {};
        if (with != nullptr) {
            const int descriptor = with->fd();
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            cmsghdr* const header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
        }
        for (;;) {
            const ssize_t n = ::sendmsg(socket.fd(), &message, MSG_NOSIGNAL);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno == EAGAIN || errno == EWOULDBLOCK) return Errc::would_block;
            if (errno != EINTR) return Error::system(errno);
        }
    }
    /// Reads bytes, and with them at most one descriptor: see `Socket::check_in`. `malformed`, and all of them are closed, when
    /// more came than one.
    static Result<LocalReceived> receive(const Socket& socket, MutableBytes to) {
        int descriptor = -1;
        iovec room{to.data(), to.size()};
        msghdr message{};
        message.msg_iov = &room;
        message.msg_iovlen = 1;
        // Room for as many as a message may have, so that each can be closed: on macOS, and under QEMU, what is cut off stays open.
        alignas(cmsghdr) unsigned char control[CMSG_SPACE(512 * sizeof(int))];
        ssize_t n = 0;
        do {
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            n = ::recvmsg(socket.fd(), &message, receive_flags);
        } while (n < 0 && errno == EINTR);
        if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block) : Error::system(errno);
        bool more = (message.msg_flags & MSG_CTRUNC) != 0;
        // Walked by hand: CMSG_NXTHDR does not compile without warnings everywhere, and macOS lets a length say more than there is.
        constexpr auto start = static_cast<std::size_t>(CMSG_LEN(0));
        const auto filled = static_cast<std::size_t>(message.msg_controllen);
        for (std::size_t at = 0; at + start <= filled;) {
            cmsghdr header;
            std::memcpy(&header, control + at, sizeof header);
            const auto size = static_cast<std::size_t>(header.cmsg_len);
            if (size < start) break;
            const std::size_t end = size < filled - at ? at + size : filled;
            const bool descriptors = header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS;
            for (std::size_t i = at + start; descriptors && i + sizeof(int) <= end; i += sizeof(int)) {
                int fd = -1;
                std::memcpy(&fd, control + i, sizeof fd);
#if !defined(MSG_CMSG_CLOEXEC)
                ::fcntl(fd, F_SETFD, FD_CLOEXEC);
#endif
                more = more || descriptor >= 0;
                if (more)
                    ::close(fd);
                else
                    descriptor = fd;
            }
            at += static_cast<std::size_t>(CMSG_SPACE(size - start));
        }
        LocalReceived received{static_cast<std::size_t>(n), descriptor >= 0, Socket::of_received(descriptor)};
        if (more) return Errc::malformed;
        return received;
    }

    /// No tickets here: descriptors go by themselves.
    static Error issue_ticket(const Socket&, const Socket&, Array<std::byte>&) { return {}; }
    static Socket redeem_ticket(Bytes) { return {}; }
    /// Two plain stream sockets, for any program, that are connected with each other.
    static Result<void> stream_pair(Socket& one, Socket& other) { return pair(one, other); }

private:
#if defined(__linux__)
    static constexpr int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
#else
    static constexpr int type = SOCK_STREAM;
#endif
#if defined(MSG_CMSG_CLOEXEC)
    static constexpr int receive_flags = MSG_CMSG_CLOEXEC;
#else
    static constexpr int receive_flags = 0;
#endif

    struct Address {
        sockaddr_un name{};
        socklen_t size = 0;

        bool set(TextView path) {
            if (path.size() == 0 || path.size() >= sizeof name.sun_path) return false;
            for (char c : path)
                if (c == 0) return false;
            name.sun_family = AF_UNIX;
            std::memcpy(name.sun_path, path.data(), path.size());
            size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract() ? 0 : 1));
#if defined(__linux__)
            if (abstract()) name.sun_path[0] = 0;
#endif
            return true;
        }
        bool abstract() const {
#if defined(__linux__)
            return name.sun_path[0] == '@' || name.sun_path[0] == 0;
#else
            return false;
#endif
        }
        const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
    };
    static Result<Socket> open() {
        const int fd = ::socket(AF_UNIX, type, 0);
        if (fd < 0) return Error::system(errno);
        return Socket(fd);
    }
    static Result<void> folder_is_ours(const Address& address) {
        Address folder = address;
        std::size_t slash = 0;
        for (std::size_t i = 0; address.name.sun_path[i] != 0; ++i)
            if (address.name.sun_path[i] == '/') slash = i;
        if (slash == 0 && address.name.sun_path[0] != '/')
            std::memcpy(folder.name.sun_path, ".", 2);
        else
            folder.name.sun_path[slash == 0 ? 1 : slash] = 0;
        struct stat is {};
        if (::stat(folder.name.sun_path, &is) != 0) return Error::system(errno);
        if (!S_ISDIR(is.st_mode) || is.st_uid != ::geteuid() || (is.st_mode & 077) != 0) return Error::system(EPERM);
        return {};
    }
};

using LocalSocket = UnixSocket;

}  // namespace rejoin::inline v0_1
#endif

#if defined(_WIN32)

namespace rejoin::inline v0_1::detail {

using PollHandle = SOCKET;
using PollEntry = WSAPOLLFD;
inline constexpr short poll_in = POLLRDNORM, poll_out = POLLWRNORM;

inline int poll_wait(PollEntry* entries, std::size_t count, int timeout) { return ::WSAPoll(entries, static_cast<ULONG>(count), timeout); }

/// Why an entry cannot be watched, if so.
inline Error poll_refuses(PollEntry entry) {
    const bool refused = entry.fd == INVALID_SOCKET || poll_wait(&entry, 1, 0) < 0 || (entry.revents & POLLNVAL) != 0;
    return refused ? Error::system(WSAENOTSOCK) : Error();
}

/// What any thread may ring to end a wait: a datagram socket of this host that is connected to itself, readable until `clear`.
class Bell {
public:
    Bell() = default;
    Bell(const Bell&) = delete;
    ~Bell() {
        if (fd_ != INVALID_SOCKET) ::closesocket(fd_);
    }
    Error open() {
        if (const Error error = start_winsock()) return error;
        fd_ = ::WSASocketW(AF_INET, SOCK_DGRAM, 0, nullptr, 0, WSA_FLAG_OVERLAPPED | no_handle_inherit);
        if (fd_ == INVALID_SOCKET) return winsock_error();
        sockaddr_in self{};
        self.sin_family = AF_INET;
        self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int size = sizeof self;
        u_long on = 1;
        auto* const address = reinterpret_cast<sockaddr*>(&self);
        if (::ioctlsocket(fd_, static_cast<long>(FIONBIO), &on) != 0 || ::bind(fd_, address, size) != 0 ||
            ::getsockname(fd_, address, &size) != 0 || ::connect(fd_, address, size) != 0)
            return winsock_error();
        return {};
    }
    SOCKET fd() const { return fd_; }
    void ring() { ::send(fd_, "", 1, 0); }
    void clear() {
        char rung;
        while (::recv(fd_, &rung, 1, 0) > 0) {
        }
    }

private:
    SOCKET fd_ = INVALID_SOCKET;
};

}  // namespace rejoin::inline v0_1::detail
#endif

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

namespace rejoin::inline v0_1::handoff {

/// A plain stream socket for a program that does not speak the session protocol, or cannot go on after a break: whatever goes over it goes
/// over `pipe`, which stays here and rejoins. `local` is an idle pipe over one plain connection, such as `Pipe<NoEvents, Tcp, FailFast>`,
/// which carries the bytes between the two, with back-pressure and half-close (`Pipe::link`); both pipes live as long as the conversation.
/// The caller owns the socket, and gives it away, as by `start_program`. It refuses descriptors where the system can. Errors of
/// `LocalSocket::stream_pair`, `Pipe::adopt` and `Pipe::link`.
template <class Local, class P>
Result<Socket> plain_end(Local& local, P& pipe) {
    Socket ours, theirs;
    if (auto made = LocalSocket::stream_pair(ours, theirs); !made) return made.error();
    static_cast<void>(LocalSocket::refuse_descriptors(ours) && LocalSocket::refuse_descriptors(theirs));
    if (auto adopted = local.adopt(std::move(ours)); !adopted) return adopted.error();
    if (auto linked = local.link(pipe); !linked) {
        local.abort();
        return linked.error();
    }
    return theirs;
}

}  // namespace rejoin::inline v0_1::handoff

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace rejoin::inline v0_1 {

namespace detail {

/// What a `Function` holds. To move and to destroy it does not depend on the signature, so that a program has that code once.
class Callable {
public:
    Callable() = default;
    Callable(Callable&& other) noexcept { take(other); }
    Callable& operator=(Callable&& other) noexcept {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    ~Callable() { reset(); }

    explicit operator bool() const { return call_ != nullptr; }

    /// Calls what was held as one that takes and returns these very types.
    template <class R, class... Args>
    R call(Args... args) {
        return reinterpret_cast<R (*)(Callable&, Args...)>(call_)(*this, std::forward<Args>(args)...);
    }

protected:
    template <class R, class... Args, class F>
    void hold(F&& f) {
        using Stored = std::decay_t<F>;
        constexpr bool fits =
            sizeof(Stored) <= sizeof storage_ && alignof(Stored) <= alignof(void*) && std::is_nothrow_move_constructible_v<Stored>;
        if constexpr (fits) {
            ::new (inside()) Stored(std::forward<F>(f));
            if constexpr (!std::is_trivially_copyable_v<Stored>) manage_ = &manage<Stored>;
        } else {
            auto* stored = new (std::nothrow) Stored(std::forward<F>(f));
            if (stored == nullptr) return;  // stays empty, as its owner can see
            ::new (inside()) Stored*(stored);
            manage_ = &manage_pointer<Stored>;
        }
        call_ = reinterpret_cast<void (*)()>(&invoke<fits, Stored, R, Args...>);
    }

private:
    void* inside() { return storage_; }
    void reset() {
        if (manage_ != nullptr) manage_(*this, nullptr);
        call_ = nullptr;
        manage_ = nullptr;
    }
    void take(Callable& other) {
        call_ = std::exchange(other.call_, nullptr);
        manage_ = std::exchange(other.manage_, nullptr);
        if (manage_ != nullptr)
            manage_(other, this);
        else
            __builtin_memcpy(storage_, other.storage_, sizeof storage_);
    }

    template <bool fits, class Stored, class R, class... Args>
    static R invoke(Callable& self, Args... args) {
        if constexpr (fits)
            return static_cast<R>((*static_cast<Stored*>(self.inside()))(std::forward<Args>(args)...));
        else
            return static_cast<R>((**static_cast<Stored**>(self.inside()))(std::forward<Args>(args)...));
    }
    template <class Stored>
    static void manage(Callable& self, Callable* to) {
        auto& stored = *static_cast<Stored*>(self.inside());
        if (to != nullptr) ::new (to->inside()) Stored(std::move(stored));
        stored.~Stored();
    }
    template <class Stored>
    static void manage_pointer(Callable& self, Callable* to) {
        auto* held = *static_cast<Stored**>(self.inside());
        if (to != nullptr)
            ::new (to->inside()) Stored*(held);
        else
            delete held;
    }

    void (*call_)() = nullptr;
    void (*manage_)(Callable&, Callable*) = nullptr;  // moves to the other, or destroys; null where copying the bytes is enough
    alignas(void*) std::byte storage_[3 * sizeof(void*)] = {};
};

}  // namespace detail

template <class... Args>
class Handlers;

template <class Signature>
class Function;

/// A move-only callable. What it captures lives inside while it fits into three pointers, else on the heap; empty (made from nothing
/// or from a null function pointer), it is false and must not be called.
template <class R, class... Args>
class Function<R(Args...)> : detail::Callable {
public:
    Function() = default;

    template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Function> && std::is_invocable_r_v<R, std::remove_cvref_t<F>&, Args...>)
        Function(F&& f) {
        if constexpr (std::is_pointer_v<std::remove_cvref_t<F>>)
            if (f == nullptr) return;
        hold<R, Args...>(std::forward<F>(f));
    }

    using Callable::operator bool;
    R operator()(Args... args) { return call<R, Args...>(std::forward<Args>(args)...); }

private:
    template <class...>
    friend class Handlers;  // takes what is held, and calls it by the same types
};

template <class Signature>
class Delegate;

/// A member function and the object to call it on: two pointers, copyable, owns nothing.
template <class... Args>
class Delegate<void(Args...)> {
public:
    constexpr Delegate() = default;

    /// `Delegate<void(int)>::to<&Thing::changed>(thing)`
    template <auto Member, class T>
    static Delegate to(T* object) {
        Delegate d;
        d.object_ = object;
        d.call_ = &invoke<Member, T>;
        return d;
    }

    explicit operator bool() const { return call_ != nullptr; }
    void operator()(Args... args) const { call_(object_, std::forward<Args>(args)...); }

private:
    template <auto Member, class T>
    static void invoke(void* self, Args... args) {
        (static_cast<T*>(self)->*Member)(std::forward<Args>(args)...);
    }

    void* object_ = nullptr;
    void (*call_)(void*, Args...) = nullptr;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// A place in one intrusive list. Leaves the list when destroyed. The address is the identity: neither copied nor moved.
class ListNode {
public:
    ListNode() = default;
    ListNode(const ListNode&) = delete;
    ~ListNode() { unlink(); }

    bool linked() const { return next_ != nullptr; }
    void unlink() {
        if (next_ == nullptr) return;
        previous_->next_ = next_;
        next_->previous_ = previous_;
        previous_ = next_ = nullptr;
    }

protected:
    friend class List;
    void link_before(ListNode& at) {
        previous_ = at.previous_;
        next_ = &at;
        previous_->next_ = this;
        at.previous_ = this;
    }
    ListNode* previous_ = nullptr;
    ListNode* next_ = nullptr;
};

/// A doubly linked list of `ListNode`s that it does not own; adding and removing cost a few stores and no memory.
class List {
public:
    List() { head_.previous_ = head_.next_ = &head_; }
    ~List() {
        while (ListNode* node = front()) node->unlink();
        head_.next_ = head_.previous_ = nullptr;
    }

    bool empty() const { return head_.next_ == &head_; }
    ListNode* front() { return empty() ? nullptr : head_.next_; }
    /// The one behind `node`, which is in this list; null for the last.
    ListNode* next(ListNode& node) { return node.next_ == &head_ ? nullptr : node.next_; }
    /// Adds at the end; a node that stands in a list already stays where it is.
    void push(ListNode& node) {
        if (!node.linked()) node.link_before(head_);
    }
    /// Takes over every node of `other`, which is then empty; only for an empty list.
    void take(List& other) {
        if (other.empty()) return;
        head_.next_ = other.head_.next_;
        head_.previous_ = other.head_.previous_;
        head_.next_->previous_ = head_.previous_->next_ = &head_;
        other.head_.previous_ = other.head_.next_ = &other.head_;
    }
    /// Calls `f(node)` for each node that is in the list now. `f` may unlink or destroy any node, and add some, which are left for the
    /// next time.
    template <class F>
    void for_each(F f) {
        List round;
        round.take(*this);
        while (ListNode* node = round.front()) {
            node->unlink();
            push(*node);
            f(*node);
        }
    }

private:
    ListNode head_;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1::handoff {

/// Appends `bytes` in base64 (RFC 4648 §4, with padding); false when memory is out.
inline bool append_base64(Array<char>& to, Bytes bytes) {
    static constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (bytes.empty()) return true;
    char* out = to.extend((bytes.size() + 2) / 3 * 4);
    if (out == nullptr) return false;
    const auto* in = reinterpret_cast<const unsigned char*>(bytes.data());
    std::size_t left = bytes.size();
    for (; left >= 3; left -= 3, in += 3, out += 4) {
        const std::uint32_t three = static_cast<std::uint32_t>(in[0]) << 16 | static_cast<std::uint32_t>(in[1]) << 8 | in[2];
        out[0] = letters[three >> 18];
        out[1] = letters[three >> 12 & 63];
        out[2] = letters[three >> 6 & 63];
        out[3] = letters[three & 63];
    }
    if (left > 0) {
        const std::uint32_t rest = static_cast<std::uint32_t>(in[0]) << 8 | (left == 2 ? in[1] : 0u);
        out[0] = letters[rest >> 10];
        out[1] = letters[rest >> 4 & 63];
        out[2] = left == 2 ? letters[rest << 2 & 63] : '=';
        out[3] = '=';
    }
    return true;
}

/// Appends what `text` stands for. As in a JSON string, `\/` stands for `/`. `malformed`; `out_of_memory`.
inline Result<void> append_from_base64(Array<std::byte>& to, TextView text) {
    struct Values {
        std::int8_t of[256];
        constexpr Values() : of() {
            for (std::int8_t& value : of) value = -1;
            for (int i = 0; i < 26; ++i) {
                of['A' + i] = static_cast<std::int8_t>(i);
                of['a' + i] = static_cast<std::int8_t>(26 + i);
            }
            for (int i = 0; i < 10; ++i) of['0' + i] = static_cast<std::int8_t>(52 + i);
            of[static_cast<int>('+')] = 62;
            of[static_cast<int>('/')] = 63;
        }
    };
    static constexpr Values values;
    const auto of = [](char letter) { return int{values.of[static_cast<unsigned char>(letter)]}; };

    const std::size_t before = to.size();
    std::byte* const start = to.extend(text.size() / 4 * 3);
    if (start == nullptr && text.size() >= 4) return Errc::out_of_memory;
    std::byte* out = start;
    std::uint32_t bits = 0;
    unsigned letters = 0, padding = 0;
    std::size_t i = 0;
    for (; text.size() - i >= 4; i += 4) {  // as long as there are four letters
        const int a = of(text[i]), b = of(text[i + 1]), c = of(text[i + 2]), d = of(text[i + 3]);
        if ((a | b | c | d) < 0) break;
        const int three = a << 18 | b << 12 | c << 6 | d;
        *out++ = static_cast<std::byte>(three >> 16);
        *out++ = static_cast<std::byte>(three >> 8);
        *out++ = static_cast<std::byte>(three);
    }
    for (; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '/') continue;
        if (text[i] == '=' && (letters % 4 == 3 || (letters % 4 == 2 && padding == 0) || padding == 1)) {
            ++padding;
            continue;
        }
        const int value = of(text[i]);
        if (value < 0 || padding > 0) return Errc::malformed;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        if (++letters % 4 != 0) continue;
        *out++ = static_cast<std::byte>(bits >> 16);
        *out++ = static_cast<std::byte>(bits >> 8);
        *out++ = static_cast<std::byte>(bits);
    }
    if ((letters + padding) % 4 != 0) return Errc::malformed;
    if (padding == 2) *out++ = static_cast<std::byte>(bits >> 4);
    if (padding == 1) {
        *out++ = static_cast<std::byte>(bits >> 10);
        *out++ = static_cast<std::byte>(bits >> 2);
    }
    to.truncate(before + static_cast<std::size_t>(out - start));
    return {};
}

}  // namespace rejoin::inline v0_1::handoff

namespace rejoin::inline v0_1::handoff {

/// A value in a JSON text (RFC 8259), or none: looked at where it stands, never copied. Lives as long as the text. Of a name that an object
/// has twice, the first counts.
class Json {
public:
    Json() = default;
    /// The value that the whole of `text` is. `malformed`, and what is nested deeper than 32.
    static Result<Json> parse(TextView text) {
        const char* at = text.begin();
        space(at, text.end());
        const char* const from = at;
        if (!value(at, text.end(), 32)) return Errc::malformed;
        const char* const to = at;
        space(at, text.end());
        if (at != text.end()) return Errc::malformed;
        return Json(from, to);
    }

    explicit operator bool() const { return from_ != nullptr; }
    /// As it stands there.
    TextView text() const { return {from_, static_cast<std::size_t>(to_ - from_)}; }
    bool is_object() const { return from_ != nullptr && *from_ == '{'; }

    /// The members of those names (which have no escapes), in one pass: none where there is none, and of what is no object.
    template <std::size_t N>
    void members(const TextView (&names)[N], Json (&found)[N]) const {
        if (!is_object()) return;
        const char* at = from_ + 1;
        for (space(at, to_); *at != '}'; space(at, to_)) {
            const char* const key = at + 1;
            string(at, to_);
            const TextView name(key, static_cast<std::size_t>(at - key - 1));
            space(at, to_);
            space(++at, to_);
            const char* const from = at;
            value(at, to_, 32);
            for (std::size_t i = 0; i < N; ++i)
                if (names[i] == name && !found[i]) found[i] = Json(from, at);
            space(at, to_);
            if (*at == ',') ++at;
        }
    }

    /// What stands between a string's quotes, with its escapes; nothing for what is no string.
    TextView raw_string() const {
        if (from_ == nullptr || *from_ != '"') return {};
        return {from_ + 1, static_cast<std::size_t>(to_ - from_ - 2)};
    }
    bool is(TextView string) const { return from_ != nullptr && *from_ == '"' && raw_string() == string; }
    bool is_true() const { return text() == TextView("true"); }
    /// `malformed` for what is not a whole number from 0 to 2^64 - 1, written without a fraction or exponent.
    Result<std::uint64_t> number() const {
        if (from_ == nullptr) return Errc::malformed;
        std::uint64_t n = 0;
        for (char c : text())
            if (c < '0' || c > '9' || __builtin_mul_overflow(n, std::uint64_t{10}, &n) ||
                __builtin_add_overflow(n, static_cast<std::uint64_t>(c - '0'), &n))
                return Errc::malformed;
        return n;
    }
    /// Appends the string's characters, as UTF-8. `malformed` for what is no string, and for half a surrogate pair; `out_of_memory`.
    Result<void> append_to(Array<char>& to) const {
        if (from_ == nullptr || *from_ != '"') return Errc::malformed;
        const TextView raw = raw_string();
        for (const char* at = raw.begin(); at != raw.end(); ++at) {
            std::uint32_t c = static_cast<unsigned char>(*at);
            if (c == '\\') {
                c = escape(at);
                if (c >= 0xd800 && c < 0xe000) {
                    if (c >= 0xdc00 || raw.end() - at < 7 || at[1] != '\\' || at[2] != 'u') return Errc::malformed;
                    const std::uint32_t low = escape(++at);
                    if (low < 0xdc00 || low >= 0xe000) return Errc::malformed;
                    c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
                }
                if (!append_utf8(to, c)) return Errc::out_of_memory;
            } else if (!to.push(static_cast<char>(c))) {
                return Errc::out_of_memory;
            }
        }
        return {};
    }

private:
    Json(const char* from, const char* to) : from_(from), to_(to) {}

    // Each of these goes on from `at` behind what it names, and says whether it stood there. Parsed text passes again without a check.
    static void space(const char*& at, const char* end) {
        while (at != end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) ++at;
    }
    static bool value(const char*& at, const char* end, int depth) {
        if (at == end || depth == 0) return false;
        switch (*at) {
            case '{':
            case '[':
                return members(at, end, depth);
            case '"':
                return string(at, end);
            case 't':
                return word(at, end, "true");
            case 'f':
                return word(at, end, "false");
            case 'n':
                return word(at, end, "null");
            default:
                return number(at, end);
        }
    }
    static bool members(const char*& at, const char* end, int depth) {
        const bool object = *at++ == '{';
        const char close = object ? '}' : ']';
        space(at, end);
        if (at != end && *at == close) return ++at, true;
        for (;;) {
            if (object) {
                if (!string(at, end)) return false;
                space(at, end);
                if (at == end || *at++ != ':') return false;
                space(at, end);
            }
            if (!value(at, end, depth - 1)) return false;
            space(at, end);
            if (at == end) return false;
            const char c = *at++;
            if (c == close) return true;
            if (c != ',') return false;
            space(at, end);
        }
    }
    // Eight characters at a time, as long as none of them ends the string, escapes, or may not be there: each has to be looked at in text
    // that is mostly base64.
    static void skip_plain(const char*& at, const char* end) {
        constexpr std::uint64_t ones = 0x0101010101010101, highs = ones << 7;
        const auto zero_in = [](std::uint64_t word) { return (word - ones) & ~word & highs; };
        for (std::uint64_t eight; end - at >= 8; at += 8) {
            std::memcpy(&eight, at, 8);
            const std::uint64_t controls = (eight - ones * ' ') & ~eight & highs;
            if ((zero_in(eight ^ ones * '"') | zero_in(eight ^ ones * '\\') | controls) != 0) return;
        }
    }
    static bool string(const char*& at, const char* end) {
        if (at == end || *at++ != '"') return false;
        for (unsigned run = 1; at != end && *at != '"'; ++at, ++run) {
            if (run % 16 == 0) {  // not a short one
                skip_plain(at, end);
                if (at == end || *at == '"') break;
            }
            if (static_cast<unsigned char>(*at) < ' ') return false;
            if (*at != '\\') continue;
            if (++at == end) return false;
            if (*at == 'u') {
                if (end - at < 5) return false;
                for (int i = 1; i < 5; ++i)
                    if (hex(at[i]) < 0) return false;
                at += 4;
            } else if (std::memchr("\"\\/bfnrt", *at, 8) == nullptr) {
                return false;
            }
        }
        if (at == end) return false;
        return ++at, true;
    }
    static bool word(const char*& at, const char* end, TextView expected) {
        if (static_cast<std::size_t>(end - at) < expected.size() || !(TextView(at, expected.size()) == expected)) return false;
        at += expected.size();
        return true;
    }
    static bool digits(const char*& at, const char* end) {
        const char* const from = at;
        while (at != end && *at >= '0' && *at <= '9') ++at;
        return at != from;
    }
    static bool number(const char*& at, const char* end) {
        if (*at == '-') ++at;
        const char* const from = at;
        if (!digits(at, end) || (*from == '0' && at - from > 1)) return false;
        if (at != end && *at == '.' && !digits(++at, end)) return false;
        if (at != end && (*at == 'e' || *at == 'E')) {
            if (++at != end && (*at == '+' || *at == '-')) ++at;
            if (!digits(at, end)) return false;
        }
        return true;
    }
    static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

    // What the escape at `at` (on its backslash) stands for; goes on to its last character.
    static std::uint32_t escape(const char*& at) {
        switch (*++at) {
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case 'u': {
                std::uint32_t c = 0;
                for (int i = 0; i < 4; ++i) c = c << 4 | static_cast<std::uint32_t>(hex(*++at));
                return c;
            }
            default:
                return static_cast<unsigned char>(*at);
        }
    }
    static bool append_utf8(Array<char>& to, std::uint32_t c) {
        if (c < 0x80) return to.push(static_cast<char>(c));
        const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        const unsigned lead = more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0;
        if (!to.push(static_cast<char>(lead | c >> (6 * more)))) return false;
        for (int i = more - 1; i >= 0; --i)
            if (!to.push(static_cast<char>(0x80 | (c >> (6 * i) & 0x3f)))) return false;
        return true;
    }

    const char* from_ = nullptr;
    const char* to_ = nullptr;
};

/// Appends `text` as a JSON string; false when memory is out.
inline bool append_json_string(Array<char>& to, TextView text) {
    static constexpr char hex[] = "0123456789abcdef";
    bool ok = to.push('"');
    for (char c : text) {
        const auto code = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') ok = ok && to.push('\\');
        if (code >= ' ') {
            ok = ok && to.push(c);
        } else {
            for (char e : {'\\', 'u', '0', '0', hex[code >> 4], hex[code & 15]}) ok = ok && to.push(e);
        }
    }
    return ok && to.push('"');
}

}  // namespace rejoin::inline v0_1::handoff

#include <cstddef>
#include <cstdlib>
#include <utility>

namespace rejoin::inline v0_1 {

/// A queue of bytes in one block that doubles as it must. Holds no memory until the first byte comes, and none after `release`.
class Ring {
public:
    Ring() = default;
    Ring(Ring&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          capacity_(std::exchange(other.capacity_, 0)),
          head_(std::exchange(other.head_, 0)),
          size_(std::exchange(other.size_, 0)) {}
    Ring& operator=(Ring&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(capacity_, other.capacity_);
        std::swap(head_, other.head_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Ring() { std::free(data_); }

    std::size_t size() const { return size_; }
    std::size_t capacity() const { return capacity_; }
    bool empty() const { return size_ == 0; }
    /// How large the block is when it has to hold `size` bytes; 0 for more than there can be.
    std::size_t capacity_for(std::size_t size) const {
        std::size_t capacity = capacity_ == 0 ? 256 : capacity_;
        for (; capacity < size; capacity *= 2)
            if (capacity > SIZE_MAX / 4) return 0;
        return capacity;
    }

    /// Room for `n` bytes more; false, and unchanged, when memory is out.
    bool reserve(std::size_t n) { return n <= capacity_ - size_ || grow(size_ + n); }
    /// Copies `bytes` to the end; false, and unchanged, when memory is out.
    bool append(Bytes bytes) {
        if (head_ + size_ + bytes.size() > capacity_) return append_in_two(bytes);
        copy(data_ + head_ + size_, bytes);
        size_ += bytes.size();
        return true;
    }

    /// Removes the first `n` bytes, of which there are at least as many.
    void drop(std::size_t n) {
        size_ -= n;
        head_ = size_ == 0 ? 0 : (head_ + n) & (capacity_ - 1);  // an empty ring starts over, so that small use stays in one piece
    }

    /// The bytes from `at` on, as far as they lie in one piece: at most `limit`. Call again with `at` moved on for the rest.
    Bytes peek(std::size_t at, std::size_t limit) const {
        if (at >= size_) return {};
        const std::size_t from = (head_ + at) & (capacity_ - 1);
        std::size_t n = size_ - at;
        if (n > capacity_ - from) n = capacity_ - from;
        return {data_ + from, n < limit ? n : limit};
    }

    /// Adds a copy of it all to `to`; false when memory is out.
    bool copy_to(Array<std::byte>& to) const {
        const Bytes first = peek(0, size_), rest = peek(first.size(), size_);
        return to.append(first.data(), first.size()) && to.append(rest.data(), rest.size());
    }

    /// Gives the memory back, with whatever was in it.
    void release() {
        std::free(std::exchange(data_, nullptr));
        capacity_ = head_ = size_ = 0;
    }

private:
    bool append_in_two(Bytes bytes) {
        if (!reserve(bytes.size())) return false;
        const std::size_t tail = (head_ + size_) & (capacity_ - 1);
        const std::size_t first = bytes.size() < capacity_ - tail ? bytes.size() : capacity_ - tail;
        copy(data_ + tail, bytes.first(first));
        copy(data_, bytes.subspan(first));
        size_ += bytes.size();
        return true;
    }
    bool grow(std::size_t need) {
        const std::size_t capacity = capacity_for(need);
        auto* grown = capacity == 0 ? nullptr : static_cast<std::byte*>(std::malloc(capacity));
        if (grown == nullptr) return false;
        const Bytes first = peek(0, size_);
        copy(grown, first);
        copy(grown + first.size(), peek(first.size(), size_));
        std::free(data_);
        data_ = grown;
        capacity_ = capacity;
        head_ = 0;
        return true;
    }

    std::byte* data_ = nullptr;
    std::size_t capacity_ = 0;  // a power of two, or 0
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1::session {

/// Every frame is one byte of type, three of payload length, and the payload; all numbers are big-endian. README.md of this folder
/// specifies them.
enum class FrameType : std::uint8_t {
    hello = 0x01,    ///< client: a new session
    welcome = 0x02,  ///< server: its identity and key
    resume = 0x03,   ///< client: go on with a session
    resumed = 0x04,  ///< server: from here, and proof
    confirm = 0x05,  ///< client: proof
    refused = 0x06,  ///< server: no, and why
    data = 0x10,     ///< the next bytes of the stream
    ack = 0x11,      ///< everything before this offset has reached the application
    ping = 0x12,     ///< answer with the same eight bytes
    pong = 0x13,
    fin = 0x14,      ///< the stream ends here; counts as one offset
    goodbye = 0x15,  ///< server: both streams have ended and arrived
    abort = 0x16,    ///< the session is over, delivered or not
};

inline constexpr std::size_t frame_header_size = 4;
inline constexpr std::size_t frame_length_max = 0xffffff;
/// The longest payload of a frame that is not `data`, once the handshake is over.
inline constexpr std::size_t control_length_max = 8;

struct FrameHeader {
    FrameType type;
    std::uint32_t length;
};

/// Reads a header of `frame_header_size` bytes.
inline FrameHeader read_frame_header(const std::byte* from) {
    const auto word = load_big<std::uint32_t>(from);
    return {static_cast<FrameType>(word >> 24), word & 0xffffff};
}

inline void write_frame_header(std::byte* to, FrameType type, std::size_t length) {
    store_big(to, static_cast<std::uint32_t>(type) << 24 | static_cast<std::uint32_t>(length));
}

/// Whether a frame of an established session may have this length: the one table of lengths.
inline bool frame_length_allowed(FrameHeader header) {
    switch (header.type) {
        case FrameType::data:
            return header.length > 0;
        case FrameType::ack:
        case FrameType::ping:
        case FrameType::pong:
            return header.length == 8;
        case FrameType::fin:
        case FrameType::goodbye:
            return header.length == 0;
        case FrameType::abort:
            return header.length == 1;
        default:
            return false;
    }
}

}  // namespace rejoin::inline v0_1::session

#include <bit>

namespace rejoin::inline v0_1 {

/// 32 bytes: a digest, a proof or a key.
struct Digest {
    std::byte bytes[32] = {};
    operator Bytes() const { return bytes; }
};

/// SHA-256 (FIPS 180-4 §6.2), incremental.
class Sha256 {
public:
    void update(Bytes bytes) {
        length_ += bytes.size();
        while (!bytes.empty()) {
            const std::size_t room = sizeof block_ - filled_;
            const Bytes part = bytes.first(bytes.size() < room ? bytes.size() : room);
            copy(block_ + filled_, part);
            filled_ += part.size();
            bytes = bytes.subspan(part.size());
            if (filled_ == sizeof block_) compress();
        }
    }

    /// The digest of everything so far; the object is spent.
    Digest finish() {
        const std::uint64_t bits = length_ * 8;
        block_[filled_++] = std::byte{0x80};
        if (filled_ > 56) {
            std::memset(block_ + filled_, 0, sizeof block_ - filled_);
            compress();
        }
        std::memset(block_ + filled_, 0, 56 - filled_);
        store_big(block_ + 56, bits);
        compress();
        Digest digest;
        for (std::size_t i = 0; i < 8; ++i) store_big(digest.bytes + 4 * i, state_[i]);
        return digest;
    }

private:
    void compress() {
        static constexpr std::uint32_t k[64] = {
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
            0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
            0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
            0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
            0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
            0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
            0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
        std::uint32_t w[64];
        for (std::size_t i = 0; i < 16; ++i) w[i] = load_big<std::uint32_t>(block_ + 4 * i);
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
            const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        std::uint32_t a = state_[0], b = state_[1], c = state_[2], d = state_[3], e = state_[4], f = state_[5], g = state_[6],
                      h = state_[7];
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
            const std::uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        state_[0] += a, state_[1] += b, state_[2] += c, state_[3] += d, state_[4] += e, state_[5] += f, state_[6] += g, state_[7] += h;
        filled_ = 0;
    }

    std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::uint64_t length_ = 0;
    std::size_t filled_ = 0;
    std::byte block_[64];
};

/// HMAC-SHA-256 (RFC 2104) of the pieces in order.
[[gnu::cold]] inline Digest hmac_sha256(Bytes key, std::span<const Bytes> pieces) {
    std::byte pad[64] = {};
    if (key.size() > sizeof pad) {
        Sha256 hash;
        hash.update(key);
        copy(pad, hash.finish());
    } else {
        copy(pad, key);
    }
    for (std::byte& b : pad) b ^= std::byte{0x36};
    Sha256 inner;
    inner.update(pad);
    for (Bytes piece : pieces) inner.update(piece);
    for (std::byte& b : pad) b ^= std::byte{0x36 ^ 0x5c};
    Sha256 outer;
    outer.update(pad);
    outer.update(inner.finish());
    return outer.finish();
}

/// Whether two proofs are the same, in a time that does not depend on where they differ.
inline bool equal_in_constant_time(const Digest& a, const Digest& b) {
    unsigned char difference = 0;
    for (std::size_t i = 0; i < sizeof a.bytes; ++i)
        difference = static_cast<unsigned char>(difference | std::to_integer<unsigned char>(a.bytes[i] ^ b.bytes[i]));
    return *static_cast<volatile unsigned char*>(&difference) == 0;
}

}  // namespace rejoin::inline v0_1

// How a connection joins a session, both ends, as pure state machines. One round trip before the client sends data:
//
//   new session       client: HELLO ->            <- WELCOME :server           client: CONFIRM, DATA ...
//   resume            client: RESUME ->           <- RESUMED :server           client: CONFIRM, DATA ...
//   no                                            <- REFUSED :server (closes)
//
// Both proofs are HMAC-SHA-256, under the session's key, over everything the two ends said, fresh nonces of both included; so a
// recorded handshake proves nothing later. The server changes nothing of a session before it has seen CONFIRM, and the old connection
// serves until then: so only CONFIRM, with which the client gives the old connection up, says from where both directions go on.
namespace rejoin::inline v0_1::session {

/// Names a session: 16 bytes from the system's entropy.
struct SessionId {
    std::byte bytes[16] = {};
    friend bool operator==(const SessionId&, const SessionId&) = default;
};

struct Nonce {
    std::byte bytes[16] = {};
};

/// What both ends of a session know of it for ever: its name and key.
struct Identity {
    SessionId id;
    Digest key;
};

inline constexpr std::byte magic_and_version[4] = {std::byte{'R'}, std::byte{'J'}, std::byte{'N'}, std::byte{1}};

// Payload sizes, in bytes, and what stands in them, in order.
inline constexpr std::size_t hello_size = 4 + 4 + 4 + 16;                 // magic and version, flags, window, nonce
inline constexpr std::size_t welcome_body_size = 4 + 16 + 16;             // window, session id, nonce
inline constexpr std::size_t welcome_size = welcome_body_size + 32 + 32;  // body, key (zeros when pre-shared), proof
inline constexpr std::size_t resume_size = 4 + 4 + 16 + 8 + 16;           // magic and version, window, session id, epoch, nonce
inline constexpr std::size_t resumed_body_size = 4 + 8 + 16;              // window, received, nonce
inline constexpr std::size_t resumed_size = resumed_body_size + 32;       // body, proof
inline constexpr std::size_t confirm_body_size = 8 + 8;                   // received, going on from
inline constexpr std::size_t confirm_size = confirm_body_size + 32;       // body, proof
inline constexpr std::size_t refused_size = 1;                            // code
inline constexpr std::size_t push_back_size = 1 + 1 + 2 + 4 + 16;         // code, zero, port, milliseconds, address (IPv4: mapped)
inline constexpr std::uint32_t flag_pre_shared_key = 1;                   // in HELLO: both ends derive the key, WELCOME has none
inline constexpr std::uint32_t window_min = 4096;
inline constexpr std::uint32_t window_max = 1u << 30;

/// Why a server says no, as it stands in REFUSED.
enum class Refusal : std::uint8_t { version = 1, unknown = 2, limit = 3, proof = 4, fenced = 5, later = 6, elsewhere = 7 };

constexpr Error error_of(Refusal refusal) {
    switch (refusal) {
        case Refusal::version:
            return Errc::version_mismatch;
        case Refusal::unknown:
            return Errc::session_unknown;
        case Refusal::limit:
            return Errc::session_limit;
        case Refusal::proof:
            return Errc::proof_invalid;
        case Refusal::fenced:
            return Errc::session_fenced;
        case Refusal::later:
            return Errc::overloaded;
        case Refusal::elsewhere:
            return Errc::redirected;
    }
    return Errc::malformed;
}

/// What a server asks of a client that it pushes back: with `later`, to stay away for so long; with `elsewhere`, to go there.
struct PushBack {
    std::uint32_t retry_after_ms = 0;
    IpAddress ip;
    std::uint16_t port = 0;
};

/// What a handshake agreed on, for `Session::attach`.
struct Agreement {
    std::uint64_t send_from = 0;     ///< the peer has everything of ours before this offset: we go on from here
    std::uint64_t receive_from = 0;  ///< the peer goes on from here, although more may have arrived
    std::uint64_t epoch = 0;         ///< of this connection; 0 for a session's first
    std::uint32_t window = 0;        ///< bytes the peer keeps unacknowledged at most
};

namespace detail {

inline std::byte* put(std::byte* to, Bytes bytes) {
    copy(to, bytes);
    return to + bytes.size();
}
template <class T>
std::byte* put_number(std::byte* to, T number) {
    store_big(to, number);
    return to + sizeof number;
}
template <class T>
T get(const std::byte*& from) {  // of byte-array structs: SessionId, Nonce, Digest
    T value;
    std::memcpy(value.bytes, from, sizeof value.bytes);
    from += sizeof value.bytes;
    return value;
}
template <class T>
T get_number(const std::byte*& from) {
    const T value = load_big<T>(from);
    from += sizeof value;
    return value;
}

inline Digest prove(const Digest& key, char who, Bytes request, Bytes answer, Bytes confirmation) {
    const char side[] = {who};
    const Bytes pieces[] = {TextView("rejoin proof ").bytes(), TextView(side, 1).bytes(), request, answer, confirmation};
    return hmac_sha256(key, pieces);
}
inline bool proven(const Digest& key, char who, Bytes request, Bytes answer, Bytes confirmation, const std::byte* proof) {
    return equal_in_constant_time(prove(key, who, request, answer, confirmation), get<Digest>(proof));
}
inline bool window_allowed(std::uint32_t window) { return window >= window_min && window <= window_max; }
inline Digest derive_key(const Digest& pre_shared_key, Bytes request, Bytes answer) {
    const Bytes pieces[] = {TextView("rejoin key ").bytes(), request, answer};
    return hmac_sha256(pre_shared_key, pieces);
}

/// What both sides of a handshake share: one message being read, what waits to be written, and the two halves that the proofs cover.
class Handshake {
public:
    /// What is to be written next; empty when nothing is.
    Bytes pending() const { return {out_ + out_written_, out_size_ - out_written_}; }
    void wrote(std::size_t n) { out_written_ += n; }
    /// The message that `receive` has just taken, whole; until its next call.
    Bytes last_message() const { return {in_, frame_header_size + read_frame_header(in_).length}; }

protected:
    /// Takes from the front of `bytes` what belongs to the message under way. True when it is whole. A length that is not plausible is
    /// refused before a byte of the payload is kept, and so is whatever follows it; and so is an answer to what is still being written.
    Result<bool> read_message(Bytes& bytes) {
        for (;;) {
            const std::size_t want = message_size();
            if (want > sizeof in_ || want == in_size_) return Errc::malformed;
            const std::size_t n = bytes.size() < want - in_size_ ? bytes.size() : want - in_size_;
            copy(in_ + in_size_, bytes.first(n));
            in_size_ += n;
            bytes = bytes.subspan(n);
            if (in_size_ < want) return false;
            if (in_size_ == frame_header_size) continue;
            in_size_ = 0;
            if (!pending().empty()) return Errc::malformed;
            return true;
        }
    }
    bool is(FrameType type, std::size_t length) const {
        const FrameHeader header = read_frame_header(in_);
        return header.type == type && header.length == length;
    }
    const std::byte* payload() const { return in_ + frame_header_size; }

    /// Starts the next message, in place of what was there.
    std::byte* write_message(FrameType type, std::size_t length) {
        write_frame_header(out_, type, length);
        out_size_ = frame_header_size + length;
        out_written_ = 0;
        return out_ + frame_header_size;
    }

    Bytes request() const { return {request_, request_size_}; }
    void set_request(const std::byte* from, std::size_t size) { copy(request_, {from, request_size_ = size}); }

    Digest key_;

private:
    // As far as it is known: of the header, while that is not there.
    std::size_t message_size() const { return frame_header_size + (in_size_ < frame_header_size ? 0 : read_frame_header(in_).length); }

    std::size_t request_size_ = 0;
    std::size_t in_size_ = 0;
    std::size_t out_size_ = 0;
    std::size_t out_written_ = 0;
    std::byte request_[resume_size];  // HELLO is shorter
    std::byte in_[frame_header_size + welcome_size];
    std::byte out_[frame_header_size + welcome_size];
};

}  // namespace detail

/// The client's side of one connection's joining.
///
///     asked --WELCOME or RESUMED with a good proof--> joined: the caller lets one attempt `confirm`, and drops the others
///           --REFUSED, or anything else-------------> failed, with the error that says why
class ClientHandshake : public detail::Handshake {
public:
    /// Asks for a new session. `window`: bytes this side keeps unacknowledged at most. `pre_shared_key`: null for none; kept by the caller.
    void ask_new(const Nonce& nonce, std::uint32_t window, const Digest* pre_shared_key) {
        pre_shared_key_ = pre_shared_key;
        std::byte* const payload = write_message(FrameType::hello, hello_size);
        std::byte* to = detail::put(payload, magic_and_version);
        to = detail::put_number(to, pre_shared_key == nullptr ? 0u : flag_pre_shared_key);
        to = detail::put_number(to, window);
        detail::put(to, nonce.bytes);
        set_request(payload, hello_size);
    }

    /// Asks to go on with a session. `epoch` is higher than any used before.
    void ask_resume(const Identity& identity, const Nonce& nonce, std::uint64_t epoch, std::uint32_t window) {
        resuming_ = true;
        identity_ = identity;
        agreement_.epoch = epoch;
        std::byte* const payload = write_message(FrameType::resume, resume_size);
        std::byte* to = detail::put(payload, magic_and_version);
        to = detail::put_number(to, window);
        to = detail::put(to, identity.id.bytes);
        to = detail::put_number(to, epoch);
        detail::put(to, nonce.bytes);
        set_request(payload, resume_size);
    }
    bool resuming() const { return resuming_; }

    /// Takes bytes from the server off the front of `bytes`. True once joined; what is then left in `bytes` belongs to the session.
    [[gnu::cold]] Result<bool> receive(Bytes& bytes) {
        auto whole = read_message(bytes);
        if (!whole || !*whole) return whole;
        const std::byte* from = payload();
        if (is(FrameType::refused, refused_size) || is(FrameType::refused, push_back_size)) return refused(from);
        if (!is(resuming_ ? FrameType::resumed : FrameType::welcome, resuming_ ? resumed_size : welcome_size)) return Errc::malformed;
        agreement_.window = detail::get_number<std::uint32_t>(from);
        if (!detail::window_allowed(agreement_.window)) return Errc::malformed;
        if (resuming_) {
            agreement_.send_from = detail::get_number<std::uint64_t>(from);
        } else {
            identity_.id = detail::get<SessionId>(from);
            const std::byte* key = answer().data() + welcome_body_size;
            identity_.key = detail::get<Digest>(key);
            if (pre_shared_key_ != nullptr) {  // then nothing is sent in its place, which no proof covers
                if (!equal_in_constant_time(identity_.key, Digest{})) return Errc::malformed;
                identity_.key = detail::derive_key(*pre_shared_key_, request(), answer());
            }
        }
        const std::byte* proof = payload() + (resuming_ ? resumed_size : welcome_size) - sizeof(Digest);
        if (!detail::proven(identity_.key, 'S', request(), answer(), {}, proof)) return Errc::proof_invalid;
        return true;
    }

    /// Composes CONFIRM, once `receive` has said true: everything before `received` has arrived here, over any connection, and everything
    /// before `acknowledged` is known to have arrived there. From here on the session uses no other connection.
    void confirm(std::uint64_t received, std::uint64_t acknowledged) {
        agreement_.receive_from = received;
        // An acknowledgement may have come over the old connection since the server answered, and what it covers is not kept.
        if (agreement_.send_from < acknowledged) agreement_.send_from = acknowledged;
        std::byte* const body = write_message(FrameType::confirm, confirm_size);
        std::byte* to = detail::put_number(body, agreement_.receive_from);
        to = detail::put_number(to, agreement_.send_from);
        detail::put(to, detail::prove(identity_.key, 'C', request(), answer(), {body, confirm_body_size}));
    }

    const Identity& identity() const { return identity_; }
    /// For `Session::attach`, after `confirm`.
    const Agreement& agreement() const { return agreement_; }
    /// What the server asks for, when `receive` has said `overloaded` or `redirected`.
    const PushBack& push_back() const { return push_back_; }

private:
    [[gnu::cold]] Errc refused(const std::byte* from) {
        const auto why = static_cast<Refusal>(from[0]);
        const bool pushed_back = why == Refusal::later || why == Refusal::elsewhere;
        if (pushed_back != is(FrameType::refused, push_back_size)) return Errc::malformed;
        if (!pushed_back) return static_cast<Errc>(error_of(why).code());
        const bool zero = from[1] == std::byte{0};
        from += 2;
        push_back_.port = detail::get_number<std::uint16_t>(from);
        push_back_.retry_after_ms = detail::get_number<std::uint32_t>(from);
        IpAddress ip;
        ip.family = Family::v6;
        std::memcpy(ip.bytes, from, sizeof ip.bytes);
        push_back_.ip = unmapped(ip);
        const bool nowhere = push_back_.port == 0 && ip.is_unspecified();
        const bool somewhere = push_back_.port != 0 && !push_back_.ip.is_unspecified() && !push_back_.ip.is_link_local();
        if (!zero || (why == Refusal::later ? !nowhere : !somewhere || push_back_.retry_after_ms != 0)) return Errc::malformed;
        return static_cast<Errc>(error_of(why).code());
    }
    Bytes answer() const { return {payload(), resuming_ ? resumed_body_size : welcome_body_size}; }

    const Digest* pre_shared_key_ = nullptr;
    bool resuming_ = false;
    Identity identity_;
    Agreement agreement_;
    PushBack push_back_;
};

/// The server's side of one connection's joining.
///
///     waiting --HELLO---> caller makes a session: `welcome`  --> answered --CONFIRM with a good proof--> joined
///             --RESUME--> caller finds it: `resume` or `refuse`
///
/// A connection that was refused is closed once `pending` is written.
class ServerHandshake : public detail::Handshake {
public:
    enum class Step : std::uint8_t { more, hello, resume, joined };

    /// Takes bytes from the client off the front of `bytes`. After `hello` and `resume` the caller answers before it calls again. What
    /// is left in `bytes` after `joined` belongs to the session.
    [[gnu::cold]] Result<Step> receive(Bytes& bytes) {
        auto whole = read_message(bytes);
        if (!whole) return whole.error();
        if (!*whole) return Step::more;
        const std::byte* from = payload();
        if (answered_) {
            if (!is(FrameType::confirm, confirm_size)) return Errc::malformed;
            if (!detail::proven(key_, 'C', request(), answer(), {from, confirm_body_size}, from + confirm_body_size))
                return Errc::proof_invalid;
            const std::uint64_t told = agreement_.receive_from;
            agreement_.send_from = detail::get_number<std::uint64_t>(from);
            agreement_.receive_from = detail::get_number<std::uint64_t>(from);
            if (agreement_.receive_from < told) return Errc::malformed;
            return Step::joined;
        }
        const FrameHeader header = read_frame_header(payload() - frame_header_size);
        if ((header.type != FrameType::hello && header.type != FrameType::resume) || header.length < sizeof magic_and_version ||
            std::memcmp(from, magic_and_version, 3) != 0)
            return Errc::malformed;
        if (from[3] != magic_and_version[3]) return Errc::version_mismatch;
        from += sizeof magic_and_version;
        const bool hello = is(FrameType::hello, hello_size);
        if (!hello && !is(FrameType::resume, resume_size)) return Errc::malformed;
        set_request(payload(), hello ? hello_size : resume_size);
        if (hello) {
            const auto flags = detail::get_number<std::uint32_t>(from);
            if (flags > flag_pre_shared_key) return Errc::malformed;
            pre_shared_ = flags != 0;
        }
        agreement_.window = detail::get_number<std::uint32_t>(from);
        if (!detail::window_allowed(agreement_.window)) return Errc::malformed;
        if (hello) return Step::hello;
        id_ = detail::get<SessionId>(from);
        agreement_.epoch = detail::get_number<std::uint64_t>(from);
        if (agreement_.epoch == 0) return Errc::malformed;
        return Step::resume;
    }

    /// Answers HELLO. `identity.key` is fresh from the system's entropy; with a pre-shared key it is replaced by the derived one.
    /// `proof_invalid` when one side has a pre-shared key and the other has none: refuse it as such.
    Result<void> welcome(Identity& identity, const Nonce& nonce, std::uint32_t window, const Digest* pre_shared_key) {
        if (pre_shared_ != (pre_shared_key != nullptr)) return Errc::proof_invalid;
        std::byte* const body = write_message(FrameType::welcome, welcome_size);
        std::byte* to = detail::put_number(body, window);
        to = detail::put(to, identity.id.bytes);
        to = detail::put(to, nonce.bytes);
        if (pre_shared_key != nullptr) identity.key = detail::derive_key(*pre_shared_key, request(), {body, welcome_body_size});
        to = detail::put(to, pre_shared_key == nullptr ? identity.key : Digest{});
        id_ = identity.id;
        answer(identity.key, {body, welcome_body_size}, to);
        return {};
    }
    /// Answers RESUME: everything before `received` has arrived here.
    void resume(const Digest& key, const Nonce& nonce, std::uint64_t received, std::uint32_t window) {
        agreement_.receive_from = received;
        std::byte* const body = write_message(FrameType::resumed, resumed_size);
        std::byte* to = detail::put_number(body, window);
        to = detail::put_number(to, received);
        to = detail::put(to, nonce.bytes);
        answer(key, {body, resumed_body_size}, to);
    }
    /// Says no, in place of an answer of which nothing has been written yet.
    void refuse(Refusal why) { *write_message(FrameType::refused, refused_size) = static_cast<std::byte>(why); }
    /// The same, with what is asked for: `later` when `ask.ip` is of family none, else `elsewhere`; that address is neither link-local nor
    /// unspecified, and its port not 0.
    void push_back(const PushBack& ask) {
        const bool later = ask.ip.family == Family::none;
        std::byte* to = write_message(FrameType::refused, push_back_size);
        *to++ = static_cast<std::byte>(later ? Refusal::later : Refusal::elsewhere);
        *to++ = {};
        to = detail::put_number(to, later ? std::uint16_t{0} : ask.port);
        to = detail::put_number(to, later ? ask.retry_after_ms : 0u);
        std::memcpy(to, mapped(ask.ip).bytes, 16);
    }

    /// The session asked for by RESUME, or made for HELLO.
    const SessionId& id() const { return id_; }
    /// For `Session::attach`, after `joined`; `epoch` is known from `resume` on.
    const Agreement& agreement() const { return agreement_; }

private:
    Bytes answer() const { return {answer_, answer_size_}; }
    void answer(const Digest& key, Bytes body, std::byte* proof) {
        key_ = key;
        copy(answer_, body);
        answer_size_ = static_cast<std::uint8_t>(body.size());
        detail::put(proof, detail::prove(key, 'S', request(), answer(), {}));
        answered_ = true;
    }

    bool answered_ = false;
    bool pre_shared_ = false;
    std::uint8_t answer_size_ = 0;
    std::byte answer_[welcome_body_size];
    SessionId id_;
    Agreement agreement_;
};

}  // namespace rejoin::inline v0_1::session

namespace rejoin::inline v0_1::session {

/// The memory in which many sessions keep bytes for replay, and how much it may be: a server's bound in all, and within it each peer's.
struct Budget {
    std::size_t limit = SIZE_MAX;
    Budget* outer = nullptr;
    std::size_t used = 0;

    /// Takes `n` bytes of it; false, and nothing is taken, when that is more than is left.
    bool charge(std::size_t n) {
        if (n > limit - used || (outer != nullptr && !outer->charge(n))) return false;
        used += n;
        return true;
    }
    /// Gives back what was taken.
    void credit(std::size_t n) {
        used -= n;
        if (outer != nullptr) outer->credit(n);
    }
};

/// A key that both ends hold before they meet, made of a secret of at least 16 random bytes. Default: none.
class PreSharedKey {
public:
    PreSharedKey() = default;
    explicit PreSharedKey(Bytes secret) : set_(true) {
        Sha256 hash;
        hash.update(secret);
        key_ = hash.finish();
    }
    /// The key, or null for none. Lives as long as this object.
    const Digest* get() const { return set_ ? &key_ : nullptr; }

private:
    Digest key_;
    bool set_ = false;
};

/// Bounds and times of a session.
struct Options {
    /// Bytes kept until the peer's application has them, at most: 4 KiB to 1 GiB. A `send` beyond it is refused with `would_block`. As many
    /// are kept of what comes while the application here has paused.
    std::size_t replay_limit = 1024 * 1024;
    /// How often a quiet connection is probed; the accepting side, which hears the other's probes, waits twice as long. Half of what a
    /// hasty NAT allows an idle connection (15 s seen) leaves room for one lost probe. Where connections are found dead after a quiet time
    /// twice in a row, it is halved, down to a second.
    Duration liveness_interval = Duration::seconds(5);
    /// A probe unanswered for this long, or for four round trips if that is longer, makes the path suspect: another is tried beside it.
    Duration suspect_after = Duration::seconds(1);
    /// A probe unanswered for this long, or for four round trips if that is longer, while the peer's kernel is silent too: dead.
    Duration dead_after = Duration::seconds(3);
    /// The accepting side keeps a session without a connection for this long, and then reports `session_expired`.
    Duration keep_detached = Duration::seconds(120);
    /// A key that both sides hold beforehand. Without one, the session's key is sent once, in the clear.
    PreSharedKey pre_shared_key;

    bool valid() const {
        return replay_limit >= window_min && replay_limit <= window_max && liveness_interval > Duration() && suspect_after > Duration() &&
               dead_after > Duration() && keep_detached > Duration();
    }
};

struct State;

/// One end of a session: a stream each way that goes on over one connection after another, without loss, repetition or reordering.
/// Pure: bytes and times go in, bytes come out; it knows no socket and no clock. 64-bit offsets count the bytes of each direction from
/// 0; the end of a stream (FIN) counts as one.
///
///     detached --attach--> attached --detach--> detached ...
///     either, once `finish` and the peer's FIN have both arrived and been acknowledged: `ended`
class Session {
public:
    static constexpr bool survives_connections = true;
    static constexpr bool has_end = true;
    using Options = session::Options;

    Session() = default;
    Session(const Session&) = delete;
    [[gnu::cold]] ~Session() {
        drop_held();
        set_budget(nullptr);
    }

    void set_options(const Options& options) { options_ = &options; }
    const Options& options() const { return *options_; }
    /// `accepted`: this is the server's end.
    void set_identity(const Identity& identity, bool accepted) {
        identity_ = identity;
        accepted_ = accepted;
        established_ = true;
    }
    const Identity& identity() const { return identity_; }
    /// Whether the two ends have ever agreed: from then on a new connection resumes.
    bool established() const { return established_; }
    /// The epoch of the connection in use; a resume must bring a higher one.
    std::uint64_t epoch() const { return epoch_; }
    std::uint64_t next_epoch() { return ++last_asked_epoch_; }
    /// Charges the memory of the replay buffer, and of what is held, to `budget`, which outlives the session or is taken away again with
    /// null. Before the first `send`.
    [[gnu::cold]] void set_budget(Budget* budget) {
        if (budget_ != nullptr) budget_->credit(replay_.capacity() + (held_ == nullptr ? 0 : std::exchange(held_->charged, 0)));
        budget_ = budget;
    }

    // ---- The application's side.

    /// Queues `bytes` whole, or refuses them whole: `would_block` (see `take_drained`), `too_large` for more than the replay limit,
    /// `invalid_state` after `finish`, `out_of_memory`.
    Result<void> send(Bytes bytes) {
        if (finishing_) return Errc::invalid_state;
        if (bytes.size() > options_->replay_limit) return Errc::too_large;
        if (bytes.size() > options_->replay_limit - replay_.size()) return refuse(Errc::would_block);
        if (budget_ == nullptr) return replay_.append(bytes) ? Result<void>() : Errc::out_of_memory;
        const std::size_t growth = replay_.capacity_for(replay_.size() + bytes.size()) - replay_.capacity();
        if (!budget_->charge(growth)) return refuse(Errc::would_block);
        if (replay_.append(bytes)) return {};
        budget_->credit(growth);
        return Errc::out_of_memory;
    }
    /// Bytes that `send` would take now, as far as its own limit goes.
    std::size_t send_space() const { return options_->replay_limit - replay_.size(); }
    std::size_t send_limit() const { return options_->replay_limit; }
    /// True once after a refusal, when half of the limit is free again. (What a budget refused may be refused again.)
    bool take_drained() {
        if (!refused_ || replay_.size() > options_->replay_limit / 2) return false;
        refused_ = false;
        return true;
    }
    /// Ends the sending direction after everything queued.
    void finish() { finishing_ = true; }
    bool finishing() const { return finishing_; }
    /// The peer ended its direction, and all of it has been delivered here.
    bool peer_finished() const { return peer_finished_; }
    /// Both directions have ended and arrived. The server's end knows first, and says GOODBYE; the client's end is over when it hears it.
    bool ended() const { return accepted_ ? complete() : goodbye_; }
    /// Both directions have ended, and both are known here to have arrived. The client's end still waits for GOODBYE, so that the server
    /// knows it too; a server that has forgotten the session by then has nothing to tell it.
    bool complete() const { return fin_acknowledged_ && peer_finished_; }
    /// Bytes the peer's application is not known to have.
    std::size_t unacknowledged() const { return replay_.size(); }
    /// The offset up to which the peer's stream has been delivered here, and that up to which ours is known to have been there. FIN counts
    /// one in both.
    std::uint64_t received() const { return received_; }
    std::uint64_t acknowledged() const { return acknowledged_ + (fin_acknowledged_ ? 1 : 0); }
    /// Bytes of our stream so far, queued ones included.
    std::uint64_t sent() const { return end(); }
    /// Bytes that were sent more than once, over all connections.
    std::uint64_t replayed() const { return replayed_; }
    /// Smoothed (RFC 6298 §2); zero while unknown.
    Duration round_trip() const { return round_trip_; }

    /// The most bytes that one call of `deliver` gets.
    void set_piece(std::uint32_t n) { piece_ = n; }
    /// While the application takes nothing, the peer's stream is kept here, and not acknowledged: so this end's window bounds it. What else
    /// the peer says is heard all the time; two ends that wait for each other's acknowledgements would otherwise wait for ever.
    void hold(bool held) { holding_ = held; }
    /// Bytes that wait to be taken.
    std::size_t held() const { return held_ == nullptr ? 0 : held_->bytes.size(); }
    /// Whether nothing more should be read for now: the peer does not mind the window, or the budget is spent.
    bool full() const { return held() > options_->replay_limit || (held_ != nullptr && held_->over_budget); }
    /// Copies what waits into `to`, as far as it fits; it counts as delivered. `held_delivered` follows when it has been.
    [[gnu::cold]] std::size_t take_held(MutableBytes to) {
        std::size_t n = 0;
        if (to.size() > piece_) to = to.first(piece_);
        while (n < to.size() && held() > 0) {
            const Bytes part = held_->bytes.peek(0, to.size() - n);
            copy(to.data() + n, part);
            n += part.size();
            held_->bytes.drop(part.size());
        }
        received_ += n;
        return n;
    }
    [[gnu::cold]] void held_delivered() {
        if (held_ == nullptr || held() > 0) return;
        const bool fin = held_->fin;
        drop_held();
        if (fin) peer_finishes();
    }

    // ---- The connection's side.

    /// Goes on over a new connection, in place of the one before. `preface`: what the handshake still has to write. `malformed`, and
    /// nothing has changed, when the peer claims to have received what was never sent, to lack what it acknowledged, or to know of more
    /// than arrived here.
    [[gnu::cold]] Result<void> attach(const Agreement& agreement, Bytes preface, Duration round_trip, TimePoint now) {
        if (agreement.send_from < acknowledged() || agreement.send_from > highest_sent_ || agreement.receive_from > received_ ||
            preface.size() > sizeof out_)
            return Errc::malformed;
        acknowledge(agreement.send_from);
        drop_held();  // comes again, as it was not acknowledged
        sent_ = agreement.send_from;
        skip_ = received_ - agreement.receive_from;
        acknowledgement_sent_ = agreement.receive_from;
        if (agreement.epoch > epoch_) epoch_ = agreement.epoch;
        set_window(agreement.window);
        copy(out_, preface);
        out_size_ = static_cast<std::uint8_t>(preface.size());
        out_written_ = 0;
        payload_out_ = payload_in_ = 0;
        header_size_ = 0;
        pong_due_ = ping_due_ = ping_unanswered_ = goodbye_sent_ = heard_ = false;
        attached_ = true;
        acknowledged_before_ = static_cast<std::uint32_t>(acknowledged_);
        ++attachment_;
        heard_at_ = pinged_at_ = now;
        if (round_trip > Duration()) measure(round_trip);
        return {};
    }
    [[gnu::cold]] void detach() {
        attached_ = false;
        ++attachment_;
        if (replay_.empty()) release_memory();  // for as long as it may take
    }
    bool attached() const { return attached_; }

    /// The most pieces that `gather` gives.
    static constexpr std::size_t pieces_max = 3;
    /// Tells what to write next, in order, as views that hold until the next call of anything but `wrote`; returns how many pieces.
    std::size_t gather(std::span<Bytes, pieces_max> pieces) {
        if (!attached_ || goodbye_) return 0;  // GOODBYE may come in the middle of what is sent again
        if (out_written_ == out_size_ && payload_out_ == 0) compose();
        std::size_t n = 0;
        if (out_written_ < out_size_) pieces[n++] = {out_ + out_written_, static_cast<std::size_t>(out_size_ - out_written_)};
        const auto from = static_cast<std::size_t>(sent_ - acknowledged_);
        for (std::size_t at = 0; at < payload_out_; at += pieces[n - 1].size()) pieces[n++] = replay_.peek(from + at, payload_out_ - at);
        return n;
    }
    /// The connection took the first `n` bytes of what was gathered.
    void wrote(std::size_t n) {
        const std::size_t out_left = static_cast<std::size_t>(out_size_ - out_written_);
        const std::size_t from_out = n < out_left ? n : out_left;
        out_written_ = static_cast<std::uint8_t>(out_written_ + from_out);
        n -= from_out;
        payload_out_ -= static_cast<std::uint32_t>(n);
        if (sent_ < highest_sent_) replayed_ += n < highest_sent_ - sent_ ? n : highest_sent_ - sent_;
        sent_ += n;
        if (sent_ > highest_sent_) highest_sent_ = sent_;
    }

    /// Takes bytes from the peer; `deliver(Bytes) -> bool` gets the stream's, and returns false when it destroyed this session. Returns
    /// no error, or why the connection is of no use any more; `gone` when the session was destroyed. A frame's length is checked before
    /// use.
    template <class Deliver>
    Error receive(Bytes bytes, TimePoint now, Deliver&& deliver, bool& gone) {
        if (ping_unanswered_ && quiet_long()) deaths_in_quiet_ = 0;
        heard_at_ = now;
        heard_ = true;
        ping_unanswered_ = false;
        const std::uint32_t attachment = attachment_;
        while (!bytes.empty() && !goodbye_) {
            if (payload_in_ > 0) {
                const std::uint32_t most = payload_in_ < piece_ ? payload_in_ : piece_;
                Bytes part = bytes.first(bytes.size() < most ? bytes.size() : most);
                bytes = bytes.subspan(part.size());
                payload_in_ -= static_cast<std::uint32_t>(part.size());
                const std::uint64_t again = skip_ > 0 && peer_finished_ ? skip_ - 1 : skip_;  // FIN is not repeated by data
                const std::size_t known = again < part.size() ? static_cast<std::size_t>(again) : part.size();
                skip_ -= known;
                part = part.subspan(known);
                if (part.empty()) continue;
                if (peer_finished_ || (held_ != nullptr && held_->fin)) return Errc::malformed;
                if (holding_ || held_ != nullptr) {
                    if (!keep(part)) return Errc::out_of_memory;
                    continue;
                }
                received_ += part.size();
                if (!deliver(part)) {
                    gone = true;
                    return {};
                }
                if (attachment != attachment_) return {};  // the handler closed the connection that this came from
                continue;
            }
            // A whole frame in place is read there; one that is split is put together first.
            const std::byte* frame = bytes.data();
            std::size_t size = bytes.size();
            std::size_t kept = 0;
            if (header_size_ > 0) {
                kept = header_size_;
                const std::size_t room = sizeof header_ - kept;
                const std::size_t n = size < room ? size : room;
                copy(header_ + kept, bytes.first(n));
                frame = header_;
                size = kept + n;
            }
            std::size_t need = frame_header_size;
            FrameHeader header{};
            if (size >= need) {
                header = read_frame_header(frame);
                if (!frame_length_allowed(header)) return Errc::malformed;
                if (header.type != FrameType::data) need += header.length;
            }
            if (size < need) {
                if (kept == 0) copy(header_, bytes);
                header_size_ = static_cast<std::uint8_t>(size);
                return {};
            }
            header_size_ = 0;
            if (header.type == FrameType::data)
                payload_in_ = header.length;
            else if (Error error = handle(header.type, frame + frame_header_size, now))
                return error;
            bytes = bytes.subspan(need - kept);
        }
        return {};
    }

    // ---- Moving to another process (session/state.hpp).

    /// Copies everything that another process needs to go on into a new `State`, over the same connection or a new one; this end must then
    /// do nothing more with either, unless the other process does not take it. `out_of_memory`.
    Result<void> save(State& state) const;
    /// Goes on where `state` ends, in a session that is new. `malformed` for what no session can be; `too_large` for more unacknowledged
    /// bytes than the options here allow; `would_block` over the budget; `out_of_memory`.
    Result<void> restore(const State& state, TimePoint now);

    // ---- Time.

    enum class Liveness : std::uint8_t { fine, suspect, dead };
    /// What the silence of the connection means at `now`; composes a probe when one is due. Call it at `deadline`, then write.
    Liveness on_time(TimePoint now) {
        if (!attached_) return Liveness::fine;
        if (now >= release_at()) release_memory();
        if (ping_unanswered_) {
            const Duration silence = now - pinged_at_;
            const Duration patience = round_trip_ * 4;
            if (silence >= longer(options_->dead_after, patience)) return Liveness::dead;
            return silence >= longer(options_->suspect_after, patience) ? Liveness::suspect : Liveness::fine;
        }
        if (now >= ping_at()) {
            ping_due_ = ping_unanswered_ = true;
            pinged_at_ = unanswered_since_ = now;
        }
        return Liveness::fine;
    }
    /// The path is known to work although the peer says nothing (its kernel acknowledges): probes again and waits for the answer anew.
    void excuse(TimePoint now) {
        pinged_at_ = now;
        ping_due_ = true;
    }
    /// Whether it was excused for as long as would make it dead otherwise: something on the way may acknowledge and pass nothing on.
    bool overdue(TimePoint now) const {
        return ping_unanswered_ && now - unanswered_since_ >= longer(options_->dead_after, round_trip_ * 4);
    }
    /// When the last probe was sent.
    TimePoint probed_at() const { return pinged_at_; }
    /// When `on_time` wants to be called next.
    TimePoint deadline(TimePoint now) const {
        if (!attached_) return TimePoint::never();
        TimePoint next = ping_at();
        if (ping_unanswered_) {
            const Duration patience = round_trip_ * 4;
            const TimePoint suspect = pinged_at_ + longer(options_->suspect_after, patience);
            const TimePoint dead = pinged_at_ + longer(options_->dead_after, patience);
            next = suspect > now && suspect < dead ? suspect : dead;
        }
        if (release_at() < next) next = release_at();
        return acknowledgement_due() && now + acknowledge_after < next ? now + acknowledge_after : next;
    }
    /// Whether the last flush left an acknowledgement for later, so that it may ride on data.
    bool acknowledgement_due() const { return position() != acknowledgement_sent_; }
    /// The delayed acknowledgement is sent with the next flush, data or none.
    void acknowledge_now() { acknowledge_due_ = true; }
    /// Asks for an answer at once, for a path in doubt.
    void probe(TimePoint now) {
        if (!attached_ || ping_unanswered_) return;
        ping_due_ = ping_unanswered_ = true;
        pinged_at_ = unanswered_since_ = now;
    }
    bool probe_unanswered() const { return ping_unanswered_; }
    /// How many probes were sent, over all connections.
    std::uint32_t probes() const { return probes_; }

    // ---- What is learnt of the path.

    /// Whether what was sent on this connection waits for an acknowledgement.
    bool waiting() const { return attached_ && sent_ > acknowledged(); }
    /// Whether more than fits into a small packet was sent on this connection, and nothing of it has come through.
    bool stuck() const {
        return attached_ && static_cast<std::uint32_t>(acknowledged_) == acknowledged_before_ && sent_ - acknowledged_ > small_packet;
    }
    /// Whether nothing at all came from the peer since this connection joined.
    bool barren() const { return attached_ && !heard_; }
    /// The connection is dead. When that is seen by a probe after a quiet time, for the second time in a row, something on the way forgets
    /// quiet connections: probes are sent twice as often from now on.
    void found_dead() {
        if (!ping_unanswered_ || !quiet_long() || ++deaths_in_quiet_ < 2) return;
        deaths_in_quiet_ = 0;
        if (liveness_interval() > liveness_min) ++halvings_;
    }
    /// Another network: what was learnt of the one before does not hold.
    void unlearn() { halvings_ = deaths_in_quiet_ = 0; }
    /// How often a quiet connection is probed at present.
    [[gnu::noinline]] Duration liveness_interval() const {  // it is large, and asked for in many places
        const Duration asked = asked_ms_ != 0 ? Duration::milliseconds(asked_ms_) : options_->liveness_interval;
        if (halvings_ == 0 || asked < liveness_min) return asked;
        return longer(asked / (std::int64_t{1} << halvings_), liveness_min);
    }
    /// Another interval than the options' from now on, 1 ms to 49 days.
    void set_liveness_interval(Duration d) {
        const std::int64_t ms = d.milliseconds();
        asked_ms_ = static_cast<std::uint32_t>(ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : ms);
    }

    /// Whether no frame is half written, so that `abort_frame` may follow.
    bool at_frame_boundary() const { return attached_ && out_written_ == out_size_ && payload_out_ == 0; }
    /// What giving up says to the peer, as one frame.
    static constexpr std::byte abort_frame[5] = {std::byte{0x16}, {}, {}, std::byte{1}, {}};

private:
    friend struct TestAccess;  // places a session at offsets that would take years to reach

    static constexpr std::uint32_t frame_payload_max = 256 * 1024;  // more would keep a PONG waiting behind it on a slow link
    static constexpr std::uint32_t acknowledge_every_max = 64 * 1024;
    static constexpr Duration acknowledge_after = Duration::milliseconds(25);  // long enough to ride on an answer, short against any outage
    static constexpr Duration quiet = Duration::milliseconds(500);             // unanswered data is followed by a probe this soon

    static constexpr std::uint64_t small_packet = 1000;
    static constexpr Duration liveness_min = Duration::seconds(1);

    bool quiet_long() const { return (unanswered_since_ - heard_at_) * 4 >= liveness_interval() * 3; }
    static Duration longer(Duration a, Duration b) { return a > b ? a : b; }

    Result<void> refuse(Errc why) {
        refused_ = true;
        return why;
    }
    void set_window(std::uint32_t window) {
        window_ = window;
        const std::uint32_t quarter = static_cast<std::uint32_t>(window_ < options_->replay_limit ? window_ : options_->replay_limit) / 4;
        acknowledge_every_ = quarter < acknowledge_every_max ? quarter : acknowledge_every_max;
    }
    bool fin_due() const { return finishing_ && sent_ == end() && !fin_acknowledged_; }
    // How far this connection has come in the peer's stream; more may have arrived over an older one. An acknowledgement says no more, as
    // the peer goes on from what it knows.
    std::uint64_t position() const { return received_ - skip_; }

    // An empty replay buffer gives its memory back when the peer has been quiet for a moment: not between two messages.
    TimePoint release_at() const { return replay_.empty() && replay_.capacity() > 0 ? heard_at_ + quiet : TimePoint::never(); }
    [[gnu::cold]] void release_memory() {
        if (budget_ != nullptr) budget_->credit(replay_.capacity());
        replay_.release();
    }

    [[gnu::noinline]] TimePoint ping_at() const {
        const Duration interval = liveness_interval();
        const bool unanswered = sent_ > acknowledged() && interval > quiet;
        if (accepted_) return heard_at_ + (unanswered ? quiet : interval * 2);
        const TimePoint regular = pinged_at_ + interval;
        const TimePoint soon = (heard_at_ > pinged_at_ ? heard_at_ : pinged_at_) + quiet;
        return unanswered && soon < regular ? soon : regular;
    }

    // Puts into `out_` every small frame that is due, and the header of the next data.
    void compose() {
        out_size_ = out_written_ = 0;
        const std::uint64_t may_send = end() - acknowledged_ < window_ ? end() : acknowledged_ + window_;
        const std::size_t unsent = sent_ < may_send ? static_cast<std::size_t>(may_send - sent_) : 0;
        const bool something = unsent > 0 || pong_due_ || ping_due_ || fin_due() || acknowledge_due_;
        if (acknowledgement_due() && (something || position() - acknowledgement_sent_ >= acknowledge_every_)) {
            add(FrameType::ack, position());
            acknowledgement_sent_ = position();
        }
        acknowledge_due_ = false;
        if (pong_due_) add(FrameType::pong, pong_);
        if (ping_due_) ++probes_, add(FrameType::ping, static_cast<std::uint64_t>(pinged_at_.nanoseconds()));
        pong_due_ = ping_due_ = false;
        if (unsent > 0) {
            payload_out_ = unsent < frame_payload_max ? static_cast<std::uint32_t>(unsent) : frame_payload_max;
            add(FrameType::data, payload_out_, 0);
        } else if (fin_due()) {
            add(FrameType::fin, 0, 0);
            if (++sent_ > highest_sent_) highest_sent_ = sent_;
        } else if (accepted_ && ended() && !goodbye_sent_) {
            goodbye_sent_ = true;
            add(FrameType::goodbye, 0, 0);
        }
    }
    void add(FrameType type, std::size_t length, int) {
        write_frame_header(out_ + out_size_, type, length);
        out_size_ = static_cast<std::uint8_t>(out_size_ + frame_header_size);
    }
    void add(FrameType type, std::uint64_t number) {
        add(type, sizeof number, 0);
        store_big(out_ + out_size_, number);
        out_size_ = static_cast<std::uint8_t>(out_size_ + sizeof number);
    }

    Error handle(FrameType type, const std::byte* payload, TimePoint now) {
        switch (type) {
            case FrameType::ack: {
                const auto offset = load_big<std::uint64_t>(payload);
                if (offset > sent_) return Errc::malformed;
                if (offset > acknowledged_) acknowledge(offset);
                return {};
            }
            case FrameType::ping:
                pong_ = load_big<std::uint64_t>(payload);
                pong_due_ = true;
                return {};
            case FrameType::pong: {
                const auto sent_at = static_cast<std::int64_t>(load_big<std::uint64_t>(payload));
                // Only the last probe is measured, so that a peer cannot make up round trips.
                if (sent_at == pinged_at_.nanoseconds()) measure(now - pinged_at_);
                return {};
            }
            case FrameType::fin:
                if (skip_ > 0) return --skip_ == 0 && peer_finished_ ? Error() : Error(Errc::malformed);  // again
                if (peer_finished_ || (held_ != nullptr && held_->fin)) return Errc::malformed;
                if (held_ != nullptr)
                    held_->fin = true;  // its turn comes behind what waits
                else
                    peer_finishes();
                return {};
            case FrameType::goodbye:
                if (accepted_ || !peer_finished_ || highest_sent_ <= end()) return Errc::malformed;  // FIN has not even been sent
                acknowledge(highest_sent_);
                goodbye_ = true;
                return {};
            case FrameType::abort:
                return Errc::session_aborted;
            default:
                return Errc::malformed;
        }
    }

    void peer_finishes() {
        peer_finished_ = true;
        ++received_;
        acknowledge_due_ = true;
    }

    // What the application has not taken yet; exists while there is something.
    struct Held {
        Ring bytes;
        std::size_t charged = 0;
        bool fin = false;
        bool over_budget = false;
    };
    [[gnu::cold]] bool keep(Bytes part) {
        if (held_ == nullptr && (held_ = new (std::nothrow) Held) == nullptr) return false;
        const std::size_t growth = held_->bytes.capacity_for(held() + part.size()) - held_->bytes.capacity();
        held_->over_budget = budget_ != nullptr && !budget_->charge(growth);
        if (budget_ != nullptr && !held_->over_budget) held_->charged += growth;
        return held_->bytes.append(part);
    }
    [[gnu::cold]] void drop_held() {
        if (held_ == nullptr) return;
        if (budget_ != nullptr) budget_->credit(held_->charged);
        delete std::exchange(held_, nullptr);
    }

    std::uint64_t end() const { return acknowledged_ + replay_.size(); }
    void acknowledge(std::uint64_t offset) {
        std::uint64_t n = offset - acknowledged_;
        if (n > replay_.size()) {  // only by one, for FIN
            n = replay_.size();
            fin_acknowledged_ = true;
        }
        if (n == 0) return;
        replay_.drop(static_cast<std::size_t>(n));
        acknowledged_ += n;
    }
    void measure(Duration sample) {
        if (sample <= Duration()) sample = Duration::nanoseconds(1);
        round_trip_ = round_trip_ == Duration() ? sample : round_trip_ + (sample - round_trip_) / 8;
    }

    const Options* options_ = nullptr;
    Budget* budget_ = nullptr;
    Identity identity_;
    Held* held_ = nullptr;
    Ring replay_;  // what the peer's application is not known to have, from `acknowledged_` on
    std::uint64_t epoch_ = 0;
    std::uint64_t last_asked_epoch_ = 0;
    std::uint64_t acknowledged_ = 0;
    std::uint64_t sent_ = 0;          // next to go out on this connection
    std::uint64_t highest_sent_ = 0;  // on any connection
    std::uint64_t received_ = 0;      // delivered to the application
    std::uint64_t acknowledgement_sent_ = 0;
    std::uint64_t skip_ = 0;  // arrived over the old connection after the new one's handshake had said otherwise
    std::uint64_t replayed_ = 0;
    std::uint64_t pong_ = 0;
    TimePoint heard_at_;
    TimePoint pinged_at_;
    TimePoint unanswered_since_;  // the first of the probes that nothing came after
    Duration round_trip_;
    std::uint32_t payload_out_ = 0;          // of the data frame being written
    std::uint32_t payload_in_ = 0;           // of the data frame being read
    std::uint32_t acknowledged_before_ = 0;  // when this connection joined; the lower half tells
    std::uint32_t asked_ms_ = 0;             // the probes' interval, where it is not the options'
    std::uint32_t probes_ = 0;
    std::uint32_t attachment_ = 0;  // rises with every attach and detach
    std::uint32_t window_ = 0;      // what the peer keeps for an application that takes nothing
    std::uint32_t piece_ = UINT32_MAX;
    std::uint32_t acknowledge_every_ = acknowledge_every_max;
    std::uint8_t out_size_ = 0;
    std::uint8_t out_written_ = 0;
    std::uint8_t header_size_ = 0;
    std::uint8_t deaths_in_quiet_ = 0;  // in a row
    std::uint8_t halvings_ = 0;         // of the probes' interval, as the path was seen not to allow more
    bool heard_ = false;                // anything on this connection
    bool accepted_ = false;
    bool established_ = false;
    bool attached_ = false;
    bool refused_ = false;
    bool holding_ = false;
    bool finishing_ = false;
    bool fin_acknowledged_ = false;
    bool peer_finished_ = false;
    bool goodbye_ = false;
    bool goodbye_sent_ = false;
    bool acknowledge_due_ = false;
    bool pong_due_ = false;
    bool ping_due_ = false;
    bool ping_unanswered_ = false;
    std::byte header_[frame_header_size + control_length_max];
    std::byte out_[frame_header_size + confirm_size];  // more than ACK, PONG, PING and the header of DATA together
};

}  // namespace rejoin::inline v0_1::session

namespace rejoin::inline v0_1::session {

/// Everything of a session that another process needs to go on with it. Offsets as in `Session`.
struct State {
    Identity identity;
    bool accepted = false;  ///< the server's end
    std::uint64_t epoch = 0, asked_epoch = 0;
    Duration round_trip;

    std::uint64_t acknowledged = 0;  ///< the peer has our stream up to here, FIN not counted
    std::uint64_t highest_sent = 0;  ///< sent over any connection
    bool finishing = false, fin_acknowledged = false;
    std::uint64_t received = 0;  ///< of the peer's stream, delivered
    bool peer_finished = false, held_fin = false;

    // Of the connection, where there is one.
    bool attached = false;
    std::uint64_t sent = 0;                  ///< what goes out next
    std::uint64_t acknowledgement_sent = 0;  ///< what the peer was told last
    std::uint64_t skip = 0;                  ///< of what comes next, known already
    std::uint32_t window = 0;
    std::uint32_t payload_out = 0, payload_in = 0;  ///< left of the data frame being written, and of the one being read
    bool pong_due = false;
    std::uint64_t pong = 0;
    Array<std::byte> out;  ///< left of the small frames, or the header, being written
    Array<std::byte> in;   ///< the beginning of a frame that has not come whole

    Array<std::byte> held;    ///< the peer's stream that was not delivered yet, and not acknowledged
    Array<std::byte> replay;  ///< our stream from `acknowledged` on
};

[[gnu::cold]] inline Result<void> Session::save(State& to) const {
    to.identity = identity_;
    to.accepted = accepted_;
    to.epoch = epoch_;
    to.asked_epoch = last_asked_epoch_;
    to.round_trip = round_trip_;
    to.acknowledged = acknowledged_;
    to.highest_sent = highest_sent_;
    to.finishing = finishing_;
    to.fin_acknowledged = fin_acknowledged_;
    to.received = received_;
    to.peer_finished = peer_finished_;
    to.held_fin = held_ != nullptr && held_->fin;
    to.attached = attached_;
    to.sent = sent_;
    to.acknowledgement_sent = acknowledgement_sent_;
    to.skip = skip_;
    to.window = window_;
    to.payload_out = payload_out_;
    to.payload_in = payload_in_;
    to.pong_due = pong_due_;
    to.pong = pong_;
    const std::size_t unwritten = static_cast<std::size_t>(out_size_ - out_written_);
    if (!to.out.append(out_ + out_written_, unwritten) || !to.in.append(header_, header_size_) ||
        (held_ != nullptr && !held_->bytes.copy_to(to.held)) || !replay_.copy_to(to.replay))
        return Errc::out_of_memory;
    return {};
}

[[gnu::cold]] inline Result<void> Session::restore(const State& from, TimePoint now) {
    if (from.replay.size() > options_->replay_limit) return Errc::too_large;
    const std::uint64_t fin = from.finishing ? 1 : 0;
    const std::uint64_t stream_end = from.acknowledged + from.replay.size();
    bool possible = stream_end >= from.acknowledged && from.highest_sent >= from.acknowledged && from.highest_sent <= stream_end + fin &&
                    (!from.fin_acknowledged || (from.finishing && from.replay.empty() && from.highest_sent == stream_end + 1)) &&
                    from.held.size() <= window_max && !(from.peer_finished && (from.held_fin || !from.held.empty())) &&
                    from.round_trip >= Duration();
    if (from.attached)
        possible = possible && from.sent >= from.acknowledged && from.sent <= from.highest_sent && from.skip <= from.received &&
                   from.acknowledgement_sent <= from.received - from.skip && from.window >= window_min && from.window <= window_max &&
                   from.payload_out <= frame_payload_max && from.payload_out <= (from.sent < stream_end ? stream_end - from.sent : 0) &&
                   from.payload_in <= frame_length_max && from.out.size() <= sizeof out_ && from.in.size() < sizeof header_ &&
                   (from.payload_in == 0 || from.in.empty());
    if (!possible) return Errc::malformed;

    if (!from.replay.empty()) {
        const std::size_t growth = replay_.capacity_for(from.replay.size());
        if (budget_ != nullptr && !budget_->charge(growth)) return Errc::would_block;
        if (!replay_.append({from.replay.data(), from.replay.size()})) {
            if (budget_ != nullptr) budget_->credit(growth);
            return Errc::out_of_memory;
        }
    }
    if (!from.held.empty() && !keep({from.held.data(), from.held.size()})) return Errc::out_of_memory;
    if (held_ != nullptr) held_->fin = from.held_fin;
    set_identity(from.identity, from.accepted);
    epoch_ = from.epoch;
    last_asked_epoch_ = from.asked_epoch;
    round_trip_ = from.round_trip;
    acknowledged_ = from.acknowledged;
    highest_sent_ = from.highest_sent;
    finishing_ = from.finishing;
    fin_acknowledged_ = from.fin_acknowledged;
    received_ = from.received;
    peer_finished_ = from.peer_finished;
    if (!from.attached) return {};
    sent_ = from.sent;
    acknowledgement_sent_ = from.acknowledgement_sent;
    skip_ = from.skip;
    set_window(from.window);
    payload_out_ = from.payload_out;
    payload_in_ = from.payload_in;
    pong_due_ = from.pong_due;
    pong_ = from.pong;
    copy(out_, {from.out.data(), from.out.size()});
    out_size_ = static_cast<std::uint8_t>(from.out.size());
    copy(header_, {from.in.data(), from.in.size()});
    header_size_ = static_cast<std::uint8_t>(from.in.size());
    attached_ = heard_ = true;
    ++attachment_;
    acknowledged_before_ = static_cast<std::uint32_t>(acknowledged_);
    heard_at_ = pinged_at_ = now;
    return {};
}

}  // namespace rejoin::inline v0_1::session

namespace rejoin::inline v0_1::handoff {

/// What moves beside the descriptor.
struct Luggage {
    /// Of a received one: as the sender calls it. Of one that is offered: where it is `none`, the system is asked.
    SocketKind kind = SocketKind::none;
    /// Anything that the two programs want to tell each other of it, as UTF-8. Of an offer that is not rejoin's: its `msg`, as JSON.
    Array<char> note;
    /// Bytes that the sender's program has read from the socket and not used: they come before all that is still to be read.
    Array<std::byte> unread;
    /// Bytes that the sender's program has queued: they come before all that is still to be written.
    Array<std::byte> unsent;
    /// Where the system passes no descriptors: what brings the socket. The channel's own.
    Array<std::byte> ticket;
    /// What a side that connects was asked to connect to; not `valid` on the side that accepts.
    Endpoint peer;
    /// The session, where there is one.
    bool resumable = false;
    session::State session;
};

}  // namespace rejoin::inline v0_1::handoff

// What is said on a channel, one JSON object a line; README.md of this folder specifies it. Pure.
namespace rejoin::inline v0_1::handoff {

/// One line, read.
struct Message {
    enum class Type : std::uint8_t {
        offer,     ///< sender: this is yours, once it is committed
        accept,    ///< receiver: the oldest offer not answered yet is taken
        decline,   ///< receiver: it is not
        commit,    ///< sender: it is yours
        withdraw,  ///< sender: it is not
        other,     ///< somebody else's
    };
    Type type = Type::other;
    std::uint64_t id = 0;  ///< of offer, commit, withdraw
    SocketKind kind = SocketKind::none;
    /// An offer in rejoin's own form. Any other, such as Node makes, is the receiver's as soon as it is accepted.
    bool ours = false;
};

namespace detail {

// Writes one line; once memory is out, nothing more, and `ok` is false.
class LineWriter {
public:
    explicit LineWriter(Array<char>& to) : to_(to) {}
    bool ok() const { return ok_; }

    LineWriter& raw(TextView text) {
        ok_ = ok_ && to_.append(text.data(), text.size());
        return *this;
    }
    LineWriter& number(TextView name, std::uint64_t n) {
        char digits[20];
        std::size_t at = sizeof digits;
        do digits[--at] = static_cast<char>('0' + n % 10);
        while ((n /= 10) != 0);
        return key(name).raw({digits + at, sizeof digits - at});
    }
    // What is zero, false or empty is left out.
    LineWriter& number_if(TextView name, std::uint64_t n) { return n == 0 ? *this : number(name, n); }
    LineWriter& flag(TextView name, bool set) { return set ? key(name).raw("true") : *this; }
    LineWriter& text(TextView name, TextView text) {
        if (text.size() == 0) return *this;
        key(name);
        ok_ = ok_ && append_json_string(to_, text);
        return *this;
    }
    LineWriter& bytes(TextView name, Bytes bytes) {
        if (bytes.empty()) return *this;
        key(name).raw("\"");
        ok_ = ok_ && append_base64(to_, bytes);
        return raw("\"");
    }
    LineWriter& bytes(TextView name, const Array<std::byte>& array) { return bytes(name, Bytes(array.data(), array.size())); }
    LineWriter& open(TextView name) {
        key(name).raw("{");
        first_ = true;
        return *this;
    }
    LineWriter& close() {
        first_ = false;
        return raw("}");
    }

private:
    LineWriter& key(TextView name) { return raw(std::exchange(first_, false) ? "\"" : ",\"").raw(name).raw("\":"); }

    Array<char>& to_;
    bool ok_ = true;
    bool first_ = false;
};

inline void write_session(LineWriter& line, const session::State& s) {
    line.open("session");
    line.bytes("id", s.identity.id.bytes).bytes("key", s.identity.key.bytes).flag("accepted", s.accepted);
    line.number("epoch", s.epoch).number_if("askedEpoch", s.asked_epoch);
    line.number_if("roundTrip", static_cast<std::uint64_t>(s.round_trip.nanoseconds()));
    line.number("acknowledged", s.acknowledged).number("highestSent", s.highest_sent).number("received", s.received);
    line.flag("finishing", s.finishing).flag("finAcknowledged", s.fin_acknowledged);
    line.flag("peerFinished", s.peer_finished).flag("heldFin", s.held_fin);
    if (s.attached) {
        line.open("connection").number("sent", s.sent).number("acknowledgementSent", s.acknowledgement_sent);
        line.number_if("skip", s.skip).number("window", s.window);
        line.number_if("payloadOut", s.payload_out).number_if("payloadIn", s.payload_in);
        if (s.pong_due) line.number("pong", s.pong);
        line.bytes("out", s.out).bytes("in", s.in).close();
    }
    line.bytes("held", s.held).bytes("replay", s.replay).close();
}

// Reads values; once one is not what it has to be, `error` says so. One that is absent leaves things as they are.
struct Reader {
    Error error;

    template <class T>
    void number(Json from, T& to) {
        if (!from) return;
        const auto n = from.number();
        if (!n || static_cast<T>(*n) != *n)
            error = Errc::malformed;
        else
            to = static_cast<T>(*n);
    }
    void bytes(Json from, Array<std::byte>& to) {
        if (!from) return;
        const auto read = from.text()[0] == '"' ? append_from_base64(to, from.raw_string()) : Errc::malformed;
        if (!read) error = read.error();
    }
    template <std::size_t N>
    void exactly(Json from, std::byte (&to)[N]) {
        Array<std::byte> read;
        bytes(from, read);
        if (read.size() == N)
            copy(to, {read.data(), N});
        else if (!error)
            error = Errc::malformed;
    }
};

inline void read_connection(Json object, Reader& read, session::State& s) {
    static constexpr TextView names[] = {"sent", "acknowledgementSent", "skip", "window", "payloadOut", "payloadIn", "pong", "out", "in"};
    Json found[std::size(names)];
    object.members(names, found);
    const auto& [sent, acknowledgement_sent, skip, window, payload_out, payload_in, pong, out, in] = found;
    s.attached = object.is_object();
    read.number(sent, s.sent);
    read.number(acknowledgement_sent, s.acknowledgement_sent);
    read.number(skip, s.skip);
    read.number(window, s.window);
    read.number(payload_out, s.payload_out);
    read.number(payload_in, s.payload_in);
    s.pong_due = static_cast<bool>(pong);
    read.number(pong, s.pong);
    read.bytes(out, s.out);
    read.bytes(in, s.in);
}
inline void read_session(Json object, Reader& read, session::State& s) {
    static constexpr TextView names[] = {"id",           "key",         "accepted",  "epoch",           "askedEpoch", "roundTrip",
                                         "acknowledged", "highestSent", "finishing", "finAcknowledged", "received",   "peerFinished",
                                         "heldFin",      "connection",  "held",      "replay"};
    Json found[std::size(names)];
    object.members(names, found);
    const auto& [id, key, accepted, epoch, asked_epoch, round_trip, acknowledged, highest_sent, finishing, fin_acknowledged, received,
                 peer_finished, held_fin, connection, held, replay] = found;
    read.exactly(id, s.identity.id.bytes);
    read.exactly(key, s.identity.key.bytes);
    s.accepted = accepted.is_true();
    read.number(epoch, s.epoch);
    read.number(asked_epoch, s.asked_epoch);
    std::uint64_t nanoseconds = 0;
    read.number(round_trip, nanoseconds);
    s.round_trip = Duration::nanoseconds(static_cast<std::int64_t>(nanoseconds));
    read.number(acknowledged, s.acknowledged);
    read.number(highest_sent, s.highest_sent);
    s.finishing = finishing.is_true();
    s.fin_acknowledged = fin_acknowledged.is_true();
    read.number(received, s.received);
    s.peer_finished = peer_finished.is_true();
    s.held_fin = held_fin.is_true();
    read_connection(connection, read, s);
    read.bytes(held, s.held);
    read.bytes(replay, s.replay);
}

}  // namespace detail

/// Appends an offer, as one line; false when memory is out. `datagram_v6`: of a datagram socket, that its family is IPv6.
[[gnu::cold]] inline bool write_offer(Array<char>& to, std::uint64_t id, SocketKind kind, bool datagram_v6, const Luggage& luggage) {
    // Most of what there is to say beyond the bytes; base64 makes four of three.
    static constexpr std::size_t words = 900;
    const auto& s = luggage.session;
    const std::size_t bytes = luggage.ticket.size() + luggage.unread.size() + luggage.unsent.size() + s.out.size() + s.in.size() +
                              s.held.size() + s.replay.size();
    if (!to.reserve(to.size() + luggage.note.size() + bytes / 3 * 4 + (luggage.resumable ? words : 160))) return false;
    detail::LineWriter line(to);
    switch (kind) {
        case SocketKind::none:
            line.raw("{");
            break;
        case SocketKind::stream:
            line.raw(R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":{)");
            break;
        case SocketKind::listener:
            line.raw(R"({"cmd":"NODE_HANDLE","type":"net.Server","msg":{)");
            break;
        case SocketKind::datagram:
            line.raw(R"({"cmd":"NODE_HANDLE","type":"dgram.Socket","dgramType":")").raw(datagram_v6 ? "udp6" : "udp4");
            line.raw(R"(","msg":{)");
            break;
    }
    line.raw(R"("rejoin":"offer")").number("id", id);
    line.text("note", {luggage.note.data(), luggage.note.size()});
    if (luggage.peer.valid()) {
        line.text("host", luggage.peer.name() != nullptr ? TextView(luggage.peer.name()) : TextView(to_text(luggage.peer.ip())));
        line.number("port", luggage.peer.port());
    }
    line.bytes("ticket", luggage.ticket).bytes("unread", luggage.unread).bytes("unsent", luggage.unsent);
    if (luggage.resumable) detail::write_session(line, luggage.session);
    return line.raw(kind == SocketKind::none ? "}\n" : "}}\n").ok();
}

/// Appends a line that is no offer; false when memory is out.
inline bool write_message(Array<char>& to, Message::Type type, std::uint64_t id) {
    detail::LineWriter line(to);
    switch (type) {
        case Message::Type::accept:
            return line.raw("{\"cmd\":\"NODE_HANDLE_ACK\"}\n").ok();
        case Message::Type::decline:
            return line.raw("{\"cmd\":\"NODE_HANDLE_NACK\"}\n").ok();
        case Message::Type::commit:
            return line.raw(R"({"rejoin":"commit")").number("id", id).raw("}\n").ok();
        default:
            return line.raw(R"({"rejoin":"withdraw")").number("id", id).raw("}\n").ok();
    }
}

/// Reads one line, without its end; what an offer brings goes into `luggage`. `malformed`, `out_of_memory`.
[[gnu::cold]] inline Result<Message> read_message(TextView text, Luggage& luggage) {
    const auto line = Json::parse(text);
    if (!line) return line.error();
    static constexpr TextView outer_names[] = {"cmd", "type", "msg"};
    Json outer[std::size(outer_names)];
    line->members(outer_names, outer);
    const auto& [command, type, msg] = outer;

    Message message;
    if (command.is("NODE_HANDLE_ACK") || command.is("NODE_HANDLE_NACK")) {
        message.type = command.is("NODE_HANDLE_ACK") ? Message::Type::accept : Message::Type::decline;
        return message;
    }
    const bool handle = command.is("NODE_HANDLE");
    if (command && !handle) return message;
    static constexpr TextView names[] = {"rejoin", "id", "note", "host", "port", "ticket", "unread", "unsent", "session"};
    Json found[std::size(names)];
    (handle ? msg : *line).members(names, found);
    const auto& [word, id, note, host, port, ticket, unread, unsent, session] = found;
    if (handle) {
        message.type = Message::Type::offer;
        message.kind = type.is("net.Server") ? SocketKind::listener : type.is("dgram.Socket") ? SocketKind::datagram : SocketKind::stream;
        if (!word) {
            if (!luggage.note.append(msg.text().data(), msg.text().size())) return Errc::out_of_memory;
            return message;
        }
    }
    if (!word) return message;
    detail::Reader read;
    read.number(id, message.id);
    message.ours = true;
    if (!handle && !word.is("offer")) {
        if (!word.is("commit") && !word.is("withdraw")) return Errc::malformed;
        message.type = word.is("commit") ? Message::Type::commit : Message::Type::withdraw;
        if (read.error) return read.error;
        return message;
    }
    if (!word.is("offer")) return Errc::malformed;
    message.type = Message::Type::offer;
    if (note)
        if (auto copied = note.append_to(luggage.note); !copied) return copied.error();
    if (host) {
        std::uint16_t number = 0;
        read.number(port, number);
        Array<char> name;
        if (auto copied = host.append_to(name); !copied) return copied.error();
        luggage.peer = Endpoint(TextView(name.data(), name.size()), number);
        if (!luggage.peer.valid()) return Errc::malformed;
    }
    read.bytes(ticket, luggage.ticket);
    read.bytes(unread, luggage.unread);
    read.bytes(unsent, luggage.unsent);
    luggage.resumable = session.is_object();
    if (luggage.resumable) detail::read_session(session, read, luggage.session);
    if (read.error) return read.error;
    if (!handle && !luggage.resumable) return Errc::malformed;  // nothing moves
    return message;
}

}  // namespace rejoin::inline v0_1::handoff

namespace rejoin::inline v0_1::handoff {

/// What moves as one thing: a live socket and what belongs to it. Move-only.
struct Parcel : Luggage {
    /// None where a session without a connection moves.
    Socket socket;
};

}  // namespace rejoin::inline v0_1::handoff

// `monotonic_now()`, `boottime_now()` and `realtime_now()`: the only place where the library reads a clock. Everything below the loop takes
// time as an argument.

#if !defined(_WIN32) && !defined(__linux__)
#include <time.h>

namespace rejoin::inline v0_1 {

namespace detail {
#if defined(__APPLE__)
inline constexpr clockid_t awake_clock = CLOCK_UPTIME_RAW, boottime_clock = CLOCK_MONOTONIC_RAW;
#elif defined(CLOCK_UPTIME)
inline constexpr clockid_t awake_clock = CLOCK_UPTIME, boottime_clock = CLOCK_BOOTTIME;
#else
inline constexpr clockid_t awake_clock = CLOCK_MONOTONIC, boottime_clock = CLOCK_MONOTONIC;
#endif
inline TimePoint read_clock(clockid_t clock) {
    timespec ts{};
    ::clock_gettime(clock, &ts);
    return TimePoint::from_nanoseconds(std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec);
}
}  // namespace detail

/// Now, on a clock that stands still while the host is suspended, where the system has one: CLOCK_UPTIME_RAW on macOS, CLOCK_UPTIME on
/// FreeBSD and OpenBSD (clock_gettime(2)), and CLOCK_MONOTONIC on NetBSD. Any thread.
inline TimePoint monotonic_now() { return detail::read_clock(detail::awake_clock); }

/// Now, on a clock that goes on while the host is suspended: to be compared with itself only. How much it runs ahead of `monotonic_now()`
/// is how long the host has slept. CLOCK_MONOTONIC_RAW on macOS, CLOCK_BOOTTIME on FreeBSD and OpenBSD. NetBSD has one clock for both, so
/// that a sleep is not seen there. Any thread.
inline TimePoint boottime_now() { return detail::read_clock(detail::boottime_clock); }

/// What the time is, in milliseconds since the beginning of 1970 (UTC): it may be set, and may jump. Any thread.
inline std::int64_t realtime_now() { return detail::read_clock(CLOCK_REALTIME).nanoseconds() / 1'000'000; }

}  // namespace rejoin::inline v0_1
#endif

#if defined(__linux__)
#include <time.h>

namespace rejoin::inline v0_1 {

namespace detail {
inline TimePoint read_clock(clockid_t clock) {
    timespec ts{};
    ::clock_gettime(clock, &ts);
    return TimePoint::from_nanoseconds(std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec);
}
}  // namespace detail

/// Now, on a clock that stands still while the host is suspended: CLOCK_MONOTONIC (clock_gettime(2)). Any thread.
inline TimePoint monotonic_now() { return detail::read_clock(CLOCK_MONOTONIC); }

/// Now, on a clock that goes on while the host is suspended (CLOCK_BOOTTIME, clock_gettime(2)): to be compared with itself only. How much
/// it runs ahead of `monotonic_now()` is how long the host has slept since it was booted. Any thread.
inline TimePoint boottime_now() { return detail::read_clock(CLOCK_BOOTTIME); }

/// What the time is, in milliseconds since the beginning of 1970 (UTC): it may be set, and may jump. Any thread.
inline std::int64_t realtime_now() { return detail::read_clock(CLOCK_REALTIME).nanoseconds() / 1'000'000; }

}  // namespace rejoin::inline v0_1
#endif

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

namespace detail {

using InterruptTime = void(WINAPI*)(ULONGLONG*);

// The clocks that are read to 100 ns came with Windows 10, and are in no library that is linked by itself. The others move on with the
// timer interrupt, every 0.5 to 15.6 ms.
inline InterruptTime interrupt_time(const char* precise, InterruptTime coarse) {
    const HMODULE library = ::GetModuleHandleW(L"kernelbase.dll");
    const FARPROC found = library == nullptr ? nullptr : ::GetProcAddress(library, precise);
    return found == nullptr ? coarse : reinterpret_cast<InterruptTime>(reinterpret_cast<void*>(found));
}
inline TimePoint read_clock(InterruptTime clock) {
    ULONGLONG units = 0;  // of 100 ns
    clock(&units);
    return TimePoint::from_nanoseconds(static_cast<std::int64_t>(units) * 100);
}

}  // namespace detail

/// Now, on a clock that stands still while the host is suspended: QueryUnbiasedInterruptTime, to 100 ns where the system can. Any thread.
inline TimePoint monotonic_now() {
    static const detail::InterruptTime clock =
        detail::interrupt_time("QueryUnbiasedInterruptTimePrecise", [](ULONGLONG* to) WINAPI { ::QueryUnbiasedInterruptTime(to); });
    return detail::read_clock(clock);
}

/// Now, on a clock that goes on while the host is suspended: to be compared with itself only. How much it runs ahead of `monotonic_now()`
/// is how long the host has slept. Any thread.
inline TimePoint boottime_now() {
    static const detail::InterruptTime clock =
        detail::interrupt_time("QueryInterruptTimePrecise", [](ULONGLONG* to) WINAPI { *to = ::GetTickCount64() * 10'000; });
    return detail::read_clock(clock);
}

/// What the time is, in milliseconds since the beginning of 1970 (UTC): it may be set, and may jump. Any thread.
inline std::int64_t realtime_now() {
    FILETIME time{};  // in 100 ns since 1601
    ::GetSystemTimeAsFileTime(&time);
    const auto units = static_cast<std::int64_t>(std::uint64_t{time.dwHighDateTime} << 32 | time.dwLowDateTime);
    return (units - 116'444'736'000'000'000) / 10'000;
}

}  // namespace rejoin::inline v0_1
#endif

// `Poller`: what a `Loop` asks of the system. Each system's file defines it whole, or is empty. Where REJOIN_POLL is defined, in every
// unit of the program alike, it is poll(2) on any system.

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace rejoin::inline v0_1::detail {

using PollHandle = int;
using PollEntry = pollfd;
inline constexpr short poll_in = POLLIN, poll_out = POLLOUT;

inline int poll_wait(PollEntry* entries, std::size_t count, int timeout) { return ::poll(entries, static_cast<nfds_t>(count), timeout); }

/// Why an entry cannot be watched, if so.
inline Error poll_refuses(PollEntry entry) {
    if (entry.fd < 0) return Error::system(EBADF);  // poll(2) passes over it
    if (poll_wait(&entry, 1, 0) < 0) return Error::system(errno);
    return (entry.revents & POLLNVAL) != 0 ? Error::system(EBADF) : Error();
}

/// What any thread may ring to end a wait: a pipe, readable until `clear`.
class Bell {
public:
    Bell() = default;
    Bell(const Bell&) = delete;
    ~Bell() {
        for (int fd : ends_)
            if (fd >= 0) ::close(fd);
    }
    Error open() {
        if (::pipe(ends_) != 0) return Error::system(errno);
        for (int fd : ends_) {
            ::fcntl(fd, F_SETFL, O_NONBLOCK);
            ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
        return {};
    }
    int fd() const { return ends_[0]; }
    void ring() {
        const char one = 1;
        [[maybe_unused]] const ssize_t n = ::write(ends_[1], &one, 1);  // fails only when it is full, and rings already
    }
    void clear() {
        char rung[64];
        while (::read(ends_[0], rung, sizeof rung) == sizeof rung) {
        }
    }

private:
    int ends_[2] = {-1, -1};
};

}  // namespace rejoin::inline v0_1::detail
#endif

#if !defined(_WIN32) && !defined(__linux__) && !defined(REJOIN_POLL)
#include <sys/event.h>
#include <sys/types.h>

namespace rejoin::inline v0_1 {

/// The system under a `Loop` on macOS and the BSDs: readiness and one alarm (kqueue(2)), and one bell that any thread may ring: a pipe,
/// since OpenBSD's kqueue has no events of the user's. One descriptor stands for all three.
class Poller {
public:
    using Handle = int;
    static constexpr Handle no_handle = -1;
    static constexpr bool has_fd = true;
    static constexpr int batch = 64;

    Poller() : queue_(::kqueue()) {
        if (queue_ < 0) {
            error_ = Error::system(errno);
            return;
        }
        ::fcntl(queue_, F_SETFD, FD_CLOEXEC);
        error_ = bell_.open();
        if (!error_) error_ = add(bell_.fd(), Ready::readable, &bell_).error();
    }
    Poller(const Poller&) = delete;
    ~Poller() {
        if (queue_ >= 0) ::close(queue_);
    }

    /// Why it could not be made, if so: out of descriptors or memory.
    Error error() const { return error_; }
    Handle fd() const { return queue_; }

    /// Watches `fd`; `key`, not null, comes back from `wait`, for each direction by itself. While it is watched for nothing, errors and
    /// hang-ups are not told either.
    Result<void> add(Handle fd, Ready ready, void* key) { return modify(fd, ready, key); }
    Result<void> modify(Handle fd, Ready ready, void* key) {
        struct kevent changes[] = {event(fd, EVFILT_READ, flags(has(ready, Ready::readable)), key),
                                   event(fd, EVFILT_WRITE, flags(has(ready, Ready::writable)), key)};
        // Each of the two comes back at once with its own error (EV_RECEIPT), and what was ready stays where it is.
        if (::kevent(queue_, changes, 2, changes, 2, nullptr) < 0) return Error::system(errno);
        for (const auto& done : changes)
            if (done.data != 0 && done.data != ENOENT) return Error::system(static_cast<int>(done.data));  // ENOENT: it was not watched
        return {};
    }
    void remove(Handle fd) { static_cast<void>(modify(fd, Ready::none, nullptr)); }

    /// Waits up to `timeout` milliseconds (-1: for ever). What is ready then is taken one by one: `take(i)` and `ready(i)` for `i` below
    /// `ready_count()`; after the last, `alarmed` and `rung` are known.
    void wait(int timeout) {
        alarmed_ = rung_ = false;
        timespec t{};
        t.tv_sec = timeout / 1000;
        t.tv_nsec = timeout % 1000 * 1'000'000L;
        count_ = ::kevent(queue_, nullptr, 0, ready_, batch, timeout < 0 ? nullptr : &t);  // -1 when interrupted: nothing is ready
    }
    int ready_count() const { return count_; }
    /// The key of what is ready, or null: the alarm, the bell, or something forgotten meanwhile.
    void* take(int i) {
        void* const key = key_of(ready_[i]);
        if (ready_[i].filter == EVFILT_TIMER) {
            alarmed_ = true;
        } else if (key == &bell_) {
            rung_ = true;
            bell_.clear();
        } else {
            return key;
        }
        return nullptr;
    }
    Ready ready(int i) const { return ready_[i].filter == EVFILT_WRITE ? Ready::writable : Ready::readable; }
    /// Forgets what was ready for `key` and has not been handled yet.
    void forget(void* key) {
        for (int i = 0; i < count_; ++i)
            if (key_of(ready_[i]) == key) ready_[i].udata = {};
    }

    /// Whether the alarm went off.
    bool alarmed() const { return alarmed_; }
    /// Whether the bell was rung.
    bool rung() const { return rung_; }
    /// Sets the one alarm, in place of the one set before.
    void set_alarm(TimePoint when) {
        const Duration left = when - monotonic_now();
        struct kevent alarm = event(0, EVFILT_TIMER, EV_ADD | EV_ONESHOT, nullptr);
        alarm.fflags = NOTE_NSECONDS;
        alarm.data = left.nanoseconds() > 0 ? left.nanoseconds() : 1;
        ::kevent(queue_, &alarm, 1, nullptr, 0, nullptr);
    }
    /// Ends the wait under way, or the next one. From any thread.
    void ring() { bell_.ring(); }

private:
    using Key = decltype(kevent::udata);  // a pointer, or on older NetBSD an integer
    static void* key_of(const struct kevent& event) { return reinterpret_cast<void*>(event.udata); }
    static constexpr int flags(bool on) { return (on ? EV_ADD : EV_DELETE) | EV_RECEIPT; }
    static struct kevent event(int ident, decltype(kevent::filter) filter, int flags, void* key) {
        struct kevent e {};
        e.ident = static_cast<decltype(e.ident)>(ident);
        e.filter = filter;
        e.flags = static_cast<decltype(e.flags)>(flags);
        e.udata = reinterpret_cast<Key>(key);
        return e;
    }

    int queue_;
    detail::Bell bell_;
    int count_ = 0;
    bool alarmed_ = false;
    bool rung_ = false;
    Error error_;
    struct kevent ready_[batch];
};

}  // namespace rejoin::inline v0_1
#endif

#if defined(__linux__) && !defined(REJOIN_POLL)
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// The system under a `Loop`: readiness (epoll), one alarm (timerfd), one bell that any thread may ring (eventfd), and one
/// descriptor that stands for all three. The alarm and the bell are edge-triggered, so that neither needs to be read.
class Poller {
public:
    using Handle = int;
    static constexpr Handle no_handle = -1;
    static constexpr bool has_fd = true;
    static constexpr int batch = 64;

    Poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (epoll_ < 0) {
            error_ = Error::system(errno);
            return;
        }
        alarm_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        bell_ = alarm_ < 0 ? -1 : ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (bell_ < 0 || control(EPOLL_CTL_ADD, alarm_, EPOLLIN | EPOLLET, &alarm_) != 0 ||
            control(EPOLL_CTL_ADD, bell_, EPOLLIN | EPOLLET, &bell_) != 0)
            error_ = Error::system(errno);
    }
    Poller(const Poller&) = delete;
    ~Poller() {
        for (int fd : {bell_, alarm_, epoll_})
            if (fd >= 0) ::close(fd);
    }

    /// Why it could not be made, if so: out of descriptors or memory.
    Error error() const { return error_; }
    Handle fd() const { return epoll_; }

    /// Watches `fd`; `key`, not null, comes back from `wait`.
    Result<void> add(Handle fd, Ready ready, void* key) { return result(control(EPOLL_CTL_ADD, fd, events(ready), key)); }
    Result<void> modify(Handle fd, Ready ready, void* key) { return result(control(EPOLL_CTL_MOD, fd, events(ready), key)); }
    void remove(Handle fd) { control(EPOLL_CTL_DEL, fd, 0, nullptr); }

    /// Waits up to `timeout` milliseconds (-1: for ever). What is ready then is taken one by one: `take(i)` and `ready(i)` for `i` below
    /// `ready_count()`; after the last, `alarmed` and `rung` are known.
    void wait(int timeout) {
        alarmed_ = rung_ = false;
        count_ = ::epoll_wait(epoll_, ready_, batch, timeout);  // -1 when interrupted: nothing is ready
    }
    int ready_count() const { return count_; }
    /// The key of what is ready, or null: the alarm, the bell, or something forgotten meanwhile.
    void* take(int i) {
        void* const key = ready_[i].data.ptr;
        if (key == &alarm_)
            alarmed_ = true;
        else if (key == &bell_)
            rung_ = true;
        else
            return key;
        return nullptr;
    }
    Ready ready(int i) const {
        const auto e = ready_[i].events;
        if (e == EPOLLIN) return Ready::readable;  // nearly always
        return (e & (EPOLLERR | EPOLLHUP)) != 0
                   ? Ready::both
                   : ((e & EPOLLIN) != 0 ? Ready::readable : Ready::none) | ((e & EPOLLOUT) != 0 ? Ready::writable : Ready::none);
    }
    /// Forgets what was ready for `key` and has not been handled yet.
    void forget(void* key) {
        for (int i = 0; i < count_; ++i)
            if (ready_[i].data.ptr == key) ready_[i].data.ptr = nullptr;
    }

    /// Whether the alarm went off.
    bool alarmed() const { return alarmed_; }
    /// Whether the bell was rung.
    bool rung() const { return rung_; }
    /// Sets the one alarm, in place of the one set before.
    void set_alarm(TimePoint when) {
        itimerspec at{};
        const std::int64_t ns = when.nanoseconds() > 0 ? when.nanoseconds() : 1;  // zero would disarm it
        at.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
        at.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
        ::timerfd_settime(alarm_, TFD_TIMER_ABSTIME, &at, nullptr);
    }
    /// Ends the wait under way, or the next one. From any thread.
    void ring() {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t n = ::write(bell_, &one, sizeof one);  // cannot fail but by overflow, when it rings already
    }

private:
    static std::uint32_t events(Ready ready) {
        return (has(ready, Ready::readable) ? std::uint32_t{EPOLLIN} : 0) | (has(ready, Ready::writable) ? std::uint32_t{EPOLLOUT} : 0);
    }
    int control(int what, int fd, std::uint32_t mask, void* key) {
        epoll_event event{};
        event.events = mask;
        event.data.ptr = key;
        return ::epoll_ctl(epoll_, what, fd, &event);
    }
    static Result<void> result(int returned) {
        if (returned != 0) return Error::system(errno);
        return {};
    }

    int epoll_;
    int alarm_ = -1;
    int bell_ = -1;
    int count_ = 0;
    bool alarmed_ = false;
    bool rung_ = false;
    Error error_;
    epoll_event ready_[batch];
};

}  // namespace rejoin::inline v0_1
#endif

#if defined(REJOIN_POLL) || defined(_WIN32)
namespace rejoin::inline v0_1 {

/// The system under a `Loop` where there is nothing better, and on Windows: poll(2) or WSAPoll, whose cost grows with what is watched: for
/// some hundred descriptors.
/// No one descriptor stands for all, and the alarm is only as exact as a time-out in milliseconds.
class Poller {
public:
    using Handle = detail::PollHandle;
    static constexpr Handle no_handle = static_cast<Handle>(-1);
    static constexpr bool has_fd = false;

    Poller() {
        error_ = bell_.open();
        if (!error_) error_ = add(bell_.fd(), Ready::readable, &bell_).error();
    }
    Poller(const Poller&) = delete;

    /// Why it could not be made, if so: out of descriptors or memory.
    Error error() const { return error_; }

    /// Watches `fd`; `key`, not null, comes back from `wait`.
    Result<void> add(Handle fd, Ready ready, void* key) {
        // Memory for all that can be ready is taken here, so that `wait` needs none.
        const std::size_t n = entries_.size() + 1;
        if (n > keys_capacity_) {
            const std::size_t room = n < 8 ? 8 : 2 * n;
            if (!keys_.reserve(room) || !ready_.reserve(room) || !entries_.reserve(room)) return Errc::out_of_memory;
            keys_capacity_ = room;
        }
        detail::PollEntry entry{};
        entry.fd = fd;
        entry.events = events(ready);
        if (const Error error = detail::poll_refuses(entry)) return error;
        entries_.push(entry);
        keys_.push(key);
        return {};
    }
    Result<void> modify(Handle fd, Ready ready, void*) {
        entries_[find(fd)].events = events(ready);
        return {};
    }
    void remove(Handle fd) {
        const std::size_t at = find(fd);
        entries_[at] = entries_.back();
        keys_[at] = keys_.back();
        entries_.pop();
        keys_.pop();
    }

    /// Waits up to `timeout` milliseconds (-1: for ever). What is ready then is taken one by one: `take(i)` and `ready(i)` for `i` below
    /// `ready_count()`; after the last, `alarmed` and `rung` are known.
    void wait(int timeout) {
        rung_ = false;
        ready_.clear();
        if (alarm_ != TimePoint::never()) {
            const std::int64_t ms = (alarm_ - monotonic_now() + Duration::nanoseconds(999'999)).milliseconds();
            const int until = ms < 0 ? 0 : ms > INT32_MAX ? INT32_MAX : static_cast<int>(ms);
            if (timeout < 0 || until < timeout) timeout = until;
        }
        int left = detail::poll_wait(entries_.data(), entries_.size(), timeout);
        alarmed_ = alarm_ != TimePoint::never() && monotonic_now() >= alarm_;
        if (alarmed_) alarm_ = TimePoint::never();
        for (std::size_t i = 0; left > 0 && i < entries_.size(); ++i) {
            const auto e = entries_[i].revents;
            if (e == 0) continue;
            --left;
            const bool failed = (e & ~(detail::poll_in | detail::poll_out)) != 0;
            ready_.push({keys_[i], failed ? Ready::both
                                          : ((e & detail::poll_in) != 0 ? Ready::readable : Ready::none) |
                                                ((e & detail::poll_out) != 0 ? Ready::writable : Ready::none)});
        }
    }
    int ready_count() const { return static_cast<int>(ready_.size()); }
    /// The key of what is ready, or null: the bell, or something forgotten meanwhile.
    void* take(int i) {
        void* const key = ready_[static_cast<std::size_t>(i)].key;
        if (key != &bell_) return key;
        rung_ = true;
        bell_.clear();
        return nullptr;
    }
    Ready ready(int i) const { return ready_[static_cast<std::size_t>(i)].ready; }
    /// Forgets what was ready for `key` and has not been handled yet.
    void forget(void* key) {
        for (auto& one : ready_)
            if (one.key == key) one.key = nullptr;
    }

    /// Whether the alarm went off.
    bool alarmed() const { return alarmed_; }
    /// Whether the bell was rung.
    bool rung() const { return rung_; }
    /// Sets the one alarm, in place of the one set before.
    void set_alarm(TimePoint when) { alarm_ = when; }
    /// Ends the wait under way, or the next one. From any thread.
    void ring() { bell_.ring(); }

private:
    struct Event {
        void* key;
        Ready ready;
    };
    static short events(Ready ready) {
        return static_cast<short>((has(ready, Ready::readable) ? detail::poll_in : 0) |
                                  (has(ready, Ready::writable) ? detail::poll_out : 0));
    }
    std::size_t find(Handle fd) const {
        std::size_t i = 0;
        while (entries_[i].fd != fd) ++i;
        return i;
    }

    detail::Bell bell_;
    Array<detail::PollEntry> entries_;
    Array<void*> keys_;  // of the entries
    Array<Event> ready_;
    std::size_t keys_capacity_ = 0;
    TimePoint alarm_ = TimePoint::never();
    bool alarmed_ = false;
    bool rung_ = false;
    Error error_;
};

}  // namespace rejoin::inline v0_1
#endif

// `Mutex`, `Lock`, `start_thread`: all that the library knows of threads. Name resolution and `Loop::post` are their users.

#if !defined(_WIN32)
#include <errno.h>
#include <pthread.h>
#include <signal.h>

namespace rejoin::inline v0_1 {

/// A mutual exclusion lock (pthread_mutex_t).
class Mutex {
public:
    Mutex() = default;
    Mutex(const Mutex&) = delete;
    ~Mutex() { ::pthread_mutex_destroy(&mutex_); }
    void lock() { ::pthread_mutex_lock(&mutex_); }
    void unlock() { ::pthread_mutex_unlock(&mutex_); }

private:
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

/// Runs `body(argument)` on a new thread that nobody joins. The thread takes no signals: they belong to the program's own threads.
inline Result<void> start_thread(void* (*body)(void*), void* argument) {
    pthread_attr_t attributes;
    if (const int error = ::pthread_attr_init(&attributes); error != 0) return Error::system(error);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);  // a macro, on macOS
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int error = ::pthread_create(&thread, &attributes, body, argument);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_attr_destroy(&attributes);
    if (error != 0) return Error::system(error);
    return {};
}

}  // namespace rejoin::inline v0_1
#endif

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// A mutual exclusion lock (SRWLOCK).
class Mutex {
public:
    Mutex() = default;
    Mutex(const Mutex&) = delete;
    void lock() { ::AcquireSRWLockExclusive(&mutex_); }
    void unlock() { ::ReleaseSRWLockExclusive(&mutex_); }

private:
    SRWLOCK mutex_ = SRWLOCK_INIT;
};

/// Runs `body(argument)` on a new thread that nobody joins.
inline Result<void> start_thread(void* (*body)(void*), void* argument) {
    struct Start {
        void* (*body)(void*);
        void* argument;
        static DWORD WINAPI run(void* start) {
            const Start copy = *static_cast<Start*>(start);
            delete static_cast<Start*>(start);
            copy.body(copy.argument);
            return 0;
        }
    };
    auto* start = new (std::nothrow) Start{body, argument};
    if (start == nullptr) return Errc::out_of_memory;
    const HANDLE thread = ::CreateThread(nullptr, 0, &Start::run, start, 0, nullptr);
    if (thread == nullptr) {
        delete start;
        return Error::system(static_cast<int>(::GetLastError()));
    }
    ::CloseHandle(thread);
    return {};
}

}  // namespace rejoin::inline v0_1
#endif

namespace rejoin::inline v0_1 {

/// Holds a `Mutex` for the length of a scope.
class Lock {
public:
    explicit Lock(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
    Lock(const Lock&) = delete;
    ~Lock() { mutex_.unlock(); }

private:
    Mutex& mutex_;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// The armed timers of a loop: a binary heap whose entries know their places, so that arming, moving and cancelling one of `n` costs log n.
class TimerHeap {
public:
    /// One timer's place in the heap. Neither copied nor moved while armed.
    class Entry {
    public:
        explicit Entry(Delegate<void()> when_due) : due(when_due) {}
        Entry(const Entry&) = delete;
        bool armed() const { return index_ != none; }
        const Delegate<void()> due;

    private:
        friend class TimerHeap;
        static constexpr std::uint32_t none = UINT32_MAX;
        std::uint32_t index_ = none;
    };

    std::size_t size() const { return heap_.size(); }
    /// When the first one is due, or never.
    TimePoint first() const { return heap_.empty() ? TimePoint::never() : heap_[0].when; }
    TimePoint when(const Entry& entry) const { return entry.armed() ? heap_[entry.index_].when : TimePoint::never(); }

    /// Arms `entry` for `when`, or moves it there. False when memory is out; it is then not armed.
    bool set(Entry& entry, TimePoint when) {
        if (!entry.armed()) {
            if (!heap_.push({when, &entry})) return false;
            entry.index_ = static_cast<std::uint32_t>(heap_.size() - 1);
        } else {
            heap_[entry.index_].when = when;
        }
        sift_down(sift_up(entry.index_));
        return true;
    }

    void cancel(Entry& entry) {
        if (!entry.armed()) return;
        const std::uint32_t at = entry.index_;
        entry.index_ = Entry::none;
        const Slot last = heap_.back();
        heap_.pop();
        if (at == heap_.size()) return;
        place(at, last);
        sift_down(sift_up(at));
    }

    /// Takes out the first entry that is due by `now`, or returns null.
    Entry* take_due(TimePoint now) {
        if (heap_.empty() || heap_[0].when > now) return nullptr;
        Entry* entry = heap_[0].entry;
        cancel(*entry);
        return entry;
    }

private:
    struct Slot {
        TimePoint when;
        Entry* entry;
    };

    void place(std::uint32_t at, Slot slot) {
        heap_[at] = slot;
        slot.entry->index_ = at;
    }
    std::uint32_t sift_up(std::uint32_t at) {
        const Slot slot = heap_[at];
        for (; at > 0 && slot.when < heap_[(at - 1) / 2].when; at = (at - 1) / 2) place(at, heap_[(at - 1) / 2]);
        place(at, slot);
        return at;
    }
    void sift_down(std::uint32_t at) {
        const Slot slot = heap_[at];
        const auto size = static_cast<std::uint32_t>(heap_.size());
        for (std::uint32_t child; (child = 2 * at + 1) < size; at = child) {
            if (child + 1 < size && heap_[child + 1].when < heap_[child].when) ++child;
            if (slot.when <= heap_[child].when) break;
            place(at, heap_[child]);
        }
        place(at, slot);
    }

    Array<Slot> heap_;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// Names a call set with `Loop::after`; 0 is never given out.
using TimerId = std::uint64_t;

/// One thread's event loop: readiness, timers, posted calls. It has one descriptor, so that another loop can drive it. Every call but
/// `post` belongs to the thread that runs it. It outlives everything made with it. Handlers do not throw.
class Loop {
public:
    Loop() = default;
    Loop(const Loop&) = delete;
    [[gnu::cold]] ~Loop() {
        while (services_ != nullptr) {
            Service* last = services_;
            last->destroy(last->object);
            services_ = last->next;
            delete last;
        }
        for (OneShot* shot : shots_) delete shot;
        ::operator delete(scratch_);
    }

    /// Why the loop could not be made (out of descriptors), if so; every call that runs it then returns this.
    Error error() const { return poller_.error(); }

    /// Handles events until `stop`. `invalid_state` inside a handler.
    Result<void> run() {
        if (auto begun = begin(); !begun) return begun;
        do turn(-1);
        while (!stopped_);
        end();
        return {};
    }
    /// Handles events until `stop`, or until `d` has passed.
    Result<void> run_for(Duration d) {
        Timer end(*this, Delegate<void()>::to<&Loop::stop>(this));
        end.after(d);
        return run();
    }
    /// Waits up to `d` (rounded up to milliseconds; zero only looks) for something to happen, and handles what did.
    Result<void> run_once(Duration d = Duration::unlimited()) {
        if (auto begun = begin(); !begun) return begun;
        const std::int64_t ms = (d + Duration::nanoseconds(999'999)).milliseconds();
        turn(d == Duration::unlimited() ? -1 : ms < 0 ? 0 : ms > INT32_MAX ? INT32_MAX : static_cast<int>(ms));
        end();
        return {};
    }
    /// Makes the `run` under way return when the present turn is done. From another thread: `post` a call of this.
    void stop() { stopped_ = true; }

    /// Has `f` called on the loop's thread, in the next turn. From any thread. Calls that the loop did not come to are dropped with it.
    [[gnu::cold]] Result<void> post(Function<void()> f) {
        if (!f) return Errc::invalid_argument;
        Lock lock(mutex_);
        const bool first = posted_.empty();
        if (!posted_.push(std::move(f))) return Errc::out_of_memory;
        if (first) poller_.ring();
        return {};
    }

    /// Calls `f` once, `d` from now. 0 when memory is out or `f` is empty.
    [[gnu::cold]] TimerId after(Duration d, Function<void()> f) {
        if (!f) return 0;
        std::uint32_t slot = free_shots_.empty() ? static_cast<std::uint32_t>(shots_.size()) : free_shots_.back();
        auto* shot = new (std::nothrow) OneShot(*this, ++generation_ << 32 | slot, std::move(f));
        // Room for the slot's return is reserved with the slot, so that giving it back cannot fail.
        if (shot == nullptr || (slot == shots_.size() && (!free_shots_.reserve(shots_.size() + 1) || !shots_.push(nullptr))) ||
            !shot->timer.after(d)) {
            delete shot;
            return 0;
        }
        if (!free_shots_.empty() && free_shots_.back() == slot) free_shots_.pop();
        shots_[slot] = shot;
        return shot->id;
    }
    /// Calls off what `after` set; false when it has run already.
    bool cancel(TimerId id) {
        const auto slot = static_cast<std::uint32_t>(id);
        if (slot >= shots_.size() || shots_[slot] == nullptr || shots_[slot]->id != id) return false;
        OneShot* shot = take_shot(slot);
        delete shot;
        return true;
    }

    /// One descriptor that is readable whenever `run_once(Duration())` has something to do, timers and posted calls included: add it to
    /// an epoll, poll, libuv, asio or Qt loop, and call `run_once(Duration())` when it is. Not where poll(2) is all there is: on Windows
    /// and with REJOIN_POLL there is no such descriptor, and the other loop calls `run_once(Duration())` from time to time.
    template <class P = Poller>
    typename P::Handle fd() {
        static_assert(P::has_fd, "here no descriptor stands for the loop: call run_once(Duration()) from time to time");
        embedded_ = true;
        if (!deferred_.empty()) poller_.ring();
        return static_cast<P&>(poller_).fd();
    }

    /// The time of the present turn: read from the clock once, when first asked for.
    TimePoint now() {
        if (!inside_) return monotonic_now();
        if (now_ == TimePoint()) now_ = monotonic_now();
        return now_;
    }

    /// The one `S` of this loop, made as `S(loop)` when first asked for and destroyed with the loop, the last first. What many pipes
    /// share (the event source, the resolver) lives here. Ends the program when memory is out: there is nothing to go on with.
    template <class S>
    [[gnu::cold]] S& service() {
        for (Service* s = services_; s != nullptr; s = s->next)
            if (s->key == &key<S>) return *static_cast<S*>(s->object);
        services_ = new Service{&key<S>, new S(*this), &destroy<S>, services_};
        return *static_cast<S*>(services_->object);
    }

    /// Room for one read, shared by all that read in this loop: valid until the handler returns. Empty when memory is out.
    MutableBytes scratch() {
        if (scratch_ == nullptr) scratch_ = static_cast<std::byte*>(::operator new(scratch_size, std::nothrow));
        return {scratch_, scratch_ == nullptr ? 0 : scratch_size};
    }
    static constexpr std::size_t scratch_size = 256 * 1024;  // larger reads gain nothing: it is half of a core's second-level cache

    /// Watches one descriptor and calls its delegate when it is ready. Stops when destroyed, which must come before the descriptor is
    /// closed.
    class Watch {
    public:
        Watch(Loop& loop, Delegate<void(Ready)> on_ready) : loop_(loop), on_ready_(on_ready) {}
        Watch(const Watch&) = delete;
        ~Watch() { stop(); }

        Result<void> start(Poller::Handle fd, Ready ready) {
            stop();
            auto added = loop_.poller_.add(fd, ready, this);
            if (added) fd_ = fd, ready_ = ready;
            return added;
        }
        /// Watches for something else from now on; no system call when it is the same.
        void change(Ready ready) {
            if (fd_ == Poller::no_handle || ready == ready_) return;
            ready_ = ready;
            loop_.poller_.modify(fd_, ready, this);
        }
        void stop() {
            if (fd_ == Poller::no_handle) return;
            loop_.poller_.remove(fd_);
            loop_.poller_.forget(this);
            fd_ = Poller::no_handle;
        }
        Loop& loop() const { return loop_; }

    private:
        friend class Loop;
        Loop& loop_;
        Delegate<void(Ready)> on_ready_;
        Poller::Handle fd_ = Poller::no_handle;
        Ready ready_ = Ready::none;
    };

    /// Calls its delegate once at a time, if it is not cancelled, moved or destroyed before.
    class Timer {
    public:
        Timer(Loop& loop, Delegate<void()> due) : loop_(loop), entry_(due) {}
        ~Timer() { cancel(); }

        /// Arms it for `when`, or moves it there; false when memory is out.
        bool at(TimePoint when) {
            if (when == TimePoint::never()) {
                cancel();
                return true;
            }
            // What a timer's handler sets for now waits for the next turn.
            if (when <= loop_.timers_due_) when = loop_.timers_due_ + Duration::nanoseconds(1);
            const bool set = loop_.timers_.set(entry_, when);
            if (set && when < loop_.alarm_) loop_.set_alarm(when);
            return set;
        }
        bool after(Duration d) { return at(loop_.now() + d); }
        void cancel() { loop_.timers_.cancel(entry_); }
        bool armed() const { return entry_.armed(); }
        TimePoint when() const { return loop_.timers_.when(entry_); }

    private:
        Loop& loop_;
        TimerHeap::Entry entry_;
    };

    /// Work to be done once, when the handlers of the present turn are through and before the loop waits again: what gathers many small
    /// sends into one system call.
    class Deferred : private ListNode {
    public:
        Deferred(Loop& loop, Delegate<void()> call) : loop_(loop), call_(call) {}
        void schedule() {
            if (linked()) return;
            loop_.deferred_.push(*this);
            if (loop_.embedded_ && !loop_.inside_) loop_.poller_.ring();
        }
        void cancel() { unlink(); }
        bool scheduled() const { return linked(); }

    private:
        friend class Loop;
        Loop& loop_;
        Delegate<void()> call_;
    };

private:
    struct Service {
        const void* key;
        void* object;
        void (*destroy)(void*);
        Service* next;
    };
    template <class S>
    static inline char key = 0;  // its address is the key; not const, so that no linker folds two into one

    struct OneShot {
        OneShot(Loop& l, TimerId i, Function<void()> f)
            : loop(l), id(i), timer(l, Delegate<void()>::to<&OneShot::due>(this)), call(std::move(f)) {}
        void due() {
            loop.take_shot(static_cast<std::uint32_t>(id));
            call();
            delete this;
        }
        Loop& loop;
        TimerId id;
        Timer timer;
        Function<void()> call;
    };

    OneShot* take_shot(std::uint32_t slot) {
        OneShot* shot = shots_[slot];
        shots_[slot] = nullptr;
        free_shots_.push(slot);
        return shot;
    }

    Result<void> begin() {
        if (const Error error = poller_.error()) return error;
        if (inside_) return Errc::invalid_state;
        inside_ = true;
        stopped_ = false;
        now_ = TimePoint();
        if (!deferred_.empty()) run_deferred();
        return {};
    }
    void turn(int timeout) {
        poller_.wait(deferred_.empty() && !stopped_ ? timeout : 0);
        now_ = TimePoint();
        for (int i = 0; i < poller_.ready_count(); ++i)
            if (auto* watch = static_cast<Watch*>(poller_.take(i))) watch->on_ready_(poller_.ready(i));
        if (poller_.alarmed()) run_timers();
        if (poller_.rung()) run_posted();
        if (!deferred_.empty()) run_deferred();
    }
    void end() {
        inside_ = false;
        if (embedded_ && !deferred_.empty()) poller_.ring();
    }

    void run_deferred() {
        List round;  // what is scheduled meanwhile waits for the next turn
        round.take(deferred_);
        while (ListNode* node = round.front()) {
            node->unlink();
            static_cast<Deferred*>(node)->call_();
        }
    }

    void run_timers() {
        alarm_ = TimePoint::never();
        timers_due_ = now();
        while (TimerHeap::Entry* entry = timers_.take_due(timers_due_)) entry->due();
        timers_due_ = TimePoint();
        if (timers_.first() < alarm_) set_alarm(timers_.first());
    }

    void run_posted() {
        Array<Function<void()>> calls;
        {
            Lock lock(mutex_);
            calls = std::move(posted_);
        }
        for (auto& call : calls) call();
    }

    void set_alarm(TimePoint when) {
        alarm_ = when;
        poller_.set_alarm(when);
    }

    template <class S>
    static void destroy(void* service) {
        delete static_cast<S*>(service);
    }

    Poller poller_;
    TimerHeap timers_;
    TimePoint alarm_ = TimePoint::never();  // what the system's timer is set to; it may go off early, never late
    TimePoint now_;
    TimePoint timers_due_;  // while the timers due by then are handled, else zero
    List deferred_;
    Service* services_ = nullptr;
    Array<OneShot*> shots_;
    Array<std::uint32_t> free_shots_;
    std::uint64_t generation_ = 0;
    std::byte* scratch_ = nullptr;
    bool stopped_ = false;
    bool inside_ = false;
    bool embedded_ = false;

    Mutex mutex_;
    Array<Function<void()>> posted_;  // guarded by mutex_
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1::handoff {

/// A channel to another process on this host, over a connected Unix socket: live sockets go over it, both ways, each owned by exactly one
/// process at every moment, whichever of the two dies (README.md of this folder says how).
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may do anything, and destroy the channel. A channel that is
/// destroyed leaves to the receiver what it has offered completely, and closes everything else it holds.
class Channel {
public:
    struct Options {
        /// Bytes of one line, at most; base64 makes four bytes of three. A longer one from the peer closes the channel.
        std::size_t message_limit = 4 * 1024 * 1024;
        /// Offers under way at once, each way.
        std::uint32_t offers = 64;
        /// An offer that was not accepted by then is withdrawn.
        Duration deadline = Duration::seconds(5);
        /// Whether to deal with whoever is at the other end. By default: the same user as this process.
        bool (*trusts)(const PeerCredentials&) = LocalSocket::trusted;

        bool valid() const { return message_limit >= 256 && offers > 0 && deadline > Duration() && trusts != nullptr; }
    };

    /// What became of an offer: no error, and it is the receiver's; or an error, and here it is again. `cancelled`: the receiver declined,
    /// or it was withdrawn; `timed_out`; `end_of_stream`: the receiver died. Where the channel had to be given up and it is not known what
    /// the receiver has made of it, the socket is closed and the parcel comes without it.
    using Done = Function<void(Error, Parcel&&)>;

    explicit Channel(Loop& loop) : Channel(loop, Options()) {}
    Channel(Loop& loop, const Options& options)
        : options_(options),
          watch_(loop, Delegate<void(Ready)>::to<&Channel::ready>(this)),
          kick_(loop, Delegate<void()>::to<&Channel::kicked>(this)),
          deadline_(loop, Delegate<void()>::to<&Channel::late>(this)) {}
    Channel(const Channel&) = delete;
    ~Channel() {
        if (destroyed_ != nullptr) *destroyed_ = true;
        watch_.stop();
        drop(lines_);
        while (Offer* offer = first_offer()) delete offer;
        while (Offer* offer = first_outcome()) delete offer;
        drop_incoming();
    }

    /// Speaks over a connected Unix stream socket, or on Windows a named pipe, from now on, and owns it. EPERM where the peer is not to be
    /// trusted; `invalid_argument` for options outside their bounds; `invalid_state` when it speaks already; else the system's error.
    Result<void> start(LocalSocket::End socket) {
        if (!options_.valid()) return Errc::invalid_argument;
        if (socket_) return Errc::invalid_state;
        const auto peer = LocalSocket::peer_credentials(socket);
        if (!peer) return peer.error();
        if (!options_.trusts(*peer)) return Error::system(EPERM);
        if (auto watched = watch_.start(socket.fd(), Ready::readable); !watched) return watched;
        socket_ = std::move(socket);
        return {};
    }
    bool open() const { return static_cast<bool>(socket_); }

    /// Called with each parcel that has become this process'. Without a handler, offers are declined.
    void on_parcel(Function<void(Parcel&&)> handler) { parcel_.set(std::move(handler)); }
    /// Asks `decide` about each offer: false declines it. It must not destroy the channel, take its own place, or keep the parcel, whose
    /// socket nobody has looked at yet.
    void admit(Function<bool(const Parcel&)> decide) { admission_ = std::move(decide); }
    /// The channel is closed: by the peer (`end_of_stream`), for what it said (`malformed`, `too_large`), or by the system.
    void on_close(Function<void(Error)> handler) { close_.set(std::move(handler)); }
    /// After an offer was refused with `would_block`: there is room again.
    void on_drained(Function<void()> handler) { drained_.set(std::move(handler)); }

    /// Offers a parcel; it is the channel's from here on, and `done` tells what became of it, never inside this call. Whoever watches its
    /// socket has stopped before: a registration would outlive the descriptor (epoll(7)). Refused, with the parcel untouched:
    /// `would_block` with as many under way as there may be; `too_large`; `invalid_argument` for a parcel of nothing, and for a descriptor
    /// that is no socket; `invalid_state` when the channel is closed; `out_of_memory`. Returns its number, for `withdraw`.
    Result<std::uint64_t> offer(Parcel&& parcel, Done&& done) {
        if (auto room = has_room(); !room) return room.error();
        const SocketKind kind = !parcel.socket ? SocketKind::none : parcel.kind != SocketKind::none ? parcel.kind : parcel.socket.kind();
        if (kind == SocketKind::none && (parcel.socket || !parcel.resumable)) return Errc::invalid_argument;
        auto* line = new (std::nothrow) Line(Message::Type::offer);
        auto* offer = new (std::nothrow) Offer;
        const bool v6 = kind == SocketKind::datagram && parcel.socket.local_endpoint().ip().family == Family::v6;
        Error error = line == nullptr || offer == nullptr ? Errc::out_of_memory : Error();
        parcel.ticket.clear();
        if (!error && parcel.socket) error = LocalSocket::issue_ticket(socket_, parcel.socket, parcel.ticket);
        if (!error && !write_offer(line->text, next_id_, kind, v6, parcel)) error = Errc::out_of_memory;
        if (!error && line->text.size() > options_.message_limit) error = Errc::too_large;
        if (error) {
            delete line;
            delete offer;
            return error;
        }
        offer->id = next_id_++;
        offer->parcel = std::move(parcel);
        offer->done = std::move(done);
        offer->deadline = watch_.loop().now() + options_.deadline;
        line->offer = offer;
        offers_.push(static_cast<Place&>(*offer));
        ++offered_;
        if (!deadline_.armed()) deadline_.at(offer->deadline);
        add(line);
        return offer->id;
    }
    /// Whether one more may be offered now: `would_block`, `invalid_state`, as `offer` has them.
    Result<void> has_room() {
        if (!socket_) return Errc::invalid_state;
        if (offered_ < options_.offers) return {};
        refused_ = true;
        return Errc::would_block;
    }
    /// Takes an offer back, unless it is the receiver's already; `done` tells which. False for a number that is no longer under way.
    bool withdraw(std::uint64_t id) {
        for (Offer* offer = first_offer(); offer != nullptr; offer = next(*offer))
            if (offer->id == id) return take_back(*offer, Errc::cancelled);
        return false;
    }
    /// How many offers are under way.
    std::size_t offered() const { return offered_; }

private:
    // An offer has a place among those under way until it is answered, which it is even when it was withdrawn; and one among those whose
    // outcome is to be told.
    struct Place : ListNode {};
    struct Outcome : ListNode {};
    struct Offer : Place, Outcome {
        enum State : std::uint8_t { queued, sent, accepted, withdrawing, withdrawn };
        std::uint64_t id = 0;
        Parcel parcel;
        Done done;
        TimePoint deadline;
        Error outcome;
        State state = queued;
        bool answered = false;
    };
    struct Line : ListNode {
        explicit Line(Message::Type t) : type(t) {}
        Array<char> text;
        std::size_t written = 0;
        Offer* offer = nullptr;
        Message::Type type;
    };
    // Accepted, and not committed yet.
    struct Incoming : ListNode {
        std::uint64_t id = 0;
        Parcel parcel;
    };

    // One handler. What it has captured lives until it returns, though it destroys the channel or takes its own place.
    template <class... Args>
    class Slot {
    public:
        void set(Function<void(Args...)> handler) {
            handler_ = std::move(handler);
            replaced_ = true;
        }
        explicit operator bool() const { return static_cast<bool>(handler_); }
        void call(const bool& destroyed, Args... args) {
            if (!handler_) return;
            replaced_ = false;
            Function<void(Args...)> running = std::move(handler_);
            running(std::forward<Args>(args)...);
            if (!destroyed && !replaced_) handler_ = std::move(running);
        }

    private:
        Function<void(Args...)> handler_;
        bool replaced_ = false;
    };

    static void drop(List& lines) {
        while (ListNode* node = lines.front()) delete static_cast<Line*>(node);
    }
    void drop_incoming() {
        while (ListNode* node = incoming_.front()) delete static_cast<Incoming*>(node);
        incoming_count_ = 0;
    }
    Offer* first_offer() { return static_cast<Offer*>(static_cast<Place*>(offers_.front())); }
    Offer* next(Offer& offer) { return static_cast<Offer*>(static_cast<Place*>(offers_.next(static_cast<Place&>(offer)))); }
    Offer* first_outcome() { return static_cast<Offer*>(static_cast<Outcome*>(finished_.front())); }

    // ---- What is said.

    void say(Message::Type type, Offer* offer, std::uint64_t id) {
        auto* line = new (std::nothrow) Line(type);
        if (line == nullptr || !write_message(line->text, type, id)) {
            delete line;
            return fail(Errc::out_of_memory);
        }
        line->offer = offer;
        add(line);
    }
    void add(Line* line) {
        const bool idle = lines_.empty();
        lines_.push(*line);
        if (idle) flush();
    }
    void flush() {
        while (auto* line = static_cast<Line*>(lines_.front())) {
            const Bytes left = TextView(line->text.data() + line->written, line->text.size() - line->written).bytes();
            const bool with_descriptor = line->type == Message::Type::offer && line->written == 0 && line->offer->parcel.socket;
            const auto sent = LocalSocket::send(socket_, left, with_descriptor ? &line->offer->parcel.socket : nullptr);
            if (!sent) {
                if (sent.error() == Errc::would_block) return watch_.change(LocalSocket::when_it_takes_more);
                if (!LocalSocket::gone(sent.error())) return fail(sent.error());
                drop(lines_);  // nobody hears it; what the peer said before is still to be read
                break;
            }
            line->written += *sent;
            if (line->written < line->text.size()) continue;
            written(line->type, line->offer);
            delete line;
        }
        watch_.change(Ready::readable);
    }
    // The whole line is on its way: this is the moment in which a commit or a withdrawal counts.
    void written(Message::Type type, Offer* offer) {
        if (type == Message::Type::offer) {
            if (offer->state == Offer::queued) offer->state = Offer::sent;
        } else if (type == Message::Type::commit) {
            offer->parcel = {};
            finish(*offer, {});
        } else if (type == Message::Type::withdraw) {
            offer->state = Offer::withdrawn;
            tell(*offer, offer->outcome);
            if (offer->answered) vacate(*offer);
        }
    }
    bool take_back(Offer& offer, Errc why) {
        if (offer.state >= Offer::accepted) return false;
        offer.outcome = why;
        if (offer.state == Offer::queued)
            for (ListNode* node = lines_.front(); node != nullptr; node = lines_.next(*node)) {
                auto* line = static_cast<Line*>(node);
                if (line->offer != &offer || line->written > 0) continue;
                delete line;  // nothing of it was said
                finish(offer, why);
                return true;
            }
        offer.state = Offer::withdrawing;
        say(Message::Type::withdraw, &offer, offer.id);
        return true;
    }
    // When nothing else is under way.
    void tell(Offer& offer, Error outcome) {
        offer.outcome = outcome;
        finished_.push(static_cast<Outcome&>(offer));
        kick_.schedule();
    }
    void vacate(Offer& offer) {
        offer.Place::unlink();
        --offered_;
        kick_.schedule();
        if (!offer.Outcome::linked()) delete &offer;
    }
    void finish(Offer& offer, Error outcome) {
        tell(offer, outcome);
        vacate(offer);
    }
    void late() {
        const TimePoint now = watch_.loop().now();
        for (Offer* offer = first_offer(); offer != nullptr; offer = next(*offer)) {
            if (offer->state >= Offer::accepted) continue;
            if (offer->deadline > now) {
                deadline_.at(offer->deadline);
                return;
            }
            take_back(*offer, Errc::timed_out);
            return late();  // others may have gone with it
        }
    }
    [[gnu::noinline]] void kicked() {
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        while (Offer* offer = first_outcome()) {
            offer->Outcome::unlink();
            Done done = std::move(offer->done);
            Parcel parcel = std::move(offer->parcel);
            const Error outcome = offer->outcome;
            if (!offer->Place::linked()) delete offer;
            if (done) done(outcome, std::move(parcel));
            if (destroyed) return leave(outer);
        }
        if (closed_ && !std::exchange(told_, true)) close_.call(destroyed, closed_);
        if (destroyed) return leave(outer);
        if (socket_ && refused_ && offered_ <= options_.offers / 2) {
            refused_ = false;
            drained_.call(destroyed);
            if (destroyed) return leave(outer);
        }
        destroyed_ = outer;
    }
    static void leave(bool* outer) {
        if (outer != nullptr) *outer = true;
    }

    // The channel is over. Whatever was not committed stays here, where the receiver cannot have it any more: it is gone, or never got
    // the whole offer, or was told.
    void fail(Error why) {
        if (!socket_) return;
        const bool peer_is_gone = why == Errc::end_of_stream;
        bool revoked = peer_is_gone;
        if (!peer_is_gone) {
            // A line that makes no sense makes the receiver forget every offer.
            static constexpr char nonsense[] = "\n!\n";
            const auto sent = LocalSocket::send(socket_, TextView(nonsense).bytes());
            revoked = sent ? *sent == sizeof nonsense - 1 : LocalSocket::gone(sent.error());
        }
        closed_ = why;
        watch_.stop();
        deadline_.cancel();
        drop(lines_);
        while (Offer* offer = first_offer()) {
            if (!revoked && offer->state != Offer::queued) offer->parcel.socket.close();
            if (offer->state != Offer::withdrawn) tell(*offer, offer->outcome ? offer->outcome : why);
            vacate(*offer);
        }
        descriptors_.reset();
        text_.reset();
        if (!peer_is_gone) drop_incoming();
        socket_.close();
        kick_.schedule();
    }

    // ---- What is heard.

    [[gnu::noinline]] void ready(Ready what) {
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        if (!lines_.empty()) flush();
        if (has(what, Ready::readable) && socket_) read(destroyed);
        if (destroyed) return leave(outer);
        destroyed_ = outer;
        if (!finished_.empty() || closed_) kicked();
    }
    void read(bool& destroyed) {
        const MutableBytes room = watch_.loop().scratch();
        auto received = LocalSocket::receive(socket_, room);
        if (!received && received.error() == Errc::would_block) return;
        if (!received && !LocalSocket::gone(received.error())) return fail(received.error());
        if (!received || received->bytes == 0) return ended(destroyed);
        if (received->descriptor && !descriptors_.push(std::move(received->socket))) return fail(Errc::out_of_memory);

        TextView text(reinterpret_cast<const char*>(room.data()), received->bytes);
        while (text.size() > 0 && socket_) {
            const auto* const newline = static_cast<const char*>(std::memchr(text.data(), '\n', text.size()));
            const std::size_t n = newline == nullptr ? text.size() : static_cast<std::size_t>(newline - text.data());
            const bool whole = newline != nullptr && text_.empty();
            if (text_.size() + n > options_.message_limit) return fail(Errc::too_large);
            if (!whole && !text_.append(text.data(), n)) return fail(Errc::out_of_memory);
            if (newline == nullptr) break;
            const Array<char> kept = std::move(text_);
            text_ = {};
            const TextView line = whole ? TextView(text.data(), n) : TextView(kept.data(), kept.size());
            text = TextView(newline + 1, text.size() - n - 1);
            const Error error = heard(line);
            if (destroyed) return;
            if (error) return fail(error);
        }
        // A descriptor comes with the first byte of its line: where no line is under way there is none.
        if (socket_ && descriptors_.size() > (text_.empty() ? 0u : 1u)) fail(Errc::malformed);
    }
    Error heard(TextView line) {
        Parcel parcel;
        const auto message = read_message(line, parcel);
        if (!message) return message.error();
        switch (message->type) {
            case Message::Type::offer:
                return offered(*message, parcel);
            case Message::Type::accept:
            case Message::Type::decline:
                return answered(message->type == Message::Type::accept);
            case Message::Type::commit:
            case Message::Type::withdraw:
                for (ListNode* node = incoming_.front(); node != nullptr; node = incoming_.next(*node)) {
                    auto* incoming = static_cast<Incoming*>(node);
                    if (incoming->id != message->id) continue;
                    parcel = std::move(incoming->parcel);
                    delete incoming;
                    --incoming_count_;
                    return message->type == Message::Type::commit ? deliver(std::move(parcel)) : Error();
                }
                // What was declined may be withdrawn at the same time.
                return message->type == Message::Type::withdraw ? Error() : Error(Errc::malformed);
            case Message::Type::other:
                break;
        }
        return {};
    }
    Error offered(const Message& message, Parcel& parcel) {
        parcel.kind = message.kind;
        if (message.kind != SocketKind::none) {
            if (descriptors_.empty() == LocalSocket::passes_descriptors) return Errc::malformed;
            if (LocalSocket::passes_descriptors) {
                parcel.socket = std::move(descriptors_[0]);
                descriptors_.erase(0);
            } else {
                parcel.socket = LocalSocket::redeem_ticket({parcel.ticket.data(), parcel.ticket.size()});
                parcel.ticket.reset();
            }
        }
        for (ListNode* node = incoming_.front(); node != nullptr; node = incoming_.next(*node))
            if (message.ours && static_cast<Incoming*>(node)->id == message.id) return Errc::malformed;
        const bool nothing = message.kind != SocketKind::none && !parcel.socket;
        const bool full = incoming_count_ >= options_.offers;
        auto* const incoming = message.ours && !full ? new (std::nothrow) Incoming : nullptr;
        if (nothing || full || !parcel_ || (message.ours && incoming == nullptr) || (admission_ && !admission_(parcel))) {
            delete incoming;
            say(Message::Type::decline, nullptr, 0);
            return {};
        }
        say(Message::Type::accept, nullptr, 0);
        if (!socket_) {  // the answer could not be given
            delete incoming;
            return {};
        }
        if (!message.ours) return deliver(std::move(parcel));
        incoming->id = message.id;
        incoming->parcel = std::move(parcel);
        incoming_.push(*incoming);
        ++incoming_count_;
        return {};
    }
    Error answered(bool accepted) {
        for (Offer* offer = first_offer(); offer != nullptr; offer = next(*offer)) {
            if (offer->answered || offer->state == Offer::queued) continue;
            offer->answered = true;
            if (offer->state == Offer::sent && accepted) {
                offer->state = Offer::accepted;
                say(Message::Type::commit, offer, offer->id);
            } else if (offer->state == Offer::sent) {
                finish(*offer, Errc::cancelled);
            } else if (offer->state == Offer::withdrawn) {
                vacate(*offer);
            }
            return {};
        }
        return Errc::malformed;
    }
    // The peer is gone, and did not take back what it had offered: it died, and all of that is this process'.
    void ended(bool& destroyed) {
        fail(Errc::end_of_stream);
        while (auto* incoming = static_cast<Incoming*>(incoming_.front())) {
            Parcel parcel = std::move(incoming->parcel);
            delete incoming;
            --incoming_count_;
            static_cast<void>(deliver(std::move(parcel)));
            if (destroyed) return;
        }
    }
    Error deliver(Parcel&& parcel) {
        if (parcel.kind != SocketKind::none && !parcel.socket.check_in()) return Errc::malformed;
        parcel_.call(*destroyed_, std::move(parcel));
        return {};
    }

    const Options options_;
    LocalSocket::End socket_;
    Loop::Watch watch_;
    Loop::Deferred kick_;
    Loop::Timer deadline_;
    List lines_;     // to be said
    List offers_;    // under way, the oldest first
    List finished_;  // to be told of
    List incoming_;
    Array<char> text_;           // of a line that has not come whole
    Array<Socket> descriptors_;  // that came, and belong to lines that have not
    std::uint64_t next_id_ = 1;
    std::size_t offered_ = 0;
    std::size_t incoming_count_ = 0;
    Slot<Parcel&&> parcel_;
    Function<bool(const Parcel&)> admission_;
    Slot<Error> close_;
    Slot<> drained_;
    Error closed_;
    bool told_ = false;
    bool refused_ = false;
    bool* destroyed_ = nullptr;
};

}  // namespace rejoin::inline v0_1::handoff

namespace rejoin::inline v0_1::handoff {

/// Pushes a pipe's conversation to whoever is at the other end of `channel`: the pipe is `closed` when this returns, and `done` tells what
/// became of the conversation. Where it comes back, `pipe.adopt`, or `listener.adopt` for one that was accepted, goes on with it. `note`
/// travels along. Fails, and nothing has happened, as `Channel::offer` does for a closed or full channel, and as `Pipe::depart`; what fails
/// after that is told by `done` too, in this call.
template <class P>
Result<std::uint64_t> push(Channel& channel, P& pipe, TextView note, Channel::Done done) {
    if (auto room = channel.has_room(); !room) return room.error();
    auto parcel = pipe.depart();
    if (!parcel) return parcel.error();
    Result<std::uint64_t> offered = Errc::out_of_memory;
    if (parcel->note.append(note.data(), note.size())) offered = channel.offer(std::move(*parcel), std::move(done));
    if (!offered && done) done(offered.error(), std::move(*parcel));
    return offered;
}

}  // namespace rejoin::inline v0_1::handoff

#include <cstdint>

namespace rejoin::inline v0_1 {

/// Names one added handler of one object. 0 is never given out: it says that memory was out and nothing was added.
using HandlerId = std::uint32_t;

namespace detail {

/// What `Handlers` is, the same code for every kind of event.
class HandlerList {
public:
    HandlerList() = default;
    HandlerList(HandlerList&&) = delete;
    ~HandlerList() {
        Node* const left = std::exchange(head_, nullptr);
        if (frame_ == nullptr) free_list(left);
        for (Frame* f = frame_; f != nullptr; f = f->outer) {
            f->destroyed = true;
            if (f->outer == nullptr) f->orphans = left;
        }
    }

    bool empty() const { return head_ == nullptr; }

    /// Takes the handler away; false when there is none of that id. It is not called again, not even for the event under way.
    bool remove(HandlerId id) {
        Node* before = nullptr;
        for (Node* node = head_; node != nullptr; before = node, node = node->next) {
            if (node->id != id || id == 0) continue;
            node->id = 0;
            if (frame_ == nullptr)
                delete unlink(before, node);
            else
                frame_->removed = true;
            return true;
        }
        return false;
    }

protected:
    struct Node {
        Node* next;
        HandlerId id;  // 0: removed while running, to be freed after
        Callable call;
    };
    // One call under way. The outermost one frees what a destroyed list leaves behind.
    struct Frame {
        Frame* outer;
        Node* orphans;
        bool destroyed;
        bool removed;  // a handler was: the outermost call frees it
    };

    [[gnu::cold]] bool insert(HandlerId id, Callable&& call) {
        if (!call) return false;
        auto* node = new (std::nothrow) Node{nullptr, id, std::move(call)};
        if (node == nullptr) return false;
        (head_ == nullptr ? head_ : last()->next) = node;
        return true;
    }
    // Looked for each time: handlers are few, and a pipe has many lists.
    Node* last() const {
        Node* node = head_;
        while (node->next != nullptr) node = node->next;
        return node;
    }
    void enter(Frame& frame) {
        frame.outer = frame_;
        frame_ = std::launder(&frame);  // which GCC 12 does not take for a pointer that outlives the frame: it never does
    }
    bool leave(Frame& frame) {
        if (frame.destroyed || frame.removed) return settle(frame);
        frame_ = frame.outer;
        return true;
    }

    Node* head_ = nullptr;

private:
    // A handler was removed, or the list destroyed, while it was called.
    [[gnu::cold]] bool settle(Frame& frame) {
        // What a removed handler captured may own the list, or change it once more, as it goes.
        while (!frame.destroyed && frame.outer == nullptr && std::exchange(frame.removed, false)) free_list(take_removed());
        if (frame.destroyed) {
            free_list(frame.orphans);
            return false;
        }
        frame_ = frame.outer;
        if (frame_ != nullptr) frame_->removed |= frame.removed;
        return true;
    }
    static void free_list(Node* node) {
        while (node != nullptr) delete std::exchange(node, node->next);
    }
    Node* unlink(Node* before, Node* node) {
        (before == nullptr ? head_ : before->next) = node->next;
        return node;
    }
    Node* take_removed() {
        Node* taken = nullptr;
        Node* before = nullptr;
        for (Node *node = head_, *next; node != nullptr; node = next) {
            next = node->next;
            if (node->id == 0)
                unlink(before, node)->next = std::exchange(taken, node);
            else
                before = node;
        }
        return taken;
    }

    Frame* frame_ = nullptr;
};

}  // namespace detail

/// The handlers of one kind of event, called in the order in which they were added. While they are called, a handler may add
/// handlers (called from the next event on), remove any (itself too), and destroy the list's owner: what a running handler
/// captured lives until it returns.
template <class... Args>
class Handlers : public detail::HandlerList {
public:
    /// Adds `call` under `id`, which the owner makes unique. False when `call` is empty or memory is out.
    bool add(HandlerId id, Function<void(Args...)> call) { return insert(id, std::move(call)); }

    /// Calls every handler. Returns false when one of them destroyed the list: the owner is gone, touch nothing of it.
    bool operator()(Args... args) {
        if (head_ == nullptr) return true;
        Frame frame{};
        enter(frame);
        Node* const end = last();
        for (Node* node = head_;; node = node->next) {
            if (node->id != 0) node->call.template call<void, Args...>(args...);
            if (frame.destroyed || node == end) return leave(frame);
        }
    }
};

}  // namespace rejoin::inline v0_1

#include <cstdint>

namespace rejoin::inline v0_1 {

/// A small generator for jitter: SplitMix64 (Steele, Lea, Flood 2014). Not for secrets. Seed it from `entropy`, never from a clock:
/// machines that start together must not move in step.
class Random {
public:
    explicit constexpr Random(std::uint64_t seed) : state_(seed) {}

    constexpr std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    /// Evenly from 0 to `n - 1`, as an unsigned number of `n`'s width; 0 for `n` 0. (The modulo's bias is below 2⁻³² for every `n` that
    /// fits in 32 bits.)
    template <class T>
    constexpr auto below(T n) -> decltype(n + 0u) {
        return n == 0 ? 0 : static_cast<decltype(n + 0u)>(next() % static_cast<std::uint64_t>(n));
    }
    /// Evenly from `low` to `high`.
    constexpr Duration between(Duration low, Duration high) {
        const auto width = high > low ? static_cast<std::uint64_t>((high - low).nanoseconds()) + 1 : 1;
        return low + Duration::nanoseconds(static_cast<std::int64_t>(below(width)));
    }

private:
    std::uint64_t state_;
};

}  // namespace rejoin::inline v0_1

#include <cstdint>
#include <cstring>

namespace rejoin::inline v0_1 {

/// One network interface of the host.
struct Interface {
    std::uint32_t index = 0;  ///< the system's number for it; never 0
    Text<15> name;            ///< as the system shows it
    bool up = false;          ///< switched on by whoever runs the host
    bool carrier = false;     ///< its link is there: the cable, the radio, the other end
    bool loopback = false;
    bool point_to_point = false;  ///< a tunnel, a modem: what the system leads there is meant to go nowhere else
    bool noise = false;  ///< made by the system for its own ends (macOS: awdl, llw, anpi, utun …): it comes and goes without meaning

    /// Whether packets can pass.
    bool running() const { return up && carrier; }
};

/// One address of one interface.
struct InterfaceAddress {
    std::uint32_t interface_index = 0;
    IpAddress ip;  ///< a link-local IPv6 address has the interface as its scope
    std::uint8_t prefix_length = 0;
    bool tentative = false;   ///< still being checked for another owner (RFC 4862 §5.4)
    bool duplicate = false;   ///< the check found one
    bool deprecated = false;  ///< its preferred lifetime is over: fit for old connections, not for new ones (RFC 4862 §5.5.4)
    bool temporary = false;   ///< made up for a day or so, for privacy (RFC 8981)

    /// Whether packets can be sent from it.
    bool usable() const { return !tentative && !duplicate; }

    friend bool operator==(const InterfaceAddress&, const InterfaceAddress&) = default;
};

/// Where the system sends a packet. All zero when it has nowhere to send it.
struct Route {
    bool present = false;
    std::uint32_t interface_index = 0;  ///< the interface it leaves by
    IpAddress gateway;                  ///< the next router; of family `none` when the destination is on the link
    IpAddress source;                   ///< the local address that the system picks for it; may be of family `none`

    friend bool operator==(const Route&, const Route&) = default;
};

/// The routes to these stand for the routes to the internet. They are looked up and never sent to.
inline constexpr IpAddress internet_v4 = IpAddress::v4(8, 8, 8, 8);
inline constexpr IpAddress internet_v6 = {{0x20, 0x01, 0x48, 0x60, 0x48, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x88}, 0, Family::v6};

/// What a host's network looks like at one moment. Compare two of them with `diff`.
struct NetworkState {
    Array<Interface> interfaces;
    Array<InterfaceAddress> addresses;
    Array<IpAddress> dns_servers;  ///< the name servers, in the system's order
    Route route[2];                ///< the routes really taken to the internet: IPv4, IPv6. `route_for` picks one
    bool known = false;            ///< false while nobody has looked: then the rest is empty, and says nothing

    /// How many name servers are kept: more than any system asks.
    static constexpr std::size_t dns_servers_max = 8;

    /// The route to the internet for `family`; for `none`, the IPv4 one.
    Route& route_for(Family family) { return route[family == Family::v6]; }
    const Route& route_for(Family family) const { return route[family == Family::v6]; }

    /// Whether there is a route to the internet, by either family.
    bool connected() const { return route[0].present || route[1].present; }
    /// Whether it is certain that there is none, so that an attempt would be wasted.
    bool offline() const { return known && !connected(); }
    /// The interface that leads to the internet, by IPv4 if it can; 0 when there is none.
    std::uint32_t active_interface() const {
        for (const Route& r : route)
            if (r.present) return r.interface_index;
        return 0;
    }

    /// The interface, or null. The pointer holds until the state changes.
    const Interface* find_interface(std::uint32_t index) const {
        for (const Interface& i : interfaces)
            if (i.index == index) return &i;
        return nullptr;
    }
    /// The interface's entry for an address, or null. The pointer holds until the state changes.
    const InterfaceAddress* find_address(std::uint32_t interface_index, const IpAddress& ip) const {
        for (const InterfaceAddress& a : addresses)
            if (a.interface_index == interface_index && a.ip == ip) return &a;
        return nullptr;
    }
    /// The interface that a local address belongs to, or 0. An IPv4 address may come mapped into IPv6 (RFC 4291 §2.5.5.2), as a socket
    /// for both families has it; every loopback address belongs to the loopback interface; a link-local one without a scope, to the
    /// first interface that has it.
    std::uint32_t interface_of(const IpAddress& local) const;
    /// Whether packets to `peer` need no router when they leave by that interface: it lies in the prefix of one of its addresses.
    bool on_link(std::uint32_t interface_index, const IpAddress& peer) const;

    /// Adds an interface or an address, or replaces what was known of it; false when memory is out, and nothing has changed.
    [[gnu::cold]] bool put(const Interface& interface_) {
        for (Interface& i : interfaces)
            if (i.index == interface_.index) {
                i = interface_;
                return true;
            }
        return interfaces.push(interface_);
    }
    [[gnu::cold]] bool put(const InterfaceAddress& address) {
        for (InterfaceAddress& a : addresses)
            if (same_entry(a, address)) {
                a = address;
                return true;
            }
        return addresses.push(address);
    }
    /// Removes an interface, with its addresses. What is not there is not missed.
    [[gnu::cold]] void remove_interface(std::uint32_t index) {
        for (std::size_t i = interfaces.size(); i-- > 0;)
            if (interfaces[i].index == index) interfaces.erase(i);
        for (std::size_t i = addresses.size(); i-- > 0;)
            if (addresses[i].interface_index == index) addresses.erase(i);
    }
    /// Removes the address of that interface and prefix length: the same one may stay under another length.
    [[gnu::cold]] void remove(const InterfaceAddress& address) {
        for (std::size_t i = addresses.size(); i-- > 0;)
            if (same_entry(addresses[i], address)) addresses.erase(i);
    }

    /// Becomes a copy of `other`; false when memory is out, and then without the whole of it.
    [[gnu::cold]] bool copy_from(const NetworkState& other) {
        route[0] = other.route[0];
        route[1] = other.route[1];
        known = other.known;
        return interfaces.copy_from(other.interfaces) && addresses.copy_from(other.addresses) && dns_servers.copy_from(other.dns_servers);
    }

private:
    static bool same_entry(const InterfaceAddress& a, const InterfaceAddress& b) {
        return a.interface_index == b.interface_index && a.prefix_length == b.prefix_length && a.ip == b.ip;
    }
};

/// Whether both are the same address. A link-local one without a scope is the same as one with any.
inline bool same_address(IpAddress a, const IpAddress& b) {
    if (a.scope == 0 || b.scope == 0) a.scope = b.scope;
    return a == b;
}

inline std::uint32_t NetworkState::interface_of(const IpAddress& local) const {
    const IpAddress ip = unmapped(local);
    for (const InterfaceAddress& a : addresses)
        if (same_address(a.ip, ip)) return a.interface_index;
    if (ip.is_loopback())
        for (const Interface& i : interfaces)
            if (i.loopback) return i.index;
    return 0;
}

inline bool NetworkState::on_link(std::uint32_t interface_index, const IpAddress& peer) const {
    const IpAddress ip = unmapped(peer);
    for (const InterfaceAddress& a : addresses) {
        if (a.interface_index != interface_index || a.ip.family != ip.family) continue;
        const std::size_t whole = a.prefix_length / 8, rest = a.prefix_length % 8;
        if (whole > ip.size() || (whole == ip.size() && rest != 0) || std::memcmp(a.ip.bytes, ip.bytes, whole) != 0) continue;
        if (rest == 0 || (a.ip.bytes[whole] ^ ip.bytes[whole]) >> (8 - rest) == 0) return true;
    }
    return false;
}

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// One difference between two states of the network: the same on every system for the same happening.
struct NetworkChange {
    enum class Kind : std::uint8_t {
        interface_removed,
        interface_down,  ///< switched off; its carrier is then not reported apart
        carrier_down,    ///< still switched on, but its link is gone
        address_removed,
        address_unusable,    ///< another host has it, or it is being checked again
        address_deprecated,  ///< its preferred lifetime is over: connections that use it go on, and do well to move
        interface_added,
        interface_up,    ///< switched on; `carrier_up` follows when packets can pass
        carrier_up,      ///< packets can pass from now on
        address_added,   ///< `address_usable` follows when packets can be sent from it
        address_usable,  ///< packets can be sent from it from now on
        route_added,     ///< there is a route to the internet where there was none, for `family`
        route_changed,   ///< it leaves by another interface, through another gateway, or with another source address
        route_removed,
        active_interface_changed,  ///< another interface leads to the internet
        connectivity_lost,         ///< no route to the internet is left, by either family
        connectivity_regained,     ///< the first route to the internet is there
        dns_changed,               ///< the name servers, or their order
        external_address_changed,  ///< the address that the internet sees, for `family`: `ExternalAddress` tells
        woke,                      ///< the host was suspended, for `slept`
    };

    Kind kind = Kind::interface_added;
    /// Told as soon as it was noticed: what comes next may undo it.
    bool early = false;
    /// Told because it has held for `ChangeFeed::settle_time`.
    bool settled = false;
    /// It concerns only an interface that the system keeps for its own ends, over which no route to the internet leads.
    bool noise = false;
    /// Existing connections are probably dead or on the wrong path. Not so for a loss that touches link-local addresses alone, as
    /// containers that come and go make many. A connection asks `affects`.
    bool major = false;
    Family family = Family::none;       ///< of the address or the route
    std::uint32_t interface_index = 0;  ///< the interface in question; for routes the new one, or the old one if there is no new one
    Text<15> interface_name;
    IpAddress address;  ///< the address in question; for routes the source address
    IpAddress gateway;  ///< for routes
    /// Of `external_address_changed`: the address before (of family `none`: not known), and who said what it is now.
    IpAddress old_address;
    IpAddress server;
    std::uint16_t server_port = 0;
    /// Of `external_address_changed`: the local address that the internet sees at another one now. Of family `none` where no connection is
    /// hit: `address` is the first that is known, or that of a local address which leads to the internet now and did not before.
    IpAddress local_address;
    /// Of `external_address_changed`: the servers see different ones, so that a peer will see yet another (RFC 4787 §4.1).
    bool servers_disagree = false;
    Duration slept;  ///< of `woke`
    /// The states that were compared, this change and all others of the moment included. Valid for the duration of the call.
    const NetworkState* before = nullptr;
    const NetworkState* after = nullptr;

    /// Whether a connection between these two addresses is hit: its address is gone or unusable, its interface is gone, down or without
    /// carrier, or its packets go to the internet and took a route that was lost, moved away or got another gateway or another external
    /// address. A sleep hits everything but loopback. A peer in a prefix of the connection's own interface is reached without a route.
    /// Changes for the better hit nothing. Only during the call that delivers the change.
    [[gnu::cold]] bool affects(const IpAddress& local, const IpAddress& peer) const {
        if (before == nullptr || after == nullptr) return false;
        const IpAddress ip = unmapped(local);
        const std::uint32_t over = before->interface_of(ip);
        if (over == 0) return false;
        switch (kind) {
            case Kind::interface_removed:
            case Kind::interface_down:
            case Kind::carrier_down:
                return over == interface_index;
            case Kind::address_removed:
            case Kind::address_unusable:
            case Kind::address_deprecated:
                return same_address(ip, address);
            case Kind::route_changed:
            case Kind::route_removed:
            case Kind::active_interface_changed:
            case Kind::connectivity_lost: {
                if (ip.is_loopback() || (family != Family::none && family != ip.family) || before->on_link(over, peer)) return false;
                const Route& was = before->route_for(ip.family);
                const Route& is = after->route_for(ip.family);
                return was.present && was.interface_index == over && !(is.present && same_path(was, is));
            }
            case Kind::external_address_changed:
                return same_address(ip, local_address) && !before->on_link(over, peer);
            case Kind::woke:
                return !ip.is_loopback();
            default:
                return false;
        }
    }

    /// Whether what failed before may work now: there is a new way, or an old one is back.
    bool may_help() const {
        return kind == Kind::carrier_up || kind == Kind::address_added || kind == Kind::address_usable || kind == Kind::route_added ||
               kind == Kind::route_changed || kind == Kind::active_interface_changed || kind == Kind::connectivity_regained ||
               kind == Kind::dns_changed || kind == Kind::woke;
    }

    /// Whether packets take the same way by both: interface and gateway.
    static bool same_path(const Route& a, const Route& b) { return a.interface_index == b.interface_index && a.gateway == b.gateway; }
};

namespace detail {

// Looks for an element from where the last one was found: two lists in the same order are compared in one pass.
template <class T, class Same>
const T* find_from(std::size_t& at, const Array<T>& in, Same same) {
    for (std::size_t n = 0; n < in.size(); ++n) {
        const std::size_t i = (at + n) % in.size();
        if (!same(in[i])) continue;
        at = i + 1;
        return &in[i];
    }
    return nullptr;
}
inline const Interface* find_from(std::size_t& at, const Array<Interface>& in, const Interface& what) {
    return find_from(at, in, [&](const Interface& i) { return i.index == what.index; });
}
// Without the prefix length: an address that stays under another length has not gone.
inline const InterfaceAddress* find_from(std::size_t& at, const Array<InterfaceAddress>& in, const InterfaceAddress& what) {
    return find_from(at, in, [&](const InterfaceAddress& a) { return a.interface_index == what.interface_index && a.ip == what.ip; });
}

// One body, whoever asks: it is long.
[[gnu::cold]] inline void diff(const NetworkState& before, const NetworkState& after, Delegate<void(const NetworkChange&)> report) {
    using Kind = NetworkChange::Kind;
    const auto make = [&](Kind kind, std::uint32_t index, bool major) {
        NetworkChange change;
        change.kind = kind;
        change.major = major;
        change.interface_index = index;
        const Interface* named = after.find_interface(index);
        if (named == nullptr) named = before.find_interface(index);
        if (named != nullptr) change.interface_name = named->name;
        change.noise = named != nullptr && named->noise;
        for (const Route* r : {&before.route[0], &before.route[1], &after.route[0], &after.route[1]})
            if (r->present && r->interface_index == index) change.noise = false;
        if (change.noise) change.major = false;
        change.before = &before;
        change.after = &after;
        return change;
    };
    const auto report_interface_loss = [&](Kind kind, const Interface& lost) {
        bool major = false;
        for (const InterfaceAddress& a : before.addresses)
            major = major || (a.interface_index == lost.index && a.usable() && !a.ip.is_link_local());
        report(make(kind, lost.index, major));
    };
    const auto report_address = [&](Kind kind, const InterfaceAddress& a, const NetworkState& in, bool major) {
        if (in.find_address(a.interface_index, a.ip) != &a) return;  // listed before, with another prefix length
        NetworkChange change = make(kind, a.interface_index, major && !a.ip.is_link_local());
        change.family = a.ip.family;
        change.address = a.ip;
        report(change);
    };

    std::size_t at = 0;
    for (const Interface& was : before.interfaces) {
        const Interface* is = find_from(at, after.interfaces, was);
        if (is == nullptr)
            report_interface_loss(Kind::interface_removed, was);
        else if (was.up && !is->up)
            report_interface_loss(Kind::interface_down, was);
        else if (was.running() && !is->running())
            report_interface_loss(Kind::carrier_down, was);
    }
    at = 0;
    for (const InterfaceAddress& was : before.addresses) {
        const InterfaceAddress* is = find_from(at, after.addresses, was);
        if (is == nullptr)
            report_address(Kind::address_removed, was, before, was.usable());
        else if (was.usable() && !is->usable())
            report_address(Kind::address_unusable, was, before, true);
        else if (was.usable() && !was.deprecated && is->deprecated)
            report_address(Kind::address_deprecated, was, before, false);
    }
    at = 0;
    for (const Interface& is : after.interfaces) {
        const Interface* was = find_from(at, before.interfaces, is);
        if (was == nullptr) report(make(Kind::interface_added, is.index, false));
        if (is.up && !(was != nullptr && was->up)) report(make(Kind::interface_up, is.index, false));
        if (is.running() && !(was != nullptr && was->running())) report(make(Kind::carrier_up, is.index, false));
    }
    at = 0;
    for (const InterfaceAddress& is : after.addresses) {
        const InterfaceAddress* was = find_from(at, before.addresses, is);
        if (was == nullptr) report_address(Kind::address_added, is, after, false);
        if (is.usable() && !(was != nullptr && was->usable())) report_address(Kind::address_usable, is, after, false);
    }

    for (Family family : {Family::v4, Family::v6}) {
        const Route& was = before.route_for(family);
        const Route& is = after.route_for(family);
        if (!(was.present || is.present) || was == is) continue;
        const Route& shown = is.present ? is : was;
        NetworkChange change = make(!was.present  ? Kind::route_added
                                    : !is.present ? Kind::route_removed
                                                  : Kind::route_changed,
                                    shown.interface_index, was.present && !(is.present && NetworkChange::same_path(was, is)));
        change.family = family;
        change.address = shown.source;
        change.gateway = shown.gateway;
        report(change);
    }
    const std::uint32_t from = before.active_interface(), to = after.active_interface();
    if (from != 0 && to != 0 && from != to) report(make(Kind::active_interface_changed, to, true));
    if (before.connected() && !after.connected()) report(make(Kind::connectivity_lost, from, true));
    if (!before.connected() && after.connected()) report(make(Kind::connectivity_regained, to, false));
    bool same_dns = before.dns_servers.size() == after.dns_servers.size();
    for (std::size_t i = 0; same_dns && i < after.dns_servers.size(); ++i) same_dns = before.dns_servers[i] == after.dns_servers[i];
    if (!same_dns) report(make(Kind::dns_changed, 0, false));
}

}  // namespace detail

/// Calls `report(const NetworkChange&)` for each difference, in this order: interfaces lost, addresses lost, interfaces gained, addresses
/// gained, each as the states list them; routes, IPv4 before IPv6; the active interface and connectivity; name servers. Two states that
/// say the same make no call, whatever happened between them. `report` must leave both states as they are.
template <class Report>
[[gnu::cold]] void diff(const NetworkState& before, const NetworkState& after, Report&& report) {
    struct Call {
        void operator()(const NetworkChange& change) { to(change); }
        Report& to;
    } call{report};
    detail::diff(before, after, Delegate<void(const NetworkChange&)>::to<&Call::operator()>(&call));
}

namespace detail {

/// What `describe` says of a change: %i is for the interface, %a the address, %o the one before, %f the family, %g the gateway, %s the name
/// servers, %t the time asleep.
inline const char* sentence(const NetworkChange& change) {
    using Kind = NetworkChange::Kind;
    switch (change.kind) {
        case Kind::interface_removed:
            return "Interface %i is gone.";
        case Kind::interface_down:
            return "Interface %i was switched off.";
        case Kind::carrier_down:
            return "Interface %i lost its link.";
        case Kind::address_removed:
            return "Address %a was removed from %i.";
        case Kind::address_unusable:
            return "Address %a cannot be used any more on %i.";
        case Kind::address_deprecated:
            return "Address %a is not meant for new connections any more on %i.";
        case Kind::interface_added:
            return "Interface %i appeared.";
        case Kind::interface_up:
            return "Interface %i was switched on.";
        case Kind::carrier_up:
            return "Interface %i has a link.";
        case Kind::address_added:
            return "Address %a was added to %i.";
        case Kind::address_usable:
            return "Address %a can be used on %i.";
        case Kind::route_added:
            return "%f has a route to the internet by %i%g.";
        case Kind::route_changed:
            return "%f now goes to the internet by %i%g.";
        case Kind::route_removed:
            return "%f has no route to the internet any more; it went by %i.";
        case Kind::active_interface_changed:
            return "Interface %i now leads to the internet.";
        case Kind::connectivity_lost:
            return "There is no route to the internet any more.";
        case Kind::connectivity_regained:
            return "There is a route to the internet again, by %i.";
        case Kind::dns_changed:
            if (change.after == nullptr || change.after->dns_servers.empty()) return "No name server is known any more.";
            return "Names are now looked up at %s.";
        case Kind::external_address_changed:
            if (change.address.family == Family::none) return "%f has no known external address any more.";
            if (change.servers_disagree) return "%f looks different to each server; to one it is now %a%o.";
            return "%f is seen from outside as %a%o.";
        case Kind::woke:
            return "The host woke after %t s of sleep.";
    }
    return "";
}

}  // namespace detail

/// The change in one sentence for people.
[[gnu::cold]] inline Description describe(const NetworkChange& change) {
    Description text;
    const auto append = [&](TextView before, const IpAddress& ip) {
        if (ip.family != Family::none) text.append(before).append(to_text(ip));
    };
    for (const char* at = detail::sentence(change); *at != 0; ++at) {
        switch (*at == '%' ? *++at : 0) {
            case 'i':
                if (change.interface_name.empty())
                    text.append("number ").append_number(change.interface_index);
                else
                    text.append(change.interface_name);
                break;
            case 'a':
                text.append(to_text(change.address));
                break;
            case 'o':
                append("; it was ", change.old_address);
                break;
            case 'f':
                text.append(change.family == Family::v6 ? "IPv6" : "IPv4");
                break;
            case 'g':
                append(" through ", change.gateway);
                break;
            case 's':
                for (const IpAddress& server : change.after->dns_servers)
                    append(&server == change.after->dns_servers.begin() ? "" : ", ", server);
                break;
            case 't':
                text.append_number((change.slept.milliseconds() + 500) / 1000);
                break;
            default:
                text.append({at, 1});
        }
    }
    return text;
}

}  // namespace rejoin::inline v0_1

#include <cstdint>

namespace rejoin::inline v0_1 {

/// What went wrong, in terms of what can be done about it.
enum class FailureKind : std::uint8_t {
    none,
    refused,              ///< nobody listens there, or somebody says no on their behalf
    timed_out,            ///< no answer in time
    no_route,             ///< this host has no way there: no network, or routing forbids it
    unreachable,          ///< something on the way, or the last hop, says it cannot be reached
    reset,                ///< the connection was there and was torn down
    ended,                ///< the peer ended the connection where it should have gone on
    unresponsive,         ///< the connection is there and nothing comes through
    address_unavailable,  ///< the local address cannot be used: gone, or not ready yet
    address_lost,         ///< the local address or interface under a connection went away
    address_in_use,       ///< somebody else listens there already
    forbidden,            ///< this host's firewall or a missing privilege
    exhausted,            ///< descriptors, ports, buffers or memory of this host
    name_unknown,         ///< there is no such name
    name_service,         ///< the name service gave no answer
    protocol,             ///< the peer speaks something else, or cannot prove who it is
    session_unknown,      ///< the peer does not know the session: it was restarted, or the session expired there
    session_refused,      ///< the peer has no room for another session
    overloaded,           ///< the server asks to come back later: `Failure::retry_after_ms` says when
    redirected,           ///< the server sends its clients to another one
    session_expired,      ///< the session was without a connection for longer than it may be
    session_aborted,      ///< the peer gave the session up
    fenced,               ///< a newer connection of the same session took over
    cancelled,            ///< the program called it off
    invalid,              ///< the program asked for what cannot be
    other,                ///< a code that has no better kind; it is in `error`
};

/// At which point of a connection's life.
enum class Stage : std::uint8_t { resolving, connecting, handshaking, resuming, established, listening };

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// Whom a failure lies with, as far as the failure itself tells.
enum class Origin : std::uint8_t {
    unknown,
    host,  ///< this host: its network, its limits, its rules, or the program
    path,  ///< something on the way, or nothing there at all
    peer,  ///< the peer's host or program
    name_service,
};

/// A classified error: what, when, and the code as it came.
struct Failure {
    FailureKind kind = FailureKind::none;
    Stage stage = Stage::connecting;
    Error error;
    /// Of `overloaded`: for how many milliseconds the server asks to be left alone, at least.
    std::uint32_t retry_after_ms = 0;

    explicit operator bool() const { return kind != FailureKind::none; }
    friend bool operator==(const Failure&, const Failure&) = default;

    /// Whom it lies with.
    Origin origin() const;
    /// What usually helps, for people, as one sentence; empty where nothing needs to. Lives as long as the program.
    const char* advice() const;
};

// Each of these tables is in the order of `FailureKind`, and apart, so that a program has only those that it asks for.
inline Origin Failure::origin() const {
    using enum Origin;
    static constexpr Origin origins[] = {
        unknown,       // none
        peer,          // refused
        path,          // timed_out
        host,          // no_route
        path,          // unreachable
        path,          // reset
        peer,          // ended
        path,          // unresponsive
        host,          // address_unavailable
        host,          // address_lost
        host,          // address_in_use
        host,          // forbidden
        host,          // exhausted
        name_service,  // name_unknown
        name_service,  // name_service
        peer,          // protocol
        peer,          // session_unknown
        peer,          // session_refused
        peer,          // overloaded
        peer,          // redirected
        path,          // session_expired
        peer,          // session_aborted
        peer,          // fenced
        host,          // cancelled
        host,          // invalid
        unknown,       // other
    };
    // Who accepts a connection and then says nothing is not the path.
    if (kind == FailureKind::timed_out && stage == Stage::handshaking) return peer;
    if (kind == FailureKind::timed_out && stage == Stage::resolving) return name_service;
    return origins[static_cast<std::size_t>(kind)];
}

[[gnu::cold]] inline const char* Failure::advice() const {
    static constexpr const char* advices[] = {
        "",                                                                                                   // none
        "Start the server, or correct the address and the port.",                                             // refused
        "Look whether the peer is up, and whether a firewall on the way lets the port through.",              // timed_out
        "Connect this host to a network.",                                                                    // no_route
        "Try another network; the peer may be switched off.",                                                 // unreachable
        "",                                                                                                   // reset
        "",                                                                                                   // ended
        "Try another network.",                                                                               // unresponsive
        "Give an address that this host has, or none.",                                                       // address_unavailable
        "",                                                                                                   // address_lost
        "Choose another port, or end the program that has it.",                                               // address_in_use
        "Allow the program in this host's firewall, or on macOS on the local network.",                       // forbidden
        "Raise this host's limits, or close what is not needed.",                                             // exhausted
        "Correct the name.",                                                                                  // name_unknown
        "Look at the name servers that this host is told to ask.",                                            // name_service
        "Log in to the network if it asks for that; correct the address, the port, the key or the version.",  // protocol
        "Start a new session.",                                                                               // session_unknown
        "Try again later.",                                                                                   // session_refused
        "Try again later.",                                                                                   // overloaded
        "",                                                                                                   // redirected
        "Start a new session.",                                                                               // session_expired
        "Start a new session.",                                                                               // session_aborted
        "",                                                                                                   // fenced
        "",                                                                                                   // cancelled
        "Correct the program.",                                                                               // invalid
        "",                                                                                                   // other
    };
    return advices[static_cast<std::size_t>(kind)];
}

/// One sentence: what happened, when, and the system's own code.
[[gnu::cold]] inline Description describe(const Failure& failure) {
    static constexpr const char* stages[] = {"while resolving the name", "while connecting",       "during the handshake",
                                             "while resuming",           "on the open connection", "while listening"};
    static constexpr const char* kinds[] = {
        "no failure",
        "connection refused: nothing listens there",
        "no answer in time: the peer is down, or something on the way drops packets",
        "no route: this host is not connected, or routing forbids it",
        "unreachable: a router or the last hop says so",
        "connection reset by the peer or by something on the way",
        "the peer ended the connection",
        "the path went silent",
        "the local address cannot be used",
        "the local address or interface went away",
        "the local address and port are in use",
        "not permitted: this host's firewall, or a missing privilege",
        "out of descriptors, ports or memory",
        "unknown host name",
        "the name service does not answer",
        "the other end is not the right one, or speaks another protocol",
        "the peer does not know the session: it was restarted, or the session expired there",
        "the peer has no room for another session",
        "the server asks to come back later",
        "the server sends its clients to another one",
        "the session was without a connection for too long",
        "the peer gave the session up",
        "a newer connection took over",
        "called off by this program",
        "not a valid request",
        "unexpected error",
    };
    Description text(kinds[static_cast<std::size_t>(failure.kind)]);
    if (failure.kind == FailureKind::none) return text;
    text.append(" (").append(stages[static_cast<std::size_t>(failure.stage)]);
    static constexpr const char* domains[] = {"", ", system error ", ", resolver error "};
    if (failure.error.domain() != Error::Domain::rejoin)
        text.append(domains[static_cast<std::size_t>(failure.error.domain())]).append_number(failure.error.code());
    return text.append(")");
}

}  // namespace rejoin::inline v0_1

// What a pipe does and why: as a state, as a value (`Pipe::explain`), as a stream of events (`Pipe::on_event`), and in numbers
// (`Pipe::statistics`).
namespace rejoin::inline v0_1 {

/// Lets others reach what a listener listens on, or a pipe has: told as that comes and goes. An `Opening` is one. Neither call may destroy
/// whoever makes it.
class Opener {
public:
    virtual void opened(const Endpoint& local) = 0;
    virtual void closed() = 0;

protected:
    ~Opener() = default;
};

/// Where a pipe stands.
///
///     idle --connect--> connecting --> connected <--> interrupted
///     any but idle: --close--> closing --> closed; a failure that recovery does not meet --> closed; closed --connect--> connecting
enum class PipeState : std::uint8_t {
    idle,
    connecting,  ///< on the way to the first connection
    connected,
    interrupted,  ///< without a connection, and on the way to the next one; a session goes on
    closing,      ///< delivering what is queued, or reading what the peer still sends
    closed,       ///< over: in order when the failure that comes with it is none
};

namespace detail {
inline TextView name_of(PipeState state) {
    static constexpr const char* names[] = {"idle", "connecting", "connected", "interrupted", "closing", "closed"};
    return names[static_cast<std::size_t>(state)];
}
// Seconds with three places.
inline Text<31> seconds_text(Duration d) {
    Text<31> text;
    return text.append_number(d.milliseconds() / 1000).append(".").append_number(d.milliseconds() % 1000, 3).append(" s");
}
}  // namespace detail

/// The state and, where there is one, the failure that led to it, in one sentence.
inline Description describe(PipeState state, const Failure& why) {
    Description text(detail::name_of(state));
    if (why) text.append(": ").append(describe(why));
    return text;
}

/// What a pipe has done so far in its present conversation, or in the last one.
struct Statistics {
    std::uint64_t bytes_sent = 0;            ///< of the stream, queued by `send`
    std::uint64_t bytes_received = 0;        ///< of the stream, delivered to handlers
    std::uint64_t bytes_replayed = 0;        ///< sent again over a new connection
    std::uint64_t bytes_unacknowledged = 0;  ///< sent or queued, and not known to have reached the peer's program (plain TCP: the system)
    std::uint64_t connections = 0;           ///< opened and, where there is a session, joined
    std::uint64_t resumes = 0;               ///< of these, how many went on with the session
    std::uint64_t interruptions = 0;         ///< how often a connection broke with none to take its place
    std::uint64_t standbys = 0;              ///< how often another was raced beside one in use
    std::uint64_t attempts = 0;              ///< connections begun, whatever became of them
    std::uint64_t probes = 0;                ///< sent on quiet connections
    Duration without_connection;             ///< in all, since the first connection
    Duration longest_without_connection;     ///< in whole milliseconds
    Duration round_trip;                     ///< smoothed; zero while unknown, and always for a transport without a session
};

/// Why another connection is raced beside one in use.
enum class Cause : std::uint8_t {
    none,
    silence,          ///< nothing was heard for too long
    retransmissions,  ///< what was sent had to be sent again twice
    loss,             ///< much of what is sent is lost, and there is another interface
    network,          ///< a change of the network has hit it
    deprecated,       ///< its address is not meant to be used any more
};

/// One thing that a pipe did, or that was done to it. A value of fixed size; its text is made by `describe`.
struct Event {
    enum class Kind : std::uint8_t {
        state,       ///< the pipe's state is `state` now; `failure` says why
        attempt,     ///< a connection was begun, to `peer`; by `interface_index` where that is not the system's choice
        failed,      ///< an attempt failed, with `failure`
        joined,      ///< a connection between `local` and `peer` is the one in use now
        broken,      ///< the one in use is of no use any more: `failure`
        standby,     ///< another is raced beside it: `cause`
        called_off,  ///< and is not needed any more, or not to be had
        waiting,     ///< nothing is tried for `wait`; unlimited: until something happens
        redirected,  ///< the server sends this client to `peer`
        resolving,   ///< the name is looked up
        resolved,    ///< so many addresses are known: `count`
        lost,        ///< a datagram could not be sent: `failure`
        narrowed,    ///< large packets do not get through: connections use small segments from now on
    };
    Kind kind = Kind::state;
    PipeState state = PipeState::idle;  ///< of the pipe when it happened
    Cause cause = Cause::none;
    TimePoint at;
    Failure failure;
    IpAddress local, peer;
    std::uint16_t port = 0;  ///< of `peer`
    std::uint32_t interface_index = 0;
    std::uint32_t count = 0;
    Duration wait;
};

namespace detail {
inline TextView text_of(Cause cause) {
    static constexpr const char* texts[] = {"",
                                            "nothing was heard for too long",
                                            "what was sent had to be sent again twice",
                                            "much is lost on the way",
                                            "the network has changed under it",
                                            "its address is not meant to be used any more"};
    return texts[static_cast<std::size_t>(cause)];
}
}  // namespace detail

/// The event in one sentence for people, without its time.
[[gnu::cold]] inline Description describe(const Event& event) {
    using Kind = Event::Kind;
    const auto peer = [&] { return to_text(Endpoint(event.peer, event.port)); };
    Description text;
    switch (event.kind) {
        case Kind::state:
            return describe(event.state, event.failure);
        case Kind::attempt:
            text.append("trying ").append(peer());
            return event.interface_index == 0 ? text : text.append(" by interface ").append_number(event.interface_index);
        case Kind::failed:
            return text.append("an attempt failed: ").append(describe(event.failure));
        case Kind::joined:
            return text.append("talking from ").append(to_text(event.local)).append(" to ").append(peer());
        case Kind::broken:
            return text.append("lost the connection: ").append(describe(event.failure));
        case Kind::standby:
            return text.append("racing another connection: ").append(detail::text_of(event.cause));
        case Kind::called_off:
            return TextView("the other connection is not needed any more");
        case Kind::waiting:
            if (event.wait == Duration::unlimited()) return TextView("waiting for a change");
            return text.append("waiting for ").append(detail::seconds_text(event.wait));
        case Kind::redirected:
            return text.append("the server sends this client to ").append(peer());
        case Kind::resolving:
            return TextView("looking the name up");
        case Kind::resolved:
            return text.append_number(event.count).append(event.count == 1 ? " address is known" : " addresses are known");
        case Kind::lost:
            return text.append("a datagram could not be sent: ").append(describe(event.failure));
        case Kind::narrowed:
            return TextView("large packets do not get through: from now on with small segments");
    }
    return text;
}

/// Keeps the last `N` events, for the report that a user sends: `pipe.on_event([&](const Event& e) { recorder.add(e); })`.
template <std::size_t N>
class Recorder {
public:
    void add(const Event& event) { events_[total_++ % N] = event; }
    /// How many are kept, and how many there were in all.
    std::size_t size() const { return total_ < N ? total_ : N; }
    std::size_t total() const { return total_; }
    /// The `i`th of those that are kept, the oldest first.
    const Event& operator[](std::size_t i) const { return events_[(total_ - size() + i) % N]; }
    /// One line of the report: when, counted from the first event that is kept, and what.
    [[gnu::cold]] Description line(std::size_t i) const {
        const Event& event = (*this)[i];
        Description text(detail::seconds_text(event.at - (*this)[0].at));
        return text.append("  ").append(describe(event));
    }

private:
    Event events_[N];
    std::size_t total_ = 0;
};

/// What a pipe is doing, and why.
struct Explanation {
    enum class Doing : std::uint8_t {
        nothing,
        talking,              ///< all is well
        racing,               ///< talking, while another connection is tried: `cause`
        resolving,            ///< looking the name up
        trying,               ///< `attempts` connections are on their way
        pausing,              ///< until `until`; then it tries again
        waiting_for_network,  ///< this host is not connected
        waiting_for_server,   ///< the server is down or busy: others try, or it was asked to be left alone
        finishing,            ///< delivering what is queued
    };
    PipeState state = PipeState::idle;
    Doing doing = Doing::nothing;
    Cause cause = Cause::none;
    bool online = true;              ///< whether the host has a route to the internet, as far as is known
    Failure failure;                 ///< the last one; none while all is well
    TimePoint until;                 ///< of `pausing`
    Duration without;                ///< how long there has been no connection
    unsigned attempts = 0;           ///< on their way
    IpAddress local, peer;           ///< of the connection in use, if there is one
    std::size_t unacknowledged = 0;  ///< bytes that wait to reach the peer's program
};

/// The explanation for people, in a sentence or two.
[[gnu::cold]] inline Description describe(const Explanation& e) {
    using Doing = Explanation::Doing;
    Description text;
    switch (e.doing) {
        case Doing::nothing:
            text.append(detail::name_of(e.state));
            break;
        case Doing::talking:
            text.append("talking from ").append(to_text(e.local)).append(" to ").append(to_text(e.peer));
            break;
        case Doing::racing:
            text.append("talking, and racing another connection: ").append(detail::text_of(e.cause));
            break;
        case Doing::resolving:
            text.append("looking the name up");
            break;
        case Doing::trying:
            text.append_number(e.attempts).append(e.attempts == 1 ? " connection is" : " connections are").append(" on the way");
            break;
        case Doing::pausing:
            text.append("about to try again");
            break;
        case Doing::waiting_for_network:
            text.append("waiting for a network");
            break;
        case Doing::waiting_for_server:
            text.append("waiting for the server to be ready");
            break;
        case Doing::finishing:
            text.append("delivering the last ").append_number(static_cast<std::int64_t>(e.unacknowledged)).append(" bytes");
            break;
    }
    if (e.without > Duration()) text.append(", without a connection for ").append(detail::seconds_text(e.without));
    if (e.failure) text.append("; last: ").append(describe(e.failure));
    return text;
}

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// Somebody who wants to know of changes: give it to an event source's `observe`. `unlink` (or its destruction) ends that. Neither
/// copied nor moved; costs no memory beyond itself. Hears of each difference twice, `early` and `settled`: `ChangeFeed` says when.
class NetworkObserver : public ListNode {
public:
    explicit NetworkObserver(Delegate<void(const NetworkChange&)> on_change) : on_change_(on_change) {}

private:
    friend class ObserverList;
    Delegate<void(const NetworkChange&)> on_change_;
};

/// Observers, called in the order in which they came. While they are called, an observer may unlink or destroy any (itself too), and add
/// some, who hear of the next change on. It may not publish.
class ObserverList {
public:
    /// Adds an observer; one that listens already goes on as before.
    void add(NetworkObserver& observer) { observers_.push(observer); }
    [[gnu::cold]] void publish(const NetworkChange& change) {
        observers_.for_each([&](ListNode& node) { static_cast<NetworkObserver&>(node).on_change_(change); });
    }

private:
    List observers_;
};

/// The state of an event source, and what tells of its changes. Each difference is told twice: as it is noticed (`early`), for those who
/// must start something at once; and when what changed has stayed as it is for `settle_time` (`settled`). What is undone before, such as
/// an address that is removed and added again or a link that flaps, is never told as settled. Belongs to the loop's thread.
class ChangeFeed {
public:
    /// As long as one waits before one takes a loss for real: by then what a driver or a network manager does in several steps is through.
    static constexpr Duration settle_time = Duration::seconds(1);

    explicit ChangeFeed(Loop& loop) : loop_(loop), timer_(loop, Delegate<void()>::to<&ChangeFeed::settle>(this)) {}

    /// As it is now.
    const NetworkState& state() const { return state_; }
    void observe(NetworkObserver& observer) { observers_.add(observer); }

    /// Remembers the state as it is, and gives it to be changed until `publish`. Null when memory is out.
    NetworkState* edit() { return before_.copy_from(state_) ? &state_ : nullptr; }
    /// Tells of every difference that the editing has made; false when there is none. The first state that is `known` counts as settled.
    bool publish() {
        bool any = false;
        publishing_ = true;
        diff(before_, state_, [&](NetworkChange change) {
            any = true;
            if (before_.known && !unsettled(change)) cannot_remember_ = true;
            change.early = true;
            observers_.publish(change);
        });
        publishing_ = false;
        if (!before_.known)
            settle_all();
        else if (any && !timer_.armed())
            timer_.after(settle_time);
        return any;
    }
    /// The whole state is another one: `edit` and `publish` in one. Without memory nothing is told, and the state is the old one.
    bool replace(NetworkState&& fresh) {
        NetworkState* now = edit();
        if (now == nullptr) return false;
        *now = std::move(fresh);
        return publish();
    }
    /// Tells of something that is not a difference between states and cannot be undone: once, as early and settled.
    void publish(NetworkChange change) {
        change.early = change.settled = true;
        change.before = change.after = &state_;
        publishing_ = true;
        observers_.publish(change);
        publishing_ = false;
    }
    /// Whether observers are being told.
    bool publishing() const { return publishing_; }

private:
    // What a change was about, and when it last changed.
    struct Unsettled {
        enum class What : std::uint8_t { interface_, address, route, dns } what;
        std::uint32_t index;
        IpAddress ip;
        TimePoint since;
    };

    [[gnu::cold]] bool unsettled(const NetworkChange& change) {
        using Kind = NetworkChange::Kind;
        Unsettled entry{Unsettled::What::interface_, change.interface_index, {}, loop_.now()};
        switch (change.kind) {
            case Kind::address_removed:
            case Kind::address_unusable:
            case Kind::address_added:
            case Kind::address_usable:
                entry.what = Unsettled::What::address;
                entry.ip = change.address;
                break;
            case Kind::route_added:
            case Kind::route_changed:
            case Kind::route_removed:
                entry.what = Unsettled::What::route;
                entry.index = change.family == Family::v6;
                break;
            case Kind::dns_changed:
                entry.what = Unsettled::What::dns;
                break;
            case Kind::active_interface_changed:  // what follows from the routes
            case Kind::connectivity_lost:
            case Kind::connectivity_regained:
                return true;
            default:
                break;
        }
        for (Unsettled& known : unsettled_)
            if (known.what == entry.what && known.index == entry.index && known.ip == entry.ip) {
                known.since = entry.since;
                return true;
            }
        return unsettled_.push(entry);
    }

    // What has held long enough is told.
    [[gnu::cold]] void settle() {
        const TimePoint now = loop_.now();
        NetworkState was;
        if (!was.copy_from(settled_)) return static_cast<void>(timer_.after(settle_time));
        if (cannot_remember_) unsettled_.clear();
        TimePoint next = TimePoint::never();
        for (std::size_t i = unsettled_.size(); i-- > 0;) {
            const Unsettled& entry = unsettled_[i];
            // One happening makes several changes, a little apart: they settle together.
            const TimePoint due = entry.since + settle_time;
            if (due > now + together) {
                if (due < next) next = due;
                continue;
            }
            cannot_remember_ = cannot_remember_ || !take_over(entry);
            unsettled_.erase(i);
        }
        if (unsettled_.empty()) settle_all();
        if (next != TimePoint::never()) timer_.at(next);
        publishing_ = true;
        diff(was, settled_, [&](NetworkChange change) {
            change.settled = true;
            observers_.publish(change);
        });
        publishing_ = false;
    }
    // The settled state takes over what is known of one thing now.
    [[gnu::cold]] bool take_over(const Unsettled& entry) {
        bool stored = true;
        switch (entry.what) {
            case Unsettled::What::interface_:
                if (const Interface* is = state_.find_interface(entry.index))
                    stored = settled_.put(*is);
                else
                    settled_.remove_interface(entry.index);
                break;
            case Unsettled::What::address:
                for (std::size_t i = settled_.addresses.size(); i-- > 0;)
                    if (same(settled_.addresses[i], entry)) settled_.addresses.erase(i);
                for (const InterfaceAddress& a : state_.addresses)
                    if (same(a, entry)) stored = settled_.put(a) && stored;
                break;
            case Unsettled::What::route:
                settled_.route[entry.index] = state_.route[entry.index];
                break;
            case Unsettled::What::dns:
                stored = settled_.dns_servers.copy_from(state_.dns_servers);
                break;
        }
        return stored;
    }
    static bool same(const InterfaceAddress& a, const Unsettled& entry) { return a.interface_index == entry.index && a.ip == entry.ip; }
    void settle_all() {
        unsettled_.clear();
        cannot_remember_ = !settled_.copy_from(state_);
        if (cannot_remember_) timer_.after(settle_time);
    }

    static constexpr Duration together = Duration::milliseconds(50);

    Loop& loop_;
    Loop::Timer timer_;
    NetworkState state_;
    NetworkState before_;   // kept, so that comparing needs no new memory
    NetworkState settled_;  // as it was last told
    Array<Unsettled> unsettled_;
    ObserverList observers_;
    bool cannot_remember_ = false;  // memory was out: everything counts as settled next time
    bool publishing_ = false;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

class Loop;

/// The event source that watches nothing, for pipes that want to know nothing of the network. An empty type: it costs nothing.
struct NoEvents {
    static NoEvents& of(Loop&) {
        static NoEvents none;
        return none;
    }
    /// Always empty and not `known`.
    const NetworkState& state() const {
        static const NetworkState unknown;
        return unknown;
    }
    /// Never calls it.
    void observe(NetworkObserver&) {}
    Error error() const { return {}; }
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// Sees from two clocks that the host was asleep: one stands still meanwhile, and the other goes on. Pure.
class WakeDetector {
public:
    /// Less is no sleep: the clocks are not read at the same moment, and may drift. No connection breaks of it either.
    static constexpr Duration threshold = Duration::seconds(1);

    /// Takes both clocks' present time; returns how long the host has slept since the last look, or zero if it has not. Each sleep is
    /// returned once. The first look only begins.
    Duration look(TimePoint monotonic, TimePoint boottime) {
        const Duration ahead = boottime - monotonic;
        const Duration slept = begun_ ? ahead - ahead_ : Duration();
        begun_ = true;
        ahead_ = ahead;
        return slept < threshold ? Duration() : slept;
    }

private:
    Duration ahead_;  // how much the one clock was ahead of the other at the last look
    bool begun_ = false;
};

/// Tells the observers of `feed` that the host `woke`, once for each sleep: at the owner's `look`, or by a timer of its own, which is the
/// only one of a source on an idle network. Belongs to the loop's thread.
class WakeWatch {
public:
    using Clock = TimePoint (*)();

    /// Seldom enough to cost nothing, and as late as a wake-up without any other sign is noticed.
    static constexpr Duration interval = Duration::seconds(10);

    /// `tick` is called after each look by the timer, for what the owner has to look at from time to time. The clocks are those of the
    /// system but in tests.
    WakeWatch(Loop& loop, ChangeFeed& feed, Delegate<void()> tick = {}, Clock boottime = &boottime_now, Clock monotonic = &monotonic_now)
        : feed_(feed), timer_(loop, Delegate<void()>::to<&WakeWatch::due>(this)), tick_(tick), boottime_(boottime), monotonic_(monotonic) {
        look();
        timer_.after(interval);
    }

    /// Call it before anything else is handled: the first message after a sleep is then told after the wake-up. Costs three readings of
    /// a clock.
    [[gnu::cold]] void look() {
        const TimePoint before = monotonic_();
        const TimePoint boottime = boottime_();
        const TimePoint after = monotonic_();
        // Held up in between (by a debugger, or a busy machine), the two do not belong together.
        if (after - before > WakeDetector::threshold / 4) return;
        NetworkChange change;
        change.kind = NetworkChange::Kind::woke;
        change.major = true;  // what slept with it has timed out elsewhere
        change.slept = detector_.look(after, boottime);
        if (change.slept > Duration()) feed_.publish(change);
    }

private:
    [[gnu::cold]] void due() {
        timer_.after(interval);
        look();
        if (tick_) tick_();
    }

    ChangeFeed& feed_;
    Loop::Timer timer_;
    Delegate<void()> tick_;
    Clock boottime_, monotonic_;
    WakeDetector detector_;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// The event source of a system that says only that something has changed (Windows): then everything is read, and compared. Belongs to the
/// loop's thread.
///
///     Notice: Error open(); Handle fd(), readable when something may have changed, until clear(); void clear()
///     Reader: as that of `PollingWith`
template <class Notice, class Reader>
class IpHelperOf {
public:
    /// Opens the notices and reads the state: `error` says whether that went well. Use `of`, so that a loop has one.
    explicit IpHelperOf(Loop& loop)
        : loop_(loop),
          watch_(loop, Delegate<void(Ready)>::to<&IpHelperOf::hear>(this)),
          timer_(loop, Delegate<void()>::to<&IpHelperOf::look>(this)),
          feed_(loop),
          reader_(loop, Delegate<void()>::to<&IpHelperOf::look>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&IpHelperOf::look>(this)) {
        error_ = notice_.open();
        if (!error_) error_ = watch_.start(notice_.fd(), Ready::readable).error();
        NetworkState first;
        if (!error_) error_ = reader_.read(first).error();
        if (error_)
            watch_.stop();
        else
            feed_.replace(std::move(first));
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static IpHelperOf& of(Loop& loop) { return loop.service<IpHelperOf>(); }

    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the network cannot be watched, or none; `state().known` is then false for good.
    Error error() const { return error_; }

private:
    // A notice may come before what it is about can be read; and many come at once, while reading everything is not cheap: 1 ms and more.
    static constexpr Duration look_again[] = {Duration::milliseconds(10), Duration::milliseconds(100), Duration::seconds(1)};
    static constexpr Duration between_readings = Duration::milliseconds(10);

    void hear(Ready) {
        wake_.look();
        notice_.clear();  // first, so that what happens while it is read makes itself heard again
        looks_ = 0;
        const TimePoint next = last_ + between_readings;
        if (loop_.now() < next)
            timer_.at(next);
        else
            look();
    }
    // A reading that fails changes nothing: the next one is made all the same.
    void look() {
        if (error_) return;
        last_ = loop_.now();
        NetworkState fresh;
        if (reader_.read(fresh)) feed_.replace(std::move(fresh));
        if (looks_ < sizeof look_again / sizeof look_again[0]) timer_.after(look_again[looks_++]);
    }

    Loop& loop_;
    Notice notice_;
    Loop::Watch watch_;  // after the notice: it stops before that is closed
    Loop::Timer timer_;
    ChangeFeed feed_;
    Reader reader_;
    WakeWatch wake_;
    Error error_;
    TimePoint last_;                                                // when everything was last read
    std::size_t looks_ = sizeof look_again / sizeof look_again[0];  // none is due
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

namespace detail {

/// Takes what stands in front of the first of `separators` off `text`, and that separator with it.
inline TextView take_until(TextView& text, TextView separators) {
    std::size_t end = 0;
    const auto separates = [&](char c) {
        for (char s : separators)
            if (c == s) return true;
        return false;
    };
    while (end < text.size() && !separates(text[end])) ++end;
    const TextView taken(text.data(), end);
    const std::size_t rest = end == text.size() ? end : end + 1;
    text = TextView(text.data() + rest, text.size() - rest);
    return taken;
}

/// The scope of `fe80::1%eth0` or `fe80::1%2` (RFC 4007 §11.2): an interface's index, or 0 when `interfaces` does not have it.
inline std::uint32_t scope_index(TextView scope, const Array<Interface>& interfaces) {
    std::uint32_t number = 0;
    bool digits = scope.size() > 0 && scope.size() < 10;
    for (char c : scope) {
        digits = digits && c >= '0' && c <= '9';
        if (digits) number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    for (const Interface& i : interfaces)
        if (digits ? i.index == number : i.name == scope) return i.index;
    return 0;
}

}  // namespace detail

/// Reads the text of a resolv.conf (resolv.conf(5)) and puts the name servers it lists in place of `to.dns_servers`, in their order: the
/// first `NetworkState::dns_servers_max`, each once. A link-local one gets its scope from `to.interfaces`, or 0 when the interface is not
/// there. Every other line, and one whose address makes no sense, is passed over, as the system's resolver does. Any bytes will do,
/// in lines of any length. False when memory is out. No server at all: the resolver then asks 127.0.0.1, which is not listed here.
[[gnu::cold]] inline bool parse_resolv_conf(TextView text, NetworkState& to) {
    to.dns_servers.clear();
    while (text.size() > 0 && to.dns_servers.size() < NetworkState::dns_servers_max) {
        TextView line = detail::take_until(text, "\n");
        if (!(detail::take_until(line, " \t") == TextView("nameserver"))) continue;  // a keyword stands at the start of its line
        TextView word;
        while (word.size() == 0 && line.size() > 0) word = detail::take_until(line, " \t\r");
        const TextView address = detail::take_until(word, "%");
        auto server = IpAddress::parse(address);
        if (!server) continue;
        if (server->family == Family::v6 && server->is_link_local()) server->scope = detail::scope_index(word, to.interfaces);
        bool listed = false;
        for (const IpAddress& known : to.dns_servers) listed = listed || known == *server;
        if (!listed && !to.dns_servers.push(*server)) return false;
    }
    return true;
}

}  // namespace rejoin::inline v0_1

// `FileWatch`: who hears that files were changed. Each system's file defines it whole, or is empty.

#if defined(__linux__)
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// Hears that files may have been changed, by inotify(7): written to, replaced, removed, created, or led elsewhere by a symbolic link. Not
/// everything makes itself heard (a link among the directories of a path, a file on a network, more users of inotify than allowed), so
/// who needs to be certain also looks from time to time. Belongs to the loop's thread.
class FileWatch {
public:
    /// What is done to a file comes in several steps: `touched` is called when this has passed since the first. Never inside `watch`.
    static constexpr Duration gather_time = Duration::milliseconds(50);

    FileWatch(Loop& loop, Delegate<void()> touched)
        : watch_(loop, Delegate<void(Ready)>::to<&FileWatch::hear>(this)), timer_(loop, touched) {
        fd_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (fd_ >= 0 && !watch_.start(fd_, Ready::readable)) ::close(std::exchange(fd_, -1));
    }
    FileWatch(const FileWatch&) = delete;
    ~FileWatch() {
        watch_.stop();
        if (fd_ >= 0) ::close(fd_);
    }

    /// Watches these files from now on, and none else. They need not exist, nor their directories. To be called again before they are
    /// read after `touched`: the way to them may be another one now.
    void watch(std::span<const char* const> paths) {
        if (fd_ < 0) return;
        Place old[places_max];
        const std::size_t old_count = std::exchange(count_, 0);
        for (std::size_t i = 0; i < old_count; ++i) old[i] = places_[i];
        for (const char* path : paths) follow(path);
        for (std::size_t i = 0; i < old_count; ++i)
            if (!watched(old[i].descriptor)) ::inotify_rm_watch(fd_, old[i].descriptor);
    }

private:
    // A directory and the name in it that matters, or a file itself, which has no name.
    struct Place {
        int descriptor;
        Text<31> name;  // names that differ only after it cost a superfluous look
    };
    static constexpr std::size_t places_max = 32;
    static constexpr int links_max = 8;

    // Watches every directory entry through which `path` leads to a file, and that file.
    [[gnu::cold]] void follow(const char* path) {
        char now[PATH_MAX];
        if (::strlen(path) >= sizeof now || path[0] != '/') return;
        ::strcpy(now, path);
        for (int links = 0; links <= links_max; ++links) {
            if (!add_entry(now)) return;
            add(now, {});  // written to by another name, a file under a mount is heard of only so
            char target[PATH_MAX];
            const ssize_t n = ::readlink(now, target, sizeof target - 1);
            if (n <= 0) return;
            target[n] = 0;
            char* slash = ::strrchr(now, '/') + 1;
            if (target[0] == '/') slash = now;
            if (static_cast<std::size_t>(slash - now) + static_cast<std::size_t>(n) >= sizeof now) return;
            ::strcpy(slash, target);
        }
    }
    // Watches the directory of `path` for the entry; where there is no such directory, the next above it that there is, and false.
    bool add_entry(const char* path) {
        char directory[PATH_MAX];
        ::strcpy(directory, path);
        for (bool whole = true;; whole = false) {
            char* slash = ::strrchr(directory, '/');
            const Text<31> name{TextView(slash + 1)};
            slash[slash == directory ? 1 : 0] = 0;
            if (add(directory, name)) return whole;
            if (slash == directory) return false;
        }
    }
    bool add(const char* path, const Text<31>& name) {
        if (count_ == places_max) return false;
        const int descriptor = ::inotify_add_watch(
            fd_, path, IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF);
        if (descriptor < 0) return false;
        places_[count_++] = {descriptor, name};
        return true;
    }
    bool watched(int descriptor) const {
        for (std::size_t i = 0; i < count_; ++i)
            if (places_[i].descriptor == descriptor) return true;
        return false;
    }

    [[gnu::cold]] void hear(Ready) {
        alignas(inotify_event) char events[4096];
        for (ssize_t size; (size = ::read(fd_, events, sizeof events)) > 0;)
            for (const char* at = events; at < events + size;) {
                inotify_event event;
                ::memcpy(&event, at, sizeof event);
                const TextView name(event.len != 0 ? at + sizeof event : "");
                if (concerns(event, Text<31>(name)) && !timer_.armed()) timer_.after(gather_time);
                at += sizeof event + event.len;
            }
    }
    bool concerns(const inotify_event& event, const Text<31>& name) const {
        if ((event.mask & IN_IGNORED) != 0) return false;  // it is not watched any more, which was said before or is our own doing
        if ((event.mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF)) != 0) return true;
        for (std::size_t i = 0; i < count_; ++i)
            if (places_[i].descriptor == event.wd && places_[i].name == name) return true;
        return false;
    }

    int fd_ = -1;
    Loop::Watch watch_;
    Loop::Timer timer_;
    Place places_[places_max];
    std::size_t count_ = 0;
};

}  // namespace rejoin::inline v0_1
#endif

#if !defined(_WIN32) && !defined(__linux__)
namespace rejoin::inline v0_1 {

/// Hears of nothing: who wants to know whether a file has changed reads it from time to time, as it has to with Linux' `FileWatch` too.
class FileWatch {
public:
    FileWatch(Loop&, Delegate<void()>) {}
    void watch(std::span<const char* const>) {}
};

}  // namespace rejoin::inline v0_1
#endif

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// Reads the beginning of a file, as much as fits into `to`, and returns how much that is. Never waits, whatever kind of file it is
/// (open(2), O_NONBLOCK). The error is the system's.
[[gnu::cold]] inline Result<std::size_t> read_file(const char* path, MutableBytes to) {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return Error::system(errno);
    std::size_t size = 0;
    Error error;
    while (size < to.size()) {
        const ssize_t n = ::read(fd, to.data() + size, to.size() - size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) error = Error::system(errno);
        if (n <= 0) break;
        size += static_cast<std::size_t>(n);
    }
    ::close(fd);
    if (error) return error;
    return size;
}

}  // namespace rejoin::inline v0_1
#endif

#if !defined(_WIN32)
#include <cstdlib>

namespace rejoin::inline v0_1 {

/// Where a POSIX system lists the name servers it asks. Absolute paths, which must live as long as what uses them.
struct DnsFiles {
    const char* resolv_conf = "/etc/resolv.conf";
    /// Where it lists but a resolver on this host, the servers that this one asks: systemd-resolved(8) with its stub at 127.0.0.53 or
    /// 127.0.0.54, and what NetworkManager (NetworkManager.conf(5), `dns`) has set up.
    const char* systemd_resolved = "/run/systemd/resolve/resolv.conf";
    const char* network_manager = "/run/NetworkManager/no-stub-resolv.conf";
};

/// Knows the name servers of a POSIX system, and hears that its files were changed. Belongs to the loop's thread.
class DnsWatch {
public:
    /// Of a file, only so much is read: a line that goes beyond is not.
    static constexpr std::size_t file_size_max = 64 * 1024;

    /// `touched` is called after a file was changed, or may have been: call `read`. As not every change makes itself heard, call it every
    /// ten seconds too (`WakeWatch` has a tick): it costs some 20 µs.
    DnsWatch(Loop& loop, Delegate<void()> touched, const DnsFiles& files = {}) : files_(files), watch_(loop, touched) {}

    /// Puts the servers that are asked now in place of `state.dns_servers`; those of a link-local address get their scope from its
    /// interfaces. No file: no server. A file that cannot be read now (out of descriptors or memory, no permission) changes nothing.
    void read(NetworkState& state) {
        const char* const paths[] = {files_.resolv_conf, files_.systemd_resolved, files_.network_manager};
        watch_.watch(paths);  // first, so that nothing that comes after the reading is missed
        auto* buffer = static_cast<char*>(std::malloc(file_size_max));
        if (buffer == nullptr) return;
        Array<IpAddress> before;
        std::swap(before, state.dns_servers);
        TextView text;
        bool whole = read_servers(files_.resolv_conf, buffer, state, text);
        if (asks_only(state, [](const IpAddress& ip) { return ip == IpAddress::v4(127, 0, 0, 53) || ip == IpAddress::v4(127, 0, 0, 54); }))
            whole = whole && read_servers(files_.systemd_resolved, buffer, state, text);
        else if (contains(text, "NetworkManager") && asks_only(state, [](const IpAddress& ip) { return ip.is_loopback(); }))
            whole = whole && read_servers(files_.network_manager, buffer, state, text);
        if (!whole) std::swap(before, state.dns_servers);
        std::free(buffer);
    }

private:
    // `text` is what the file says. Where there is none, the servers stay. False when it cannot be read.
    static bool read_servers(const char* path, char* buffer, NetworkState& state, TextView& text) {
        const auto size = read_file(path, {reinterpret_cast<std::byte*>(buffer), file_size_max});
        if (!size) return size.error() == Error::system(ENOENT) || size.error() == Error::system(ENOTDIR);
        std::size_t whole_lines = *size;
        if (*size == file_size_max)
            while (whole_lines > 0 && buffer[whole_lines - 1] != '\n') --whole_lines;
        text = {buffer, whole_lines};
        return parse_resolv_conf(text, state);
    }
    static bool asks_only(const NetworkState& state, bool (*test)(const IpAddress&)) {
        for (const IpAddress& server : state.dns_servers)
            if (!test(server)) return false;
        return !state.dns_servers.empty();
    }
    static bool contains(TextView text, TextView what) {
        for (std::size_t i = 0; i + what.size() <= text.size(); ++i)
            if (TextView(text.data() + i, what.size()) == what) return true;
        return false;
    }

    DnsFiles files_;
    FileWatch watch_;
};

}  // namespace rejoin::inline v0_1
#endif

#include <bit>
#include <utility>

namespace rejoin::inline v0_1 {

/// Linux' rtnetlink protocol (netlink(7), rtnetlink(7)): its numbers, named as the kernel's headers name them, but in small letters,
/// which no header defines as macros.
namespace rtnetlink {

// nlmsg_type
inline constexpr std::uint16_t nlmsg_error = 2, nlmsg_done = 3, rtm_newlink = 16, rtm_dellink = 17, rtm_getlink = 18, rtm_newaddr = 20,
                               rtm_deladdr = 21, rtm_getaddr = 22, rtm_newroute = 24, rtm_delroute = 25, rtm_getroute = 26,
                               rtm_newrule = 32, rtm_delrule = 33;
// nlmsg_flags
inline constexpr std::uint16_t nlm_f_request = 0x1, nlm_f_dump_intr = 0x10, nlm_f_dump = 0x300;
// attributes
inline constexpr std::uint16_t nla_type_mask = 0x3fff, ifla_ifname = 3, ifa_address = 1, ifa_local = 2, ifa_flags = 8, rta_dst = 1,
                               rta_src = 2, rta_oif = 4, rta_gateway = 5, rta_prefsrc = 7, rta_mark = 16, rta_via = 18;
// ifi_flags
inline constexpr std::uint32_t iff_up = 0x1, iff_loopback = 0x8, iff_pointopoint = 0x10, iff_running = 0x40, iff_lower_up = 0x10000,
                               iff_dormant = 0x20000;
// ifa_flags
inline constexpr std::uint32_t ifa_f_temporary = 0x01, ifa_f_optimistic = 0x04, ifa_f_dadfailed = 0x08, ifa_f_deprecated = 0x20,
                               ifa_f_tentative = 0x40;
// rtm_flags
inline constexpr std::uint32_t rtnh_f_dead = 0x1, rtnh_f_linkdown = 0x10;
// families, and rtm_type
inline constexpr std::uint8_t af_unspec = 0, af_inet = 2, af_inet6 = 10, rtn_unicast = 1, rtn_local = 2;
/// Sizes of the fixed headers: nlmsghdr, rtattr, ifinfomsg, ifaddrmsg, rtmsg.
inline constexpr std::size_t nlmsghdr_size = 16, rtattr_size = 4, ifinfomsg_size = 16, ifaddrmsg_size = 8, rtmsg_size = 12;

}  // namespace rtnetlink

/// What one netlink message says. Of the parts, `kind` says which one is filled.
struct NetlinkUpdate {
    enum class Kind : std::uint8_t {
        interface_is,    ///< `interface_`: all that is known of it, new or not
        interface_gone,  ///< `interface_`
        address_is,      ///< `address`
        address_gone,    ///< `address`
        route_is,        ///< `route`: a route of the kernel's, or its answer to `route_query`
        routes_touched,  ///< a route went, or the rules that choose among tables changed: ask again
        end,             ///< a dump is complete, or a request was refused or acknowledged: `error`
    };
    Kind kind = Kind::end;
    bool interrupted = false;      ///< the dump it belongs to was overtaken by a change: ask again (NLM_F_DUMP_INTR)
    Family family = Family::none;  ///< of the routes in question; `none`: of either
    std::uint32_t sequence = 0;    ///< of the request that it answers, or that caused it; the kernel's own have 0
    std::int32_t error = 0;        ///< errno, or 0
    Interface interface_;
    InterfaceAddress address;
    Route route;
};

namespace detail {

/// An address attribute of 4 or 16 bytes, as its family has it; of family `none` when the size does not fit.
inline IpAddress netlink_address(Bytes payload, std::uint8_t family) {
    IpAddress ip;
    if (payload.size() != (family == rtnetlink::af_inet ? 4u : 16u)) return ip;
    std::memcpy(ip.bytes, payload.data(), payload.size());
    ip.family = family == rtnetlink::af_inet ? Family::v4 : Family::v6;
    return ip;
}

/// Calls `f(type, payload) -> bool` for each attribute; false when one does not fit into `attributes`, or `f` refuses it.
template <class F>
bool for_each_attribute(Bytes attributes, std::endian order, F f) {
    while (!attributes.empty()) {
        if (attributes.size() < rtnetlink::rtattr_size) return false;
        const std::size_t size = load<std::uint16_t>(attributes.data(), order);
        if (size < rtnetlink::rtattr_size || size > attributes.size()) return false;
        const auto type = static_cast<std::uint16_t>(load<std::uint16_t>(attributes.data() + 2, order) & rtnetlink::nla_type_mask);
        if (!f(type, attributes.subspan(rtnetlink::rtattr_size, size - rtnetlink::rtattr_size))) return false;
        const std::size_t next = (size + 3) & ~std::size_t{3};
        attributes = attributes.subspan(next < attributes.size() ? next : attributes.size());
    }
    return true;
}

inline bool decode_link(Bytes body, std::endian order, Interface& to) {
    using namespace rtnetlink;
    to.index = load<std::uint32_t>(body.data() + 4, order);
    const auto flags = load<std::uint32_t>(body.data() + 8, order);
    to.up = (flags & iff_up) != 0;
    // A carrier may carry nothing yet. RUNNING says that the operational state is up or unknown (netdevice(7), operstates.rst of the
    // kernel), also in messages that have no IFLA_OPERSTATE, as those of wireless statistics; dormant are Wi-Fi and 802.1X before their
    // keys.
    to.carrier = (flags & (iff_running | iff_lower_up | iff_dormant)) == (iff_running | iff_lower_up);
    to.loopback = (flags & iff_loopback) != 0;
    to.point_to_point = (flags & iff_pointopoint) != 0;
    return for_each_attribute(body.subspan(ifinfomsg_size), order, [&](std::uint16_t type, Bytes payload) {
        if (type != ifla_ifname) return true;
        std::size_t size = 0;
        while (size < payload.size() && payload[size] != std::byte{0}) ++size;
        to.name = Text<15>({reinterpret_cast<const char*>(payload.data()), size});
        return true;
    });
}

inline bool decode_address(Bytes body, std::endian order, InterfaceAddress& to) {
    using namespace rtnetlink;
    const auto family = static_cast<std::uint8_t>(body[0]);
    to.prefix_length = static_cast<std::uint8_t>(body[1]);
    auto flags = static_cast<std::uint32_t>(body[2]);
    to.interface_index = load<std::uint32_t>(body.data() + 4, order);
    bool local = false;
    const bool whole = for_each_attribute(body.subspan(ifaddrmsg_size), order, [&](std::uint16_t type, Bytes payload) {
        // On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL is ours.
        if (type == ifa_local || (type == ifa_address && !local)) {
            to.ip = netlink_address(payload, family);
            local = type == ifa_local;
            return to.ip.family != Family::none;
        }
        if (type == ifa_flags) {  // all of them; the header has room for eight
            if (payload.size() != 4) return false;
            flags = load<std::uint32_t>(payload.data(), order);
        }
        return true;
    });
    if (!whole || to.ip.family == Family::none) return false;
    if (to.ip.family == Family::v6 && to.ip.is_link_local()) to.ip.scope = to.interface_index;
    to.tentative = (flags & (ifa_f_tentative | ifa_f_optimistic)) == ifa_f_tentative;  // an optimistic one may be used (RFC 4429)
    to.duplicate = (flags & ifa_f_dadfailed) != 0;
    to.deprecated = (flags & ifa_f_deprecated) != 0;
    to.temporary = family == af_inet6 && (flags & ifa_f_temporary) != 0;  // in IPv4 the same bit says "secondary"
    return true;
}

inline bool decode_route(Bytes body, std::endian order, Route& to) {
    using namespace rtnetlink;
    const auto family = static_cast<std::uint8_t>(body[0]);
    const auto type = static_cast<std::uint8_t>(body[7]);
    const bool whole = for_each_attribute(body.subspan(rtmsg_size), order, [&](std::uint16_t attribute, Bytes payload) {
        switch (attribute) {
            case rta_oif:
                if (payload.size() != 4) return false;
                to.interface_index = load<std::uint32_t>(payload.data(), order);
                return true;
            case rta_gateway:
                to.gateway = netlink_address(payload, family);
                return to.gateway.family != Family::none;
            case rta_via:  // a gateway of the other family (RFC 8950)
                if (payload.size() < 2) return false;
                to.gateway = netlink_address(payload.subspan(2), static_cast<std::uint8_t>(load<std::uint16_t>(payload.data(), order)));
                return to.gateway.family != Family::none;
            case rta_prefsrc:
                to.source = netlink_address(payload, family);
                return to.source.family != Family::none;
            default:
                return true;
        }
    });
    if (!whole) return false;
    to.present = (type == rtn_unicast || type == rtn_local) &&  // the others refuse: unreachable, prohibit, blackhole
                 (load<std::uint32_t>(body.data() + 8, order) & (rtnh_f_dead | rtnh_f_linkdown)) == 0;
    if (!to.present) to = {};
    for (IpAddress* ip : {&to.gateway, &to.source})
        if (ip->family == Family::v6 && ip->is_link_local()) ip->scope = to.interface_index;
    return true;
}

/// Takes messages from the front of `datagram` up to and with the next one that concerns us: true, and `update` is what it says. False
/// when there is none.
[[gnu::cold]] inline Result<bool> next_update(Bytes& datagram, std::endian order, NetlinkUpdate& update) {
    using namespace rtnetlink;
    using Kind = NetlinkUpdate::Kind;
    while (!datagram.empty()) {
        if (datagram.size() < nlmsghdr_size) return Errc::malformed;
        const std::size_t size = load<std::uint32_t>(datagram.data(), order);
        const auto type = load<std::uint16_t>(datagram.data() + 4, order);
        const auto flags = load<std::uint16_t>(datagram.data() + 6, order);
        if (size < nlmsghdr_size || size > datagram.size()) return Errc::malformed;
        const Bytes body = datagram.subspan(nlmsghdr_size, size - nlmsghdr_size);
        const std::size_t next = (size + 3) & ~std::size_t{3};
        datagram = datagram.subspan(next < datagram.size() ? next : datagram.size());

        update = {};
        update.sequence = load<std::uint32_t>(body.data() - 8, order);
        update.interrupted = (flags & nlm_f_dump_intr) != 0;
        // The family, where there is one; it decides whether the rest of the message is ours to judge.
        const auto family = body.empty() ? af_unspec : static_cast<std::uint8_t>(body[0]);
        update.family = family == af_inet ? Family::v4 : family == af_inet6 ? Family::v6 : Family::none;
        const bool foreign = !body.empty() && family != af_inet && family != af_inet6;
        bool whole = true;
        switch (type) {
            case rtm_newlink:
            case rtm_dellink:
                if (family != af_unspec) continue;
                update.kind = type == rtm_newlink ? Kind::interface_is : Kind::interface_gone;
                whole = body.size() >= ifinfomsg_size && decode_link(body, order, update.interface_);
                break;
            case rtm_newaddr:
            case rtm_deladdr:
                if (foreign) continue;
                update.kind = type == rtm_newaddr ? Kind::address_is : Kind::address_gone;
                whole = body.size() >= ifaddrmsg_size && decode_address(body, order, update.address);
                break;
            case rtm_newroute:
                if (foreign) continue;
                update.kind = Kind::route_is;
                whole = body.size() >= rtmsg_size && decode_route(body, order, update.route);
                break;
            case rtm_delroute:
            case rtm_newrule:
            case rtm_delrule:
                update.kind = Kind::routes_touched;
                break;
            case nlmsg_error:
            case nlmsg_done:  // an error number, negative, which old kernels leave out of NLMSG_DONE
                update.kind = Kind::end;
                whole = body.size() >= 4 || (type == nlmsg_done && body.empty());
                if (whole && !body.empty()) update.error = static_cast<std::int32_t>(0 - load<std::uint32_t>(body.data(), order));
                break;
            default:
                continue;
        }
        if (!whole) return Errc::malformed;
        return true;
    }
    return false;
}

}  // namespace detail

/// Reads every message of one netlink datagram, whose numbers are in `order` (the kernel's own), and calls `sink(const NetlinkUpdate&)`
/// for each that concerns us; of all others only the length is looked at. Skipped are: other message types, interfaces seen as bridge
/// ports (their family is not AF_UNSPEC, and "removed" means from the bridge), addresses and routes of other families, unknown
/// attributes, and what nested ones contain. `malformed`: a message or attribute is shorter than it must be, or longer than what holds
/// it, or an address is missing or of the wrong size; what stood before has been delivered. Reads nothing outside `datagram`.
template <class Sink>
Result<void> decode_netlink(Bytes datagram, std::endian order, Sink&& sink) {
    for (NetlinkUpdate update;;) {
        auto more = detail::next_update(datagram, order, update);
        if (!more) return more.error();
        if (!*more) return {};
        sink(static_cast<const NetlinkUpdate&>(update));
    }
}

/// A request to the kernel, ready to be sent.
struct NetlinkRequest {
    std::byte data[96] = {};
    std::size_t size = 0;
    Bytes bytes() const { return {data, size}; }
};

namespace detail {

template <class T>
void put(NetlinkRequest& to, T value, std::endian order) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
        to.data[to.size++] = static_cast<std::byte>(value >> 8 * (order == std::endian::big ? sizeof(T) - 1 - i : i));
}
[[gnu::cold]] inline NetlinkRequest netlink_request(std::size_t body, std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                                                    std::endian order) {
    NetlinkRequest request;
    put(request, static_cast<std::uint32_t>(rtnetlink::nlmsghdr_size + body), order);
    put(request, type, order);
    put(request, static_cast<std::uint16_t>(flags | rtnetlink::nlm_f_request), order);
    put(request, sequence, order);
    request.size = rtnetlink::nlmsghdr_size + body;  // the sender's port stays 0: the kernel fills it in
    return request;
}

}  // namespace detail

/// Asks for every interface; the answers end with an update of kind `end`.
inline NetlinkRequest link_dump(std::uint32_t sequence, std::endian order) {
    return detail::netlink_request(rtnetlink::ifinfomsg_size, rtnetlink::rtm_getlink, rtnetlink::nlm_f_dump, sequence, order);
}
/// Asks for every address of every interface; the answers end with an update of kind `end`.
inline NetlinkRequest address_dump(std::uint32_t sequence, std::endian order) {
    return detail::netlink_request(rtnetlink::ifaddrmsg_size, rtnetlink::rtm_getaddr, rtnetlink::nlm_f_dump, sequence, order);
}
/// Asks which route the kernel would take to `destination`, of either family, for a socket bound to `source` (unless its family is none)
/// with the firewall mark `mark` (SO_MARK, socket(7)): rules may choose another table for either (ip-rule(8)). It answers with one update,
/// `route_is`, or `end` with the error that a connection would get. Looked up, not dumped: the cost does not grow with the table. A
/// destination with a scope is looked up on that interface. The source counts only if it is of the destination's family.
inline NetlinkRequest route_query(const IpAddress& destination, std::uint32_t sequence, std::endian order, const IpAddress& source = {},
                                  std::uint32_t mark = 0) {
    using namespace rtnetlink;
    NetlinkRequest request = detail::netlink_request(rtmsg_size, rtm_getroute, 0, sequence, order);
    const auto attribute = [&](std::uint16_t type, const std::uint8_t* bytes, std::size_t size) {
        detail::put(request, static_cast<std::uint16_t>(rtattr_size + size), order);
        detail::put(request, type, order);
        for (std::size_t i = 0; i < size; ++i) detail::put(request, bytes[i], order);
    };
    const auto number = [&](std::uint16_t type, std::uint32_t value) {
        detail::put(request, static_cast<std::uint16_t>(rtattr_size + 4), order);
        detail::put(request, type, order);
        detail::put(request, value, order);
    };
    request.data[nlmsghdr_size] = std::byte{destination.family == Family::v4 ? af_inet : af_inet6};
    request.data[nlmsghdr_size + 1] = static_cast<std::byte>(destination.size() * 8);  // rtm_dst_len, in bits
    attribute(rta_dst, destination.bytes, destination.size());
    if (source.family == destination.family) {
        request.data[nlmsghdr_size + 2] = static_cast<std::byte>(source.size() * 8);  // rtm_src_len
        attribute(rta_src, source.bytes, source.size());
    }
    if (destination.scope != 0) number(rta_oif, destination.scope);
    if (mark != 0) number(rta_mark, mark);
    const std::size_t size = std::exchange(request.size, 0);
    detail::put(request, static_cast<std::uint32_t>(size), order);  // nlmsg_len, now that it is known
    request.size = size;
    return request;
}

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// Whether a route leads over a link that is dead: without carrier the systems keep the route, and the packets die.
inline bool leads_nowhere(const Route& route, const NetworkState& in) {
    const Interface* const by = in.find_interface(route.interface_index);
    return by != nullptr && !by->running();
}

/// Takes over the routes that a system says it takes. Just after a link has died, a route over it may be the answer although there is
/// another way: it is not believed at once, so that connectivity is not said to be lost and regained. Pure.
class RouteDoubt {
public:
    /// For so long a route that leads nowhere is not believed.
    static constexpr Duration patience = Duration::milliseconds(10);

    /// Makes `answer` the state's route for a family (none, where it leads nowhere), and returns true; or false while it is not believed:
    /// ask again after `patience`.
    [[gnu::cold]] bool take(const Route& answer, Family family, TimePoint now, NetworkState& state) {
        TimePoint& dead_since = dead_since_[family == Family::v6];
        const bool dead = leads_nowhere(answer, state);
        if (!dead || dead_since == TimePoint::never()) dead_since = dead ? now : TimePoint::never();
        if (dead && now - dead_since < patience) return false;
        state.route_for(family) = dead ? Route() : answer;
        return true;
    }

private:
    TimePoint dead_since_[2] = {TimePoint::never(), TimePoint::never()};
};

}  // namespace rejoin::inline v0_1

#include <utility>

#if defined(__linux__)
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// A socket to the kernel's netlink (netlink(7)): owned, move-only, non-blocking, close-on-exec. It belongs to the network namespace
/// of the thread that opened it.
class NetlinkSocket {
public:
    NetlinkSocket() = default;
    NetlinkSocket(NetlinkSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    NetlinkSocket& operator=(NetlinkSocket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~NetlinkSocket() {
        if (fd_ >= 0) ::close(fd_);
    }

    /// A socket that hears what the kernel says unasked of links, addresses, rules and routes, both families. Of routes, only broad ones
    /// get through: a filter in the kernel drops the others, so that a routing table of any size costs nothing.
    static Result<NetlinkSocket> events() {
        constexpr unsigned groups[] = {RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
                                       RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE};
        std::uint32_t mask = 0;
        for (unsigned group : groups) mask |= 1u << (group - 1);
        return open(NETLINK_ROUTE, mask);
    }
    /// A socket for requests and their answers, which no filter may drop.
    static Result<NetlinkSocket> requests() { return open(NETLINK_ROUTE, 0); }
    /// The same to the packet filter's part of the kernel (nfnetlink), whose answers are there when `send` returns.
    static Result<NetlinkSocket> netfilter() { return open(NETLINK_NETFILTER, 0); }

    explicit operator bool() const { return fd_ >= 0; }
    int fd() const { return fd_; }

    Result<void> send(Bytes request) {
        sockaddr_nl kernel{};
        kernel.nl_family = AF_NETLINK;
        while (::sendto(fd_, request.data(), request.size(), 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel) < 0)
            if (errno != EINTR) return Error::system(errno);
        return {};
    }

    /// Reads one datagram. `would_block`: there is none. `too_large`: messages were lost, because the kernel's queue was full (ENOBUFS)
    /// or the datagram does not fit into `to`; what is known has to be read anew. What other processes send is thrown away.
    Result<std::size_t> receive(MutableBytes to) {
        for (;;) {
            sockaddr_nl from{};
            socklen_t size = sizeof from;
            // MSG_TRUNC: the true size is returned, even of what does not fit.
            const ssize_t n = ::recvfrom(fd_, to.data(), to.size(), MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &size);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0)
                return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block)
                       : errno == ENOBUFS                      ? Error(Errc::too_large)
                                                               : Error::system(errno);
            if (from.nl_pid != 0) continue;
            if (static_cast<std::size_t>(n) > to.size()) return Errc::too_large;
            return static_cast<std::size_t>(n);
        }
    }

    /// Reads the datagrams that are there, as many as `sizes` has room for, in one call: each has its share of `to`, one behind another.
    /// How many; the rest as above.
    template <std::size_t N>
    Result<std::size_t> receive(MutableBytes to, std::size_t (&sizes)[N]) {
        mmsghdr messages[N] = {};
        iovec rooms[N];
        sockaddr_nl from[N] = {};
        for (std::size_t i = 0; i < N; ++i) {
            rooms[i] = {to.data() + i * (to.size() / N), to.size() / N};
            messages[i].msg_hdr.msg_iov = &rooms[i];
            messages[i].msg_hdr.msg_iovlen = 1;
            messages[i].msg_hdr.msg_name = &from[i];
            messages[i].msg_hdr.msg_namelen = sizeof from[i];
        }
        int n = 0;
        while ((n = ::recvmmsg(fd_, messages, N, MSG_DONTWAIT, nullptr)) < 0)
            if (errno != EINTR)
                return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block)
                       : errno == ENOBUFS                      ? Error(Errc::too_large)
                                                               : Error::system(errno);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
            if ((messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) return Errc::too_large;
            sizes[i] = from[i].nl_pid == 0 ? messages[i].msg_len : 0;
        }
        return static_cast<std::size_t>(n);
    }

private:
    // Routes with a longer prefix than this lead to a part of the network. Those up to it are the default route, and the pieces that
    // virtual private networks lay over it without removing it: two of length 1, or up to the sixteen of length 4.
    static constexpr std::uint32_t broadest_prefix = 4;

    static Result<NetlinkSocket> open(int protocol, std::uint32_t groups) {
        NetlinkSocket made;
        made.fd_ = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
        if (made.fd_ < 0) return Error::system(errno);
        if (groups == 0) return made;
        // A filter loads big-endian numbers, and netlink's are the machine's own: hence htons.
        sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 1, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 2),
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, sizeof(nlmsghdr) + offsetof(rtmsg, rtm_dst_len)),
            BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, broadest_prefix, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, 0xffffffff),  // keep all of it
            BPF_STMT(BPF_RET | BPF_K, 0),           // drop it
        };
        const sock_fprog program{sizeof filter / sizeof filter[0], filter};
        sockaddr_nl address{};
        address.nl_family = AF_NETLINK;
        address.nl_groups = groups;
        if (::setsockopt(made.fd_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0 ||
            ::bind(made.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            return Error::system(errno);
        return made;
    }

    int fd_ = -1;
};

}  // namespace rejoin::inline v0_1
#endif
#include <utility>

#if defined(__linux__)
#include <net/if.h>

namespace rejoin::inline v0_1 {

/// The event source of Linux: one netlink socket a loop, however many pipes. A message becomes changes as soon as it is read, with
/// nothing in between; after it the kernel is asked which routes it takes now, since IPv4 routes vanish without a message. Belongs to
/// the loop's thread, and watches the network namespace in which that thread was when the source was made.
class Netlink {
public:
    /// Opens the sockets and reads the state: `error` says whether that went well. Use `of`, so that a loop has one.
    explicit Netlink(Loop& loop)
        : loop_(loop),
          watch_(loop, Delegate<void(Ready)>::to<&Netlink::hear>(this)),
          timer_(loop, Delegate<void()>::to<&Netlink::due>(this)),
          feed_(loop),
          dns_(loop, Delegate<void()>::to<&Netlink::read_dns>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&Netlink::read_dns>(this)) {
        error_ = open();
        if (!error_) catch_up();
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static Netlink& of(Loop& loop) { return loop.service<Netlink>(); }

    /// What is known now; changes only in the loop. While the changes that a message brought are delivered, the routes may still be those
    /// of before: theirs follow in the same turn.
    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the network cannot be watched (some sandboxes forbid it), or none; `state().known` is then false for good.
    Error error() const { return error_; }

    /// The route that the kernel would take to `destination` now, for a socket bound to `source` (of family `none`: not bound) and marked
    /// with `mark` (SO_MARK; 0: not marked), by all its rules and tables: one look-up, about 10 µs, and no packet. Not `present`: it would
    /// refuse, or send into a dead link. `invalid_argument`: no address, or a source of the other family; or `error()`; any other: the
    /// kernel could not be asked.
    Result<Route> route_to(const IpAddress& destination, const IpAddress& source = {}, std::uint32_t mark = 0) {
        if (source.family != Family::none && source.family != destination.family) return Errc::invalid_argument;
        auto route = ask_route(destination, source, mark);
        if (route && leads_nowhere(*route, state())) return Route();
        return route;
    }

private:
    // The kernel tells of a link or an address before it has taken the routes away, and is silent about those: so look again, in case it
    // was not through at once, nor soon.
    static constexpr Duration look_again[] = {Duration::milliseconds(1), Duration::milliseconds(10), Duration::milliseconds(100)};
    // However often messages are lost, everything is read again only so often.
    static constexpr Duration between_readings = Duration::milliseconds(100);
    // Datagrams that are read before the loop gets its turn.
    static constexpr int burst = 64;

    Error open() {
        auto events = NetlinkSocket::events();
        if (!events) return events.error();
        auto requests = NetlinkSocket::requests();
        if (!requests) return requests.error();
        events_ = std::move(*events);
        requests_ = std::move(*requests);
        return watch_.start(events_.fd(), Ready::readable).error();
    }

    struct Touched {
        bool any() const { return v4 || v6; }
        bool v4 = false, v6 = false;
    };

    void due() { lost_ ? hear(Ready::readable) : catch_up(); }

    void hear(Ready) {
        wake_.look();
        unsettled_ = false;
        // After a loss the kernel adds nothing until all is read: what is older than what will be read again must go first.
        bool drain = false;
        for (int n = 0; n < burst || drain; ++n) {
            auto size = events_.receive(buffer_);
            if (!size && size.error() != Errc::too_large) {
                lost_ = lost_ || size.error() != Errc::would_block;
                break;
            }
            NetworkState* const state = size ? feed_.edit() : nullptr;
            if (state == nullptr) {
                lost_ = drain = true;
                continue;
            }
            apply({buffer_, *size}, *state);
            if (feed_.publish()) unsettled_ = true;
            // Asked at once, and only for its family: a handler waits for it.
            if (const Touched touched = std::exchange(touched_, {}); touched.any() && !unsettled_ && !lost_) catch_up(touched);
        }
        if (!unsettled_ && !lost_) return;
        looks_ = 0;
        catch_up();
    }

    // Applies a datagram to the state.
    void apply(Bytes datagram, NetworkState& state) {
        using Kind = NetlinkUpdate::Kind;
        bool stored = true;
        auto decoded = decode_netlink(datagram, std::endian::native, [&](const NetlinkUpdate& update) {
            const InterfaceAddress& address = update.address;
            switch (update.kind) {
                case Kind::interface_is:
                    stored = state.put(update.interface_) && stored;
                    break;
                case Kind::interface_gone:
                    state.remove_interface(update.interface_.index);
                    break;
                case Kind::address_is:
                    // Routers announce lifetimes again and again. What is new may change a route's source, even if `diff` is silent.
                    if (const auto* is = state.find_address(address.interface_index, address.ip); is != nullptr && *is == address) break;
                    stored = state.put(address) && stored;
                    unsettled_ = true;
                    break;
                case Kind::address_gone:
                    state.remove(address);
                    unsettled_ = true;
                    break;
                default:
                    touched_.v4 = touched_.v4 || update.family != Family::v6;
                    touched_.v6 = touched_.v6 || update.family != Family::v4;
            }
        });
        if (!decoded || !stored) lost_ = true;
    }

    // Brings up to date what no message tells: all of it when messages were lost, and the routes in any case, of these families.
    [[gnu::cold]] void catch_up(Touched of = {true, true}) {
        const TimePoint now = loop_.now();
        NetworkState fresh;
        if (lost_ && now >= next_reading_) {
            next_reading_ = now + between_readings;
            const Error error = read_all(fresh).error();
            if (!state().known && error.domain() == Error::Domain::system) return give_up(error);
            lost_ = static_cast<bool>(error);
        }
        if (lost_) timer_.at(next_reading_);
        NetworkState* const is = fresh.known || state().known ? feed_.edit() : nullptr;
        if (is == nullptr) return;
        if (fresh.known) {
            std::swap(is->interfaces, fresh.interfaces);
            std::swap(is->addresses, fresh.addresses);
            is->known = true;
            dns_.read(*is);
        }
        bool doubtful = false;
        for (Family family : {Family::v4, Family::v6}) {
            if (!(family == Family::v4 ? of.v4 : of.v6)) continue;
            const auto answer = ask_route(family == Family::v4 ? internet_v4 : internet_v6);
            doubtful = !(answer && doubt_.take(*answer, family, now, *is)) || doubtful;
        }
        const bool looks_due = looks_ < sizeof look_again / sizeof look_again[0];
        if (!lost_ && looks_due && of.v4 && of.v6)
            timer_.after(look_again[looks_++]);
        else if (!lost_ && !looks_due && doubtful)
            timer_.after(RouteDoubt::patience);
        feed_.publish();
    }

    void read_dns() {
        NetworkState* const is = state().known ? feed_.edit() : nullptr;
        if (is == nullptr) return;
        dns_.read(*is);
        feed_.publish();
    }

    Result<Route> ask_route(const IpAddress& destination, const IpAddress& source = {}, std::uint32_t mark = 0) {
        if (destination.family == Family::none) return Errc::invalid_argument;
        if (error_) return error_;
        Route route;  // stays absent when the kernel refuses: ENETUNREACH, or what a route of type prohibit or blackhole says
        auto asked = ask(route_query(destination, ++sequence_, std::endian::native, source, mark), [&](const NetlinkUpdate& update) {
            if (update.kind == NetlinkUpdate::Kind::route_is) route = update.route;
        });
        if (!asked) return asked.error();
        return route;
    }

    void give_up(Error error) {
        error_ = error;
        timer_.cancel();
        watch_.stop();
        events_ = NetlinkSocket();
    }

    // `cancelled`: a change overtook the reading.
    Result<void> read_all(NetworkState& to) {
        Error error;
        const auto store = [&](const NetlinkUpdate& update) {
            bool stored = true;
            if (update.kind == NetlinkUpdate::Kind::interface_is) stored = to.put(update.interface_);
            if (update.kind == NetlinkUpdate::Kind::address_is) stored = to.put(update.address);
            if (!stored) error = Errc::out_of_memory;
            if (update.interrupted) error = Errc::cancelled;
            if (update.error != 0) error = Error::system(update.error);
        };
        if (auto links = ask(link_dump(++sequence_, std::endian::native), store); !links) return links;
        if (auto addresses = ask(address_dump(++sequence_, std::endian::native), store); !addresses) return addresses;
        to.known = !error;
        return error;
    }

    // Sends a request and gives each update of its answer to `sink`, a refusal included. The kernel answers while it takes the request, so
    // nothing is waited for.
    template <class Sink>
    [[gnu::cold]] Result<void> ask(const NetlinkRequest& request, Sink sink) {
        if (auto sent = requests_.send(request.bytes()); !sent) return sent;
        for (bool end = false; !end;) {
            auto size = requests_.receive(buffer_);
            Result<void> read = size.error();
            if (size)
                read = decode_netlink({buffer_, *size}, std::endian::native, [&](const NetlinkUpdate& update) {
                    if (update.sequence != sequence_) return;
                    end = end || update.kind == NetlinkUpdate::Kind::end || update.kind == NetlinkUpdate::Kind::route_is;
                    sink(update);
                });
            if (!read) {
                drain();
                return read;
            }
        }
        return {};
    }
    // Reads the rest of an answer that is given up: the kernel makes no other dump before that.
    [[gnu::cold]] void drain() {
        for (auto size = requests_.receive(buffer_); size || size.error() == Errc::too_large;) size = requests_.receive(buffer_);
    }

    Loop& loop_;
    NetlinkSocket events_, requests_;
    Loop::Watch watch_;  // after the sockets: it stops before they are closed
    Loop::Timer timer_;
    ChangeFeed feed_;
    DnsWatch dns_;
    WakeWatch wake_;
    Error error_;
    TimePoint next_reading_;
    RouteDoubt doubt_;
    std::uint32_t sequence_ = 0;
    std::uint8_t looks_ = sizeof look_again / sizeof look_again[0];  // none is due
    Touched touched_;                                                // a message said that routes of these families changed
    bool unsettled_ = false;                                         // a message said what may make routes change without one
    bool lost_ = true;                                               // nothing has been read yet
    // The kernel's dumps come in pieces of up to 32 KiB when there is room for them, and no message of its own comes near that. Whoever
    // reads has done with it before anybody else is called.
    std::byte buffer_[32 * 1024];
};

// The decoder's numbers are the system's.
static_assert([] {
    using namespace rtnetlink;
    return nlmsg_error == NLMSG_ERROR && nlmsg_done == NLMSG_DONE && rtm_newlink == RTM_NEWLINK && rtm_dellink == RTM_DELLINK &&
           rtm_getlink == RTM_GETLINK && rtm_newaddr == RTM_NEWADDR && rtm_deladdr == RTM_DELADDR && rtm_getaddr == RTM_GETADDR &&
           rtm_newroute == RTM_NEWROUTE && rtm_delroute == RTM_DELROUTE && rtm_getroute == RTM_GETROUTE && rtm_newrule == RTM_NEWRULE &&
           rtm_delrule == RTM_DELRULE && nlm_f_request == NLM_F_REQUEST && nlm_f_dump_intr == NLM_F_DUMP_INTR && nlm_f_dump == NLM_F_DUMP &&
           nla_type_mask == static_cast<std::uint16_t>(NLA_TYPE_MASK) && ifla_ifname == IFLA_IFNAME && ifa_address == IFA_ADDRESS &&
           ifa_local == IFA_LOCAL && ifa_flags == IFA_FLAGS && rta_dst == RTA_DST && rta_src == RTA_SRC && rta_mark == RTA_MARK &&
           rta_oif == RTA_OIF && rta_gateway == RTA_GATEWAY && rta_prefsrc == RTA_PREFSRC && rta_via == RTA_VIA && iff_up == IFF_UP &&
           iff_loopback == IFF_LOOPBACK && iff_pointopoint == IFF_POINTOPOINT && ifa_f_optimistic == IFA_F_OPTIMISTIC &&
           ifa_f_dadfailed == IFA_F_DADFAILED && ifa_f_deprecated == IFA_F_DEPRECATED && ifa_f_temporary == IFA_F_TEMPORARY &&
           iff_running == IFF_RUNNING && ifa_f_tentative == IFA_F_TENTATIVE && rtnh_f_dead == RTNH_F_DEAD &&
           rtnh_f_linkdown == RTNH_F_LINKDOWN && af_unspec == AF_UNSPEC && af_inet == AF_INET && af_inet6 == AF_INET6 &&
           rtn_unicast == RTN_UNICAST && rtn_local == RTN_LOCAL && nlmsghdr_size == sizeof(nlmsghdr) && rtattr_size == sizeof(rtattr) &&
           ifinfomsg_size == sizeof(ifinfomsg) && ifaddrmsg_size == sizeof(ifaddrmsg) && rtmsg_size == sizeof(rtmsg);
}());

}  // namespace rejoin::inline v0_1
#endif

namespace rejoin::inline v0_1 {

/// Reads the text of Linux' /proc/net/if_inet6, `address index prefix_length scope flags name` a line, all but the name in hexadecimal,
/// and calls `sink(const InterfaceAddress&, TextView name)` for each that makes sense. Any bytes will do. Pure.
template <class Sink>
[[gnu::cold]] void parse_if_inet6(TextView text, Sink&& sink) {
    std::size_t at = 0;
    const auto skip_blanks = [&] {
        while (at < text.size() && text[at] == ' ') ++at;
    };
    const auto digit = [&]() -> int {
        const char c = at < text.size() ? text[at] : ' ';
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    };
    const auto number = [&] {
        std::uint32_t value = 0;
        skip_blanks();
        for (int n = 0; digit() >= 0 && n < 8; ++at, ++n) value = value << 4 | static_cast<std::uint32_t>(digit());
        return value;
    };
    while (at < text.size()) {
        InterfaceAddress address;
        address.ip.family = Family::v6;
        int nibbles = 0;
        for (; nibbles < 32 && digit() >= 0; ++at, ++nibbles)
            address.ip.bytes[nibbles / 2] = static_cast<std::uint8_t>(address.ip.bytes[nibbles / 2] << 4 | digit());
        address.interface_index = number();
        const std::uint32_t length = number();
        number();  // the scope, which the address shows
        const std::uint32_t flags = number();
        skip_blanks();
        const std::size_t name = at;
        while (at < text.size() && text[at] != '\n') ++at;
        if (nibbles == 32 && address.interface_index != 0 && length <= 128 && at > name) {
            address.prefix_length = static_cast<std::uint8_t>(length);
            if (address.ip.is_link_local()) address.ip.scope = address.interface_index;
            address.temporary = (flags & 0x01) != 0;     // IFA_F_TEMPORARY, as all of linux/if_addr.h
            address.duplicate = (flags & 0x08) != 0;     // IFA_F_DADFAILED
            address.deprecated = (flags & 0x20) != 0;    // IFA_F_DEPRECATED
            address.tentative = (flags & 0x44) == 0x40;  // IFA_F_TENTATIVE without IFA_F_OPTIMISTIC
            sink(static_cast<const InterfaceAddress&>(address), TextView(text.data() + name, at - name));
        }
        ++at;
    }
}

}  // namespace rejoin::inline v0_1

#if defined(__linux__)
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdlib>

namespace rejoin::inline v0_1 {

namespace detail {

// Calls `use(TextView)` with the first 64 KiB of a file: some hundreds of lines. False when it cannot be read.
template <class Use>
bool with_file(const char* path, Use use) {
    constexpr std::size_t limit = 64 * 1024;
    auto* const buffer = static_cast<char*>(std::malloc(limit));
    if (buffer == nullptr) return false;
    const auto size = read_file(path, {reinterpret_cast<std::byte*>(buffer), limit});
    if (size) use(TextView(buffer, *size));
    std::free(buffer);
    return static_cast<bool>(size);
}

inline bool put_name(ifreq& request, TextView name) {
    if (name.size() == 0 || name.size() >= sizeof request.ifr_name) return false;
    request = {};
    std::memcpy(request.ifr_name, name.data(), name.size());
    return true;
}

// Puts the IPv6 addresses; if `known`, only in place of those that are there. False when memory is out.
inline bool put_proc_addresses(NetworkState& to, bool known) {
    bool stored = true;
    with_file("/proc/net/if_inet6", [&](TextView text) {
        parse_if_inet6(text, [&](const InterfaceAddress& address, TextView) {
            if (!known || to.find_address(address.interface_index, address.ip) != nullptr) stored = to.put(address) && stored;
        });
    });
    return stored;
}

}  // namespace detail

/// Lists interfaces and addresses without netlink, for where that is forbidden: netdevice(7) and /proc/net. False when that is, too.
[[gnu::cold]] inline bool read_proc_interfaces(NetworkState& to) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    bool stored = true;
    ifreq request{};
    // Two lines of headings, then `  name: numbers`.
    const bool listed = detail::with_file("/proc/net/dev", [&](TextView text) {
        for (std::size_t at = 0; at < text.size(); ++at) {
            while (at < text.size() && text[at] == ' ') ++at;
            const std::size_t name = at;
            while (at < text.size() && text[at] != ':' && text[at] != '\n' && text[at] != ' ') ++at;
            const bool is_name = at < text.size() && text[at] == ':';
            Interface i;
            if (is_name && detail::put_name(request, {text.data() + name, at - name}) && ::ioctl(fd, SIOCGIFINDEX, &request) == 0) {
                i.index = static_cast<std::uint32_t>(request.ifr_ifindex);
                i.name = TextView(request.ifr_name);
                if (::ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
                    const auto flags = static_cast<unsigned short>(request.ifr_flags);
                    i.up = (flags & IFF_UP) != 0;
                    i.carrier = (flags & IFF_RUNNING) != 0;
                    i.loopback = (flags & IFF_LOOPBACK) != 0;
                    i.point_to_point = (flags & IFF_POINTOPOINT) != 0;
                    stored = to.put(i) && stored;
                }
            }
            while (at < text.size() && text[at] != '\n') ++at;
        }
    });
    ifreq entries[64];
    ifconf all{};
    all.ifc_len = sizeof entries;
    all.ifc_req = entries;
    if (::ioctl(fd, SIOCGIFCONF, &all) == 0)
        for (int n = 0; n < all.ifc_len / static_cast<int>(sizeof(ifreq)); ++n) {
            request = entries[n];
            InterfaceAddress address;
            address.ip.family = Family::v4;
            sockaddr_in in{};
            std::memcpy(&in, &request.ifr_addr, sizeof in);
            std::memcpy(address.ip.bytes, &in.sin_addr, 4);
            if (::ioctl(fd, SIOCGIFNETMASK, &request) != 0) continue;
            std::memcpy(&in, &request.ifr_netmask, sizeof in);
            for (std::uint32_t mask = ntohl(in.sin_addr.s_addr); (mask & 0x80000000u) != 0; mask <<= 1) ++address.prefix_length;
            if (::ioctl(fd, SIOCGIFINDEX, &request) != 0) continue;
            address.interface_index = static_cast<std::uint32_t>(request.ifr_ifindex);
            stored = to.put(address) && stored;
        }
    ::close(fd);
    return detail::put_proc_addresses(to, false) && listed && stored;
}

/// Adds what getifaddrs(3) does not tell of IPv6 addresses: whether they are usable, deprecated or temporary.
inline void mark_proc_addresses(NetworkState& state) { static_cast<void>(detail::put_proc_addresses(state, true)); }

}  // namespace rejoin::inline v0_1
#elif !defined(_WIN32)
namespace rejoin::inline v0_1 {

inline bool read_proc_interfaces(NetworkState&) { return false; }
inline void mark_proc_addresses(NetworkState&) {}

}  // namespace rejoin::inline v0_1
#endif

#include <bit>

#include <cstdint>
#include <span>

namespace rejoin::inline v0_1 {

/// Routing sockets (route(4)) of macOS, FreeBSD, NetBSD and OpenBSD: the numbers that all of them share, named as their headers name
/// them, but in small letters, which no header defines as macros.
namespace rtsock {

// rtm_type
inline constexpr std::uint8_t rtm_add = 1, rtm_delete = 2, rtm_change = 3, rtm_get = 4;
// rtm_addrs, and the order in which the addresses follow a header
inline constexpr std::uint32_t rta_dst = 0x1, rta_netmask = 0x4, rta_ifp = 0x10;
inline constexpr std::size_t rtax_dst = 0, rtax_gateway = 1, rtax_netmask = 2, rtax_ifp = 4, rtax_ifa = 5;
// rtm_flags
inline constexpr std::uint32_t rtf_up = 0x1, rtf_gateway = 0x2, rtf_host = 0x4, rtf_reject = 0x8, rtf_blackhole = 0x1000;
// ifm_flags
inline constexpr std::uint32_t iff_up = 0x1, iff_loopback = 0x8, iff_pointopoint = 0x10, iff_running = 0x40;
// families: that of IPv6 is each system's own
inline constexpr std::uint8_t af_inet = 2, af_link = 18;
// ifan_what
inline constexpr std::uint16_t ifan_departure = 1;
// flags of an IPv6 address (netinet6/in6_var.h)
inline constexpr std::uint32_t in6_iff_tentative = 0x02, in6_iff_duplicated = 0x04, in6_iff_detached = 0x08, in6_iff_deprecated = 0x10,
                               in6_iff_temporary = 0x80;
// and NetBSD's of an IPv4 address (netinet/in_var.h)
inline constexpr std::uint32_t in_iff_tentative = 0x01, in_iff_duplicated = 0x02, in_iff_detached = 0x04, in_iff_trytentative = 0x08;

}  // namespace rtsock

/// Where the fields of one type of message stand: offsets in bytes. 0 is a field that it does not have.
struct RouteMessageLayout {
    enum class What : std::uint8_t {
        change,        ///< of a route
        answer,        ///< to RTM_GET
        interface_,    ///< as it is
        address,       ///< as it is
        address_gone,  ///<
        announcement,  ///< an interface came or went
        overrun,       ///< messages were lost
    };
    std::uint8_t type;
    What what;
    std::uint8_t header;             ///< size; the least one, where the message says it itself
    std::uint8_t header_length = 0;  ///< u16: the size of the header
    std::uint8_t addrs = 0;          ///< u32: which addresses follow the header
    std::uint8_t flags = 0;          ///< u32
    std::uint8_t index = 0;          ///< u16: of the interface
    std::uint8_t error = 0;          ///< u32: errno
    std::uint8_t process = 0;        ///< u32: who asked, and
    std::uint8_t sequence = 0;       ///< u32: what he called it
    std::uint8_t table = 0;          ///< u16: the routing table
    std::uint8_t data = 0;           ///< u16: the offset of if_data, to which `link_state` is then relative
    std::uint8_t link_state = 0;
    std::uint8_t link_state_size = 1;
    std::uint8_t name = 0;           ///< 16 bytes
    std::uint8_t announced = 0;      ///< u16: whether it came or went
    std::uint8_t address_flags = 0;  ///< u32: in6_iff_, in_iff_
};

/// One system's form of the messages: all that a decoder has to know of it.
struct RouteDialect {
    std::uint8_t version;       ///< RTM_VERSION
    std::uint8_t af_inet6;      ///<
    std::uint8_t alignment;     ///< of the addresses behind a header
    std::uint8_t link_up;       ///< link states from here on are up, 0 is not known, and the others are down
    std::uint32_t rtf_ifscope;  ///< the flag of a route that counts only for what is bound to its interface; 0: there are none
    bool in_iff;                ///< addresses come with their flags, those of IPv4 too
    bool embeds_scope;          ///< requests have the scope of a link-local address inside it
    bool makes_noise;           ///< some interfaces are the system's own: `noise_interface`
    std::span<const RouteMessageLayout> messages;
};

namespace detail {

using RouteWhat = RouteMessageLayout::What;

// rt_msghdr
constexpr RouteMessageLayout bsd_route(std::uint8_t type, RouteWhat what, std::uint8_t header) {
    return {.type = type, .what = what, .header = header, .addrs = 12, .flags = 8, .index = 4, .error = 24, .process = 16, .sequence = 20};
}
constexpr RouteMessageLayout openbsd_route(std::uint8_t type, RouteWhat what) {
    return {.type = type,
            .what = what,
            .header = 0x60,
            .header_length = 4,
            .addrs = 12,
            .flags = 16,
            .index = 6,
            .error = 32,
            .process = 24,
            .sequence = 28,
            .table = 8};
}
// ifa_msghdr
constexpr RouteMessageLayout bsd_address(std::uint8_t type, RouteWhat what, std::uint8_t header = 20, std::uint8_t index = 12,
                                         std::uint8_t header_length = 0) {
    return {.type = type, .what = what, .header = header, .header_length = header_length, .addrs = 4, .flags = 8, .index = index};
}
constexpr RouteMessageLayout netbsd_address(std::uint8_t type, RouteWhat what) {
    return {.type = type, .what = what, .header = 0x20, .addrs = 12, .flags = 8, .index = 4, .address_flags = 20};
}
constexpr RouteMessageLayout openbsd_address(std::uint8_t type, RouteWhat what) {
    return {.type = type, .what = what, .header = 0x18, .header_length = 4, .addrs = 12, .flags = 16, .index = 6};
}

// What is not in these lists is passed over. Left out on purpose: RTM_MISS, of which macOS sends storms; RTM_LOSING, which is one
// connection's suspicion and changes nothing; RTM_REDIRECT, which is about a single host; RTM_RESOLVE and the link-layer ones, which are
// about neighbours; multicast groups; NetBSD's old forms of RTM_IFINFO, which come beside the new one.
inline constexpr RouteMessageLayout macos_messages[] = {
    bsd_route(rtsock::rtm_add, RouteWhat::change, 0x5c),
    bsd_route(rtsock::rtm_delete, RouteWhat::change, 0x5c),
    bsd_route(rtsock::rtm_change, RouteWhat::change, 0x5c),
    bsd_route(rtsock::rtm_get, RouteWhat::answer, 0x5c),
    bsd_address(0xc, RouteWhat::address),
    bsd_address(0xd, RouteWhat::address_gone),
    {.type = 0xe, .what = RouteWhat::interface_, .header = 0x70, .addrs = 4, .flags = 8, .index = 12},
    {.type = 0x12, .what = RouteWhat::interface_, .header = 0xa0, .addrs = 4, .flags = 8, .index = 12},  // RTM_IFINFO2
};

template <std::uint8_t RouteHeader>
inline constexpr RouteMessageLayout freebsd_messages[] = {
    bsd_route(rtsock::rtm_add, RouteWhat::change, RouteHeader),
    bsd_route(rtsock::rtm_delete, RouteWhat::change, RouteHeader),
    bsd_route(rtsock::rtm_change, RouteWhat::change, RouteHeader),
    bsd_route(rtsock::rtm_get, RouteWhat::answer, RouteHeader),
    bsd_address(0xc, RouteWhat::address),
    bsd_address(0xd, RouteWhat::address_gone),
    {.type = 0xe, .what = RouteWhat::interface_, .header = 0xa8, .addrs = 4, .flags = 8, .index = 12, .link_state = 20},
    {.type = 0x11, .what = RouteWhat::announcement, .header = 0x18, .index = 4, .name = 6, .announced = 22},
};
// if_msghdrl and ifa_msghdrl: NET_RT_IFLISTL alone has them, under the same types and version.
inline constexpr RouteMessageLayout freebsd_list_messages[] = {
    bsd_address(0xc, RouteWhat::address, 24, 12, 16),
    {.type = 0xe,
     .what = RouteWhat::interface_,
     .header = 24,
     .header_length = 16,
     .addrs = 4,
     .flags = 8,
     .index = 12,
     .data = 18,
     .link_state = 4},
};

inline constexpr RouteMessageLayout netbsd_messages[] = {
    bsd_route(rtsock::rtm_add, RouteWhat::change, 0x78),
    bsd_route(rtsock::rtm_delete, RouteWhat::change, 0x78),
    bsd_route(rtsock::rtm_change, RouteWhat::change, 0x78),
    bsd_route(rtsock::rtm_get, RouteWhat::answer, 0x78),
    bsd_address(0xc, RouteWhat::address, 0x18, 16),  // before NetBSD 8
    bsd_address(0xd, RouteWhat::address_gone, 0x18, 16),
    {.type = 0x10, .what = RouteWhat::announcement, .header = 0x18, .index = 4, .name = 6, .announced = 22},
    {.type = 0x14,
     .what = RouteWhat::interface_,
     .header = 0x98,
     .addrs = 4,
     .flags = 8,
     .index = 12,
     .link_state = 20,
     .link_state_size = 4},
    netbsd_address(0x16, RouteWhat::address),
    netbsd_address(0x17, RouteWhat::address_gone),
    netbsd_address(0x18, RouteWhat::address),  // RTM_CHGADDR
};

inline constexpr RouteMessageLayout openbsd_messages[] = {
    openbsd_route(rtsock::rtm_add, RouteWhat::change),
    openbsd_route(rtsock::rtm_delete, RouteWhat::change),
    openbsd_route(rtsock::rtm_change, RouteWhat::change),
    openbsd_route(rtsock::rtm_get, RouteWhat::answer),
    openbsd_address(0xc, RouteWhat::address),
    openbsd_address(0xd, RouteWhat::address_gone),
    {.type = 0xe, .what = RouteWhat::interface_, .header = 28, .header_length = 4, .addrs = 12, .flags = 16, .index = 6, .link_state = 27},
    {.type = 0xf, .what = RouteWhat::announcement, .header = 0x1a, .header_length = 4, .index = 6, .name = 10, .announced = 8},
    {.type = 0x10, .what = RouteWhat::overrun, .header = 4},
    openbsd_address(0x14, RouteWhat::address),  // RTM_CHGADDRATTR
};

}  // namespace detail

/// The forms. FreeBSD's and OpenBSD's depend on the *kernel's* `long`, which `_32` says is one of four bytes; `freebsd_list` is that of
/// its sysctl NET_RT_IFLISTL.
namespace route_dialect {

inline constexpr RouteDialect macos{5, 30, 4, 1, 0x1000000, false, true, true, detail::macos_messages};
inline constexpr RouteDialect freebsd{5, 28, 8, 2, 0, false, false, false, detail::freebsd_messages<0x98>};
inline constexpr RouteDialect freebsd_32{5, 28, 4, 2, 0, false, false, false, detail::freebsd_messages<0x5c>};
inline constexpr RouteDialect freebsd_list{5, 28, 8, 2, 0, false, false, false, detail::freebsd_list_messages};
inline constexpr RouteDialect freebsd_list_32{5, 28, 4, 2, 0, false, false, false, detail::freebsd_list_messages};
inline constexpr RouteDialect netbsd{4, 24, 8, 2, 0, true, true, false, detail::netbsd_messages};
inline constexpr RouteDialect openbsd{5, 24, 8, 4, 0, false, true, false, detail::openbsd_messages};
inline constexpr RouteDialect openbsd_32{5, 24, 4, 4, 0, false, true, false, detail::openbsd_messages};

}  // namespace route_dialect

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// What one message of a routing socket says. Of the parts, `kind` says which one is filled.
struct RouteUpdate {
    enum class Kind : std::uint8_t {
        interface_is,    ///< `interface_`: all that is known of it, but for the name, which only some messages have
        interface_gone,  ///< `interface_`
        address_is,      ///< `address`; without `flags_told`, whether it is being checked, a duplicate and so on must be asked for
        address_gone,    ///< `address`
        routes_touched,  ///< a route to all or most of the world came, went or changed: ask again
        route_is,        ///< `route`: the answer to RTM_GET, to whoever asked
        overrun,         ///< more happened than is told: messages were lost, or an interface came. Read everything again
    };
    Kind kind = Kind::overrun;
    bool flags_told = false;
    std::uint32_t process = 0;   ///< of an answer: the id of the process that asked, and
    std::uint32_t sequence = 0;  ///< what it called the question
    Interface interface_;
    InterfaceAddress address;
    Route route;
};

/// Whether macOS keeps an interface of this name for its own ends: Wi-Fi's side channels (awdl, llw, ap), tunnels (utun, ipsec, gif,
/// stf), and the links to its own coprocessors and to hosts on USB (anpi, XHC). A VPN's utun counts when a route leads over it, which is
/// for the state to say.
inline bool noise_interface(TextView name) {
    static constexpr TextView kinds[] = {"awdl", "llw", "ap", "utun", "ipsec", "gif", "stf", "anpi", "XHC"};
    for (TextView kind : kinds) {
        const std::size_t size = kind.size();
        // Followed by a number, or nothing: "ap1", not "apple0".
        if (name.size() >= size && TextView(name.data(), size) == kind && (name.size() == size || name[size] <= '9')) return true;
    }
    return false;
}

/// Takes over what the system says of an address's check and age: in6_iff_ flags, and in_iff_ ones for IPv4, where `dialect` has them.
inline void set_address_flags(const RouteDialect& dialect, std::uint32_t flags, InterfaceAddress& to) {
    using namespace rtsock;
    if (to.ip.family == Family::v4) {
        if (!dialect.in_iff) return;
        to.duplicate = (flags & in_iff_duplicated) != 0;
        to.tentative = !to.duplicate && (flags & (in_iff_tentative | in_iff_trytentative | in_iff_detached)) != 0;
        return;
    }
    // NetBSD detaches the addresses of a link without carrier, and checks them anew before they may be used again. What the others call
    // detached may be used.
    const std::uint32_t unchecked = dialect.in_iff ? in6_iff_tentative | in6_iff_detached : in6_iff_tentative;
    to.duplicate = (flags & in6_iff_duplicated) != 0;
    to.tentative = !to.duplicate && (flags & unchecked) != 0;
    to.deprecated = (flags & in6_iff_deprecated) != 0;
    to.temporary = (flags & in6_iff_temporary) != 0;
}

namespace detail {

/// The addresses behind a header, as far as anybody wants them. The first six have the same numbers in all dialects.
struct RouteAddresses {
    Bytes at[6];
    bool has_mask = false;
};

inline bool split_addresses(const RouteDialect& dialect, Bytes body, std::uint32_t which, RouteAddresses& to) {
    to.has_mask = (which & rtsock::rta_netmask) != 0;
    for (std::size_t i = 0; i < 6; ++i) {
        if ((which >> i & 1) == 0) continue;
        if (body.empty()) return false;
        const auto size = static_cast<std::size_t>(body[0]);  // sa_len
        if (size > body.size()) return false;
        to.at[i] = body.first(size);
        const std::size_t unit = dialect.alignment;
        const std::size_t next = size == 0 ? unit : (size + unit - 1) / unit * unit;
        body = body.subspan(next < body.size() ? next : body.size());
    }
    return true;
}

inline Family family_of(const RouteDialect& dialect, Bytes address) {
    if (address.size() < 2) return Family::none;
    const auto family = static_cast<std::uint8_t>(address[1]);
    return family == rtsock::af_inet ? Family::v4 : family == dialect.af_inet6 ? Family::v6 : Family::none;
}

/// sockaddr_in or sockaddr_in6; any other, or one cut short, is of family `none`. A link-local one has its scope inside (the kernel's
/// own form), or beside it, or takes that of the interface it is told of.
inline IpAddress route_address(const RouteDialect& dialect, Bytes address, std::endian order, std::uint32_t interface_index) {
    IpAddress ip;
    const Family family = family_of(dialect, address);
    const std::size_t at = family == Family::v4 ? 4 : 8, size = family == Family::v4 ? 4 : 16;
    if (family == Family::none || address.size() < at + size) return ip;
    std::memcpy(ip.bytes, address.data() + at, size);
    ip.family = family;
    if (family == Family::v4 || !ip.is_link_local()) return ip;
    ip.scope = static_cast<std::uint32_t>(ip.bytes[2] << 8 | ip.bytes[3]);
    ip.bytes[2] = ip.bytes[3] = 0;
    if (ip.scope == 0 && address.size() >= 28) ip.scope = load<std::uint32_t>(address.data() + 24, order);
    if (ip.scope == 0) ip.scope = interface_index;
    return ip;
}

/// The leading ones of a mask, which ends where only zeros follow, and whose family, often missing, is that of what it masks.
inline std::uint8_t prefix_length(const RouteAddresses& addresses, Family family) {
    const std::size_t at = family == Family::v4 ? 4 : 8, size = family == Family::v4 ? 4 : 16;
    if (!addresses.has_mask) return static_cast<std::uint8_t>(size * 8);
    const Bytes mask = addresses.at[rtsock::rtax_netmask];
    std::size_t ones = 0;
    for (std::size_t i = at; i < at + size && i < mask.size() && ones == (i - at) * 8; ++i)
        ones += static_cast<std::size_t>(std::countl_one(static_cast<std::uint8_t>(mask[i])));
    return static_cast<std::uint8_t>(ones);
}

inline void set_name(const RouteDialect& dialect, TextView name, Interface& to) {
    to.name = Text<15>(name);
    to.noise = dialect.makes_noise && noise_interface(name);
}

/// What RTAX_IFP says: sockaddr_dl, the same everywhere. False when the name does not fit into it.
inline bool decode_link_address(const RouteDialect& dialect, Bytes link, std::endian order, Interface& to) {
    if (link.size() < 8 || static_cast<std::uint8_t>(link[1]) != rtsock::af_link) return true;
    if (to.index == 0) to.index = load<std::uint16_t>(link.data() + 2, order);
    const auto size = static_cast<std::size_t>(link[5]);
    if (size > link.size() - 8) return false;
    if (size != 0) set_name(dialect, {reinterpret_cast<const char*>(link.data()) + 8, size}, to);
    return true;
}

inline bool carrier(const RouteDialect& dialect, const RouteMessageLayout& layout, Bytes message, std::endian order, std::uint32_t flags) {
    std::size_t at = layout.link_state;
    if (layout.data != 0) at += load<std::uint16_t>(message.data() + layout.data, order);
    std::uint32_t state = 0;
    if (at != 0 && at + layout.link_state_size <= message.size())
        state = layout.link_state_size == 1 ? static_cast<std::uint8_t>(message[at]) : load<std::uint32_t>(message.data() + at, order);
    // Where a driver does not know of carriers, or the system does not tell, it is at least working or not.
    return state == 0 ? (flags & rtsock::iff_running) != 0 : state >= dialect.link_up;
}

/// Whether a route is wide enough to matter: to all of the world, or to the halves to sixteenths that private networks lay over it.
inline bool is_broad(const RouteDialect& dialect, std::uint32_t flags, const RouteAddresses& addresses) {
    if ((flags & rtsock::rtf_host) != 0 || (flags & dialect.rtf_ifscope) != 0) return false;
    const Bytes to = addresses.at[rtsock::rtax_dst];
    const Family family = family_of(dialect, to);
    if (family == Family::none) return to.size() < 2;  // of another protocol, or "default" in the shortest form
    return prefix_length(addresses, family) <= 4;
}

/// Fills `update` from a message whose header is whole. False: malformed; `wanted` says whether it concerns us.
inline bool decode_message(const RouteDialect& dialect, const RouteMessageLayout& layout, Bytes message, Bytes body, std::endian order,
                           RouteUpdate& update, bool& wanted) {
    using namespace rtsock;
    using Kind = RouteUpdate::Kind;
    const auto u32 = [&](std::uint8_t at) { return at == 0 ? 0 : load<std::uint32_t>(message.data() + at, order); };
    const std::uint32_t flags = u32(layout.flags);
    const std::uint32_t index = layout.index == 0 ? 0 : load<std::uint16_t>(message.data() + layout.index, order);
    RouteAddresses addresses;
    if (layout.addrs != 0 && !split_addresses(dialect, body, u32(layout.addrs), addresses)) return false;
    Interface& interface_ = update.interface_;
    interface_.index = index;
    wanted = true;
    switch (layout.what) {
        case RouteWhat::change:
            update.kind = Kind::routes_touched;
            wanted = u32(layout.error) == 0 && is_broad(dialect, flags, addresses);
            return true;
        case RouteWhat::answer:
            update.kind = Kind::route_is;
            update.process = u32(layout.process);
            update.sequence = u32(layout.sequence);
            if (!decode_link_address(dialect, addresses.at[rtax_ifp], order, interface_)) return false;
            if (u32(layout.error) != 0 || (flags & (rtf_up | rtf_reject | rtf_blackhole)) != rtf_up) return true;
            update.route.present = true;
            update.route.interface_index = interface_.index;
            if ((flags & rtf_gateway) != 0)
                update.route.gateway = route_address(dialect, addresses.at[rtax_gateway], order, interface_.index);
            update.route.source = route_address(dialect, addresses.at[rtax_ifa], order, interface_.index);
            return true;
        case RouteWhat::interface_:
            update.kind = Kind::interface_is;
            interface_.up = (flags & iff_up) != 0;
            interface_.loopback = (flags & iff_loopback) != 0;
            interface_.point_to_point = (flags & iff_pointopoint) != 0;
            interface_.carrier = carrier(dialect, layout, message, order, flags);
            if (!decode_link_address(dialect, addresses.at[rtax_ifp], order, interface_)) return false;
            wanted = interface_.index != 0;
            return true;
        case RouteWhat::address:
        case RouteWhat::address_gone: {
            update.kind = layout.what == RouteWhat::address ? Kind::address_is : Kind::address_gone;
            InterfaceAddress& address = update.address;
            address.interface_index = index;
            address.ip = route_address(dialect, addresses.at[rtax_ifa], order, index);
            address.prefix_length = prefix_length(addresses, address.ip.family);
            update.flags_told = layout.address_flags != 0;
            if (update.flags_told) set_address_flags(dialect, u32(layout.address_flags), address);
            wanted = index != 0 && address.ip.family != Family::none;
            return true;
        }
        case RouteWhat::announcement: {
            const bool gone = load<std::uint16_t>(message.data() + layout.announced, order) == ifan_departure;
            update.kind = gone ? Kind::interface_gone : Kind::overrun;  // of one that came, only the name is told
            std::size_t size = 0;
            const auto* name = reinterpret_cast<const char*>(message.data()) + layout.name;
            while (size < 16 && name[size] != 0) ++size;
            set_name(dialect, {name, size}, interface_);
            return true;
        }
        case RouteWhat::overrun:
            update.kind = Kind::overrun;
            return true;
    }
    return true;
}

/// Takes messages from the front of `bytes` up to and with the next one that concerns us: true, and `update` is what it says. False when
/// there is none.
inline Result<bool> next_update(const RouteDialect& dialect, Bytes& bytes, std::endian order, RouteUpdate& update) {
    while (!bytes.empty()) {
        if (bytes.size() < 4) return Errc::malformed;
        const std::size_t size = load<std::uint16_t>(bytes.data(), order);
        if (size < 4 || size > bytes.size()) return Errc::malformed;
        const Bytes message = bytes.first(size);
        bytes = bytes.subspan(size);
        if (static_cast<std::uint8_t>(message[2]) != dialect.version) continue;
        const RouteMessageLayout* layout = nullptr;
        for (const RouteMessageLayout& known : dialect.messages)
            if (known.type == static_cast<std::uint8_t>(message[3])) layout = &known;
        if (layout == nullptr) continue;
        std::size_t header = layout->header;
        if (size < header) return Errc::malformed;
        if (layout->header_length != 0) {
            const std::size_t said = load<std::uint16_t>(message.data() + layout->header_length, order);
            if (said < header || said > size) return Errc::malformed;
            header = said;
        }
        update = {};
        bool wanted = false;
        if (!decode_message(dialect, *layout, message.first(header), message.subspan(header), order, update, wanted))
            return Errc::malformed;
        if (wanted) return true;
    }
    return false;
}

}  // namespace detail

/// Reads every message of `bytes`, whose numbers are in `order` (the kernel's own), as one read from a routing socket or a whole list of
/// the sysctl CTL_NET.PF_ROUTE gives them, and calls `sink(const RouteUpdate&)` for each that concerns us. Skipped are: messages of other
/// versions and types, requests that failed, routes with a prefix longer than 4 bits or of one interface alone, and addresses of other
/// families. `malformed`: a message or address is shorter than it must be, or longer than what holds it; what stood before has been
/// delivered. Reads nothing outside `bytes`.
template <class Sink>
Result<void> decode_route_messages(const RouteDialect& dialect, Bytes bytes, std::endian order, Sink&& sink) {
    for (RouteUpdate update;;) {
        auto more = detail::next_update(dialect, bytes, order, update);
        if (!more) return more.error();
        if (!*more) return {};
        sink(static_cast<const RouteUpdate&>(update));
    }
}

/// A request to the kernel, ready to be written to a routing socket.
struct RouteRequest {
    std::byte data[224] = {};
    std::size_t size = 0;
    Bytes bytes() const { return {data, size}; }
};

/// Asks which route the kernel would take to `destination`, of either family (RTM_GET, as `route get` does). It answers with one
/// `route_is`, or refuses the request with the error that a connection would get. `table` counts only on OpenBSD. A dialect of lists has no
/// requests: the request is then empty.
inline RouteRequest route_query(const RouteDialect& dialect, const IpAddress& destination, std::uint32_t sequence, std::endian order,
                                std::uint16_t table = 0) {
    using namespace rtsock;
    RouteRequest request;
    const RouteMessageLayout* layout = nullptr;
    for (const RouteMessageLayout& known : dialect.messages)
        if (known.type == rtm_get) layout = &known;
    if (layout == nullptr) return request;
    const auto put = [&](std::size_t at, auto value) {
        for (std::size_t i = 0; i < sizeof value; ++i)
            request.data[at + i] = static_cast<std::byte>(value >> 8 * (order == std::endian::big ? sizeof value - 1 - i : i));
    };
    const auto advance = [&](std::size_t size) { request.size += (size + dialect.alignment - 1u) / dialect.alignment * dialect.alignment; };
    request.size = layout->header;
    std::byte* const to = request.data + request.size;
    const bool v4 = destination.family == Family::v4;
    to[0] = std::byte{v4 ? std::uint8_t{16} : std::uint8_t{28}};
    to[1] = std::byte{v4 ? af_inet : dialect.af_inet6};
    std::memcpy(to + (v4 ? 4 : 8), destination.bytes, destination.size());
    if (destination.scope != 0 && dialect.embeds_scope)
        store_big(to + 10, static_cast<std::uint16_t>(destination.scope));
    else if (destination.scope != 0)
        put(request.size + 24, destination.scope);
    advance(v4 ? 16 : 28);
    request.data[request.size] = std::byte{20};  // an empty sockaddr_dl: say the interface too, and with it the local address
    request.data[request.size + 1] = std::byte{af_link};
    advance(20);
    put(0, static_cast<std::uint16_t>(request.size));
    request.data[2] = std::byte{dialect.version};
    request.data[3] = std::byte{rtm_get};
    if (layout->header_length != 0) put(layout->header_length, static_cast<std::uint16_t>(layout->header));
    if (layout->table != 0) put(layout->table, table);
    put(layout->addrs, rta_dst | rta_ifp);
    put(layout->flags, rtf_up | rtf_host);
    put(layout->sequence, sequence);
    return request;
}

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// The local address that the system would send from to `destination` now, or of family `none` where it would not send. A datagram socket
/// is told when it is connected, and nothing is sent. Any thread.
[[gnu::cold]] inline IpAddress source_address(const IpAddress& destination) {
    auto socket = Socket::udp(destination.family);
    if (!socket || !socket->connect(destination, 53)) return {};
    IpAddress source = socket->local_endpoint().ip();
    if (source.family == Family::v6 && !source.is_link_local()) source.scope = 0;
    return source;
}

}  // namespace rejoin::inline v0_1

#if !defined(_WIN32)
#include <ifaddrs.h>
#include <net/if.h>

namespace rejoin::inline v0_1 {

/// Reads what a POSIX system says of its network when it is asked: getifaddrs(3), and which source address it gives a socket. What that
/// does not tell is left out: gateways, and outside Linux what becomes of IPv6 addresses. Belongs to the loop's thread.
class NetworkReader {
public:
    /// `touched` is called when there is something new to read that makes itself heard: the name servers.
    NetworkReader(Loop& loop, Delegate<void()> touched) : dns_(loop, touched) {}

    /// Fills an empty state, and makes it `known`. The error is the system's.
    Result<void> read(NetworkState& to) {
        auto interfaces = read_interfaces(to);
        // Where netlink is forbidden altogether the C library cannot list them either; Linux' files may still do.
        if (!interfaces && !read_proc_interfaces(to)) return interfaces;
        mark_proc_addresses(to);
        to.route[0] = route_to(internet_v4, to);
        to.route[1] = route_to(internet_v6, to);
        dns_.read(to);
        to.known = true;
        return {};
    }

private:
    [[gnu::cold]] static Result<void> read_interfaces(NetworkState& to) {
        ifaddrs* list = nullptr;
        if (::getifaddrs(&list) != 0) return Error::system(errno);
        bool stored = true;
        for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
            Text<15> name;
            for (const char* c = at->ifa_name; *c != 0 && *c != ':'; ++c) name.append(TextView(c, 1));  // without an IPv4 label
            Interface i;
            i.index = ::if_nametoindex(name.c_str());
            if (i.index == 0) continue;  // it went meanwhile
            i.name = name;
            i.up = (at->ifa_flags & IFF_UP) != 0;
            i.carrier = (at->ifa_flags & IFF_RUNNING) != 0;
            i.loopback = (at->ifa_flags & IFF_LOOPBACK) != 0;
            i.point_to_point = (at->ifa_flags & IFF_POINTOPOINT) != 0;
#if defined(__APPLE__)
            i.noise = noise_interface(name);
#endif
            stored = to.put(i) && stored;
            InterfaceAddress address;
            address.interface_index = i.index;
            address.ip = ip_of(at->ifa_addr);
            if (address.ip.family == Family::none) continue;
            if (address.ip.family == Family::v6 && address.ip.is_link_local()) address.ip.scope = i.index;
            address.prefix_length = prefix_length(at->ifa_netmask, address.ip.family);
            stored = to.put(address) && stored;
        }
        ::freeifaddrs(list);
        if (!stored) return Errc::out_of_memory;
        return {};
    }
    static IpAddress ip_of(const sockaddr* from) {
        IpAddress ip;
        if (from == nullptr) return ip;
        if (from->sa_family == AF_INET) {
            ip.family = Family::v4;
            std::memcpy(ip.bytes, &reinterpret_cast<const sockaddr_in*>(from)->sin_addr, 4);
        } else if (from->sa_family == AF_INET6) {
            ip.family = Family::v6;
            std::memcpy(ip.bytes, &reinterpret_cast<const sockaddr_in6*>(from)->sin6_addr, 16);
            // The KAME stacks show the scope inside the address (RFC 4007 does not).
            if (ip.is_link_local()) ip.bytes[2] = ip.bytes[3] = 0;
        }
        return ip;
    }
    // A netmask's own family may not be set.
    static std::uint8_t prefix_length(const sockaddr* mask, Family family) {
        std::uint8_t bytes[16] = {};
        if (mask == nullptr) return family == Family::v4 ? 32 : 128;
        if (family == Family::v4)
            std::memcpy(bytes, &reinterpret_cast<const sockaddr_in*>(mask)->sin_addr, 4);
        else
            std::memcpy(bytes, &reinterpret_cast<const sockaddr_in6*>(mask)->sin6_addr, 16);
        std::uint8_t length = 0;
        for (const std::uint8_t byte : bytes) {
            for (int bit = 7; bit >= 0 && (byte >> bit & 1) != 0; --bit) ++length;
            if (byte != 0xff) break;
        }
        return length;
    }
    // The route that packets would take now, as far as their source tells it.
    [[gnu::cold]] static Route route_to(const IpAddress& destination, const NetworkState& in) {
        Route route;
        route.source = source_address(destination);
        route.interface_index = in.interface_of(route.source);
        const Interface* const by = in.find_interface(route.interface_index);
        if (by == nullptr || !by->running() || by->loopback) return {};
        route.present = true;
        return route;
    }

    DnsWatch dns_;
};

}  // namespace rejoin::inline v0_1
#endif

#if defined(_WIN32)
#include <iphlpapi.h>
#include <netioapi.h>

#include <cstdlib>
#include <new>
#include <utility>
#if defined(_MSC_VER)
#pragma comment(lib, "iphlpapi")
#endif

namespace rejoin::inline v0_1 {

/// Hears that something may have changed in the host's network: from NotifyIpInterfaceChange, NotifyUnicastIpAddressChange and
/// NotifyRouteChange2, and from SIO_ADDRESS_LIST_CHANGE for each family, since none of them tells everything. What they call, on threads
/// of the system's, rings a bell and does nothing else: it takes no lock, so that closing, which waits for it, cannot deadlock. Belongs to
/// the loop's thread.
class NetworkNotice {
public:
    NetworkNotice() = default;
    NetworkNotice(const NetworkNotice&) = delete;
    ~NetworkNotice() { close(); }

    /// An error only when there is no way to hear of anything.
    Error open() {
        context_ = new (std::nothrow) Context;
        if (context_ == nullptr) return Errc::out_of_memory;
        Error error = context_->bell.open();
        if (error) {
            close();
            return error;
        }
        const DWORD refused[] = {
            ::NotifyIpInterfaceChange(
                AF_UNSPEC, [](PVOID to, MIB_IPINTERFACE_ROW*, MIB_NOTIFICATION_TYPE) WINAPI { ring(to); }, &context_->bell, FALSE,
                &notices_[0]),
            ::NotifyUnicastIpAddressChange(
                AF_UNSPEC, [](PVOID to, MIB_UNICASTIPADDRESS_ROW*, MIB_NOTIFICATION_TYPE) WINAPI { ring(to); }, &context_->bell, FALSE,
                &notices_[1]),
            ::NotifyRouteChange2(
                AF_UNSPEC, [](PVOID to, MIB_IPFORWARD_ROW2*, MIB_NOTIFICATION_TYPE) WINAPI { ring(to); }, &context_->bell, FALSE,
                &notices_[2]),
        };
        bool any = false;
        for (int i = 0; i < 3; ++i) {
            if (refused[i] != NO_ERROR) notices_[i] = nullptr;
            any = any || refused[i] == NO_ERROR;
        }
        any = context_->lists[0].open(AF_INET, context_->bell) || any;
        any = context_->lists[1].open(AF_INET6, context_->bell) || any;
        if (any) return {};
        close();
        return Error::system(static_cast<int>(refused[0]));
    }
    /// Readable when something may have changed, until `clear`.
    SOCKET fd() const { return context_->bell.fd(); }
    void clear() {
        context_->bell.clear();
        for (AddressList& list : context_->lists) list.again();
    }

private:
    static void ring(void* bell) { static_cast<detail::Bell*>(bell)->ring(); }

    // SIO_ADDRESS_LIST_CHANGE, which is asked for anew after each change.
    struct AddressList {
        SOCKET socket = INVALID_SOCKET;
        HANDLE event = nullptr, wait = nullptr;
        OVERLAPPED change{};
        bool asked = false;

        bool open(int family, detail::Bell& bell) {
            socket = ::WSASocketW(family, SOCK_DGRAM, 0, nullptr, 0, WSA_FLAG_OVERLAPPED | detail::no_handle_inherit);
            event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
            if (socket == INVALID_SOCKET || event == nullptr) return false;
            ask();
            const auto rung = [](PVOID to, BOOLEAN) CALLBACK { ring(to); };
            return asked && ::RegisterWaitForSingleObject(&wait, event, rung, &bell, INFINITE, WT_EXECUTEDEFAULT) != FALSE;
        }
        void ask() {
            change = {};
            change.hEvent = event;
            DWORD size = 0;
            const int done = ::WSAIoctl(socket, SIO_ADDRESS_LIST_CHANGE, nullptr, 0, nullptr, 0, &size, &change, nullptr);
            asked = done == 0 || ::WSAGetLastError() == WSA_IO_PENDING;
        }
        void again() {
            if (asked && HasOverlappedIoCompleted(&change)) ask();
        }
        // False when the system may still use it.
        bool close() {
            bool done = wait == nullptr || ::UnregisterWaitEx(wait, INVALID_HANDLE_VALUE) != FALSE;
            if (socket != INVALID_SOCKET) {
                ::CancelIoEx(reinterpret_cast<HANDLE>(socket), &change);
                ::closesocket(socket);
            }
            if (asked && !HasOverlappedIoCompleted(&change)) done = ::WaitForSingleObject(event, 1000) == WAIT_OBJECT_0 && done;
            if (done && event != nullptr) ::CloseHandle(event);
            return done;
        }
    };
    struct Context {
        detail::Bell bell;
        AddressList lists[2];
    };

    // What cannot be called off may still be called: then what it uses is leaked rather than freed.
    void close() {
        if (context_ == nullptr) return;
        bool done = true;
        for (HANDLE& notice : notices_)
            if (notice != nullptr) done = ::CancelMibChangeNotify2(std::exchange(notice, nullptr)) == NO_ERROR && done;
        for (AddressList& list : context_->lists) done = list.close() && done;
        if (done) delete context_;
        context_ = nullptr;
    }

    Context* context_ = nullptr;
    HANDLE notices_[3] = {};
};

}  // namespace rejoin::inline v0_1
#endif

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// Reads what Windows says of its network: GetAdaptersAddresses, the source address that it gives a socket, and GetBestRoute2 for the
/// router on the way. Adapters that are switched off are not among its interfaces. Belongs to the loop's thread.
class NetworkReader {
public:
    /// `touched` is never called: nothing but the notices of the system makes itself heard.
    NetworkReader(Loop&, Delegate<void()>) {}

    /// Fills an empty state, and makes it `known`. The error is the system's.
    Result<void> read(NetworkState& to) {
        // Usual hosts fit into the first buffer; what grows meanwhile gets a larger one.
        ULONG size = 16 * 1024;
        for (int attempt = 0; attempt < 4; ++attempt) {
            void* const buffer = std::malloc(size);
            if (buffer == nullptr) return Errc::out_of_memory;
            auto* const adapters = static_cast<IP_ADAPTER_ADDRESSES*>(buffer);
            const ULONG error = ::GetAdaptersAddresses(
                AF_UNSPEC, GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST | GAA_FLAG_INCLUDE_GATEWAYS, nullptr, adapters, &size);
            Result<void> done = {};
            if (error == NO_ERROR)
                done = take(adapters, to);
            else if (error != ERROR_NO_DATA)
                done = Error::system(static_cast<int>(error));
            std::free(buffer);
            if (error == ERROR_BUFFER_OVERFLOW) continue;
            if (done) to.known = true;
            return done;
        }
        return Errc::too_large;
    }

private:
    static Result<void> take(const IP_ADAPTER_ADDRESSES* adapters, NetworkState& to) {
        bool stored = true;
        for (const auto* adapter = adapters; adapter != nullptr; adapter = adapter->Next) {
            Interface i;
            i.index = index_of(*adapter);
            if (i.index == 0) continue;
            i.name = name_of(adapter->FriendlyName);
            i.up = adapter->OperStatus != IfOperStatusNotPresent;
            i.carrier = adapter->OperStatus == IfOperStatusUp || adapter->OperStatus == IfOperStatusUnknown;
            i.loopback = adapter->IfType == IF_TYPE_SOFTWARE_LOOPBACK;
            i.point_to_point =
                adapter->IfType == IF_TYPE_TUNNEL || adapter->IfType == IF_TYPE_PPP || adapter->IfType == IF_TYPE_PROP_VIRTUAL;
            stored = to.put(i) && stored;
            for (const auto* at = adapter->FirstUnicastAddress; at != nullptr; at = at->Next) {
                InterfaceAddress address;
                address.interface_index = i.index;
                address.ip = detail::ip_of(at->Address.lpSockaddr);
                if (address.ip.family == Family::none) continue;
                if (address.ip.family == Family::v6 && address.ip.is_link_local()) address.ip.scope = i.index;
                address.prefix_length = at->OnLinkPrefixLength;
                address.tentative = at->DadState == IpDadStateTentative || at->DadState == IpDadStateInvalid;
                address.duplicate = at->DadState == IpDadStateDuplicate;
                address.deprecated = at->DadState == IpDadStateDeprecated;
                address.temporary = address.ip.family == Family::v6 && at->SuffixOrigin == IpSuffixOriginRandom;
                stored = to.put(address) && stored;
            }
            if (!i.running()) continue;
            for (const auto* at = adapter->FirstDnsServerAddress; at != nullptr; at = at->Next) {
                const IpAddress server = detail::ip_of(at->Address.lpSockaddr);
                if (server.family != Family::none && !is_placeholder(server)) stored = add_server(server, to) && stored;
            }
        }
        if (!stored) return Errc::out_of_memory;
        for (Family family : {Family::v4, Family::v6}) to.route_for(family) = route(family, adapters, to);
        return {};
    }

    // An interface without IPv4 has its number as one of IPv6 alone.
    static std::uint32_t index_of(const IP_ADAPTER_ADDRESSES& adapter) {
        return adapter.IfIndex != 0 ? adapter.IfIndex : adapter.Ipv6IfIndex;
    }
    // The name that people see, cut where it is too long, and not inside a character.
    static Text<15> name_of(const wchar_t* wide) {
        char name[256 * 3] = "";
        ::WideCharToMultiByte(CP_UTF8, 0, wide, -1, name, sizeof name - 1, nullptr, nullptr);
        std::size_t size = std::strlen(name);
        if (size > 15) size = 15;
        while (size > 0 && (name[size] & 0xC0) == 0x80) --size;
        return Text<15>(TextView(name, size));
    }
    // Where no IPv6 server is configured, Windows lists three addresses that nobody has (fec0:0:0:ffff::1 to 3).
    static bool is_placeholder(const IpAddress& server) {
        static constexpr std::uint8_t prefix[] = {0xfe, 0xc0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0};
        return server.family == Family::v6 && std::memcmp(server.bytes, prefix, sizeof prefix) == 0;
    }
    static bool add_server(const IpAddress& server, NetworkState& to) {
        for (const IpAddress& known : to.dns_servers)
            if (known == server) return true;
        return to.dns_servers.size() == NetworkState::dns_servers_max || to.dns_servers.push(server);
    }

    static Route route(Family family, const IP_ADAPTER_ADDRESSES* adapters, const NetworkState& in) {
        const IpAddress& destination = family == Family::v4 ? internet_v4 : internet_v6;
        Route route;
        route.source = source_address(destination);
        route.interface_index = in.interface_of(route.source);
        const Interface* const by = in.find_interface(route.interface_index);
        if (by == nullptr || !by->running() || by->loopback) return {};
        route.present = true;
        route.gateway = gateway(destination, route.interface_index, adapters);
        if (route.gateway.is_link_local() && family == Family::v6) route.gateway.scope = route.interface_index;
        return route;
    }
    static IpAddress gateway(const IpAddress& destination, std::uint32_t index, const IP_ADAPTER_ADDRESSES* adapters) {
        const detail::SocketAddress to(destination, 0);
        SOCKADDR_INET target{}, source{};
        std::memcpy(&target, to.get(), static_cast<std::size_t>(to.size()));
        MIB_IPFORWARD_ROW2 row{};
        if (::GetBestRoute2(nullptr, index, nullptr, &target, 0, &row, &source) == NO_ERROR) {
            const IpAddress next = detail::ip_of(reinterpret_cast<const sockaddr*>(&row.NextHop));
            return next.is_unspecified() ? IpAddress() : next;  // on the link
        }
        for (const auto* adapter = adapters; adapter != nullptr; adapter = adapter->Next)
            for (const auto* at = adapter->FirstGatewayAddress; at != nullptr && index_of(*adapter) == index; at = at->Next) {
                const IpAddress ip = detail::ip_of(at->Address.lpSockaddr);
                if (ip.family == destination.family) return ip;
            }
        return {};
    }
};

}  // namespace rejoin::inline v0_1
#endif

namespace rejoin::inline v0_1 {

/// An event source that looks from time to time, for where the system does not tell: everything is read anew and compared. `Reader` reads:
/// made as `Reader(Loop&, Delegate<void()> touched)`, and called as `Result<void> read(NetworkState& empty)`. Belongs to the loop's thread.
template <class Reader>
class PollingWith {
public:
    /// Between two looks: what a laptop may be woken for, and how late a change is noticed.
    static constexpr Duration interval = WakeWatch::interval;

    /// Looks once. Use `of`, so that a loop has one.
    explicit PollingWith(Loop& loop)
        : feed_(loop),
          reader_(loop, Delegate<void()>::to<&PollingWith::look>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&PollingWith::look>(this)) {
        look();
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static PollingWith& of(Loop& loop) { return loop.service<PollingWith>(); }

    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the last look failed, if it did: the state is then that of the last one that did not.
    Error error() const { return error_; }

    /// Whether changes are looked for instead of told: always.
    bool polling() const { return true; }

    /// Looks now, for who has reason to believe that something changed. Not from inside an observer's call.
    void look() {
        NetworkState fresh;
        error_ = reader_.read(fresh).error();
        if (!error_) feed_.replace(std::move(fresh));
    }

private:
    ChangeFeed feed_;
    Reader reader_;
    WakeWatch wake_;
    Error error_;
};

/// The polling event source with the system's own reader. A look costs about as much as reading everything by netlink once: 110 µs with
/// five addresses (bench/network_bench.cpp).
using Polling = PollingWith<NetworkReader>;

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// The event source of macOS, FreeBSD, NetBSD and OpenBSD: one routing socket (route(4)) a loop, however many pipes. A message becomes
/// changes as soon as it is read; then the kernel is asked which routes it takes now, by the same socket, and its answer is one message
/// among the others. Belongs to the loop's thread.
///
/// `System` is what asks the system, and `Dns` knows the name servers (`DnsWatch`):
///
///     static const RouteDialect& dialect(), list_dialect()         of its messages, and of its list
///     Error open(); Handle fd()                                    readable when there is something to receive
///     Result<std::size_t> receive(MutableBytes)                    messages; `would_block`: none; else some were lost
///     Result<void> send(Bytes)                                     a request, or why the kernel refuses it
///     Result<void> list(sink)                                      gives `sink(Bytes)` all interfaces and addresses, as messages
///     Result<std::uint32_t> address_flags(TextView interface_, const IpAddress&)    in6_iff_; called where messages do not have them
///     Text<15> interface_name(std::uint32_t index)                 empty: there is none
///     IpAddress source(const IpAddress& destination)               which local address it would send from
///     std::uint32_t process()                                      how it calls this process in answers
///     void wait(Duration)                                          for something to receive
template <class System, class Dns>
class RouteSocketOf {
public:
    /// Opens the socket and reads the state: `error` says whether that went well. Where the kernel queues its answers (FreeBSD, NetBSD) it
    /// waits for them, up to 20 ms. Use `of`, so that a loop has one.
    explicit RouteSocketOf(Loop& loop)
        : loop_(loop),
          watch_(loop, Delegate<void(Ready)>::to<&RouteSocketOf::hear>(this)),
          timer_(loop, Delegate<void()>::to<&RouteSocketOf::catch_up>(this)),
          feed_(loop),
          dns_(loop, Delegate<void()>::to<&RouteSocketOf::read_dns>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&RouteSocketOf::look>(this)) {
        error_ = system_.open();
        if (!error_) error_ = watch_.start(system_.fd(), Ready::readable).error();
        if (!error_) begin();
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static RouteSocketOf& of(Loop& loop) { return loop.service<RouteSocketOf>(); }

    /// What is known now; changes only in the loop. While the changes that a message brought are delivered, the routes may still be those
    /// of before: theirs follow with the kernel's answer.
    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the network cannot be watched, or none; `state().known` is then false for good.
    Error error() const { return error_; }

private:
    // After a message the kernel may not be through with the routes that follow from it; the check of a new IPv6 address takes a second
    // or two (RFC 4862 §5.4), and not every system tells that it is over.
    static constexpr Duration look_again[] = {Duration::milliseconds(1), Duration::milliseconds(10), Duration::milliseconds(100),
                                              Duration::seconds(1), Duration::seconds(2)};
    static constexpr std::size_t looks_at_all = 5, looks_at_routes = 3;
    // However often messages are lost, everything is read again only so often.
    static constexpr Duration between_readings = Duration::milliseconds(100);
    // Reads before the loop gets its turn.
    static constexpr int burst = 64;

    // The routes belong to the first state that is known, so that nothing seems to be gained a moment after the start.
    void begin() {
        NetworkState* const first = feed_.edit();
        if (first == nullptr) {
            lost_ = true;
            timer_.after(between_readings);
            return;
        }
        error_ = read_all(*first).error();
        if (error_) return watch_.stop();
        dns_.read(*first);
        ask(*first);
        for (int waits = 0; waits < 10 && (asked_[0] != 0 || asked_[1] != 0); ++waits) {
            system_.wait(Duration::milliseconds(2));
            receive_all(*first);
        }
        first->known = true;
        feed_.publish();
    }

    void hear(Ready) {
        wake_.look();
        touched_ = false;
        for (int n = 0; n < burst; ++n) {
            NetworkState* const is = feed_.edit();
            if (is == nullptr) lost_ = true;
            if (is == nullptr || !receive(*is)) break;
            if (feed_.publish()) touched_ = true;
        }
        if (!touched_ && !lost_) return;
        looks_ = 0;
        catch_up();
    }
    // macOS drops messages without a word, and none of the systems tells everything: so all is read again from time to time.
    void look() {
        lost_ = true;
        catch_up();
    }

    // Takes in what is waiting; false when there is no more.
    bool receive(NetworkState& state) {
        auto size = system_.receive(buffer_);
        if (!size) {
            if (size.error() == Errc::would_block) return false;
            return lost_ = true;
        }
        auto decoded = decode_route_messages(System::dialect(), {buffer_, *size}, std::endian::native,
                                             [&](const RouteUpdate& update) { apply(update, state); });
        lost_ = lost_ || !decoded;
        return true;
    }
    void receive_all(NetworkState& state) {
        for (int n = 0; n < burst && receive(state); ++n) {
        }
    }

    void apply(const RouteUpdate& update, NetworkState& state) {
        using Kind = RouteUpdate::Kind;
        switch (update.kind) {
            case Kind::interface_is:
                lost_ = !put_interface(update.interface_, state) || lost_;
                break;
            case Kind::interface_gone:
                state.remove_interface(update.interface_.index);
                break;
            case Kind::address_is:
                lost_ = !put_address(update, state) || lost_;
                break;
            case Kind::address_gone:
                state.remove(update.address);
                touched_ = true;  // another one may be the source now, even if `diff` is silent
                break;
            case Kind::routes_touched:
                touched_ = true;
                break;
            case Kind::route_is:
                if (update.process != system_.process()) break;
                for (Family family : {Family::v4, Family::v6})
                    if (update.sequence == asked_[family == Family::v6]) answered(family, update.route, state);
                break;
            case Kind::overrun:
                lost_ = true;
        }
    }
    bool put_interface(Interface interface_, NetworkState& state) {
        if (interface_.name.empty()) {  // most messages have none
            const Interface* const known = state.find_interface(interface_.index);
            interface_.name = known != nullptr ? known->name : system_.interface_name(interface_.index);
            if (interface_.name.empty()) return true;  // it is gone already
            interface_.noise = System::dialect().makes_noise && noise_interface(interface_.name);
        }
        return state.put(interface_);
    }
    bool put_address(const RouteUpdate& update, NetworkState& state) {
        InterfaceAddress address = update.address;
        if (!update.flags_told) read_flags(address, state);
        const InterfaceAddress* const is = state.find_address(address.interface_index, address.ip);
        if (is != nullptr && *is == address) return true;  // routers announce lifetimes again and again
        touched_ = true;
        return state.put(address);
    }
    void read_flags(InterfaceAddress& address, const NetworkState& state) {
        const Interface* const by = state.find_interface(address.interface_index);
        if (by == nullptr || address.ip.family != Family::v6) return;
        const auto flags = system_.address_flags(by->name, address.ip);
        if (flags) set_address_flags(System::dialect(), *flags, address);
    }

    // Brings up to date what no message tells: all of it when messages were lost, and the routes in any case.
    [[gnu::cold]] void catch_up() {
        const TimePoint now = loop_.now();
        NetworkState fresh;
        if (lost_ && now >= next_reading_) {
            next_reading_ = now + between_readings;
            lost_ = !read_all(fresh);
            fresh.known = !lost_;
        }
        if (lost_) return static_cast<void>(timer_.at(next_reading_));
        NetworkState* const is = feed_.edit();
        if (is == nullptr) return;
        if (fresh.known) {
            std::swap(is->interfaces, fresh.interfaces);
            std::swap(is->addresses, fresh.addresses);
            is->known = true;
            dns_.read(*is);
        }
        bool unchecked = false;
        for (InterfaceAddress& address : is->addresses) {
            if (address.tentative && !System::dialect().in_iff) read_flags(address, *is);
            unchecked = unchecked || address.tentative;
        }
        doubtful_ = false;
        ask(*is);
        feed_.publish();
        if (looks_ < (unchecked ? looks_at_all : looks_at_routes)) timer_.after(look_again[looks_++]);
        if (doubtful_ && !timer_.armed()) timer_.after(RouteDoubt::patience);
    }

    void ask(NetworkState& state) {
        for (Family family : {Family::v4, Family::v6}) {
            std::uint32_t& asked = asked_[family == Family::v6];
            asked = ++sequence_;
            const RouteRequest request = route_query(System::dialect(), destination(family), asked, std::endian::native);
            const auto sent = system_.send(request.bytes());
            if (sent) continue;
            // Refused for want of a route (ESRCH, ENETUNREACH) or of the family itself: then there is none.
            const bool later = sent.error() == Errc::would_block || sent.error() == Errc::out_of_memory;
            if (later)
                doubtful_ = true;
            else
                answered(family, Route(), state);
            asked = 0;
        }
    }
    void answered(Family family, Route route, NetworkState& state) {
        asked_[family == Family::v6] = 0;
        if (route.present) route.source = system_.source(destination(family));
        if (doubt_.take(route, family, loop_.now(), state)) return;
        doubtful_ = true;
        if (!timer_.armed()) timer_.after(RouteDoubt::patience);
    }
    static const IpAddress& destination(Family family) { return family == Family::v4 ? internet_v4 : internet_v6; }

    Result<void> read_all(NetworkState& to) {
        bool stored = true;
        const auto store = [&](const RouteUpdate& update) {
            if (update.kind == RouteUpdate::Kind::interface_is) stored = put_interface(update.interface_, to) && stored;
            if (update.kind == RouteUpdate::Kind::address_is) stored = put_address(update, to) && stored;
        };
        Result<void> decoded = {};
        auto listed = system_.list(
            [&](Bytes messages) { decoded = decode_route_messages(System::list_dialect(), messages, std::endian::native, store); });
        if (!listed) return listed;
        if (!stored) return Errc::out_of_memory;
        return decoded;
    }
    void read_dns() {
        NetworkState* const is = state().known ? feed_.edit() : nullptr;
        if (is == nullptr) return;
        dns_.read(*is);
        feed_.publish();
    }

    Loop& loop_;
    System system_;
    Loop::Watch watch_;  // after the system: it stops before the socket is closed
    Loop::Timer timer_;
    ChangeFeed feed_;
    Dns dns_;
    WakeWatch wake_;
    Error error_;
    TimePoint next_reading_;
    RouteDoubt doubt_;
    std::uint32_t asked_[2] = {};  // what the question under way is called, for each family; 0: there is none
    std::uint32_t sequence_ = 0;
    std::size_t looks_ = looks_at_all;  // none is due
    bool touched_ = false;              // a message said that something changed
    bool lost_ = false;                 // some were lost
    bool doubtful_ = false;             // a route was not believed, or could not be asked for
    std::byte buffer_[4096];            // the kernel's messages have at most 16 addresses of 255 bytes, and are far from it
};

}  // namespace rejoin::inline v0_1

#if !defined(_WIN32) && !defined(__linux__)
#include <net/if.h>
#include <net/route.h>
#include <stddef.h>
#include <sys/ioctl.h>
#if defined(__APPLE__)
// Its sys/sysctl.h brings names into everybody's way (struct session, proc), for this one call.
extern "C" int sysctl(int*, unsigned, void*, std::size_t*, void*, std::size_t);
#else
#include <sys/sysctl.h>
#endif

#include <cstdlib>

#if __has_include(<netinet6/in6_var.h>)
#include <netinet6/in6_var.h>
#endif

namespace rejoin::inline v0_1 {

/// What `RouteSocket` asks the system: a routing socket (route(4)), the list of interfaces (sysctl(3): CTL_NET, PF_ROUTE), and a few
/// things that neither tells. What the kernel need not send is filtered out there, where it can be.
class RoutingSocket {
public:
    static const RouteDialect& dialect();
    static const RouteDialect& list_dialect();

    Error open() {
        socket_ = Socket(::socket(PF_ROUTE, SOCK_RAW, AF_UNSPEC));
        if (!socket_) return Error::system(errno);
#if defined(SO_RERROR)
        set(SOL_SOCKET, SO_RERROR, 1);  // say that messages were lost (FreeBSD 14, NetBSD 8)
#endif
#if defined(ROUTE_MSGFILTER)  // OpenBSD
        unsigned types = 0;
        for (const RouteMessageLayout& message : dialect().messages) types |= 1u << message.type;
        set(AF_ROUTE, ROUTE_MSGFILTER, types);
        set(AF_ROUTE, ROUTE_TABLEFILTER, static_cast<unsigned>(::getrtable()));
#if defined(ROUTE_FLAGFILTER)
        set(AF_ROUTE, ROUTE_FLAGFILTER, unsigned{RTF_LLINFO | RTF_BROADCAST | RTF_MULTICAST});
#endif
#elif defined(RO_MSGFILTER)  // NetBSD
        unsigned char types[32];
        socklen_t count = 0;
        for (const RouteMessageLayout& message : dialect().messages) types[count++] = message.type;
        ::setsockopt(socket_.fd(), PF_ROUTE, RO_MSGFILTER, types, count);
#endif
        return {};
    }
    int fd() const { return socket_.fd(); }
    Result<std::size_t> receive(MutableBytes to) { return socket_.receive(to); }
    Result<void> send(Bytes request) {
        if (::write(socket_.fd(), request.data(), request.size()) >= 0) return {};
        if (errno == ENOBUFS || errno == ENOMEM) return Errc::out_of_memory;
        if (errno == EAGAIN) return Errc::would_block;
        return Error::system(errno);
    }

    /// Gives the whole list to `sink(Bytes)`.
    template <class Sink>
    Result<void> list(Sink sink) {
#if defined(NET_RT_IFLISTL)
        constexpr int what = NET_RT_IFLISTL;
#else
        constexpr int what = NET_RT_IFLIST;
#endif
#if defined(__APPLE__)
        constexpr int ctl_net = 4;
#else
        constexpr int ctl_net = CTL_NET;
#endif
        int name[] = {ctl_net, PF_ROUTE, 0, 0, what, 0};
        // Between the two calls the list may grow; then the second has no room for it.
        for (int attempt = 0;; ++attempt) {
            std::size_t size = 0;
            if (::sysctl(name, 6, nullptr, &size, nullptr, 0) != 0) return Error::system(errno);
            size += size / 4 + 512;
            void* const buffer = std::malloc(size);
            if (buffer == nullptr) return Errc::out_of_memory;
            Error error;
            if (::sysctl(name, 6, buffer, &size, nullptr, 0) != 0)
                error = Error::system(errno);
            else
                sink(Bytes(static_cast<const std::byte*>(buffer), size));
            std::free(buffer);
            if (error != Error::system(ENOMEM) || attempt == 4) return error;
        }
    }
    /// `unsupported` where the system's headers do not have it.
    Result<std::uint32_t> address_flags(TextView interface_, const IpAddress& ip) {
#if defined(SIOCGIFAFLAG_IN6)
        auto socket = Socket::udp(Family::v6);
        if (!socket) return socket.error();
        in6_ifreq request{};
        std::memcpy(request.ifr_name, interface_.data(), interface_.size() < IFNAMSIZ - 1 ? interface_.size() : IFNAMSIZ - 1);
        request.ifr_addr.sin6_len = sizeof request.ifr_addr;
        request.ifr_addr.sin6_family = AF_INET6;
        std::memcpy(&request.ifr_addr.sin6_addr, ip.bytes, 16);
        request.ifr_addr.sin6_scope_id = ip.scope;
        if (::ioctl(socket->fd(), SIOCGIFAFLAG_IN6, &request) != 0) return Error::system(errno);
        return static_cast<std::uint32_t>(request.ifr_ifru.ifru_flags6);
#else
        static_cast<void>(interface_), static_cast<void>(ip);
        return Errc::unsupported;
#endif
    }
    Text<15> interface_name(std::uint32_t index) {
        char name[IF_NAMESIZE];
        return ::if_indextoname(index, name) != nullptr ? Text<15>(name) : Text<15>();
    }
    IpAddress source(const IpAddress& destination) { return source_address(destination); }
    std::uint32_t process() const { return static_cast<std::uint32_t>(::getpid()); }
    void wait(Duration d) {
        pollfd readable{socket_.fd(), POLLIN, 0};
        ::poll(&readable, 1, static_cast<int>(d.milliseconds()));
    }

private:
    template <class T>
    void set(int level, int option, const T& value) {
        ::setsockopt(socket_.fd(), level, option, &value, sizeof value);
    }
    Socket socket_;
};

namespace detail {
#if defined(__APPLE__)
inline constexpr const RouteDialect &system_dialect = route_dialect::macos, &system_list_dialect = route_dialect::macos;
#elif defined(__FreeBSD__)
inline constexpr bool wide = sizeof(long) == 8;
inline constexpr const RouteDialect& system_dialect = wide ? route_dialect::freebsd : route_dialect::freebsd_32;
inline constexpr const RouteDialect& system_list_dialect = wide ? route_dialect::freebsd_list : route_dialect::freebsd_list_32;
#elif defined(__NetBSD__)
inline constexpr const RouteDialect &system_dialect = route_dialect::netbsd, &system_list_dialect = route_dialect::netbsd;
#else
inline constexpr const RouteDialect& system_dialect = sizeof(long) == 8 ? route_dialect::openbsd : route_dialect::openbsd_32;
inline constexpr const RouteDialect& system_list_dialect = system_dialect;
#endif
}  // namespace detail

inline const RouteDialect& RoutingSocket::dialect() { return detail::system_dialect; }
inline const RouteDialect& RoutingSocket::list_dialect() { return detail::system_list_dialect; }

// The decoder's tables are the system's structures.
static_assert([] {
    const auto layout = [](const RouteDialect& dialect, std::uint8_t type) {
        for (const RouteMessageLayout& known : dialect.messages)
            if (known.type == type) return known;
        return RouteMessageLayout{};
    };
    const RouteDialect& dialect = detail::system_dialect;
    const RouteMessageLayout route = layout(dialect, RTM_GET), address = layout(dialect, RTM_NEWADDR), link = layout(dialect, RTM_IFINFO);
    bool same = dialect.version == RTM_VERSION && dialect.af_inet6 == AF_INET6 && rtsock::af_inet == AF_INET &&
                rtsock::af_link == AF_LINK && rtsock::rtax_gateway == RTAX_GATEWAY && rtsock::rtax_netmask == RTAX_NETMASK &&
                rtsock::rtax_ifp == RTAX_IFP && rtsock::rtax_ifa == RTAX_IFA && rtsock::rtf_up == RTF_UP &&
                rtsock::rtf_gateway == RTF_GATEWAY && rtsock::rtf_host == RTF_HOST && rtsock::rtf_reject == RTF_REJECT &&
                rtsock::rtf_blackhole == RTF_BLACKHOLE && rtsock::iff_up == IFF_UP && rtsock::iff_loopback == IFF_LOOPBACK &&
                rtsock::iff_pointopoint == IFF_POINTOPOINT && rtsock::iff_running == IFF_RUNNING &&
                layout(dialect, RTM_DELADDR).type == RTM_DELADDR;
    same = same && route.header == sizeof(rt_msghdr) && route.addrs == offsetof(rt_msghdr, rtm_addrs) &&
           route.flags == offsetof(rt_msghdr, rtm_flags) && route.index == offsetof(rt_msghdr, rtm_index) &&
           route.error == offsetof(rt_msghdr, rtm_errno) && route.process == offsetof(rt_msghdr, rtm_pid) &&
           route.sequence == offsetof(rt_msghdr, rtm_seq);
    same = same && address.addrs == offsetof(ifa_msghdr, ifam_addrs) && address.index == offsetof(ifa_msghdr, ifam_index) &&
           link.addrs == offsetof(if_msghdr, ifm_addrs) && link.flags == offsetof(if_msghdr, ifm_flags) &&
           link.index == offsetof(if_msghdr, ifm_index);
#if defined(__APPLE__)
    const RouteMessageLayout longer = layout(dialect, RTM_IFINFO2);
    same = same && dialect.rtf_ifscope == RTF_IFSCOPE && address.header == sizeof(ifa_msghdr) && link.header == sizeof(if_msghdr) &&
           longer.header == sizeof(if_msghdr2) && longer.index == offsetof(if_msghdr2, ifm_index);
#else
    const RouteMessageLayout announcement = layout(dialect, RTM_IFANNOUNCE);
    same = same && link.link_state == offsetof(if_msghdr, ifm_data) + offsetof(if_data, ifi_link_state) &&
           dialect.link_up == LINK_STATE_UP && announcement.index == offsetof(if_announcemsghdr, ifan_index) &&
           announcement.name == offsetof(if_announcemsghdr, ifan_name) &&
           announcement.announced == offsetof(if_announcemsghdr, ifan_what) && rtsock::ifan_departure == IFAN_DEPARTURE;
#endif
#if defined(__FreeBSD__)
    const RouteMessageLayout listed = layout(detail::system_list_dialect, RTM_IFINFO);
    same = same && address.header == sizeof(ifa_msghdr) && link.header == sizeof(if_msghdr) &&
           listed.header_length == offsetof(if_msghdrl, ifm_len) && listed.data == offsetof(if_msghdrl, ifm_data_off) &&
           listed.link_state == offsetof(if_data, ifi_link_state) &&
           layout(detail::system_list_dialect, RTM_NEWADDR).header_length == offsetof(ifa_msghdrl, ifam_len);
#elif defined(__NetBSD__)
    same = same && address.header == sizeof(ifa_msghdr) && link.header == sizeof(if_msghdr) &&
           address.address_flags == offsetof(ifa_msghdr, ifam_addrflags) && layout(dialect, RTM_CHGADDR).type == RTM_CHGADDR;
#elif defined(__OpenBSD__)
    same = same && route.table == offsetof(rt_msghdr, rtm_tableid) && route.header_length == offsetof(rt_msghdr, rtm_hdrlen) &&
           address.header_length == offsetof(ifa_msghdr, ifam_hdrlen) && layout(dialect, RTM_DESYNC).type == RTM_DESYNC &&
           layout(dialect, RTM_CHGADDRATTR).type == RTM_CHGADDRATTR;
#endif
    return same;
}());

}  // namespace rejoin::inline v0_1
#endif

namespace rejoin::inline v0_1 {

/// The event source `Native` or, where the system does not let it open (some sandboxes, Android, gVisor), `Polling`. One a loop.
template <class Native>
class OrPolling {
public:
    explicit OrPolling(Loop& loop) : native_(Native::of(loop)), polling_(native_.error() ? &Polling::of(loop) : nullptr) {}
    static OrPolling& of(Loop& loop) { return loop.service<OrPolling>(); }

    const NetworkState& state() const { return polling_ != nullptr ? polling_->state() : native_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { polling_ != nullptr ? polling_->observe(observer) : native_.observe(observer); }
    /// Why the system's own source could not be opened, if so. `state().known` says whether polling does.
    Error error() const { return native_.error(); }
    /// Whether changes are looked for every ten seconds, because the system does not tell of them.
    bool polling() const { return polling_ != nullptr; }

private:
    Native& native_;
    Polling* polling_;
};

/// The event source of the system that is compiled for: `Netlink` on Linux, `RouteSocket` on macOS and the BSDs,
/// `IpHelper` on Windows.
#if defined(__linux__)
using SystemEvents = OrPolling<Netlink>;
#elif !defined(_WIN32)
using RouteSocket = RouteSocketOf<RoutingSocket, DnsWatch>;
using SystemEvents = OrPolling<RouteSocket>;
#else
using IpHelper = IpHelperOf<NetworkNotice, NetworkReader>;
using SystemEvents = OrPolling<IpHelper>;
#endif

}  // namespace rejoin::inline v0_1

// `entropy(MutableBytes) -> Result<void>`: secrets from the system.

#if !defined(_WIN32) && !defined(__linux__)
#include <stdlib.h>

namespace rejoin::inline v0_1 {

/// Fills `to` with bytes fit for keys, from arc4random_buf(3), which never fails.
inline Result<void> entropy(MutableBytes to) {
    ::arc4random_buf(to.data(), to.size());
    return {};
}

}  // namespace rejoin::inline v0_1
#endif

#if defined(__linux__)
#include <errno.h>
#include <sys/random.h>

namespace rejoin::inline v0_1 {

/// Fills `to` with bytes fit for keys, from getrandom(2). Waits only on a machine that has just booted and has no entropy yet.
inline Result<void> entropy(MutableBytes to) {
    while (!to.empty()) {
        const ssize_t n = ::getrandom(to.data(), to.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return Error::system(errno);
        to = to.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

}  // namespace rejoin::inline v0_1
#endif

#if defined(_WIN32)
#include <bcrypt.h>
#if defined(_MSC_VER)
#pragma comment(lib, "bcrypt")
#endif

namespace rejoin::inline v0_1 {

/// Fills `to` with bytes fit for keys, from BCryptGenRandom. The error's code is an NTSTATUS.
inline Result<void> entropy(MutableBytes to) {
    while (!to.empty()) {
        const ULONG size = to.size() > INT32_MAX ? INT32_MAX : static_cast<ULONG>(to.size());
        const NTSTATUS status = ::BCryptGenRandom(nullptr, reinterpret_cast<PUCHAR>(to.data()), size, BCRYPT_USE_SYSTEM_PREFERRED_RNG);
        if (status < 0) return Error::system(static_cast<int>(status));
        to = to.subspan(size);
    }
    return {};
}

}  // namespace rejoin::inline v0_1
#endif

namespace rejoin::inline v0_1 {

/// A seed for `Random`: not from a clock, as programs that start together must differ. 0 where the system has no entropy to give.
inline std::uint64_t random_seed() {
    std::byte bytes[8] = {};
    static_cast<void>(entropy(bytes));
    return load_big<std::uint64_t>(bytes);
}

}  // namespace rejoin::inline v0_1

// `look_up(name)`, which waits, and `no_address`.

#if !defined(_WIN32)
#include <errno.h>
#include <netdb.h>

namespace rejoin::inline v0_1 {

/// A look-up that found nothing.
inline constexpr Error no_address = Error::resolver(EAI_NONAME);

/// The addresses of a name, in the system's order of preference (RFC 6724), at most 16: getaddrinfo(3). Waits, for as long as the
/// system's resolver does (5 to 30 s when no server answers). Any thread.
[[gnu::cold]] inline Result<Array<IpAddress>> look_up(const char* name) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo* list = nullptr;
    const int error = ::getaddrinfo(name, nullptr, &hints, &list);
    if (error == EAI_SYSTEM) return Error::system(errno);
    if (error != 0) return Error::resolver(error);
    Array<IpAddress> found;
    for (const addrinfo* at = list; at != nullptr && found.size() < 16; at = at->ai_next) {
        const IpAddress ip = detail::ip_of(at->ai_addr);
        if (ip.family != Family::none && !found.push(ip)) break;
    }
    ::freeaddrinfo(list);
    if (found.empty()) return no_address;
    return found;
}

}  // namespace rejoin::inline v0_1
#endif

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// A look-up that found nothing.
inline constexpr Error no_address = Error::resolver(WSAHOST_NOT_FOUND);

/// The addresses of a name (UTF-8), in the system's order of preference (RFC 6724), at most 16: GetAddrInfoW, whose codes are
/// Winsock's. Waits, for as long as the system's resolver does. Any thread.
inline Result<Array<IpAddress>> look_up(const char* name) {
    if (const Error error = detail::start_winsock()) return error;
    wchar_t wide[256];
    if (::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name, -1, wide, 256) == 0) return no_address;
    ADDRINFOW hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    ADDRINFOW* list = nullptr;
    const int error = ::GetAddrInfoW(wide, nullptr, &hints, &list);
    if (error == WSA_NOT_ENOUGH_MEMORY) return Errc::out_of_memory;
    if (error != 0) return Error::resolver(error);
    Array<IpAddress> found;
    for (const ADDRINFOW* at = list; at != nullptr && found.size() < 16; at = at->ai_next) {
        const IpAddress ip = detail::ip_of(at->ai_addr);
        if (ip.family != Family::none && !found.push(ip)) break;
    }
    ::FreeAddrInfoW(list);
    if (found.empty()) return no_address;
    return found;
}

}  // namespace rejoin::inline v0_1
#endif

namespace rejoin::inline v0_1 {

/// Turns names into addresses without making the loop wait. One a loop: `Resolver::of(loop)`. At most four look-ups run at once, each on
/// a thread of its own, because the system offers nothing else; the rest queue. Cancelling, and destroying the loop, leave a look-up
/// under way to finish by itself, unheard: neither waits.
class Resolver {
public:
    using Answer = Result<Array<IpAddress>>;
    /// Stands in for the system's resolver: called on the loop's thread, answers now or later, once, by calling `done` there.
    using LookUp = Function<void(const char* name, Function<void(Answer)> done)>;

    explicit Resolver(Loop& loop) : mailbox_(new Mailbox) { mailbox_->loop = &loop; }
    Resolver(const Resolver&) = delete;
    ~Resolver() {
        for (Job* job : waiting_) delete job;
        {
            Lock lock(mailbox_->mutex);
            mailbox_->loop = nullptr;
        }
        mailbox_->release();
    }
    static Resolver& of(Loop& loop) { return loop.service<Resolver>(); }

    /// Has names looked up by `look_up` from now on; an empty one brings the system's back.
    void replace(LookUp look_up) { replacement_ = std::move(look_up); }

    /// One name being looked up. Cancelled when destroyed; the answer comes at most once, never inside `start`.
    class Query : private ListNode {
    public:
        explicit Query(Delegate<void(Answer&&)> answered) : answered_(answered) {}
        ~Query() { cancel(); }
        /// Looks `name` up (copied); a look-up under way is cancelled.
        Result<void> start(Resolver& resolver, const char* name) {
            cancel();
            return resolver.start(*this, name);
        }
        void cancel() { unlink(); }
        bool busy() const { return linked(); }

    private:
        friend class Resolver;
        Delegate<void(Answer&&)> answered_;
        std::uint64_t id_ = 0;
    };

private:
    // Shared by the loop's thread and the helpers; the last to leave frees it.
    struct Mailbox {
        Mutex mutex;
        Loop* loop = nullptr;  // null once the loop is gone
        int holders = 1;
        void release() {
            mutex.lock();
            const bool last = --holders == 0;
            mutex.unlock();
            if (last) delete this;
        }
    };
    // One look-up of the system's. The helper fills in the answer and sends the job back, or frees it where nobody waits any more.
    struct Job {
        Mailbox* mailbox;
        Resolver* resolver;  // used on the loop's thread only, and only while mailbox->loop is set
        std::uint64_t id;
        char* name;
        Answer answer{Errc::cancelled};
        ~Job() { std::free(name); }
    };

    [[gnu::cold]] Result<void> start(Query& query, const char* name) {
        query.id_ = ++last_id_;
        if (replacement_) {
            queries_.push(query);
            replacement_(name, [this, id = query.id_](Answer answer) {
                if (answer && answer->empty()) answer = no_address;
                Owned<Answer> kept(new (std::nothrow) Answer(std::move(answer)));
                if (kept.object != nullptr)
                    static_cast<void>(mailbox_->loop->post([this, id, kept = std::move(kept)] { deliver(id, std::move(*kept.object)); }));
            });
            return {};
        }
        const std::size_t size = std::strlen(name) + 1;
        auto* copy = static_cast<char*>(std::malloc(size));
        if (copy == nullptr) return Errc::out_of_memory;
        std::memcpy(copy, name, size);
        auto* job = new (std::nothrow) Job{mailbox_, this, query.id_, copy, Errc::cancelled};
        if (job == nullptr || !waiting_.push(job)) {
            job == nullptr ? std::free(copy) : delete job;
            return Errc::out_of_memory;
        }
        queries_.push(query);
        auto started = start_next();
        if (started || running_ > 0) return {};
        query.cancel();
        delete waiting_.back();
        waiting_.pop();
        return started;
    }

    Result<void> start_next() {
        if (running_ == 4) return {};
        while (!waiting_.empty() && find(waiting_[0]->id) == nullptr) {  // called off meanwhile
            delete waiting_[0];
            waiting_.erase(0);
        }
        if (waiting_.empty()) return {};
        Job* job = waiting_[0];
        {
            Lock lock(mailbox_->mutex);
            ++mailbox_->holders;
        }
        auto started = start_thread(&Resolver::help, job);
        if (!started) {
            mailbox_->release();
            return started;
        }
        waiting_.erase(0);
        ++running_;
        return {};
    }

    // The helper thread.
    static void* help(void* argument) {
        Owned<Job> job{static_cast<Job*>(argument)};
        Mailbox* mailbox = job.object->mailbox;
        job.object->answer = look_up(job.object->name);
        {
            Lock lock(mailbox->mutex);
            if (mailbox->loop != nullptr)
                static_cast<void>(mailbox->loop->post([job = std::move(job)] { job.object->resolver->finish(*job.object); }));
        }
        mailbox->release();
        return nullptr;
    }
    template <class T>
    struct Owned {
        T* object;
        explicit Owned(T* o) : object(o) {}
        Owned(Owned&& other) noexcept : object(std::exchange(other.object, nullptr)) {}
        ~Owned() { delete object; }
    };

    void finish(Job& job) {
        --running_;
        auto started = start_next();
        while (!started && running_ == 0 && !waiting_.empty()) {  // nothing would start the rest
            Owned<Job> next{waiting_[0]};
            waiting_.erase(0);
            deliver(next.object->id, started.error());
        }
        deliver(job.id, std::move(job.answer));
    }
    [[gnu::cold]] Query* find(std::uint64_t id) {
        Query* found = nullptr;
        queries_.for_each([&](ListNode& node) {
            if (static_cast<Query&>(node).id_ == id) found = &static_cast<Query&>(node);
        });
        return found;
    }
    void deliver(std::uint64_t id, Answer&& answer) {
        Query* asked = find(id);
        if (asked == nullptr) return;
        asked->unlink();
        asked->answered_(std::move(answer));
    }

    Mailbox* mailbox_;
    List queries_;
    Array<Job*> waiting_;
    int running_ = 0;
    std::uint64_t last_id_ = 0;
    LookUp replacement_;
};

}  // namespace rejoin::inline v0_1

#include <concepts>

namespace rejoin::inline v0_1 {

/// What a recovery policy wants done after a failure.
struct Action {
    enum class Kind : std::uint8_t {
        retry_after,       ///< try again after `delay`; zero is now
        try_next,          ///< try the next address of the name at once; with no next one left, the first again after `delay`
        wait_for_network,  ///< no timer: try again when the network has changed for the better
        give_up,           ///< the pipe is closed with this failure
    };
    Kind kind = Kind::give_up;
    Duration delay;

    static constexpr Action retry_after(Duration d) { return {Kind::retry_after, d}; }
    static constexpr Action try_next(Duration d) { return {Kind::try_next, d}; }
    static constexpr Action wait_for_network() { return {Kind::wait_for_network, {}}; }
    static constexpr Action give_up() { return {Kind::give_up, {}}; }
    friend constexpr bool operator==(const Action&, const Action&) = default;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// How a connection leaves this host, how large its pieces are, and to whom it goes. By default as the system has it.
struct Way {
    IpAddress from;                     ///< the local address; of family none: the system's choice
    std::uint32_t interface_index = 0;  ///< the interface, whatever the routes prefer; 0: the system's choice
    std::uint16_t segment_max = 0;      ///< bytes in one segment or packet at most; 0: what both ends allow
    const char* name = nullptr;         ///< the peer's, as it was asked for, until `open` returns; null: by its number
};

/// Hears what happens on one connection. Every call may destroy the connection; those that return bool say whether it still exists, and
/// the connection touches nothing of itself when it does not.
class ConnectionObserver {
public:
    virtual void on_open() = 0;
    /// `bytes` hold until it returns.
    virtual bool on_bytes(Bytes bytes) = 0;
    /// Called once after `want_writable`.
    virtual bool on_writable() = 0;
    /// The peer ended its sending direction.
    virtual void on_end() = 0;
    virtual void on_error(Error error) = 0;

protected:
    ~ConnectionObserver() = default;
};

namespace detail {

/// Hears for a connection that is nobody's, not yet or no more. It has no state.
struct Nobody final : ConnectionObserver {
    void on_open() override {}
    bool on_bytes(Bytes) override { return true; }
    bool on_writable() override { return true; }
    void on_end() override {}
    void on_error(Error) override {}
    static Nobody& instance() {
        static constinit Nobody nobody;
        return nobody;
    }
};

}  // namespace detail

}  // namespace rejoin::inline v0_1

// The three policies of `Pipe<EventSource, Transport, RecoveryPolicy>`: what a class has to have to be one. examples/policies.cpp writes
// all three from outside.
namespace rejoin::inline v0_1 {

/// Knows the state of the host's network and reports changes of it. One exists a loop, however many pipes listen.
///
///     static E& of(Loop&)                     the loop's one; `loop.service<E>()` makes it as `E(loop)` when first asked for
///     const NetworkState& state() const       now; empty and not `known` where it has not looked
///     void observe(NetworkObserver&)          tells the observer of every change from now on, on the loop's thread, until it is unlinked:
///                                             early and, when it has held, as settled. `ChangeFeed` does it. After `state()` has changed,
///                                             never inside `of` or `observe`.
template <class E>
concept EventSource = requires(E& source, const E& seen, Loop& loop, NetworkObserver& observer) {
    { E::of(loop) } -> std::same_as<E&>;
    { seen.state() } -> std::convertible_to<const NetworkState&>;
    source.observe(observer);
};

/// One connection of a transport: opened once or adopted, and destroyed to close it. Never blocks, calls its observer on the loop's
/// thread, and may be destroyed in any such call.
///
///     C(Loop&, ConnectionObserver&)                   not open yet
///     void set_observer(ConnectionObserver&)          from now on
///     Result<void> open(const Endpoint& to, const Way&)
///                                                     starts to connect to a numeric endpoint, on that way; `on_open` or `on_error` comes
///                                                     later, never inside
///     Result<size_t> write(std::span<const Bytes>)    takes what it can, in order, at least a byte; else `would_block`, or why not
///     void want_writable()                            asks for one `on_writable`
///     void pause(bool), bool paused()                 stops and resumes `on_bytes`
///     void set_read_limit(uint32_t)                   at most so many bytes in one `on_bytes`
///     void end()                                      ends the sending direction, after what was written
///     void abort()                                    discards what was not sent; nothing more is heard
///     Endpoint local_endpoint(), peer_endpoint()
///  Optional:
///     Result<void> adopt(Socket), Socket release()    for `Pipe::adopt`, `release` and `Listener`; adopted is open at once
///     PathInfo path_info()                            tells a silent peer whose kernel answers from a dead path
template <class C>
concept TransportConnection = requires(C& c, const C& seen, Loop& loop, ConnectionObserver& observer, const Endpoint& to, const Way& way,
                                       std::span<const Bytes> pieces) {
    C(loop, observer);
    c.set_observer(observer);
    { c.open(to, way) } -> std::same_as<Result<void>>;
    { c.write(pieces) } -> std::same_as<Result<std::size_t>>;
    c.want_writable();
    c.pause(true);
    { seen.paused() } -> std::convertible_to<bool>;
    c.set_read_limit(std::uint32_t{});
    c.end();
    c.abort();
    { seen.local_endpoint() } -> std::convertible_to<Endpoint>;
    { seen.peer_endpoint() } -> std::convertible_to<Endpoint>;
};

/// How bytes travel: names the connection, and what survives it.
///
///     T::Connection    a `TransportConnection`
///     T::Session       `session::Plain` (nothing survives) or `session::Session` (everything does). One that has `end_is_a_break` is of a
///                      protocol in which the peer's end of the connection is not the end of the conversation
///     T::Options       the session's options
///  For `Listener` also:
///     T::Acceptor      A::Accepted, which C::adopt takes; A(Loop&, Delegate<void(A::Accepted&&)>), Result<void> listen(const Endpoint&,
///     int backlog), void close(),
///                      bool listening(), Endpoint local_endpoint(); optional: void rest(Duration), void go_on(), to leave a crowd in the
///                      system's queue for a while
template <class T>
concept Transport = requires {
    typename T::Connection;
    typename T::Session;
    typename T::Options;
    { T::Session::survives_connections } -> std::convertible_to<bool>;
}
&&TransportConnection<typename T::Connection>;

/// Decides what to do about a failure. Pure: no clock, no system call. An accepted pipe has none, as its peer does the connecting.
///
///     R::Options                                      default-constructible
///     R(const R::Options&, uint64_t seed)             the options outlive it; the seed is random, for jitter
///     Action decide(const Failure&, const NetworkState&, TimePoint now)
///                                                     an attempt failed or the connection broke
///  Optional:
///     Duration patience(TimePoint now)                how long to leave an attempt alone before another is started beside it; without
///                                                     this, an attempt has the pipe's `connect_timeout` and no other beside it
///     void connected(TimePoint now)                   a connection is open and joined
///     Duration network_regained(TimePoint now)        the network changed for the better: when to try; without this, at once
///     void network_changed(TimePoint now)             the network changed under the connection, or for the better
///     Duration liveness_interval(const NetworkState&, Duration usual)
///                                                     how often a quiet connection of a session is to be probed on this network, where
///                                                     `usual` is what the transport's options say
///  Optional, all together, to share something among the pipes of one loop to one server (as it was asked for, by name or number):
///     R::Server                                       what is shared; default-constructible. `TimePoint next(TimePoint now) const`: when
///                                                     the pipe that waits for longest is to ask again; never: not before a pipe to this
///                                                     server was asked `decide`, `connected`, `leave` or `idle`
///     void join(R::Server&), void leave()             from when a conversation begins until it is over
///     bool admitted(TimePoint now)                    whether an attempt may be made now; if not, the pipe waits for its turn
///     void idle()                                     no attempt of this pipe is to come
template <class R>
concept RecoveryPolicy = requires(R& policy, const typename R::Options& options, std::uint64_t seed, const Failure& failure,
                                  const NetworkState& network, TimePoint now) {
    requires std::default_initializable<typename R::Options>;
    R(options, seed);
    { policy.decide(failure, network, now) } -> std::same_as<Action>;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// The addresses of one name, and the order in which to try them: by RFC 8305 §4, both families in turn, beginning with the family that the
/// system puts first (RFC 6724). The last winner comes first; one that lost stands behind the others until its penalty is over, which
/// doubles with each loss. Pure: time comes in.
class Candidates {
public:
    /// A loser's first penalty, and the longest.
    static constexpr Duration penalty = Duration::seconds(1);
    static constexpr Duration penalty_max = Duration::seconds(60);

    /// Takes new addresses, in the system's order; what is known of those that stay is kept. False, and nothing has changed, when memory is
    /// out.
    [[gnu::cold]] bool set(const Array<IpAddress>& addresses) {
        Array<Candidate> fresh;
        if (!fresh.reserve(addresses.size())) return false;
        std::size_t at[2] = {};  // in each family
        Family turn = addresses.empty() ? Family::none : addresses[0].family;
        while (fresh.size() < addresses.size()) {
            std::size_t& i = at[turn == Family::v6];
            while (i < addresses.size() && addresses[i].family != turn) ++i;
            if (i < addresses.size()) fresh.push({addresses[i++], {}, 0, false});
            turn = turn == Family::v4 ? Family::v6 : Family::v4;
        }
        for (Candidate& candidate : fresh)
            if (const Candidate* known = find(candidate.ip)) candidate = *known;
        const bool had_winner = has_winner_;
        const IpAddress winner = had_winner ? all_[0].ip : IpAddress();
        all_ = std::move(fresh);
        has_winner_ = false;
        if (had_winner) won(winner);
        restart();
        return true;
    }
    bool empty() const { return all_.empty(); }
    std::size_t size() const { return all_.size(); }
    bool has(const IpAddress& ip) const { return const_cast<Candidates*>(this)->find(ip) != nullptr; }

    /// Begins a new round: each address may be tried again.
    void restart() {
        for (Candidate& candidate : all_) candidate.tried = false;
    }
    /// Whether each address has been tried in this round.
    bool round_over() const {
        for (const Candidate& candidate : all_)
            if (!candidate.tried) return false;
        return true;
    }
    /// The address to try next; of family none when there is none at all. Begins a new round where one is over.
    IpAddress next(TimePoint now) {
        if (round_over()) restart();
        Candidate* best = nullptr;
        for (Candidate& candidate : all_) {
            if (candidate.tried) continue;
            if (best == nullptr || (best->penalised(now) && candidate.behind_until < best->behind_until)) best = &candidate;
        }
        if (best == nullptr) return {};
        best->tried = true;
        return best->ip;
    }

    /// This one failed.
    void lost(const IpAddress& ip, TimePoint now) {
        Candidate* candidate = find(ip);
        if (candidate == nullptr) return;
        Duration longer = penalty * (std::int64_t{1} << candidate->losses);
        if (candidate->losses < 6) ++candidate->losses;
        candidate->behind_until = now + (longer < penalty_max ? longer : penalty_max);
    }
    /// This one serves: it is the first from now on.
    void won(const IpAddress& ip) {
        Candidate* candidate = find(ip);
        if (candidate == nullptr) return;
        Candidate winner = *candidate;
        winner.losses = 0;
        winner.behind_until = {};
        for (; candidate != all_.begin(); --candidate) *candidate = candidate[-1];
        all_[0] = winner;
        has_winner_ = true;
    }

private:
    struct Candidate {
        IpAddress ip;
        TimePoint behind_until;
        std::uint8_t losses;
        bool tried;
        bool penalised(TimePoint now) const { return behind_until > now; }
    };
    Candidate* find(const IpAddress& ip) {
        for (Candidate& candidate : all_)
            if (candidate.ip == ip) return &candidate;
        return nullptr;
    }

    Array<Candidate> all_;
    bool has_winner_ = false;
};

/// The `n`th interface, from 0, by which `peer` may be reached beside the one that the system's route takes, in the state's order: it runs,
/// and has an address of the peer's family that is usable, preferred and good beyond its link. 0 when there is none. Never one when the
/// route leads through a tunnel, whose user wants nothing to go beside it, nor to a peer that only its own link reaches. Pure.
[[gnu::cold]] inline std::uint32_t other_interface(const NetworkState& network, const IpAddress& peer, std::size_t n) {
    const IpAddress to = unmapped(peer);
    const Route& route = network.route_for(to.family);
    const Interface* const usual = route.present ? network.find_interface(route.interface_index) : nullptr;
    if (to.is_loopback() || to.is_link_local() || (usual != nullptr && usual->point_to_point)) return 0;
    for (const Interface& i : network.interfaces)
        if (network.on_link(i.index, to)) return 0;
    for (const Interface& i : network.interfaces) {
        if (&i == usual || !i.running() || i.loopback || i.noise || i.point_to_point) continue;
        for (const InterfaceAddress& a : network.addresses) {
            if (a.interface_index != i.index || a.ip.family != to.family || !a.usable() || a.deprecated || a.ip.is_link_local()) continue;
            if (n-- == 0) return i.index;
            break;
        }
    }
    return 0;
}

}  // namespace rejoin::inline v0_1

#include <cstdint>
#include <span>

namespace rejoin::inline v0_1::detail {

// What a code means; and where that depends on the stage.
struct ErrorRow {
    std::int16_t code;
    FailureKind kind;
};
struct StageRow {
    std::int16_t code;
    Stage stage;
    FailureKind kind;
};
// The codes of one system.
struct ErrorTables {
    std::span<const ErrorRow> system;
    std::span<const StageRow> system_at;
    std::span<const ErrorRow> resolver;
    std::int16_t address_not_available;  // EADDRNOTAVAIL, as the system numbers it
    // What connecting to a neighbour comes to where the user has not given the program the local network (macOS 15), which nothing else
    // tells; 0: there is no such permission.
    std::int16_t local_network_denied = 0;
};

}  // namespace rejoin::inline v0_1::detail

#if !defined(_WIN32)
#include <errno.h>
#include <netdb.h>

// What the POSIX systems' codes mean, with the reason beside each. By name: each system has its own numbers.
namespace rejoin::inline v0_1::detail {

inline constexpr ErrorRow posix_errors[] = {
    // The way, or this host's part of it.
    {EACCES, FailureKind::no_route},                    // a prohibit route; a broadcast address without SO_BROADCAST is the program's fault
    {EAFNOSUPPORT, FailureKind::no_route},              // this host has not this family
    {EPFNOSUPPORT, FailureKind::no_route},              // the same
    {ENETDOWN, FailureKind::no_route},                  // the interface is switched off; macOS after waking
    {ENETUNREACH, FailureKind::no_route},               //
    {ENODEV, FailureKind::no_route},                    // the bound device is gone
    {ENXIO, FailureKind::no_route},                     // the same, on the BSDs
    {ENOPROTOOPT, FailureKind::unreachable},            // ICMP protocol unreachable
    {EHOSTDOWN, FailureKind::unreachable},              // the last hop does not answer: macOS and the BSDs
    {EHOSTUNREACH, FailureKind::unreachable},           // the gateway is dead, or ICMP said so
    {EADDRNOTAVAIL, FailureKind::address_unavailable},  // the address is gone or tentative
    {EPERM, FailureKind::forbidden},                    // an output rule of the local firewall (UDP), or SO_BINDTODEVICE without privilege
    // The peer, or the connection.
    {ECONNREFUSED, FailureKind::refused},  //
    {ETIMEDOUT, FailureKind::timed_out},   //
    {EINTR, FailureKind::reset},           // on a socket only when it is torn down under the call
    {EPIPE, FailureKind::reset},           // written after the peer's reset
    {ENETRESET, FailureKind::reset},       // keep-alive gave up
    {ECONNABORTED, FailureKind::reset},    // the system destroyed the socket
    {ECONNRESET, FailureKind::reset},      //
    {ENOTCONN, FailureKind::reset},        // reset between two calls
    {ESHUTDOWN, FailureKind::reset},       //
    {EPROTO, FailureKind::reset},          // what accept(2) says of a connection that is gone again
    {ECANCELED, FailureKind::cancelled},   //
    // What this host has run out of.
    {EAGAIN, FailureKind::exhausted},        // no failure on a socket; of threads and ports, none left
    {EWOULDBLOCK, FailureKind::exhausted},   // the same
    {ENOMEM, FailureKind::exhausted},        //
    {ENFILE, FailureKind::exhausted},        //
    {EMFILE, FailureKind::exhausted},        //
    {ENOSPC, FailureKind::exhausted},        // inotify's and epoll's limits
    {EDQUOT, FailureKind::exhausted},        //
    {EADDRINUSE, FailureKind::exhausted},    // no port left
    {ENOBUFS, FailureKind::exhausted},       // the interface's queue is full, for a moment
    {EUSERS, FailureKind::exhausted},        //
    {ETOOMANYREFS, FailureKind::exhausted},  // descriptors on their way through a Unix socket
    // The program's mistakes.
    {EINVAL, FailureKind::invalid},           //
    {EBADF, FailureKind::invalid},            //
    {ENOTSOCK, FailureKind::invalid},         //
    {EFAULT, FailureKind::invalid},           //
    {EDESTADDRREQ, FailureKind::invalid},     //
    {EMSGSIZE, FailureKind::invalid},         // a datagram too large for the path
    {EPROTOTYPE, FailureKind::invalid},       //
    {EPROTONOSUPPORT, FailureKind::invalid},  //
    {ESOCKTNOSUPPORT, FailureKind::invalid},  //
    {EOPNOTSUPP, FailureKind::invalid},       //
    {ENOTSUP, FailureKind::invalid},          // the same, on some systems
    {EISCONN, FailureKind::invalid},          //
    {EALREADY, FailureKind::invalid},         // no failure, and never comes this far
    {EINPROGRESS, FailureKind::invalid},      // the same
    {ENOSYS, FailureKind::invalid},           // a sandbox, or an old kernel
    // No socket gives these.
    {ENOENT, FailureKind::other},
    {ESRCH, FailureKind::other},
    {EIO, FailureKind::other},
    {E2BIG, FailureKind::other},
    {ENOEXEC, FailureKind::other},
    {ECHILD, FailureKind::other},
    {EDEADLK, FailureKind::other},
    {ENOTBLK, FailureKind::other},
    {EBUSY, FailureKind::other},
    {EEXIST, FailureKind::other},
    {EXDEV, FailureKind::other},
    {ENOTDIR, FailureKind::other},
    {EISDIR, FailureKind::other},
    {ENOTTY, FailureKind::other},
    {ETXTBSY, FailureKind::other},
    {EFBIG, FailureKind::other},
    {ESPIPE, FailureKind::other},
    {EROFS, FailureKind::other},
    {EMLINK, FailureKind::other},
    {EDOM, FailureKind::other},
    {ERANGE, FailureKind::other},
    {ELOOP, FailureKind::other},
    {ENAMETOOLONG, FailureKind::other},
    {ENOTEMPTY, FailureKind::other},
    {ESTALE, FailureKind::other},
    {EREMOTE, FailureKind::other},
    {ENOLCK, FailureKind::other},
    {EOVERFLOW, FailureKind::other},
    {EIDRM, FailureKind::other},
    {ENOMSG, FailureKind::other},
    {EILSEQ, FailureKind::other},
    {EBADMSG, FailureKind::other},
    {ENOTRECOVERABLE, FailureKind::other},
    {EOWNERDEAD, FailureKind::other},
#if defined(EMULTIHOP)  // all but OpenBSD
    {EMULTIHOP, FailureKind::other},
    {ENOLINK, FailureKind::other},
#endif
#if defined(ETIME)  // Linux, macOS, NetBSD: of STREAMS
    {ETIME, FailureKind::timed_out},
    {ENOSR, FailureKind::exhausted},
    {ENODATA, FailureKind::other},
    {ENOSTR, FailureKind::other},
#endif
#if defined(ERFKILL)                        // Linux
    {ERFKILL, FailureKind::no_route},       // the radio is switched off
    {ENONET, FailureKind::no_route},        // a machine that is not on the network
    {ECOMM, FailureKind::unreachable},      // a link that could not send
    {ENOKEY, FailureKind::no_route},        // a tunnel without a key for the peer
    {EKEYEXPIRED, FailureKind::no_route},   // the same
    {EKEYREVOKED, FailureKind::no_route},   // the same
    {EKEYREJECTED, FailureKind::no_route},  // the same
    {ERESTART, FailureKind::reset},         // an interrupted call
    {EADV, FailureKind::other},
    {EBADE, FailureKind::other},
    {EBADFD, FailureKind::invalid},
    {EBADR, FailureKind::other},
    {EBADRQC, FailureKind::other},
    {EBADSLT, FailureKind::other},
    {EBFONT, FailureKind::other},
    {ECHRNG, FailureKind::other},
    {EDEADLOCK, FailureKind::other},
    {EDOTDOT, FailureKind::other},
    {EHWPOISON, FailureKind::other},
    {EISNAM, FailureKind::other},
    {EL2HLT, FailureKind::other},
    {EL2NSYNC, FailureKind::other},
    {EL3HLT, FailureKind::other},
    {EL3RST, FailureKind::other},
    {ELIBACC, FailureKind::other},
    {ELIBBAD, FailureKind::other},
    {ELIBEXEC, FailureKind::other},
    {ELIBMAX, FailureKind::other},
    {ELIBSCN, FailureKind::other},
    {ELNRNG, FailureKind::other},
    {EMEDIUMTYPE, FailureKind::other},
    {ENAVAIL, FailureKind::other},
    {ENOANO, FailureKind::other},
    {ENOCSI, FailureKind::other},
    {ENOMEDIUM, FailureKind::other},
    {ENOPKG, FailureKind::other},
    {ENOTNAM, FailureKind::other},
    {ENOTUNIQ, FailureKind::other},
    {EREMCHG, FailureKind::other},
    {EREMOTEIO, FailureKind::other},
    {ESRMNT, FailureKind::other},
    {ESTRPIPE, FailureKind::other},
    {EUCLEAN, FailureKind::other},
    {EUNATCH, FailureKind::other},
    {EXFULL, FailureKind::other},
#else  // macOS and the BSDs
    {EPROCLIM, FailureKind::exhausted},
    {EAUTH, FailureKind::other},
    {ENEEDAUTH, FailureKind::other},
    {EBADRPC, FailureKind::other},
    {ERPCMISMATCH, FailureKind::other},
    {EPROGUNAVAIL, FailureKind::other},
    {EPROGMISMATCH, FailureKind::other},
    {EPROCUNAVAIL, FailureKind::other},
    {EFTYPE, FailureKind::other},
    {ENOATTR, FailureKind::other},
#endif
#if defined(EQFULL)                    // macOS
    {EQFULL, FailureKind::exhausted},  // the interface's queue is full
    {EPWROFF, FailureKind::no_route},  // the device is switched off
    {EDEVERR, FailureKind::no_route},  // the device is broken
    {EBADEXEC, FailureKind::other},
    {EBADARCH, FailureKind::other},
    {ESHLIBVERS, FailureKind::other},
    {EBADMACHO, FailureKind::other},
    {ENOPOLICY, FailureKind::other},
#endif
#if defined(ENOTCAPABLE)  // macOS, FreeBSD: a sandbox (Capsicum)
    {ENOTCAPABLE, FailureKind::forbidden},
#endif
#if defined(ECAPMODE)  // FreeBSD
    {ECAPMODE, FailureKind::forbidden},
    {EDOOFUS, FailureKind::invalid},
    {EINTEGRITY, FailureKind::other},
#endif
#if defined(EIPSEC)  // OpenBSD: its IPsec policy lets nothing through in the clear
    {EIPSEC, FailureKind::forbidden},
#endif
};
inline constexpr StageRow posix_errors_at[] = {
    {EACCES, Stage::listening, FailureKind::forbidden},           // a port below 1024 without privilege
    {EADDRINUSE, Stage::listening, FailureKind::address_in_use},  //
    {EINVAL, Stage::connecting, FailureKind::no_route},           // a blackhole route
    {EPROTOTYPE, Stage::established, FailureKind::reset},         // macOS: written while the connection was being torn down
    {EPROTOTYPE, Stage::handshaking, FailureKind::reset},         // the same
    {EPROTOTYPE, Stage::resuming, FailureKind::reset},            // the same
};
// getaddrinfo(3).
inline constexpr ErrorRow posix_resolver_errors[] = {
    {EAI_NONAME, FailureKind::name_unknown},
    {EAI_SERVICE, FailureKind::name_unknown},  // no such service
    {EAI_AGAIN, FailureKind::name_service},    // no server answered, or there is no network to ask over
    {EAI_FAIL, FailureKind::name_service},
    {EAI_MEMORY, FailureKind::exhausted},
    {EAI_OVERFLOW, FailureKind::invalid},
    {EAI_BADFLAGS, FailureKind::invalid},
    {EAI_FAMILY, FailureKind::invalid},
    {EAI_SOCKTYPE, FailureKind::invalid},
    {EAI_SYSTEM, FailureKind::other},  // errno is given in its place
#if defined(EAI_NODATA)
    {EAI_NODATA, FailureKind::name_unknown},  // the name has no address
#endif
#if defined(EAI_ADDRFAMILY)
    {EAI_ADDRFAMILY, FailureKind::name_unknown},  // none of the family asked for
#endif
#if defined(EAI_BADHINTS)  // macOS and the BSDs
    {EAI_BADHINTS, FailureKind::invalid},
    {EAI_PROTOCOL, FailureKind::invalid},
#endif
#if defined(EAI_INPROGRESS)  // glibc's getaddrinfo_a(3)
    {EAI_INPROGRESS, FailureKind::invalid},
    {EAI_CANCELED, FailureKind::cancelled},
    {EAI_NOTCANCELED, FailureKind::invalid},
    {EAI_ALLDONE, FailureKind::invalid},
    {EAI_INTR, FailureKind::cancelled},
    {EAI_IDN_ENCODE, FailureKind::name_unknown},  // what cannot be a name
#endif
};

#if defined(__APPLE__)
inline constexpr std::int16_t local_network_denied = EHOSTUNREACH;
#else
inline constexpr std::int16_t local_network_denied = 0;
#endif
inline constexpr ErrorTables posix_tables = {posix_errors, posix_errors_at, posix_resolver_errors, EADDRNOTAVAIL, local_network_denied};

}  // namespace rejoin::inline v0_1::detail
#endif

// What Windows' codes mean, with the reason beside each. Numbers, which no other system has: so it compiles, and is tested, everywhere.
namespace rejoin::inline v0_1::detail {

// Winsock's codes, and those of Windows that sockets give (Winsock reference, "Windows Sockets Error Codes").
inline constexpr ErrorRow windows_errors[] = {
    // The way, or this host's part of it.
    {10047, FailureKind::no_route},             // WSAEAFNOSUPPORT: this host has not this family
    {10046, FailureKind::no_route},             // WSAEPFNOSUPPORT: the same
    {10050, FailureKind::no_route},             // WSAENETDOWN
    {10051, FailureKind::no_route},             // WSAENETUNREACH
    {10091, FailureKind::no_route},             // WSASYSNOTREADY: the network is not up yet
    {1231, FailureKind::no_route},              // ERROR_NETWORK_UNREACHABLE
    {10042, FailureKind::unreachable},          // WSAENOPROTOOPT: ICMP protocol unreachable
    {10064, FailureKind::unreachable},          // WSAEHOSTDOWN
    {10065, FailureKind::unreachable},          // WSAEHOSTUNREACH: the gateway is dead, or ICMP said so
    {1232, FailureKind::unreachable},           // ERROR_HOST_UNREACHABLE
    {1233, FailureKind::unreachable},           // ERROR_PROTOCOL_UNREACHABLE
    {10049, FailureKind::address_unavailable},  // WSAEADDRNOTAVAIL: the address is gone or tentative
    {10013, FailureKind::forbidden},            // WSAEACCES: the firewall, or a port that somebody has for himself alone
    {5, FailureKind::forbidden},                // ERROR_ACCESS_DENIED
    // The peer, or the connection.
    {10061, FailureKind::refused},    // WSAECONNREFUSED
    {1225, FailureKind::refused},     // ERROR_CONNECTION_REFUSED
    {1234, FailureKind::refused},     // ERROR_PORT_UNREACHABLE
    {10060, FailureKind::timed_out},  // WSAETIMEDOUT
    {121, FailureKind::timed_out},    // ERROR_SEM_TIMEOUT
    {10004, FailureKind::reset},      // WSAEINTR: a call that the socket's end cut short
    {10052, FailureKind::reset},      // WSAENETRESET: keep-alive gave up, or the interface went
    {10053, FailureKind::reset},      // WSAECONNABORTED: retransmissions unanswered, or the address is gone
    {10054, FailureKind::reset},      // WSAECONNRESET
    {10057, FailureKind::reset},      // WSAENOTCONN: reset between two calls
    {10058, FailureKind::reset},      // WSAESHUTDOWN
    {10101, FailureKind::ended},      // WSAEDISCON
    {64, FailureKind::reset},         // ERROR_NETNAME_DELETED: what an overlapped call says of a reset
    {1236, FailureKind::reset},       // ERROR_CONNECTION_ABORTED
    {10103, FailureKind::cancelled},  // WSAECANCELLED
    {10111, FailureKind::cancelled},  // WSA_E_CANCELLED
    {995, FailureKind::cancelled},    // WSA_OPERATION_ABORTED
    // What this host has run out of.
    {8, FailureKind::exhausted},      // WSA_NOT_ENOUGH_MEMORY
    {14, FailureKind::exhausted},     // ERROR_OUTOFMEMORY
    {10024, FailureKind::exhausted},  // WSAEMFILE
    {10048, FailureKind::exhausted},  // WSAEADDRINUSE: no port left
    {10055, FailureKind::exhausted},  // WSAENOBUFS: no port or no memory
    {10059, FailureKind::exhausted},  // WSAETOOMANYREFS
    {10067, FailureKind::exhausted},  // WSAEPROCLIM
    {10068, FailureKind::exhausted},  // WSAEUSERS
    {10069, FailureKind::exhausted},  // WSAEDQUOT
    // The program's mistakes.
    {6, FailureKind::invalid},      // WSA_INVALID_HANDLE
    {87, FailureKind::invalid},     // WSA_INVALID_PARAMETER
    {996, FailureKind::invalid},    // WSA_IO_INCOMPLETE
    {997, FailureKind::invalid},    // WSA_IO_PENDING
    {10009, FailureKind::invalid},  // WSAEBADF
    {10014, FailureKind::invalid},  // WSAEFAULT
    {10022, FailureKind::invalid},  // WSAEINVAL
    {10035, FailureKind::invalid},  // WSAEWOULDBLOCK: no failure, and never comes this far
    {10036, FailureKind::invalid},  // WSAEINPROGRESS
    {10037, FailureKind::invalid},  // WSAEALREADY
    {10038, FailureKind::invalid},  // WSAENOTSOCK
    {10039, FailureKind::invalid},  // WSAEDESTADDRREQ
    {10040, FailureKind::invalid},  // WSAEMSGSIZE
    {10041, FailureKind::invalid},  // WSAEPROTOTYPE
    {10043, FailureKind::invalid},  // WSAEPROTONOSUPPORT
    {10044, FailureKind::invalid},  // WSAESOCKTNOSUPPORT
    {10045, FailureKind::invalid},  // WSAEOPNOTSUPP
    {10056, FailureKind::invalid},  // WSAEISCONN
    {10092, FailureKind::invalid},  // WSAVERNOTSUPPORTED
    {10093, FailureKind::invalid},  // WSANOTINITIALISED
    // No connection gives these.
    {10062, FailureKind::other},  // WSAELOOP
    {10063, FailureKind::other},  // WSAENAMETOOLONG
    {10066, FailureKind::other},  // WSAENOTEMPTY
    {10070, FailureKind::other},  // WSAESTALE
    {10071, FailureKind::other},  // WSAEREMOTE
    {10102, FailureKind::other},  // WSAENOMORE
    {10104, FailureKind::other},  // WSAEINVALIDPROCTABLE
    {10105, FailureKind::other},  // WSAEINVALIDPROVIDER
    {10106, FailureKind::other},  // WSAEPROVIDERFAILEDINIT
    {10107, FailureKind::other},  // WSASYSCALLFAILURE
    {10108, FailureKind::other},  // WSASERVICE_NOT_FOUND
    {10109, FailureKind::other},  // WSATYPE_NOT_FOUND
    {10110, FailureKind::other},  // WSA_E_NO_MORE
    {10112, FailureKind::other},  // WSAEREFUSED
    {11005, FailureKind::other},  // WSA_QOS_RECEIVERS
    {11006, FailureKind::other},  // WSA_QOS_SENDERS
    {11007, FailureKind::other},  // WSA_QOS_NO_SENDERS
    {11008, FailureKind::other},  // WSA_QOS_NO_RECEIVERS
    {11009, FailureKind::other},  // WSA_QOS_REQUEST_CONFIRMED
    {11010, FailureKind::other},  // WSA_QOS_ADMISSION_FAILURE
    {11011, FailureKind::other},  // WSA_QOS_POLICY_FAILURE
    {11012, FailureKind::other},  // WSA_QOS_BAD_STYLE
    {11013, FailureKind::other},  // WSA_QOS_BAD_OBJECT
    {11014, FailureKind::other},  // WSA_QOS_TRAFFIC_CTRL_ERROR
    {11015, FailureKind::other},  // WSA_QOS_GENERIC_ERROR
    {11016, FailureKind::other},  // WSA_QOS_ESERVICETYPE
    {11017, FailureKind::other},  // WSA_QOS_EFLOWSPEC
    {11018, FailureKind::other},  // WSA_QOS_EPROVSPECBUF
    {11019, FailureKind::other},  // WSA_QOS_EFILTERSTYLE
    {11020, FailureKind::other},  // WSA_QOS_EFILTERTYPE
    {11021, FailureKind::other},  // WSA_QOS_EFILTERCOUNT
    {11022, FailureKind::other},  // WSA_QOS_EOBJLENGTH
    {11023, FailureKind::other},  // WSA_QOS_EFLOWCOUNT
    {11024, FailureKind::other},  // WSA_QOS_EUNKNOWNPSOBJ
    {11025, FailureKind::other},  // WSA_QOS_EPOLICYOBJ
    {11026, FailureKind::other},  // WSA_QOS_EFLOWDESC
    {11027, FailureKind::other},  // WSA_QOS_EPSFLOWSPEC
    {11028, FailureKind::other},  // WSA_QOS_EPSFILTERSPEC
    {11029, FailureKind::other},  // WSA_QOS_ESDMODEOBJ
    {11030, FailureKind::other},  // WSA_QOS_ESHAPERATEOBJ
    {11031, FailureKind::other},  // WSA_QOS_RESERVED_PETYPE
};
inline constexpr StageRow windows_errors_at[] = {
    {10048, Stage::listening, FailureKind::address_in_use},  // WSAEADDRINUSE
    {10013, Stage::listening, FailureKind::address_in_use},  // WSAEACCES: somebody has the port for himself alone (SO_EXCLUSIVEADDRUSE)
};
// GetAddrInfoW.
inline constexpr ErrorRow windows_resolver_errors[] = {
    {11001, FailureKind::name_unknown},  // WSAHOST_NOT_FOUND
    {11004, FailureKind::name_unknown},  // WSANO_DATA: the name has no address
    {10109, FailureKind::name_unknown},  // WSATYPE_NOT_FOUND: no such service
    {11002, FailureKind::name_service},  // WSATRY_AGAIN: no server answered, or there is no network to ask over
    {11003, FailureKind::name_service},  // WSANO_RECOVERY
    {10108, FailureKind::name_service},  // WSASERVICE_NOT_FOUND: no name space provider
    {8, FailureKind::exhausted},         // WSA_NOT_ENOUGH_MEMORY
    {10022, FailureKind::invalid},       // WSAEINVAL
    {10044, FailureKind::invalid},       // WSAESOCKTNOSUPPORT
    {10047, FailureKind::invalid},       // WSAEAFNOSUPPORT
};

inline constexpr ErrorTables windows_tables = {windows_errors, windows_errors_at, windows_resolver_errors, 10049};

}  // namespace rejoin::inline v0_1::detail

namespace rejoin::inline v0_1::detail {

// Of the system that is compiled for.
#if defined(_WIN32)
inline constexpr const ErrorTables& host_tables = windows_tables;
#else
inline constexpr const ErrorTables& host_tables = posix_tables;
#endif

}  // namespace rejoin::inline v0_1::detail

namespace rejoin::inline v0_1 {

/// What else is known where an error came up.
struct FailureContext {
    IpAddress from;                         ///< the local address that was asked for; of family none: the system's choice
    const NetworkState* network = nullptr;  ///< as it was then; null: unknown
    IpAddress to = {};                      ///< the peer's; of family none: not known
};

namespace detail {

constexpr FailureKind kind_of(Errc code) {
    switch (code) {
        case Errc::ok:
            return FailureKind::none;
        case Errc::out_of_memory:
            return FailureKind::exhausted;
        case Errc::timed_out:
            return FailureKind::timed_out;
        case Errc::cancelled:
            return FailureKind::cancelled;
        case Errc::malformed:
        case Errc::version_mismatch:
        case Errc::proof_invalid:
            return FailureKind::protocol;
        case Errc::session_unknown:
            return FailureKind::session_unknown;
        case Errc::session_limit:
            return FailureKind::session_refused;
        case Errc::overloaded:
            return FailureKind::overloaded;
        case Errc::redirected:
            return FailureKind::redirected;
        case Errc::session_aborted:
            return FailureKind::session_aborted;
        case Errc::session_fenced:
            return FailureKind::fenced;
        case Errc::session_expired:
            return FailureKind::session_expired;
        case Errc::unresponsive:
            return FailureKind::unresponsive;
        case Errc::address_lost:
            return FailureKind::address_lost;
        case Errc::end_of_stream:
            return FailureKind::ended;
        case Errc::would_block:
        case Errc::invalid_argument:
        case Errc::invalid_state:
        case Errc::too_large:
        case Errc::unsupported:
            return FailureKind::invalid;
    }
    return FailureKind::other;
}

[[gnu::cold]] constexpr FailureKind kind_of(std::span<const ErrorRow> rows, std::int32_t code) {
    for (const ErrorRow& row : rows)
        if (row.code == code) return row.kind;
    return FailureKind::other;
}
[[gnu::cold]] inline bool can_send_from(const NetworkState& network, const IpAddress& ip) {
    for (const InterfaceAddress& a : network.addresses)
        if (a.usable() && same_address(a.ip, ip)) return true;
    return false;
}
[[gnu::cold]] inline bool is_neighbour(const NetworkState& network, const IpAddress& ip) {
    for (const InterfaceAddress& a : network.addresses)
        if (a.usable() && network.on_link(a.interface_index, ip)) return true;
    return false;
}
[[gnu::cold]] inline FailureKind kind_of(const ErrorTables& tables, Error error, Stage stage, const FailureContext& context) {
    if (error.domain() == Error::Domain::resolver) return kind_of(tables.resolver, error.code());
    for (const StageRow& row : tables.system_at)
        if (row.code == error.code() && row.stage == stage) return row.kind;
    if (error.code() == tables.address_not_available && stage == Stage::connecting) {
        // Nothing is wrong with an address that the system chose, or that is there and ready: no port is left on it.
        const NetworkState* const network = context.network;
        const bool there = network != nullptr && network->known && can_send_from(*network, context.from);
        if (context.from.family == Family::none || there) return FailureKind::exhausted;
    }
    // To neighbours nobody else could say that; one that is not there is EHOSTDOWN.
    if (tables.local_network_denied != 0 && error.code() == tables.local_network_denied && stage == Stage::connecting &&
        context.network != nullptr && is_neighbour(*context.network, context.to))
        return FailureKind::forbidden;
    return kind_of(tables.system, error.code());
}

}  // namespace detail

/// What an error means at the stage where it came up, and with what else is known. Total: a code without a row is `other`, and is kept.
/// Pure.
[[gnu::cold]] inline Failure classify(Error error, Stage stage, const FailureContext& context = {}) {
    if (!error) return {FailureKind::none, stage, error};
    if (error.domain() == Error::Domain::rejoin) return {detail::kind_of(static_cast<Errc>(error.code())), stage, error};
    return {detail::kind_of(detail::host_tables, error, stage, context), stage, error};
}

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// A recovery policy that has none: every address of a name is tried once, and the first break is the end.
class FailFast {
public:
    struct Options {};
    FailFast(const Options&, std::uint64_t) {}

    Action decide(const Failure& failure, const NetworkState&, TimePoint) {
        const bool another_may_do = failure.stage == Stage::connecting && failure.kind != FailureKind::cancelled;
        // The pipe gives up where there is no next address: the delay is never waited for.
        return another_may_do ? Action::try_next(Duration::unlimited()) : Action::give_up();
    }
};

}  // namespace rejoin::inline v0_1

#include <utility>

namespace rejoin::inline v0_1 {

/// Judges the path of one connection by what the kernel says of it from time to time. Pure.
class PathWatch {
public:
    enum class Verdict : std::uint8_t {
        fine,
        suspect,  ///< the same segment had to be sent again twice, and nothing came back
        lossy,    ///< it works, and loses so much that another path is worth a try
    };

    /// So many segments sent again, of so many, in a stretch of at least `stretch`: TCP's throughput is down to a tenth and less by then.
    static constexpr std::uint32_t lossy_percent = 15;
    static constexpr std::uint32_t segments_min = 20;
    static constexpr Duration stretch = Duration::seconds(2);

    Verdict look(const PathInfo& info, TimePoint now) {
        if (!info.known) return Verdict::fine;
        if (info.in_flight > 0 && info.retransmits >= 2) return Verdict::suspect;
        if (now < began_) return Verdict::fine;
        const std::uint32_t sent = info.segments_sent - sent_, again = info.segments_resent - resent_;
        if (counting_ && (now - began_ < stretch || sent < segments_min)) return Verdict::fine;
        const bool lossy = std::exchange(counting_, true) && again * 100 >= sent * lossy_percent;
        began_ = now;
        sent_ = info.segments_sent;
        resent_ = info.segments_resent;
        return lossy ? Verdict::lossy : Verdict::fine;
    }
    /// Begins anew, for the next connection; loss does not count before `not_before`.
    void restart(TimePoint not_before = {}) {
        *this = {};
        began_ = not_before;
    }

private:
    TimePoint began_;
    std::uint32_t sent_ = 0;
    std::uint32_t resent_ = 0;
    bool counting_ = false;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// A recovery policy that does not let go: jittered backoff within a retry budget, quick overlapping attempts just after a break and just
/// after a change of the network, no attempt while there is no route, and one at once when the network is back. The budget, and a breaker
/// that keeps a crowd off a server that is down, are shared by all pipes of a loop to that server. Pure: time comes in, and the seed.
class Persistent {
public:
    struct Options {
        /// The shortest pause between two attempts that fail by themselves, and the longest.
        Duration backoff_base = Duration::milliseconds(200);
        Duration backoff_cap = Duration::seconds(30);
        /// An attempt that says nothing gets another beside it after this long, while the break is fresh: SYNs are repeated every
        /// second at best, so attempts a quarter of a second apart find a returned path sooner than any one of them.
        Duration overlap = Duration::milliseconds(250);
        Duration fresh = Duration::seconds(10);
        /// Attempts at hand for each pipe to one server, and how long it takes for one more: a peer that fails at once is not hammered,
        /// even by a jitter that draws short pauses. An attempt without a route, and one while the network settles, are not counted.
        int budget = 40;
        Duration budget_refill = Duration::seconds(5);
        /// After this long with a connection the next break starts with a clean slate.
        Duration stable_after = Duration::seconds(10);
        /// When the network comes back, the first attempt is spread over this long, so that a crowd does not arrive as one.
        Duration regain_jitter = Duration::milliseconds(50);
        /// For this long after a change of the network everything may fail although every address is right (an address that is still being
        /// checked, a router that does not forward yet, a name server that is not there yet): attempts then follow each other within
        /// `overlap`, and are not counted.
        Duration settling = Duration::seconds(5);
    };

    /// What all pipes of a loop to one server share. After `failures_max` failures in a row that lie with the server, it counts as down:
    /// one pipe goes on trying, and the others wait. When it answers, they come one after another, `pace` apart. So they do, too, where it
    /// has ended as many connections within `together` as a server does that is restarted at once.
    class Server {
    public:
        static constexpr int failures_max = 5;
        static constexpr Duration pace = Duration::milliseconds(4);
        static constexpr Duration together = Duration::milliseconds(100);

        /// Whether `who` may make an attempt now; if not, it waits.
        [[gnu::cold]] bool admit(const void* who, TimePoint now) {
            if (held_until_ != TimePoint()) {
                if (now < held_until_) return false;
                held_until_ = {};
                recover(now);
            }
            if (state_ == State::answers) return true;
            if (state_ == State::down) {
                if (prober_ == nullptr) prober_ = who;
                return prober_ == who;
            }
            if (now < next_) return false;
            if (now - next_ > over_after) state_ = State::answers;  // nobody has waited for a while
            next_ = now + pace;
            return true;
        }
        /// When whoever waits for longest is to try `admit` again; never: when this has been told of something.
        TimePoint next(TimePoint now) const {
            if (held_until_ > now) return held_until_;
            if (state_ == State::recovers) return next_;
            return state_ == State::down && prober_ != nullptr ? TimePoint::never() : now;
        }
        bool down() const { return state_ == State::down; }

    private:
        friend Persistent;
        enum class State : std::uint8_t { answers, down, recovers };
        static constexpr Duration over_after = Duration::seconds(1);

        [[gnu::noinline, gnu::cold]] void ended(TimePoint now) {
            if (endings_ == 0 || now - first_ending_ > together) {
                first_ending_ = now;
                endings_ = 0;
            }
            if (++endings_ >= failures_max && state_ == State::answers) recover(now);
        }
        void failed(const void* who) {
            if (++failures_ < failures_max) return;
            failures_ = failures_max;
            state_ = State::down;
            if (prober_ == nullptr) prober_ = who;
        }
        void answered(TimePoint now) {
            failures_ = 0;
            prober_ = nullptr;
            if (state_ == State::down) recover(now);
        }
        void recover(TimePoint now) {
            state_ = State::recovers;
            next_ = now;
        }
        void release(const void* who) {
            if (prober_ == who) prober_ = nullptr;
        }
        // Of what is spent, each pipe makes one good in every `budget_refill`.
        [[gnu::cold]] bool spend(const Options& options, TimePoint now) {
            const std::int64_t each = options.budget_refill.nanoseconds();
            if (spent_ == 0) refilled_at_ = now;
            const std::int64_t made_good = each > 0 ? (now - refilled_at_).nanoseconds() / each * pipes_ : spent_;
            if (made_good > 0) {
                spent_ = made_good < spent_ ? spent_ - made_good : 0;
                refilled_at_ = now;
            }
            if (spent_ >= std::int64_t{options.budget} * pipes_) return false;
            ++spent_;
            return true;
        }

        const void* prober_ = nullptr;
        TimePoint next_;
        TimePoint held_until_;
        TimePoint refilled_at_;
        TimePoint first_ending_;
        std::int64_t spent_ = 0;
        std::int64_t pipes_ = 0;
        int failures_ = 0;
        int endings_ = 0;
        State state_ = State::answers;
    };

    /// `seed` from the system's entropy: machines that start or fail together must not move in step.
    Persistent(const Options& options, std::uint64_t seed) : options_(&options), random_(seed) {}
    Persistent(const Persistent&) = delete;
    ~Persistent() { leave(); }

    /// Shares `server` with others from now on; it outlives this, or `leave`. Without one there is no budget and no breaker.
    void join(Server& server) {
        leave();
        server_ = &server;
        ++server.pipes_;
    }
    [[gnu::cold]] void leave() {
        if (server_ == nullptr) return;
        idle();
        --server_->pipes_;
        // What those who left have spent is not for the others to make good.
        const std::int64_t limit = std::int64_t{options_->budget} * (server_->pipes_ > 0 ? server_->pipes_ : 1);
        if (server_->spent_ > limit) server_->spent_ = limit;
        server_ = nullptr;
    }
    /// Nothing is tried for now: if this was the one that does it for all, another takes over.
    void idle() {
        if (server_ != nullptr) server_->release(this);
    }
    /// Whether an attempt may be made now; if not, `Server::next` says when to ask again.
    bool admitted(TimePoint now) { return server_ == nullptr || server_->admit(this, now); }

    [[gnu::cold]] Action decide(const Failure& failure, const NetworkState& network, TimePoint now) {
        if (broken_at_ == TimePoint()) broken_at_ = now;
        const bool answered = failure.stage == Stage::handshaking || failure.stage == Stage::resuming;
        bool settling = false;  // it may come of a network that is not ready
        switch (failure.kind) {
            case FailureKind::session_unknown:
                if (server_ != nullptr) server_->answered(now);
                return Action::give_up();
            case FailureKind::session_expired:
            case FailureKind::session_aborted:
            case FailureKind::cancelled:
                return Action::give_up();  // trying again would meet the same
            case FailureKind::invalid:
                if (failure.error.domain() == Error::Domain::rejoin) return Action::give_up();
                break;  // what the system calls a mistake may come of a connection torn down under the call
            case FailureKind::protocol:
                // A captive portal, or another stranger on the way: behind it the session is still there.
                if (failure.stage == Stage::resuming && !(failure.error == Errc::version_mismatch)) break;
                return Action::give_up();
            case FailureKind::name_unknown:
                // Without a network nobody was asked, whatever the system's resolver makes of that.
                if (network.offline()) return wait_for_network();
                if (failure.stage == Stage::resolving && !ever_connected_) return Action::give_up();
                settling = true;
                break;
            case FailureKind::no_route:
            case FailureKind::name_service:
                if (network.offline()) return wait_for_network();
                settling = true;
                break;
            case FailureKind::unreachable:
            case FailureKind::address_unavailable:
                settling = true;
                break;
            case FailureKind::timed_out:
                if (answered && server_ != nullptr) server_->failed(this);
                settling = !answered;
                break;
            case FailureKind::refused:
            case FailureKind::session_refused:
                if (server_ != nullptr) server_->failed(this);
                break;
            case FailureKind::overloaded: {
                const Duration asked = Duration::milliseconds(failure.retry_after_ms);
                const Duration away = asked < overloaded_cap ? asked : overloaded_cap;
                if (server_ != nullptr && server_->held_until_ < now + away) server_->held_until_ = now + away;
                const Duration pause = back_off(now, true);
                const Duration jittered = random_.between(away, away + away / 2);
                return Action::retry_after(pause > jittered ? pause : jittered);
            }
            case FailureKind::reset:
            case FailureKind::ended:
                if (failure.stage == Stage::established && server_ != nullptr) server_->ended(now);
                [[fallthrough]];
            case FailureKind::unresponsive:
            case FailureKind::address_lost:
            case FailureKind::fenced:
                if (failure.stage == Stage::established && spend(now)) return Action::retry_after(Duration());
                if (answered && server_ != nullptr) server_->failed(this);
                break;
            default:
                break;
        }
        const Duration pause = settling && now < settled_by_ ? random_.between(options_->overlap / 5, options_->overlap)
                                                             : back_off(now, failure.kind != FailureKind::no_route);
        return failure.stage == Stage::connecting ? Action::try_next(pause) : Action::retry_after(pause);
    }

    /// How long to leave an attempt alone before another is started beside it.
    [[gnu::cold]] Duration patience(TimePoint now) {
        if (broken_at_ == TimePoint()) broken_at_ = now;
        return now - broken_at_ < options_->fresh || now < settled_by_ ? options_->overlap : back_off(now, true);
    }

    /// A connection is open and, where there is a session, joined.
    [[gnu::cold]] void connected(TimePoint now) {
        if (server_ != nullptr) server_->answered(now);
        ever_connected_ = true;
        connected_at_ = now;
        broken_at_ = TimePoint();
    }

    /// The network has changed in a way that concerns this pipe's peer, or may.
    void network_changed(TimePoint now) { settled_by_ = now + options_->settling; }
    /// It has changed for the better, or in a way that may make an address work: when to try.
    Duration network_regained(TimePoint) {
        previous_pause_ = Duration();
        return random_.between(Duration(), options_->regain_jitter);
    }

private:
    static constexpr Duration overloaded_cap = Duration::seconds(120);

    Action wait_for_network() {
        idle();
        return Action::wait_for_network();
    }
    bool spend(TimePoint now) { return server_ == nullptr || server_->spend(*options_, now); }
    // Decorrelated jitter: each pause between the base and three times the one before, capped. A long stable connection resets it.
    [[gnu::cold]] Duration back_off(TimePoint now, bool counts) {
        if (connected_at_ != TimePoint() && broken_at_ - connected_at_ >= options_->stable_after) previous_pause_ = Duration();
        connected_at_ = TimePoint();
        const Duration base = options_->backoff_base;
        const Duration high = previous_pause_ > base ? previous_pause_ * 3 : base * 3;
        Duration pause = random_.between(base, high < options_->backoff_cap ? high : options_->backoff_cap);
        previous_pause_ = pause;
        if (counts && !spend(now) && pause < options_->budget_refill) pause = options_->budget_refill;
        return pause;
    }

    const Options* options_;
    Server* server_ = nullptr;
    Random random_;
    Duration previous_pause_;
    TimePoint broken_at_;
    TimePoint connected_at_;
    TimePoint settled_by_;
    bool ever_connected_ = false;
};

}  // namespace rejoin::inline v0_1

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace rejoin::inline v0_1 {

/// A number for a text, the same everywhere: FNV-1a (Fowler, Noll, Vo), spread by SplitMix64. Not against those who choose the text.
inline std::uint64_t hash_of(TextView text, std::uint64_t seed = 0) {
    std::uint64_t h = 0xcbf29ce484222325 ^ seed;
    for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return Random(h).next();
}

/// A hash index of objects that it does not own: open addressing with linear probing, at most three quarters full. `T` has
/// `std::uint64_t hash() const`, already well mixed, and `bool is(const Key&) const`.
template <class T, class Key>
class Index {
public:
    Index() = default;
    Index(const Index&) = delete;
    ~Index() { std::free(slots_); }

    std::size_t size() const { return size_; }

    T* find(std::uint64_t hash, const Key& key) const {
        if (slots_ == nullptr) return nullptr;
        for (std::size_t at = hash & mask_; slots_[at] != nullptr; at = (at + 1) & mask_)
            if (slots_[at]->is(key)) return slots_[at];
        return nullptr;
    }

    /// Adds an object whose key is not in it; false when memory is out.
    bool insert(T* object) {
        if ((size_ + 1) * 4 > capacity() * 3 && !grow()) return false;
        place(object);
        ++size_;
        return true;
    }

    /// Removes an object that is in it.
    void erase(T* object) {
        std::size_t hole = object->hash() & mask_;
        while (slots_[hole] != object) hole = (hole + 1) & mask_;
        // What follows without a gap moves back when its own place is not behind the hole.
        for (std::size_t at = (hole + 1) & mask_; slots_[at] != nullptr; at = (at + 1) & mask_)
            if (((at - (slots_[at]->hash() & mask_)) & mask_) >= ((at - hole) & mask_)) {
                slots_[hole] = slots_[at];
                hole = at;
            }
        slots_[hole] = nullptr;
        --size_;
    }

private:
    std::size_t capacity() const { return slots_ == nullptr ? 0 : mask_ + 1; }
    void place(T* object) {
        std::size_t at = object->hash() & mask_;
        while (slots_[at] != nullptr) at = (at + 1) & mask_;
        slots_[at] = object;
    }
    bool grow() {
        const std::size_t old_capacity = capacity();
        const std::size_t wanted = old_capacity == 0 ? 16 : old_capacity * 2;
        auto** grown = static_cast<T**>(std::calloc(wanted, sizeof(T*)));
        if (grown == nullptr) return false;
        T** old = slots_;
        slots_ = grown;
        mask_ = wanted - 1;
        for (std::size_t i = 0; i < old_capacity; ++i)
            if (old[i] != nullptr) place(old[i]);
        std::free(old);
        return true;
    }

    T** slots_ = nullptr;
    std::size_t mask_ = 0;
    std::size_t size_ = 0;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1::detail {

/// What the pipes of one loop know together of each server, by the endpoint that they were told to connect to; and those of them that wait
/// for their turn. `S` is the policy's part of it (policies.hpp: `R::Server`).
template <class S>
class Servers {
public:
    /// A pipe that waits: called when its turn may have come.
    struct Waiter : ListNode {
        explicit Waiter(Delegate<void()> g) : go(g) {}
        const Delegate<void()> go;
    };

    class Server : ListNode {
    public:
        Server(Loop& loop, const Endpoint& to, std::uint64_t hash)
            : loop_(loop), timer_(loop, Delegate<void()>::to<&Server::turn>(this)), to_(to), hash_(hash) {}
        S state;

        std::uint64_t hash() const { return hash_; }
        bool is(const Endpoint& to) const { return to_ == to; }
        void wait(Waiter& waiter) {
            waiters_.push(waiter);
            look();
        }
        /// Something has changed that may give one who waits a turn.
        void look() {
            if (!waiters_.empty()) timer_.at(state.next(loop_.now()));
        }

    private:
        friend class Servers;
        void turn() {
            ++users_;  // whoever has a turn may be the last who knows this server
            while (!waiters_.empty()) {
                const TimePoint next = state.next(loop_.now());
                if (next > loop_.now()) {
                    timer_.at(next);
                    break;
                }
                auto& waiter = static_cast<Waiter&>(*waiters_.front());
                waiter.unlink();
                waiter.go();
            }
            loop_.service<Servers>().leave(*this);
        }

        Loop& loop_;
        List waiters_;
        Loop::Timer timer_;
        const Endpoint to_;
        const std::uint64_t hash_;
        unsigned users_ = 0;
    };

    explicit Servers(Loop& loop) : loop_(loop) {}
    ~Servers() {
        while (Server* idle = static_cast<Server*>(idle_.front())) remove(idle);
    }

    /// The one for `to`, until `leave`. Null when memory is out.
    [[gnu::cold]] Server* join(const Endpoint& to) {
        const std::uint64_t hash = hash_of(to);
        Server* server = all_.find(hash, to);
        if (server == nullptr) {
            server = new (std::nothrow) Server(loop_, to, hash);
            if (server == nullptr || !all_.insert(server)) {
                delete server;
                return nullptr;
            }
        } else if (server->users_ == 0) {
            server->unlink();
            --idle_count_;
        }
        ++server->users_;
        return server;
    }
    /// What is known is kept for the next who comes, as long as there are few such servers.
    [[gnu::cold]] void leave(Server& server) {
        if (--server.users_ > 0) return;
        idle_.push(server);
        if (++idle_count_ > idle_max) {
            --idle_count_;
            remove(static_cast<Server*>(idle_.front()));
        }
    }

private:
    static constexpr std::size_t idle_max = 64;

    void remove(Server* server) {
        all_.erase(server);
        delete server;
    }
    static std::uint64_t hash_of(const Endpoint& to) {
        std::uint64_t h = to.port();
        const auto mix = [&](std::uint64_t word) { h = Random(h ^ word).next(); };
        for (std::uint8_t b : to.ip().bytes) mix(b);
        for (const char* c = to.name(); c != nullptr && *c != 0; ++c) mix(static_cast<unsigned char>(*c));
        return h;
    }

    Loop& loop_;
    Index<Server, Endpoint> all_;
    List idle_;
    std::size_t idle_count_ = 0;
};

}  // namespace rejoin::inline v0_1::detail

namespace rejoin::inline v0_1 {

/// The transport policy that puts a session over any stream transport: the conversation goes on over a new connection, from another
/// address if need be, with no byte lost, repeated or reordered. Both ends speak it; session/README.md has the protocol.
template <class T>
struct Resumable {
    using Connection = typename T::Connection;
    using Acceptor = typename T::Acceptor;
    using Session = session::Session;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1::session {

/// The session of a transport that has none: a queue of what is to be written on the one connection. What is in it, or on its way,
/// when the connection breaks is lost. Pure.
class Plain {
public:
    static constexpr bool survives_connections = false;
    struct Options {
        /// Bytes queued until the system takes them, at most. A `send` beyond it is refused with `would_block`.
        std::size_t queue_limit = 1024 * 1024;

        bool valid() const { return queue_limit > 0; }
    };

    void set_options(const Options& options) { options_ = &options; }

    /// Queues `bytes` whole, or refuses them whole: `would_block`, `too_large`, `invalid_state` after `finish`, `out_of_memory`.
    Result<void> send(Bytes bytes) {
        if (finishing_) return Errc::invalid_state;
        if (bytes.size() > options_->queue_limit - queue_.size()) {
            if (bytes.size() > options_->queue_limit) return Errc::too_large;
            return refuse();
        }
        if (!queue_.append(bytes)) return Errc::out_of_memory;
        sent_ += bytes.size();
        return {};
    }
    /// Says `would_block`, and `take_drained` later.
    Error refuse() {
        refused_ = true;
        return Errc::would_block;
    }
    std::size_t send_space() const { return options_->queue_limit - queue_.size(); }
    std::size_t send_limit() const { return options_->queue_limit; }
    bool empty() const { return queue_.empty(); }
    /// True once after a refusal, when half of the limit is free again.
    bool take_drained() {
        if (!refused_ || queue_.size() > options_->queue_limit / 2) return false;
        refused_ = false;
        return true;
    }
    void finish() { finishing_ = true; }
    bool finishing() const { return finishing_; }
    /// Bytes that `send` took, and that were delivered, over all connections.
    std::uint64_t sent() const { return sent_; }
    std::uint64_t received() const { return received_; }
    void delivered(std::size_t n) { received_ += n; }
    std::size_t unacknowledged() const { return queue_.size(); }

    /// Whether the peer hears of an end.
    static constexpr bool has_end = true;
    /// The most pieces that `gather` gives.
    static constexpr std::size_t pieces_max = 2;
    /// Tells what to write next, in order, as views that hold until the next call of anything; returns how many pieces.
    std::size_t gather(std::span<Bytes, pieces_max> pieces) const {
        pieces[0] = queue_.peek(0, queue_.size());
        if (pieces[0].size() == queue_.size()) return 1;
        pieces[1] = queue_.peek(pieces[0].size(), queue_.size());
        return 2;
    }
    void wrote(std::size_t n) { queue_.drop(n); }
    /// Adds a copy of what is queued to `to`; false when memory is out.
    bool save(Array<std::byte>& to) const { return queue_.copy_to(to); }
    /// Starts over for a new connection: what was queued is dropped.
    void restart() { queue_.release(); }

private:
    const Options* options_ = nullptr;
    Ring queue_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    bool finishing_ = false;
    bool refused_ = false;
};

}  // namespace rejoin::inline v0_1::session

namespace rejoin::inline v0_1 {

/// One TCP connection: opened once, or adopted, and closed. Tells its observer what happens; writes what the system takes, no more.
class TcpConnection {
public:
    TcpConnection(Loop& loop, ConnectionObserver& observer)
        : observer_(&observer), watch_(loop, Delegate<void(Ready)>::to<&TcpConnection::ready>(this)) {}
    ~TcpConnection() { watch_.stop(); }

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }

    /// Starts to connect to a numeric endpoint, on that way. `on_open` or `on_error` follows, never inside this call.
    [[gnu::cold]] Result<void> open(const Endpoint& to, const Way& way) {
        auto made = Socket::tcp(to.ip().family);
        if (!made) return made.error();
        socket_ = std::move(*made);
        if (way.segment_max != 0) socket_.limit_segments(way.segment_max);
        if (way.interface_index != 0)
            if (auto bound = socket_.leave_by(way.interface_index, to.ip().family); !bound) return bound;
        if (way.from.family != Family::none)
            if (auto bound = socket_.bind(way.from, 0); !bound) return bound;
        if (auto connected = socket_.connect(to.ip(), to.port()); !connected && connected.error() != Errc::would_block) return connected;
        opening_ = true;
        return watch_.start(socket_.fd(), Ready::writable);
    }
    /// Takes over a connected socket; open at once, without `on_open`.
    [[gnu::cold]] Result<void> adopt(Socket socket) {
        socket_ = std::move(socket);
        configure();
        return watch_.start(socket_.fd(), Ready::readable);
    }
    /// Gives the socket to the caller; nothing more is heard.
    Socket release() {
        watch_.stop();
        return std::move(socket_);
    }

    /// Writes the pieces, in order, as far as the system takes them: how many bytes, or `would_block` for none.
    Result<std::size_t> write(std::span<const Bytes> pieces) { return socket_.send(pieces); }
    /// Asks for one `on_writable`.
    void want_writable() {
        writable_wanted_ = true;
        update();
    }
    /// Stops reading, or goes on.
    void pause(bool paused) {
        paused_ = paused;
        update();
    }
    bool paused() const { return paused_; }
    /// Reads at most `n` bytes at a time.
    void set_read_limit(std::uint32_t n) { read_limit_ = n; }

    /// Ends the sending direction after what was written.
    void end() { static_cast<void>(socket_.shutdown_send()); }
    /// Closes with a reset, for the peer to notice at once; destroying only closes.
    void abort() {
        watch_.stop();
        socket_.reset();
    }

    Endpoint local_endpoint() const { return socket_.local_endpoint(); }
    Endpoint peer_endpoint() const { return socket_.peer_endpoint(); }
    PathInfo path_info() const { return socket_.path_info(); }

private:
    [[gnu::cold]] void configure() {
        socket_.no_delay();
        // A connection that stays in use through an outage retries within a second of the path's return.
        socket_.cap_retransmission(Duration::seconds(1));
    }
    void update() {
        if (opening_) return;
        const Ready wanted = (reading() ? Ready::readable : Ready::none) | (writable_wanted_ ? Ready::writable : Ready::none);
        if (!hung_up_)
            watch_.change(wanted);
        else if (reading())
            hung_up_ = !watch_.start(socket_.fd(), wanted);
    }
    bool reading() const { return !paused_ && !ended_; }

    void ready(Ready what) {
        if (opening_) return opened();
        if (what == Ready::readable && reading()) return read();
        if (writable_wanted_ && has(what, Ready::writable)) {
            writable_wanted_ = false;
            update();
            if (!observer_->on_writable() || !socket_) return;  // gone, or released
        }
        if (!has(what, Ready::readable)) return;
        if (!reading()) {
            // Only an error or a hang-up gets here, and would again at once. Behind a hang-up there may still be something to read.
            if (what == Ready::both) {
                watch_.stop();
                hung_up_ = true;
                if (const Error error = socket_.take_error()) observer_->on_error(error);
            }
            return;
        }
        read();
    }
    void read() {
        const MutableBytes room = watch_.loop().scratch();
        auto size = socket_.receive(room.first(read_limit_ < room.size() ? read_limit_ : room.size()));
        if (!size) {
            if (size.error() != Errc::would_block) observer_->on_error(size.error());
            return;
        }
        if (*size == 0) {
            ended_ = true;
            update();
            observer_->on_end();
            return;
        }
        observer_->on_bytes(room.first(*size));
    }
    [[gnu::cold]] void opened() {
        if (const Error error = socket_.take_error()) return observer_->on_error(error);
        opening_ = false;
        configure();
        update();
        observer_->on_open();
    }

    ConnectionObserver* observer_;
    Socket socket_;
    std::uint32_t read_limit_ = UINT32_MAX;
    bool opening_ = false;
    bool paused_ = false;
    bool writable_wanted_ = false;
    bool ended_ = false;    // the peer's direction: read to its end
    bool hung_up_ = false;  // both directions: no longer watched while nothing is read
    Loop::Watch watch_;
};

/// Listens for TCP connections and hands each accepted socket to its delegate.
class TcpAcceptor {
public:
    using Accepted = Socket;

    TcpAcceptor(Loop& loop, Delegate<void(Socket&&)> accepted)
        : accepted_(accepted),
          watch_(loop, Delegate<void(Ready)>::to<&TcpAcceptor::ready>(this)),
          again_(loop, Delegate<void()>::to<&TcpAcceptor::go_on>(this)) {}

    /// Listens on a numeric endpoint; port 0 lets the system choose. `backlog`: connections the system keeps waiting.
    [[gnu::cold]] Result<void> listen(const Endpoint& at, int backlog) {
        if (at.ip().family == Family::none) return Errc::invalid_argument;
        auto made = Socket::tcp(at.ip().family);
        if (!made) return made.error();
        made->reuse_address();
        if (auto bound = made->bind(at.ip(), at.port()); !bound) return bound;
        if (auto listening = made->listen(backlog); !listening) return listening;
        if (auto watched = watch_.start(made->fd(), Ready::readable); !watched) return watched;
        socket_ = std::move(*made);
        return {};
    }
    /// Goes on with a socket that listens already.
    [[gnu::cold]] Result<void> adopt(Socket socket) {
        if (auto watched = watch_.start(socket.fd(), Ready::readable); !watched) return watched;
        socket_ = std::move(socket);
        return {};
    }
    /// Gives the socket to the caller; who comes waits in the system's queue.
    [[gnu::cold]] Socket release() {
        watch_.stop();
        again_.cancel();
        return std::move(socket_);
    }
    ~TcpAcceptor() {
        if (destroyed_ != nullptr) *destroyed_ = true;
    }
    [[gnu::cold]] void close() {
        watch_.stop();
        again_.cancel();
        socket_.close();
    }
    bool listening() const { return static_cast<bool>(socket_); }
    Endpoint local_endpoint() const { return socket_.local_endpoint(); }

    /// Accepts nothing for `d`, or until `go_on`: who comes meanwhile waits in the system's queue.
    [[gnu::cold]] void rest(Duration d) {
        watch_.change(Ready::none);
        again_.after(d);
    }
    [[gnu::cold]] void go_on() {
        again_.cancel();
        watch_.change(Ready::readable);
    }

private:
    // So many in one turn that a crowd is let in quickly, and so few that those who are in are still served.
    static constexpr int accepts_per_turn = 64;

    void ready(Ready) {
        bool destroyed = false;
        destroyed_ = &destroyed;
        for (int i = 0; i < accepts_per_turn && socket_ && !again_.armed(); ++i) {
            auto socket = socket_.accept();
            if (!socket && stop_at(socket.error())) break;
            if (socket) accepted_(std::move(*socket));  // may close or destroy this acceptor
            if (destroyed) return;
        }
        destroyed_ = nullptr;
    }
    bool stop_at(Error error) {
        // Without descriptors or memory the waiting connection stays, and the listening socket stays readable: look again a little
        // later instead of at once, for ever. Other errors are those of the one connection (accept(2)).
        const bool exhausted = Socket::exhausted(error);
        if (exhausted) rest(Duration::milliseconds(100));
        return exhausted || error == Errc::would_block;
    }

    Delegate<void(Socket&&)> accepted_;
    Socket socket_;
    Loop::Watch watch_;
    Loop::Timer again_;
    bool* destroyed_ = nullptr;  // of the call under way
};

/// The transport policy for plain TCP: a stream over one connection. What was on its way when it breaks is lost.
struct Tcp {
    using Connection = TcpConnection;
    using Acceptor = TcpAcceptor;
    using Session = session::Plain;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1::session {

/// The session of a transport of datagrams: a queue of those that wait for a socket, or for the system to take them. Each arrives whole or
/// not at all, in any order. Nothing tells the peer of an end. Pure.
class Datagrams {
public:
    static constexpr bool survives_connections = false;
    static constexpr bool has_end = false;
    /// The longest that UDP carries over IPv4.
    static constexpr std::size_t datagram_max = 65'507;

    struct Options {
        /// Bytes queued until the system takes them, at most, with four more for each datagram. A `send` beyond it is refused with
        /// `would_block`.
        std::size_t queue_limit = 256 * 1024;

        bool valid() const { return queue_limit >= datagram_max + header; }
    };

    void set_options(const Options& options) { options_ = &options; }

    /// Queues one datagram, which may be empty: `would_block`, `too_large`, `invalid_state` after `finish`, `out_of_memory`.
    Result<void> send(Bytes datagram) {
        if (finishing_) return Errc::invalid_state;
        if (datagram.size() > datagram_max) return Errc::too_large;
        if (datagram.size() + header > options_->queue_limit - queue_.size()) return refuse();
        if (!queue_.reserve(header + datagram.size())) return Errc::out_of_memory;
        std::byte length[header];
        store_big(length, static_cast<std::uint32_t>(datagram.size()));
        queue_.append(length);
        queue_.append(datagram);
        sent_ += datagram.size();
        return {};
    }
    /// Says `would_block`, and `take_drained` later.
    Error refuse() {
        refused_ = true;
        return Errc::would_block;
    }
    std::size_t send_space() const { return options_->queue_limit - queue_.size(); }
    std::size_t send_limit() const { return options_->queue_limit; }
    bool empty() const { return queue_.empty(); }
    /// True once after a refusal, when half of the limit is free again.
    bool take_drained() {
        if (!refused_ || queue_.size() > options_->queue_limit / 2) return false;
        refused_ = false;
        return true;
    }
    void finish() { finishing_ = true; }
    bool finishing() const { return finishing_; }
    /// Bytes that `send` took, and that were delivered, over all sockets.
    std::uint64_t sent() const { return sent_; }
    std::uint64_t received() const { return received_; }
    void delivered(std::size_t n) { received_ += n; }
    std::size_t unacknowledged() const { return queue_.size(); }

    /// The most pieces that `gather` gives.
    static constexpr std::size_t pieces_max = 2;
    /// Tells what makes the next datagram, as views that hold until the next call of anything; returns how many pieces.
    std::size_t gather(std::span<Bytes, pieces_max> pieces) const {
        const std::size_t size = front_size();
        pieces[0] = queue_.peek(header, size);
        if (pieces[0].size() == size) return 1;
        pieces[1] = queue_.peek(header + pieces[0].size(), size - pieces[0].size());
        return 2;
    }
    /// The next datagram was taken, or is given up.
    void wrote(std::size_t) { queue_.drop(header + front_size()); }
    /// Whether another socket is worth a try, when this host's firewall has refused a datagram: not more often than every 5 s.
    bool may_replace_socket(TimePoint now) {
        if (now < replace_after_) return false;
        replace_after_ = now + Duration::seconds(5);
        return true;
    }
    /// What waits goes out by the next socket.
    void restart() {}

private:
    static constexpr std::size_t header = 4;

    std::size_t front_size() const {
        std::byte length[header];
        for (std::size_t i = 0; i < header; ++i) length[i] = queue_.peek(i, 1)[0];
        return load_big<std::uint32_t>(length);
    }

    const Options* options_ = nullptr;
    Ring queue_;
    TimePoint replace_after_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    bool finishing_ = false;
    bool refused_ = false;
};

}  // namespace rejoin::inline v0_1::session

namespace rejoin::inline v0_1 {

/// A UDP socket connected to one peer: opened once, and closed. Hears datagrams of that peer alone; `on_bytes` is one datagram.
class UdpConnection {
public:
    UdpConnection(Loop& loop, ConnectionObserver& observer)
        : observer_(&observer), watch_(loop, Delegate<void(Ready)>::to<&UdpConnection::ready>(this)) {}
    ~UdpConnection() { watch_.stop(); }

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }

    /// Connects to a numeric endpoint, on that way: nothing is sent. `on_open` follows, never inside this call; an error comes at once.
    Result<void> open(const Endpoint& to, const Way& way) {
        auto made = Socket::udp(to.ip().family);
        if (!made) return made.error();
        socket_ = std::move(*made);
        if (way.interface_index != 0)
            if (auto bound = socket_.leave_by(way.interface_index, to.ip().family); !bound) return bound;
        if (way.from.family != Family::none)
            if (auto bound = socket_.bind(way.from, 0); !bound) return bound;
        if (auto connected = socket_.connect(to.ip(), to.port()); !connected) return connected;
        opening_ = true;
        return watch_.start(socket_.fd(), Ready::writable);
    }
    /// Takes over a connected socket; open at once, without `on_open`.
    Result<void> adopt(Socket socket) {
        socket_ = std::move(socket);
        return watch_.start(socket_.fd(), Ready::readable);
    }
    /// Gives the socket to the caller; nothing more is heard.
    Socket release() {
        watch_.stop();
        return std::move(socket_);
    }

    /// Sends the pieces as one datagram.
    Result<std::size_t> write(std::span<const Bytes> pieces) { return socket_.send(pieces); }
    /// Asks for one `on_writable`.
    void want_writable() {
        writable_wanted_ = true;
        update();
    }
    /// Stops reading, or goes on: what comes meanwhile waits in the system's buffer as far as it has room.
    void pause(bool paused) {
        paused_ = paused;
        update();
    }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t) {}

    /// The peer hears of neither.
    void end() {}
    void abort() {
        watch_.stop();
        socket_.close();
    }

    Endpoint local_endpoint() const { return socket_.local_endpoint(); }
    Endpoint peer_endpoint() const { return socket_.peer_endpoint(); }

private:
    static constexpr int reads_per_turn = 16;

    void update() {
        if (!opening_) watch_.change((paused_ ? Ready::none : Ready::readable) | (writable_wanted_ ? Ready::writable : Ready::none));
    }
    void ready(Ready what) {
        if (opening_) {
            opening_ = false;
            update();
            return observer_->on_open();
        }
        if (writable_wanted_ && has(what, Ready::writable)) {
            writable_wanted_ = false;
            update();
            if (!observer_->on_writable() || !socket_) return;
        }
        if (!has(what, Ready::readable)) return;
        if (paused_) {  // only an error gets here, and would again at once
            if (const Error error = socket_.take_error()) observer_->on_error(error);
            return;
        }
        for (int i = 0; i < reads_per_turn && !paused_; ++i) {
            const MutableBytes room = watch_.loop().scratch();
            auto size = socket_.receive(room);
            if (!size) {
                if (size.error() != Errc::would_block) observer_->on_error(size.error());
                return;
            }
            if (!observer_->on_bytes(room.first(*size)) || !socket_) return;
        }
    }

    ConnectionObserver* observer_;
    Socket socket_;
    bool opening_ = false;
    bool paused_ = false;
    bool writable_wanted_ = false;
    Loop::Watch watch_;
};

/// The transport policy for UDP: each `send` is a datagram of at most 65,507 bytes, and each `on_receive` too. A pipe over it opens another
/// socket when the network changes under the one in use, and after an error that the system tells (a closed port); what the system refuses
/// as too large for the path, or by a rule of this host's firewall, is lost as if on the way, and told as an event.
struct Udp {
    using Connection = UdpConnection;
    using Session = session::Datagrams;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// When a handler hears of a change of the network: when it has held for `ChangeFeed::settle_time`, or as soon as it is noticed.
enum class Notice : std::uint8_t { settled, at_once };

namespace detail {

/// One side of two linked pipes, whatever their policies.
class Relay {
public:
    virtual Result<void> relay_send(Bytes) = 0;
    /// How many bytes it takes now, and at most.
    virtual std::size_t relay_space() = 0;
    virtual std::size_t relay_limit() = 0;
    virtual void relay_finish() = 0;
    virtual void relay_resume() = 0;
    virtual void relay_partner_gone(bool failed) = 0;

protected:
    ~Relay() = default;
};

/// How many connections are being attempted on one loop. Attempts beside attempts help one pipe, and hurt when thousands make them.
struct Crowd {
    explicit Crowd(Loop&) {}
    static constexpr unsigned ample = 512;
    /// A pause of `d`, as much longer as there are more attempts than are ample.
    Duration stretch(Duration d) const { return attempts <= ample ? d : d * attempts / ample; }
    unsigned attempts = 0;
};

// A member that is not there.
struct Nothing {
    template <class... Args>
    explicit Nothing(Args&&...) {}
    Nothing() = default;
};

/// What a policy shares among the pipes to one server.
template <class R>
struct ServerOf {
    using Type = Nothing;
};
template <class R>
requires requires { typename R::Server; }
struct ServerOf<R> {
    using Type = typename R::Server;
};

/// The counts of a conversation.
struct Tally {
    std::uint32_t connections = 0, resumes = 0, interruptions = 0;
    std::uint32_t longest_without_ms = 0;
    Duration without;
    void was_without(Duration d) {
        without = without + d;
        const std::int64_t ms = d.milliseconds();
        if (ms > longest_without_ms) longest_without_ms = ms < UINT32_MAX ? static_cast<std::uint32_t>(ms) : UINT32_MAX;
    }
};

/// Who made an accepted pipe and destroys it.
class PipeOwner {
public:
    virtual void pipe_detached() = 0;
    virtual void pipe_departed() = 0;
    virtual void pipe_closed() = 0;

protected:
    ~PipeOwner() = default;
};

}  // namespace detail

template <class T, class E, class R>
class Listener;

/// One conversation with one peer, over however many connections it takes. `E` tells of the network, `T` carries the bytes, `R` decides
/// what to do when something fails: policies.hpp has their contracts.
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may destroy the pipe, add and remove handlers, and call
/// anything. Destroying a pipe gives the conversation up at once; `close` ends it in order.
template <EventSource E, Transport T, RecoveryPolicy R>
class Pipe final : private ConnectionObserver, private detail::Relay {
    using Connection = typename T::Connection;
    using Session = typename T::Session;
    static constexpr bool survives = Session::survives_connections;
    static constexpr bool shares = requires { typename R::Server; };
    using Servers = detail::Servers<typename detail::ServerOf<R>::Type>;
    static constexpr bool patient = requires(R & policy, TimePoint now) { policy.patience(now); };

public:
    struct Options {
        typename T::Options transport;
        typename R::Options recovery;
        /// The local address to connect from; of family `none`: the system's choice.
        IpAddress from;
        /// Whether a session may go on by another interface than the one that the system's routes prefer, when the path by that one is in
        /// doubt, or leads nowhere for a second. Never around a tunnel.
        bool other_interfaces = true;
        /// How long one attempt may take, for a recovery policy that does not start others beside it.
        Duration connect_timeout = Duration::seconds(10);
        /// How long the peer's program may take to let a connection in that its system has accepted; then another is tried.
        Duration handshake_timeout = Duration::seconds(5);
        /// How long `close` may take before it becomes an `abort`.
        Duration close_timeout = Duration::seconds(30);
        /// Gives up when there was no connection for this long.
        Duration give_up_after = Duration::unlimited();
        /// Is told the local endpoint while the pipe is connected, so that others can reach it: an `Opening`, which lives longer than this
        /// pipe. Null: nobody.
        Opener* opener = nullptr;
    };

    /// An idle pipe with the default options.
    explicit Pipe(Loop& loop) : Pipe(loop, &default_options, nullptr) {}
    /// An idle pipe; the options are copied.
    Pipe(Loop& loop, const Options& options) : Pipe(loop, new (std::nothrow) Options(options), nullptr) {}
    Pipe(const Pipe&) = delete;
    [[gnu::cold]] ~Pipe() {
        if (options_->opener != nullptr && state_ != PipeState::idle && state_ != PipeState::closed) options_->opener->closed();
        if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(true);
        if constexpr (survives) say_goodbye();
        drop_everything();
        delete dial_;
        delete rare_;
        if (options_ != &default_options && owner_ == nullptr) delete options_;
    }

    // ---- Handlers. Each `on_…` returns an id for `remove_handler`, or 0 when the handler is empty or memory is out.

    /// Bytes of the stream, as they come: they hold until the handler returns.
    HandlerId on_receive(Function<void(Bytes)> handler) { return add(receive_handlers_, std::move(handler)); }
    /// The state changed, or, while connecting or interrupted, an attempt failed in another way than the last one.
    HandlerId on_state(Function<void(PipeState, const Failure&)> handler) { return add(state_handlers_, std::move(handler)); }
    /// The host's network changed, whether or not it concerns this pipe. `Notice::settled`: the change has held for a second; what cancels
    /// itself is not told. `Notice::at_once`: as soon as it is noticed. (The pipe itself acts at once.)
    HandlerId on_network_change(Function<void(const NetworkChange&)> handler, Notice notice = Notice::settled) {
        if (rare() == nullptr) return 0;
        return add(notice == Notice::settled ? rare_->network : rare_->early_network, std::move(handler));
    }
    /// What the pipe does, and why, event by event: for a log, or a `Recorder`. They are told together, in order, when the handlers of the
    /// present turn are through; what was not told when the pipe is destroyed is not told.
    HandlerId on_event(Function<void(const Event&)> handler) { return rare() == nullptr ? 0 : add(rare_->events, std::move(handler)); }
    /// After `send` was refused with `would_block`: there is room again.
    HandlerId on_drained(Function<void()> handler) { return rare() == nullptr ? 0 : add(rare_->drained, std::move(handler)); }
    /// Takes a handler away; false when there is none of that id.
    [[gnu::cold]] bool remove_handler(HandlerId id) {
        if (id == 0) return false;
        if (receive_handlers_.remove(id) || state_handlers_.remove(id)) return true;
        return rare_ != nullptr &&
               (rare_->drained.remove(id) || rare_->network.remove(id) || rare_->early_network.remove(id) || rare_->events.remove(id));
    }

    // ---- Opening.

    /// Connects to `to`, from `idle` or `closed` (then with a new session). Nothing has happened yet when it returns; `on_state` tells.
    /// `invalid_argument` for an endpoint that is none or has port 0, and for options outside their bounds; `invalid_state`;
    /// `out_of_memory`.
    [[gnu::cold]] Result<void> connect(const Endpoint& to) {
        if (!to.valid() || to.port() == 0) return Errc::invalid_argument;
        if (auto fresh = start_over(); !fresh) return fresh;
        if (auto aimed = aim(to); !aimed) return aimed;
        state_ = PipeState::connecting;
        start_due_ = true;
        kick_.schedule();
        return {};
    }
    /// Goes on over a connected stream socket, made non-blocking and close-on-exec, as the side that connected: a session starts on it. The
    /// pipe owns it from here on. Later connections go to the socket's peer, if that is an IP address.
    [[gnu::cold]] Result<void> adopt(Socket socket) requires requires(Connection& c) { c.adopt(Socket()); }
    {
        if (!socket) return Errc::invalid_argument;
        if (!socket.connected()) return Errc::invalid_argument;
        const Endpoint to = socket.peer_endpoint();
        if (auto fresh = start_over(); !fresh) return fresh;
        if (auto aimed = aim(to); !aimed) return aimed;
        auto* attempt = new_attempt();
        if (attempt == nullptr) return Errc::out_of_memory;
        attempt->to = to.ip();
        if (auto adopted = attempt->connection->adopt(std::move(socket)); !adopted) {
            drop_attempts();
            return adopted;
        }
        state_ = PipeState::connecting;
        adopted_ = true;
        kick_.schedule();
        return {};
    }

    // ---- The stream.

    /// Queues bytes whole, or refuses them whole. They go out together when the handlers of the present turn are through. Before the
    /// first connection and, with a session, between connections they wait. `would_block`: over the limit, `on_drained` tells when to go
    /// on; `too_large`: more than the limit altogether; `invalid_state`: closing, closed, or idle; `out_of_memory`.
    [[gnu::noinline]] Result<void> send(Bytes bytes) {
        if (state_ != PipeState::connected) {
            if (state_ == PipeState::closing || state_ == PipeState::closed || state_ == PipeState::idle) return Errc::invalid_state;
            if constexpr (!survives)
                if (state_ == PipeState::interrupted) return session_.refuse();
        }
        auto queued = session_.send(bytes);
        if (!queued) return queued;
        // Much at once goes out while it is warm in the cache; the rest waits for company.
        unflushed_ = bytes.size() < flush_at_once - unflushed_ ? unflushed_ + static_cast<std::uint32_t>(bytes.size()) : flush_at_once;
        if (unflushed_ == flush_at_once && connection_ != nullptr) static_cast<void>(flush());  // an error shows again when kicked
        if (!reading_) kick_.schedule();
        if (relay_ != nullptr) relay_->relay_resume();
        return queued;
    }
    /// The same for text.
    Result<void> send(TextView text) { return send(text.bytes()); }

    /// Takes nothing more from the peer until `resume`: the peer's sends fill its own buffer. With a session, as much as the peer's replay
    /// limit is kept here meanwhile, and acknowledgements of what this side sends go on being heard.
    void pause() { set_paused(true); }
    void resume() { set_paused(false); }

    /// Relays between this pipe and `other`, both ways, with back-pressure: bytes go over instead of to `on_receive` handlers, an end on
    /// one side ends the other in order, a failure or destruction of one aborts the other. `invalid_state` when one is linked already, or
    /// has been closed.
    template <class E2, class T2, class R2>
    Result<void> link(Pipe<E2, T2, R2>& other) {
        if (relay_ != nullptr || other.relay_ != nullptr || static_cast<void*>(&other) == static_cast<void*>(this) ||
            state_ >= PipeState::closing || other.state_ >= PipeState::closing)
            return Errc::invalid_state;
        relay_ = &other;
        other.relay_ = this;
        relay_resume();
        other.relay_resume();
        return {};
    }

    // ---- Ending.

    /// Ends the conversation in order: everything queued is delivered, over new connections if need be, what the peer still sends is
    /// received, and then the pipe is `closed`. Becomes an `abort` after `Options::close_timeout`.
    void close() { begin_closing(); }
    /// Gives the conversation up at once, delivered or not; the peer is told if that is possible. `closed`, as `cancelled`.
    void abort() {
        if (state_ == PipeState::closed || state_ == PipeState::idle) return;
        say_goodbye();
        fail(classify(Errc::cancelled, Stage::established));
    }
    /// What is spoken over the connection says that it is of no use, for that reason: it is closed, behind what is queued as far as the
    /// system takes it now, and what follows is up to the recovery policy, as after a break. `invalid_state` unless connected. Only
    /// without a session, which sees to that itself.
    [[gnu::cold]] Result<void> interrupt(Error why) requires(!survives) {
        if (state_ != PipeState::connected || owner_ != nullptr) return Errc::invalid_state;
        static_cast<void>(flush());
        broken(why);
        return {};
    }
    /// Gives the connected socket to the caller, with nothing of the pipe left on it; the pipe is then `closed`. `would_block` while
    /// something is queued, `invalid_state` without a connection, `unsupported` with a session, whose state a bare socket would lose.
    Result<Socket> release() {
        if constexpr (survives || !requires(Connection & c) { c.release(); }) {
            return Errc::unsupported;
        } else {
            if (connection_ == nullptr || state_ != PipeState::connected) return Errc::invalid_state;
            if (session_.unacknowledged() != 0) return Errc::would_block;
            Socket socket = connection_->release();
            fail({});
            return socket;
        }
    }

    // ---- Moving to another process (handoff/README.md).

    /// Takes the conversation out of this process: its socket, what is queued, and its session; the pipe is then `closed`. A session may be
    /// without a connection. Inside `on_receive` the caller puts into `unread` what it has not used; with a session, where more may have
    /// been read than was delivered, that is `would_block` there: `Loop::post` it. `would_block` too while datagrams are queued;
    /// `invalid_state` when it is linked, and unless it is connected or, with a session, interrupted; `out_of_memory`.
    [[gnu::cold]] Result<handoff::Parcel> depart() requires requires(Connection& c) { c.release(); }
    {
        if (relay_ != nullptr || (state_ != PipeState::connected && !(survives && state_ == PipeState::interrupted)))
            return Errc::invalid_state;
        if (delivering_) return Errc::would_block;
        handoff::Parcel parcel;
        if (dial_ != nullptr) parcel.peer = dial_->peer;
        if constexpr (survives) {
            parcel.resumable = true;
            if (auto saved = session_.save(parcel.session); !saved) return saved.error();
        } else if constexpr (Session::has_end) {
            if (!session_.save(parcel.unsent)) return Errc::out_of_memory;
            session_.restart();
        } else {
            if (session_.unacknowledged() != 0) return Errc::would_block;
        }
        if (connection_ != nullptr) {
            parcel.socket = connection_->release();
            parcel.kind = Session::has_end ? SocketKind::stream : SocketKind::datagram;
        }
        if (owner_ != nullptr) owner_->pipe_departed();
        fail({});
        return parcel;
    }
    /// Goes on with a conversation of the side that connects, from `idle` or `closed`, in place of `connect`; `on_state` tells. Its socket
    /// and session are the pipe's from here on; `note` and `unread` stay with the caller, who sees to what was read before. Errors, with
    /// nothing changed: `invalid_argument` for a parcel of another kind than this transport's, or that was accepted, which is for a
    /// `Listener`; `invalid_state`; `malformed`, `too_large` and `would_block` as `session::Session::restore`; `out_of_memory`; the
    /// system's.
    [[gnu::cold]] Result<void> adopt(handoff::Parcel&& parcel) requires requires(Connection& c) { c.release(); }
    {
        if (parcel.resumable != survives || (!parcel.socket && !survives)) return Errc::invalid_argument;
        if (survives && (parcel.session.accepted || static_cast<bool>(parcel.socket) != parcel.session.attached))
            return Errc::invalid_argument;
        const Endpoint to = parcel.peer.valid() ? parcel.peer : parcel.socket.peer_endpoint();
        if (parcel.socket ? !parcel.socket.connected() : !to.valid()) return Errc::invalid_argument;
        if (auto fresh = start_over(); !fresh) return fresh;
        if constexpr (survives) {
            if (auto restored = session_.restore(parcel.session, loop_.now()); !restored) return forget(restored.error());
        } else if (!parcel.unsent.empty()) {
            if (auto queued = session_.send({parcel.unsent.data(), parcel.unsent.size()}); !queued) return forget(queued.error());
        }
        if (auto aimed = aim(to); !aimed) return forget(aimed.error());
        if (parcel.socket) {
            Attempt* const attempt = new_attempt();
            if (attempt == nullptr) return forget(Errc::out_of_memory);
            attempt->to = to.ip();
            if (auto adopted = attempt->connection->adopt(std::move(parcel.socket)); !adopted) {
                parcel.socket = attempt->connection->release();
                drop_attempts();
                return forget(adopted.error());
            }
            adopted_ = true;
        } else {
            start_due_ = true;
        }
        state_ = PipeState::connecting;
        kick_.schedule();
        return {};
    }

    // ---- Looking.

    PipeState state() const { return state_; }
    [[gnu::cold]] Statistics statistics() const {
        Statistics s;
        s.bytes_sent = session_.sent();
        s.bytes_received = session_.received();
        if constexpr (survives) {
            if (session_.peer_finished()) --s.bytes_received;  // FIN counts as one there
            s.bytes_replayed = session_.replayed();
            s.round_trip = session_.round_trip();
            s.probes = session_.probes();
        }
        s.bytes_unacknowledged = session_.unacknowledged();
        detail::Tally tally = tally_;
        if (interrupted_at_ != TimePoint()) tally.was_without(loop_.now() - interrupted_at_);
        s.connections = tally.connections;
        s.resumes = tally.resumes;
        s.interruptions = tally.interruptions;
        if (dial_ != nullptr) {
            s.standbys = dial_->standbys;
            s.attempts = dial_->attempts;
        }
        s.without_connection = tally.without;
        s.longest_without_connection = Duration::milliseconds(tally.longest_without_ms);
        return s;
    }
    /// What the pipe is doing at this moment, and why. `describe` says it in words.
    [[gnu::cold]] Explanation explain() const {
        using Doing = Explanation::Doing;
        Explanation e;
        e.state = state_;
        e.cause = cause_;
        e.online = !events().state().offline();
        e.failure = last_failure_;
        if (interrupted_at_ != TimePoint()) e.without = loop_.now() - interrupted_at_;
        for (const Attempt* a = attempts_; a != nullptr; a = a->next) ++e.attempts;
        e.unacknowledged = session_.unacknowledged();
        if (connection_ != nullptr) {
            e.local = unmapped(connection_->local_endpoint().ip());
            e.peer = unmapped(connection_->peer_endpoint().ip());
        }
        if (state_ == PipeState::idle || state_ == PipeState::closed)
            e.doing = Doing::nothing;
        else if (connection_ != nullptr)
            e.doing = cause_ != Cause::none ? Doing::racing : state_ == PipeState::closing ? Doing::finishing : Doing::talking;
        else if (attempts_ != nullptr)
            e.doing = Doing::trying;
        else if (parked_)
            e.doing = Doing::waiting_for_network;
        else if (waits_for_turn())
            e.doing = Doing::waiting_for_server;
        else if (dial_ != nullptr && dial_->target != nullptr && dial_->target->query.busy() && dial_->target->candidates.empty())
            e.doing = Doing::resolving;
        else if (dial_ != nullptr && dial_->retry.armed())
            e.doing = Doing::pausing, e.until = dial_->retry.when();
        return e;
    }
    /// The network as the event source knows it; valid until the loop's next turn.
    const NetworkState& network() const { return events().state(); }
    /// Of the connection in use; not `valid` without one.
    Endpoint local_endpoint() const { return connection_ == nullptr ? Endpoint() : connection_->local_endpoint(); }
    /// Of the connection in use, or what was asked for.
    Endpoint peer_endpoint() const {
        return connection_ != nullptr ? connection_->peer_endpoint() : dial_ != nullptr ? dial_->peer : Endpoint();
    }

private:
    template <class T2, class E2, class R2>
    friend class Listener;
    template <EventSource E2, Transport T2, RecoveryPolicy R2>
    friend class Pipe;

    static constexpr std::uint32_t flush_at_once = 64 * 1024;
    static constexpr std::uint32_t relay_piece = 64 * 1024;
    static constexpr std::uint16_t narrow_segment = 1000;  // less than what any path of today passes, tunnels in tunnels included
    // How often the kernel is asked what becomes of what was sent: twice between the first retransmission and the second.
    static constexpr Duration look_every = Duration::milliseconds(100);
    static constexpr Duration loss_again = Duration::seconds(10);
    static constexpr unsigned attempts_max = 4;  // a quarter of a second apart they cover the second between two SYNs of one of them
    static inline constexpr Options default_options{};

    // The peer where it has a name, which is being looked up or was, or where it sends this client elsewhere.
    struct Target {
        explicit Target(Pipe& pipe) : query(Delegate<void(Resolver::Answer&&)>::template to<&Pipe::resolved>(&pipe)) {}
        Resolver::Query query;
        Candidates candidates;
        Endpoint elsewhere;  // valid while the server has sent us there
        unsigned redirections = 0;
    };

    // One connection on its way to be the one in use.
    struct Attempt final : ConnectionObserver {
        explicit Attempt(Pipe& p)
            : pipe(p), crowd(p.loop_.template service<detail::Crowd>()), connection(new (std::nothrow) Connection(p.loop_, *this)) {
            ++crowd.attempts;
        }
        ~Attempt() {
            --crowd.attempts;
            delete connection;
        }
        void on_open() override { pipe.attempt_opened(*this); }
        bool on_bytes(Bytes bytes) override { return pipe.attempt_bytes(*this, bytes); }
        bool on_writable() override { return pipe.attempt_write(*this); }
        void on_end() override { pipe.attempt_failed(*this, Errc::end_of_stream); }
        void on_error(Error error) override { pipe.attempt_failed(*this, error); }

        Pipe& pipe;
        detail::Crowd& crowd;
        Connection* connection;
        Attempt* next = nullptr;
        TimePoint asked_at;
        IpAddress to;
        std::uint32_t interface_index = 0;  // 0: the system's choice
        Stage stage = Stage::connecting;
        [[no_unique_address]] std::conditional_t<survives, session::ClientHandshake, detail::Nothing> handshake;
    };

    // What pipes seldom have.
    struct Rare {
        Handlers<> drained;
        Handlers<const NetworkChange&> network, early_network;
        Handlers<const Event&> events;
        Array<Event> pending;  // to be told
    };

    // Its place among the pipes to one server.
    struct Turn {
        explicit Turn(Pipe& pipe) : waiter(Delegate<void()>::template to<&Pipe::turn_came>(&pipe)) {}
        typename Servers::Server* server = nullptr;
        typename Servers::Waiter waiter;
    };

    // What the side that connects needs for it.
    struct Dial {
        explicit Dial(Pipe& pipe)
            : recovery(pipe.options_->recovery, random_seed()),
              turn(pipe),
              retry(pipe.loop_, Delegate<void()>::template to<&Pipe::retry_due>(&pipe)) {}
        ~Dial() { delete target; }
        R recovery;
        [[no_unique_address]] std::conditional_t<shares, Turn, detail::Nothing> turn;
        Loop::Timer retry;  // the next attempt
        Endpoint peer;
        Target* target = nullptr;  // where there is more to it
        TimePoint started_at;
        PathWatch watch;
        std::uint32_t round = 0;                   // attempts since the break, or since the standby was wanted
        std::uint32_t over = 0;                    // the interface of the connection in use; 0: the system's choice
        std::uint32_t standbys = 0, attempts = 0;  // in all
    };

    [[gnu::cold]] Pipe(Loop& loop, const Options* options, detail::PipeOwner* owner)
        : loop_(loop),
          options_(options == nullptr ? &default_options : options),
          owner_(owner),
          tick_(loop, Delegate<void()>::template to<&Pipe::tick_due>(this)),
          kick_(loop, Delegate<void()>::template to<&Pipe::kicked>(this)),
          observer_(Delegate<void(const NetworkChange&)>::template to<&Pipe::network_changed>(this)) {
        session_.set_options(options_->transport);
        if (owner == nullptr && options != nullptr) dial_ = new (std::nothrow) Dial(*this);
        events().observe(observer_);
    }

    // Looked up each time: it is asked seldom, and there are many pipes.
    E& events() const { return E::of(loop_); }
    template <class... Args>
    [[gnu::cold]] HandlerId add(Handlers<Args...>& handlers, Function<void(Args...)> handler) {
        return handlers.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    [[gnu::cold]] Rare* rare() {
        if (rare_ == nullptr) rare_ = new (std::nothrow) Rare;
        return rare_;
    }
    [[gnu::cold]] bool set_state(PipeState state, const Failure& why) {
        state_ = state;
        reported_ = why.kind;
        if (options_->opener != nullptr && state == PipeState::closed) options_->opener->closed();
        note(Event::Kind::state, why);
        return state_handlers_(state, why);
    }
    // An event to be told when the turn's handlers are through, so that its handlers too may do anything; null where nobody listens.
    [[gnu::cold]] Event* note(Event::Kind kind, const Failure& why = {}) {
        constexpr std::size_t pending_max = 256;
        if (rare_ == nullptr || rare_->events.empty() || rare_->pending.size() == pending_max || !rare_->pending.push({})) return nullptr;
        kick_.schedule();
        Event& event = rare_->pending.back();
        event.kind = kind;
        event.state = state_;
        event.cause = cause_;
        event.at = loop_.now();
        event.failure = why;
        return &event;
    }
    [[gnu::cold]] bool tell_events() {
        const Array<Event> pending = std::move(rare_->pending);
        rare_->pending = {};
        for (const Event& event : pending)
            if (!rare_->events(event)) return false;
        return true;
    }
    void note_to(Event* event, const IpAddress& ip, std::uint16_t port, std::uint32_t interface_index) {
        if (event == nullptr) return;
        event->peer = ip;
        event->port = port;
        event->interface_index = interface_index;
    }
    [[gnu::cold]] void drop_attempts() {
        while (attempts_ != nullptr) delete std::exchange(attempts_, attempts_->next);
    }
    [[gnu::cold]] void drop_attempt(Attempt& attempt) {
        Attempt** at = &attempts_;
        while (*at != &attempt) at = &(*at)->next;
        *at = attempt.next;
        delete &attempt;
    }
    // Those by the system's choice that go by what was before the change. Whether there were any.
    [[gnu::cold]] bool drop_attempts_hit(const NetworkChange& change) {
        bool any = false;
        for (Attempt** at = &attempts_; *at != nullptr;) {
            Attempt* const one = *at;
            const bool hit = one->interface_index == 0 && change.affects(one->connection->local_endpoint().ip(), one->to);
            if (hit) {
                *at = one->next;
                delete one;
            } else {
                at = &one->next;
            }
            any = any || hit;
        }
        return any;
    }
    void drop_retired() { delete std::exchange(retired_, nullptr); }
    [[gnu::cold]] void drop_connection() {
        drop_retired();
        delete std::exchange(connection_, nullptr);
    }
    [[gnu::cold]] void drop_everything() {
        drop_attempts();
        drop_connection();
        tick_.cancel();
        kick_.cancel();
        if (dial_ != nullptr) {
            dial_->retry.cancel();
            if (dial_->target != nullptr) dial_->target->query.cancel();
            leave_server();
        }
        cause_ = Cause::none;
        parked_ = start_due_ = adopted_ = moving_ = returning_ = partner_failed_ = partner_closed_ = false;
    }
    // Tells the peer of a session that it is over, if that fits into the system's buffer now. Without a session there is but the reset to
    // tell a conversation given up from one that ended in order.
    [[gnu::cold]] void say_goodbye() {
        if (connection_ == nullptr) return;
        if constexpr (survives) {
            if (session_.at_frame_boundary() && state_ != PipeState::closed) {
                const Bytes frame[] = {Session::abort_frame};
                static_cast<void>(connection_->write(frame));
            }
        } else {
            connection_->abort();
        }
    }

    // ---- Attempts.

    [[gnu::cold]] Result<void> start_over() {
        if (dial_ == nullptr && owner_ == nullptr) return Errc::out_of_memory;
        if (!options_->transport.valid()) return Errc::invalid_argument;
        if (owner_ != nullptr || (state_ != PipeState::idle && state_ != PipeState::closed)) return Errc::invalid_state;
        if (state_ == PipeState::closed) {
            renew_session();
            dial_->recovery.~R();
            ::new (static_cast<void*>(&dial_->recovery)) R(options_->recovery, random_seed());
            tally_ = {};
            dial_->standbys = dial_->attempts = 0;
            last_failure_ = {};
        }
        interrupted_at_ = TimePoint();
        peer_ended_ = our_end_sent_ = narrow_ = false;
        dial_->round = dial_->over = 0;
        dial_->started_at = loop_.now();
        return {};
    }
    [[gnu::cold]] void renew_session() {
        session_.~Session();
        ::new (static_cast<void*>(&session_)) Session;
        session_.set_options(options_->transport);
        if constexpr (survives) session_.hold(paused_);
    }
    // What could not be adopted.
    [[gnu::cold]] Error forget(Error why) {
        renew_session();
        leave_server();
        return why;
    }
    // From here on the peer is `to`.
    [[gnu::cold]] Result<void> aim(const Endpoint& to) {
        leave_server();  // of a socket that could not be adopted
        dial_->peer = to;
        delete std::exchange(dial_->target, nullptr);
        if (to.name() != nullptr && (dial_->target = new (std::nothrow) Target(*this)) == nullptr) return Errc::out_of_memory;
        if constexpr (shares) {
            dial_->turn.server = loop_.template service<Servers>().join(to);
            if (dial_->turn.server == nullptr) return Errc::out_of_memory;
            dial_->recovery.join(dial_->turn.server->state);
        }
        return {};
    }
    [[gnu::cold]] void leave_server() {
        if constexpr (shares) {
            dial_->turn.waiter.unlink();
            if (dial_->turn.server == nullptr) return;
            dial_->recovery.leave();
            dial_->turn.server->look();
            loop_.template service<Servers>().leave(*std::exchange(dial_->turn.server, nullptr));
        }
    }
    // What was decided, or came about, may be somebody else's turn.
    [[gnu::cold]] void look_for_turns() {
        if constexpr (shares)
            if (dial_ != nullptr && dial_->turn.server != nullptr) dial_->turn.server->look();
    }
    bool waits_for_turn() const {
        if constexpr (shares)
            return dial_ != nullptr && dial_->turn.waiter.linked();
        else
            return false;
    }
    [[gnu::cold]] void turn_came() { attempt(); }

    // The turn's handlers are through: start what was asked for, and write what was queued.
    void kicked() {
        if (rare_ != nullptr && !rare_->pending.empty() && !tell_events()) return;
        if (std::exchange(partner_failed_, false)) return abort();
        if (std::exchange(partner_closed_, false) && !begin_closing()) return;
        if (start_due_) {
            start_due_ = false;
            if (state_ == PipeState::connecting && !set_state(PipeState::connecting, {})) return;
            if (start_due_) return;                                                       // it was called off, and asked for anew
            if (state_ != PipeState::connecting && state_ != PipeState::closing) return;  // closing: with something to deliver first
            return static_cast<void>(attempt());
        }
        if (adopted_) {
            adopted_ = false;
            arm_patience();
            if (attempts_ != nullptr) return attempt_opened(*attempts_);
        }
        if constexpr (survives)
            if (!paused_ && session_.held() > 0 && !(deliver_held() && after_progress())) return;
        if (connection_ == nullptr) return;
        if (std::exchange(moving_, false) && !standby(Cause::network)) return;
        if (const Error error = flush()) return static_cast<void>(broken(error));
        arm_tick();
        after_flush();
    }

    bool named() const { return dial_->peer.name() != nullptr && !(dial_->target != nullptr && dial_->target->elsewhere.valid()); }
    [[gnu::cold]] bool resolve() {
        if (!dial_->target->query.busy()) {
            note(Event::Kind::resolving);
            if (auto started = dial_->target->query.start(Resolver::of(loop_), dial_->peer.name()); !started)
                return recover(classify(started.error(), Stage::resolving));
        }
        arm_retry(patient ? TimePoint::never() : loop_.now() + options_->connect_timeout);
        return true;
    }
    [[gnu::cold]] void resolved(Resolver::Answer&& answer) {
        Candidates& known = dial_->target->candidates;
        const bool first = known.empty();
        if (!answer) {
            // Addresses that are known go on being tried.
            if (first) recover(classify(answer.error(), Stage::resolving));
            return;
        }
        bool news = false;
        for (const IpAddress& ip : *answer) news = news || !known.has(ip);
        if (!known.set(*answer)) {
            if (first) recover(classify(Errc::out_of_memory, Stage::resolving));
            return;
        }
        if (Event* event = note(Event::Kind::resolved)) event->count = static_cast<std::uint32_t>(known.size());
        if (first || (news && connection_ == nullptr && attempts_ == nullptr && !parked_)) attempt();
    }

    [[gnu::cold]] Attempt* new_attempt() {
        Attempt** at = &attempts_;
        unsigned count = 0;
        for (; *at != nullptr; at = &(*at)->next) ++count;
        auto* attempt = new (std::nothrow) Attempt(*this);
        if (attempt == nullptr || attempt->connection == nullptr) {
            delete attempt;
            return nullptr;
        }
        *at = attempt;
        if (count == attempts_max) drop_attempt(*attempts_);
        return attempt;
    }
    // By which interface the `n`th attempt in a row goes: a path in doubt has the others first; otherwise the system's choice has a second.
    [[gnu::cold]] std::uint32_t interface_for(unsigned n, const IpAddress& to) const {
        if (!survives || !options_->other_interfaces || options_->from.family != Family::none) return 0;
        std::size_t which = 0;
        if (cause_ == Cause::loss) {
            if (dial_->over != 0) return 0;
            which = n;
        } else if (cause_ == Cause::silence || cause_ == Cause::retransmissions) {
            if (n % 2 == (dial_->over == 0 ? 1 : 0)) return 0;
            which = n / 2;
        } else {
            if (n < attempts_max || n % 2 == 0) return 0;
            which = (n - attempts_max) / 2;
        }
        const std::uint32_t index = other_interface(events().state(), to, which);
        return index != 0 || which == 0 ? index : other_interface(events().state(), to, 0);
    }
    // Races another connection beside the one in use. Returns false when the pipe is gone.
    [[gnu::cold]] bool standby(Cause cause) {
        cause_ = cause;
        returning_ = false;
        dial_->round = 0;
        ++dial_->standbys;
        note(Event::Kind::standby);
        return attempt();
    }
    // The one in use goes on, and nothing else is tried.
    [[gnu::cold]] void call_off() {
        drop_attempts();
        dial_->retry.cancel();
        parked_ = false;
        note(Event::Kind::called_off);
        cause_ = Cause::none;
        returning_ = false;
        if constexpr (shares) {
            dial_->turn.waiter.unlink();
            dial_->recovery.idle();
        }
        look_for_turns();
    }
    bool racing() const { return attempts_ != nullptr || parked_ || (dial_ != nullptr && dial_->retry.armed()) || waits_for_turn(); }

    // Starts one more. Returns false when the pipe is gone.
    [[gnu::cold]] bool attempt() {
        parked_ = false;
        if (named() && dial_->target->candidates.empty()) return resolve();
        const TimePoint now = loop_.now();
        if constexpr (shares)
            if (!dial_->recovery.admitted(now)) {
                dial_->turn.server->wait(dial_->turn.waiter);
                return paused_for(Duration::unlimited());
            }
        Attempt* attempt = new_attempt();
        if (attempt == nullptr) return recover(classify(Errc::out_of_memory, Stage::connecting));
        const Endpoint& known = dial_->target != nullptr && dial_->target->elsewhere.valid() ? dial_->target->elsewhere : dial_->peer;
        attempt->to = known.name() == nullptr ? known.ip() : dial_->target->candidates.next(now);
        attempt->interface_index = interface_for(dial_->round++, attempt->to);
        ++dial_->attempts;
        note_to(note(Event::Kind::attempt), attempt->to, known.port(), attempt->interface_index);
        const Way way{options_->from, attempt->interface_index, narrow_ ? narrow_segment : std::uint16_t{0}, known.name()};
        if (auto opened = attempt->connection->open({attempt->to, known.port()}, way); !opened) {
            const bool by_another = attempt->interface_index != 0;
            const IpAddress to = attempt->to;
            drop_attempt(*attempt);
            if (!by_another) return failed(to, classify(opened.error(), Stage::connecting, {options_->from, &events().state(), to}));
            if (cause_ != Cause::loss) return this->attempt();  // by the system's choice
            call_off();
            return true;
        }
        arm_patience();
        return true;
    }
    [[gnu::cold]] void arm_patience() {
        const TimePoint now = loop_.now();
        TimePoint next = now + options_->connect_timeout;
        if constexpr (requires { dial_->recovery.patience(now); })
            next = now + loop_.template service<detail::Crowd>().stretch(dial_->recovery.patience(now));
        arm_retry(next);
    }
    // When to go on; or to give up, if that comes first.
    [[gnu::cold]] void arm_retry(TimePoint next) {
        const TimePoint end = (interrupted_at_ == TimePoint() ? dial_->started_at : interrupted_at_) + options_->give_up_after;
        dial_->retry.at(connection_ == nullptr && end < next ? end : next);
    }
    [[gnu::cold]] bool paused_for(Duration d) {
        if (Event* event = note(Event::Kind::waiting)) event->wait = d;
        arm_retry(loop_.now() + d);
        return true;
    }
    [[gnu::cold]] void retry_due() {
        const TimePoint now = loop_.now();
        if (connection_ == nullptr &&
            now - (interrupted_at_ == TimePoint() ? dial_->started_at : interrupted_at_) >= options_->give_up_after)
            return static_cast<void>(fail(last_failure_ ? last_failure_ : classify(Errc::timed_out, Stage::connecting)));
        if (!patient && named() && dial_->target->query.busy() && dial_->target->candidates.empty()) {
            dial_->target->query.cancel();
            return static_cast<void>(recover(classify(Errc::timed_out, Stage::resolving)));
        }
        if (!patient && attempts_ != nullptr) {
            const Stage stage = attempts_->stage;
            const IpAddress to = attempts_->to;
            drop_attempts();
            return static_cast<void>(failed(to, classify(Errc::timed_out, stage)));
        }
        if (cause_ == Cause::loss && connection_ != nullptr && dial_->round >= attempts_max) return call_off();
        // An attempt whose connection is open waits for the other end's program: one more beside it would only wait behind it, and where
        // a crowd is the reason, make it worse. Unless there is another address to try.
        for (Attempt* open = attempts_; open != nullptr; open = open->next) {
            if (open->stage == Stage::connecting) continue;
            if (now - open->asked_at < options_->handshake_timeout) {
                if (named() && !dial_->target->candidates.round_over()) break;
                return arm_patience();
            }
            const Stage stage = open->stage;
            const IpAddress to = open->to;
            drop_attempt(*open);
            return static_cast<void>(failed(to, classify(Errc::timed_out, stage)));
        }
        attempt();
    }

    [[gnu::cold]] void attempt_opened(Attempt& attempt) {
        if constexpr (survives) {
            if (session_.attached() && connection_ == nullptr) {  // it moved here, and goes on over the connection that came with it
                static_cast<void>(take_over(attempt, false, loop_.now()));
                return;
            }
            session::Nonce nonce;
            if (auto random = entropy(nonce.bytes); !random) return attempt_failed(attempt, random.error());
            const auto window = static_cast<std::uint32_t>(options_->transport.replay_limit);
            if (session_.established()) {
                attempt.stage = Stage::resuming;
                attempt.handshake.ask_resume(session_.identity(), nonce, session_.next_epoch(), window);
            } else {
                attempt.stage = Stage::handshaking;
                attempt.handshake.ask_new(nonce, window, options_->transport.pre_shared_key.get());
            }
            attempt.asked_at = loop_.now();
            attempt_write(attempt);
        } else {
            established(attempt, {});
        }
    }
    [[gnu::cold]] bool attempt_write(Attempt& attempt) {
        if constexpr (survives)
            while (!attempt.handshake.pending().empty()) {
                const Bytes piece[] = {attempt.handshake.pending()};
                auto wrote = attempt.connection->write(piece);
                if (wrote) {
                    attempt.handshake.wrote(*wrote);
                } else if (wrote.error() == Errc::would_block) {
                    attempt.connection->want_writable();
                    break;
                } else {
                    attempt_failed(attempt, wrote.error());
                    return false;
                }
            }
        return true;
    }
    [[gnu::cold]] bool attempt_bytes(Attempt& attempt, Bytes bytes) {
        if constexpr (survives) {
            auto joined = attempt.handshake.receive(bytes);
            if (!joined) {
                attempt_failed(attempt, joined.error());
                return false;
            }
            return !*joined || established(attempt, bytes);
        } else {
            return true;
        }
    }
    [[gnu::cold]] void attempt_failed(Attempt& attempt, Error error) {
        const IpAddress to = attempt.to;
        Failure why = classify(error, attempt.stage, {options_->from, &events().state(), to});
        const bool by_another = attempt.interface_index != 0;
        Endpoint elsewhere;
        if constexpr (survives) {
            const session::PushBack& ask = attempt.handshake.push_back();
            if (why.kind == FailureKind::redirected) elsewhere = Endpoint(ask.ip, ask.port);
            if (why.kind == FailureKind::overloaded) why.retry_after_ms = ask.retry_after_ms;
        }
        drop_attempt(attempt);
        if constexpr (survives)
            if (error == Errc::session_unknown && session_.complete()) return static_cast<void>(fail({}));  // it has nothing more to tell
        if (elsewhere.valid() && redirect(elsewhere)) return static_cast<void>(this->attempt());
        if (by_another && why.stage == Stage::connecting) {  // which says nothing of the peer
            note(Event::Kind::failed, why);
            if (cause_ == Cause::loss && attempts_ == nullptr) call_off();
            return;
        }
        failed(to, why);
    }
    // Goes to another server from now on; false where that leads in circles.
    [[gnu::cold]] bool redirect(const Endpoint& elsewhere) {
        constexpr unsigned redirections_max = 4;
        if (dial_->target == nullptr) dial_->target = new (std::nothrow) Target(*this);
        if (dial_->target == nullptr || ++dial_->target->redirections > redirections_max) return false;
        note_to(note(Event::Kind::redirected), elsewhere.ip(), elsewhere.port(), 0);
        dial_->target->elsewhere = elsewhere;
        return true;
    }
    // An attempt to reach `to` failed.
    [[gnu::cold]] bool failed(const IpAddress& to, const Failure& why) {
        note(Event::Kind::failed, why);
        if (dial_->target != nullptr) {
            dial_->target->candidates.lost(to, loop_.now());
            if (dial_->target->elsewhere.valid() && dial_->target->elsewhere.ip() == to) {  // back to the one that was asked for
                dial_->target->elsewhere = {};
                dial_->target->redirections = 0;
            }
        }
        return recover(why);
    }

    // An attempt is now the connection in use. `rest` came behind the handshake. False when the connection does not exist any more.
    [[gnu::cold]] bool established(Attempt& attempt, Bytes rest) {
        const TimePoint now = loop_.now();
        bool resumed = false;
        if constexpr (survives) {
            resumed = attempt.handshake.resuming();
            if (!session_.established()) session_.set_identity(attempt.handshake.identity(), false);
            if (cause_ == Cause::silence) session_.found_dead();
            attempt.handshake.confirm(session_.received(), session_.acknowledged());
            if (!session_.attach(attempt.handshake.agreement(), attempt.handshake.pending(), now - attempt.asked_at, now)) {
                drop_attempt(attempt);
                recover(classify(Errc::malformed, Stage::resuming));
                return false;
            }
        }
        if (dial_->target != nullptr) {
            // Whoever had a head start and was overtaken is slow.
            for (const Attempt* other = attempts_; other != &attempt; other = other->next)
                if (!(other->to == attempt.to)) dial_->target->candidates.lost(other->to, now);
            dial_->target->candidates.won(attempt.to);
            dial_->target->redirections = 0;
        }
        dial_->over = attempt.interface_index;
        Connection* const connection = attempt.connection;
        return take_over(attempt, resumed, now) && take_rest(connection, rest);
    }
    // No other is needed. False when the pipe or the connection is gone.
    [[gnu::cold]] bool take_over(Attempt& attempt, bool resumed, TimePoint now) {
        Connection* const connection = std::exchange(attempt.connection, nullptr);
        drop_attempts();
        dial_->retry.cancel();
        return use(connection, resumed, now);
    }
    // From here on this is the connection. False when the pipe or the connection is gone.
    [[gnu::cold]] bool use(Connection* connection, bool resumed, TimePoint now) {
        drop_retired();
        retired_ = std::exchange(connection_, connection);
        if (retired_ != nullptr) {
            // Where the other end sees the old connection end before it sees the proof that the new one brings, it looks like a break.
            retired_->set_observer(detail::Nobody::instance());
            retired_->pause(true);
            if (owner_ != nullptr || !survives) drop_retired();  // it has seen the proof
        }
        connection->set_observer(*this);
        ++tally_.connections;
        tally_.resumes += resumed ? 1 : 0;
        if (interrupted_at_ != TimePoint()) tally_.was_without(now - interrupted_at_);
        interrupted_at_ = TimePoint();
        parked_ = moving_ = returning_ = false;
        last_failure_ = {};
        if (dial_ != nullptr) {
            dial_->round = 0;
            dial_->watch.restart(cause_ == Cause::loss ? now + loss_again : TimePoint());
            if constexpr (shares) dial_->turn.waiter.unlink();
            if constexpr (requires { dial_->recovery.connected(now); }) dial_->recovery.connected(now);
            look_for_turns();
            ask_liveness();
        }
        cause_ = Cause::none;
        if (options_->opener != nullptr) options_->opener->opened(connection->local_endpoint());
        if (Event* event = note(Event::Kind::joined)) {
            event->local = unmapped(connection->local_endpoint().ip());
            const Endpoint peer = connection->peer_endpoint();
            note_to(event, unmapped(peer.ip()), peer.port(), dial_ == nullptr ? 0 : dial_->over);
        }
        if constexpr (!survives)
            if (paused_) connection->pause(true);
        if (relay_ != nullptr) {
            relay_resume();
            relay_->relay_resume();
        }
        kick_.schedule();
        if (state_ == PipeState::connecting || state_ == PipeState::interrupted)
            if (!set_state(PipeState::connected, {})) return false;
        return connection_ == connection;
    }
    bool take_rest(Connection* connection, Bytes rest) { return rest.empty() ? connection_ == connection : on_bytes(rest); }
    // A policy may want quiet connections to be probed more seldom, or more often, on the network as it is.
    [[gnu::cold]] void ask_liveness() {
        if constexpr (survives && requires { dial_->recovery.liveness_interval(events().state(), Duration()); })
            session_.set_liveness_interval(dial_->recovery.liveness_interval(events().state(), options_->transport.liveness_interval));
    }

    // ---- Recovery. All of these return false when the pipe is gone.

    [[gnu::cold]] bool recover(const Failure& why) {
        if (connection_ != nullptr && cause_ == Cause::loss) {  // what there is still works
            if (attempts_ == nullptr) call_off();
            return true;
        }
        last_failure_ = why;
        const Action action = dial_->recovery.decide(why, events().state(), loop_.now());
        look_for_turns();
        return perform(action, why);
    }
    [[gnu::cold]] bool perform(Action action, const Failure& why) {
        if (action.kind == Action::Kind::try_next) {
            if (named() && !dial_->target->candidates.round_over()) return attempt();
            action = action.delay == Duration::unlimited() ? Action::give_up() : Action::retry_after(action.delay);
            // A name whose every address failed may have moved. Those that are known are tried on meanwhile.
            if (action.kind == Action::Kind::retry_after && named() && !dial_->target->query.busy())
                static_cast<void>(dial_->target->query.start(Resolver::of(loop_), dial_->peer.name()));
        }
        if (action.kind == Action::Kind::give_up) {
            const bool peer_answered = why.stage == Stage::handshaking || why.stage == Stage::resuming;
            if (attempts_ != nullptr && !peer_answered && why.stage == Stage::connecting) return true;  // another may do
            if (connection_ == nullptr) return fail(why);
            call_off();  // a standby that cannot be had: the old connection goes on
            return true;
        }
        parked_ = action.kind == Action::Kind::wait_for_network;
        paused_for(parked_ ? Duration::unlimited() : action.delay);
        if ((state_ == PipeState::connecting || state_ == PipeState::interrupted) && why.kind != reported_) return set_state(state_, why);
        return true;
    }
    // The connection in use is of no use any more.
    [[gnu::cold]] bool broken(Error error) {
        const Failure why = classify(error, Stage::established);
        if constexpr (survives) {
            if (why.kind == FailureKind::unresponsive && (session_.stuck() || session_.barren())) narrow();
            if (why.kind == FailureKind::unresponsive || why.kind == FailureKind::reset) session_.found_dead();
        }
        drop_connection();
        tick_.cancel();
        ++tally_.interruptions;
        interrupted_at_ = loop_.now();
        note(Event::Kind::broken, why);
        if constexpr (survives) {
            session_.detach();
            if (why.kind == FailureKind::session_aborted) return fail(why);
            if (owner_ != nullptr) {
                owner_->pipe_detached();
                if (state_ == PipeState::closing) arm_close();
                return state_ != PipeState::connected || set_state(PipeState::interrupted, why);
            }
        } else {
            if (state_ == PipeState::closing) return fail(peer_ended_ && our_end_sent_ ? Failure{} : why);
            if (owner_ != nullptr) return fail(why);
            session_.restart();
            peer_ended_ = our_end_sent_ = false;
        }
        if (state_ == PipeState::closing) arm_close();
        if (attempts_ != nullptr || waits_for_turn() || parked_) {
            // Others are on their way already; or it is known that there is no way, which then is the better reason.
            if (!parked_) last_failure_ = why;
            if (cause_ == Cause::loss) cause_ = Cause::retransmissions;
            if (attempts_ == nullptr) arm_retry(TimePoint::never());
            return state_ == PipeState::closing || set_state(PipeState::interrupted, last_failure_);
        }
        cause_ = Cause::none;
        dial_->round = 0;
        if (dial_->target != nullptr) dial_->target->candidates.restart();
        const Action action = dial_->recovery.decide(why, events().state(), loop_.now());
        look_for_turns();
        last_failure_ = why;
        if (action.kind == Action::Kind::give_up) return fail(why);
        if (state_ != PipeState::closing) {
            if (!set_state(PipeState::interrupted, why)) return false;
            if (state_ != PipeState::interrupted && state_ != PipeState::closing) return true;
        }
        if (action.kind == Action::Kind::retry_after && action.delay == Duration()) return attempt();
        return perform(action, why);
    }
    // Large packets do not get through.
    [[gnu::cold]] void narrow() {
        if (std::exchange(narrow_, true)) return;
        note(Event::Kind::narrowed);
    }
    // The end: in order when `why` is none.
    [[gnu::cold]] bool fail(const Failure& why) {
        drop_everything();
        if constexpr (survives) session_.detach();
        interrupted_at_ = TimePoint();
        if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(static_cast<bool>(why));
        if (owner_ != nullptr) owner_->pipe_closed();
        if (state_ == PipeState::closed) return true;
        return set_state(PipeState::closed, why);
    }

    [[gnu::cold]] void network_changed(const NetworkChange& change) {
        if (rare_ != nullptr) {
            if (change.early && !rare_->early_network(change)) return;
            if (change.settled && !rare_->network(change)) return;
        }
        if (state_ == PipeState::idle || state_ == PipeState::closed) return;
        const bool ours = connection_ != nullptr && change.affects(connection_->local_endpoint().ip(), connection_->peer_endpoint().ip());
        const bool hit = ours && change.major;
        if constexpr (survives) {
            // The flag comes and goes with every announcement of a router: it counts when it has stayed.
            const bool about = change.kind == NetworkChange::Kind::address_deprecated || change.kind == NetworkChange::Kind::address_usable;
            if (about && change.settled && connection_ != nullptr && owner_ == nullptr && !racing() &&
                should_move(*change.after, unmapped(connection_->local_endpoint().ip())))
                return static_cast<void>(standby(Cause::deprecated));
        } else if constexpr (Session::has_end) {
            // Nothing can be started beside it: given up when it is certain that its address is gone.
            if (hit && change.settled && change.after->interface_of(connection_->local_endpoint().ip()) == 0)
                return static_cast<void>(broken(Errc::address_lost));
        }
        if (!change.early) return;
        if (hit || (change.may_help() && change.kind != NetworkChange::Kind::dns_changed)) {
            narrow_ = false;
            if constexpr (survives) session_.unlearn();
            if (dial_ != nullptr) {
                if constexpr (requires { dial_->recovery.network_changed(loop_.now()); }) dial_->recovery.network_changed(loop_.now());
                ask_liveness();
            }
        }
        if (hit && owner_ != nullptr) {
            // The other side does the connecting; a probe tells soon whether this connection still is one.
            if constexpr (survives) session_.probe(loop_.now()), kick_.schedule();
            return;
        }
        if constexpr (survives || !Session::has_end) {
            // A new connection at once, without waiting for the transport to notice; the old one stays until the new one has resumed. One
            // happening makes several changes: when all of them are known, one attempt takes the way that is left. One that was begun
            // between two of them would win, and stay on the worse way.
            const bool late = change.major && owner_ == nullptr && drop_attempts_hit(change);
            if (hit || (late && connection_ != nullptr)) {
                moving_ = true;
                kick_.schedule();
                return;
            }
        }
        if constexpr (survives) {
            // The address that was lost is back, before another connection could be had: if the old one still works, all is well.
            if (cause_ == Cause::network && connection_ != nullptr && change.kind == NetworkChange::Kind::address_usable &&
                same_address(change.address, unmapped(connection_->local_endpoint().ip()))) {
                returning_ = true;
                session_.probe(loop_.now());
                kick_.schedule();
            }
        }
        // A name server that was asked before may never answer.
        if (owner_ != nullptr) return;
        if (change.kind == NetworkChange::Kind::dns_changed && named() && dial_->target->query.busy())
            static_cast<void>(dial_->target->query.start(Resolver::of(loop_), dial_->peer.name()));
        const bool content = connection_ != nullptr && !racing();
        if (!change.may_help() || start_due_ || (named() && dial_->target->candidates.empty() && dial_->target->query.busy()) || content)
            return;
        if constexpr (!survives)
            if (connection_ != nullptr) return;
        if (waits_for_turn() || (!patient && attempts_ != nullptr)) return;  // an attempt has its time
        Duration d;
        if constexpr (requires { dial_->recovery.network_regained(loop_.now()); }) d = dial_->recovery.network_regained(loop_.now());
        parked_ = false;
        if (dial_->retry.when() > loop_.now() + d) dial_->retry.after(d);
    }
    // Whether a connection's address is deprecated, and there is one that is not.
    [[gnu::cold]] static bool should_move(const NetworkState& network, const IpAddress& local) {
        bool deprecated = false, another = false;
        for (const InterfaceAddress& a : network.addresses) {
            if (same_address(a.ip, local)) deprecated = a.deprecated;
            another =
                another || (a.ip.family == local.family && a.usable() && !a.deprecated && !a.ip.is_link_local() && !a.ip.is_loopback());
        }
        return deprecated && another;
    }

    // ---- The connection in use.

    void on_open() override {}
    bool on_bytes(Bytes bytes) override {
        Connection* const connection = connection_;
        if constexpr (survives) {
            drop_retired();
            if (returning_ || cause_ == Cause::silence || cause_ == Cause::retransmissions) reassured();
            bool gone = false;
            const Error error = session_.receive(
                bytes, loop_.now(), [this](Bytes part) { return deliver(part); }, gone);
            if (gone) return false;
            if (connection_ != connection) return false;
            if (error) {
                broken(error);
                return false;
            }
            if (session_.full()) connection->pause(true);
            kick_.schedule();
            if (!after_progress()) return false;
        } else {
            session_.delivered(bytes.size());
            reading_ = true;  // what the handlers send goes out together when they return
            if (!deliver(bytes)) return false;
            reading_ = false;
            if (!session_.empty() && connection_ == connection) {
                if (const Error error = flush()) {
                    broken(error);
                    return false;
                }
                if (!after_flush()) return false;
            }
        }
        return connection_ == connection;
    }
    // Something came although the path was in doubt: nothing else needs to be tried, unless it is what we send that does not arrive.
    [[gnu::cold]] void reassured() {
        if constexpr (requires { connection_->path_info(); })
            if (cause_ == Cause::retransmissions && connection_->path_info().retransmits > 0) return;
        call_off();
    }
    bool on_writable() override {
        Connection* const connection = connection_;
        if (const Error error = flush()) {
            broken(error);
            return false;
        }
        return after_flush() && connection_ == connection;
    }
    void on_end() override {
        if constexpr (survives || requires { Session::end_is_a_break; }) {
            broken(Errc::end_of_stream);
        } else {
            peer_ended_ = true;
            if (relay_ != nullptr && state_ == PipeState::connected) {
                relay_->relay_finish();
                if (our_end_sent_) fail({});
                return;
            }
            if (our_end_sent_) return static_cast<void>(fail({}));
            close();  // what is queued still goes out
        }
    }
    void on_error(Error error) override { broken(error); }

    bool deliver(Bytes bytes) {
        if (relay_ == nullptr) {
            if constexpr (!survives) return receive_handlers_(bytes);
            delivering_ = true;
            if (!receive_handlers_(bytes)) return false;
            delivering_ = false;
            return true;
        }
        // Read no faster than the other side takes: it has room for this piece, and is asked before the next.
        auto sent = relay_->relay_send(bytes);
        return sent ? true : fail(classify(sent.error(), Stage::established));
    }

    // Delivers what has come while the pipe was paused. False when the pipe is gone.
    [[gnu::cold]] bool deliver_held() {
        while (!paused_) {
            const MutableBytes room = loop_.scratch();
            const std::size_t n = session_.take_held(room);
            if (n == 0) break;
            if (!deliver(room.first(n))) return false;
            session_.held_delivered();
        }
        if (connection_ != nullptr && !session_.full()) connection_->pause(false);
        return true;
    }

    // Writes what the session has, as far as the connection takes it.
    Error flush() {
        if (connection_ == nullptr) return {};
        unflushed_ = 0;
        Bytes pieces[Session::pieces_max];
        for (;;) {
            std::size_t n = 0, offered = 0;
            if constexpr (survives)
                n = session_.gather(pieces);
            else if (!session_.empty())
                n = session_.gather(pieces);
            if (n == 0) break;
            for (std::size_t i = 0; i < n; ++i) offered += pieces[i].size();
            auto wrote = connection_->write({pieces, n});
            if (!wrote && wrote.error() != Errc::would_block) {
                if (put_off(wrote.error())) break;
                if constexpr (!survives && !Session::has_end)
                    if (lose(wrote.error())) continue;
                return wrote.error();
            }
            if (wrote) session_.wrote(*wrote);
            if (!wrote || *wrote < offered) {
                connection_->want_writable();
                break;
            }
        }
        if constexpr (!survives)
            if (session_.finishing() && session_.empty() && !our_end_sent_) {
                our_end_sent_ = true;
                connection_->end();
            }
        return {};
    }
    // The system is out of buffers for a moment (ENOBUFS): that is no reason to give a connection up, and there is no telling when it is
    // over.
    [[gnu::cold]] bool put_off(Error error) {
        if (classify(error, Stage::established).kind != FailureKind::exhausted) return false;
        const TimePoint again = loop_.now() + Duration::milliseconds(10);
        if (again < tick_.when()) tick_.at(again);
        return true;
    }
    // A datagram that the system refuses is lost; false when the socket is to be replaced.
    [[gnu::cold]] bool lose(Error error) {
        const Failure why = classify(error, Stage::established);
        if (why.kind != FailureKind::invalid && why.kind != FailureKind::forbidden) return false;
        note(Event::Kind::lost, why);
        session_.wrote(0);
        return why.kind == FailureKind::invalid || !session_.may_replace_socket(loop_.now());
    }
    // What may follow from bytes that went out. False when the pipe is gone.
    bool after_flush() {
        if constexpr (!survives)
            if (our_end_sent_ && (peer_ended_ || !Session::has_end)) return fail({});
        return after_progress();  // a session's handshake may have acknowledged the last of it
    }
    // What may follow from bytes that were taken or acknowledged. False when the pipe is gone.
    bool after_progress() {
        if (session_.take_drained() && rare_ != nullptr && !rare_->drained()) return false;
        if (relay_ != nullptr) relay_->relay_resume();
        if constexpr (survives) {
            if (session_.peer_finished()) {
                if (relay_ != nullptr)
                    relay_->relay_finish();
                else if (!session_.finishing() && !begin_closing())
                    return false;
            }
            if (connection_ != nullptr && session_.ended() && state_ != PipeState::closed) {
                if (owner_ == nullptr) return fail({});
                if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(false);
                set_paused(false);
                // The other side hangs up when it has read GOODBYE; until then, and a little longer, this end can say it again.
                static_cast<void>(flush());
                close_by_ = loop_.now() + options_->close_timeout;
                arm_close();
                return set_state(PipeState::closed, {});
            }
        }
        return true;
    }

    // What `close` does. False when the pipe is gone.
    [[gnu::cold]] bool begin_closing() {
        if (state_ == PipeState::closing || state_ == PipeState::closed) return true;
        bool nothing_to_end = connection_ == nullptr && session_.unacknowledged() == 0;
        if constexpr (survives) nothing_to_end = nothing_to_end && !session_.established();
        if (nothing_to_end) return fail({});
        session_.finish();
        close_by_ = loop_.now() + options_->close_timeout;
        arm_close();
        kick_.schedule();
        if (relay_ != nullptr) relay_->relay_resume();
        return set_state(PipeState::closing, {});
    }
    void arm_close() {
        if (!tick_.armed() || close_by_ < tick_.when()) tick_.at(close_by_);
    }
    // A connection that is not read hears no answers: it speaks from time to time instead, so that the other side knows it is there.
    bool deaf() const { return connection_ != nullptr && connection_->paused(); }
    // Whether the kernel is asked what becomes of what was sent.
    bool looks() const {
        if constexpr (survives && requires { connection_->path_info(); })
            return owner_ == nullptr && session_.waiting();
        else
            return false;
    }
    TimePoint tick_deadline(TimePoint now) const {
        const TimePoint next = deaf() ? now + options_->transport.suspect_after : session_.deadline(now);
        return looks() && now + look_every < next ? now + look_every : next;
    }
    void arm_tick() {
        if constexpr (survives) {
            const TimePoint next = tick_deadline(loop_.now());
            if (next < tick_.when()) tick_.at(next);
        }
    }
    [[gnu::cold]] void tick_due() {
        const TimePoint now = loop_.now();
        if (state_ == PipeState::closed && now >= close_by_)
            return static_cast<void>(broken(Errc::timed_out));  // a peer that stays on the line
        if (state_ == PipeState::closing) {
            if (now >= close_by_) {
                say_goodbye();
                return static_cast<void>(fail(classify(Errc::timed_out, Stage::established)));
            }
            tick_.at(close_by_);
        }
        if (connection_ == nullptr) return;
        if constexpr (survives) {
            if (looks() && !look(now)) return;
            if (session_.acknowledgement_due()) session_.acknowledge_now();
            if (deaf()) session_.excuse(now);
            const auto liveness = deaf() ? Session::Liveness::fine : session_.on_time(now);
            if (liveness != Session::Liveness::fine) {
                bool answers = false;
                if constexpr (requires { connection_->path_info(); })
                    answers = connection_->path_info().acknowledges(now - session_.probed_at());
                if (!answers && liveness == Session::Liveness::dead) return static_cast<void>(broken(Errc::unresponsive));
                if (answers) session_.excuse(now);
                // A kernel that answers may be the peer's, whose program is stopped, or that of something on the way, which passes nothing
                // on. A connection beside this one tells: only the program itself can let it in.
                const bool doubtful = !answers || session_.overdue(now);
                if (doubtful && session_.barren()) narrow();
                if (owner_ == nullptr && !racing() && doubtful && !standby(Cause::silence)) return;
                if (connection_ == nullptr) return;
            }
        }
        if (const Error error = flush()) return static_cast<void>(broken(error));
        if (!after_flush()) return;
        arm_tick_anew(now);
    }
    // Asks the kernel what becomes of what was sent. False when the pipe is gone, or the connection.
    [[gnu::cold]] bool look(TimePoint now) {
        if constexpr (survives && requires { connection_->path_info(); }) {
            const auto verdict = dial_->watch.look(connection_->path_info(), now);
            if (verdict == PathWatch::Verdict::suspect && session_.stuck()) narrow();
            if (verdict == PathWatch::Verdict::fine || racing()) return true;
            Cause cause = Cause::retransmissions;
            if (verdict == PathWatch::Verdict::lossy) {
                const IpAddress peer = connection_->peer_endpoint().ip();
                const bool another = options_->other_interfaces && options_->from.family == Family::none &&
                                     (dial_->over != 0 || other_interface(events().state(), peer, 0) != 0);
                if (!another) return true;
                dial_->watch.restart(now + loss_again);
                cause = Cause::loss;
            }
            return standby(cause) && connection_ != nullptr;
        }
        return true;
    }
    void arm_tick_anew(TimePoint now) {
        if constexpr (survives) {
            TimePoint next = tick_deadline(now);
            if (state_ >= PipeState::closing && close_by_ < next) next = close_by_;
            if (next < tick_.when()) tick_.at(next);  // or earlier, where a write was put off
        }
    }

    [[gnu::cold]] void set_paused(bool paused) {
        if (paused == paused_) return;
        paused_ = paused;
        if constexpr (survives) {
            session_.hold(paused);
            if (!paused) kick_.schedule();
        } else if (connection_ != nullptr) {
            connection_->pause(paused);
        }
    }

    // ---- Linked with another pipe.

    Result<void> relay_send(Bytes bytes) override { return send(bytes); }
    std::size_t relay_space() override {
        const bool takes =
            state_ == PipeState::connecting || state_ == PipeState::connected || (survives && state_ == PipeState::interrupted);
        return takes && !session_.finishing() ? session_.send_space() : 0;
    }
    std::size_t relay_limit() override { return session_.send_limit(); }
    [[gnu::cold]] void relay_finish() override {
        if (state_ == PipeState::closing || state_ == PipeState::closed || session_.finishing()) return;
        session_.finish();
        kick_.schedule();
    }
    void relay_resume() override {
        if (relay_ == nullptr) return;
        const std::size_t half = (relay_->relay_limit() + 1) / 2;
        const std::uint32_t piece = half < relay_piece ? static_cast<std::uint32_t>(half) : relay_piece;
        if constexpr (survives)
            session_.set_piece(piece);
        else if (connection_ != nullptr)
            connection_->set_read_limit(piece);
        set_paused(relay_->relay_space() < piece);
    }
    [[gnu::cold]] void relay_partner_gone(bool failed) override {
        // Followed up when kicked: the partner may be in the middle of anything, and this side's handlers may destroy it.
        relay_ = nullptr;
        set_paused(false);
        (failed ? partner_failed_ : partner_closed_) = true;
        kick_.schedule();
    }

    // ---- For the listener.

    // Is without a connection from the start. False when the pipe is gone.
    [[gnu::cold]] bool arrive_without(TimePoint now) {
        interrupted_at_ = now;
        owner_->pipe_detached();
        return set_state(PipeState::interrupted, classify(Errc::end_of_stream, Stage::established));
    }
    // Takes over an accepted connection, of a transport without a session or with one that came along.
    bool accept(Connection* connection) { return use(connection, false, loop_.now()); }
    // Takes over an accepted connection that has joined. False when the pipe is gone, or the connection.
    [[gnu::cold]] bool accept(Connection* connection, const session::Agreement& agreement, Duration round_trip, bool resumed) {
        const TimePoint now = loop_.now();
        if (!session_.attach(agreement, {}, round_trip, now)) {  // impossible claims: as if it had not come
            delete connection;
            if (connection_ == nullptr) owner_->pipe_detached();
            return false;
        }
        return use(connection, resumed, now);
    }

    Loop& loop_;
    const Options* options_;
    detail::PipeOwner* owner_;
    Session session_;
    Dial* dial_ = nullptr;  // of an accepted pipe, and where memory is out: null
    Connection* connection_ = nullptr;
    Connection* retired_ = nullptr;  // the one before, until this one has brought something
    Attempt* attempts_ = nullptr;    // the oldest first
    detail::Relay* relay_ = nullptr;
    Rare* rare_ = nullptr;
    HandlerId last_handler_ = 0;
    std::uint32_t unflushed_ = 0;  // queued since the last flush, up to `flush_at_once`
    Loop::Timer tick_;             // the session's deadlines, and that of `close`
    Loop::Deferred kick_;
    NetworkObserver observer_;
    Handlers<Bytes> receive_handlers_;
    Handlers<PipeState, const Failure&> state_handlers_;
    TimePoint interrupted_at_;  // zero while there is a connection, and before the first
    TimePoint close_by_;
    detail::Tally tally_;
    Failure last_failure_;
    FailureKind reported_ = FailureKind::none;
    PipeState state_ = PipeState::idle;
    Cause cause_ = Cause::none;  // why another connection is raced beside the one in use
    bool start_due_ = false;
    bool adopted_ = false;
    bool parked_ = false;     // waiting for the network, with no timer
    bool moving_ = false;     // the connection was hit by a change of the network
    bool returning_ = false;  // its address is back
    bool paused_ = false;
    bool narrow_ = false;      // large packets do not get through
    bool peer_ended_ = false;  // of a transport without a session, as is the next
    bool our_end_sent_ = false;
    bool partner_failed_ = false;  // of the pipe that this one was linked with, as is the next
    bool partner_closed_ = false;
    bool reading_ = false;     // inside the handlers of bytes read
    bool delivering_ = false;  // the same, with a session
};

/// The pipe for conversations that go on whatever the network does.
using ResumablePipe = Pipe<SystemEvents, Resumable<Tcp>, Persistent>;

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1::session {

/// What a server holds at most. A peer is an IPv4 address, or an IPv6 /64: what one host or household can be given.
struct Limits {
    std::size_t sessions = 65'536;           ///< in all, with and without a connection
    std::size_t sessions_per_peer = 16'384;  ///< many players share one address behind a carrier's NAT
    std::size_t half_made = 1'024;  ///< connections that are shaking hands, in all; and as many sessions that nobody has joined yet
    std::size_t half_made_per_peer = 256;
    std::size_t replay_bytes = std::size_t{1} << 30;  ///< of memory for replay, of all sessions
    std::size_t replay_bytes_per_peer = std::size_t{1} << 28;
    Duration handshake = Duration::seconds(5);  ///< a connection that has not joined by then is closed; a session never joined is forgotten

    bool valid() const {
        return sessions > 0 && sessions_per_peer > 0 && half_made > 0 && half_made_per_peer > 0 && replay_bytes > 0 &&
               replay_bytes_per_peer > 0 && handshake > Duration();
    }
};

/// A server's sessions, found by id, the connections that are shaking hands for one, and the bounds of both. Pure: `Owner` is whoever
/// serves a session, only pointed to.
///
///     half-made --attach--> attached <--> detached --keep_detached passed--> expired
///                                    ---> finished --finished_for passed---> expired
///                                    ---> moved --moved_for passed---> forgotten
///
/// Whoever comes when there are as many as there may be takes a place: a connection that of the oldest one shaking hands, a half-made
/// session that of the oldest half-made one, and a session that is joined that of the one finished for longest, else of the one detached
/// for longest; where none is finished or detached, the newcomer is refused. Where it is a peer that has as many as one may, one of that
/// peer's gives way. So nothing but a proven join can end a session, and of those only one without a connection.
template <class Owner>
class Table {
    enum State : std::uint8_t { shaking, half_made_session, attached, detached, finished, moved_away, nowhere };

    // What a peer has, or all have: in each state the oldest first.
    struct Group {
        List in[nowhere];
        std::size_t count[nowhere] = {};
        std::size_t sessions() const { return count[attached] + count[detached] + count[finished]; }
        bool empty() const { return sessions() + count[shaking] + count[half_made_session] + count[moved_away] == 0; }
    };
    struct OfAll : ListNode {};
    struct OfPeer : ListNode {};
    struct Member : OfAll, OfPeer {
        TimePoint since;  // when it came into its state
        State state = nowhere;
    };

public:
    class Peer : Group {
    public:
        Budget budget;
        std::uint64_t hash() const { return mixed; }
        bool is(const IpAddress& other) const { return ip == other; }

    private:
        friend Table;
        IpAddress ip;
        std::uint64_t mixed = 0;
    };

    /// A connection that is shaking hands: the caller's, which derives from this. Counted from `admit` until it is destroyed.
    class Handshake : Member {
    public:
        Handshake() = default;
        ~Handshake() {
            if (table_ != nullptr) table_->leave(*this, peer_);
        }
        Peer& peer() const { return *peer_; }
        TimePoint since() const { return Member::since; }

    private:
        friend Table;
        Table* table_ = nullptr;
        Peer* peer_ = nullptr;
    };

    /// One session's place.
    class Entry : Member {
    public:
        Identity identity;
        Owner* owner = nullptr;  ///< null while half-made, and once moved
        Peer& peer() const { return *peer_; }
        std::uint64_t hash() const { return hash_of(identity.id); }
        bool is(const SessionId& id) const { return identity.id == id; }

    private:
        friend Table;
        Peer* peer_ = nullptr;
    };

    /// `seed` from the system's entropy: peers choose their addresses, and must not choose their places in the index.
    Table(const Limits& limits, std::uint64_t seed) : limits_(limits), seed_(seed) { budget_.limit = limits.replay_bytes; }
    Table(const Table&) = delete;
    /// The connections have gone before.
    ~Table() {
        for (State state : {half_made_session, attached, detached, finished, moved_away})
            while (Entry* entry = oldest_entry(state)) erase(entry);
    }

    /// Several round trips and retransmissions of the slowest usual path.
    static constexpr Duration finished_for = Duration::seconds(10);
    /// Whoever took it over is known to a client's address, or to whom it asks, by then.
    static constexpr Duration moved_for = Duration::seconds(10);

    const Limits& limits() const { return limits_; }
    std::size_t peers() const { return peers_.size(); }
    /// Sessions that have been joined.
    std::size_t size() const { return all_.sessions(); }
    std::size_t half_made() const { return all_.count[half_made_session]; }
    std::size_t shaking_hands() const { return all_.count[shaking]; }

    // ---- Connections that are shaking hands.

    /// The one that has to be closed before another from `ip` is admitted; null when none has.
    Handshake* in_the_way(const IpAddress& ip) {
        Peer* peer = find_peer(network_of(ip));
        if (peer != nullptr && peer->count[shaking] >= limits_.half_made_per_peer)
            return static_cast<Handshake*>(first<OfPeer>(peer->in[shaking]));
        return all_.count[shaking] >= limits_.half_made ? oldest_handshake() : nullptr;
    }
    /// Counts one; false when memory is out: close it.
    [[gnu::cold]] bool admit(Handshake& handshake, const IpAddress& ip, TimePoint now) {
        handshake.peer_ = make_peer(network_of(ip));
        if (handshake.peer_ == nullptr) return false;
        handshake.table_ = this;
        enter(handshake, handshake.peer_, shaking, now);
        return true;
    }
    /// The one that has been at it for longest; null when there is none.
    Handshake* oldest_handshake() { return static_cast<Handshake*>(first<OfAll>(all_.in[shaking])); }
    /// One that has been at it for longer than it may; null when there is none. The caller destroys it.
    Handshake* late(TimePoint now) {
        Handshake* oldest = oldest_handshake();
        return oldest != nullptr && now - oldest->since() >= limits_.handshake ? oldest : nullptr;
    }

    // ---- Sessions.

    /// Makes a half-made session; null when there could be no place for it, or memory is out. Its id is new.
    [[gnu::cold]] Entry* create(const Identity& identity, Peer& peer, TimePoint now) {
        if ((full(peer) && idle<OfPeer>(peer) == nullptr) || (full() && idle<OfAll>(all_) == nullptr)) return nullptr;
        if (peer.count[half_made_session] >= limits_.half_made_per_peer)
            erase(static_cast<Entry*>(first<OfPeer>(peer.in[half_made_session])));
        else if (half_made() >= limits_.half_made)
            erase(oldest_entry(half_made_session));
        auto* entry = new (std::nothrow) Entry;
        if (entry == nullptr) return nullptr;
        entry->identity = identity;
        entry->peer_ = &peer;
        if (!entries_.insert(entry)) {
            delete entry;
            return nullptr;
        }
        enter(*entry, &peer, half_made_session, now);
        return entry;
    }
    /// The same for one that comes from `ip` by another way than a handshake.
    [[gnu::cold]] Entry* create(const Identity& identity, const IpAddress& ip, TimePoint now) {
        Peer* const peer = make_peer(network_of(ip));
        Entry* const entry = peer == nullptr ? nullptr : create(identity, *peer, now);
        if (peer != nullptr && entry == nullptr) forget_if_idle(peer);
        return entry;
    }
    Entry* find(const SessionId& id) const { return entries_.find(hash_of(id), id); }
    /// The handshake is complete, for the first time or after a break, or the session has moved here: `owner` has it. One that is new here
    /// may take the place of another: `evict(Entry&)` erases that one before it returns. False when there is none to give way.
    template <class Evict>
    bool attach(Entry& entry, Owner* owner, TimePoint now, Evict evict) {
        if (entry.state == half_made_session || entry.state == moved_away) {
            Peer& peer = *entry.peer_;
            while (full(peer) || full()) {
                Entry* oldest = full(peer) ? idle<OfPeer>(peer) : idle<OfAll>(all_);
                if (oldest == nullptr) return false;
                evict(*oldest);
            }
        }
        entry.owner = owner;
        move(entry, attached, now);
        return true;
    }
    void detach(Entry& entry, TimePoint now) { move(entry, detached, now); }
    /// The session has ended, and is kept a little longer for a client that missed GOODBYE.
    void finish(Entry& entry, TimePoint now) { move(entry, finished, now); }
    /// The session has moved to another process. Its id is remembered for a while, so that a client that comes here meanwhile is not told
    /// that nobody knows it; of as many as there may be sessions.
    void depart(Entry& entry, TimePoint now) {
        if (all_.count[moved_away] >= limits_.sessions) erase(oldest_entry(moved_away));
        entry.owner = nullptr;
        move(entry, moved_away, now);
    }
    bool moved(const Entry& entry) const { return entry.state == moved_away; }
    [[gnu::cold]] void erase(Entry* entry) {
        entries_.erase(entry);
        leave(*entry, entry->peer_);
        delete entry;
    }

    /// A half-made, finished or detached session that has been so for longer than it may; null when there is none. The caller
    /// erases it, after telling its owner.
    [[gnu::cold]] Entry* expired(TimePoint now, Duration keep_detached) {
        for (State state : {half_made_session, finished, detached, moved_away}) {
            Entry* oldest = oldest_entry(state);
            if (oldest != nullptr && now - oldest->since >= kept(state, keep_detached)) return oldest;
        }
        return nullptr;
    }
    /// When `late` or `expired` will next have one.
    [[gnu::cold]] TimePoint next_expiry(Duration keep_detached) {
        TimePoint next = TimePoint::never();
        for (State state : {shaking, half_made_session, finished, detached, moved_away}) {
            const Member* oldest = first<OfAll>(all_.in[state]);
            if (oldest != nullptr && oldest->since + kept(state, keep_detached) < next) next = oldest->since + kept(state, keep_detached);
        }
        return next;
    }

private:
    static std::uint64_t hash_of(const SessionId& id) {
        std::uint64_t h;
        std::memcpy(&h, id.bytes, sizeof h);
        return h;  // ids come from the system's entropy, and only our own are in the table
    }
    static IpAddress network_of(IpAddress ip) {
        if (ip.family == Family::v6) std::memset(ip.bytes + 8, 0, 8);
        ip.scope = 0;
        return ip;
    }
    Duration kept(State state, Duration keep_detached) const {
        return state == detached ? keep_detached : state == finished ? finished_for : state == moved_away ? moved_for : limits_.handshake;
    }

    bool full(const Peer& peer) const { return peer.sessions() >= limits_.sessions_per_peer; }
    bool full() const { return all_.sessions() >= limits_.sessions; }
    // The session that gives way first.
    template <class Of>
    Entry* idle(Group& group) {
        Member* member = first<Of>(group.in[finished]);
        return static_cast<Entry*>(member != nullptr ? member : first<Of>(group.in[detached]));
    }
    template <class Of>
    static Member* first(List& list) {
        return static_cast<Member*>(static_cast<Of*>(list.front()));
    }
    Entry* oldest_entry(State state) { return static_cast<Entry*>(first<OfAll>(all_.in[state])); }

    [[gnu::cold]] void enter(Member& member, Peer* peer, State state, TimePoint now) {
        member.since = now;
        member.state = state;
        all_.in[state].push(static_cast<OfAll&>(member));
        peer->in[state].push(static_cast<OfPeer&>(member));
        ++all_.count[state];
        ++peer->count[state];
    }
    [[gnu::cold]] void unlink(Member& member, Peer* peer) {
        member.OfAll::unlink();
        member.OfPeer::unlink();
        --all_.count[member.state];
        --peer->count[member.state];
    }
    void move(Entry& entry, State state, TimePoint now) {
        unlink(entry, entry.peer_);
        enter(entry, entry.peer_, state, now);
    }
    [[gnu::cold]] void leave(Member& member, Peer* peer) {
        unlink(member, peer);
        forget_if_idle(peer);
    }
    [[gnu::cold]] void forget_if_idle(Peer* peer) {
        if (!peer->empty()) return;
        peers_.erase(peer);
        delete peer;
    }

    std::uint64_t mix(const IpAddress& network) const {
        std::uint64_t word;
        std::memcpy(&word, network.bytes, sizeof word);
        return Random(seed_ ^ word).next();
    }
    Peer* find_peer(const IpAddress& network) const { return peers_.find(mix(network), network); }
    [[gnu::cold]] Peer* make_peer(const IpAddress& network) {
        if (Peer* known = find_peer(network)) return known;
        auto* peer = new (std::nothrow) Peer;
        if (peer == nullptr) return nullptr;
        peer->ip = network;
        peer->mixed = mix(network);
        peer->budget.limit = limits_.replay_bytes_per_peer;
        peer->budget.outer = &budget_;
        if (peers_.insert(peer)) return peer;
        delete peer;
        return nullptr;
    }

    const Limits limits_;
    const std::uint64_t seed_;
    Budget budget_;
    Index<Entry, SessionId> entries_;
    Index<Peer, IpAddress> peers_;
    Group all_;
};

}  // namespace rejoin::inline v0_1::session

namespace rejoin::inline v0_1 {

/// Who wants to come in.
struct Newcomer {
    Endpoint from;
    bool resuming = false;  ///< with a session that is not known here: of another server, of this one before it was restarted, or expired
    session::SessionId session;  ///< of one that resumes
};

/// What becomes of a newcomer.
struct Admission {
    /// Let in; one that resumes is told that its session is not known.
    static Admission accept() { return {}; }
    /// Told to come back after `d` (up to 49 days), at the earliest.
    static Admission later(Duration d) { return {Kind::pushed_back, d, {}}; }
    /// Sent to another server: a numeric address, neither link-local nor unspecified, and its port; anything else counts as `later` with a
    /// second.
    static Admission elsewhere(const Endpoint& to) {
        const IpAddress& ip = to.ip();
        if (to.port() == 0 || ip.is_unspecified() || ip.is_link_local()) return later(Duration::seconds(1));
        return {Kind::pushed_back, {}, to};
    }
    /// Given to another process on this host, connection and all: see `Listener::on_pass_on`. The client does not notice.
    static Admission pass_on() { return {Kind::passed_on, {}, {}}; }

    enum class Kind : std::uint8_t { accepted, pushed_back, passed_on };
    Kind kind = Kind::accepted;
    Duration retry_after;
    Endpoint to;
};

/// Accepts conversations: `T` is the transport, `E` and `R` the policies of the pipes that it makes. It owns them: a pipe lives until
/// it has reported `closed`, or the listener is destroyed, which gives all of them up. With a session, `on_accept` comes once a
/// session, however many connections that takes.
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may do anything with the pipes, and may close or destroy the
/// listener.
template <class T, class E = SystemEvents, class R = Persistent>
class Listener {
public:
    using AcceptedPipe = Pipe<E, T, R>;

    struct Options {
        /// Of every pipe; `transport.keep_detached` says how long a session waits for its client to come back.
        typename AcceptedPipe::Options pipe;
        /// What is held at most; without a session, only `sessions` counts.
        session::Limits limits;
        /// Connections that the system keeps waiting, as far as it allows (net.core.somaxconn): a crowd that comes back at once.
        int backlog = 4096;
        /// Is told what is listened on, so that others can reach it: an `Opening`, which lives longer than this listener. Null: nobody.
        Opener* opener = nullptr;
    };

    [[gnu::cold]] explicit Listener(Loop& loop, const Options& options = Options())
        : loop_(loop),
          options_(options),
          table_(options.limits, random_seed()),
          acceptor_(loop, Delegate<void(Came&&)>::template to<&Listener::accepted>(this)),
          expiry_(loop, Delegate<void()>::template to<&Listener::expire>(this)),
          reap_(loop, Delegate<void()>::template to<&Listener::reap>(this)) {}
    Listener(const Listener&) = delete;
    [[gnu::cold]] ~Listener() {
        close();
        if (destroyed_ != nullptr) *destroyed_ = true;
        while (auto* joining = table_.oldest_handshake()) delete static_cast<Joining*>(joining);
        for (List* list : {&accepted_, &evicted_, &dead_})
            while (ListNode* node = list->front()) delete static_cast<Accepted*>(node);
    }

    /// A new conversation. The pipe is the listener's; it may be kept by reference until it has reported `closed`. Handlers added here
    /// miss nothing.
    HandlerId on_accept(Function<void(AcceptedPipe&)> handler) {
        return accept_handlers_.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    bool remove_handler(HandlerId id) { return id != 0 && accept_handlers_.remove(id); }
    /// Asks `decide` about everybody who wants to begin a conversation, or to go on with one that is not here, from now on: a server
    /// that is full or about to stop sends its clients away with it, and one of several those whose session is another's. An empty one
    /// lets everybody in again. It must not destroy the listener. Only with a session. (Where nobody says otherwise, a client whose session
    /// has moved to another process within the last 10 s is told to come back in a moment.)
    void admit(Function<Admission(const Newcomer&)> decide) { admission_ = std::move(decide); }
    /// Is given whoever is to be passed on, as a parcel for the listener that is to let them in, which `adopt`s it: the connection, and in
    /// `unread` what the client has said. It must not destroy the listener. Without it, or where they were passed on to this one already,
    /// they are let in here.
    [[gnu::cold]] void on_pass_on(Function<void(const Newcomer&, handoff::Parcel&&)> handler) requires requires(typename T::Connection& c) {
        c.release();
    }
    {
        pass_on_ = [handler = std::move(handler)](Joining& joining, const Newcomer& newcomer, Bytes rest) mutable {
            handoff::Parcel parcel;
            const Bytes said = joining.handshake.last_message();
            const bool ok = parcel.unread.append(said.data(), said.size()) && parcel.unread.append(rest.data(), rest.size());
            parcel.kind = SocketKind::stream;
            parcel.socket = joining.connection->release();
            delete &joining;
            if (ok) handler(newcomer, std::move(parcel));
        };
    }
    /// Whether a session is here, with or without a connection.
    bool has_session(const session::SessionId& id) const {
        const Entry* const entry = table_.find(id);
        return entry != nullptr && !table_.moved(*entry);
    }

    /// Listens on a numeric endpoint; `0.0.0.0` is every local IPv4 address, `::` every one of both families (on OpenBSD of IPv6 alone:
    /// inet6(4)), port 0 lets the system choose (see `local_endpoint`). `invalid_argument` for a name or options outside their bounds,
    /// `invalid_state` when it listens already, else the system's error.
    [[gnu::cold]] Result<void> listen(const Endpoint& at) {
        if (acceptor_.listening()) return Errc::invalid_state;
        if (!at.valid() || at.name() != nullptr || !options_.pipe.transport.valid() || !options_.limits.valid() || options_.backlog < 1)
            return Errc::invalid_argument;
        if (auto listening = acceptor_.listen(at, options_.backlog); !listening) return listening;
        if (options_.opener != nullptr) options_.opener->opened(local_endpoint());
        return {};
    }
    /// Goes on with a socket that listens already: one that was handed over, or inherited. The listener owns it from here on.
    /// `invalid_argument` for one that does not listen; errors as of the other.
    [[gnu::cold]] Result<void> listen(Socket socket) requires requires(typename T::Acceptor& a) { a.adopt(Socket()); }
    {
        if (acceptor_.listening()) return Errc::invalid_state;
        if (socket.kind() != SocketKind::listener || !options_.pipe.transport.valid() || !options_.limits.valid())
            return Errc::invalid_argument;
        if (auto listening = acceptor_.adopt(std::move(socket)); !listening) return listening;
        if (options_.opener != nullptr) options_.opener->opened(local_endpoint());
        return {};
    }
    /// Gives the listening socket to the caller, to hand it over: who comes meanwhile waits in the system's queue, and nobody is refused.
    [[gnu::cold]] Socket release() requires requires(typename T::Acceptor& a) { a.release(); }
    { return acceptor_.release(); }
    /// Goes on with a conversation that was accepted in another process (handoff/README.md): `on_accept` comes within this call. Its socket
    /// and session are the listener's from here on; `note` and `unread` stay with the caller, who sees to what was read before. Errors,
    /// with nothing changed: `invalid_argument` for a parcel of another kind than this transport's, and for a session that is here already;
    /// `session_limit`; `malformed`, `too_large` and `would_block` as `session::Session::restore`; `out_of_memory`; the system's. The pipe,
    /// or null where a handler has ended it. Where sessions are served, a connection without one has just come, or was passed on: `unread`
    /// is what it has said, it joins as any other, and null is returned.
    [[gnu::cold]] Result<AcceptedPipe*> adopt(handoff::Parcel&& parcel) requires requires(typename T::Connection& c) { c.release(); }
    {
        if constexpr (survives)
            if (!parcel.resumable && parcel.socket.connected()) {
                const auto joining = let_join(std::move(parcel.socket));
                if (!joining) return joining.error();
                (*joining)->passed_on = true;
                if (!parcel.unread.empty()) join(**joining, {parcel.unread.data(), parcel.unread.size()});
                return static_cast<AcceptedPipe*>(nullptr);
            }
        if (parcel.resumable != survives || (survives && !parcel.session.accepted) || (!parcel.socket && !survives) ||
            (survives && static_cast<bool>(parcel.socket) != parcel.session.attached))
            return Errc::invalid_argument;
        const TimePoint now = loop_.now();
        Connection* connection = nullptr;
        if (parcel.socket && (connection = new (std::nothrow) Connection(loop_, detail::Nobody::instance())) == nullptr)
            return Errc::out_of_memory;
        auto* const made = new (std::nothrow) Accepted(*this);
        if (made == nullptr) {
            delete connection;
            return Errc::out_of_memory;
        }
        const IpAddress ip = connection == nullptr ? IpAddress() : unmapped(parcel.socket.peer_endpoint().ip());
        Error error;
        if (connection != nullptr) error = connection->adopt(std::move(parcel.socket)).error();
        if (!error) error = make_home(*made, parcel, ip, now);
        if (error) {
            if (connection != nullptr) parcel.socket = connection->release();
            delete connection;
            delete made;
            return error;
        }
        accepted_.push(*made);
        AcceptedPipe& pipe = made->pipe;
        pipe.state_ = PipeState::connecting;
        if (!announce(pipe) || pipe.state_ == PipeState::closed) {
            delete connection;
            return static_cast<AcceptedPipe*>(nullptr);
        }
        const bool there = connection != nullptr ? pipe.accept(connection) : pipe.arrive_without(now);
        return there ? &pipe : nullptr;
    }
    /// Accepts nothing more; the conversations go on, but none whose connection breaks can come back.
    void close() {
        if (options_.opener != nullptr && acceptor_.listening()) options_.opener->closed();
        acceptor_.close();
    }
    /// Where it listens; not `valid` when it does not.
    Endpoint local_endpoint() const { return acceptor_.listening() ? acceptor_.local_endpoint() : Endpoint(); }
    /// How many conversations there are, with and without a connection.
    std::size_t size() const { return size_; }
    /// How many connections have come, and have not joined a session yet.
    std::size_t joining() const { return table_.shaking_hands(); }

private:
    using Connection = typename T::Connection;
    using Came = typename T::Acceptor::Accepted;
    using Table = session::Table<AcceptedPipe>;
    using Entry = typename Table::Entry;
    static constexpr bool survives = T::Session::survives_connections;

    // One conversation.
    struct Accepted final : ListNode, detail::PipeOwner {
        explicit Accepted(Listener& l) : listener(l), pipe(l.loop_, &l.options_.pipe, this) { ++l.size_; }
        [[gnu::cold]] ~Accepted() {
            --listener.size_;
            if constexpr (survives) {
                pipe.session_.set_budget(nullptr);
                if (entry != nullptr) listener.table_.erase(entry);
            }
        }
        [[gnu::cold]] void pipe_detached() override {
            if constexpr (survives) {
                const TimePoint now = listener.loop_.now();
                pipe.state() == PipeState::closed ? listener.table_.finish(*entry, now) : listener.table_.detach(*entry, now);
                listener.arm_expiry();
            }
        }
        [[gnu::cold]] void pipe_departed() override {
            if constexpr (survives) {
                pipe.session_.set_budget(nullptr);
                listener.table_.depart(*std::exchange(entry, nullptr), listener.loop_.now());
                listener.arm_expiry();
            }
        }
        [[gnu::cold]] void pipe_closed() override {
            unlink();
            listener.dead_.push(*this);
            listener.reap_.schedule();
        }

        Listener& listener;
        Entry* entry = nullptr;
        AcceptedPipe pipe;
    };

    // A handshake is a matter of two round trips. One that has taken this long gives way to the next who comes; until then it is let
    // finish: in a crowd that comes back at once, each would else push out another that is nearly through, which comes again. Those for
    // whom there is no room at all wait in the system's queue.
    static constexpr Duration ripe = Duration::seconds(1);

    // Whoever asks for a session that has just moved: it is where it should be in a moment, or comes back.
    static constexpr Duration come_back = Duration::milliseconds(50);

    // One connection that is shaking hands.
    struct Joining final : Table::Handshake, ConnectionObserver {
        explicit Joining(Listener& l) : listener(l), connection(new (std::nothrow) Connection(l.loop_, *this)) {}
        [[gnu::cold]] ~Joining() {
            delete connection;
            if constexpr (requires { listener.acceptor_.go_on(); }) listener.acceptor_.go_on();
        }
        void on_open() override {}
        bool on_bytes(Bytes bytes) override {
            if constexpr (survives)
                return listener.join(*this, bytes);
            else
                return true;
        }
        bool on_writable() override { return listener.answer(*this); }
        void on_end() override { delete this; }
        void on_error(Error) override { delete this; }

        Listener& listener;
        Connection* connection;
        bool refused = false;
        bool passed_on = false;  // from another process to this one
        session::ServerHandshake handshake;
    };

    // A place for what comes in a parcel.
    [[gnu::cold]] Error make_home(Accepted& made, const handoff::Parcel& parcel, const IpAddress& ip, TimePoint now) {
        auto& session = made.pipe.session_;
        if constexpr (survives) {
            Entry* entry = table_.find(parcel.session.identity.id);
            if (entry != nullptr && !table_.moved(*entry)) return Errc::invalid_argument;
            if (entry == nullptr) entry = made.entry = table_.create(parcel.session.identity, ip, now);
            if (entry == nullptr) return Errc::session_limit;
            session.set_budget(&entry->peer().budget);
            if (auto restored = session.restore(parcel.session, now); !restored) return restored.error();
            if (!table_.attach(*entry, &made.pipe, now, [this](Entry& other) { evict(other); })) return Errc::session_limit;
            made.entry = entry;
        } else {
            if (size_ > options_.limits.sessions) return Errc::session_limit;
            if (!parcel.unsent.empty())
                if (auto queued = session.send({parcel.unsent.data(), parcel.unsent.size()}); !queued) return queued.error();
        }
        return {};
    }
    // Calls the accept handlers. False when the listener is gone.
    [[gnu::cold]] bool announce(AcceptedPipe& pipe) {
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        accept_handlers_(pipe);
        if (destroyed) {
            if (outer != nullptr) *outer = true;
            return false;
        }
        destroyed_ = outer;
        return true;
    }

    [[gnu::cold]] void accepted(Came&& socket) {
        if constexpr (survives) {
            static_cast<void>(let_join(std::move(socket)));
        } else {
            if (size_ >= options_.limits.sessions) return;
            auto* connection = new (std::nothrow) Connection(loop_, detail::Nobody::instance());
            if (connection == nullptr) return;
            auto* made = new (std::nothrow) Accepted(*this);
            if (made == nullptr || !connection->adopt(std::move(socket))) {
                delete connection;
                delete made;
                return;
            }
            accepted_.push(*made);
            made->pipe.state_ = PipeState::connecting;
            if (announce(made->pipe))
                made->pipe.accept(connection);
            else
                delete connection;
        }
    }
    // A connection that has yet to say which session it is of. On an error the socket is still the caller's.
    [[gnu::cold]] Result<Joining*> let_join(Came&& socket) {
        const IpAddress ip = unmapped(socket.peer_endpoint().ip());
        const TimePoint now = loop_.now();
        if (auto* oldest = table_.in_the_way(ip)) {
            if (now - oldest->since() < ripe) return Errc::session_limit;
            delete static_cast<Joining*>(oldest);
        }
        auto* joining = new (std::nothrow) Joining(*this);
        if (joining == nullptr) return Errc::out_of_memory;
        if (joining->connection == nullptr || !table_.admit(*joining, ip, now)) {
            delete joining;
            return Errc::out_of_memory;
        }
        if (auto adopted = joining->connection->adopt(std::move(socket)); !adopted) {
            if constexpr (requires { joining->connection->release(); }) socket = joining->connection->release();
            delete joining;
            return adopted.error();
        }
        arm_expiry();
        if constexpr (requires { acceptor_.rest(ripe); })
            if (table_.shaking_hands() >= options_.limits.half_made) {
                const Duration age = now - table_.oldest_handshake()->since();
                if (age < ripe) acceptor_.rest(ripe - age);
            }
        return joining;
    }

    // What becomes of somebody whose session is not here, or is new.
    [[gnu::cold]] Admission decide(const Joining& joining, const Newcomer& newcomer, bool moved) {
        const Admission said = admission_ ? admission_(newcomer) : Admission::accept();
        const bool can_pass_on = pass_on_ && !joining.passed_on;
        if (said.kind == Admission::Kind::pushed_back || (said.kind == Admission::Kind::passed_on && can_pass_on)) return said;
        return moved ? Admission::later(come_back) : Admission::accept();
    }
    [[gnu::cold]] bool push_back(Joining& joining, const Admission& said) {
        const std::int64_t ms = said.retry_after.milliseconds();
        joining.handshake.push_back({static_cast<std::uint32_t>(ms < 0            ? 0
                                                                : ms > UINT32_MAX ? UINT32_MAX
                                                                                  : ms),
                                     said.to.ip(), said.to.port()});
        joining.refused = true;
        return answer(joining);
    }
    // Bytes of a handshake. False when its connection is not the handshake's any more.
    bool join(Joining& joining, Bytes bytes) {
        using Step = session::ServerHandshake::Step;
        using session::Refusal;
        auto& handshake = joining.handshake;
        for (;;) {
            auto step = handshake.receive(bytes);
            if (joining.refused) return true;  // it is being told so
            if (!step) {
                if (step.error() == Errc::version_mismatch) return refuse(joining, Refusal::version);
                delete &joining;
                return false;
            }
            if (*step == Step::more) return answer(joining);
            if (*step == Step::joined) return joined(joining, bytes);

            Entry* entry = *step == Step::resume ? table_.find(handshake.id()) : nullptr;
            if (entry == nullptr || table_.moved(*entry)) {
                const Newcomer newcomer{joining.connection->peer_endpoint(), *step == Step::resume, handshake.id()};
                const Admission said = decide(joining, newcomer, entry != nullptr);
                if (said.kind == Admission::Kind::pushed_back) return push_back(joining, said);
                if (said.kind == Admission::Kind::passed_on) return pass_on_(joining, newcomer, bytes), false;
                entry = nullptr;
            }
            session::Nonce nonce;
            if (!entropy(nonce.bytes)) return refuse(joining, Refusal::limit);
            const auto window = static_cast<std::uint32_t>(options_.pipe.transport.replay_limit);
            if (*step == Step::hello) {
                session::Identity identity;
                if (!entropy(identity.id.bytes) || !entropy(identity.key.bytes)) return refuse(joining, Refusal::limit);
                if (!handshake.welcome(identity, nonce, window, options_.pipe.transport.pre_shared_key.get()))
                    return refuse(joining, Refusal::proof);
                if (table_.create(identity, joining.peer(), loop_.now()) == nullptr) return refuse(joining, Refusal::limit);
            } else {
                if (entry == nullptr) return refuse(joining, Refusal::unknown);
                AcceptedPipe* pipe = entry->owner;
                if (pipe != nullptr && handshake.agreement().epoch <= pipe->session_.epoch()) return refuse(joining, Refusal::fenced);
                handshake.resume(entry->identity.key, nonce, pipe == nullptr ? 0 : pipe->session_.received(), window);
            }
        }
    }
    [[gnu::cold]] bool refuse(Joining& joining, session::Refusal why) {
        joining.handshake.refuse(why);
        joining.refused = true;
        return answer(joining);
    }
    bool answer(Joining& joining) {
        while (!joining.handshake.pending().empty()) {
            const Bytes piece[] = {joining.handshake.pending()};
            auto wrote = joining.connection->write(piece);
            if (wrote) {
                joining.handshake.wrote(*wrote);
            } else if (wrote.error() == Errc::would_block) {
                joining.connection->want_writable();
                return true;
            } else {
                joining.refused = true;
                break;
            }
        }
        if (!joining.refused) return true;
        delete &joining;
        return false;
    }
    [[gnu::cold]] bool joined(Joining& joining, Bytes rest) {
        Entry* entry = table_.find(joining.handshake.id());
        const session::Agreement agreement = joining.handshake.agreement();
        // Between its question and its proof the session may have gone, or a newer connection have come.
        if (entry == nullptr || table_.moved(*entry) || (entry->owner != nullptr && agreement.epoch <= entry->owner->session_.epoch())) {
            delete &joining;
            return false;
        }
        const TimePoint now = loop_.now();
        const Duration round_trip = now - joining.since();
        const bool first = entry->owner == nullptr;
        auto* const made = first ? new (std::nothrow) Accepted(*this) : nullptr;
        AcceptedPipe* const pipe = first && made != nullptr ? &made->pipe : entry->owner;
        if (pipe == nullptr || !table_.attach(*entry, pipe, now, [this](Entry& other) { evict(other); })) {
            delete made;
            delete &joining;
            return false;
        }
        if (first) {
            accepted_.push(*made);
            made->entry = entry;
            pipe->session_.set_identity(entry->identity, true);
            pipe->session_.set_budget(&entry->peer().budget);
            pipe->state_ = PipeState::connecting;
        }
        Connection* connection = std::exchange(joining.connection, nullptr);
        connection->set_observer(detail::Nobody::instance());
        delete &joining;
        if (first && !announce(*pipe)) {
            delete connection;
            return false;
        }
        if (pipe->state_ == PipeState::closed && first) {  // the handler gave it up
            delete connection;
            return false;
        }
        return pipe->accept(connection, agreement, round_trip, !first) && pipe->take_rest(connection, rest);
    }

    // A session without a connection is over. Its place is free at once; its pipe is told when nothing else is under way, as its handlers
    // may do anything.
    [[gnu::cold]] void evict(Entry& entry) {
        auto& gone = static_cast<Accepted&>(*entry.owner->owner_);
        gone.pipe.session_.set_budget(nullptr);
        gone.entry = nullptr;
        table_.erase(&entry);
        gone.unlink();
        evicted_.push(gone);
        reap_.schedule();
    }

    [[gnu::cold]] void arm_expiry() {
        const TimePoint next = table_.next_expiry(options_.pipe.transport.keep_detached);
        if (next < expiry_.when()) expiry_.at(next);
    }
    [[gnu::cold]] void expire() {
        if constexpr (survives) {
            const TimePoint now = loop_.now();
            while (auto* late = table_.late(now)) delete static_cast<Joining*>(late);
            while (Entry* entry = table_.expired(now, options_.pipe.transport.keep_detached))
                entry->owner == nullptr ? table_.erase(entry) : evict(*entry);
            arm_expiry();
        }
    }
    [[gnu::cold]] void reap() {
        while (ListNode* node = dead_.front()) delete static_cast<Accepted*>(node);
        ListNode* const node = evicted_.front();
        if (node == nullptr) return;
        reap_.schedule();  // one at a time: its handlers may even destroy the listener
        static_cast<Accepted*>(node)->pipe.fail(classify(Errc::session_expired, Stage::established));
    }

    Loop& loop_;
    const Options options_;
    Table table_;
    typename T::Acceptor acceptor_;
    Loop::Timer expiry_;
    Loop::Deferred reap_;
    List accepted_;
    List evicted_;  // to be told
    List dead_;
    Handlers<AcceptedPipe&> accept_handlers_;
    Function<Admission(const Newcomer&)> admission_;
    Function<void(Joining&, const Newcomer&, Bytes)> pass_on_;
    bool* destroyed_ = nullptr;
    std::size_t size_ = 0;
    HandlerId last_handler_ = 0;
};

}  // namespace rejoin::inline v0_1

// STUN messages (RFC 8489): the Binding method, to bytes and from bytes. Pure; nothing is allocated, and what is decoded looks into the
// datagram that it came in.
namespace rejoin::inline v0_1::stun {

/// The port that STUN has over UDP (RFC 8489 §18.6).
inline constexpr std::uint16_t default_port = 3478;

inline constexpr std::size_t header_size = 20;
inline constexpr std::uint32_t magic_cookie = 0x2112a442;        // RFC 8489 §5
inline constexpr std::uint32_t fingerprint_xor = 0x5354554e;     // §14.7
inline constexpr std::size_t attribute_header_size = 4;          // §14
inline constexpr std::uint16_t comprehension_optional = 0x8000;  // an attribute of this number or more may be left alone

/// Attribute types (RFC 8489 §18.3).
enum class Attribute : std::uint16_t {
    mapped_address = 0x0001,
    source_address = 0x0004,  // this and the next two are of RFC 3489: some servers still add them, unasked
    changed_address = 0x0005,
    username = 0x0006,
    message_integrity = 0x0008,
    error_code = 0x0009,
    unknown_attributes = 0x000a,
    reflected_from = 0x000b,
    realm = 0x0014,
    nonce = 0x0015,
    message_integrity_sha256 = 0x001c,
    password_algorithm = 0x001d,
    userhash = 0x001e,
    xor_mapped_address = 0x0020,
    software = 0x8022,
    alternate_server = 0x8023,
    fingerprint = 0x8028,
};

/// What a message is: method and class of RFC 8489 §5, for the one method there is here.
enum class MessageType : std::uint16_t { request = 0x0001, indication = 0x0011, success = 0x0101, error = 0x0111 };

/// Names one transaction. Chosen at random for each, from entropy: whoever cannot see the request cannot guess it (RFC 8489 §5).
struct TransactionId {
    std::byte bytes[12] = {};
    friend bool operator==(const TransactionId&, const TransactionId&) = default;
};

/// A decoded message. Its views hold as long as the datagram.
struct Message {
    MessageType type = MessageType::request;
    TransactionId id;
    Endpoint mapped;  ///< where the sender of the request seemed to be: XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS; every success has it
    Endpoint alternate_server;     ///< ALTERNATE-SERVER; not `valid` when there is none
    std::uint16_t error_code = 0;  ///< 300 to 699, in an error
    TextView reason;               ///< ERROR-CODE's phrase, as the peer wrote it
    TextView software;             ///< SOFTWARE, as the peer wrote it
    Bytes unknown_attributes;      ///< UNKNOWN-ATTRIBUTES: two bytes each, in network order
    bool authenticated = false;    ///< MESSAGE-INTEGRITY-SHA256 was there, and made with the key
    bool fingerprint = false;      ///< FINGERPRINT was there, and right
};

namespace detail {

// CRC-32 of ITU V.42, bit by bit: messages are short and rare, and a table would cost every program 1 KiB.
inline std::uint32_t crc32(Bytes bytes) {
    std::uint32_t crc = ~std::uint32_t{0};
    for (std::byte b : bytes) {
        crc ^= std::to_integer<std::uint32_t>(b);
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

// RFC 8489 §14.6: over what stands before the attribute, with a length in the header that ends behind it.
inline Digest integrity(Bytes before, Bytes key) {
    std::byte length[2];
    store_big(length, static_cast<std::uint16_t>(before.size() - header_size + attribute_header_size + sizeof(Digest)));
    const Bytes pieces[] = {before.first(2), length, before.subspan(4)};
    return hmac_sha256(key, pieces);
}
inline std::uint32_t fingerprint(Bytes before) { return crc32(before) ^ fingerprint_xor; }

// §14.1 and §14.2. False when it is no address, or one that nobody can have.
inline bool read_address(Bytes value, Bytes mask, Endpoint& to) {
    if (value.size() < 4) return false;
    IpAddress ip;
    ip.family = value[1] == std::byte{1} ? Family::v4 : value[1] == std::byte{2} ? Family::v6 : Family::none;
    if (ip.family == Family::none || value.size() != 4 + ip.size()) return false;
    auto port = load_big<std::uint16_t>(&value[2]);
    for (std::size_t i = 0; i < ip.size(); ++i) ip.bytes[i] = std::to_integer<std::uint8_t>(value[4 + i]);
    if (!mask.empty()) {
        port = static_cast<std::uint16_t>(port ^ load_big<std::uint16_t>(&mask[0]));
        for (std::size_t i = 0; i < ip.size(); ++i) ip.bytes[i] ^= std::to_integer<std::uint8_t>(mask[i]);
    }
    if (ip.is_unspecified() || port == 0) return false;
    to = Endpoint(ip, port);
    return true;
}

inline TextView text(Bytes value) { return {reinterpret_cast<const char*>(value.data()), value.size()}; }

}  // namespace detail

/// One datagram as a message. With a `key`, MESSAGE-INTEGRITY-SHA256 is demanded and checked; without one it is passed over, and so is
/// the older MESSAGE-INTEGRITY (SHA-1) always. FINGERPRINT is checked where it is there. Of an attribute that stands there twice the
/// first counts (RFC 8489 §14), and what stands behind an integrity attribute counts for nothing, FINGERPRINT apart (§14.5, §14.6).
///
/// `malformed`: no STUN message, another method than Binding, a length that does not fit, an address or error code that cannot be, a
/// FINGERPRINT that is wrong or not the last, a success without an address, or an error without a code. `proof_invalid`: a key was
/// given, and the message was not made with it. `unsupported`: it has an attribute that has to be understood (§14) and is not.
inline Result<Message> decode(Bytes datagram, Bytes key = {}) {
    if (datagram.size() < header_size || datagram.size() % 4 != 0) return Errc::malformed;
    Message message;
    message.type = static_cast<MessageType>(load_big<std::uint16_t>(&datagram[0]));
    if (message.type != MessageType::request && message.type != MessageType::indication && message.type != MessageType::success &&
        message.type != MessageType::error)
        return Errc::malformed;
    if (load_big<std::uint16_t>(&datagram[2]) != datagram.size() - header_size) return Errc::malformed;
    if (load_big<std::uint32_t>(&datagram[4]) != magic_cookie) return Errc::malformed;
    copy(message.id.bytes, datagram.subspan(8, sizeof message.id.bytes));

    const Bytes mask = datagram.subspan(4, 16);  // the cookie and the transaction id
    Endpoint plain_mapped;
    bool unsupported = false, behind = false, behind_sha1 = false;
    for (Bytes rest = datagram.subspan(header_size); !rest.empty();) {
        const Bytes before = datagram.first(datagram.size() - rest.size());
        const auto type = static_cast<Attribute>(load_big<std::uint16_t>(&rest[0]));
        const std::size_t size = load_big<std::uint16_t>(&rest[2]), padded = (size + 3) / 4 * 4;
        if (padded > rest.size() - attribute_header_size) return Errc::malformed;
        const Bytes value = rest.subspan(attribute_header_size, size);
        rest = rest.subspan(attribute_header_size + padded);

        if (type == Attribute::fingerprint) {
            if (size != 4 || !rest.empty() || load_big<std::uint32_t>(&value[0]) != detail::fingerprint(before)) return Errc::malformed;
            message.fingerprint = true;
            continue;
        }
        if (behind || (behind_sha1 && type != Attribute::message_integrity_sha256)) continue;
        bool right = true;
        switch (type) {
            case Attribute::xor_mapped_address:
                if (!message.mapped.valid()) right = detail::read_address(value, mask, message.mapped);
                break;
            case Attribute::mapped_address:
                if (!plain_mapped.valid()) right = detail::read_address(value, {}, plain_mapped);
                break;
            case Attribute::alternate_server:
                if (!message.alternate_server.valid()) right = detail::read_address(value, {}, message.alternate_server);
                break;
            case Attribute::error_code:
                if (message.error_code != 0) break;
                right = size >= 4 && value[3] < std::byte{100};
                if (!right) break;
                message.error_code = static_cast<std::uint16_t>(std::to_integer<unsigned>(value[2] & std::byte{7}) * 100 +
                                                                std::to_integer<unsigned>(value[3]));
                message.reason = detail::text(value.subspan(4));
                right = message.error_code >= 300 && message.error_code < 700;
                break;
            case Attribute::unknown_attributes:
                if (message.unknown_attributes.data() == nullptr) message.unknown_attributes = value;
                right = message.unknown_attributes.size() % 2 == 0;
                break;
            case Attribute::software:
                if (message.software.data() == nullptr) message.software = detail::text(value);
                break;
            case Attribute::message_integrity:
                behind_sha1 = true;
                break;
            case Attribute::message_integrity_sha256: {
                behind = true;
                Digest proof;  // whole: truncation is for usages that say so (§14.6), and this one does not
                right = size == sizeof proof.bytes;
                if (!right || key.empty()) break;
                copy(proof.bytes, value);
                message.authenticated = equal_in_constant_time(proof, detail::integrity(before, key));
                break;
            }
            case Attribute::source_address:
            case Attribute::changed_address:
            case Attribute::reflected_from:
            case Attribute::username:
            case Attribute::realm:
            case Attribute::nonce:
            case Attribute::password_algorithm:
            case Attribute::userhash:
                break;
            default:
                unsupported = unsupported || static_cast<std::uint16_t>(type) < comprehension_optional;
        }
        if (!right) return Errc::malformed;
    }
    if (!key.empty() && !message.authenticated) return Errc::proof_invalid;
    if (unsupported) return Errc::unsupported;
    if (!message.mapped.valid()) message.mapped = plain_mapped;
    if (message.type == MessageType::success && !message.mapped.valid()) return Errc::malformed;
    if (message.type == MessageType::error && message.error_code == 0) return Errc::malformed;
    return message;
}

/// What a Binding request says beside its transaction id.
struct RequestOptions {
    TextView software = {};   ///< SOFTWARE: who asks; none when empty
    TextView username = {};   ///< USERNAME, which a server wants to see with a key (RFC 8489 §9.1.2); none when empty
    Bytes key = {};           ///< makes MESSAGE-INTEGRITY-SHA256; none when empty
    bool fingerprint = true;  ///< FINGERPRINT, which tells STUN from what else may come to the port (§7)
};

/// An encoded request, in the object itself. 512 bytes go through any network unfragmented (RFC 8489 §6.1 would allow 548).
class Request {
public:
    operator Bytes() const { return {bytes_, size_}; }

private:
    friend Result<Request> encode_request(const TransactionId&, const RequestOptions&);
    // Adds an attribute of that many bytes with its padding, and returns where they go; null when it does not fit.
    std::byte* add(Attribute type, std::size_t size) {
        const std::size_t padded = (size + 3) / 4 * 4;
        if (size > sizeof bytes_ || attribute_header_size + padded > sizeof bytes_ - size_) return nullptr;
        std::byte* at = bytes_ + size_;
        store_big(at, static_cast<std::uint16_t>(type));
        store_big(at + 2, static_cast<std::uint16_t>(size));
        size_ += attribute_header_size + padded;
        store_big(bytes_ + 2, static_cast<std::uint16_t>(size_ - header_size));
        return at + attribute_header_size;
    }
    std::size_t size_ = header_size;
    std::byte bytes_[512] = {};
};

/// A Binding request (RFC 8489 §6.1). `too_large`: it would not fit into 512 bytes.
inline Result<Request> encode_request(const TransactionId& id, const RequestOptions& options = {}) {
    Request request;
    store_big(request.bytes_, static_cast<std::uint16_t>(MessageType::request));
    store_big(request.bytes_ + 4, magic_cookie);
    copy(request.bytes_ + 8, id.bytes);
    for (const auto& [type, text] : {std::pair(Attribute::software, options.software), std::pair(Attribute::username, options.username)}) {
        if (text.size() == 0) continue;
        std::byte* to = request.add(type, text.size());
        if (to == nullptr) return Errc::too_large;
        copy(to, text.bytes());
    }
    if (!options.key.empty()) {
        const Digest proof = detail::integrity(request, options.key);
        std::byte* to = request.add(Attribute::message_integrity_sha256, sizeof proof.bytes);
        if (to == nullptr) return Errc::too_large;
        copy(to, proof);
    }
    if (options.fingerprint) {
        const Bytes before = request;
        std::byte* to = request.add(Attribute::fingerprint, 4);  // which is counted by the length that it covers
        if (to == nullptr) return Errc::too_large;
        store_big(to, detail::fingerprint(before));
    }
    return request;
}

}  // namespace rejoin::inline v0_1::stun

namespace rejoin::inline v0_1::stun {

/// One Binding transaction over UDP, from its first request to its answer or its failure (RFC 8489 §6.2.1, §6.3). Pure: the owner has
/// the socket and the clock, calls `advance` whenever `due` has come, and sends a request when that says so. After `start` it does so
/// up to seven times, each time after twice the pause of before, and gives up 79 RTOs after the first (39.5 s).
///
///     idle ──start──▶ running ──receive──▶ answered      the server said what address it sees
///                             ──receive──▶ failed        the server refused, or cannot be understood
///                             ──advance──▶ failed        no answer in time
///     any  ──start──▶ running
///
/// An answer counts while the transaction runs, from where the request went to, with the transaction's id, and well-formed. Everything
/// else changes nothing.
class Transaction {
public:
    enum class State : std::uint8_t { idle, running, answered, failed };

    /// How long the first answer is waited for (RFC 8489 §6.2.1: at least 500 ms, as long as nothing is known of the path).
    static constexpr Duration default_rto = Duration::milliseconds(500);
    static constexpr int requests_max = 7;  ///< Rc of §6.2.1
    static constexpr int last_wait = 16;    ///< Rm: the wait after the last request, in RTOs

    /// Begins anew: the first request is due at `now`. `id` is random and was never used before; `server` is an address, not a name.
    void start(const TransactionId& id, const Endpoint& server, TimePoint now, Duration rto = default_rto) {
        *this = {};
        state_ = State::running;
        id_ = id;
        server_ = server;
        rto_ = rto;
        due_ = now;
    }

    State state() const { return state_; }
    const TransactionId& id() const { return id_; }
    const Endpoint& server() const { return server_; }
    /// When `advance` has something to do: never, unless it runs.
    TimePoint due() const { return state_ == State::running ? due_ : TimePoint::never(); }

    /// Returns whether to send the request now (again): `encode_request` with `id`, and the same options each time. The transaction may
    /// have failed instead.
    bool advance(TimePoint now) {
        if (now < due()) return false;
        if (sent_ == requests_max) {
            fail(Errc::timed_out);
            return false;
        }
        due_ = now + rto_ * (sent_ == requests_max - 1 ? last_wait : 1 << sent_);
        ++sent_;
        return true;
    }

    /// Takes a datagram that came to the socket; returns whether it ended the transaction. With a `key` only an answer that was made
    /// with it does (RFC 8489 §9.1.4).
    bool receive(const Endpoint& from, Bytes datagram, Bytes key = {}) {
        if (state_ != State::running || !(from == server_) || datagram.size() < header_size) return false;
        if (std::memcmp(&datagram[8], id_.bytes, sizeof id_.bytes) != 0) return false;
        const Result<Message> message = decode(datagram, key);
        if (!message) {
            if (message.error() != Errc::unsupported) return false;  // forged or damaged: the right one may still come
            fail(Errc::unsupported);                                 // §6.3.3, §6.3.4
            return true;
        }
        if (message->type == MessageType::success) {
            state_ = State::answered;
            mapped_ = message->mapped;
            return true;
        }
        if (message->type != MessageType::error) return false;
        error_code_ = message->error_code;
        alternate_ = message->alternate_server;
        fail(Errc::unsupported);
        return true;
    }

    /// Gives up for a reason of the owner's: the request cannot be sent.
    void fail(Error why) {
        state_ = State::failed;
        error_ = why;
    }

    /// The address and port that the server sees, once it has answered.
    const Endpoint& mapped() const { return mapped_; }
    /// Why it failed: `timed_out`; `unsupported`: the server refused, and `error_code` says with what, or (0) its answer has an attribute
    /// that has to be understood and is not; or what the owner gave.
    Error error() const { return error_; }
    /// The code of a refusal, 300 to 699 (RFC 8489 §14.8), else 0.
    std::uint16_t error_code() const { return error_code_; }
    /// Whom to ask instead, when the code is 300 (RFC 8489 §10). Nobody here follows it.
    const Endpoint& alternate_server() const { return alternate_; }

private:
    State state_ = State::idle;
    std::uint8_t sent_ = 0;
    std::uint16_t error_code_ = 0;
    TransactionId id_;
    TimePoint due_;
    Duration rto_;
    Error error_;
    Endpoint server_, mapped_, alternate_;
};

}  // namespace rejoin::inline v0_1::stun

namespace rejoin::inline v0_1 {

/// How a NAT on the way treats one local port, as far as the answers of several servers show (RFC 5780 §4.3).
enum class NatMapping : std::uint8_t {
    unknown,  ///< fewer than two servers have answered
    same,     ///< every server sees the same address and port: endpoint-independent, or no NAT at all
    differs,  ///< servers see different ones: address- or port-dependent ("symmetric"); peers cannot be told where to send to
};

/// Where the packets of one local address seem to come from.
struct External {
    IpAddress address;       ///< of family `none` while nothing is known
    std::uint16_t port = 0;  ///< the port of the last look-up's mapping; each look-up has another
    Endpoint server;         ///< the first server that said so
    NatMapping mapping = NatMapping::unknown;
    /// Why the last look-up brought nothing, if so: what was known before stays known. `invalid_state`: none is through yet;
    /// `address_lost`: no usable local address or no route; `unsupported`: no server of the family, or it refused; `timed_out`: none
    /// answered; or the system's or the resolver's error.
    Error error = Errc::invalid_state;
};

namespace detail {

/// What the servers say together: the address that most of them see; of as many, the one that was `known`, else the one of the server
/// listed first. Pure.
struct ExternalVote {
    const stun::Transaction* winner = nullptr;  ///< the first in the list that says so; null when nobody answered
    int answers = 0;
    bool disagree = false;  ///< about the address or the port
};
inline ExternalVote count_votes(std::span<const stun::Transaction> asked, const IpAddress& known) {
    ExternalVote vote;
    int most = 0;
    for (const stun::Transaction& t : asked) {
        if (t.state() != stun::Transaction::State::answered) continue;
        ++vote.answers;
        int same = 0;
        for (const stun::Transaction& other : asked) {
            if (other.state() != stun::Transaction::State::answered) continue;
            if (other.mapped().ip() == t.mapped().ip()) ++same;
            if (!(other.mapped() == t.mapped())) vote.disagree = true;
        }
        if (same > most || (same == most && t.mapped().ip() == known && !(vote.winner->mapped().ip() == known))) {
            most = same;
            vote.winner = &t;
        }
    }
    return vote;
}

}  // namespace detail

/// An event source that adds the external address to any other: it passes on every change of `E`, and asks STUN servers where the host's
/// packets seem to come from, in rounds: when the servers are set, after every change that is major or may help, after waking, and at
/// an interval. `external_address_changed` is told when a family's external address is known for the first time (`old_address` is of
/// family `none`) and whenever it or that of another local address is another than before; never for a round that found the same or
/// nothing. Belongs to the loop's thread; `SystemEvents`, `Scripted` and `NoEvents` will do, as any other event source will.
///
///     using Events = ExternalAddress<SystemEvents>;
///     Events::of(loop).set_servers(servers);
///     Pipe<Events, Resumable<Tcp>, Persistent> pipe{loop};
///
/// A round asks all servers from one socket for each local address: the source of the route to the internet of each family, and every
/// other usable address that is neither loopback nor link-local, of an interface that runs, as long as its family has a route. Where
/// the network is not `known`, the system chooses. What counts is said by most of the servers that answer, at the latest half an RTO
/// after the first. Datagrams from elsewhere, or without the random id of a request under way, change nothing.
template <class E>
class ExternalAddress {
public:
    static constexpr std::size_t servers_max = 8;
    static constexpr std::size_t local_addresses_max = 8;  ///< further ones are not asked for

    struct Options {
        /// From the start of one round to the next, when nothing changes here. What changes behind a router alone (a provider's new
        /// address, once a day or rarer) is noticed within it; a host on battery wakes for it 12 times an hour. A server that has not
        /// answered when the next round starts has timed out. `Duration::unlimited()`: only after changes.
        Duration interval = Duration::seconds(300);
        /// From a change to the round that it causes: changes come in showers, and routes a moment after addresses. Such rounds begin
        /// five times as far apart, or further.
        Duration after_change = Duration::milliseconds(100);
        /// A request that is not answered is repeated after this, then after twice as long and so on: `stun::Transaction`.
        Duration rto = stun::Transaction::default_rto;
    };

    /// Use `of`, so that a loop has one.
    explicit ExternalAddress(Loop& loop)
        : loop_(loop),
          events_(E::of(loop)),
          observer_(Delegate<void(const NetworkChange&)>::to<&ExternalAddress::changed>(this)),
          timer_(loop, Delegate<void()>::to<&ExternalAddress::due>(this)) {
        events_.observe(observer_);
    }
    ExternalAddress(const ExternalAddress&) = delete;
    ~ExternalAddress() {
        for (Local* local : locals_) delete local;
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static ExternalAddress& of(Loop& loop) { return loop.service<ExternalAddress>(); }

    const NetworkState& state() const { return events_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { observers_.add(observer); }
    /// Why `E` cannot watch, if so. (Why no external address is known: `external`.)
    Error error() const { return events_.error(); }

    /// Asks these servers from now on, beginning in the next turn; none ends it. They are copied; names are resolved in every round. What
    /// is known stays. Several operators' servers are better than several of one: the majority is believed, and a mapping
    /// that depends on the address shows only between addresses. `too_large`: more than `servers_max`; `invalid_argument`: one is not
    /// valid or has port 0, or the `rto` is not positive or longer than the `interval`.
    Result<void> set_servers(std::span<const Endpoint> servers, const Options& options = {}) {
        if (servers.size() > servers_max) return Errc::too_large;
        for (const Endpoint& server : servers)
            if (!server.valid() || server.port() == 0) return Errc::invalid_argument;
        if (options.rto <= Duration() || options.interval < options.rto || options.after_change < Duration()) return Errc::invalid_argument;
        for (Server& server : servers_) server.forget();
        for (std::size_t i = 0; i < servers.size(); ++i) servers_[i].endpoint = servers[i];
        options_ = options;
        server_count_ = servers.size();
        round_at_ = server_count_ != 0 ? loop_.now() : TimePoint::never();
        for (Local* local : locals_) {
            local->close();
            local->through = true;
        }
        arm();
        return {};
    }

    /// The external address of a family: that of the local address by which its route leads to the internet. Holds until the loop goes on.
    const External& external(Family family) const {
        const Local* local = leading(family);
        return local != nullptr ? local->external : family == Family::v6 ? nowhere_[1] : nowhere_[0];
    }
    /// The external address of a local one, or null when that is none that is asked for. Holds until the loop goes on.
    const External* external(const IpAddress& local_address) const {
        for (const Local* local : locals_)
            if (same_address(local->ip, unmapped(local_address))) return &local->external;
        return nullptr;
    }

private:
    using Transaction = stun::Transaction;

    // A server, and what its name was last resolved to.
    struct Server {
        ExternalAddress* owner = nullptr;
        Endpoint endpoint;
        IpAddress resolved[2];
        Error error;
        Resolver::Query query{Delegate<void(Resolver::Answer&&)>::template to<&Server::answered>(this)};

        const IpAddress& address(Family family) const {
            if (endpoint.name() != nullptr) return resolved[family == Family::v6];
            static constexpr IpAddress none;
            return endpoint.ip().family == family ? endpoint.ip() : none;
        }
        void forget() {
            query.cancel();
            endpoint = {};
            resolved[0] = resolved[1] = {};
            error = {};
        }
        void answered(Resolver::Answer&& answer) {
            error = answer.error();
            if (answer)
                for (Family family : {Family::v4, Family::v6}) {
                    IpAddress& to = resolved[family == Family::v6];
                    to = {};
                    for (const IpAddress& ip : *answer)
                        if (ip.family == family && to.family == Family::none) to = ip;
                }
            owner->go_on();
        }
    };

    // A local address, and the look-up from it. The socket is open while that is under way.
    struct Local {
        Local(ExternalAddress& o, const IpAddress& i, std::uint32_t index)
            : owner(o), ip(i), interface_index(index), watch(o.loop_, Delegate<void(Ready)>::template to<&Local::readable>(this)) {}

        void close() {
            watch.stop();
            socket.close();
            for (Transaction& transaction : transactions) transaction = {};
        }
        void readable(Ready) {
            std::byte buffer[1500];  // no answer to a request of 28 bytes is longer
            Endpoint from;
            for (int n = 0; n < 16 && socket; ++n) {  // however many come, others get their turn
                const auto size = socket.receive_from(buffer, from);
                if (!size && size.error() == Errc::would_block) break;
                if (!size) continue;
                for (Transaction& transaction : transactions)
                    if (transaction.receive(from, {buffer, *size}) && transaction.state() == Transaction::State::answered &&
                        transaction.mapped().ip().family != ip.family)
                        transaction.fail(Errc::unsupported);  // a translator's IPv4 address is not this family's
            }
            owner.go_on();
        }

        ExternalAddress& owner;
        const IpAddress ip;
        std::uint32_t interface_index;
        bool wanted = true;
        bool through = false;  // the round is, for this one
        External external;
        Error send_error;  // the system did not take the last request
        TimePoint decide_at = TimePoint::never();
        Socket socket;
        Loop::Watch watch;  // after the socket: it stops before that is closed
        Transaction transactions[servers_max];
    };

    void changed(const NetworkChange& change) {
        if (server_count_ != 0 && change.early && !change.noise && (change.major || change.may_help())) {
            TimePoint at = loop_.now() + options_.after_change;
            if (at < last_round_ + options_.after_change * 5) at = last_round_ + options_.after_change * 5;
            if (at < round_at_) round_at_ = at;
            arm();
        }
        observers_.publish(change);
    }

    void due() {
        if (loop_.now() >= round_at_) begin_round();
        go_on();
    }

    void begin_round() {
        const TimePoint now = loop_.now();
        for (Local* local : locals_)  // the interval is shorter than some server's silence
            if (!local->through && now >= last_round_ + options_.interval)
                finish(*local, local->decide_at == TimePoint::never() ? Errc::timed_out : Errc::ok);
        last_round_ = now;
        round_at_ = now + options_.interval;
        choose_locals();
        for (Local* local : locals_) open(*local);
        for (std::size_t i = 0; i < server_count_; ++i) {
            servers_[i].owner = this;
            if (servers_[i].endpoint.name() == nullptr) continue;
            if (auto started = servers_[i].query.start(Resolver::of(loop_), servers_[i].endpoint.name()); !started)
                servers_[i].error = started.error();
        }
    }

    // Brings `locals_` up to date: those that lead to the internet first, then as the state lists them.
    void choose_locals() {
        for (Local* local : locals_) local->wanted = false;
        const NetworkState& now = state();
        for (Family family : {Family::v4, Family::v6}) {
            IpAddress any;
            any.family = family;
            const Route& route = now.route_for(family);
            nowhere_[family == Family::v6].error = Errc::address_lost;
            if (!now.known)
                want(any, 0);
            else if (route.present && !route.source.is_unspecified() && !route.source.is_link_local())
                want(route.source, route.interface_index);
        }
        for (const InterfaceAddress& a : now.addresses) {
            const Interface* by = now.find_interface(a.interface_index);
            if (now.known && a.usable() && !a.ip.is_loopback() && !a.ip.is_link_local() && by != nullptr && by->running() && !by->noise &&
                now.route_for(a.ip.family).present)
                want(a.ip, a.interface_index);
        }
        for (std::size_t i = locals_.size(); i-- > 0;) {
            if (locals_[i]->wanted) continue;
            delete locals_[i];
            locals_.erase(i);
        }
    }
    void want(const IpAddress& ip, std::uint32_t interface_index) {
        std::size_t wanted = 0;
        for (Local* local : locals_) {
            if (local->ip == ip && !std::exchange(local->wanted, true)) local->interface_index = interface_index;
            if (local->ip == ip) return;
            if (local->wanted) ++wanted;
        }
        if (wanted >= local_addresses_max) return;
        auto* local = new (std::nothrow) Local(*this, ip, interface_index);
        if (local != nullptr && !locals_.push(local)) delete local;
    }

    // A new socket for each round: a port that answers of before do not find, nor those who have seen it.
    void open(Local& local) {
        local.close();
        local.through = false;
        local.decide_at = TimePoint::never();
        local.send_error = {};
        auto socket = Socket::udp(local.ip.family);
        if (socket) {
            local.socket = std::move(*socket);
            Result<void> ready = local.socket.bind(local.ip, 0);
            if (ready) ready = local.watch.start(local.socket.fd(), Ready::readable);
            if (ready) return;
            socket = ready.error();
        }
        finish(local, socket.error());
    }

    // Asks whom there is to ask, hears what there is to be heard, and says when it has to be called again.
    void go_on() {
        for (Local* local : locals_) {
            if (local->through) continue;
            bool waiting = false;
            for (std::size_t i = 0; i < server_count_; ++i) {
                ask(*local, local->transactions[i], servers_[i]);
                waiting = waiting || local->transactions[i].state() == Transaction::State::running || servers_[i].query.busy();
            }
            judge(*local, waiting);
        }
        arm();
    }

    void ask(Local& local, Transaction& transaction, const Server& server) {
        const IpAddress& to = server.address(local.ip.family);
        if (transaction.state() == Transaction::State::idle && to.family != Family::none) {
            stun::TransactionId id;
            if (auto random = entropy(id.bytes))
                transaction.start(id, {to, server.endpoint.port()}, loop_.now(), options_.rto);
            else
                transaction.fail(random.error());
        }
        if (!transaction.advance(loop_.now())) return;
        const auto request = stun::encode_request(transaction.id());  // 28 bytes, which always fit
        const auto sent = local.socket.send_to(*request, transaction.server().ip(), transaction.server().port());
        // A route may be missing for a moment: the request is repeated in any case.
        local.send_error = sent.error() == Errc::would_block ? Error() : sent.error();
    }

    void judge(Local& local, bool waiting) {
        const detail::ExternalVote vote = detail::count_votes({local.transactions, server_count_}, local.external.address);
        if (vote.answers != 0 && local.decide_at == TimePoint::never()) local.decide_at = loop_.now() + options_.rto / 2;
        if (waiting && loop_.now() < local.decide_at) return;
        IpAddress before = local.external.address;
        if (vote.winner != nullptr) {
            const IpAddress& now = vote.winner->mapped().ip();
            if (vote.answers > 1)
                local.external.mapping = vote.disagree ? NatMapping::differs : NatMapping::same;
            else if (!(now == before))
                local.external.mapping = NatMapping::unknown;
            local.external.address = now;
            local.external.port = vote.winner->mapped().port();
            local.external.server = vote.winner->server();
            local.external.error = {};
        }
        if (!waiting) finish(local, vote.winner != nullptr ? Error() : failure(local));
        if (vote.winner == nullptr) return;

        const bool moved = before.family != Family::none && !(before == local.external.address);
        IpAddress& told = told_[local.ip.family == Family::v6];
        if (&local == leading(local.ip.family)) {
            before = std::exchange(told, local.external.address);
            if (before == told) return;
        } else if (!moved) {
            return;
        }
        NetworkChange change;
        change.kind = NetworkChange::Kind::external_address_changed;
        change.early = change.settled = true;
        change.major = moved;
        change.family = local.ip.family;
        change.interface_index = local.interface_index;
        if (const Interface* by = state().find_interface(local.interface_index)) change.interface_name = by->name;
        if (moved) change.local_address = local.ip;
        change.old_address = before;
        change.address = local.external.address;
        change.server = local.external.server.ip();
        change.server_port = local.external.server.port();
        change.servers_disagree = vote.disagree;
        change.before = change.after = &state();
        observers_.publish(change);
    }
    Error failure(const Local& local) const {
        Error error = local.send_error;
        for (std::size_t i = 0; i < server_count_ && !error; ++i) error = local.transactions[i].error();
        for (std::size_t i = 0; i < server_count_ && !error; ++i) error = servers_[i].error;
        return error ? error : Errc::unsupported;
    }
    void finish(Local& local, Error error) {
        local.external.error = error;
        local.through = true;
        local.close();
    }

    // The local address by which the family's route leads. Where the system does not say: one of that interface, or the one it chooses.
    const Local* leading(Family family) const {
        const Route& route = state().route_for(family);
        const Local* any = nullptr;
        for (const Local* local : locals_) {
            if (local->ip.family != family) continue;
            if (local->ip == route.source) return local;
            if (any == nullptr &&
                (local->ip.is_unspecified() || (route.source.is_unspecified() && local->interface_index == route.interface_index)))
                any = local;
        }
        return any;
    }

    // Sets the one timer to what comes first.
    void arm() {
        TimePoint next = round_at_;
        const auto sooner = [&](TimePoint t) { next = t < next ? t : next; };
        for (const Local* local : locals_) {
            if (local->through) continue;
            for (const Transaction& transaction : local->transactions) sooner(transaction.due());
            if (local->decide_at > loop_.now()) sooner(local->decide_at);
        }
        timer_.at(next);
    }

    Loop& loop_;
    E& events_;
    ObserverList observers_;
    NetworkObserver observer_;
    Loop::Timer timer_;
    Options options_;
    Server servers_[servers_max];
    std::size_t server_count_ = 0;
    Array<Local*> locals_;
    External nowhere_[2];  // of a family that has no local address
    IpAddress told_[2];    // the external address that the observers know of, for each family
    TimePoint last_round_, round_at_ = TimePoint::never();
};

}  // namespace rejoin::inline v0_1

#include <utility>

namespace rejoin::inline v0_1 {

/// An event source whose network is what the program says it is: for tests, the users' own included. Belongs to the loop's thread.
class Scripted {
public:
    explicit Scripted(Loop& loop) : feed_(loop), later_(loop, Delegate<void()>::to<&Scripted::apply>(this)) {}
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static Scripted& of(Loop& loop) { return loop.service<Scripted>(); }

    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    Error error() const { return {}; }

    /// The network looks like this from now on; before this returns, the observers have been told what that changes. Called from an
    /// observer, it takes effect when all have been told of the change under way, and the last call of several counts.
    void set(NetworkState&& state) {
        next_ = std::move(state);
        next_.known = pending_ = true;
        if (!feed_.publishing()) return apply();
        if (!applying_) later_.schedule();
    }
    /// Tells of a change that is no difference between states: `woke`, `external_address_changed`.
    void tell(const NetworkChange& change) { feed_.publish(change); }

private:
    void apply() {
        applying_ = true;
        while (std::exchange(pending_, false)) feed_.replace(std::move(next_));
        applying_ = false;
    }

    ChangeFeed feed_;
    Loop::Deferred later_;
    NetworkState next_;
    bool pending_ = false, applying_ = false;
};

}  // namespace rejoin::inline v0_1

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

#if defined(__linux__)
#include <sys/syscall.h>
#endif

namespace rejoin::inline v0_1 {

#if defined(__linux__)
/// Takes a copy of a socket out of another process, which need not help: `fd` is its number there (pidfd_getfd(2), Linux 5.6 and later).
/// This process has to be allowed to trace that one (ptrace(2): the same user, as a rule, or CAP_SYS_PTRACE). Both have it then, and one of
/// the two has to stop using it. The system's error: ESRCH, EBADF, EPERM, ENOSYS; `invalid_argument` for what is no socket.
inline Result<Socket> pull_socket(std::int32_t process, int fd) {
    const int other = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
    if (other < 0) return Error::system(errno);
    const int copy = static_cast<int>(::syscall(SYS_pidfd_getfd, other, fd, 0));
    const int error = errno;
    ::close(other);
    if (copy < 0) return Error::system(error);
    Socket socket = Socket::of_received(copy);
    if (!socket.check_in()) return Errc::invalid_argument;
    return socket;
}
#else
template <bool exists = false>
Result<Socket> pull_socket(std::int32_t, int) {
    static_assert(exists, "this system lets no process take a descriptor out of another one (Linux does, by pidfd_getfd)");
    return Errc::unsupported;
}
#endif

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// Something that goes wrong on a `Faulty` connection.
struct Fault {
    enum class At : std::uint8_t {
        open,    ///< when it is told to open
        opened,  ///< when it has opened
        write,
        read,
    };
    enum class Kind : std::uint8_t {
        error,    ///< fails with `error`
        delay,    ///< takes `delay` longer: the opening; a write says `would_block` meanwhile; what was read comes later
        shorten,  ///< a write takes, and a read brings, `size` bytes at most in one piece
        silence,  ///< from now on nothing passes either way, and nobody is told
        corrupt,  ///< one bit of the first byte is another one
    };
    At at = At::open;
    Kind kind = Kind::error;
    Error error = {};
    Duration delay = {};
    std::size_t size = 1;
    /// So many of these calls pass unharmed before, on whatever connection of the loop; then so many are met.
    std::uint32_t after = 0;
    std::uint32_t times = 1;
};

/// What goes wrong on the `Faulty` connections of one loop: the faults of a script, in the order in which they were added, and others by
/// chance. Belongs to the loop's thread.
class Faults {
public:
    explicit Faults(Loop&) {}
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static Faults& of(Loop& loop) { return loop.service<Faults>(); }

    /// Adds a fault to the script. `out_of_memory`; `invalid_argument` for an error that is none, and for one that makes no sense where it
    /// is
    /// (`opened` can only fail, `open` neither be shortened nor corrupted), or a size of 0.
    Result<void> add(const Fault& fault) {
        using enum Fault::Kind;
        const bool opens = fault.at == Fault::At::open || fault.at == Fault::At::opened;
        if ((fault.kind == error && !fault.error) || fault.size == 0 || (opens && (fault.kind == shorten || fault.kind == corrupt)) ||
            (fault.at == Fault::At::opened && fault.kind != error))
            return Errc::invalid_argument;
        if (!script_.push(fault)) return Errc::out_of_memory;
        return {};
    }
    /// From now on one call of write and read in `one_in` is met by a fault drawn with `seed`: an error (of those that mean a lost
    /// connection: `error`), a delay of up to 50 ms, a short piece, silence. 0: none.
    void by_chance(std::uint64_t seed, std::uint32_t one_in, Error error) {
        random_ = Random(seed);
        one_in_ = one_in;
        error_ = error;
    }
    /// Nothing goes wrong any more.
    void clear() {
        script_.clear();
        one_in_ = 0;
    }
    /// How many faults there were.
    std::uint64_t count() const { return count_; }

    /// Used by `Faulty`: what is to go wrong with this call, or null. It holds until the next call.
    const Fault* next(Fault::At at) {
        for (std::size_t i = 0; i < script_.size(); ++i) {
            Fault& fault = script_[i];
            if (fault.at != at) continue;
            if (fault.after > 0) {
                --fault.after;
                continue;
            }
            now_ = fault;
            if (--fault.times == 0) script_.erase(i);
            ++count_;
            return &now_;
        }
        if (one_in_ == 0 || (at != Fault::At::read && at != Fault::At::write) || random_.below(one_in_) != 0) return nullptr;
        static constexpr Fault::Kind kinds[] = {Fault::Kind::error, Fault::Kind::delay, Fault::Kind::shorten, Fault::Kind::silence};
        now_ = {at, kinds[random_.below(4u)], error_, random_.between({}, Duration::milliseconds(50)), random_.below(20u) + 1u};
        ++count_;
        return &now_;
    }

private:
    Array<Fault> script_;
    Random random_{0};
    Error error_;
    Fault now_;
    std::uint64_t count_ = 0;
    std::uint32_t one_in_ = 0;
};

/// A connection of another kind on which things go wrong.
template <class C>
class FaultyConnection final : private ConnectionObserver {
public:
    FaultyConnection(Loop& loop, ConnectionObserver& observer)
        : observer_(&observer),
          faults_(Faults::of(loop)),
          inner_(loop, static_cast<ConnectionObserver&>(*this)),
          timer_(loop, Delegate<void()>::template to<&FaultyConnection::due>(this)) {}

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }
    Result<void> open(const Endpoint& to, const Way& way) {
        if (const Fault* fault = faults_.next(Fault::At::open)) {
            if (fault->kind == Fault::Kind::error) return fault->error;
            silent_ = fault->kind == Fault::Kind::silence;
            if (silent_) return {};
            to_ = to;
            way_ = way;
            timer_.after(fault->delay);
            return {};
        }
        return inner_.open(to, way);
    }
    template <class S>
    Result<void> adopt(S socket) requires requires(C& c) {
        c.adopt(std::move(socket));
    }
    { return inner_.adopt(std::move(socket)); }
    auto release() requires requires(C& c) { c.release(); }
    { return inner_.release(); }

    Result<std::size_t> write(std::span<const Bytes> pieces) {
        std::size_t all = 0;
        for (Bytes piece : pieces) all += piece.size();
        if (silent_) return all;
        const Fault* fault = faults_.next(Fault::At::write);
        if (fault == nullptr) return inner_.write(pieces);
        const Bytes first = pieces[0].first(pieces[0].size() < fault->size ? pieces[0].size() : fault->size);
        switch (fault->kind) {
            case Fault::Kind::error:
                return fault->error;
            case Fault::Kind::delay:
                writable_due_ = true;
                timer_.after(fault->delay);
                return Errc::would_block;
            case Fault::Kind::silence:
                silent_ = true;
                return all;
            case Fault::Kind::shorten:
                return inner_.write({&first, 1});
            case Fault::Kind::corrupt:
                break;
        }
        if (first.empty()) return inner_.write(pieces);
        const std::byte wrong[] = {first[0] ^ std::byte{1}};
        const Bytes one(wrong);
        return inner_.write({&one, 1});
    }
    void want_writable() {
        if (!writable_due_) inner_.want_writable();
    }
    void pause(bool paused) {
        paused_ = paused;
        inner_.pause(paused || !held_.empty());
        if (!paused && !held_.empty()) timer_.after({});
    }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t n) { inner_.set_read_limit(n); }
    void end() { inner_.end(); }
    void abort() { inner_.abort(); }
    Endpoint local_endpoint() const { return inner_.local_endpoint(); }
    Endpoint peer_endpoint() const { return inner_.peer_endpoint(); }
    auto path_info() const requires requires(const C& c) { c.path_info(); }
    { return inner_.path_info(); }

private:
    void on_open() override {
        if (const Fault* fault = faults_.next(Fault::At::opened)) return observer_->on_error(fault->error);
        observer_->on_open();
    }
    bool on_bytes(Bytes bytes) override {
        if (silent_) return true;
        const Fault* fault = faults_.next(Fault::At::read);
        if (fault == nullptr) return observer_->on_bytes(bytes);
        switch (fault->kind) {
            case Fault::Kind::error:
                observer_->on_error(fault->error);
                return false;
            case Fault::Kind::silence:
                silent_ = true;
                return true;
            case Fault::Kind::shorten:
            case Fault::Kind::delay:
            case Fault::Kind::corrupt:
                break;
        }
        Array<std::byte> copy;
        if (!copy.reserve(bytes.size())) return observer_->on_bytes(bytes);
        for (std::byte b : bytes) copy.push(b);
        if (fault->kind == Fault::Kind::corrupt && !bytes.empty()) copy[0] ^= std::byte{1};
        if (fault->kind == Fault::Kind::corrupt) return observer_->on_bytes({copy.data(), copy.size()});
        // The rest comes in the loop's next turns, or later.
        held_ = std::move(copy);
        taken_ = 0;
        piece_ = fault->kind == Fault::Kind::shorten ? fault->size : held_.size() + 1;
        inner_.pause(true);
        timer_.after(fault->kind == Fault::Kind::delay ? fault->delay : Duration());
        return true;
    }
    bool on_writable() override { return silent_ || observer_->on_writable(); }
    void on_end() override {
        if (!silent_) observer_->on_end();
    }
    void on_error(Error error) override {
        if (!silent_) observer_->on_error(error);
    }

    void due() {
        if (to_.valid()) {
            const Endpoint to = std::exchange(to_, {});
            if (auto opened = inner_.open(to, way_); !opened) observer_->on_error(opened.error());
            return;
        }
        if (!held_.empty() && !paused_) {
            const Array<std::byte> all = std::move(held_);
            held_ = {};
            const std::size_t left = all.size() - taken_, n = left < piece_ ? left : piece_;
            const Bytes piece(all.data() + taken_, n);
            if (n < left) {  // kept again, before the handlers may destroy this
                for (std::size_t i = taken_ + n; i < all.size(); ++i)
                    if (!held_.push(all[i])) break;
                taken_ = 0;
                timer_.after({});
            } else {
                inner_.pause(false);
            }
            if (!observer_->on_bytes(piece)) return;
        }
        if (std::exchange(writable_due_, false)) observer_->on_writable();
    }

    ConnectionObserver* observer_;
    Faults& faults_;
    C inner_;
    Loop::Timer timer_;
    Endpoint to_;  // of a delayed opening
    Way way_;
    Array<std::byte> held_;  // read, and not told yet
    std::size_t taken_ = 0;
    std::size_t piece_ = 0;
    bool silent_ = false;
    bool paused_ = false;
    bool writable_due_ = false;
};

/// The transport policy `T` with faults: by the script, or by chance, that `Faults::of(loop)` has. For tests of what a program does when
/// the network, or the system, does what it can be made to do in no laboratory: `Resumable<Faulty<Tcp>>` is a resumable pipe over it.
template <class T>
struct Faulty : T {
    using Connection = FaultyConnection<typename T::Connection>;
};

}  // namespace rejoin::inline v0_1

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
