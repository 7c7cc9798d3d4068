// What a stage costs a rank, found out before any memory is taken: bytes by kind, and elements sent
// to the other ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/context.h"
#include "nn/param_table.h"
#include "zero/residency.h"
#include "zero/unit_pool.h"

namespace facet {

struct EngineOptions;

struct ZeroBytes {
  int64_t values = 0;     // what is kept of the parameters
  int64_t gradients = 0;  // what is kept of their gradients through the step
  int64_t optimizer = 0;  // moments; with 16 bits the masters too
  int64_t window = 0;     // a unit in fp32, while values are filled or read
};
// Moments of what a rank steps.
int64_t moment_bytes(const ParamTable& table, int ranks, int64_t zero_stage);
// Of a table from Engine::lay_out.
ZeroBytes planned_bytes(const ParamTable& table, int ranks, const EngineOptions& options);
// Trained elements of one rank's slices, padding counted: what it brings into a checkpoint.
int64_t owned_elements(const ParamTable& table, int ranks);

// Stands in for the engine while a pass is measured (NullBackend) and finds out what depends on the
// order in which the model uses its units.
class MeasuringHooks : public UnitHooks, private UnitMover {
 public:
  MeasuringHooks(const ParamTable& table, int ranks, const EngineOptions& options);

  void before(int unit, Phase phase) override;
  void after(int unit, Phase phase) override;
  void gradients_ready(int unit) override;

  // Of the buffers of units that are whole for a while, at the most: values, gradients.
  int64_t gathered_bytes() const { return values_.bytes(); }
  int64_t bucket_bytes() const;
  // How often each unit is gathered in a forward and backward pass.
  std::vector<int64_t> gathers_per_micro_batch() const;

 private:
  void fetch(int unit) override;
  void start(int unit) override { fetch(unit); }
  void arrive(int) override {}
  void give_back(int unit) override;
  void take_gradients(int unit);

  const ParamTable& table_;
  int ranks_;
  const EngineOptions& options_;
  std::vector<int64_t> elements_;  // of each unit when it is whole; 0: it stays so
  Residency residency_;
  UnitPool values_, gradients_;
  std::vector<int> value_buffers_, gradient_buffers_;  // of each unit
  std::vector<int64_t> gathers_;                       // of each unit, in all passes
  int64_t micro_batches_ = 0;
};

// Elements that a rank sends in a step of so many micro-batches, of the rank that sends most: where
// small parameters are not gathered, the slices of the others differ in length. `gathers` by each
// of them (MeasuringHooks). The formula of
// docs/computes.md, "ZeRO", with the padding counted.
int64_t planned_elements(const ParamTable& table, int ranks, const EngineOptions& options,
                         int64_t micro_batches, const std::vector<int64_t>& gathers);

}  // namespace facet
