#include "nn/param_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace facet {
namespace {

// Two units; q, k, v of unit 0 are contiguous, with a bias between them and the norm.
void declare(ParamTable& table) {
  table.begin_unit("embed");
  table.add("embed.weight", {7, 3}, ParamRole::kEmbedding, Init::kNormal002);
  table.begin_unit("block");
  table.add("block.q.weight", {4, 3}, ParamRole::kWeight, Init::kUniformFanIn, 3);
  table.add("block.k.weight", {2, 3}, ParamRole::kWeight, Init::kXavierUniform);
  table.add("block.norm.weight", {3}, ParamRole::kNormWeight, Init::kOne);
  table.add("block.patch.weight", {2, 3, 2, 2}, ParamRole::kWeight, Init::kNone);
}

TEST(ParamTable, LaysEqualFlagsOutContiguouslyAndPadsTrained) {
  ParamTable table;
  declare(table);
  EXPECT_EQ(table.set_trained("block.", true), 4);
  EXPECT_EQ(table.set_trained("block.norm", false), 1);
  EXPECT_EQ(table.set_trained("no.such", true), 0);
  table.allocate(16);
  table.allocate_gradients();
  Param *q = table.find("block.q.weight"), *k = table.find("block.k.weight"),
        *patch = table.find("block.patch.weight"), *norm = table.find("block.norm.weight");
  EXPECT_EQ(table.find("block.v.weight"), nullptr);
  EXPECT_EQ(q->value.f32() + 12, k->value.f32());
  EXPECT_EQ(k->value.f32() + 6, patch->value.f32());
  EXPECT_EQ(patch->grad.f32(), q->grad.f32() + 18);
  EXPECT_FALSE(norm->grad.defined());
  EXPECT_EQ(patch->value.rows(), 2);
  EXPECT_EQ(patch->value.cols(), 12);
  const ParamUnit& unit = table.units()[1];
  EXPECT_EQ(unit.trained_values.numel(), 48);  // 42 padded
  EXPECT_EQ(unit.trained_grads.numel(), 48);
  EXPECT_EQ(unit.frozen_values.numel(), 3);
  EXPECT_EQ(norm->value.f32(), unit.frozen_values.f32());
  for (int64_t i = 42; i < 48; ++i) EXPECT_EQ(unit.trained_values.f32()[i], 0.0f);
  for (int64_t i = 0; i < 48; ++i) EXPECT_EQ(unit.trained_grads.f32()[i], 0.0f);
  EXPECT_EQ(table.trained_elements(), 42);
  EXPECT_EQ(table.frozen_elements(), 24);
}

TEST(ParamTable, ValuesOf16BitsWithGradientsOfFp32) {
  ParamTable table, wide;
  for (ParamTable* t : {&table, &wide}) {
    declare(*t);
    t->set_trained("block.", true);
    t->set_trained("block.norm", false);
  }
  table.allocate(16, ParamTable::Memory::kReal, DType::kBF16);
  wide.allocate(16);
  const int64_t of_values = table.bytes(), of_wide = wide.bytes();
  EXPECT_LT(of_values, of_wide);
  EXPECT_GE(2 * of_values, of_wide);  // pieces are rounded up to 64 bytes
  table.allocate_gradients();
  EXPECT_EQ(table.dtype(), DType::kBF16);
  const Param *q = table.find("block.q.weight"), *k = table.find("block.k.weight"),
              *norm = table.find("block.norm.weight");
  EXPECT_EQ(q->value.dtype(), DType::kBF16);
  EXPECT_EQ(norm->value.dtype(), DType::kBF16);
  EXPECT_EQ(q->value.bits16() + 12, k->value.bits16());
  EXPECT_EQ(q->grad.f32() + 12, k->grad.f32());
  for (int64_t i = 42; i < 48; ++i) EXPECT_EQ(table.units()[1].trained_values.bits16()[i], 0);
  // Shown in fp32, the parameters point there.
  std::vector<float> trained(48), frozen(3);
  table.bind_values(1, Tensor(trained.data(), {48}, DType::kF32),
                    Tensor(frozen.data(), {3}, DType::kF32));
  EXPECT_EQ(k->value.f32(), trained.data() + 12);
  EXPECT_EQ(norm->value.f32(), frozen.data());
}

TEST(ParamTable, AConstantStaysFrozen) {
  ParamTable table;
  table.begin_unit("unit");
  table.add("pos_embed", {4}, ParamRole::kWeight, Init::kZero)->constant = true;
  EXPECT_EQ(table.set_trained("pos", true), 0);
  EXPECT_FALSE(table.find("pos_embed")->trained);
}

TEST(ParamTable, MeasuringCountsTheBytesOfTheRealOne) {
  ParamTable real, measured;
  for (ParamTable* table : {&real, &measured}) {
    declare(*table);
    table->set_trained("", true);
  }
  real.allocate(8);
  measured.allocate(8, ParamTable::Memory::kMeasureOnly);
  real.allocate_gradients();
  measured.allocate_gradients();
  EXPECT_EQ(real.bytes(), measured.bytes());
  EXPECT_GT(real.bytes(), 0);
}

TEST(ParamTable, DrawsByRuleKeyedBySeedAndName) {
  ParamTable table, other;
  declare(table);
  other.begin_unit("elsewhere");
  other.add("block.q.weight", {4, 3}, ParamRole::kWeight, Init::kUniformFanIn, 3);
  table.allocate(1);
  other.allocate(1);
  Param *q = table.find("block.q.weight"), *same = other.find("block.q.weight");
  ParamTable::draw(*q, 5);
  ParamTable::draw(*same, 5);
  float largest = 0;
  for (int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(q->value.f32()[i], same->value.f32()[i]);
    largest = std::max(largest, std::abs(q->value.f32()[i]));
  }
  EXPECT_LE(largest, 1 / std::sqrt(3.0f));
  EXPECT_GT(largest, 0.3f / std::sqrt(3.0f));
  const float first = q->value.f32()[0];
  ParamTable::draw(*q, 6);
  EXPECT_NE(first, q->value.f32()[0]);
  Param* norm = table.find("block.norm.weight");
  ParamTable::draw(*norm, 5);
  EXPECT_EQ(norm->value.f32()[2], 1.0f);
  try {
    ParamTable::draw(*table.find("block.patch.weight"), 5);
    FAIL() << "a parameter without a rule was drawn";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_NE(std::string(error.what()).find("block.patch.weight"), std::string::npos);
  }
}

TEST(ParamTable, DrawnMomentsAreTheRulesOwn) {
  ParamTable table;
  table.begin_unit("unit");
  Param* normal = table.add("normal", {100, 100}, ParamRole::kWeight, Init::kNormal002);
  Param* xavier = table.add("xavier", {150, 50}, ParamRole::kWeight, Init::kXavierUniform);
  table.allocate(1);
  ParamTable::draw(*normal, 1);
  ParamTable::draw(*xavier, 1);
  const auto deviation = [](const Param* param) {
    double squares = 0;
    for (int64_t i = 0; i < param->numel(); ++i)
      squares += std::pow(static_cast<double>(param->value.f32()[i]), 2);
    return std::sqrt(squares / static_cast<double>(param->numel()));
  };
  EXPECT_NEAR(deviation(normal), 0.02, 0.001);
  EXPECT_NEAR(deviation(xavier), std::sqrt(6.0 / 200) / std::sqrt(3.0), 0.003);
}

}  // namespace
}  // namespace facet
