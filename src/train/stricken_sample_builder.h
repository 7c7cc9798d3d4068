// The moment data.read of --inject (job/fault_injection.h): a sample builder whose samples take for
// ever, or fail to come, as files on a sick file system do.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "data/sample_builder.h"
#include "job/fault_injection.h"

namespace facet {

class StrickenSampleBuilder : public SampleBuilder {
 public:
  StrickenSampleBuilder(std::unique_ptr<SampleBuilder> builder, FaultInjection faults, int64_t rank)
      : builder_(std::move(builder)), faults_(std::move(faults)), rank_(rank) {}

  void build(const RawSample& sample, PreparedSample& out) const override {
    faults_.at("data.read", rank_, ++read_);
    builder_->build(sample, out);
  }
  void build_text(const RawSample& sample, PreparedSample& out) const override {
    faults_.at("data.read", rank_, ++read_);
    builder_->build_text(sample, out);
  }
  int32_t image_token_id() const override { return builder_->image_token_id(); }
  int32_t image_size() const override { return builder_->image_size(); }

 private:
  std::unique_ptr<SampleBuilder> builder_;
  FaultInjection faults_;
  int64_t rank_;
  mutable std::atomic<int64_t> read_{0};  // samples so far
};

}  // namespace facet
