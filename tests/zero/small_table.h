// A small table of parameters for tests of what is cut up between ranks: odd sizes, parameters that
// span several slices, a unit smaller than the number of ranks, all four optimizer groups.
#pragma once

#include "nn/param_table.h"

namespace facet {

inline void declare_small_table(ParamTable& table) {
  table.begin_unit("a");
  table.add("a.weight", {97, 7}, ParamRole::kWeight, Init::kNormal002);
  table.add("a.bias", {1}, ParamRole::kBias, Init::kNormal002);
  table.begin_unit("b");
  table.add("b.norm.weight", {5}, ParamRole::kNormWeight, Init::kOne);
  table.add("b.embed.weight", {257}, ParamRole::kEmbedding, Init::kNormal002);
  table.add("b.frozen.weight", {5, 3}, ParamRole::kWeight, Init::kNormal002);
  table.begin_unit("c");
  table.add("c.embed.bias", {3}, ParamRole::kBias, Init::kNormal002);
  table.set_trained("", true);
  table.set_trained("b.frozen", false);
}

}  // namespace facet
