// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/session/table.hpp>

#include <array>
#include <list>
#include <map>
#include <set>

#include "catch.hpp"
#include "network.hpp"

// Clients and a server that drive the session machines as Pipe and Listener do, over that network.
namespace sim {

using namespace rejoin::session;
using rejoin::Digest;
using rejoin::Errc;
using rejoin::Error;

inline void check(bool good, const char* why) {
    if (!good) FAIL(why);
}

/// What one run counts.
struct Tally {
    std::uint64_t outages[5] = {};  // reset on both sides, noticed by one side first, by one side only, by none, for the crowd of all
    std::uint64_t stalls = 0, stops = 0, restarts = 0, roams = 0, ghosts = 0;
    std::uint64_t resumes = 0, bytes = 0, replayed = 0, skipped = 0, unknown = 0;
    std::uint64_t digest = 0;

    std::uint64_t all_outages() const { return outages[0] + outages[1] + outages[2] + outages[3] + outages[4]; }
    void add(const Tally& t) {
        for (int i = 0; i < 5; ++i) outages[i] += t.outages[i];
        stalls += t.stalls, stops += t.stops, restarts += t.restarts, roams += t.roams, ghosts += t.ghosts;
        resumes += t.resumes, bytes += t.bytes, replayed += t.replayed, skipped += t.skipped, unknown += t.unknown;
    }
};

/// The byte that stands at `offset` of a stream.
inline std::byte byte_at(std::uint64_t stream, std::uint64_t offset) {
    return static_cast<std::byte>(Random(stream ^ (offset >> 3)).next() >> (8 * (offset & 7)));
}

/// One end of the conversation: sends its stream in random pieces, checks every byte of the other's against what stands at that offset,
/// and a running hash over all of it.
class Application {
public:
    Application(Session& session, Random& random, std::uint64_t sends, std::uint64_t hears)
        : session_(session), random_(random), sends_(sends), hears_(hears) {}

    void say_something() {
        std::byte piece[6000];
        const std::size_t n = random_.below(5) == 0 ? random_.below(sizeof piece) : random_.below(300);
        if (n <= session_.send_space())  // else it will be refused
            for (std::size_t i = 0; i < n; ++i) piece[i] = byte_at(sends_, said_ + i);
        if (auto sent = session_.send({piece, n})) {
            for (std::size_t i = 0; i < n; ++i) hash(said_hash, piece[i]);
            said_ += n;
        } else {
            check(sent.error() == Errc::would_block || sent.error() == Errc::too_large || sent.error() == Errc::invalid_state, "send");
        }
    }
    void hear(Bytes bytes) {
        for (std::byte b : bytes) {
            check(b == byte_at(hears_, heard_), "a byte was lost, repeated or reordered");
            hash(heard_hash, b);
            ++heard_;
        }
        check(!session_.peer_finished(), "bytes behind the end");
    }
    std::uint64_t said() const { return said_; }
    std::uint64_t heard() const { return heard_; }

    std::uint64_t said_hash = 1, heard_hash = 1;

private:
    static void hash(std::uint64_t& h, std::byte b) { h = (h ^ std::to_integer<std::uint64_t>(b)) * 0x9e3779b97f4a7c15; }

    Session& session_;
    Random& random_;
    const std::uint64_t sends_;
    const std::uint64_t hears_;
    std::uint64_t said_ = 0;
    std::uint64_t heard_ = 0;
};

/// What one end has sent and received.
struct Heard {
    std::uint64_t said = 0, said_hash = 0, heard = 0, heard_hash = 0;
    bool ended = false;
};

using Key = std::array<std::byte, 16>;
inline Key key(const SessionId& id) { return std::to_array(id.bytes); }

class World;
class Server;

/// What both ends share: a session, its application and the connection in use.
class Side : public Observer {
public:
    Side(World& world, const rejoin::session::Options& options, Process& process, int side, Random& random, std::uint64_t sends,
         std::uint64_t hears);
    Side(const Side&) = delete;
    ~Side() { drop_connection(); }

    /// The application does something, and what follows is done.
    void act(bool finish);
    /// It takes nothing for a while, or what has come meanwhile.
    void set_paused(bool paused);
    Session& session() { return session_; }
    Application& application() { return application_; }
    bool closed() const { return closed_; }
    Heard heard() const {
        return {application_.said(), application_.said_hash, application_.heard(), application_.heard_hash, session_.complete()};
    }
    bool connected() const { return connection_ != nullptr; }
    Link* connection() { return connection_.get(); }
    /// As seen by this side's clock.
    TimePoint now() const;
    /// A network change puts the path in doubt.
    virtual void doubt() = 0;

protected:
    virtual void broken(Error error) = 0;
    virtual void suspect() {}
    virtual void ended() = 0;

    void use(std::shared_ptr<Link> link);
    void drop_connection();
    void take(Bytes bytes);
    void flush();
    void arm(TimePoint at);
    void tick();

    void on_bytes(Bytes bytes) override { take(bytes); }
    void on_writable() override { flush(); }
    void on_lost() override { broken(Errc::end_of_stream); }

    World& world_;
    Process& process_;
    const int side_;
    Random& random_;
    Session session_;
    Application application_;
    std::shared_ptr<Link> connection_;
    TimePoint tick_at_ = TimePoint::never();
    std::uint64_t tick_ = 0;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool closed_ = false;
    bool paused_ = false;
};

class Client final : public Side {
public:
    Client(World& world, Process& process, Random& random, std::uint64_t stream);
    ~Client() { *alive_ = false; }

    void start() { attempt(); }
    void doubt() override {
        if (!closed_) attempt();
    }
    /// What a side that cannot go on reports, once.
    Error failure() const { return failure_; }

private:
    struct Attempt final : Observer {
        explicit Attempt(Client& c) : client(c) {}
        Attempt(const Attempt&) = delete;
        ~Attempt() {
            if (link != nullptr) link->close(0);
        }
        void on_bytes(Bytes bytes) override { client.attempt_bytes(*this, bytes); }
        void on_writable() override { client.attempt_write(*this); }
        void on_lost() override { client.attempt_failed(*this, Errc::end_of_stream); }
        Client& client;
        std::shared_ptr<Link> link;
        TimePoint asked_at;
        ClientHandshake handshake;
    };

    void attempt();
    void ask(Attempt& attempt);
    void attempt_write(Attempt& attempt);
    void attempt_bytes(Attempt& attempt, Bytes bytes);
    void attempt_failed(Attempt& attempt, Error error);
    void retry_after(Duration d);
    void end(Error why);
    void broken(Error error) override;
    void suspect() override {
        if (attempts_.empty()) attempt();
    }
    void ended() override { end({}); }

    const std::uint64_t stream_;
    std::list<Attempt> attempts_;
    std::uint64_t retry_ = 0;
    Error failure_;
};

/// The server's end of one session.
class Conversation final : public Side {
public:
    Conversation(World& world, Server& server, Process& process, Random& random, std::uint64_t stream);
    ~Conversation();
    bool accept(std::shared_ptr<Link> link, const Agreement& agreement, Duration round_trip, Bytes rest);
    void doubt() override {
        if (connection_ != nullptr) session_.probe(now()), flush();
    }

    Table<Conversation>::Entry* entry = nullptr;

private:
    void broken(Error error) override;
    void ended() override { closed_ = true; }
    Server& server_;
    const std::uint64_t stream_;
};

class Server {
public:
    Server(World& world, Process& process, Random& random);
    ~Server();
    void accept(std::shared_ptr<Link> link);
    Conversation* find(const SessionId& id) {
        auto* entry = table_.find(id);
        return entry == nullptr ? nullptr : entry->owner;
    }
    Table<Conversation>& table() { return table_; }
    void expire();
    std::vector<std::unique_ptr<Conversation>>& conversations() { return conversations_; }

private:
    friend Conversation;
    struct Joining final : Table<Conversation>::Handshake, Observer {
        Joining(Server& s, std::shared_ptr<Link> l) : server(s), link(std::move(l)) {}
        ~Joining() {
            if (link != nullptr) link->close(1);
        }
        void on_bytes(Bytes bytes) override { server.join(*this, bytes); }
        void on_writable() override { server.answer(*this); }
        void on_lost() override { delete this; }
        Server& server;
        std::shared_ptr<Link> link;
        bool refused = false;
        ServerHandshake handshake;
    };
    TimePoint now() const;
    void join(Joining& joining, Bytes bytes);
    bool answer(Joining& joining);
    void joined(Joining& joining, Bytes rest);
    void refuse(Joining& joining, Refusal why);

    World& world_;
    Process& process_;
    Random& random_;
    Table<Conversation> table_;
    std::vector<std::unique_ptr<Conversation>> conversations_;
};

class World {
public:
    explicit World(std::uint64_t seed);
    ~World();
    /// Runs to the end.
    Tally run();

    Events events;
    Random random;
    rejoin::session::Options options;
    rejoin::session::Options server_options;
    Weather weather;
    Tally tally;
    Process server_process;
    std::unique_ptr<Server> server;
    std::set<Key> forgotten;               // sessions that the server may truthfully not know
    std::map<Key, std::uint64_t> streams;  // whose a session is, as the test knows it
    std::map<std::uint64_t, Heard> heard;  // by stream: what a conversation that is no more had heard and said

    std::shared_ptr<Link> connect(Process& process);
    void forget(const SessionId& id) { forgotten.insert(key(id)); }
    Nonce nonce() {
        Nonce n;
        fill(n.bytes);
        return n;
    }
    void fill(std::span<std::byte> bytes) {
        for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
    }
    Duration round_trip() const { return (weather.delay + weather.jitter) * 2; }

private:
    struct Player {
        std::unique_ptr<Process> process;
        std::unique_ptr<Client> client;
        std::uint64_t stream = 0;
    };
    void every(Duration least, Duration most, std::function<bool()> call);
    Conversation* conversation_of(const Player& player) {
        return player.client->session().established() ? server->find(player.client->session().identity().id) : nullptr;
    }
    bool trouble();
    void stop(Process& process, Duration most) {
        process.stopped_until = events.now() + random.between(Duration(), most);
        ++tally.stops;
    }
    void restart();
    void replay_a_recording();
    void settle(const Player& player);

    std::vector<Player> players_;
    std::vector<std::shared_ptr<Link>> links_;
    TimePoint down_until_;
    std::uint64_t outages_left_ = 0;
    std::uint64_t finish_at_ = 0;  // outages that are left for the closing
    bool may_restart_ = false;
    bool roams_ = false;
};

// ---- Side

inline Side::Side(World& world, const rejoin::session::Options& options, Process& process, int side, Random& random, std::uint64_t sends,
                  std::uint64_t hears)
    : world_(world), process_(process), side_(side), random_(random), application_(session_, random, sends, hears) {
    session_.set_options(options);
}
inline TimePoint Side::now() const { return world_.events.now() + process_.clock; }

inline void Side::use(std::shared_ptr<Link> link) {
    drop_connection();
    connection_ = std::move(link);
    connection_->set_observer(side_, this);
    arm(session_.deadline(now()));
    flush();
}
inline void Side::drop_connection() {
    if (auto link = std::exchange(connection_, nullptr)) link->close(side_);
}
inline void Side::act(bool finish) {
    if (closed_) return;
    if (finish)
        session_.finish();
    else
        application_.say_something();
    if (finish || random_.below(paused_ ? 20 : 100) == 0) set_paused(!paused_ && !finish);
    flush();
}
inline void Side::set_paused(bool paused) {
    paused_ = paused;
    session_.hold(paused);
    std::byte room[1000];
    while (!paused_) {
        const std::size_t n = session_.take_held(room);
        if (n == 0) break;
        application_.hear(Bytes(room).first(n));
        if (random_.below(50) == 0) paused_ = true, session_.hold(true);
        session_.held_delivered();
    }
}
inline void Side::take(Bytes bytes) {
    const Link* const link = connection_.get();
    bool gone = false;
    const Error error = session_.receive(
        bytes, now(),
        [this](Bytes part) {
            application_.hear(part);
            if (random_.below(8) == 0) application_.say_something();
            if (random_.below(64) == 0) flush();
            if (random_.below(100) == 0) paused_ = true, session_.hold(true);
            if (random_.below(2000) == 0) drop_connection(), session_.detach(), broken(Errc::cancelled);
            return true;
        },
        gone);
    check(!gone, "gone");
    if (connection_.get() != link || link == nullptr) return;
    if (error) {
        check(error == Errc::ok, "an honest peer was called malformed");
        return;
    }
    check(!session_.full(), "an honest peer did not mind the window");
    flush();
}
inline void Side::flush() {
    Bytes pieces[Session::pieces_max];
    while (connection_ != nullptr) {
        const std::size_t n = session_.gather(pieces);
        if (n == 0) break;
        std::size_t offered = 0, taken = 0;
        for (std::size_t i = 0; i < n && taken == offered; ++i) {
            offered += pieces[i].size();
            taken += connection_->write(side_, pieces[i]);
        }
        session_.wrote(taken);
        if (taken < offered) break;
    }
    if (session_.take_drained() && !closed_) application_.say_something();
    if (session_.ended() && !closed_ && connection_ != nullptr) return ended();
    const TimePoint next = session_.deadline(now());
    if (next < tick_at_) arm(next);
}
inline void Side::arm(TimePoint at) {
    tick_at_ = at;
    const std::uint64_t number = ++tick_;
    if (at == TimePoint::never()) return;
    const Duration wait = at - now();
    world_.events.after(wait > Duration() ? wait : Duration(), [this, alive = alive_, number] {
        if (*alive && number == tick_) tick();
    });
}
inline void Side::tick() {
    if (process_.stopped_until > world_.events.now()) return arm(process_.stopped_until + process_.clock);
    tick_at_ = TimePoint::never();
    if (connection_ == nullptr) return;
    if (session_.acknowledgement_due()) session_.acknowledge_now();
    const auto liveness = session_.on_time(now());
    if (liveness != Session::Liveness::fine) {
        if (!connection_->dead() && random_.below(2) == 0)
            session_.excuse(now());  // the peer's kernel acknowledges
        else if (liveness == Session::Liveness::dead)
            return drop_connection(), session_.detach(), broken(Errc::unresponsive);
        else
            suspect();
    }
    if (connection_ == nullptr) return;
    flush();
    if (connection_ != nullptr) arm(session_.deadline(now()));
}

// ---- Client

inline Client::Client(World& world, Process& process, Random& random, std::uint64_t stream)
    : Side(world, world.options, process, 0, random, stream, ~stream), stream_(stream) {}
inline void Client::attempt() {
    if (attempts_.size() == 4) attempts_.pop_front();
    Attempt& attempt = attempts_.emplace_back(*this);
    attempt.link = world_.connect(process_);
    attempt.link->set_observer(0, &attempt);
    // Open after a round trip, unless the way is dead.
    world_.events.after(world_.weather.delay * 2, [this, alive = alive_, link = std::weak_ptr<Link>(attempt.link)] {
        if (!*alive) return;
        for (Attempt& a : attempts_)
            if (a.link == link.lock()) return ask(a);
    });
    retry_after(world_.round_trip() + random_.between(Duration(), Duration::milliseconds(300)));
}
inline void Client::ask(Attempt& attempt) {
    const auto window = static_cast<std::uint32_t>(world_.options.replay_limit);
    attempt.asked_at = now();
    if (session_.established())
        attempt.handshake.ask_resume(session_.identity(), world_.nonce(), session_.next_epoch(), window);
    else
        attempt.handshake.ask_new(world_.nonce(), window, world_.options.pre_shared_key.get());
    attempt_write(attempt);
}
inline void Client::attempt_write(Attempt& attempt) {
    while (!attempt.handshake.pending().empty()) {
        const std::size_t n = attempt.link->write(0, attempt.handshake.pending());
        attempt.handshake.wrote(n);
        if (n == 0) return;
    }
}
inline void Client::attempt_bytes(Attempt& attempt, Bytes bytes) {
    auto joined = attempt.handshake.receive(bytes);
    if (!joined) return attempt_failed(attempt, joined.error());
    if (!*joined) return;
    const bool first = !session_.established();
    if (first) {
        session_.set_identity(attempt.handshake.identity(), false);
        world_.streams[key(session_.identity().id)] = stream_;
    } else if (!attempt.handshake.resuming()) {
        check(false, "an attempt for a new session was left over");
    }
    attempt.handshake.confirm(session_.received(), session_.acknowledged());
    auto attached = session_.attach(attempt.handshake.agreement(), attempt.handshake.pending(), now() - attempt.asked_at, now());
    check(static_cast<bool>(attached), "the client refused what an honest server said");
    if (!first) ++world_.tally.resumes;
    std::shared_ptr<Link> link = std::exchange(attempt.link, nullptr);
    const std::vector<std::byte> rest(bytes.begin(), bytes.end());  // the attempt goes, and its buffers
    attempts_.clear();
    ++retry_;
    use(std::move(link));
    if (!rest.empty() && connection_ != nullptr) take(rest);
}
inline void Client::attempt_failed(Attempt& attempt, Error error) {
    for (auto at = attempts_.begin(); at != attempts_.end(); ++at)
        if (&*at == &attempt) {
            attempts_.erase(at);
            break;
        }
    if (error == Errc::session_unknown) {
        check(session_.established() && world_.forgotten.contains(key(session_.identity().id)), "the server forgot a session too early");
        return end(session_.complete() ? Error() : error);
    }
    check(error == Errc::end_of_stream || error == Errc::session_fenced || error == Errc::session_limit, "a handshake failed");
    if (attempts_.empty() && connection_ == nullptr) retry_after(random_.between(Duration(), Duration::milliseconds(200)));
}
inline void Client::retry_after(Duration d) {
    const std::uint64_t number = ++retry_;
    world_.events.after(d, [this, alive = alive_, number] {
        if (*alive && number == retry_ && !closed_ && (connection_ == nullptr || !attempts_.empty())) attempt();
    });
}
inline void Client::broken(Error) {
    connection_ = nullptr;
    session_.detach();
    if (attempts_.empty() && !closed_) retry_after(Duration());
}
inline void Client::end(Error why) {
    check(!closed_, "the end was reported twice");
    closed_ = true;
    failure_ = why;
    attempts_.clear();
    drop_connection();
    session_.detach();
    if (why) ++world_.tally.unknown;
}

// ---- Server

inline Conversation::Conversation(World& world, Server& server, Process& process, Random& random, std::uint64_t stream)
    : Side(world, world.server_options, process, 1, random, ~stream, stream), server_(server), stream_(stream) {}
inline Conversation::~Conversation() {
    *alive_ = false;
    world_.heard[stream_] = Side::heard();
    world_.tally.replayed += session_.replayed();
    world_.forget(session_.identity().id);
    session_.set_budget(nullptr);
    server_.table_.erase(entry);
}
inline bool Conversation::accept(std::shared_ptr<Link> link, const Agreement& agreement, Duration round_trip, Bytes rest) {
    check(static_cast<bool>(session_.attach(agreement, {}, round_trip, now())), "the server refused what an honest client said");
    if (agreement.receive_from < session_.received()) ++world_.tally.skipped;
    const std::vector<std::byte> more(rest.begin(), rest.end());
    use(std::move(link));
    if (!more.empty() && connection_ != nullptr) take(more);
    return true;
}
inline void Conversation::broken(Error) {
    connection_ = nullptr;
    session_.detach();
    closed_ ? server_.table_.finish(*entry, now()) : server_.table_.detach(*entry, now());
}

inline Server::Server(World& world, Process& process, Random& random)
    : world_(world), process_(process), random_(random), table_({}, random.next()) {}
inline Server::~Server() {
    while (auto* joining = table_.oldest_handshake()) delete static_cast<Joining*>(joining);
    conversations_.clear();
    while (auto* entry = table_.expired(TimePoint::never(), Duration())) {
        world_.forget(entry->identity.id);
        table_.erase(entry);
    }
}
inline TimePoint Server::now() const { return world_.events.now() + process_.clock; }
inline void Server::accept(std::shared_ptr<Link> link) {
    const auto ip = rejoin::IpAddress::v4(192, 0, 2, static_cast<std::uint8_t>(random_.below(3)));
    check(table_.in_the_way(ip) == nullptr, "crowded");
    auto* joining = new Joining(*this, link);
    check(table_.admit(*joining, ip, now()), "admitted");
    link->set_observer(1, joining);
}
inline void Server::join(Joining& joining, Bytes bytes) {
    for (;;) {
        auto step = joining.handshake.receive(bytes);
        if (joining.refused) return;
        if (!step) {
            check(joining.link->ghost, "the server refused what an honest client said");
            delete &joining;
            return;
        }
        if (*step == ServerHandshake::Step::more) return static_cast<void>(answer(joining));
        if (*step == ServerHandshake::Step::joined) {
            check(!joining.link->ghost, "a recording joined");
            return joined(joining, bytes);
        }
        const auto window = static_cast<std::uint32_t>(world_.server_options.replay_limit);
        if (*step == ServerHandshake::Step::hello) {
            Identity identity;
            world_.fill(identity.id.bytes);
            world_.fill(identity.key.bytes);
            check(static_cast<bool>(joining.handshake.welcome(identity, world_.nonce(), window, world_.options.pre_shared_key.get())),
                  "welcome");
            check(table_.create(identity, joining.peer(), now()) != nullptr, "created");
        } else {
            auto* entry = table_.find(joining.handshake.id());
            if (entry == nullptr) return refuse(joining, Refusal::unknown);
            Conversation* conversation = entry->owner;
            if (conversation != nullptr && joining.handshake.agreement().epoch <= conversation->session().epoch())
                return refuse(joining, Refusal::fenced);
            const std::uint64_t received = conversation == nullptr ? 0 : conversation->session().received();
            joining.handshake.resume(entry->identity.key, world_.nonce(), received, window);
        }
    }
}
inline bool Server::answer(Joining& joining) {
    while (!joining.handshake.pending().empty()) {
        const std::size_t n = joining.link->write(1, joining.handshake.pending());
        joining.handshake.wrote(n);
        if (n == 0) return true;
    }
    if (!joining.refused) return true;
    delete &joining;
    return false;
}
inline void Server::refuse(Joining& joining, Refusal why) {
    joining.handshake.refuse(why);
    joining.refused = true;
    answer(joining);
}
inline void Server::joined(Joining& joining, Bytes rest) {
    auto* entry = table_.find(joining.handshake.id());
    const Agreement agreement = joining.handshake.agreement();
    if (entry == nullptr || (entry->owner != nullptr && agreement.epoch <= entry->owner->session().epoch())) {
        delete &joining;
        return;
    }
    if (entry->owner == nullptr) {
        const auto stream = world_.streams.at(key(entry->identity.id));
        auto made = std::make_unique<Conversation>(world_, *this, process_, random_, stream);
        check(table_.attach(*entry, made.get(), now(), [](auto&) {}), "attached");
        made->entry = entry;
        made->session().set_identity(entry->identity, true);
        made->session().set_budget(&entry->peer().budget);
        conversations_.push_back(std::move(made));
    } else {
        check(table_.attach(*entry, entry->owner, now(), [](auto&) {}), "attached again");
    }
    const Duration round_trip = now() - joining.since();
    std::shared_ptr<Link> link = std::exchange(joining.link, nullptr);
    const std::vector<std::byte> more(rest.begin(), rest.end());
    delete &joining;
    entry->owner->accept(std::move(link), agreement, round_trip, more);
}
inline void Server::expire() {
    while (auto* late = table_.late(now())) delete static_cast<Joining*>(late);
    while (auto* entry = table_.expired(now(), world_.options.keep_detached)) {
        world_.forget(entry->identity.id);
        if (entry->owner == nullptr) {
            table_.erase(entry);
            continue;
        }
        auto* const owner = entry->owner;
        std::erase_if(conversations_, [&](auto& c) { return c.get() == owner; });
    }
}

// ---- World

inline World::World(std::uint64_t seed) : random(seed) {
    const auto milliseconds = [&](std::uint64_t low, std::uint64_t high) {
        return random.between(Duration::milliseconds(static_cast<std::int64_t>(low)),
                              Duration::milliseconds(static_cast<std::int64_t>(high)));
    };
    options.replay_limit = std::size_t{4096} << random.below(5);
    options.liveness_interval = milliseconds(100, 3000);
    options.suspect_after = milliseconds(50, 800);
    options.dead_after = options.suspect_after + milliseconds(50, 1500);
    options.keep_detached = random.below(8) == 0 ? milliseconds(1000, 5000) : Duration::seconds(120);
    if (random.below(2) == 0) {
        std::byte secret[16];
        fill(secret);
        options.pre_shared_key = PreSharedKey(secret);
    }
    server_options = options;
    server_options.replay_limit = std::size_t{4096} << random.below(5);
    weather.delay = milliseconds(0, random.below(4) == 0 ? 80 : 15);
    weather.jitter = milliseconds(0, random.below(4) == 0 ? 80 : 5);
    weather.buffer = 48u << random.below(9);
    outages_left_ = 30 + random.below(50);
    finish_at_ = random.below(12);
    may_restart_ = random.below(10) == 0;
    roams_ = random.below(3) != 0;
    server_process.clock = milliseconds(0, 1'000'000'000);
    server = std::make_unique<Server>(*this, server_process, random);
    players_.resize(random.below(4) == 0 ? 3 : 1);
    for (Player& player : players_) {
        player.process = std::make_unique<Process>();
        player.process->clock = milliseconds(0, 1'000'000'000);
        player.stream = random.next();
        player.client = std::make_unique<Client>(*this, *player.process, random, player.stream);
    }
}

inline World::~World() {
    players_.clear();
    server.reset();
}

inline std::shared_ptr<Link> World::connect(Process& process) {
    auto link = std::make_shared<Link>(events, random, weather, process, server_process);
    std::erase_if(links_, [](const auto& l) { return l->closed(); });
    links_.push_back(link);
    if (events.now() < down_until_) {
        link->cut(Duration::unlimited(), Duration::unlimited());
    } else {
        events.after(weather.delay, [this, link] {
            if (server_process.stopped_until <= events.now()) return server->accept(link);
            events.after(server_process.stopped_until - events.now(), [this, link] { server->accept(link); });
        });
    }
    return link;
}

// Calls again and again, at random intervals, until it says no.
inline void World::every(Duration least, Duration most, std::function<bool()> call) {
    events.after(random.between(least, most), [this, least, most, call = std::move(call)] {
        if (call()) every(least, most, call);
    });
}

inline Tally World::run() {
    const auto ms = [](std::int64_t n) { return Duration::milliseconds(n); };
    for (Player& player : players_) {
        player.client->start();
        every(ms(1), ms(60), [this, &player] {
            const bool ending = outages_left_ <= finish_at_;
            if (player.process->stopped_until <= events.now()) player.client->act(ending && random.below(40) == 0);
            Conversation* conversation = conversation_of(player);
            if (conversation != nullptr && server_process.stopped_until <= events.now()) conversation->act(ending && random.below(40) == 0);
            return !player.client->closed();
        });
    }
    every(ms(1), ms(300), [this] { return trouble(); });
    every(ms(200), ms(200), [this] {
        server->expire();
        return true;
    });
    TimePoint calm_since;
    for (;;) {
        check(events.run_one(), "nothing happens any more");
        tally.digest = (tally.digest ^ static_cast<std::uint64_t>(events.now().nanoseconds())) * 0x9e3779b97f4a7c15;
        bool all = true;
        for (Player& player : players_) {
            const Conversation* conversation = conversation_of(player);
            all = all && player.client->closed() && (player.client->failure() || conversation == nullptr || conversation->closed());
        }
        if (all) break;
        if (outages_left_ > 0)
            calm_since = events.now();
        else
            check(events.now() - calm_since < Duration::seconds(300), "it does not come to an end");
        check(events.count() < 3'000'000, "it runs in circles");
    }
    for (Player& player : players_) settle(player);
    return tally;
}

inline void World::settle(const Player& player) {
    Conversation* conversation = conversation_of(player);
    const Heard ours = player.client->heard();
    const Heard theirs = conversation != nullptr ? conversation->heard() : heard[player.stream];
    tally.bytes += ours.heard + theirs.heard;
    tally.replayed += player.client->session().replayed() + (conversation == nullptr ? 0 : conversation->session().replayed());
    for (std::uint64_t h : {ours.heard_hash, theirs.heard_hash, ours.heard, theirs.heard})
        tally.digest = (tally.digest ^ h) * 0x9e3779b97f4a7c15;
    if (player.client->failure()) return;  // the server forgot it, as was checked; what had come was what had been sent
    // A server that restarts, or gives up, after the last byte and before the last acknowledgement cannot know that all was over.
    check(ours.ended && (theirs.ended || conversation == nullptr), "ended on one side only");
    check(ours.said == theirs.heard && ours.said_hash == theirs.heard_hash, "the server has not all that the client said");
    check(theirs.said == ours.heard && theirs.said_hash == ours.heard_hash, "the client has not all that the server said");
    check(player.client->session().unacknowledged() == 0, "something is still kept for replay");
}

// Does one bad thing.
inline bool World::trouble() {
    Player& player = players_[random.below(players_.size())];
    Client& client = *player.client;
    Link* const link = client.connection();
    const auto soon = [&] { return random.between(Duration(), Duration::milliseconds(20)); };
    const auto late = [&] { return random.between(Duration(), Duration::seconds(3)); };
    switch (random.below(16)) {
        case 0:
            stop(*player.process, random.below(4) == 0 ? Duration::seconds(6) : Duration::milliseconds(500));
            return true;
        case 1:
            stop(server_process, random.below(4) == 0 ? Duration::seconds(6) : Duration::milliseconds(500));
            return true;
        case 2:
            replay_a_recording();
            return true;
        case 3:
            if (link != nullptr) link->stall(static_cast<int>(random.below(2)), late()), ++tally.stalls;
            return true;
        case 4:
        case 5:
            if (!roams_ || client.closed() || player.process->stopped_until > events.now()) return true;
            client.doubt();
            if (Conversation* conversation = conversation_of(player); conversation != nullptr && random.below(2) == 0)
                conversation->doubt();
            ++tally.roams;
            return true;
        case 6:
            if (may_restart_ && random.below(12) == 0) restart();
            return true;
        case 7:  // an attempt that is on its way
            if (!links_.empty())
                if (Link& any = *links_[random.below(links_.size())]; &any != link) any.cut(late(), late());
            return true;
        case 8:
            if (random.below(4) == 0)
                down_until_ = events.now() + random.between(Duration(), Duration::seconds(random.below(8) == 0 ? 9 : 1));
            break;
        default:
            break;
    }
    if (link == nullptr || link->dead()) return outages_left_ > 0;
    const std::uint64_t kind = random.below(5);
    switch (kind) {
        case 0:
            link->cut(soon(), soon());
            break;
        case 1:
            random.below(2) == 0 ? link->cut(soon(), late()) : link->cut(late(), soon());
            break;
        case 2:
            random.below(2) == 0 ? link->cut(soon(), Duration::unlimited()) : link->cut(Duration::unlimited(), soon());
            break;
        case 3:
            link->cut(Duration::unlimited(), Duration::unlimited());
            break;
        default:
            for (const auto& each : links_) each->cut(late(), late());
            break;
    }
    ++tally.outages[kind];
    --outages_left_;
    return outages_left_ > 0;
}

inline void World::restart() {
    ++tally.restarts;
    const bool host_died = random.below(2) == 0;
    for (const auto& link : links_) {
        link->set_observer(1, nullptr);
        link->cut(host_died ? Duration::unlimited() : Duration(), Duration::unlimited());
    }
    server.reset();
    server = std::make_unique<Server>(*this, server_process, random);
}

// An eavesdropper repeats what a client said, over a connection of its own.
inline void World::replay_a_recording() {
    if (links_.empty()) return;
    const auto recording = links_[random.below(links_.size())]->said;
    auto link = connect(server_process);
    link->ghost = true;
    ++tally.ghosts;
    struct Nobody final : Observer {
        void on_bytes(Bytes) override {}
        void on_writable() override {}
        void on_lost() override {}
    };
    static Nobody nobody;
    link->set_observer(0, &nobody);
    events.after(weather.delay * 2, [link, recording] {
        for (std::size_t at = 0; at < recording.size();) {
            const std::size_t n = link->write(0, Bytes(recording).subspan(at));
            if (n == 0) break;
            at += n;
        }
    });
}

}  // namespace sim
