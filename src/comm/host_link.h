// A TCP connection between the watchdogs of two hosts: frames of 16 bytes, and nothing here blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet {

struct HostFrame {
  enum class Kind : uint32_t {
    kHello = 1,  // I am host `value`
    kWelcome,
    kChosen,   // of several connections this one is kept
    kBeat,     // I live
    kGoodbye,  // my end is no failure
    kEnd,      // the job ends with exit code `value`
  };
  Kind kind = Kind::kBeat;
  int32_t value = 0;
  uint64_t token = 0;  // of the job: others may connect by mistake
};

class HostLink {
 public:
  HostLink() = default;
  // Takes a socket that does not block; it may still be connecting.
  HostLink(int socket, uint64_t token) : socket_(socket), token_(token) {}
  ~HostLink() { close(); }
  HostLink(HostLink&& other) noexcept;
  HostLink& operator=(HostLink&& other) noexcept;

  int socket() const { return socket_; }
  // No more can come: the other side has closed it, or sent what is not from this job.
  bool closed() const { return closed_; }
  void close();

  void send(HostFrame::Kind kind, int64_t value = 0);
  void flush();  // what could not be sent at once
  std::vector<HostFrame> receive();

 private:
  int socket_ = -1;
  uint64_t token_ = 0;
  bool closed_ = false;
  std::string unsent_, received_;
};

}  // namespace facet
