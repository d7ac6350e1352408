// SPDX-License-Identifier: BSL-1.0
// Lets others in: says what this host's firewall would do with a port, opens the least that is needed, and puts it back.
//
//     letin status                              what is active, and what was opened
//     letin explain 7000/tcp                    what blocks it, and the commands that would open it; changes nothing
//     letin open 7000/tcp --for 2h              opens it
//     letin close 7000/tcp
//     letin clear                               takes away what has expired, or was left behind
//     letin map 7000/tcp [--for 2h] [--host]    has the router map it until it is interrupted; --host: also opens this host's firewall
//   with --app NAME, --interface NAME, --zone NAME, --program FILE, --json, --raise (asks for the privilege it takes, by pkexec, sudo or
//   Windows)
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <rejoin/opening.hpp>
#include <string>
#include <vector>

#if defined(_WIN32)
#include <shellapi.h>
#else
#include <unistd.h>
#endif

using namespace rejoin;
using namespace rejoin::firewall;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }

std::string quoted(TextView view) {
    std::string all = "\"";
    for (char c : view) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned char>(c));
        if (c == '"' || c == '\\')
            (all += '\\') += c;
        else if (static_cast<unsigned char>(c) < ' ')
            all += escaped;
        else
            all += c;
    }
    return all + '"';
}
void print_json(const Report& report) {
    std::printf("{\"summary\":%s,\"error\":%d,\"let_in\":%s,\"changed\":%s,\"gates\":[", quoted(summary(report)).c_str(),
                report.error.code(), report.let_in() ? "true" : "false", report.changed() ? "true" : "false");
    for (std::size_t i = 0; i < report.gates.size(); ++i) {
        const Gate& g = report.gates[i];
        std::printf(
            "%s{\"system\":%s,\"where\":%s,\"stance\":%s,\"why\":%s,\"some_dropped\":%s,\"changed\":%s,\"error\":%d,\"command\":%s,"
            "\"inverse\":%s}",
            i == 0 ? "" : ",", quoted(to_text(g.system)).c_str(), quoted(g.where).c_str(), quoted(to_text(g.stance)).c_str(),
            quoted(g.why).c_str(), g.some_dropped ? "true" : "false", g.changed ? "true" : "false", g.error.code(),
            quoted(g.command).c_str(), quoted(g.inverse).c_str());
    }
    std::printf("]");
}
void print(const Report& report) {
    each_line(report, [](TextView line) { std::printf("%s\n", text(line).c_str()); });
}

int usage() {
    std::fprintf(stderr,
                 "usage: letin status | explain PORT/PROTOCOL | open PORT/PROTOCOL [--for 2h] | close PORT/PROTOCOL | clear\n"
                 "       letin map PORT/PROTOCOL [--for 2h] [--host]\n"
                 "       [--app NAME] [--interface NAME] [--zone NAME] [--program FILE] [--json] [--raise]\n");
    return 2;
}
// `30s`, `5m`, `2h`, `1d`.
bool parse_duration(const char* word, Duration& to) {
    char* end = nullptr;
    const long long n = std::strtoll(word, &end, 10);
    const long long unit = std::strcmp(end, "s") == 0   ? 1
                           : std::strcmp(end, "m") == 0 ? 60
                           : std::strcmp(end, "h") == 0 ? 3600
                           : std::strcmp(end, "d") == 0 ? 86400
                                                        : 0;
    if (end == word || n <= 0 || n > 1'000'000 || unit == 0) return false;
    to = Duration::seconds(n * unit);
    return true;
}
// The same once more, by somebody who may.
#if defined(_WIN32)
bool privileged() { return false; }  // whether it takes more is found out by trying
[[noreturn]] void raise(int argc, char** argv) {
    std::wstring words;
    for (int i = 1; i < argc; ++i)
        if (std::strcmp(argv[i], "--raise") != 0) words += std::wstring(argv[i], argv[i] + std::strlen(argv[i])) + L' ';
    wchar_t self[1024];
    ::GetModuleFileNameW(nullptr, self, 1024);
    SHELLEXECUTEINFOW start{};
    start.cbSize = sizeof start;
    start.fMask = SEE_MASK_NOCLOSEPROCESS;
    start.lpVerb = L"runas";  // Windows asks the user
    start.lpFile = self;
    start.lpParameters = words.c_str();
    DWORD code = 1;
    if (::ShellExecuteExW(&start) && start.hProcess != nullptr) {
        ::WaitForSingleObject(start.hProcess, INFINITE);
        ::GetExitCodeProcess(start.hProcess, &code);
    }
    std::exit(static_cast<int>(code));
}
#else
bool privileged() { return ::geteuid() == 0; }
[[noreturn]] void raise(int argc, char** argv) {
    char self[4096];
    const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) self[n] = 0;
    for (const char* by : {"pkexec", "sudo"}) {
        std::vector<char*> words = {const_cast<char*>(by), n > 0 ? self : argv[0]};
        for (int i = 1; i < argc; ++i)
            if (std::strcmp(argv[i], "--raise") != 0) words.push_back(argv[i]);
        words.push_back(nullptr);
        if (by[0] == 's' || std::getenv("DISPLAY") != nullptr || std::getenv("WAYLAND_DISPLAY") != nullptr) ::execvp(by, words.data());
    }
    std::perror("letin: neither pkexec nor sudo");
    std::exit(1);
}
#endif

volatile std::sig_atomic_t ended = 0;

// Has the routers map it, until it is enough.
int map(const Rule& rule, bool host, bool json) {
    Loop loop;
    for (int number : {SIGINT, SIGTERM}) std::signal(number, [](int) { ended = 1; });
    Opening<>::Options options;
    options.rule = rule;
    options.host = host;
    Opening<> opening(loop, options);
    const auto tell = [&] {
        for (Family family : {Family::v4, Family::v6}) {
            const char* const by = router::to_text(opening.method(family));
            const std::string at = text(rejoin::to_text(opening.external(family)));
            const char* const name = family == Family::v4 ? "IPv4" : "IPv6";
            if (json)
                std::printf("{\"family\":\"%s\",\"external\":%s,\"method\":\"%s\",\"error\":%d}\n", name,
                            opening.external(family).valid() ? quoted(at).c_str() : "null", by, opening.error(family).code());
            else if (opening.external(family).valid())
                std::printf("%s: reached at %s, by %s\n", name, at.c_str(), by);
            else
                std::printf("%s: not mapped%s\n", name, opening.error(family) ? ": no router grants it" : "");
        }
        std::fflush(stdout);
    };
    opening.on_change(tell);
    opening.opened(Endpoint("::", rule.port));
    const TimePoint until = rule.expiry > Duration() ? loop.now() + rule.expiry : TimePoint::never();
    while (ended == 0 && loop.now() < until) static_cast<void>(loop.run_for(Duration::milliseconds(100)));
    opening.closed();
    static_cast<void>(loop.run_for(Duration::milliseconds(1100)));  // the router is told
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return usage();
    const std::string what = argv[1];
    const bool with_rule = what == "explain" || what == "open" || what == "close" || what == "map";
    if (!with_rule && what != "status" && what != "clear") return usage();
    Rule rule;
    std::string app = "letin";
    bool json = false, raised = false, host = false;
    int next = 2;
    if (with_rule) {
        if (argc < 3) return usage();
        const auto parsed = Rule::parse(argv[next++]);
        if (!parsed) {
            std::fprintf(stderr, "letin: %s is not a port, such as 7000/tcp or 7000-7010/udp\n", argv[2]);
            return 2;
        }
        rule = *parsed;
    }
    for (; next < argc; ++next) {
        const std::string option = argv[next];
        const char* const value = next + 1 < argc ? argv[next + 1] : nullptr;
        if (option == "--json") {
            json = true;
            continue;
        }
        if (option == "--host") {
            host = true;
            continue;
        }
        if (option == "--raise") {
            raised = true;
            continue;
        }
        if (value == nullptr) return usage();
        ++next;
        if (option == "--app")
            app = value;
        else if (option == "--interface" && std::strlen(value) <= 15)
            rule.interface_name = TextView(value);
        else if (option == "--program" && std::strlen(value) <= 1023)
            rule.program = TextView(value);
        else if (option == "--zone" && std::strlen(value) <= 32)
            rule.zone = TextView(value);
        else if (option != "--for" || !parse_duration(value, rule.expiry))
            return usage();
    }
    rule.app = TextView(app.size() <= 32 ? app : std::string());
    if (with_rule && !rule.valid()) {
        std::fprintf(stderr, "letin: no such name, interface or time\n");
        return 2;
    }
    if (raised && !privileged()) raise(argc, argv);

    if (what == "map") return map(rule, host, json);
    Firewall::Options options;
    options.helper = TextView("sudo letin");
    Firewall firewall(options);
    if (what == "clear") {
        const Error error = firewall.clear(rule.app);
        if (error) std::fprintf(stderr, "letin: error %d\n", error.code());
        return error ? 1 : 0;
    }
    const Report report = what == "status"    ? firewall.detect()
                          : what == "explain" ? firewall.explain(rule)
                          : what == "open"    ? firewall.apply(rule)
                                              : firewall.revert(rule);
    json ? print_json(report) : print(report);
    if (what == "status") {
        bool first = true;
        if (json) std::printf(",\"opened\":[");
        const Error error = firewall.each_opening([&](const Rule& one, const JournalEntry* entry) {
            const std::string tag = text(tag_of(one));
            if (json)
                std::printf("%s{\"tag\":%s,\"until\":%lld}", first ? "" : ",", quoted(tag).c_str(),
                            static_cast<long long>(entry == nullptr ? 0 : entry->until));
            else if (entry == nullptr)
                std::printf("opened: %s, by nobody who has noted it\n", tag.c_str());
            else
                std::printf("opened: %s, by user %u, until %lld\n", tag.c_str(), entry->user, static_cast<long long>(entry->until));
            first = false;
        });
        if (json) std::printf("]");
        if (error && !json) std::printf("what was opened cannot be told\n");
    }
    if (json) std::printf("}\n");
    if (what == "open") return report.let_in() ? 0 : 1;
    return report.error ? 1 : 0;
}
