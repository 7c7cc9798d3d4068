#include "comm/host_watch.h"

#include <poll.h>

#include <utility>

namespace facet {

namespace {

constexpr int64_t kBeat = 1'000'000'000;  // ns

double seconds(int64_t ns) { return 1e-9 * static_cast<double>(ns); }

}  // namespace

HostWatch::HostWatch(int64_t my_host, std::vector<Peer> peers, int64_t now) : my_host_(my_host) {
  for (Peer& peer : peers) hosts_.push_back({std::move(peer), now});
}

void HostWatch::exchange(int64_t now) {
  std::vector<pollfd> sockets;
  for (const Known& known : hosts_)
    sockets.push_back({known.closed != 0 ? -1 : known.peer.link.socket(), POLLIN, 0});
  ::poll(sockets.data(), sockets.size(), 0);
  for (size_t i = 0; i < hosts_.size(); ++i)
    if (sockets[i].revents != 0) take(hosts_[i], now);
  if (now - sent_ < kBeat) return;
  sent_ = now;
  for (Known& known : hosts_) known.peer.link.send(HostFrame::Kind::kBeat);
}

void HostWatch::take(Known& known, int64_t now) {
  for (const HostFrame& frame : known.peer.link.receive()) {
    known.heard = now;
    if (frame.kind == HostFrame::Kind::kGoodbye) known.has_left = true;
    if (frame.kind == HostFrame::Kind::kEnd) end_code_ = frame.value;
  }
  if (known.peer.link.closed()) known.closed = now;
}

// A launcher that kills all processes of the job reaches some of them first: those are not the
// cause. Where host 0 is lost, every host notices; the others leave it to host 1 to say so.
double HostWatch::grace_for_closing() const { return my_host_ > 1 ? 3 : 0.3; }

std::optional<LostHost> HostWatch::lost(int64_t now, double most_silent) const {
  std::optional<LostHost> lost;
  for (const Known& known : hosts_) {
    if (known.has_left) continue;
    const LostHost host{known.peer.host, seconds(now - known.heard), known.closed != 0};
    if (host.closed) {
      if (seconds(now - known.closed) >= grace_for_closing()) return host;
    } else if (most_silent > 0 && host.silent >= most_silent + grace_for_closing()) {
      if (!lost || host.silent > lost->silent) lost = host;
    }
  }
  return lost;
}

void HostWatch::forgive_silence(int64_t now) {
  for (Known& known : hosts_) known.heard = now;
}

void HostWatch::say_goodbye() {
  if (std::exchange(has_said_goodbye_, true)) return;
  for (Known& known : hosts_) known.peer.link.send(HostFrame::Kind::kGoodbye);
}

void HostWatch::end(int code) {
  for (Known& known : hosts_) known.peer.link.send(HostFrame::Kind::kEnd, code);
}

}  // namespace facet
