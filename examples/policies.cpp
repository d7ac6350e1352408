// SPDX-License-Identifier: BSL-1.0
// All three policies of a pipe, written from outside: an upload over a tariff that cuts every connection after 64 KiB, while a file says
// whether there is a network. rejoin/policies.hpp has the contracts.
#include <errno.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <rejoin.hpp>
#include <string>

namespace {

// EventSource: the network is there unless a file says "offline", as a script of the host's may write it.
class FlagFile {
public:
    static inline std::string path;

    explicit FlagFile(rejoin::Loop& loop) : feed_(loop), look_again_(loop, rejoin::Delegate<void()>::to<&FlagFile::look>(this)) { look(); }
    static FlagFile& of(rejoin::Loop& loop) { return loop.service<FlagFile>(); }

    const rejoin::NetworkState& state() const { return feed_.state(); }
    void observe(rejoin::NetworkObserver& observer) { feed_.observe(observer); }

private:
    void look() {
        std::string word;
        std::ifstream(path) >> word;
        rejoin::NetworkState* const state = feed_.edit();
        if (state == nullptr) return;
        rejoin::Interface link;
        link.index = 1;
        link.name = rejoin::TextView("link");
        link.up = link.carrier = word != "offline";
        state->put(link);
        state->route[0] = {link.running(), link.running() ? link.index : 0, {}, {}};
        state->known = true;
        feed_.publish();  // finds the differences, and tells of them
        look_again_.after(rejoin::Duration::milliseconds(20));
    }

    rejoin::ChangeFeed feed_;
    rejoin::Loop::Timer look_again_;
};

// What all connections of a loop share.
struct Meter {
    explicit Meter(rejoin::Loop&) {}
    std::size_t bytes = 0;  // written, by both ends
};

// Transport: TCP that counts, and writes no more than 64 KiB on one connection. What is not hidden here is as it was.
class MeteredConnection : public rejoin::TcpConnection {
public:
    MeteredConnection(rejoin::Loop& loop, rejoin::ConnectionObserver& observer)
        : TcpConnection(loop, observer), meter_(loop.service<Meter>()) {}

    rejoin::Result<std::size_t> write(std::span<const rejoin::Bytes> pieces) {
        if (left_ == 0) return rejoin::Error::system(ECONNRESET);
        const rejoin::Bytes first = pieces[0].first(std::min(pieces[0].size(), left_));  // to take less than all is allowed
        auto wrote = TcpConnection::write({&first, 1});
        if (wrote) left_ -= *wrote, meter_.bytes += *wrote;
        return wrote;
    }

private:
    Meter& meter_;
    std::size_t left_ = 64 * 1024;
};

struct Metered : rejoin::Tcp {
    using Connection = MeteredConnection;
};

// RecoveryPolicy: again after 50 ms, ten times in a row at most, and not while there is no network.
class Patient {
public:
    struct Options {
        int failures = 10;
    };
    Patient(const Options& options, std::uint64_t) : options_(&options) {}

    rejoin::Action decide(const rejoin::Failure& failure, const rejoin::NetworkState& network, rejoin::TimePoint) {
        std::printf("recovery: %s\n", describe(failure).c_str());
        if (++in_a_row_ > options_->failures) return rejoin::Action::give_up();
        if (network.offline()) return rejoin::Action::wait_for_network();
        return rejoin::Action::retry_after(rejoin::Duration::milliseconds(50));
    }
    void connected(rejoin::TimePoint) { in_a_row_ = 0; }  // optional

private:
    const Options* options_;
    int in_a_row_ = 0;
};

using Upload = rejoin::Pipe<FlagFile, rejoin::Resumable<Metered>, Patient>;
using Server = rejoin::Listener<rejoin::Resumable<Metered>, FlagFile, Patient>;

void write_flag(const char* word) { std::ofstream(FlagFile::path) << word << '\n'; }

}  // namespace

int main() {
    const std::filesystem::path folder =
        std::filesystem::temp_directory_path() / ("rejoin-policies-" + std::to_string(std::random_device()()));
    if (!std::filesystem::create_directory(folder)) return 1;
    FlagFile::path = (folder / "network").string();
    write_flag("online");

    const std::string file(300'000, 'x');
    std::size_t arrived = 0;
    rejoin::Failure end;
    {
        rejoin::Loop loop;
        Server server(loop);
        server.on_accept([&](Upload& upload) {
            upload.on_receive([&](rejoin::Bytes bytes) {
                const bool half = arrived < file.size() / 2 && arrived + bytes.size() >= file.size() / 2;
                arrived += bytes.size();
                if (!half) return;
                write_flag("offline");
                loop.after(rejoin::Duration::milliseconds(300), [] { write_flag("online"); });
            });
        });
        if (!server.listen({"127.0.0.1", 0})) return 1;

        Upload upload(loop);
        upload.on_network_change([](const rejoin::NetworkChange& change) { std::printf("network:  %s\n", describe(change).c_str()); });
        upload.on_state([&](rejoin::PipeState state, const rejoin::Failure& why) {
            std::printf("pipe:     %s\n", describe(state, {}).c_str());
            if (state != rejoin::PipeState::closed) return;
            end = why;
            loop.stop();
        });
        static_cast<void>(upload.connect(server.local_endpoint()));
        static_cast<void>(upload.send(file));
        upload.close();
        static_cast<void>(loop.run());
        std::printf("%zu of %zu bytes arrived, over %d connections; %zu bytes were written to them.\n", arrived, file.size(),
                    static_cast<int>(upload.statistics().connections), loop.service<Meter>().bytes);
    }
    std::filesystem::remove_all(folder);
    return !end && arrived == file.size() ? 0 : 1;
}
