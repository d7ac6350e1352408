// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/bytes.hpp>

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
