// The place that facet export writes to: one export at a time, and what a killed one has left
// there.
#pragma once

#include <memory>
#include <string>

#include "job/run_lock.h"

namespace facet {

// Holds TO.exporting/run.lock (job/run_lock.h) as long as it lives. A killed export leaves that
// directory and TO.partial-PID; the next one to the same place takes the lock over and removes what
// that process had written. What other processes have there, it only tells of.
class ExportPlace {
 public:
  // kConfig if another export, on any host, is writing to the same place. kIo.
  explicit ExportPlace(std::string to);
  ~ExportPlace();
  ExportPlace(const ExportPlace&) = delete;
  ExportPlace& operator=(const ExportPlace&) = delete;

 private:
  void remove_left_overs() const;

  const std::string to_;
  const std::string lock_directory_;
  std::unique_ptr<RunLock> lock_;
};

// Where something lies at TO already: removes TO.exporting if an export that was killed after it
// had published left it there. What cannot be removed stays.
void tidy_published(const std::string& to);

}  // namespace facet
