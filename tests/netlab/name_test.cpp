// SPDX-License-Identifier: BSL-1.0
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>

#include "conversation.hpp"

// The system's own resolver, asked through a resolv.conf of the test's own, and a name server on the router.
namespace {

using namespace netlab;

struct NameServer {
    std::atomic<std::uint32_t> address = 0;  ///< what every name is, in host order; 0: nothing is answered
    std::atomic<std::uint32_t> asked = 0;
    std::atomic<bool> ready = false;
};

// Answers every question for an IPv4 address with the one that there is, and every other with none (RFC 1035 §4.1).
void answer_names(NameServer& names, const char* at) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(53);
    inet_pton(AF_INET, at, &address.sin_addr);
    if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) throw failed("name server");
    names.ready = true;
    for (;;) {
        unsigned char m[600];
        sockaddr_in from{};
        socklen_t size = sizeof from;
        const ssize_t n = recvfrom(fd, m, 512, 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (n < 17) continue;
        ++names.asked;
        if (names.address == 0) continue;
        std::size_t end = 12;
        while (m[end] != 0 && end < static_cast<std::size_t>(n)) end += m[end] + 1u;
        const bool a = m[end + 1] == 0 && m[end + 2] == 1;
        end += 5;
        m[2] = 0x84 | (m[2] & 1);  // an answer, with authority
        m[3] = 0;
        m[6] = 0, m[7] = a;
        m[8] = m[9] = m[10] = m[11] = 0;
        if (a) {
            const std::uint32_t ip = names.address;
            const unsigned char record[] = {0xc0,
                                            12,
                                            0,
                                            1,
                                            0,
                                            1,
                                            0,
                                            0,
                                            0,
                                            0,
                                            0,
                                            4,  // the name asked for, A, IN, 0 s
                                            static_cast<unsigned char>(ip >> 24),
                                            static_cast<unsigned char>(ip >> 16),
                                            static_cast<unsigned char>(ip >> 8),
                                            static_cast<unsigned char>(ip)};
            std::memcpy(m + end, record, sizeof record);
            end += sizeof record;
        }
        sendto(fd, m, end, 0, reinterpret_cast<const sockaddr*>(&from), size);
    }
}

// A client in a process of its own, whose resolv.conf is `folder`/resolv.conf.
struct Told {
    Side side;
    std::atomic<std::uint32_t> attempts = 0, failures = 0;
    std::atomic<FailureKind> failure = FailureKind::none;
    std::atomic<std::uint32_t> peer = 0;  // in host order
};
void put_file(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
void client(Told& told, const std::string& folder) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) throw failed("unshare");
    for (const char* file : {"resolv.conf", "nsswitch.conf"})
        if (mount((folder + "/" + file).c_str(), (std::string("/etc/") + file).c_str(), nullptr, MS_BIND, nullptr) != 0)
            throw failed("mount");
    rejoin::Loop loop;
    ResumablePipe::Options options;
    options.recovery.backoff_cap = Duration::seconds(1);
    ResumablePipe pipe(loop, options);
    Talker<ResumablePipe> talker(loop, pipe, told.side, Host::client);
    pipe.on_event([&](const rejoin::Event& event) {
        told.attempts = static_cast<std::uint32_t>(pipe.statistics().attempts);
        if (event.failure) told.failure = event.failure.kind, ++told.failures;
        if (event.kind == rejoin::Event::Kind::joined) {
            std::uint32_t ip = 0;
            std::memcpy(&ip, event.peer.bytes, sizeof ip);
            told.peer = ntohl(ip);
        }
        if (std::getenv("REJOIN_NETLAB_TRACE") != nullptr) std::fprintf(stderr, "%s\n", rejoin::describe(event).c_str());
    });
    if (!pipe.connect({"a.name.test", port})) throw failed("connect");
    loop.run();
}

struct Names {
    explicit Names(const char* first_server) {
        std::string pattern = "/tmp/rejoin-names-XXXXXX";
        folder = mkdtemp(pattern.data());
        point_to(first_server);
        put_file(folder + "/nsswitch.conf", "hosts: dns\n");
        REQUIRE(until([&] { return names->ready && server->ready; }));
    }
    ~Names() {
        client_process = {};
        for (const char* file : {"/resolv.conf", "/nsswitch.conf"}) unlink((folder + file).c_str());
        rmdir(folder.c_str());
    }
    void point_to(const char* name_server) {
        put_file(folder + "/resolv.conf", std::string("nameserver ") + name_server + "\noptions timeout:1 attempts:1\n");
    }
    void start() {
        client_process = Process(lab, Host::client, [this] { client(*told, folder); });
    }
    template <class F>
    static bool until(F condition) {
        const TimePoint end = rejoin::monotonic_now() + Duration::seconds(120);
        while (!condition()) {
            if (rejoin::monotonic_now() > end) return false;
            usleep(1000);
        }
        return true;
    }
    bool talks() {
        return until([&] { return told->side.received > 20'000 && server->received > 20'000 && told->side.wrong == 0; });
    }
    Lab lab;
    Shared<NameServer> names;
    Shared<Side> server;
    Shared<Told> told;
    std::string folder;
    Process name_process{lab, Host::router, [this] { answer_names(*names, "10.1.0.1"); }};
    Process server_process{lab, Host::server, [this] { serve(*server); }};
    Process client_process;
};

constexpr std::uint32_t right = 0x0a080002, second = 0x0a090002, nowhere = 0x0a080063;  // 10.8.0.2, 10.9.0.2, 10.8.0.99

TEST_CASE("the name service is silent, or refuses, and is asked until it answers", "[netlab]") {
    Names n("10.1.0.1");
    const bool silent = GENERATE(true, false);
    CAPTURE(silent);
    if (silent)
        n.names->address = 0;
    else
        n.lab.in(Host::client,
                 "nft 'table inet host { chain input { type filter hook input priority filter; udp sport 53 drop; };"
                 "  chain output { type filter hook output priority filter; udp dport 53 reject; }; }'");
    n.start();
    REQUIRE(Names::until([&] { return n.told->failure == FailureKind::name_service; }));
    n.names->address = right;
    if (!silent) n.lab.in(Host::client, "nft delete table inet host");
    REQUIRE(n.talks());
}

TEST_CASE("another name server is asked at once", "[netlab]") {
    Names n("10.1.0.99");  // nobody is there
    n.names->address = right;
    n.start();
    REQUIRE(Names::until([&] { return n.told->failure == FailureKind::name_service; }));
    n.point_to("10.1.0.1");
    REQUIRE(n.talks());
}

TEST_CASE("a stale record leads nowhere, and the name is looked up again", "[netlab]") {
    Names n("10.1.0.1");
    n.names->address = nowhere;
    n.start();
    REQUIRE(Names::until([&] { return n.told->attempts > 0; }));
    n.names->address = right;
    REQUIRE(n.talks());
    REQUIRE(n.told->peer == right);
}

TEST_CASE("while the name service is silent, the address that was good is tried", "[netlab]") {
    Names n("10.1.0.1");
    n.names->address = second;
    n.start();
    REQUIRE(n.talks());
    n.names->address = 0;
    const std::uint64_t resumes = n.told->side.resumes;
    n.lab.in(Host::server, "ss -K state established sport = :4000 >/dev/null 2>&1");
    REQUIRE(Names::until([&] { return n.told->side.resumes > resumes; }));
    REQUIRE(n.told->peer == second);
}

}  // namespace
