// The progress of every rank of this host, in memory shared by its processes, so that the progress
// of a stopped or dead process can still be read. A host is one by its name: processes of one
// machine that take it for several hosts have a board each.
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/hang_verdict.h"

namespace facet {

class ProgressBoard {
 public:
  // Collective. For the lifetime of the board this process writes its progress into it. Throws
  // CollectiveError if there is no shared memory.
  ProgressBoard(Communicator& world, const std::string& host);
  ~ProgressBoard();
  ProgressBoard(const ProgressBoard&) = delete;
  ProgressBoard& operator=(const ProgressBoard&) = delete;

  // The ranks of this host, in ascending order.
  const std::vector<int64_t>& ranks() const { return ranks_; }

  // The progress of all ranks of the node, in rank order. No rank counts as idle since before
  // `watched_since` (ns of the steady clock): the whole job may have been stopped then.
  std::vector<RankProgress> read(int64_t watched_since) const;

  // True for one process of the node, which prints the report.
  bool claim_report();
  // The exit code that ends all processes of the node; 0 while there is none.
  void end_job(int code);
  int job_end() const;
  // A process of the node ends the job because of an error, by the launcher.
  void note_abort();
  bool aborts() const;

 private:
  struct Entry;
  struct Board;

  void map(const std::string& name, const std::string& host);

  int rank_, size_;
  size_t bytes_ = 0;
  Board* board_ = nullptr;
  std::vector<int64_t> ranks_;
};

// The process as /proc describes it.
ProcessState process_state(int64_t pid);

}  // namespace facet
