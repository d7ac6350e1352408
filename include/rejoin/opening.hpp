// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/events.hpp>
#include <rejoin/firewall/router/mapping.hpp>
#include <rejoin/firewall/system.hpp>
#include <rejoin/listener.hpp>
#include <rejoin/network/system.hpp>

namespace rejoin::inline v0_1 {

/// A port that others can reach: let in by this host's firewall, and mapped by the gateways on the way, as far as each is asked for. Given
/// to a `Listener`'s options, or a `Pipe`'s, it opens what that listens on, goes along when the network changes, and closes with it. Lives
/// longer than what it was given to; one for each.
///
/// Belongs to its loop's thread, and is neither copied nor moved. The host's firewall is asked and told by calls that may take as long as
/// the system's tools do, ten seconds at worst; gateways never make anybody wait. A handler may destroy nothing that this was given to, nor
/// this.
template <EventSource E = SystemEvents>
class Opening final : public Opener {
public:
    struct Options {
        /// Who opens, for which protocol, and for how long: `app` has to be there. The port is said by what it is given to.
        firewall::Rule rule;
        bool host = false;    ///< changes this host's firewall, where it blocks; else it is only looked at
        bool gateway = true;  ///< asks the gateways: for IPv4 a mapping, for IPv6 a pinhole
        /// For so long a rule without an expiry of its own, and a mapping, outlive a crash; both are renewed at half of it.
        Duration lease = Duration::seconds(1200);
        firewall::Firewall::Options firewall;
    };

    Opening(Loop& loop, const Options& options)
        : loop_(loop),
          options_(options),
          firewall_(options.firewall),
          mappings_{router::Mapping(loop), router::Mapping(loop)},
          observer_(Delegate<void(const NetworkChange&)>::template to<&Opening::network_changed>(this)),
          renewal_(loop, Delegate<void()>::template to<&Opening::renew>(this)),
          look_again_(loop, Delegate<void()>::template to<&Opening::look_again>(this)) {
        for (router::Mapping& mapping : mappings_) mapping.on_change([this] { mapping_changed(); });
    }
    Opening(const Opening&) = delete;
    ~Opening() {
        on_change_ = {};
        closed();
    }

    /// What is known of it is another than before: `report`, and `external`.
    void on_change(Function<void()> handler) { on_change_ = std::move(handler); }
    /// How this host's firewall stood to it when it was looked at last.
    const firewall::Report& report() const { return report_; }
    /// Where others reach it by that family, as the gateway says; not `valid` where none has said.
    Endpoint external(Family family = Family::v4) const { return mappings_[family == Family::v6].external(); }
    /// Whether a gateway is being asked, and has not answered yet.
    bool asks(Family family = Family::v4) const { return mappings_[family == Family::v6].state() == router::Mapper::State::asking; }
    /// By what; or why not.
    router::Method method(Family family = Family::v4) const { return mappings_[family == Family::v6].method(); }
    Error error(Family family = Family::v4) const { return mappings_[family == Family::v6].error(); }

    // ---- What it is given to calls these.

    /// That is listened on.
    void opened(const Endpoint& local) override {
        if (open_ && local == local_) return;
        closed();
        open_ = true;
        local_ = local;
        rule_ = options_.rule;
        rule_.port = local.port();
        rule_.last_port = 0;
        if (options_.host) {
            if (rule_.expiry == Duration()) rule_.expiry = options_.lease;
            static_cast<void>(firewall_.clear(rule_.app));
        }
        static_cast<void>(look());
        arm_renewal();
        E& events = E::of(loop_);
        events.observe(observer_);
        map(events.state());
        tell();
    }
    /// It is not any more.
    void closed() override {
        if (!std::exchange(open_, false)) return;
        observer_.unlink();
        renewal_.cancel();
        look_again_.cancel();
        if (options_.host) report_ = firewall_.revert(rule_);
        for (router::Mapping& mapping : mappings_) mapping.close();
    }

private:
    void map(const NetworkState& network) {
        if (!options_.gateway) return;
        const Route& v4 = network.route_for(Family::v4);
        for (Family family : {Family::v4, Family::v6}) {
            const Route& route = network.route_for(family);
            const bool reached = local_.ip().is_unspecified() ? family == Family::v4 || local_.ip().family == Family::v6
                                                              : unmapped(local_.ip()).family == family;
            if (!reached || !route.present || route.gateway.family != family || route.source.family != family) continue;
            const IpAddress own = local_.ip().is_unspecified() ? route.source : unmapped(local_.ip());
            router::Mapping& mapping = mappings_[family == Family::v6];
            using State = router::Mapper::State;
            const State state = mapping.state();
            if (state == State::closing) continue;  // it is begun when that is over
            if (state != State::idle && state != State::closed) {
                static_cast<void>(mapping.moved(route.gateway, own, v4.gateway));
                continue;
            }
            router::Want want;
            want.protocol = rule_.protocol;
            want.port = local_.port();
            want.lifetime = options_.lease;
            want.name = TextView(tag_of(rule_));
            static_cast<void>(mapping.start(want, route.gateway, own, v4.gateway));
        }
    }
    // How the firewall stands to it, and opens it where that was asked for. Whether that is another than it was.
    bool look() {
        firewall::Report fresh = options_.host ? firewall_.apply(rule_) : firewall_.explain(rule_);
        for (firewall::Gate& gate : report_.gates) gate.changed = false;
        const bool news = fresh.changed() || !(fresh == report_);
        report_ = std::move(fresh);
        return news;
    }
    void arm_renewal() {
        if (options_.host && options_.rule.expiry == Duration())
            renewal_.after(Duration::milliseconds(options_.lease.milliseconds() / 2 + 1));
    }
    void renew() {
        arm_renewal();
        look_again();
    }
    void look_again() {
        if (look()) tell();
    }
    void network_changed(const NetworkChange& change) {
        map(E::of(loop_).state());
        if (change.settled) look_again_.schedule();  // once, for all that one happening has changed
    }
    void mapping_changed() {
        if (open_) map(E::of(loop_).state());
        tell();
    }
    void tell() {
        if (on_change_) on_change_();
    }

    Loop& loop_;
    const Options options_;
    firewall::Firewall firewall_;
    firewall::Rule rule_;
    firewall::Report report_;
    router::Mapping mappings_[2];
    NetworkObserver observer_;
    Loop::Timer renewal_;
    Loop::Deferred look_again_;
    Function<void()> on_change_;
    Endpoint local_;
    bool open_ = false;
};

}  // namespace rejoin::inline v0_1
