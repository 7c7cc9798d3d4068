// A golden file of scripts/make_golden.py: tensors named CASE/NAME and one JSON text that describes
// the cases.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/micro_batch.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "nn/param_table.h"

namespace facet::golden {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& name);  // tests/golden/NAME

  std::vector<std::string> cases_with(const std::string& prefix) const;
  JsonValue description(const std::string& name) const { return cases_.root().at(name); }
  bool has(const std::string& name, const std::string& tensor) const;
  std::vector<float> floats(const std::string& name, const std::string& tensor) const;
  std::vector<int32_t> ints(const std::string& name, const std::string& tensor) const;

 private:
  SafetensorsFile file_;
  JsonDocument cases_;
};

VlmConfig config_of(const JsonValue& description);
// The batch stored under this name; its pixels come from their hash.
MicroBatch batch_of(const GoldenFile& file, const std::string& name, const JsonValue& description);

// Trains the named parameters and no others, lays the table out and fills it by the hash.
void set_parameters(ParamTable& table, const std::vector<std::string>& trained,
                    int64_t padding = 1);
// The case's list of gradients.
std::vector<std::string> gradient_names(const JsonValue& description);

using Gradients = std::map<std::string, std::vector<float>>;
Gradients gradients_of(const ParamTable& table);

// |actual - expected| / |expected|
double relative_error(const std::vector<float>& actual, const std::vector<float>& expected);

// Every gradient of the case, no other one, within `tolerance` of its norm. The error of a gradient
// is estimated by its products with the hashed vectors, whose mean square is the error's own.
// Without a rotary embedding the keys' bias has no gradient (softmax does not see it): its rounding
// noise is held against 0.05 of the case's largest norm. Prints the largest error.
void expect_gradients(const GoldenFile& file, const std::string& name, const Gradients& gradients,
                      double tolerance);

}  // namespace facet::golden
