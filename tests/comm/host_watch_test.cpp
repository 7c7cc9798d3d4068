// Hosts that watch each other. Each is a process, or a HostWatch, of its own on this machine; how
// much time has passed is what the tests say.
#include "comm/host_watch.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "base/progress.h"
#include "comm/host_connections.h"

namespace facet {
namespace {

constexpr uint64_t kToken = 4711;
constexpr double kPatience = 60;  // seconds that nothing here should take

int64_t at(double seconds) { return static_cast<int64_t>(1e9 * seconds); }

void pause_a_moment() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

std::pair<HostLink, HostLink> connected() {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  return {HostLink(ends[0], kToken), HostLink(ends[1], kToken)};
}

HostWatch watch_of(int64_t my_host, int64_t other, HostLink link) {
  std::vector<HostWatch::Peer> peers;
  peers.push_back({other, std::move(link)});
  return HostWatch(my_host, std::move(peers), 0);
}

// Host 0 and host 1 at second 0.
struct TwoHosts {
  std::pair<HostLink, HostLink> links = connected();
  HostWatch first = watch_of(0, 1, std::move(links.first));
  std::optional<HostWatch> second = watch_of(1, 0, std::move(links.second));

  void exchange(double seconds) {
    second->exchange(at(seconds));
    first.exchange(at(seconds));
  }
};

TEST(HostWatch, HostsThatBeatAreNotLost) {
  TwoHosts hosts;
  for (int second = 1; second < 100; ++second) {
    hosts.exchange(second);
    EXPECT_FALSE(hosts.first.lost(at(second), 5));
  }
  EXPECT_FALSE(hosts.second->lost(at(99), 5));
  EXPECT_EQ(hosts.first.end_code(), 0);
}

TEST(HostWatch, ASilentHostIsLostAfterTheLimit) {
  TwoHosts hosts;
  hosts.exchange(10);
  EXPECT_FALSE(hosts.first.lost(at(14), 5));
  const auto lost = hosts.first.lost(at(15.5), 5);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->host, 1);
  EXPECT_FALSE(lost->closed);
  EXPECT_NEAR(lost->silent, 5.5, 1e-6);
  EXPECT_FALSE(hosts.first.lost(at(1e6), 0));  // 0: never
}

TEST(HostWatch, AfterAPauseSilenceIsCountedAnew) {
  TwoHosts hosts;
  hosts.exchange(10);
  hosts.first.forgive_silence(at(100));
  EXPECT_FALSE(hosts.first.lost(at(104), 5));
  EXPECT_TRUE(hosts.first.lost(at(106), 5));
}

TEST(HostWatch, AClosedConnectionNeedsNoLimit) {
  auto [mine, theirs] = connected();
  HostWatch watch = watch_of(0, 1, std::move(mine));
  theirs.send(HostFrame::Kind::kBeat);
  theirs.close();
  watch.exchange(at(7));
  EXPECT_FALSE(watch.lost(at(7.1), 0));  // a launcher may be ending all
  const auto lost = watch.lost(at(7.5), 0);
  ASSERT_TRUE(lost);
  EXPECT_TRUE(lost->closed);
  EXPECT_EQ(lost->host, 1);
}

TEST(HostWatch, WhoSaysGoodbyeIsNotMissed) {
  TwoHosts hosts;
  hosts.second->say_goodbye();
  hosts.second.reset();  // its process ends
  hosts.first.exchange(at(1));
  EXPECT_FALSE(hosts.first.lost(at(100), 5));
}

TEST(HostWatch, TheEndIsHandedOn) {
  TwoHosts hosts;
  hosts.second->end(88);
  hosts.second.reset();
  hosts.first.exchange(at(1));
  EXPECT_EQ(hosts.first.end_code(), 88);
}

TEST(HostWatch, WordsOfStrangersCountAsNone) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  HostLink stranger(ends[0], kToken + 1);
  HostWatch watch = watch_of(0, 1, HostLink(ends[1], kToken));
  stranger.send(HostFrame::Kind::kEnd, 88);
  watch.exchange(at(1));
  EXPECT_EQ(watch.end_code(), 0);
}

TEST(HostWatch, ASideThatDoesNotReadBlocksNobody) {
  auto [mine, theirs] = connected();
  HostWatch watch = watch_of(0, 1, std::move(mine));
  for (int second = 1; second < 100'000; ++second) watch.exchange(at(second));
  watch.end(86);
  EXPECT_TRUE(watch.lost(at(100'000), 5));
}

// A process that plays host 1: connects over TCP and beats until it is killed.
class HostOne {
 public:
  explicit HostOne(const std::string& addresses) : pid_(fork()) {
    if (pid_ != 0) return;
    HostLink link = connect_to_host_0(addresses, kToken, 1, kPatience);
    if (link.socket() < 0) _exit(1);
    HostWatch watch = watch_of(1, 0, std::move(link));
    for (;; pause_a_moment()) watch.exchange(steady_now());
  }
  ~HostOne() {
    send(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  HostOne(const HostOne&) = delete;
  HostOne& operator=(const HostOne&) = delete;
  void send(int signal) const { kill(pid_, signal); }

 private:
  pid_t pid_;
};

// Host 0, which has just accepted host 1.
HostWatch watch_over(HostListener& listener) {
  std::vector<HostWatch::Peer> peers = listener.accept(2, kPatience);
  EXPECT_EQ(peers.size(), 1);
  return HostWatch(0, std::move(peers), steady_now());
}

std::optional<LostHost> lost_in_the_end(HostWatch& watch, double most_silent) {
  for (const int64_t begin = steady_now(); steady_now() - begin < at(kPatience); pause_a_moment()) {
    watch.exchange(steady_now());
    if (const auto lost = watch.lost(steady_now(), most_silent)) return lost;
  }
  return std::nullopt;
}

TEST(HostWatch, AProcessThatDiesIsNoticedAtOnce) {
  HostListener listener(kToken);
  const HostOne other(listener.addresses());
  HostWatch watch = watch_over(listener);
  watch.exchange(steady_now());
  EXPECT_FALSE(watch.lost(steady_now(), 0));
  const int64_t begin = steady_now();
  other.send(SIGKILL);
  const auto lost = lost_in_the_end(watch, 0);
  ASSERT_TRUE(lost);
  EXPECT_TRUE(lost->closed);
  EXPECT_LT(steady_now() - begin, at(30));
}

TEST(HostWatch, AHostThatStopsAnsweringIsLost) {
  HostListener listener(kToken);
  const HostOne other(listener.addresses());
  HostWatch watch = watch_over(listener);
  other.send(SIGSTOP);
  const auto lost = lost_in_the_end(watch, 2);
  ASSERT_TRUE(lost);
  EXPECT_FALSE(lost->closed);
  EXPECT_GE(lost->silent, 2);
}

TEST(HostConnections, WithoutAnAnswerThereIsNoLink) {
  HostListener listener(kToken + 1);  // of another job
  std::thread accepts([&] { EXPECT_TRUE(listener.accept(2, 0.5).empty()); });
  EXPECT_LT(connect_to_host_0(listener.addresses(), kToken, 1, 0.5).socket(), 0);
  accepts.join();
  EXPECT_LT(connect_to_host_0("", kToken, 1, 0.5).socket(), 0);
  EXPECT_LT(connect_to_host_0("1 127.0.0.1 not-an-address", kToken, 1, 0.5).socket(), 0);
}

// Every rank is a host of its own; all end up connected to the first.
TEST(HostConnections, AllHostsAreConnected) {
  Communicator world(MPI_COMM_WORLD);
  HostConnections hosts = connect_hosts(world, {world.rank()});
  ASSERT_EQ(std::ssize(hosts.ranks), world.size());
  EXPECT_EQ(hosts.my_host, world.rank());
  EXPECT_EQ(hosts.ranks.back(), std::vector<int64_t>{world.size() - 1});
  if (world.size() == 1) return;
  ASSERT_TRUE(hosts.watch);
  // The last one ends the job: host 0 hears of it and tells the rest.
  if (world.rank() == world.size() - 1) hosts.watch->end(88);
  while (hosts.watch->end_code() == 0 && world.rank() < world.size() - 1) {
    hosts.watch->exchange(steady_now());
    if (world.rank() == 0 && hosts.watch->end_code() != 0) hosts.watch->end(88);
    pause_a_moment();
  }
  world.sum(int64_t{1});
  EXPECT_FALSE(hosts.watch->lost(steady_now(), 0));
}

// The last host may open nothing.
TEST(HostConnections, AHostThatCannotConnectIsNamed) {
  Communicator world(MPI_COMM_WORLD);
  const int64_t last = world.size() - 1;
  if (last == 0) return;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit none{0, limit.rlim_max};
  testing::internal::CaptureStderr();
  if (world.rank() == last) setrlimit(RLIMIT_NOFILE, &none);
  HostConnections hosts = connect_hosts(world, {world.rank()}, 0.5);
  if (world.rank() == last) setrlimit(RLIMIT_NOFILE, &limit);
  const std::string warning = testing::internal::GetCapturedStderr();
  EXPECT_EQ(warning.find(fmt::format("the hosts of ranks {} have no TCP connection", last)) !=
                warning.npos,
            world.rank() == 0)
      << warning;
  EXPECT_FALSE(world.rank() == last && hosts.watch->lost(steady_now() + at(1e6), 5));
  world.sum(int64_t{1});
}

TEST(HostConnections, OneHostNeedsNone) {
  Communicator world(MPI_COMM_WORLD);
  std::vector<int64_t> all;
  for (int rank = 0; rank < world.size(); ++rank) all.push_back(rank);
  EXPECT_FALSE(connect_hosts(world, all).watch);
}

}  // namespace
}  // namespace facet
