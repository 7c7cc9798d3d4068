// A backend over another one that counts the calls of each operator, by the shapes of its operands,
// and measures each kind of call once, where it occurs first. What it measures it calls again and
// again: what adds to its output then adds more often.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/bench/gpu/sections.h"

namespace facet::bench {

class MeasuringBackend final : public Backend {
 public:
  // Calls go to bench.ops.
  explicit MeasuringBackend(Bench& bench) : bench_(bench), below_(bench.ops) {}

  MemoryResource& memory() override { return below_.memory(); }
  bool takes_lora_downs() const override { return below_.takes_lora_downs(); }

  // From here on calls are counted, until they are measured instead: a row in bench.report for each
  // kind of call.
  void begin_to_count() { does_ = Does::kCount; }
  void begin_to_measure() { does_ = Does::kMeasure; }
  // A row for each operator, the largest first, and one for all together, with milliseconds of a
  // step.
  void report_sums() const;

 private:
  FACET_OPERATORS(FACET_OVERRIDE_OPERATOR)

  enum class Does : uint8_t { kNothing, kCount, kMeasure };
  struct Kind {
    int64_t calls = 0;        // of a step
    double milliseconds = 0;  // of a call; 0: not measured yet
  };
  struct Sum {
    int64_t calls = 0;
    double milliseconds = 0;
  };
  // What a call moves: operands that are read or written, and those that are read and written.
  struct Operands {
    std::vector<Tensor> once, twice = {};
  };
  template <typename Call>
  void pass_on(const char* name, const Operands& operands, const Call& call);
  template <typename Call>
  void measure(const char* name, const Operands& operands, const std::string& shapes, Kind& kind,
               const Call& call);
  static std::string shapes_of(const Operands& operands);
  static Operands with_downs(std::vector<Tensor> once, std::span<const LoraDown> downs);

  Bench& bench_;
  Backend& below_;
  Does does_ = Does::kNothing;
  std::map<std::string, Kind> kinds_;  // by name and shapes
  std::map<std::string, Sum> sums_;    // by name
};

}  // namespace facet::bench
