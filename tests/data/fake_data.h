// Data sets and a builder without files, for the tests of order, loader and replay.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "data/order.h"
#include "data/sample_builder.h"

namespace facet {

// Record i asks "name i" and answers with a drawn number; it shows `images` images.
class FakeDataset : public Dataset {
 public:
  FakeDataset(std::string name, int64_t records, int64_t images = 1)
      : Dataset(std::move(name)), records_(records), images_(images) {}

  int64_t num_records() const override { return records_; }
  bool multi_image() const override { return images_ > 1; }
  std::string file_of(int64_t) const override { return name() + ".json"; }
  uint64_t fingerprint() const override { return static_cast<uint64_t>(records_); }
  RawSample read(int64_t record, RandomStream& draws) const override {
    RawRound round;
    round.question = name() + " " + std::to_string(record);
    round.answer = record == empty_answer ? "" : std::to_string(draws.below(1000));
    for (int64_t i = 0; i < images_; ++i)
      round.images.push_back({nullptr, record == unreadable_image ? "unreadable" : round.question});
    return {{round}};
  }

  int64_t empty_answer = -1;      // record with that fault
  int64_t unreadable_image = -1;  // record with that fault

 private:
  int64_t records_, images_;
};

// A round becomes: an image token (500) per image, the record number, the drawn answer + 1000,
// which is labelled. The three channels of an image of one pixel hold the record number.
class FakeBuilder : public SampleBuilder {
 public:
  static constexpr int32_t kImage = 500;

  void build(const RawSample& sample, PreparedSample& out) const override {
    out.token_ids.clear();
    out.labels.clear();
    out.pixels.clear();
    out.num_images = static_cast<int32_t>(sample.num_images());
    out.num_rounds = std::ssize(sample.rounds);
    for (const RawRound& round : sample.rounds) {
      const int record = std::stoi(round.question.substr(round.question.rfind(' ')));
      if (record == internal_error) throw std::logic_error("a bug");
      for (const ImageRef& image : round.images) {
        CHECK(image.key != "unreadable", ExitCode::kBadData, "not an image");
        out.token_ids.push_back(kImage);
        out.pixels.insert(out.pixels.end(), 3, static_cast<float>(record));
      }
      if (record == lost_image_place) out.token_ids.pop_back();
      out.token_ids.insert(out.token_ids.end(), {record, 1000 + std::stoi(round.answer)});
      out.labels.resize(out.token_ids.size() - 1, -100);
      out.labels.push_back(record == unlabelled ? -100 : out.token_ids.back());
    }
  }
  void build_text(const RawSample& sample, PreparedSample& out) const override {
    RawSample readable = sample;
    for (RawRound& round : readable.rounds)
      for (ImageRef& image : round.images) image.key = round.question;
    FakeBuilder::build(readable, out);
    out.pixels.clear();
  }
  int32_t image_token_id() const override { return kImage; }
  int32_t image_size() const override { return 1; }

  int lost_image_place = -1, unlabelled = -1, internal_error = -1;  // records with that fault
};

using Datasets = std::vector<std::unique_ptr<Dataset>>;

inline Datasets fake_datasets(const std::vector<std::pair<std::string, int64_t>>& sizes) {
  Datasets datasets;
  for (const auto& [name, records] : sizes)
    datasets.push_back(std::make_unique<FakeDataset>(name, records));
  return datasets;
}

}  // namespace facet
