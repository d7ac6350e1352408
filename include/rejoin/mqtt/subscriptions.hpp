// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/list.hpp>
#include <rejoin/mqtt/event.hpp>
#include <rejoin/mqtt/output.hpp>

namespace rejoin::inline v0_1::mqtt {

/// What a session subscribes to, over one connection after another.
///
///     wanted --SUBSCRIBE--> asked --SUBACK--> granted, or gone when refused
///            --not with this server--> refused --told--> gone
///        ^------------- the server has forgotten, or the connection was lost in between
///     unwanted --UNSUBSCRIBE--> leaving --UNSUBACK--> gone
class Subscriptions {
public:
    explicit Subscriptions(std::size_t limit) : limit_(limit) {}
    Subscriptions(const Subscriptions&) = delete;
    ~Subscriptions() {
        while (Filter* filter = first()) delete filter;
    }

    /// As `Session::subscribe`; `token` is new.
    Result<void> add(const Subscription& s, Token token) {
        if (!valid_topic_filter(s.filter) || static_cast<unsigned>(s.qos) > 2 || s.retain_handling > 2 || (s.no_local && shared(s.filter)))
            return Errc::invalid_argument;
        Filter* filter = find(s.filter);
        if (filter == nullptr) {
            if (count_ >= limit_) return Errc::would_block;
            filter = new (std::nothrow) Filter;
            if (filter == nullptr || !filter->text.append(s.filter.data(), s.filter.size())) {
                delete filter;
                return Errc::out_of_memory;
            }
            all_.push(*filter);
            ++count_;
        }
        filter->options = s;
        filter->options.filter = {};  // which is the caller's
        filter->token = token;
        filter->step = Step::wanted;
        filter->id = 0;
        return {};
    }
    Result<Token> remove(TextView text) {
        Filter* const filter = find(text);
        if (filter == nullptr) return Errc::invalid_argument;
        filter->step = Step::unwanted;
        filter->id = 0;
        return filter->token;
    }

    /// The connection is gone, and with it every question.
    void lost() {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) {
            if (filter->id == 0) continue;
            filter->id = 0;
            filter->step = filter->step == Step::leaving ? Step::unwanted : Step::wanted;
        }
    }
    /// The server has let this client in, and said what it takes.
    void connected(const Properties& connack) {
        takes_wildcards_ = connack.number(Property::wildcard_subscription_available, 1) != 0;
        takes_shared_ = connack.number(Property::shared_subscription_available, 1) != 0;
    }
    /// The server knows of none.
    void forgotten() {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter))
            if (filter->step == Step::granted) filter->step = Step::wanted;
    }
    /// Calls `f(id)` with each identifier that is in use, and with 0.
    template <class F>
    void each_id(F f) {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) f(filter->id);
    }

    /// Asks for what is to be asked, one in each packet: that costs no more system calls than one for all, and each answer is its own.
    /// `new_id()` gives an identifier that nothing uses.
    template <class NewId>
    void ask(Output& out, NewId new_id) {
        for (Filter* filter = first(); filter != nullptr && out.has_room(); filter = next(*filter)) {
            const bool wanted = filter->step == Step::wanted;
            if (!wanted && filter->step != Step::unwanted) continue;
            Subscription one = filter->options;
            one.filter = {filter->text.data(), filter->text.size()};
            if (wanted && refusal(one.filter) != Reason::success) {
                filter->step = Step::refused;
                refused_ = true;
                continue;
            }
            const std::uint16_t id = new_id();
            if (!out.say(Subscribe{wanted ? PacketType::subscribe : PacketType::unsubscribe, id, {&one, 1}, {}})) return;
            filter->id = id;
            filter->step = wanted ? Step::asked : Step::leaving;
        }
    }
    /// One that this server does not take, and is then forgotten; false when there is none.
    bool tell(Event& event) {
        if (!refused_) return false;
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) {
            if (filter->step != Step::refused) continue;
            event = {Event::Kind::subscribed, filter->token, {}, refusal({filter->text.data(), filter->text.size()}), {}};
            drop(*filter);
            return true;
        }
        return refused_ = false;
    }
    /// SUBACK or UNSUBACK: `is_event` when it answers something.
    Violation answered(const Packet& packet, Event& event, bool& is_event) {
        const bool sub = packet.type == PacketType::suback;
        if (packet.codes.size() > 1) return Violation::wrong_count_of_codes;
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) {
            if (filter->id != packet.id) continue;
            if ((filter->step == Step::asked) != sub) return Violation::qos_not_granted;
            is_event = true;
            event.kind = sub ? Event::Kind::subscribed : Event::Kind::unsubscribed;
            event.token = filter->token;
            event.reason = packet.codes.empty() ? Reason::success : static_cast<Reason>(packet.codes[0]);  // 3.1.1: an end has none
            filter->id = 0;
            filter->step = Step::granted;
            if (!sub || failed(event.reason)) drop(*filter);  // one that was refused is not asked for again
            return Violation::none;
        }
        return Violation::none;
    }

private:
    enum class Step : std::uint8_t { wanted, asked, granted, unwanted, leaving, refused };
    struct Filter : ListNode {
        Array<char> text;
        Subscription options;
        Token token = 0;
        std::uint16_t id = 0;  // of the packet that asks
        Step step = Step::wanted;
    };

    static bool shared(TextView filter) { return filter.size() > 7 && TextView(filter.data(), 7) == "$share/"; }
    // What the server would say, which may cost the connection.
    Reason refusal(TextView filter) const {
        if (!takes_shared_ && shared(filter)) return Reason::shared_subscriptions_not_supported;
        if (!takes_wildcards_)
            for (std::size_t i = 0; i < filter.size(); ++i)
                if (filter[i] == '#' || filter[i] == '+') return Reason::wildcard_subscriptions_not_supported;
        return Reason::success;
    }
    void drop(Filter& filter) {
        delete &filter;
        --count_;
    }
    Filter* first() { return static_cast<Filter*>(all_.front()); }
    Filter* next(Filter& filter) { return static_cast<Filter*>(all_.next(filter)); }
    Filter* find(TextView text) {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter))
            if (TextView(filter->text.data(), filter->text.size()) == text) return filter;
        return nullptr;
    }

    const std::size_t limit_;
    bool takes_wildcards_ = true, takes_shared_ = true;  // the server
    bool refused_ = false;                               // something is
    std::size_t count_ = 0;
    List all_;
};

}  // namespace rejoin::inline v0_1::mqtt
