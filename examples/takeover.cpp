// SPDX-License-Identifier: BSL-1.0
// A server that gives everything back, and whose next version takes over from it, with every conversation, while they go on.
#include <cstdio>
#include <map>
#include <optional>
#include <rejoin.hpp>
#include <string>

namespace {

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;
using Guest = Server::AcceptedPipe;

constexpr const char usage[] =
    "usage: takeover PATH HOST:PORT\n"
    "\n"
    "Echoes at HOST:PORT. Where another one runs with the same PATH, this one takes its listening socket and\n"
    "its live sessions, and the other ends; where none runs, it starts anew. PATH lies in a folder that only\n"
    "this user can enter; @NAME is an abstract one.\n";

class Service {
public:
    Service(Loop& loop, std::string path)
        : loop_(loop), path_(std::move(path)), server_(loop), successors_(loop, Delegate<void(Socket&&)>::to<&Service::successor>(this)) {
        server_.on_accept([this](Guest& guest) { serve(guest); });
    }
    Result<void> start(const Endpoint& at) {
        if (auto predecessor = UnixSocket::connect(path_)) return take_over(std::move(*predecessor));
        if (auto listening = server_.listen(at); !listening) return listening;
        return begin();
    }

private:
    // ---- Serving.

    void serve(Guest& guest) {
        unanswered_[&guest];
        guest.on_receive([this, &guest](Bytes bytes) {
            auto& before = unanswered_[&guest];
            before.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            answer(guest, before);
        });
        guest.on_drained([this, &guest] { answer(guest, unanswered_[&guest]); });
        guest.on_state([this, &guest](PipeState state, const Failure&) {
            if (state == PipeState::closed) unanswered_.erase(&guest);
        });
    }
    static void answer(Guest& guest, std::string& bytes) {
        if (bytes.empty() || guest.send(bytes)) {
            bytes.clear();
            guest.resume();
        } else {
            guest.pause();
        }
    }
    Result<void> begin() {
        auto socket = UnixSocket::listen(path_, 1);
        if (!socket) return socket.error();
        if (auto listening = successors_.adopt(std::move(*socket)); !listening) return listening;
        std::printf("serving at %s, %zu sessions taken over\n", to_text(server_.local_endpoint()).c_str(), unanswered_.size());
        std::fflush(stdout);
        return {};
    }

    // ---- Coming after another.

    Result<void> take_over(Socket predecessor) {
        channel_.emplace(loop_);
        channel_->on_parcel([this](Parcel&& parcel) { take(std::move(parcel)); });
        channel_->on_close([this](Error) {
            if (auto begun = server_.local_endpoint().valid() ? begin() : Result<void>(Errc::end_of_stream); !begun) fail(begun.error());
        });
        return channel_->start(std::move(predecessor));
    }
    void take(Parcel&& parcel) {
        Error error;
        if (parcel.kind == SocketKind::listener) {
            error = server_.listen(std::move(parcel.socket)).error();
        } else if (auto guest = server_.adopt(std::move(parcel)); !guest) {
            error = guest.error();
        } else if (*guest != nullptr) {
            auto& before = unanswered_[*guest];
            before.assign(reinterpret_cast<const char*>(parcel.unread.data()), parcel.unread.size());
            answer(**guest, before);
        }
        if (error) fail(error);
    }

    // ---- Going.

    void successor(Socket&& socket) {
        successors_.close();
        channel_.emplace(loop_);
        channel_->on_close([this](Error) {
            if (going_) static_cast<void>(loop_.post([this] { stay(); }));
        });
        channel_->on_drained([this] { hand_over(); });
        if (!channel_->start(std::move(socket))) return void(loop_.post([this] { stay(); }));
        going_ = true;
        Parcel parcel;
        parcel.kind = SocketKind::listener;
        parcel.socket = server_.release();
        offer(std::move(parcel));
        hand_over();
    }
    // As many as the channel takes, until none are left.
    void hand_over() {
        for (auto at = unanswered_.begin(); at != unanswered_.end() && going_ && channel_->has_room();) {
            auto& [guest, before] = *at++;
            const std::string unread = before;
            auto parcel = guest->depart();
            if (!parcel) continue;  // about to end
            if (parcel->unread.append(reinterpret_cast<const std::byte*>(unread.data()), unread.size())) offer(std::move(*parcel));
        }
        if (!going_ || timer_ != TimerId()) return;
        if (unanswered_.empty() && server_.joining() == 0 && channel_->offered() == 0) return loop_.stop();
        timer_ = loop_.after(Duration::milliseconds(10), [this] {
            timer_ = {};
            hand_over();
        });
    }
    void offer(Parcel&& parcel) {
        const auto offered = channel_->offer(std::move(parcel), [this](Error error, Parcel&& back) {
            if (!error) return;
            take(std::move(back));
            going_ = false;
            static_cast<void>(loop_.post([this] { stay(); }));
        });
        if (!offered) take(std::move(parcel));
    }
    // The successor has failed: what it had not taken is served here.
    void stay() {
        going_ = false;
        channel_.reset();
        if (!successors_.listening())
            if (auto begun = begin(); !begun) fail(begun.error());
    }

    static void fail(Error error) { std::fprintf(stderr, "takeover: %s\n", describe(classify(error, Stage::established)).c_str()); }

    Loop& loop_;
    const std::string path_;
    std::map<Guest*, std::string> unanswered_;  // what each has said and was not given back yet
    Server server_;
    TcpAcceptor successors_;
    std::optional<Channel> channel_;
    TimerId timer_{};
    bool going_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    const Endpoint at = argc == 3 ? Endpoint::parse(argv[2]) : Endpoint();
    if (!at.valid()) {
        std::fputs(usage, stderr);
        return 2;
    }
    Loop loop;
    Service service(loop, argv[1]);
    if (auto started = service.start(at); !started) {
        std::fprintf(stderr, "takeover: %s\n", describe(classify(started.error(), Stage::listening)).c_str());
        return 1;
    }
    static_cast<void>(loop.run());
}
