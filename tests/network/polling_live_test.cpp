// SPDX-License-Identifier: BSL-1.0
// Polling against a real kernel: it sees what netlink sees, and takes its place where netlink is forbidden.
#if defined(__linux__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <initializer_list>
#include <rejoin/network/system.hpp>
#include <string>

#include "catch.hpp"
#include "os/until.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;

namespace {

bool run(const std::string& command) { return std::system(command.c_str()) == 0; }

// Runs `check` in a process of its own, in a network namespace of its own with an uplink v0.
template <class Check>
bool on_host(Check check) {
    const pid_t child = fork();
    if (child == 0) {
        const bool made =
            unshare(CLONE_NEWNET) == 0 && run("ip link set lo up && ip link add v0 type veth peer name v1 && "
                                              "ip link set v0 addrgenmode none && ip link set v1 addrgenmode none && "
                                              "ip link set v1 up && ip link set v0 up && ip addr add 192.0.2.7/24 dev v0 && "
                                              "ip -6 addr add 2001:db8::7/64 dev v0 nodad && ip route add default via 192.0.2.1");
        _exit(made && check() ? 0 : 1);
    }
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0;
}

// From here on the kernel refuses this process a system call, if its first argument is `argument` (or whatever it is, for -1).
bool refuse(std::uint32_t call, std::uint32_t argument) {
    const std::uint8_t skip = argument == UINT32_MAX ? 1 : 0;
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, static_cast<std::uint8_t>(1 - skip)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{sizeof filter / sizeof filter[0], filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

struct Ear {
    void hear(const NetworkChange& change) {
        if (change.kind == Kind::address_added && change.early && change.address == IpAddress::v4(192, 0, 2, 8)) heard = true;
    }
    bool heard = false;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Ear::hear>(this)};
};

// A process that is not held back changes the host when the byte comes.
class Outsider {
public:
    Outsider() {
        if (pipe(pipe_) != 0) std::abort();
        if (fork() != 0) return;
        char byte = 0;
        _exit(read(pipe_[0], &byte, 1) == 1 && run("ip addr add 192.0.2.8/24 dev v0") ? 0 : 1);
    }
    bool change() {
        int status = 1;
        return write(pipe_[1], "x", 1) == 1 && wait(&status) > 0 && status == 0;
    }

private:
    int pipe_[2];
};

bool found_by_polling(std::uint32_t call, std::uint32_t argument) {
    return on_host([=] {
        Outsider outsider;
        if (!refuse(call, argument)) return false;
        Loop loop;
        SystemEvents& network = SystemEvents::of(loop);
        const Interface* v0 = nullptr;
        for (const Interface& i : network.state().interfaces)
            if (i.name == TextView("v0")) v0 = &i;
        if (!network.polling() || network.error() != Error::system(EACCES) || v0 == nullptr || !v0->running()) return false;
        const Route& route = network.state().route_for(Family::v4);
        if (!route.present || route.interface_index != v0->index || route.source != IpAddress::v4(192, 0, 2, 7)) return false;
        if (network.state().find_address(v0->index, *IpAddress::parse("2001:db8::7")) == nullptr) return false;
        Ear ear;
        network.observe(ear.observer);
        return outsider.change() && until(loop, [&] { return ear.heard; });
    });
}

}  // namespace

TEST_CASE("polling: sees what netlink sees", "[netlab]") {
    REQUIRE(on_host([] {
        Loop loop;
        if (!run("ip -6 addr add 2001:db8::9/64 dev v0 preferred_lft 0 nodad && ip link add w0 type veth peer name w1 && "
                 "ip -6 route add default via 2001:db8::1"))
            return false;
        const NetworkState& polled = Polling::of(loop).state();
        const NetworkState& told = Netlink::of(loop).state();
        bool same = true;
        diff(told, polled, [&](const NetworkChange& change) {
            if (change.kind == Kind::route_changed) return;  // it knows no gateways
            same = false;
        });
        const InterfaceAddress* old = nullptr;
        for (const InterfaceAddress& a : polled.addresses)
            if (a.ip == *IpAddress::parse("2001:db8::9")) old = &a;
        return same && polled.addresses.size() == told.addresses.size() && old != nullptr && old->deprecated && polled.route[1].present &&
               polled.route[1].source == told.route[1].source && polled.route[1].interface_index == told.route[1].interface_index;
    }));
}

TEST_CASE("polling: takes the place of netlink where its sockets are forbidden, and says so", "[netlab]") {
    REQUIRE(found_by_polling(SYS_socket, AF_NETLINK));
}

TEST_CASE("polling: takes the place of netlink where binding is forbidden, and says so", "[netlab]") {
    REQUIRE(found_by_polling(SYS_bind, UINT32_MAX));
}
#endif
