// SPDX-License-Identifier: BSL-1.0
#pragma once

// Adaptors to the standard library's own types. Opt-in and not part of <rejoin.hpp>: the headers below cost more to compile than
// the library does. Everything here may be called from any thread.
#include <chrono>
#include <rejoin.hpp>
#include <string>
#include <string_view>
#include <system_error>
#if __has_include(<netdb.h>)
#include <netdb.h>
#endif

namespace rejoin::inline v0_1 {

/// A duration as chrono counts it. The other way needs no call: a `Duration` is made from any chrono duration.
constexpr std::chrono::nanoseconds to_chrono(Duration duration) { return std::chrono::nanoseconds(duration.nanoseconds()); }
/// A moment as the steady clock counts it. The two count from the same start where that clock is CLOCK_MONOTONIC, as it is with
/// libstdc++ everywhere and with libc++ on Linux and the BSDs; elsewhere only differences mean something.
constexpr std::chrono::steady_clock::time_point to_chrono(TimePoint moment) {
    return std::chrono::steady_clock::time_point(
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::nanoseconds(moment.nanoseconds())));
}
/// A moment from the steady clock, under the same condition.
constexpr TimePoint from_chrono(std::chrono::steady_clock::time_point moment) {
    return TimePoint::from_nanoseconds(Duration(moment.time_since_epoch()).nanoseconds());
}

/// The characters of a description, or of any other text, looked at where they are: valid as long as what they belong to.
constexpr std::string_view to_string_view(TextView text) { return {text.data(), text.size()}; }
/// A copy of the characters.
inline std::string to_string(TextView text) { return std::string(to_string_view(text)); }
/// A copy of received bytes, as characters.
inline std::string to_string(Bytes bytes) { return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }

/// The category of `Errc`: codes that have an equal among std::errc compare equal to it, so `code == std::errc::timed_out` works.
inline const std::error_category& rejoin_category() {
    static const struct final : std::error_category {
        const char* name() const noexcept override { return "rejoin"; }
        std::string message(int code) const override {
            static constexpr const char* messages[] = {
                "no error",
                "the buffer is full for now",
                "an argument is outside what is allowed",
                "not possible in this state",
                "out of memory",
                "larger than allowed",
                "not supported here",
                "timed out",
                "cancelled",
                "the peer sent what the protocol does not allow",
                "the peer speaks another version of the protocol",
                "the peer does not hold the session's key",
                "the peer does not know the session",
                "the peer has no room for another session",
                "the peer gave the session up",
                "a newer connection took the session over",
                "the session was without a connection for too long",
                "nothing was heard from the peer for too long",
                "the local address of the connection is gone",
                "the connection ended too early",
                "the server asks to come back later",
                "the server sends its clients to another one",
            };
            static_assert(std::size(messages) == static_cast<std::size_t>(Errc::redirected) + 1);
            if (code >= 0 && code < static_cast<int>(std::size(messages))) return messages[code];
            return "rejoin error " + std::to_string(code);
        }
        std::error_condition default_error_condition(int code) const noexcept override {
            switch (static_cast<Errc>(code)) {
                case Errc::would_block:
                    return std::errc::operation_would_block;
                case Errc::invalid_argument:
                    return std::errc::invalid_argument;
                case Errc::out_of_memory:
                    return std::errc::not_enough_memory;
                case Errc::too_large:
                    return std::errc::message_size;
                case Errc::unsupported:
                    return std::errc::not_supported;
                case Errc::timed_out:
                    return std::errc::timed_out;
                case Errc::cancelled:
                    return std::errc::operation_canceled;
                case Errc::malformed:
                    return std::errc::protocol_error;
                default:
                    return {code, *this};
            }
        }
    } category;
    return category;
}

/// The category of getaddrinfo's codes (EAI_…), with the system's words for them.
inline const std::error_category& resolver_category() {
    static const struct final : std::error_category {
        const char* name() const noexcept override { return "resolver"; }
        std::string message(int code) const override {
#if __has_include(<netdb.h>)
            return ::gai_strerror(code);
#else
            return "resolver error " + std::to_string(code);
#endif
        }
    } category;
    return category;
}

/// `Errc` is an error code enumeration of the standard's kind: `code == rejoin::Errc::session_unknown` works.
inline std::error_code make_error_code(Errc code) { return {static_cast<int>(code), rejoin_category()}; }

/// The error as the standard library carries errors. The system's codes go to std::system_category().
inline std::error_code to_error_code(Error error) {
    switch (error.domain()) {
        case Error::Domain::system:
            return {error.code(), std::system_category()};
        case Error::Domain::resolver:
            return {error.code(), resolver_category()};
        case Error::Domain::rejoin:
            break;
    }
    return {error.code(), rejoin_category()};
}

}  // namespace rejoin::inline v0_1

template <>
struct std::is_error_code_enum<rejoin::Errc> : std::true_type {};
