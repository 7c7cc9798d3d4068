// Manifests whose hash is right and whose numbers are not: written by a bug, or by somebody.
#include "checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <functional>

#include "io/hash.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

StoredArray array_at(const std::string& name, int64_t offset) {
  return {name, "group", {2, 3}, offset, {{0, 4, "h"}, {4, 2, "h"}}};
}

Manifest good() {
  Manifest manifest;
  manifest.state.step = 3;
  manifest.state.ranks = 2;
  manifest.state.bad_list_bytes = {0, 7};
  manifest.file_bytes = 1000;
  manifest.arrays = {array_at("b", 500), array_at("a", 476)};
  return manifest;
}

std::string error_with(const std::function<void(Manifest&)>& change) {
  Manifest manifest = good();
  change(manifest);
  return error_of([&] { Manifest::parse(manifest.text(), "m"); });
}

TEST(Manifest, GoodValuesAreRead) {
  EXPECT_EQ(error_with([](Manifest&) {}), "");
  EXPECT_EQ(error_with([](Manifest& m) { m.state.last_evaluation = -1; }), "");
  EXPECT_EQ(error_with([](Manifest& m) { m.arrays[0] = {"b", "g", {0, 3}, 1000, {}}; }), "");
}

// Checkpoints of runs that chose nothing look like those from before there was a choice.
TEST(Manifest, ChoicesOfProductsAreKeptIfThereAreAny) {
  Manifest manifest = good();
  EXPECT_EQ(manifest.text().find("product_choices"), std::string::npos);
  EXPECT_EQ(Manifest::parse(manifest.text(), "m").state.product_choices, "");
  manifest.state.product_choices = "gpu\tproduct\t128\t0a\n";
  EXPECT_EQ(Manifest::parse(manifest.text(), "m").state.product_choices,
            manifest.state.product_choices);
}

// No alphas are other alphas than those that an older checkpoint does not tell.
TEST(Manifest, AlphasOfModulesAreKept) {
  Manifest manifest = good();
  for (const std::optional<std::string>& alphas :
       {std::optional<std::string>(), std::optional<std::string>(""),
        std::optional<std::string>("lang_decoder.q_proj = 16\n")}) {
    manifest.state.own_alphas = alphas;
    EXPECT_EQ(Manifest::parse(manifest.text(), "m").state.own_alphas, alphas);
  }
}

TEST(Manifest, ArraysMustLieInTheFileWithoutOverlap) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  const auto wrong = [](const std::function<void(Manifest&)>& change, const char* text) {
    const std::string error = error_with(change);
    EXPECT_TRUE(mentions(error, "65: m: "));
    EXPECT_TRUE(mentions(error, text));
  };
  const char* const outside = "does not lie in the file";
  wrong([](Manifest& m) { m.arrays[0].offset = -4; }, outside);
  wrong([](Manifest& m) { m.arrays[0].offset = 977; }, outside);
  wrong([](Manifest& m) { m.arrays[0].offset = INT64_MAX; }, outside);
  wrong([](Manifest& m) { m.file_bytes = 100; }, outside);
  wrong([](Manifest& m) { m.file_bytes = -1; }, outside);
  wrong([](Manifest& m) { m.arrays[0].shape = {kHuge, 2}; }, outside);
  wrong([](Manifest& m) { m.arrays[0].shape = {kHuge, 4}; }, outside);
  wrong([](Manifest& m) { m.arrays[0].shape = {-2, -3}; }, outside);
  wrong([](Manifest& m) { m.arrays[0].shape = {kHuge}; }, outside);
  wrong([](Manifest& m) { m.arrays[0].offset = 499; }, "overlap");
  wrong([](Manifest& m) { m.arrays[0].offset = 476; }, "overlap");
  wrong([](Manifest& m) { m.arrays[0].name = "a"; }, "a is there twice");
}

TEST(Manifest, RangesMustCoverTheirArray) {
  const auto wrong = [](std::vector<StoredRange> ranges) {
    EXPECT_TRUE(mentions(error_with([&](Manifest& m) { m.arrays[1].ranges = ranges; }),
                         "65: m: arrays[1].ranges"));
  };
  wrong({});
  wrong({{0, 5, "h"}});
  wrong({{0, 7, "h"}});
  wrong({{1, 5, "h"}});
  wrong({{0, 4, "h"}, {3, 3, "h"}});
  wrong({{0, 4, "h"}, {4, INT64_MAX, "h"}});
  wrong({{0, 8, "h"}, {8, -2, "h"}});
  wrong({{0, -1, "h"}, {-1, 7, "h"}});
}

TEST(Manifest, TheStateCountsFromNothing) {
  const auto wrong = [](const std::function<void(RunState&)>& change, const char* field) {
    EXPECT_TRUE(mentions(error_with([&](Manifest& m) { change(m.state); }),
                         std::string("65: m: state.") + field));
  };
  wrong([](RunState& s) { s.step = -1; }, "step");
  wrong([](RunState& s) { s.epoch = INT64_MIN; }, "epoch");
  wrong([](RunState& s) { s.next_step = -3; }, "next_step");
  wrong([](RunState& s) { s.last_evaluation = -2; }, "last_evaluation");
  wrong([](RunState& s) { s.optimizer_steps = -1; }, "optimizer_steps");
  wrong([](RunState& s) { s.loss_log_bytes = -1; }, "loss_log_bytes");
  wrong([](RunState& s) { s.bad_list_bytes = {0, -1}; }, "bad_list_bytes");
  wrong([](RunState& s) { s.bad_list_bytes = {0, 0, 0}; }, "bad_list_bytes");
  wrong([](RunState& s) { s.bad_samples_total = {-1}; }, "bad_samples_total");
  wrong([](RunState& s) { s.ranks = 0; }, "ranks");
}

// Text, fractions and numbers without an int64_t where a count belongs.
TEST(Manifest, NumbersOfAnotherKindAreRefused) {
  const std::string text = good().text();
  for (const char* value : {"1e30", "9223372036854775808", "3.5", "\"3\"", "null", "[3]"}) {
    std::string other = text.substr(0, text.rfind(",\n  \"xxh3_128\""));
    const size_t at = other.find("\"step\": 3");
    ASSERT_NE(at, std::string::npos);
    other.replace(at, 9, std::string("\"step\": ") + value);
    const std::string hash = hash_of(other.data(), static_cast<int64_t>(other.size()));
    const std::string sealed = other + ",\n  \"xxh3_128\": \"" + hash + "\"\n}\n";
    EXPECT_TRUE(mentions(error_of([&] { Manifest::parse(sealed, "m"); }), "65: m: state.step"));
  }
}

}  // namespace
}  // namespace facet
