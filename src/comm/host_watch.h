// Do the job's other hosts live? The watchdogs of the first ranks of all hosts send each other a
// beat a second over TCP: those of all other hosts and the one of host 0, which tells the others
// when a host is lost. No MPI, and nothing here blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/host_link.h"

namespace facet {

struct LostHost {
  int64_t host = 0;
  double silent = 0;    // seconds since it was last heard
  bool closed = false;  // its process is gone, for the system has closed the connection
};

class HostWatch {
 public:
  struct Peer {
    int64_t host;
    HostLink link;
  };
  // All times are ns of the steady clock.
  HostWatch(int64_t my_host, std::vector<Peer> peers, int64_t now);

  // Sends and receives what is due.
  void exchange(int64_t now);
  // The exit code with which another host has ended the job; 0: none.
  int end_code() const { return end_code_; }
  // A host whose connection has been closed without a goodbye, or that has been silent for longer
  // than `most_silent` seconds (0: that is no matter). Of several the one that is surest.
  std::optional<LostHost> lost(int64_t now, double most_silent) const;
  // This process was stopped until now: that it heard nothing is not the others' fault.
  void forgive_silence(int64_t now);

  void say_goodbye();  // once, however often it is called
  // Tells all others that the job ends with this code.
  void end(int code);

 private:
  struct Known {
    Peer peer;
    int64_t heard;       // when
    int64_t closed = 0;  // when; 0: it is open
    bool has_left = false;
  };

  void take(Known& known, int64_t now);
  double grace_for_closing() const;

  const int64_t my_host_;
  std::vector<Known> hosts_;
  int64_t sent_ = 0;  // when
  int end_code_ = 0;
  bool has_said_goodbye_ = false;
};

}  // namespace facet
