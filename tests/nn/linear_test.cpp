#include "nn/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet {
namespace {

using op_test::Values;

constexpr int64_t kRows = 7, kInputs = 13, kOut[] = {6, 4, 5}, kOutputs = 15, kRank = 2;

// q, k, v over the same input, each with its matrices in fp64.
struct Reference {
  struct Part {
    Values weight, bias, right, left, magnitude;
    int64_t rank = 0;
    double scale = 0;
    Values norms = {};  // of the rows of the sum, which gradients take as constants
  };
  Part parts[3];

  double sum_at(const Part& part, int64_t p, int64_t o, int64_t i) const {
    double w = part.weight[static_cast<size_t>(o * kInputs + i)];
    for (int64_t r = 0; !part.right.empty() && r < part.rank; ++r)
      w += part.scale * part.right[static_cast<size_t>(i * part.rank + r)] *
           part.left[static_cast<size_t>(r * kOut[p] + o)];
    return w;
  }
  void find_norms() {
    for (int p = 0; p < 3; ++p)
      for (int64_t o = 0; o < kOut[p] && !parts[p].magnitude.empty(); ++o) {
        double squares = 0;
        for (int64_t i = 0; i < kInputs; ++i)
          squares += sum_at(parts[p], p, o, i) * sum_at(parts[p], p, o, i);
        parts[p].norms.push_back(std::sqrt(squares));
      }
  }

  // Parts in sequence: y columns [q|k|v], (kRows, kOutputs).
  Values run(const Values& x, const Values& residual) const {
    Values y = residual;
    int64_t begin = 0;
    for (int p = 0; p < 3; ++p) {
      const Part& part = parts[p];
      for (int64_t n = 0; n < kRows; ++n)
        for (int64_t o = 0; o < kOut[p]; ++o) {
          double& sum = y[static_cast<size_t>(n * kOutputs + begin + o)];
          if (!part.bias.empty()) sum += part.bias[static_cast<size_t>(o)];
          const auto at = static_cast<size_t>(o);
          const double factor = part.norms.empty() ? 1 : part.magnitude[at] / part.norms[at];
          for (int64_t i = 0; i < kInputs; ++i)
            sum += factor * sum_at(part, p, o, i) * x[static_cast<size_t>(n * kInputs + i)];
        }
      begin += kOut[p];
    }
    return y;
  }
};

class Rig {
 public:
  // lora_module: a part, "all" or "".
  Rig(PackedLinear::Bias bias, const std::string& lora_module, const std::string& frozen,
      bool dora = false, decltype(LoraConfig::own) own = {}) {
    LoraConfig lora;
    lora.own = std::move(own);
    lora.rank = lora_module.empty() ? 0 : kRank;
    lora.alpha = 3;
    lora.module_name = lora_module == "all" ? "" : lora_module;
    lora.dora = dora;
    table.begin_unit("unit");
    linear = std::make_unique<PackedLinear>(
        table, "root.",
        std::vector<PackedLinear::PartSpec>{{"q", kOut[0]}, {"k", kOut[1]}, {"v", kOut[2]}},
        kInputs, bias, lora);
    table.set_trained("", true);
    if (!frozen.empty()) table.set_trained(frozen, false);
    table.allocate(1);
    table.allocate_gradients();
    const char* const names[] = {"q", "k", "v"};
    for (int p = 0; p < 3; ++p) {
      const LoraConfig::Own size = lora.of(names[p]);
      reference.parts[p].rank = size.rank;
      reference.parts[p].scale =
          size.rank == 0 ? 0 : static_cast<double>(size.alpha) / static_cast<double>(size.rank);
      const std::string path = std::string("root.") + names[p];
      values(path + ".weight", reference.parts[p].weight);
      values(path + ".bias", reference.parts[p].bias);
      values(path + ".lora_right_weight", reference.parts[p].right);
      values(path + ".lora_left_weight", reference.parts[p].left);
      values(path + ".lora_magnitude_vector", reference.parts[p].magnitude);
    }
    reference.find_norms();
  }
  void values(const std::string& name, Values& into) {
    Param* param = table.find(name);
    if (param == nullptr) return;
    into = op_test::random_values(param->numel(), name);
    for (size_t i = 0; i < into.size(); ++i) param->value.f32()[i] = static_cast<float>(into[i]);
    reference_of[param] = &into;
  }
  struct Result {
    Values y, dx;
    int64_t calls = 0;  // operators of the forward
  };
  Result run(bool wants_dx = true) {
    ArenaScope scope(arena);
    op_test::Matrix x_NI(kRows, kInputs, x, 2), y_NO(kRows, kOutputs, 3),
        residual_NO(kRows, kOutputs, residual), dx_NI(kRows, kInputs), dy_NO(kRows, kOutputs, dy);
    PackedLinear::Saved saved;
    const int64_t before = ops.counts().calls;
    linear->forward(ctx, y_NO.tensor(), x_NI.tensor(), residual_NO.tensor(), &saved);
    const int64_t calls = ops.counts().calls - before;
    linear->backward(ctx, wants_dx ? dx_NI.tensor() : Tensor(), dy_NO.tensor(), x_NI.tensor(),
                     saved);
    return {y_NO.values(), dx_NI.values(), calls};
  }

  ParamTable table;
  std::unique_ptr<PackedLinear> linear;
  Reference reference;
  std::map<const Param*, Values*> reference_of;
  CpuBackend ops{2};
  Arena arena{"test", 1 << 20};
  UnitHooks hooks;
  Context ctx{ops, arena, hooks};
  Values x = op_test::random_values(kRows * kInputs, "x"),
         residual = op_test::random_values(kRows * kOutputs, "residual"),
         dy = op_test::random_values(kRows * kOutputs, "dy");
};

// Output, input gradient and the gradient of every trained parameter against fp64.
void expect_right(Rig& rig) {
  const Rig::Result result = rig.run();
  EXPECT_LE(op_test::relative_error(result.y, rig.reference.run(rig.x, rig.residual)), 5e-7);
  const auto functional = [&] {
    return op_test::dot(rig.dy, rig.reference.run(rig.x, rig.residual));
  };
  EXPECT_LE(op_test::relative_error(result.dx, op_test::finite_differences(rig.x, functional)),
            1e-6);
  for (const Param& param : rig.table.params()) {
    if (!param.trained) {
      EXPECT_FALSE(param.grad.defined());
      continue;
    }
    const std::vector<float> grad(param.grad.f32(), param.grad.f32() + param.numel());
    const Values expected = op_test::finite_differences(*rig.reference_of.at(&param), functional);
    EXPECT_LE(op_test::relative_error(grad, expected), 1e-6) << param.name;
  }
}

TEST(PackedLinear, NeighboursAreOneProduct) {
  for (const char* lora : {"", "k", "all"}) {
    Rig rig(PackedLinear::Bias::kPresent, lora, "");
    EXPECT_EQ(rig.run().calls, 1) << lora;
  }
}

TEST(PackedLinear, AFrozenPartSplitsTheProduct) {
  Rig packed(PackedLinear::Bias::kNone, "", ""), split(PackedLinear::Bias::kNone, "", "root.k"),
      tail(PackedLinear::Bias::kNone, "", "root.v");
  const Rig::Result whole = packed.run(), parts = split.run();
  EXPECT_EQ(parts.calls, 3);
  EXPECT_EQ(tail.run().calls, 2);
  EXPECT_LE(op_test::relative_error(parts.y, whole.y), 2e-7);
  EXPECT_LE(op_test::relative_error(parts.dx, whole.dx), 3e-7);
}

// LoRA is computed with the product that its columns are in.
TEST(PackedLinear, ASplitProductTakesItsLoraAlong) {
  Rig split(PackedLinear::Bias::kNone, "all", "root.k.weight"),
      tail(PackedLinear::Bias::kNone, "all", "root.v.weight");
  EXPECT_EQ(split.run().calls, 3);
  EXPECT_EQ(tail.run().calls, 2);
}

TEST(PackedLinear, AgreesWithTheReference) {
  for (const char* frozen :
       {"", "root.k", "root.v.weight", "root.q.bias", "root.k.lora_left", "root.v.lora_"}) {
    for (const char* lora : {"", "k", "v", "q", "all"}) {
      SCOPED_TRACE(std::string("frozen ") + frozen + ", LoRA in " + lora);
      Rig rig(PackedLinear::Bias::kPresent, lora, frozen);
      expect_right(rig);
    }
  }
  Rig plain(PackedLinear::Bias::kNone, "", "");
  expect_right(plain);
}

// With DoRA too, in one part, in all, and where a frozen one splits the product.
TEST(PackedLinear, AgreesWithTheReferenceOfDora) {
  for (const auto bias : {PackedLinear::Bias::kPresent, PackedLinear::Bias::kNone})
    for (const char* frozen : {"", "root.k", "root.v.weight", "root.q.bias", "root.k.lora_left",
                               "root.v.lora_magnitude"})
      for (const char* lora : {"k", "all"}) {
        SCOPED_TRACE(std::string("frozen ") + frozen + ", DoRA in " + lora);
        Rig rig(bias, lora, frozen, true);
        expect_right(rig);
      }
}

// q of another rank, v of another alpha, which makes each a product of its own.
TEST(PackedLinear, AgreesWithTheReferenceOfSeveralRanksAndAlphas) {
  const decltype(LoraConfig::own) q{{"q", {3, 3}}}, v{{"v", {kRank, 5}}},
      both{{"q", {3, 3}}, {"v", {1, 5}}};
  for (const bool dora : {false, true})
    for (const auto& [own, lora, products] :
         {std::tuple{q, "all", 2}, {v, "all", 2}, {both, "all", 3}, {q, "k", 1}}) {
      Rig rig(PackedLinear::Bias::kPresent, lora, "", dora, own);
      expect_right(rig);
      if (!dora) {
        EXPECT_EQ(rig.run().calls, products) << lora;
      }
    }
}

// One product of q, k and v; a norm for each, and the magnitudes of all together.
TEST(PackedLinear, DoraKeepsNeighboursOneProduct) {
  Rig rig(PackedLinear::Bias::kPresent, "all", "", true);
  EXPECT_EQ(rig.run().calls, 1 + 3 + 1);
}

// In one product and in several, of which not all have magnitudes.
TEST(PackedLinear, KeptNormsGiveTheSameBits) {
  for (const char* lora : {"k", "all"})
    for (const char* frozen : {"", "root.k"}) {
      Rig rig(PackedLinear::Bias::kPresent, lora, frozen, true);
      op_test::Matrix x(kRows, kInputs, rig.x), y(kRows, kOutputs, 3), again(kRows, kOutputs, 3);
      rig.linear->forward(rig.ctx, y.tensor(), x.tensor(), Tensor(), nullptr);
      DoraNorms norms(rig.arena, rig.table);
      rig.ctx.norms = &norms;
      for (int time = 0; time < 2; ++time) {
        rig.linear->forward(rig.ctx, again.tensor(), x.tensor(), Tensor(), nullptr);
        EXPECT_EQ(again.values(), y.values()) << lora << " " << frozen << " " << time;
      }
    }
}

TEST(PackedLinear, TakesFirstProductsOfItsOwnAdaptersAlone) {
  Rig rig(PackedLinear::Bias::kPresent, "q", "");
  op_test::Matrix x(kRows, kInputs, rig.x), y(kRows, kOutputs, 3);
  LoraDowns downs = rig.linear->downs(rig.ctx, kRows);
  const auto forward = [&] {
    rig.linear->forward(rig.ctx, y.tensor(), x.tensor(), Tensor(), nullptr, downs);
  };
  EXPECT_NO_THROW(forward());
  downs.all[downs.count++] = downs.all[0];
  EXPECT_THROW(forward(), Error);
}

// Heads of q and k: in one product or several, with LoRA in some of them, DoRA and in decoding.
TEST(PackedLinear, TurnsHeadsAfterAllElse) {
  constexpr int64_t kHeadWidth = 2, kHeads = 5;
  op_test::Matrix cos(kRows, kHeadWidth / 2, op_test::random_values(kRows, "cos")),
      sin(kRows, kHeadWidth / 2, op_test::random_values(kRows, "sin"));
  const auto check = [&](const std::string& lora, const char* frozen, bool dora, bool decoding) {
    SCOPED_TRACE("frozen " + std::string(frozen) + ", LoRA in " + lora);
    Rig rig(PackedLinear::Bias::kPresent, lora, frozen, dora);
    rig.ctx.decoding = decoding;
    op_test::Matrix x(kRows, kInputs, rig.x), turned(kRows, kOutputs, 3), y(kRows, kOutputs, 3);
    rig.linear->forward(rig.ctx, turned.tensor(), x.tensor(), Tensor(), nullptr, {},
                        {{cos.tensor(), sin.tensor()}, kHeads});
    rig.linear->forward(rig.ctx, y.tensor(), x.tensor(), Tensor(), nullptr);
    rig.ops.rope_forward(y.tensor().column_block(0, kHeads * kHeadWidth), cos.tensor(),
                         sin.tensor(), kHeads);
    EXPECT_EQ(turned.values(), y.values());
  };
  for (const char* lora : {"", "q", "v", "all"})
    for (const char* frozen : {"", "root.q.weight", "root.k.weight"})
      for (const bool decoding : {false, true}) check(lora, frozen, false, decoding);
  check("all", "", true, false);
  check("k", "root.v", true, false);
}

// As in the first layer that trains something. With LoRA in q alone the left factor may be all of
// it that is trained.
TEST(PackedLinear, ParametersHaveTheirGradientsWithoutTheInputs) {
  for (const char* frozen : {"", "root.k.weight", "root.q.lora_right", "root.q.lora_left"})
    for (const char* lora : {"q", "all"})
      for (const bool dora : {false, true}) {
        SCOPED_TRACE(std::string("frozen ") + frozen + ", LoRA in " + lora);
        Rig with(PackedLinear::Bias::kPresent, lora, frozen, dora),
            without(PackedLinear::Bias::kPresent, lora, frozen, dora);
        with.run();
        without.run(false);
        for (const Param& param : without.table.params()) {
          if (!param.trained) continue;
          const Tensor grad = with.table.find(param.name)->grad;
          EXPECT_TRUE(std::equal(grad.f32(), grad.f32() + grad.numel(), param.grad.f32()))
              << param.name;
        }
      }
}

// Its columns, and shares of the gradients that add up to those of the whole.
TEST(PackedLinear, PartsAddUpToTheWhole) {
  Rig whole(PackedLinear::Bias::kPresent, "v", ""), parts(PackedLinear::Bias::kPresent, "v", "");
  const Rig::Result expected = whole.run();
  ArenaScope scope(parts.arena);
  op_test::Matrix x(kRows, kInputs, parts.x), y(kRows, kOutputs, parts.residual),
      dx(kRows, kInputs), dy(kRows, kOutputs, parts.dy);
  auto mode = PackedLinear::Dx::kOverwrite;
  for (const auto& [first, last, begin] : {std::tuple{0, 1, int64_t{0}}, {1, 3, kOut[0]}}) {
    const PackedLinear part =
        parts.linear->part(static_cast<size_t>(first), static_cast<size_t>(last));
    const Tensor columns = y.tensor().column_block(begin, part.outputs());
    PackedLinear::Saved saved;
    part.forward(parts.ctx, columns, x.tensor(), columns, &saved);
    part.backward(parts.ctx, dx.tensor(), dy.tensor().column_block(begin, part.outputs()),
                  x.tensor(), saved, mode);
    mode = PackedLinear::Dx::kAdd;
  }
  EXPECT_LE(op_test::relative_error(y.values(), expected.y), 2e-7);
  EXPECT_LE(op_test::relative_error(dx.values(), expected.dx), 3e-7);
  for (const Param& param : parts.table.params()) {
    const Tensor grad = whole.table.find(param.name)->grad;
    EXPECT_TRUE(std::equal(grad.f32(), grad.f32() + grad.numel(), param.grad.f32())) << param.name;
  }
}

TEST(PackedLinear, MagnitudesStartAsTheNormsOfTheRows) {
  Rig rig(PackedLinear::Bias::kNone, "v", "", true);
  EXPECT_EQ(rig.table.find("root.q.lora_magnitude_vector"), nullptr);
  Param* magnitude = rig.table.find("root.v.lora_magnitude_vector");
  EXPECT_EQ(magnitude->shape, (std::vector<int64_t>{kOut[2]}));
  EXPECT_EQ(magnitude->role, ParamRole::kLora);
  ParamTable::draw(*magnitude, 1);
  const Values& weight = rig.reference.parts[2].weight;
  for (int64_t o = 0; o < kOut[2]; ++o) {
    const auto row = weight.begin() + o * kInputs;
    const double norm =
        std::sqrt(op_test::dot(Values(row, row + kInputs), Values(row, row + kInputs)));
    EXPECT_FLOAT_EQ(magnitude->value.f32()[o], static_cast<float>(norm));
  }
}

TEST(PackedLinear, LoraStartsAsNothingWithinItsBound) {
  for (const bool compat : {false, true}) {
    LoraConfig lora{4, 1, "up", compat};
    ParamTable table;
    table.begin_unit("unit");
    PackedLinear linear(table, "root.", {{"mlp.gate", 30}, {"mlp.up", 30}}, 100,
                        PackedLinear::Bias::kNone, lora);
    EXPECT_TRUE(linear.has_lora());
    EXPECT_EQ(table.find("root.mlp.gate.lora_right_weight"), nullptr);
    table.allocate(1);
    Param* right = table.find("root.mlp.up.lora_right_weight");
    Param* left = table.find("root.mlp.up.lora_left_weight");
    EXPECT_EQ(right->shape, (std::vector<int64_t>{100, 4}));
    EXPECT_EQ(left->shape, (std::vector<int64_t>{4, 30}));
    ParamTable::draw(*right, 1);
    ParamTable::draw(*left, 1);
    float largest = 0;
    for (int64_t i = 0; i < right->numel(); ++i)
      largest = std::max(largest, std::abs(right->value.f32()[i]));
    const float bound = compat ? 0.5f : 0.1f;
    EXPECT_LE(largest, bound);
    EXPECT_GT(largest, 0.9f * bound);
    for (int64_t i = 0; i < left->numel(); ++i) EXPECT_EQ(left->value.f32()[i], 0.0f);
  }
}

}  // namespace
}  // namespace facet
