#include "comm/host_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace facet {

namespace {

static_assert(sizeof(HostFrame) == 16, "the frame is sent as it lies in memory");

bool try_later(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

bool known(HostFrame::Kind kind) {
  return kind >= HostFrame::Kind::kHello && kind <= HostFrame::Kind::kEnd;
}

}  // namespace

HostLink::HostLink(HostLink&& other) noexcept { *this = std::move(other); }

HostLink& HostLink::operator=(HostLink&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(token_, other.token_);
  std::swap(closed_, other.closed_);
  std::swap(unsent_, other.unsent_);
  std::swap(received_, other.received_);
  return *this;
}

// What has been sent still arrives, unless the other side is told by a reset that what it sent was
// not read: so that is read first.
void HostLink::close() {
  if (socket_ < 0) return;
  receive();
  ::shutdown(socket_, SHUT_WR);
  ::close(socket_);
  socket_ = -1;
  closed_ = true;
}

void HostLink::send(HostFrame::Kind kind, int64_t value) {
  constexpr size_t kMostUnsent = 4096;  // of a side that does not read: it misses beats only
  if (kind == HostFrame::Kind::kBeat && unsent_.size() >= kMostUnsent) return;
  const HostFrame frame{kind, static_cast<int32_t>(value), token_};
  unsent_.append(reinterpret_cast<const char*>(&frame), sizeof frame);
  flush();
}

void HostLink::flush() {
  while (!unsent_.empty() && socket_ >= 0) {
    const ssize_t count =
        ::send(socket_, unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      unsent_.erase(0, static_cast<size_t>(count));
      continue;
    }
    if (!try_later(errno)) unsent_.clear();  // receive() will find it closed
    return;
  }
}

std::vector<HostFrame> HostLink::receive() {
  std::array<char, 1024> piece;
  while (!closed_ && socket_ >= 0) {
    const ssize_t count = ::recv(socket_, piece.data(), piece.size(), MSG_DONTWAIT);
    if (count < 0 && try_later(errno)) break;
    if (count > 0)
      received_.append(piece.data(), static_cast<size_t>(count));
    else
      closed_ = true;
  }
  std::vector<HostFrame> frames(received_.size() / sizeof(HostFrame));
  const size_t bytes = frames.size() * sizeof(HostFrame);
  if (bytes > 0) std::memcpy(frames.data(), received_.data(), bytes);
  received_.erase(0, bytes);
  for (size_t i = 0; i < frames.size(); ++i) {
    if (frames[i].token == token_ && known(frames[i].kind)) continue;
    closed_ = true;
    frames.resize(i);
  }
  return frames;
}

}  // namespace facet
