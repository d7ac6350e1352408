// SPDX-License-Identifier: BSL-1.0
// A chat and a file drop between two names, over a list of MQTT brokers of which all but one may be dead.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <rejoin/signal.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace rejoin;
using signalling::Event;

constexpr const char usage[] =
    "usage: signal [--key SECRET] [--prefix TOPIC] ME PEER BROKER[:PORT]...\n"
    "\n"
    "Each line of input goes to PEER, who has to run the same with the names exchanged, at one of the same brokers at least.\n"
    "  /file PATH   sends a file, which arrives in the other's working directory\n"
    "  /brokers     shows which brokers are alive, and what they do\n";

class Chat {
public:
    Chat(const std::string& me, const std::string& peer, const Signal<>::Options& options) : peer_(peer), signal_(loop_, me, options) {
        signal_.on_message([this](const Event& event) { heard(event); });
        signal_.on_delivery([this](signalling::Token, Error error) {
            if (error) say("! something has not arrived: %s is not there", peer_.c_str());
            leave_if_done();
        });
        signal_.on_drained([this] { send_file(); });
        signal_.on_broker([this](int broker, mqtt::ClientState state, const mqtt::Trouble& why) {
            const char* const name = names_[static_cast<std::size_t>(broker)].c_str();
            if (state == mqtt::ClientState::connected)
                say("* %s is there", name);
            else if (failed(why.reason))
                say("* %s says no: reason 0x%02x", name, static_cast<unsigned>(why.reason));
            else
                say("* %s is gone: %s", name, describe(why.failure).c_str());
        });
    }
    ~Chat() {
        if (file_ != nullptr) std::fclose(file_);
        if (incoming_ != nullptr) std::fclose(incoming_);
    }
    bool share_key(const char* secret) { return static_cast<bool>(signal_.share_key(peer_, TextView(secret).bytes())); }
    bool add_broker(const char* at) {
        const auto number = signal_.add_broker(Endpoint::parse(at, mqtt::default_port));
        if (!number) return false;
        names_.resize(static_cast<std::size_t>(*number) + 1);
        names_.back() = at;
        return true;
    }
    int run() {
        // Input blocks: it has a thread of its own, for as long as the program runs.
        std::thread([this] {
            for (char line[4096]; std::fgets(line, sizeof line, stdin) != nullptr;) {
                line[std::strcspn(line, "\n")] = 0;
                static_cast<void>(loop_.post([this, text = std::string(line)] { typed(text); }));
            }
            static_cast<void>(loop_.post([this] {
                ended_ = true;
                leave_if_done();
            }));
        }).detach();
        return loop_.run() ? 0 : 1;
    }

private:
    // What a message begins with.
    enum Kind : char { text = 't', file = 'f', piece = 'd' };

    [[gnu::format(printf, 1, 2)]] static void say(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        std::vprintf(format, arguments);
        va_end(arguments);
        std::putchar('\n');
        std::fflush(stdout);
    }
    bool send(Kind kind, const std::string& what) {
        signalling::SendOptions options;
        options.ordered = true;
        const auto sent = signal_.send(peer_, std::string(1, kind) + what, options);
        if (!sent && sent.error() != Errc::would_block) say("! not sent");
        return static_cast<bool>(sent);
    }
    void typed(const std::string& line) {
        if (line == "/brokers") return show_brokers();
        if (line.compare(0, 6, "/file ") != 0) {
            if (!send(text, line)) say("! too much is under way");
            return;
        }
        const std::string path = line.substr(6);
        if (file_ != nullptr) return say("! one file at a time");
        file_ = std::fopen(path.c_str(), "rb");
        if (file_ == nullptr) return say("! cannot read %s", path.c_str());
        const long size = std::fseek(file_, 0, SEEK_END) == 0 ? std::ftell(file_) : -1;
        std::rewind(file_);
        pending_.clear();
        if (size < 0) {
            std::fclose(std::exchange(file_, nullptr));
            return say("! %s has no size", path.c_str());
        }
        if (!send(file, std::to_string(size) + " " + path.substr(path.find_last_of("/\\") + 1))) {
            std::fclose(std::exchange(file_, nullptr));
            return say("! too much is under way");
        }
        send_file();
    }
    // As much as there is room for; the rest when there is room again.
    void send_file() {
        while (file_ != nullptr) {
            if (pending_.empty()) {
                pending_.resize(32 * 1024);
                pending_.resize(std::fread(pending_.data(), 1, pending_.size(), file_));
            }
            if (pending_.empty()) {
                std::fclose(std::exchange(file_, nullptr));
                break;
            }
            if (!send(piece, pending_)) return;
            pending_.clear();
        }
    }
    void heard(const Event& event) {
        if (event.peer != TextView(peer_) || event.text().size() == 0) return;
        const std::string what(event.text().data() + 1, event.text().size() - 1);
        if (event.text()[0] == text) return say("%s: %s", peer_.c_str(), what.c_str());
        if (event.text()[0] == file) return begin_file(what);
        if (event.text()[0] != piece || incoming_ == nullptr) return;
        const std::size_t n = what.size() < left_ ? what.size() : left_;
        if (std::fwrite(what.data(), 1, n, incoming_) != n) return lose_file();
        left_ -= n;
        if (left_ == 0) end_file();
    }
    void begin_file(const std::string& header) {
        if (incoming_ != nullptr) std::fclose(std::exchange(incoming_, nullptr));
        const std::size_t space = header.find(' ');
        std::string name = space == std::string::npos ? "" : header.substr(space + 1);
        // A name of the other's choosing stays in this directory, and takes no file's place.
        for (char& c : name)
            if (static_cast<unsigned char>(c) < ' ' || std::strchr("/\\:", c) != nullptr) c = '_';
        if (name.empty() || name[0] == '.') name = "file" + name;
        left_ = static_cast<std::size_t>(std::strtoull(header.c_str(), nullptr, 10));
        incoming_name_ = name;
        for (int i = 1; i < 1000 && (incoming_ = std::fopen(incoming_name_.c_str(), "wbx")) == nullptr; ++i)
            incoming_name_ = name + "." + std::to_string(i);
        if (incoming_ == nullptr) return say("! cannot write %s", name.c_str());
        if (left_ == 0) end_file();
    }
    void end_file() {
        if (std::fclose(std::exchange(incoming_, nullptr)) != 0) return say("! %s could not be written whole", incoming_name_.c_str());
        say("* %s has arrived", incoming_name_.c_str());
    }
    void lose_file() {
        std::fclose(std::exchange(incoming_, nullptr));
        say("! %s could not be written whole", incoming_name_.c_str());
    }
    void show_brokers() {
        for (std::size_t i = 0; i < names_.size(); ++i) {
            const signalling::Health health = signal_.health(static_cast<int>(i));
            say("* %s: %s%s; %llu copies given, %llu have arrived; %llu came, %llu of them first; round trip %.1f ms", names_[i].c_str(),
                health.up ? "alive" : "not there", health.suspect ? ", but delivers nothing" : "",
                static_cast<unsigned long long>(health.sent), static_cast<unsigned long long>(health.confirmed),
                static_cast<unsigned long long>(health.came), static_cast<unsigned long long>(health.first),
                static_cast<double>(health.round_trip.microseconds()) / 1000);
        }
    }
    void leave_if_done() {
        if (ended_ && file_ == nullptr && signal_.queued() == 0) loop_.stop();
    }

    const std::string peer_;
    Loop loop_;
    Signal<> signal_;
    std::vector<std::string> names_;
    std::FILE *file_ = nullptr, *incoming_ = nullptr;
    std::string pending_, incoming_name_;
    std::size_t left_ = 0;
    bool ended_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    Signal<>::Options options;
    const char* key = nullptr;
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (std::strcmp(argv[i], "--key") == 0)
            key = argv[i + 1];
        else if (std::strcmp(argv[i], "--prefix") == 0)
            options.prefix = TextView(argv[i + 1]);
        else
            break;
    }
    if (argc - i < 3 || argv[i][0] == '-') {
        std::fputs(usage, stderr);
        return 2;
    }
    Chat chat(argv[i], argv[i + 1], options);
    if (key != nullptr && !chat.share_key(key)) {
        std::fputs("signal: a key has 16 bytes at least\n", stderr);
        return 2;
    }
    for (i += 2; i < argc; ++i)
        if (!chat.add_broker(argv[i])) {
            std::fprintf(stderr, "signal: %s: no broker, or no name to have there\n", argv[i]);
            return 2;
        }
    return chat.run();
}
