#include "data/replay.h"

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "io/hdf5_file.h"

namespace facet {

namespace {

constexpr int64_t kVersion = 1;
constexpr int32_t kMaxDatasets = 1000;  // larger indices are rejected

std::string group_of(int64_t rank, size_t micro_batch) {
  return fmt::format("rank_{}/micro_batch_{}/", rank, micro_batch);
}

int64_t length(const auto& values) { return static_cast<int64_t>(values.size()); }

void write_batch(Hdf5File& file, const std::string& group, const MicroBatch& batch) {
  const auto write = [&](const char* name, const auto& values) {
    file.write(group + name, values.data(), {length(values)});
  };
  write("token_ids", batch.token_ids);
  write("labels", batch.labels);
  write("sample_begin", batch.sample_begin);
  write("images_per_sample", batch.images_per_sample);
  write("sample_ids", batch.sample_ids);
  write("dataset_of_sample", batch.dataset_of_sample);
  const int64_t size = batch.image_size;
  if (batch.num_images() > 0)
    file.write(group + "pixels", batch.pixels.data(), {batch.num_images(), 3, size, size});
}

// Checks that the model will not read out of bounds.
void check_batch(const MicroBatch& batch, const std::string& place) {
  const auto check = [&](bool fine, const char* what) {
    CHECK(fine, ExitCode::kBadData, "{}: {}", place, what);
  };
  check(batch.labels.size() == batch.token_ids.size(), "labels and token_ids differ in length");
  const std::vector<int32_t>& begin = batch.sample_begin;
  check(!begin.empty() && begin.front() == 0 && begin.back() == batch.num_tokens() &&
            std::is_sorted(begin.begin(), begin.end()),
        "sample_begin does not ascend from 0 to the number of tokens");
  const auto samples = static_cast<size_t>(batch.num_samples());
  check(batch.images_per_sample.size() == samples,
        "images_per_sample does not have one entry per sample");
  check(batch.sample_ids.size() == samples, "sample_ids does not have one entry per sample");
  check(batch.dataset_of_sample.size() == samples,
        "dataset_of_sample does not have one entry per sample");
  for (size_t b = 0; b < samples; ++b)
    check(std::count(batch.token_ids.begin() + begin[b], batch.token_ids.begin() + begin[b + 1],
                     batch.image_token_id) == batch.images_per_sample[b],
          "a sample's image tokens do not match images_per_sample");
  for (size_t t = 0; t < batch.labels.size(); ++t)
    check(batch.labels[t] == kIgnoredLabel || batch.labels[t] == batch.token_ids[t],
          "a label is neither its token's id nor -100");
}

MicroBatch read_batch(const Hdf5File& file, const std::string& path, const std::string& group,
                      int32_t image_token_id, int32_t image_size) {
  CHECK(file.exists(group + "token_ids"), ExitCode::kBadData, "{}: no data set {}token_ids", path,
        group);
  MicroBatch batch;
  batch.image_token_id = image_token_id;
  batch.image_size = image_size;
  batch.token_ids = file.read_i32(group + "token_ids");
  batch.labels = file.read_i32(group + "labels");
  batch.sample_begin = file.read_i32(group + "sample_begin");
  batch.images_per_sample = file.read_i32(group + "images_per_sample");
  const size_t samples = batch.images_per_sample.size();
  batch.sample_ids.resize(samples);
  batch.dataset_of_sample.resize(samples);
  if (file.exists(group + "sample_ids")) batch.sample_ids = file.read_i64(group + "sample_ids");
  if (file.exists(group + "dataset_of_sample"))
    batch.dataset_of_sample = file.read_i32(group + "dataset_of_sample");
  check_batch(batch, path + ": " + group);
  if (batch.num_images() > 0) {
    const std::vector<int64_t> expected = {batch.num_images(), 3, image_size, image_size};
    CHECK(file.shape(group + "pixels") == expected, ExitCode::kBadData,
          "{}: {}pixels: expected the shape ({}, 3, {}, {})", path, group, expected[0], image_size,
          image_size);
    batch.pixels = file.read_f32(group + "pixels");
  }
  return batch;
}

int64_t read_scalar(const Hdf5File& file, const std::string& path, const std::string& name) {
  CHECK(file.exists(name), ExitCode::kBadData,
        "{}: no data set {}; is it a file that --dump_batches wrote?", path, name);
  const std::vector<int64_t> values = file.read_i64(name);
  CHECK(values.size() == 1, ExitCode::kBadData, "{}: {} has {} values instead of one", path, name,
        values.size());
  return values[0];
}

int32_t read_size(const Hdf5File& file, const std::string& path, const std::string& name) {
  const int64_t value = read_scalar(file, path, name);
  CHECK(value >= 0 && value <= INT32_MAX, ExitCode::kBadData, "{}: {} is {}", path, name, value);
  return static_cast<int32_t>(value);
}

// First micro-batch of every step, and their number at the end: (steps + 1).
std::vector<int64_t> step_begins(const std::vector<int64_t>& step, const std::string& path) {
  CHECK(!step.empty(), ExitCode::kBadData, "{}: holds no micro-batches", path);
  std::vector<int64_t> begins;
  for (size_t m = 0; m < step.size(); ++m) {
    if (step[m] == length(begins)) begins.push_back(static_cast<int64_t>(m));
    CHECK(step[m] == length(begins) - 1, ExitCode::kBadData,
          "{}: step[{}] is {}; steps begin at 0 and increase by 0 or 1", path, m, step[m]);
  }
  begins.push_back(length(step));
  return begins;
}

}  // namespace

void BatchRecorder::record(std::span<const MicroBatch> micro_batches) {
  if (full()) return;
  for (const MicroBatch& batch : micro_batches) {
    batches_.push_back(batch);
    steps_.push_back(num_steps_);
  }
  ++num_steps_;
}

void BatchRecorder::write(const std::string& path, int64_t rank, int64_t ranks) const {
  ASSERT(!batches_.empty(), "nothing was recorded");
  if (rank == 0) std::filesystem::remove(path);  // a link of that name is not followed
  Hdf5File file = rank == 0 ? Hdf5File::create(path) : Hdf5File::append(path);
  if (rank == 0) {
    const auto write = [&](const char* name, int64_t value) { file.write(name, &value, {1}); };
    write("version", kVersion);
    write("ranks", ranks);
    write("image_token_id", batches_[0].image_token_id);
    write("image_size", batches_[0].image_size);
    file.write("step", steps_.data(), {length(steps_)});
  }
  for (size_t m = 0; m < batches_.size(); ++m) write_batch(file, group_of(rank, m), batches_[m]);
  file.close();
}

Replay::Replay(const std::string& path, int64_t rank, int64_t ranks) {
  const Hdf5File file = Hdf5File::open(path);
  const int64_t version = read_scalar(file, path, "version");
  CHECK(version == kVersion, ExitCode::kBadData, "{}: version {} of the format, not {}", path,
        version, kVersion);
  const int64_t recorded = read_scalar(file, path, "ranks");
  CHECK(recorded == ranks, ExitCode::kConfig,
        "{}: recorded on {} ranks, this run has {}; start it with {} ranks", path, recorded, ranks,
        recorded);
  image_token_id_ = read_size(file, path, "image_token_id");
  image_size_ = read_size(file, path, "image_size");
  step_begin_ = step_begins(file.read_i64("step"), path);
  for (size_t m = 0; m < static_cast<size_t>(step_begin_.back()); ++m)
    batches_.push_back(read_batch(file, path, group_of(rank, m), image_token_id_, image_size_));
  look_at_all_ranks(file, path, ranks);
}

// Every rank must reach the same verdict and the same number of data sets.
void Replay::look_at_all_ranks(const Hdf5File& file, const std::string& path, int64_t ranks) {
  bool labelled = false;
  for (int64_t rank = 0; rank < ranks; ++rank)
    for (size_t m = 0; m < batches_.size(); ++m) {
      const std::string group = group_of(rank, m);
      for (const int32_t label : file.read_i32(group + "labels"))
        labelled |= label != kIgnoredLabel;
      if (!file.exists(group + "dataset_of_sample")) continue;
      for (const int32_t dataset : file.read_i32(group + "dataset_of_sample")) {
        CHECK(dataset >= 0 && dataset < kMaxDatasets, ExitCode::kBadData,
              "{}: {}dataset_of_sample holds {}", path, group, dataset);
        num_datasets_ = std::max(num_datasets_, dataset + 1);
      }
    }
  CHECK(labelled, ExitCode::kBadData,
        "{}: every label is {}; there is nothing to learn from this file", path, kIgnoredLabel);
}

std::span<const MicroBatch> Replay::fetch_step(int64_t /*epoch*/, int64_t step) {
  ASSERT(step >= 0 && step < steps_per_epoch(), "step {} of {}", step, steps_per_epoch());
  const auto begin = static_cast<size_t>(step_begin_[static_cast<size_t>(step)]);
  const auto end = static_cast<size_t>(step_begin_[static_cast<size_t>(step) + 1]);
  return {batches_.data() + begin, batches_.data() + end};
}

const MicroBatch& Replay::fetch_evaluation(int64_t micro_batch) {
  ASSERT(false, "a recorded file has no evaluation split; micro-batch {} was asked for",
         micro_batch);
}

}  // namespace facet
