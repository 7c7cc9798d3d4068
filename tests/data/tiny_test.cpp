// The drawn scenes of make_tiny: what is never shown in training, what the captions say, and that
// our own readers take the files.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "data/dataset.h"
#include "data/prompt_texts.h"
#include "data/tiny/annotations.h"
#include "data/tiny/models.h"
#include "data/tiny/other_sets.h"
#include "data/tiny/scenes.h"
#include "data/tokenizer.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/tensor_directory.h"

namespace facet::tiny {
namespace {

constexpr int64_t kScenes = 400;
constexpr int64_t kOtherRecords = 3;

struct Written {
  std::string directory;
  std::vector<std::string> sentences;
};

const Written& written() {
  static const Written result = [] {
    Written w;
    w.directory = testing::TempDir() + "facet_tiny_" + std::to_string(getpid());
    std::filesystem::remove_all(w.directory);
    w.sentences = write_data(w.directory + "/data", kScenes, 3);
    write_other_sets(w.directory + "/data", kOtherRecords, 3);
    write_clip(w.directory + "/clip", 3);
    write_lm(w.directory + "/lm", w.sentences, 3);
    return w;
  }();
  return result;
}

std::string without_sizes(std::string text) {
  for (const std::string_view size : kSizes)
    for (size_t at = 0; (at = text.find(std::string(size) + " ")) != std::string::npos;)
      text.erase(at, size.size() + 1);
  return text;
}

// "a red circle at the top" must not be found in "a red circle at the top left".
bool says(const std::string& text, const std::string& thing) {
  for (size_t at = text.find(thing); at != std::string::npos; at = text.find(thing, at + 1)) {
    const std::string rest = text.substr(at + thing.size());
    if (rest.empty() || rest.starts_with(" and ")) return true;
  }
  return false;
}

TEST(Tiny, HeldOutCombinationsNeverOccurInTraining) {
  // What can be drawn for training, by the scene itself.
  for (const uint64_t seed : {1, 2, 3}) {
    const HeldOut held_out(seed);
    const std::vector<Thing> things = held_out.things();
    ASSERT_EQ(things.size(), 60u);
    RandomStream draws(seed, "test");
    std::set<std::string> trained;
    for (int i = 0; i < 20000; ++i)
      for (const Thing& thing : random_scene(1 + i % 2, held_out, draws))
        trained.insert(without_sizes(noun(thing)) + place(thing));
    EXPECT_EQ(trained.size(), 6u * 4 * 9 - HeldOut::kCombinations);
    for (const Thing& thing : things)
      EXPECT_FALSE(trained.contains(without_sizes(noun(thing)) + place(thing)));
  }
  // What the written files say, by their text alone.
  const JsonDocument captions =
      JsonDocument::read(written().directory + "/data/eval/captions.json");
  ASSERT_EQ(captions.root().size(), 60);
  int64_t trained_captions = 0;
  for (int64_t i = 0; i < captions.root().size(); ++i) {
    const std::string thing =
        without_sizes(std::string(captions.root().member(i).second.as_string()));
    for (const std::string& sentence : written().sentences) {
      const std::string text = without_sizes(sentence);
      EXPECT_FALSE(says(text, thing)) << sentence;
      trained_captions += i == 0 && sentence.starts_with("a ") && says(text, text);
    }
  }
  EXPECT_GT(trained_captions, kScenes / 2);
}

// Every single value is learnable: shown often enough in training.
TEST(Tiny, EveryColorShapeSizeAndPlaceIsTrained) {
  const auto count = [&](std::string_view word) {
    return std::count_if(written().sentences.begin(), written().sentences.end(),
                         [&](const std::string& s) { return s.find(word) != std::string::npos; });
  };
  for (const auto& word : kColors) EXPECT_GT(count(word), kScenes / 20) << word;
  for (const auto& word : kShapes) EXPECT_GT(count(word), kScenes / 20) << word;
  for (const auto& word : kSizes) EXPECT_GT(count(word), kScenes / 20) << word;
  for (const auto& word : kPlaces) EXPECT_GT(count(word), kScenes / 40) << word;
}

TEST(Tiny, PicturesShowWhatTheCaptionSays) {
  RandomStream draws(5, "test");
  const HeldOut held_out(1);
  for (int trial = 0; trial < 50; ++trial) {
    const Scene scene = random_scene(2, held_out, draws);
    const RgbImage image = draw(scene, draws);
    const auto pixel = [&](int64_t x, int64_t y) {
      const uint8_t* p = &image.pixels[static_cast<size_t>(3 * (y * kImageSide + x))];
      return std::array<int, 3>{p[0], p[1], p[2]};
    };
    const auto is_gray = [](const std::array<int, 3>& p) { return p[0] == p[1] && p[1] == p[2]; };
    for (int place = 0; place < 9; ++place) {
      const auto here = std::find_if(scene.begin(), scene.end(),
                                     [&](const Thing& t) { return t.place == place; });
      const std::array<int, 3> center = pixel(16 + 32 * (place % 3), 16 + 32 * (place / 3));
      if (here == scene.end()) {
        EXPECT_TRUE(is_gray(center) && center[0] >= 200);
        continue;
      }
      const auto strongest = std::max_element(center.begin(), center.end()) - center.begin();
      switch (here->color) {
        case 0: EXPECT_EQ(strongest, 0); break;
        case 1: EXPECT_EQ(strongest, 1); break;
        case 2: EXPECT_EQ(strongest, 2); break;
        case 4: EXPECT_LT(center[0], 20); break;
        default: EXPECT_FALSE(is_gray(center));
      }
    }
  }
}

TEST(Tiny, OurReadersTakeTheFiles) {
  const DatasetSources sources = {written().directory + "/data", load_caption_questions("")};
  int64_t with_image = 0, without_image = 0;
  for (const char* name : {"llava", "llava_dial", "coco_caption"}) {
    const std::unique_ptr<Dataset> dataset = open_dataset(name, sources);
    EXPECT_GE(dataset->num_records(), kScenes / 8);
    for (int64_t record = 0; record < dataset->num_records(); ++record) {
      RandomStream draws(1, "test", static_cast<uint64_t>(record));
      const RawSample sample = dataset->read(record, draws);
      ++(sample.num_images() > 0 ? with_image : without_image);
      for (const RawRound& round : sample.rounds)
        for (const ImageRef& source : round.images) {
          const RgbImage image = load_image(source, kDefaultMaxImagePixels);
          EXPECT_EQ(image.width, kImageSide);
          EXPECT_EQ(image.height, kImageSide);
        }
    }
  }
  EXPECT_EQ(with_image, kScenes);
  EXPECT_GE(without_image, 10);
}

TEST(Tiny, EveryOtherSetIsThereAndReadable) {
  DatasetSources sources = {written().directory + "/data", load_caption_questions("")};
  sources.why_phrases = load_why_phrases("");
  const std::set<std::string> large = {"llava", "llava_dial", "coco_caption"};
  for (const std::string& name : dataset_names()) {
    if (large.contains(name)) continue;
    const std::unique_ptr<Dataset> dataset = open_dataset(name, sources);
    EXPECT_EQ(dataset->num_records(), name == "sparkles_dialogue" ? 6 : kOtherRecords) << name;
    for (int64_t record = 0; record < dataset->num_records(); ++record) {
      RandomStream draws(1, "test", static_cast<uint64_t>(record));
      const RawSample sample = dataset->read(record, draws);
      EXPECT_EQ(sample.num_images(), dataset->multi_image() ? 2 : 1);
      for (const RawRound& round : sample.rounds)
        for (const ImageRef& image : round.images)
          EXPECT_EQ(load_image(image, kDefaultMaxImagePixels).width, kImageSide);
    }
  }
}

TEST(Tiny, ModelDirectoriesAreComplete) {
  const Tokenizer tokenizer(written().directory + "/lm", PromptStyle::kCorrect);
  const JsonDocument config = JsonDocument::read(written().directory + "/lm/config.json");
  EXPECT_EQ(tokenizer.base_vocab_size(), config.root().at("vocab_size").as_int());
  // Words of captions are single tokens, or the demo's model would have to spell.
  EXPECT_EQ(tokenizer.encode("a large purple triangle at the bottom right").size(), 8u);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a red cross")), "a red cross");
  const TensorDirectory lm(written().directory + "/lm"), clip(written().directory + "/clip");
  EXPECT_EQ(lm.find("lm_head.weight")->shape,
            (std::vector<int64_t>{tokenizer.base_vocab_size(), 128}));
  EXPECT_NE(clip.find("vision_model.pre_layrnorm.weight"), nullptr);
}

TEST(Tiny, TheSameSeedGivesTheSameFiles) {
  const std::string again = testing::TempDir() + "facet_tiny_again";
  write_data(again, kScenes, 3);
  write_clip(again + "/clip", 3);
  const auto same = [&](const std::string& mine, const std::string& other) {
    return read_file(mine, 1 << 26) == read_file(other, 1 << 26);
  };
  const std::string& first = written().directory;
  EXPECT_TRUE(
      same(again + "/coco_caption/dataset.json", first + "/data/coco_caption/dataset.json"));
  EXPECT_TRUE(same(again + "/coco/train2017/000000000005.jpg",
                   first + "/data/coco/train2017/000000000005.jpg"));
  EXPECT_TRUE(same(again + "/clip/model.safetensors", first + "/clip/model.safetensors"));
  write_clip(again + "/clip", 4);
  EXPECT_FALSE(same(again + "/clip/model.safetensors", first + "/clip/model.safetensors"));
}

}  // namespace
}  // namespace facet::tiny
