#include "comm/host_connections.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <sstream>
#include <thread>

#include "base/log.h"
#include "base/timer.h"
#include "comm/hang_verdict.h"

namespace facet {

namespace {

using Kind = HostFrame::Kind;

constexpr std::chrono::milliseconds kPause{10};

// An IPv4 or IPv6 address with a port, as the system's calls take it.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress address_of(const std::string& text, uint16_t port) {
  SocketAddress address;
  auto* const four = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* const six = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, text.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    address.length = sizeof *four;
  } else if (inet_pton(AF_INET6, text.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    address.length = sizeof *six;
  }
  return address;
}

std::string text_of(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address->sa_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof text);
  } else {
    const in6_addr& six = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    // One that counts on one link only would need the name of the other side's interface.
    if (!IN6_IS_ADDR_LINKLOCAL(&six)) inet_ntop(AF_INET6, &six, text, sizeof text);
  }
  return text;
}

// Those of all interfaces that are up; loopback too: host names need not mean machines.
std::string addresses_of_this_machine() {
  constexpr int kMost = 32;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return "";
  std::string all;
  int count = 0;
  for (const ifaddrs* entry = first; entry != nullptr && count < kMost; entry = entry->ifa_next) {
    const sockaddr* const address = entry->ifa_addr;
    if (address == nullptr || (entry->ifa_flags & IFF_UP) == 0) continue;
    if (address->sa_family != AF_INET && address->sa_family != AF_INET6) continue;
    const std::string text = text_of(address);
    if (text.empty()) continue;
    all += " " + text;
    ++count;
  }
  ::freeifaddrs(first);
  return all;
}

// For IPv6 and IPv4 at once, where the system has IPv6; -1 if it has neither.
int listening_socket() {
  constexpr int kKind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  for (const auto& [family, any] : {std::pair(AF_INET6, "::"), std::pair(AF_INET, "0.0.0.0")}) {
    const int socket = ::socket(family, kKind, 0);
    if (socket < 0) continue;
    const int both = 0;
    if (family == AF_INET6) ::setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
    const SocketAddress address = address_of(any, 0);
    if (::bind(socket, address.get(), address.length) == 0 && ::listen(socket, SOMAXCONN) == 0)
      return socket;
    ::close(socket);
  }
  return -1;
}

uint16_t port_of(int socket) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0)
    return 0;
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

// A connection to each other host needs a file descriptor.
void allow_open_files(int64_t hosts) {
  constexpr int64_t kOthers = 512;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const auto needed = static_cast<rlim_t>(hosts + kOthers);
  if (limit.rlim_cur >= needed) return;
  limit.rlim_cur = std::min(needed, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// A connection that host 0 has accepted, of a host that it may not know yet.
struct Caller {
  HostLink link;
  int64_t host = -1;
  bool chosen = false;

  void hear(int64_t hosts) {
    link.flush();
    for (const HostFrame& frame : link.receive()) {
      if (frame.kind == Kind::kHello && frame.value > 0 && frame.value < hosts) {
        host = frame.value;
        link.send(Kind::kWelcome);
      }
      if (frame.kind == Kind::kChosen && host > 0) chosen = true;
    }
  }
};

// The hosts by the first rank of each; fills what all ranks know.
HostConnections group_ranks(Communicator& world, const std::vector<int64_t>& ranks_here) {
  HostConnections hosts;
  const auto mine = static_cast<double>(ranks_here.front());
  const std::span<const double> first_of = world.all_gather(std::span(&mine, 1));
  std::vector<int64_t> firsts;
  for (size_t rank = 0; rank < first_of.size(); ++rank) {
    const auto first = static_cast<int64_t>(first_of[rank]);
    const auto at = std::find(firsts.begin(), firsts.end(), first);
    const auto host = static_cast<size_t>(at - firsts.begin());
    if (at == firsts.end()) {
      firsts.push_back(first);
      hosts.ranks.emplace_back();
    }
    hosts.ranks[host].push_back(static_cast<int64_t>(rank));
    if (first == ranks_here.front()) hosts.my_host = static_cast<int64_t>(host);
  }
  return hosts;
}

// Rank 0's number, for all.
uint64_t common_token(Communicator& world) {
  std::random_device random;
  const auto token = static_cast<int64_t>((uint64_t{random()} << 32) | random());
  return static_cast<uint64_t>(world.broadcast(token, 0));
}

void warn_of_missing(const HostConnections& hosts, const std::string& connected) {
  std::vector<int64_t> missing;
  for (size_t host = 1; host < hosts.ranks.size(); ++host)
    if (connected[host] == '0')
      missing.insert(missing.end(), hosts.ranks[host].begin(), hosts.ranks[host].end());
  if (missing.empty()) return;
  warn(
      "the hosts of ranks {} have no TCP connection to that of rank 0 (a firewall?): if they die, "
      "and the launcher does not end the job, it hangs for --hang_seconds_collective",
      rank_list(missing));
}

}  // namespace

HostListener::HostListener(uint64_t token) : token_(token), socket_(listening_socket()) {
  if (socket_ >= 0) addresses_ = fmt::format("{}{}", port_of(socket_), addresses_of_this_machine());
}

HostListener::~HostListener() {
  if (socket_ >= 0) ::close(socket_);
}

std::vector<HostWatch::Peer> HostListener::accept(int64_t hosts, double seconds) {
  allow_open_files(hosts);
  std::vector<Caller> callers;
  const auto chosen = [&] {
    return std::count_if(callers.begin(), callers.end(), [](const auto& c) { return c.chosen; });
  };
  for (const Timer timer; chosen() < hosts - 1 && timer.seconds() < seconds;) {
    for (int socket;
         (socket = ::accept4(socket_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
      callers.push_back({HostLink(socket, token_)});
    for (Caller& caller : callers) caller.hear(hosts);
    std::erase_if(callers, [](const Caller& caller) { return caller.link.closed(); });
    std::this_thread::sleep_for(kPause);
  }
  std::vector<HostWatch::Peer> peers;
  for (Caller& caller : callers)
    if (caller.chosen) peers.push_back({caller.host, std::move(caller.link)});
  return peers;
}

HostLink connect_to_host_0(const std::string& addresses, uint64_t token, int64_t my_host,
                           double seconds) {
  std::vector<HostLink> links;
  std::istringstream words(addresses);
  uint16_t port = 0;
  words >> port;
  for (std::string word; words >> word;) {
    const SocketAddress address = address_of(word, port);
    const int socket =
        ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (socket < 0) continue;
    HostLink& link = links.emplace_back(socket, token);
    static_cast<void>(::connect(socket, address.get(), address.length));  // goes on by itself
    link.send(Kind::kHello, my_host);
  }
  for (const Timer timer; !links.empty() && timer.seconds() < seconds;) {
    for (HostLink& link : links) {
      link.flush();
      const std::vector<HostFrame> frames = link.receive();
      if (frames.empty() || frames.front().kind != Kind::kWelcome) continue;
      link.send(Kind::kChosen);
      return std::move(link);
    }
    std::erase_if(links, [](const HostLink& link) { return link.closed(); });
    std::this_thread::sleep_for(kPause);
  }
  return {};
}

HostConnections connect_hosts(Communicator& world, const std::vector<int64_t>& ranks_here,
                              double seconds) {
  HostConnections hosts = group_ranks(world, ranks_here);
  const auto count = std::ssize(hosts.ranks);
  if (count == 1) return hosts;
  const uint64_t token = common_token(world);
  std::optional<HostListener> listener;
  if (world.rank() == 0) listener.emplace(token);
  std::string addresses = listener ? listener->addresses() : "";
  world.broadcast(addresses, 0);
  const bool is_first = world.rank() == ranks_here.front();
  std::vector<HostWatch::Peer> peers;
  if (listener)
    peers = listener->accept(count, addresses.empty() ? 0 : seconds + 1);
  else if (is_first)
    peers.push_back({0, connect_to_host_0(addresses, token, hosts.my_host, seconds)});
  std::string connected(static_cast<size_t>(count), '0');  // what host 0 has counts
  if (listener)
    for (const HostWatch::Peer& peer : peers) connected[static_cast<size_t>(peer.host)] = '1';
  world.broadcast(connected, 0);
  if (world.rank() == 0) warn_of_missing(hosts, connected);
  if (!listener && connected[static_cast<size_t>(hosts.my_host)] == '0') peers.clear();
  if (is_first)
    hosts.watch = std::make_unique<HostWatch>(hosts.my_host, std::move(peers), steady_now());
  return hosts;
}

}  // namespace facet
