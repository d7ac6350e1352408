// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <rejoin.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// Hosts that are real to everything but the wire: each is a network namespace, made and wired with `ip` and `nft`; root is needed.
//
//                 a0 10.1.0.2 ---- 10.1.0.1 +--------+ 10.8.0.1 ---- 10.8.0.2 b0
//      client                               | router |                             server
//                 a1 10.2.0.2 ---- 10.2.0.1 +--------+ 10.9.0.1 ---- 10.9.0.2 b1
//
// IPv6 is the same with fd00:1::2 for 10.1.0.2 and so on. The client's default routes lead over a0 (metric 100) and a1 (metric 200). The
// router hides the client's addresses behind its own. The namespaces have no names, only descriptors: they go when the processes that use
// them have gone, however that comes about, and any number of labs runs side by side.
namespace netlab {

enum class Host { client, router, server };

inline std::runtime_error failed(const std::string& what) { return std::runtime_error("netlab: " + what + ": " + strerror(errno)); }

/// A file descriptor, owned.
class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {
        if (fd < 0) throw failed("no descriptor");
    }
    Descriptor(const Descriptor&) = delete;
    ~Descriptor() { ::close(fd_); }
    int get() const { return fd_; }
    /// Its name for other processes.
    std::string path() const { return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd_); }

private:
    const int fd_;
};

/// The three hosts, up and connected.
class Lab {
public:
    Lab() : machine_(open_namespace()), client_(make_namespace()), router_(make_namespace()), server_(make_namespace()) {
        leave();
        // Duplicate-address detection would hold every IPv6 address back for a second or two.
        for (Host host : {Host::client, Host::router, Host::server})
            in(host,
               "cd /proc/sys/net/ipv6/conf; for i in all default; do echo 0 >$i/accept_dad; echo 1 >$i/keep_addr_on_down; done;"
               "ip link set lo up");
        in(Host::router,
           "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding;"
           "add() {"
           "  ip link add r$1 type veth peer name $1 netns $3; ip link set r$1 up;"
           "  ip addr add 10.$2.0.1/24 dev r$1; ip addr add fd00:$2::1/64 dev r$1 nodad;"
           "};"
           "add a0 1 " +
               client_.path() + "; add a1 2 " + client_.path() + "; add b0 8 " + server_.path() + "; add b1 9 " + server_.path() +
               "; nft 'table inet lab {"
               "  chain nat { type nat hook postrouting priority srcnat; oifname \"rb*\" masquerade; };"
               "  chain forward { type filter hook forward priority filter; };"
               "}'");
        const std::string add =
            "add() {"
            "  ip link set $1 up; ip addr add 10.$2.0.2/24 dev $1; ip addr add fd00:$2::2/64 dev $1 nodad;"
            "  ip route add default via 10.$2.0.1 metric $3; ip route add default via fd00:$2::1 metric $3;"
            "};";
        in(Host::client, add + "add a0 1 100; add a1 2 200");
        in(Host::server, add + "add b0 8 100; add b1 9 200");
    }
    Lab(const Lab&) = delete;
    ~Lab() { leave(); }

    /// The calling thread, and those it starts, are on that host from now on: what they open is opened there.
    void enter(Host host) const { set_namespace(host == Host::client ? client_ : host == Host::router ? router_ : server_); }
    /// The calling thread is on the machine itself again.
    void leave() const { set_namespace(machine_); }

    /// Runs shell commands on that host; throws when one fails.
    void in(Host host, const std::string& commands, int output = STDOUT_FILENO) const {
        const pid_t child = fork();
        if (child == 0) {
            enter(host);
            dup2(output, STDOUT_FILENO);
            execl("/bin/sh", "sh", "-ec", commands.c_str(), nullptr);
            _exit(127);
        }
        int status = -1;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        if (status != 0) throw std::runtime_error("netlab: this failed: " + commands);
    }
    /// What shell commands print on that host.
    std::string ask(Host host, const std::string& commands) const {
        const Descriptor file(memfd_create("netlab", MFD_CLOEXEC));
        in(host, commands, file.get());
        std::string said(static_cast<std::size_t>(lseek(file.get(), 0, SEEK_END)), '\0');
        if (pread(file.get(), said.data(), said.size(), 0) < 0) throw failed("pread");
        return said;
    }

    /// The router drops, and tells nobody, what it should pass on and nftables matches with `match`: everything if it is empty.
    void drop(const std::string& match = "") const { in(Host::router, "nft 'add rule inet lab forward " + match + " drop'"); }
    /// The router does its work again.
    void restore() const { in(Host::router, "nft flush chain inet lab forward"); }

private:
    static int open_namespace() { return ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC); }
    static int make_namespace() {
        if (unshare(CLONE_NEWNET) != 0) throw failed("unshare (root is needed)");
        return open_namespace();
    }
    static void set_namespace(const Descriptor& ns) {
        if (setns(ns.get(), CLONE_NEWNET) != 0) std::abort();
    }

    const Descriptor machine_, client_, router_, server_;
};

/// Memory that the processes of one lab share, made before they are started.
template <class T>
class Shared {
public:
    Shared() {
        void* const room = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED) throw failed("mmap");
        object_ = new (room) T();
    }
    Shared(const Shared&) = delete;
    ~Shared() { munmap(object_, sizeof(T)); }
    T& operator*() const { return *object_; }
    T* operator->() const { return object_; }

private:
    T* object_;
};

/// A process on one of the hosts; it is killed when this is destroyed, and when the thread that started it ends.
class Process {
public:
    Process() = default;
    Process(const Lab& lab, Host host, const std::function<void()>& body) : pid_(fork()) {
        if (pid_ < 0) throw failed("fork");
        if (pid_ > 0) return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        lab.enter(host);
        syscall(SYS_close_range, 3, ~0u, 0);  // the other sockets of the test are not to be held open from here
        try {
            body();
        } catch (const std::exception& e) {
            std::fprintf(stderr, "%s\n", e.what());
            _exit(1);
        }
        std::fflush(stdout);
        _exit(0);
    }
    Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
    Process& operator=(Process&& other) noexcept {
        std::swap(pid_, other.pid_);
        return *this;
    }
    ~Process() {
        if (pid_ <= 0) return;
        signal(SIGKILL);
        wait();
    }
    pid_t id() const { return pid_; }
    void signal(int number) const {
        if (pid_ > 0) ::kill(pid_, number);
    }
    /// Waits for its end, and returns the status that waitpid gave.
    int wait() {
        int status = -1;
        while (pid_ > 0 && waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = 0;
        return status;
    }

private:
    pid_t pid_ = 0;
};

/// A stream that both ends know beforehand, so that each byte can be told right or wrong where it arrives; and its running hash (FNV-1a).
class Stream {
public:
    explicit Stream(std::uint64_t seed) : seed_(seed) {}
    void make(rejoin::MutableBytes to) {
        for (std::byte& b : to) put(b = next());
    }
    /// False when a byte is not the one that belongs here.
    bool take(rejoin::Bytes bytes) {
        bool right = true;
        for (std::byte b : bytes) {
            right = right && b == next();
            put(b);
        }
        return right;
    }
    std::uint64_t count() const { return count_; }
    std::uint64_t hash() const { return hash_; }

private:
    std::byte next() const {
        std::uint64_t x = (seed_ << 56) + count_ / 8;  // splitmix64
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        return static_cast<std::byte>((x ^ x >> 31) >> count_ % 8 * 8);
    }
    void put(std::byte b) {
        hash_ = (hash_ ^ static_cast<std::uint64_t>(b)) * 0x100000001b3;
        ++count_;
    }
    std::uint64_t seed_;
    std::uint64_t count_ = 0;
    std::uint64_t hash_ = 0xcbf29ce484222325;
};

/// What one end has seen; lies in shared memory when the other is another process.
struct Side {
    std::atomic<bool> ready = false;  ///< it listens
    std::atomic<bool> quiet = false;  ///< set by the test: it says nothing
    std::atomic<std::uint64_t> sent = 0, sent_hash = 0, received = 0, received_hash = 0;
    std::atomic<std::uint64_t> wrong = 0;          ///< pieces that were not what belonged there
    std::atomic<std::uint64_t> conversations = 0;  ///< accepted
    std::atomic<std::uint64_t> connections = 0, resumes = 0, unacknowledged = 0;
    std::atomic<std::uint64_t> interruptions = 0, closings = 0;  ///< reported
    std::atomic<rejoin::PipeState> state = rejoin::PipeState::idle;
    std::atomic<rejoin::FailureKind> failure = rejoin::FailureKind::none;  ///< the one that came with the last state
    std::atomic<std::int64_t> received_at = 0;                             ///< the last bytes, on the monotonic clock in nanoseconds
    std::atomic<std::int64_t> rejoined_at = 0;                             ///< the first bytes that the newest connection brought

    rejoin::TimePoint rejoined() const { return rejoin::TimePoint::from_nanoseconds(rejoined_at); }
};

/// Whether everything that one end sent has arrived at the other as it was sent. Returns nothing, or what differs.
inline std::string difference(const Side& from, const Side& to) {
    if (to.wrong != 0) return "pieces that do not belong where they arrived: " + std::to_string(to.wrong);
    if (from.sent != to.received) return "sent " + std::to_string(from.sent) + ", received " + std::to_string(to.received);
    if (from.sent_hash != to.received_hash) return "the hashes differ";
    return from.sent == 0 ? "nothing was sent" : "";
}

/// Talks over a pipe: a small message every 10 ms, and now and then a large one, until `stop` or until the pipe closes. Checks what comes.
template <class P>
class Talker {
public:
    Talker(rejoin::Loop& loop, P& pipe, Side& side, Host me)
        : loop_(loop),
          pipe_(pipe),
          side_(side),
          name_(me == Host::client ? "client" : "server"),
          out_(me == Host::client ? 1 : 2),
          in_(me == Host::client ? 2 : 1) {
        pipe.on_receive([this](rejoin::Bytes bytes) { received(bytes); });
        pipe.on_state([this](rejoin::PipeState state, const rejoin::Failure& why) { changed(state, why); });
        speak();
    }
    ~Talker() { stop(); }
    void stop() { loop_.cancel(timer_); }

private:
    void speak() {
        std::byte message[16'000];
        const std::size_t size = ++turn_ % 50 == 0 ? sizeof message : 1 + turn_ * 37 % 500;
        Stream ahead = out_;
        ahead.make({message, size});
        if (!side_.quiet && pipe_.send({message, size})) out_ = ahead;
        side_.sent = out_.count();
        side_.sent_hash = out_.hash();
        note();
        timer_ = loop_.after(rejoin::Duration::milliseconds(10), [this] { speak(); });
    }
    void received(rejoin::Bytes bytes) {
        if (!in_.take(bytes)) ++side_.wrong;
        side_.received_hash = in_.hash();
        side_.received = in_.count();
        side_.received_at = rejoin::monotonic_now().nanoseconds();
        if (std::exchange(heard_, pipe_.statistics().connections) != pipe_.statistics().connections)
            side_.rejoined_at = side_.received_at.load();
        note();
    }
    void changed(rejoin::PipeState state, const rejoin::Failure& why) {
        const rejoin::PipeState before = side_.state;
        side_.failure = why.kind;
        side_.state = state;
        if (state == rejoin::PipeState::interrupted && before != state) ++side_.interruptions;
        if (state == rejoin::PipeState::closed) ++side_.closings;
        if (state == rejoin::PipeState::closed || state == rejoin::PipeState::closing) stop();
        // For whoever wants to see what happens.
        if (std::getenv("REJOIN_NETLAB_TRACE") != nullptr)
            std::fprintf(stderr, "%.4f %s %s\n", static_cast<double>(rejoin::monotonic_now().nanoseconds()) / 1e9, name_,
                         rejoin::describe(state, why).c_str());
        note();
    }
    void note() {
        const rejoin::Statistics s = pipe_.statistics();
        side_.connections = s.connections;
        side_.resumes = s.resumes;
        side_.unacknowledged = s.bytes_unacknowledged;
    }

    rejoin::Loop& loop_;
    P& pipe_;
    Side& side_;
    const char* name_;
    Stream out_, in_;
    std::uint64_t turn_ = 0;
    std::uint64_t heard_ = 0;  // the connection that brought the last bytes
    rejoin::TimerId timer_ = 0;
};

inline constexpr int port = 4000;

/// A server's life: talks with everybody who comes, until it is killed.
inline void serve(Side& side, const char* address = "0.0.0.0",
                  const rejoin::Listener<rejoin::Resumable<rejoin::Tcp>>::Options& options = {}) {
    rejoin::Loop loop;
    rejoin::Listener<rejoin::Resumable<rejoin::Tcp>> listener{loop, options};
    std::vector<std::unique_ptr<Talker<rejoin::ResumablePipe>>> talkers;
    listener.on_accept([&](rejoin::ResumablePipe& pipe) {
        ++side.conversations;
        talkers.push_back(std::make_unique<Talker<rejoin::ResumablePipe>>(loop, pipe, side, Host::server));
    });
    if (!listener.listen({address, port})) throw failed("listen");
    side.ready = true;
    loop.run();
}

/// Runs the loop until `condition` holds; false when it does not within `ceiling`.
template <class F>
bool eventually(rejoin::Loop& loop, F condition, rejoin::Duration ceiling = rejoin::Duration::seconds(180)) {
    const rejoin::TimePoint end = rejoin::monotonic_now() + ceiling;
    while (!condition()) {
        if (rejoin::monotonic_now() > end) return false;
        loop.run_once(rejoin::Duration::milliseconds(5));
    }
    return true;
}

/// Does `f` on a thread of its own while the loop goes on.
template <class F>
void meanwhile(rejoin::Loop& loop, F f) {
    std::exception_ptr thrown;
    std::atomic<bool> done = false;
    std::thread thread([&] {
        try {
            f();
        } catch (...) {
            thrown = std::current_exception();
        }
        done = true;
    });
    while (!done) loop.run_once(rejoin::Duration::milliseconds(1));
    thread.join();
    if (thrown) std::rethrow_exception(thrown);
}

}  // namespace netlab
