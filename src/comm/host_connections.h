// Connects the watchdogs of a job's hosts at its start.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/host_watch.h"

namespace facet {

struct HostConnections {
  std::vector<std::vector<int64_t>> ranks;  // of each host
  int64_t my_host = 0;
  std::unique_ptr<HostWatch> watch;  // on each host's first rank, if there is another host
};

// Collective. `ranks_here` are this host's in ascending order, as its progress board has them. The
// first rank of host 0 listens on a port that the system chooses, on all its addresses; the first
// ranks of the others connect to whichever answers in time: a firewall may swallow what is sent.
// Those that cannot are named in a warning: their end will not be noticed from other hosts.
HostConnections connect_hosts(Communicator& world, const std::vector<int64_t>& ranks_here,
                              double seconds = 8);

// The two halves. `addresses`: "PORT ADDRESS ADDRESS ..."; `seconds`: how long they try.
class HostListener {
 public:
  explicit HostListener(uint64_t token);
  ~HostListener();
  HostListener(const HostListener&) = delete;
  HostListener& operator=(const HostListener&) = delete;

  const std::string& addresses() const { return addresses_; }  // empty: it cannot listen
  // The hosts that have connected, until all `hosts` (this one, 0, among them) are there.
  std::vector<HostWatch::Peer> accept(int64_t hosts, double seconds);

 private:
  const uint64_t token_;
  int socket_ = -1;
  std::string addresses_;
};
// Closed if none of the addresses answers.
HostLink connect_to_host_0(const std::string& addresses, uint64_t token, int64_t my_host,
                           double seconds);

}  // namespace facet
