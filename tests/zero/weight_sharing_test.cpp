// Ranks that hold a decoder together against one that holds it alone. Run with 1, 2, 3 and 4 ranks
// (scripts/run_tests.sh): groups of 2, and of 4 where there are so many.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "tests/comm/first_ranks.h"
#include "tests/model/language_rig.h"
#include "tests/zero/stage_rig.h"
#include "zero/rank_group.h"

namespace facet {
namespace {

using language_rig::kImage;
using language_rig::Rig;
using stage_rig::same_bits;

// The model that `whole` is, in this rank's part of it.
void take_part(const ParamTable& whole, ParamTable& table) {
  for (Param& param : table.params()) {
    const auto of = std::find_if(whole.params().begin(), whole.params().end(),
                                 [&](const Param& other) { return other.name == param.name; });
    ASSERT_EQ(whole_of(param).shape, of->shape) << param.name;
    const int64_t rows = param.value.dims() == 1 ? 1 : param.value.rows();
    const int64_t columns = param.value.cols();
    const bool by_columns = param.is_part() && (param.part.axis == 1 || param.value.dims() == 1);
    const int64_t first_row = param.is_part() && !by_columns ? param.part.begin : 0;
    const int64_t first_column = by_columns ? param.part.begin : 0;
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(of->value.f32() + (first_row + row) * of->value.cols() + first_column, columns,
                  param.value.f32() + row * columns);
  }
}

std::vector<float> joined(std::vector<float> all, const std::vector<float>& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

// Logits all along a conversation of two rounds; the first has more rows than a group gathers.
std::vector<float> logits_of_conversation(Rig& rig) {
  MicroBatch first, second;
  std::vector<int32_t> question = {1, 5, kImage, 6, 7};
  for (int32_t token = 3; token < 36; ++token) question.push_back(token);
  language_rig::add_sample(first, rig.config, question, question.size(), "first");
  language_rig::add_sample(second, rig.config, {8, kImage, 19}, 3, "second");
  VisionLanguageModel::Decoding decoding(rig.model, rig.ctx, 70);
  std::vector<float> all = decoding.append(first);
  for (const int32_t token : {12, 3, 44, 2}) all = joined(all, decoding.append_token(token));
  all = joined(all, decoding.append(second));
  return joined(joined(all, decoding.append_token(30)),
                rig.logits(language_rig::mixed_batch(rig.config)));
}

int ranks_of_job() {
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  return ranks;
}

void on_groups_of(std::initializer_list<int> sizes,
                  const std::function<void(Communicator&)>& test) {
  for (const int size : sizes) {
    if (ranks_of_job() < size) return;
    const FirstRanks first(size);
    if (!first.member()) continue;
    Communicator ranks(first.comm());
    test(ranks);
  }
}

GroupPlace place_in(const Communicator& ranks) { return {ranks.rank(), ranks.size()}; }

void expect_as_alone(VlmConfig config, const char* what) {
  Rig alone(config, "default");
  const std::vector<float> expected = logits_of_conversation(alone);
  on_groups_of({2, 4}, [&](Communicator& ranks) {
    config.lm.group = place_in(ranks);
    Rig rig(config, "default");
    take_part(alone.table, rig.table);
    RankGroup group(ranks);
    rig.ctx.group = &group;
    const std::vector<float> logits = logits_of_conversation(rig);
    const std::vector<double> as_double(expected.begin(), expected.end());
    EXPECT_LE(vision_rig::relative_error(logits, as_double), 1e-6) << what << ranks.size();
    std::vector<float> first = logits;
    ranks.broadcast(Tensor(first.data(), {static_cast<int64_t>(first.size())}, DType::kF32), 0);
    EXPECT_TRUE(same_bits(first, logits)) << what << ranks.size();
  });
}

TEST(WeightSharing, AGroupAnswersAsOneRank) {
  expect_as_alone(language_rig::small_config(), "plain, ");
  VlmConfig config = language_rig::small_config();
  config.lm.tie_word_embeddings = true;
  config.lm.num_key_value_heads = 4;
  config.mmca = true;
  expect_as_alone(config, "tied, MMCA, ");
  config.compat_visualchat = true;
  config.lm.rope_scaling.type = RopeScaling::Type::kDynamic;
  config.lm.rope_scaling.factor = 2;
  config.lm.max_position_embeddings = 20;
  expect_as_alone(config, "compat, dynamic scaling, ");
}

TEST(WeightSharing, AGroupAnswersAsOneRankWithBiasesLoraAndWindows) {
  VlmConfig config = language_rig::small_config();
  config.lm.qkv_bias = config.lm.out_bias = config.lm.mlp_bias = true;
  config.lm.sliding_window = 7;
  config.lm.window_layers = {1, 0};
  config.lang_lora = language_rig::lora("model.layers.");
  expect_as_alone(config, "biases, LoRA, windows, ");
}

// Of the decoder's blocks a group holds every weight once, and what each rank needs beside.
TEST(WeightSharing, ARankHoldsItsShare) {
  const VlmConfig config = language_rig::small_config();
  const auto elements = [](const VlmConfig& of) {
    ParamTable table;
    const VisionLanguageModel model(of, table);
    int64_t sum = 0;
    for (const Param& param : table.params())
      if (param.role == ParamRole::kWeight && param.name.starts_with("lang_")) sum += param.numel();
    return sum;
  };
  VlmConfig shared = config;
  shared.lm.group = {1, 2};
  EXPECT_NEAR(static_cast<double>(elements(shared)), static_cast<double>(elements(config)) / 2,
              static_cast<double>(config.lm.hidden_size));
}

TEST(WeightSharing, SizesThatDoNotDivideAreNamed) {
  VlmConfig config = language_rig::small_config();
  config.lm.group = {0, 3};
  try {
    check_shared(config.lm);
    FAIL() << "nothing is wrong";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("4 attention heads, 2 key/value heads and 44"),
              std::string::npos)
        << error.what();
  }
  config.lm.group = {0, 4};
  EXPECT_NO_THROW(check_shared(config.lm));
}

// (2^24 + 1) + (8 - 2^24) is 8 in fp32, in other orders 9, whichever way the parts went.
TEST(WeightSharing, SumsAreInTheOrderOfTheRanks) {
  constexpr float kLarge = 1 << 24;
  on_groups_of({2, 3, 4}, [&](Communicator& ranks) {
    const float parts[] = {kLarge, 1, 8 - kLarge, 0.5f};
    float expected = 0;
    for (int r = 0; r < ranks.size(); ++r) expected += parts[r];
    RankGroup group(ranks);
    CpuBackend ops(1);
    Arena arena("activations", 1 << 20);
    UnitHooks hooks;
    Context ctx{ops, arena, hooks};
    ctx.group = &group;
    for (const int64_t rows : {1, 42}) {
      SharedSum sum(ctx, place_in(ranks), rows, 8);
      ops.fill(sum.part(), parts[ranks.rank()]);
      const Tensor y = ctx.activation({rows, 8});
      ops.fill(y, 2);
      sum.add_up(y, y);
      for (int64_t i = 0; i < y.numel(); ++i) ASSERT_EQ(y.f32()[i], expected + 2) << rows;
    }
  });
}

}  // namespace
}  // namespace facet
