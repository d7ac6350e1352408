// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>
#include <rejoin/core/text.hpp>

namespace rejoin::inline v0_1::router {

/// Reads XML as devices write it: elements, by their local names, and the text in them. Pure; it keeps nothing but its place, and goes no
/// deeper than `depth_max`. What a description has no use for is refused, as a bomb has: a document type, and entities other than the five
/// of XML and numbers, which are left as they are written.
class XmlReader {
public:
    static constexpr int depth_max = 32;
    static constexpr std::size_t size_max = 64 * 1024;

    explicit XmlReader(TextView document) : rest_(document), left_(document.size() > size_max ? Errc::too_large : Errc::ok) {}

    enum class Token : std::uint8_t { end, open, close, text };

    /// The next; its name, or its text. `malformed` for what is not closed as it was opened, `too_large` for more than is read.
    Result<Token> next() {
        if (left_ != Errc::ok) return left_;
        if (closes_) {  // <name/>
            closes_ = false;
            --depth_;
            return Token::close;
        }
        for (;;) {
            if (rest_.size() == 0) return depth_ == 0 ? Result<Token>(Token::end) : fail();
            if (rest_[0] != '<') {
                std::size_t n = 0;
                while (n < rest_.size() && rest_[n] != '<') ++n;
                value_ = {rest_.data(), n};
                drop(n);
                return Token::text;
            }
            if (starts("<?")) {
                if (!skip("?>")) return fail();
            } else if (starts("<!--")) {
                if (!skip("-->")) return fail();
            } else if (starts("<![CDATA[")) {
                const char* const from = rest_.data() + 9;
                if (!skip("]]>")) return fail();
                value_ = {from, static_cast<std::size_t>(rest_.data() - from) - 3};
                return Token::text;
            } else if (starts("<!")) {
                return fail();  // a document type
            } else {
                return tag();
            }
        }
    }
    /// Of the element that was opened or closed, without its prefix; or the text, as it is written.
    TextView value() const { return value_; }

    /// The text with the entities that it may have put in place.
    template <std::size_t N>
    static void plain(TextView text, Text<N>& to) {
        static constexpr struct {
            const char* entity;
            const char* is;
        } entities[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
        to = {};
        while (text.size() > 0) {
            const char* with = nullptr;
            std::size_t size = 1;
            for (const auto& known : entities)
                if (TextView entity = known.entity; text.size() >= entity.size() && TextView(text.data(), entity.size()) == entity) {
                    with = known.is;
                    size = entity.size();
                }
            to.append(with != nullptr ? TextView(with) : TextView(text.data(), 1));
            text = {text.data() + size, text.size() - size};
        }
    }

private:
    Errc fail() { return left_ = Errc::malformed; }
    bool starts(TextView with) const { return rest_.size() >= with.size() && TextView(rest_.data(), with.size()) == with; }
    void drop(std::size_t n) { rest_ = {rest_.data() + n, rest_.size() - n}; }
    bool skip(TextView to) {
        while (rest_.size() >= to.size() && !starts(to)) drop(1);
        if (!starts(to)) return false;
        drop(to.size());
        return true;
    }
    Result<Token> tag() {
        const bool closing = starts("</");
        drop(closing ? 2 : 1);
        std::size_t n = 0;
        while (n < rest_.size() && rest_[n] != '>' && rest_[n] != '/' && static_cast<unsigned char>(rest_[n]) > ' ') ++n;
        if (n == 0 || n > 127) return fail();
        const TextView name(rest_.data(), n);
        drop(n);
        char quote = 0;  // attributes are passed over
        for (;; drop(1)) {
            if (rest_.size() == 0) return fail();
            const char c = rest_[0];
            if (quote == 0 && c == '>') break;
            if (quote == 0 && c == '/' && rest_.size() > 1 && rest_[1] == '>') break;
            if (quote == 0 && c == '<') return fail();
            if (quote == 0 && (c == '"' || c == '\''))
                quote = c;
            else if (c == quote)
                quote = 0;
        }
        const bool empty = rest_[0] == '/';
        drop(empty ? 2 : 1);
        std::size_t colon = 0;
        while (colon < n && name[colon] != ':') ++colon;
        value_ = colon < n ? TextView(name.data() + colon + 1, n - colon - 1) : name;
        // What is closed has to be what was opened last; its name is looked up where it is written.
        if (closing) {
            if (empty || depth_ == 0 || !(open_[depth_ - 1] == name)) return fail();
            --depth_;
            return Token::close;
        }
        if (depth_ == depth_max) return left_ = Errc::too_large;
        open_[depth_++] = name;
        closes_ = empty;
        return Token::open;
    }

    TextView rest_, value_;
    TextView open_[depth_max];
    int depth_ = 0;
    bool closes_ = false;
    Errc left_;
};

}  // namespace rejoin::inline v0_1::router
