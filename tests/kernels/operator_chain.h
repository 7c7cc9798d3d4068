// All operators of the CUDA backend, one after the other, before the host looks at any result.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "tests/kernels/mirrored.h"
#include "tests/ops/op_cases.h"

namespace facet::kernel_test {

struct Chain {
  std::map<std::string, op_test::Values> results;  // by operator and output
  int64_t allocations_of_mirrors;
};

inline Chain run_chain(CudaBackend& cuda, DType dtype) {
  Mirrored ops(cuda);
  std::map<std::string, std::unique_ptr<op_test::Operands>> operands;
  for (const op_test::OpCase& op : op_test::kOpCases) {
    const bool large = std::string(op.name).find("many_blocks") != std::string::npos;
    if (large) continue;
    auto& make = operands[op.name] = std::make_unique<op_test::Operands>(dtype, DType::kBF16);
    op.run(ops, *make, 7, 6);
  }
  ops.finish();
  Chain chain{{}, ops.allocations()};
  for (const auto& [op, make] : operands)
    for (const auto& [name, matrix] : make->outputs())
      chain.results[op + " " + name] = matrix->values();
  return chain;
}

inline void expect_equal(const Chain& a, const Chain& b) {
  for (const auto& [name, values] : a.results) EXPECT_TRUE(values == b.results.at(name)) << name;
}

}  // namespace facet::kernel_test
