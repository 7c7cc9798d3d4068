// Where every rank of this node stands, in memory that its processes share: a stopped or dead
// neighbour can still be read.
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/hang_verdict.h"

namespace facet {

class ProgressBoard {
 public:
  // Collective. From here to its end this process writes its progress into the board. What can't be
  // had is a CollectiveError.
  ProgressBoard(Communicator& world, const std::string& host);
  ~ProgressBoard();
  ProgressBoard(const ProgressBoard&) = delete;
  ProgressBoard& operator=(const ProgressBoard&) = delete;

  // Of all ranks of the node, in order. Nobody counts as idle since before `watched_since` (ns of
  // the steady clock): then the whole job may have been stopped.
  std::vector<RankProgress> positions(int64_t watched_since) const;

  // True for one process of the node: it speaks for all.
  bool claim_report();
  // The processes of the node agree on an end: 0 while there is none.
  void end_job(int code);
  int job_end() const;

 private:
  struct Entry;
  struct Board;

  void map(const std::string& name, const std::string& host);

  int rank_, size_;
  size_t bytes_ = 0;
  Board* board_ = nullptr;
  std::vector<int> ranks_;  // of this node
};

// As the system knows the process.
ProcessState process_state(int64_t pid);

}  // namespace facet
