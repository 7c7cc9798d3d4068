#include "train/recording_source.h"

#include <utility>

#include "base/log.h"
#include "comm/mpi_session.h"

namespace facet {

RecordingSource::RecordingSource(BatchSource& source, int64_t steps, std::string path,
                                 Communicator& world)
    : source_(source), path_(std::move(path)), world_(world), recorder_(steps) {}

std::span<const MicroBatch> RecordingSource::fetch_step(int64_t epoch, int64_t step) {
  const std::span<const MicroBatch> batches = source_.fetch_step(epoch, step);
  if (!complete()) recorder_.record(batches);
  return batches;
}

void RecordingSource::write() {
  for (int turn = 0; turn < world_.size(); ++turn)
    collectively(world_, [&] {
      if (turn == world_.rank()) recorder_.write(path_, world_.rank(), world_.size());
    });
  written_ = true;
  log("recorded micro-batches are in {}", path_);
}

}  // namespace facet
