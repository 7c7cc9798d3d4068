// Decoding of several sequences in one forward against each by itself.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/model/allocation_counter.h"
#include "tests/model/language_rig.h"

namespace facet {
namespace {

using language_rig::kImage;
using language_rig::Rig;
using Batch = VisionLanguageModel::BatchDecoding;
using Decoding = VisionLanguageModel::Decoding;
using Ids = std::vector<int32_t>;

// Every image of a piece has the pixels that belong to `picture`.
MicroBatch piece_of(const VlmConfig& config, const Ids& ids, const std::string& picture = "a") {
  MicroBatch batch;
  language_rig::add_sample(batch, config, ids, ids.size(), picture);
  return batch;
}

Ids text(int64_t count, int32_t first) {
  Ids ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(first + static_cast<int32_t>(i * 7 % 40));
  return ids;
}
Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void expect_close(const std::vector<float>& logits, const std::vector<float>& expected,
                  const std::string& what) {
  EXPECT_LE(vision_rig::relative_error(logits, {expected.begin(), expected.end()}), 2e-6) << what;
}

// Sequences in a batch, each with its twin: a model of its own that decodes it alone.
class Twins {
 public:
  explicit Twins(const VlmConfig& config, int64_t pages = 16,
                 Batch::Sharing sharing = Batch::Sharing::kOff)
      : rig(config, "default"), batch(rig.model, rig.ctx, pages, sharing) {}

  struct Twin {
    explicit Twin(const VlmConfig& config, int64_t max_tokens)
        : rig(config, "default"), decoding(rig.model, rig.ctx, max_tokens) {}
    Rig rig;
    Decoding decoding;
    std::vector<float> logits;
  };

  int open(int64_t max_tokens) {
    const int sequence = batch.open(max_tokens);
    if (static_cast<size_t>(sequence) == twins.size()) twins.emplace_back();
    twins[static_cast<size_t>(sequence)] = std::make_unique<Twin>(rig.config, max_tokens);
    return sequence;
  }
  void close(int sequence) {
    batch.close(sequence);
    twins[static_cast<size_t>(sequence)].reset();
  }
  void append(int sequence, const Ids& ids, const std::string& picture = "a") {
    const MicroBatch piece = piece_of(rig.config, ids, picture);
    std::vector<std::string> names;
    for (int32_t i = 0; i < piece.images_per_sample[0]; ++i)
      names.push_back(picture.empty() ? "" : picture + std::to_string(i));
    batch.append(sequence, piece, names);
    Twin& twin = *twins[static_cast<size_t>(sequence)];
    twin.logits = twin.decoding.append(piece);
  }
  void append_token(int sequence, int32_t token) {
    batch.append_token(sequence, token);
    Twin& twin = *twins[static_cast<size_t>(sequence)];
    twin.logits = twin.decoding.append_token(token);
  }
  void rewind(int sequence, int64_t length) {
    batch.rewind(sequence, length);
    twins[static_cast<size_t>(sequence)]->decoding.rewind(length);
  }
  void run(const std::string& when) {
    batch.run();
    for (size_t i = 0; i < twins.size(); ++i) {
      if (!twins[i] || twins[i]->logits.empty()) continue;
      const int sequence = static_cast<int>(i);
      EXPECT_EQ(batch.length(sequence), twins[i]->decoding.length());
      expect_close(batch.logits(sequence), twins[i]->logits,
                   when + ", sequence " + std::to_string(i));
    }
  }

  Rig rig;
  Batch batch;
  std::vector<std::unique_ptr<Twin>> twins;
};

// Prompts and tokens of three sequences of different lengths, in all mixtures; one ends, another
// one takes its pages, and those behind.
void expect_each_as_by_itself(const VlmConfig& config, const Ids& second_round) {
  Twins twins(config);
  const int a = twins.open(100), b = twins.open(30), c = twins.open(70);
  twins.append(a, {1, 5, kImage, 6, 7});
  twins.append(b, {9, kImage, 8}, "b");
  twins.run("two prompts");
  twins.append_token(a, 12);
  twins.append_token(b, 13);
  twins.append(c, joined(text(35, 2), {kImage, 20, kImage, 4}), "c");
  twins.run("a prompt and two tokens");
  twins.append(a, second_round);
  twins.append_token(c, 31);
  twins.run("a second round and a token");
  twins.close(b);
  const int d = twins.open(130);
  twins.append(d, joined(text(40, 3), {kImage, 2}), "d");
  for (int32_t token = 10; token < 14; ++token) {
    twins.append_token(a, token);
    twins.append_token(c, token + 1);
    if (token > 10) twins.append_token(d, token + 2);
    twins.run("token " + std::to_string(token));
  }
}

const Ids kWithImages = {8, kImage, kImage, 19}, kTextOnly = {8, 19, 20};

TEST(BatchDecoding, EachSequenceIsAsByItself) {
  expect_each_as_by_itself(language_rig::small_config(), kWithImages);
}

TEST(BatchDecoding, EachSequenceIsAsByItselfWithMmca) {
  VlmConfig config = language_rig::small_config();
  config.mmca = true;
  expect_each_as_by_itself(config, kWithImages);
  config.compat_visualchat = true;
  expect_each_as_by_itself(config, kTextOnly);
}

TEST(BatchDecoding, EachSequenceIsAsByItselfWithWindows) {
  VlmConfig config = language_rig::small_config();
  config.lm.sliding_window = 7;
  config.lm.window_layers = {1, 0};
  expect_each_as_by_itself(config, kWithImages);
  config.mmca = true;
  expect_each_as_by_itself(config, kWithImages);
}

// Some sequences are beyond the length from which on all their rows are run again, others are not.
TEST(BatchDecoding, EachSequenceHasTheAnglesOfItsLength) {
  VlmConfig config = language_rig::small_config();
  config.lm.rope_scaling.type = RopeScaling::Type::kDynamic;
  config.lm.rope_scaling.factor = 2;
  config.lm.max_position_embeddings = 15;
  expect_each_as_by_itself(config, kWithImages);
}

// On the CPU a row of a product of few rows has the same bits whatever rows are beside it.
TEST(BatchDecoding, ATokenHasTheBitsThatItHasByItself) {
  for (const bool mmca : {false, true}) {
    VlmConfig config = language_rig::small_config();
    config.mmca = mmca;
    Twins twins(config);
    for (const int64_t length : {3, 40, 25}) {
      const int sequence = twins.open(100);
      twins.append(sequence, joined({kImage}, text(length, 2)), std::to_string(length));
      twins.run("a prompt by itself");
    }
    for (int32_t token = 10; token < 15; ++token) {
      for (const int sequence : {0, 1, 2}) twins.append_token(sequence, token + sequence);
      twins.run("tokens");
      for (const int sequence : {0, 1, 2})
        EXPECT_EQ(twins.batch.logits(sequence), twins.twins[static_cast<size_t>(sequence)]->logits);
    }
  }
}

TEST(BatchDecoding, ARewindIsOfOneSequence) {
  Twins twins(language_rig::small_config());
  const int a = twins.open(60), b = twins.open(60);
  twins.append(a, text(20, 1));
  twins.append(b, text(25, 4));
  twins.run("prompts");
  for (int i = 0; i < 3; ++i) {
    twins.append_token(a, 5 + i);
    twins.append_token(b, 6 + i);
    twins.run("tokens");
  }
  twins.rewind(a, 21);
  twins.append_token(a, 33);
  twins.append_token(b, 34);
  twins.run("rewound");
  twins.rewind(b, 0);
  twins.append(b, {7, 8, 9});
  twins.append_token(a, 35);
  twins.run("begun anew");
}

TEST(BatchDecoding, TheLimitIsOfEachSequence) {
  const VlmConfig config = language_rig::small_config();
  Rig rig(config, "default");
  {
    Batch batch(rig.model, rig.ctx, 3, Batch::Sharing::kOff);
    const int a = batch.open(4), b = batch.open(60);
    batch.append(a, piece_of(config, {1, 5, 6}));
    batch.append(b, piece_of(config, text(10, 1)));
    batch.run();
    batch.append_token(a, 7);
    batch.run();
    EXPECT_THROW(batch.append_token(a, 8), Error);
    EXPECT_EQ(batch.length(a), 4);
    batch.append_token(b, 8);
    batch.run();
    EXPECT_THROW(batch.open(1), Error);
  }
  EXPECT_EQ(rig.arena.used(), 0);
}

TEST(BatchDecoding, ATokenAllocatesNothing) {
  VlmConfig config = language_rig::small_config();
  config.mmca = true;
  config.lm.sliding_window = 20;
  Rig rig(config, "default");
  UnitHooks hooks;  // those of the rig take notes
  Context context{rig.ops, rig.arena, hooks};
  Batch batch(rig.model, context, 16, Batch::Sharing::kOn);
  const int longest = batch.open(200);
  batch.append(longest, piece_of(config, text(150, 1)));
  batch.run();
  batch.close(longest);
  for (int i = 0; i < 3; ++i) batch.append(batch.open(60), piece_of(config, text(20 + i, 2 + i)));
  batch.run();
  const auto step = [&](int32_t token) {
    for (const int sequence : {0, 1, 2}) batch.append_token(sequence, token);
    batch.run();
  };
  step(3);
  const int64_t before = allocation_counter::count();
  for (int32_t token = 4; token < 12; ++token) step(token);
  EXPECT_EQ(allocation_counter::count(), before);
}

// ---- sharing

const Ids kQuestion = joined(joined(text(20, 1), {kImage, kImage}), text(42, 3));  // 72 rows
constexpr int64_t kRows = 72;

// Rows that a prompt finds when kQuestion has been asked before.
int64_t shared_with_question(const VlmConfig& config, const Ids& ids,
                             const std::string& picture = "a") {
  Twins twins(config, 16, Batch::Sharing::kOn);
  const int a = twins.open(100), b = twins.open(100);
  twins.append(a, kQuestion);
  twins.run("the question");
  twins.append_token(a, 12);
  twins.append(b, ids, picture);
  twins.run("a prompt like it");
  twins.append_token(a, 14);
  twins.append_token(b, 15);
  twins.run("a token of each");
  twins.close(a);  // what b reads stays
  const int c = twins.open(250);
  twins.append(c, text(200, 2));
  twins.append_token(b, 16);
  twins.run("without the first");
  return twins.batch.shared_rows();
}

TEST(BatchDecoding, TheSameQuestionIsComputedOnce) {
  VlmConfig config = language_rig::small_config();
  EXPECT_EQ(shared_with_question(config, kQuestion), kRows);
  config.lm.sliding_window = 7;
  EXPECT_EQ(shared_with_question(config, kQuestion), kRows);
  config.mmca = true;
  EXPECT_EQ(shared_with_question(config, kQuestion), kRows);
}

TEST(BatchDecoding, WholePagesOfEqualRowsAreShared) {
  VlmConfig config = language_rig::small_config();
  Ids other = kQuestion;
  other.back() = 1;
  EXPECT_EQ(shared_with_question(config, other), 64);
  EXPECT_EQ(shared_with_question(config, joined(kQuestion, {5})), 64);
  other = kQuestion;
  other[40] = 1;
  EXPECT_EQ(shared_with_question(config, other), 32);
  other[0] = 2;
  EXPECT_EQ(shared_with_question(config, other), 0);
  // Text comes first, and what is behind the images depends on them: the first 20 rows are equal.
  config.mmca = true;
  EXPECT_EQ(shared_with_question(config, kQuestion, "b"), 0);
}

TEST(BatchDecoding, OtherImagesAreNotShared) {
  const VlmConfig config = language_rig::small_config();
  EXPECT_EQ(shared_with_question(config, kQuestion, "b"), 0);
  EXPECT_EQ(shared_with_question(config, kQuestion, ""), 0);
  Rig rig(config, "default");
  Batch batch(rig.model, rig.ctx, 8, Batch::Sharing::kOn);
  for (int i = 0; i < 2; ++i) {
    batch.append(batch.open(100), piece_of(config, kQuestion));  // images without names
    batch.run();
  }
  EXPECT_EQ(batch.shared_rows(), 0);
}

TEST(BatchDecoding, NothingIsSharedWhereRowsDependOnMoreThanWhatIsBefore) {
  VlmConfig config = language_rig::small_config();
  config.lm.rope_scaling.type = RopeScaling::Type::kDynamic;
  config.lm.rope_scaling.factor = 2;
  EXPECT_EQ(shared_with_question(config, kQuestion), 0);
  config = language_rig::small_config();
  config.mmca = true;
  config.compat_visualchat = true;
  EXPECT_EQ(shared_with_question(config, kQuestion), 0);
}

// The images of a shared question are not looked at again.
TEST(BatchDecoding, ASharedQuestionIsOneQueryRow) {
  VlmConfig config = language_rig::small_config();
  config.mmca = true;
  Rig rig(config, "default");
  Batch batch(rig.model, rig.ctx, 8, Batch::Sharing::kOn);
  const std::vector<std::string> names = {"x", "y"};
  for (const bool is_first : {true, false}) {
    const int64_t before = rig.ops.counts().attention_query_rows;
    batch.append(batch.open(100), piece_of(config, kQuestion), names);
    batch.run();
    const int64_t rows = rig.ops.counts().attention_query_rows - before;
    if (is_first)
      EXPECT_GT(rows, kRows * config.lm.num_hidden_layers);
    else
      EXPECT_EQ(rows, config.lm.num_hidden_layers);
  }
}

}  // namespace
}  // namespace facet
