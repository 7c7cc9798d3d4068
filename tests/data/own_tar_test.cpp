// tar:PATTERN, a user's own samples in tar shards.
#include <chrono>

#include "data/brace_expansion.h"
#include "data/tar_index.h"
#include "dataset_fixture.h"
#include "tests/io/tar_text.h"

namespace facet {
namespace {

constexpr const char* kTurns =
    R"({"conversations":[{"from":"human","value":"Q <image>"},{"from":"gpt","value":"A"}]})";
constexpr const char* kTextOnly =
    R"({"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]})";

class OwnTar : public DatasetTest {
 protected:
  std::string path(const std::string& file) const { return (root_ / file).string(); }
  void shard(int number, const std::string& members) const {
    write(fmt::format("s-{:02}.tar", number), members + tar_end());
  }
  DatasetChoice choice(const std::string& pattern = "s-{00..01}.tar") const {
    return choose_datasets({"tar:" + path(pattern)})[0];
  }
  std::string bad(const Dataset& dataset, int64_t record) const {
    return message_of([&] { read(dataset, record); }, ExitCode::kBadData);
  }
};

TEST_F(OwnTar, MembersOfOneKeyAreASample) {
  shard(0, tar_member("d/1.jpg", "one") + tar_member("d/1.json", kTurns) +
               tar_member("d/1.cls", "7") + tar_member("d/2.txt", "A caption.\n") +
               tar_member("d/2.seg.png", "no") + tar_member("d/2.PNG", "two"));
  shard(1, tar_member("3.json", kTextOnly) + tar_member("._x.jpg", "no") +
               tar_member("4.webp", "four") + tar_member("4.json", R"({"width":3})") +
               tar_member("4.txt", "Of img2dataset."));
  const auto dataset = open_dataset(choice(), sources());
  ASSERT_EQ(dataset->num_records(), 4);
  EXPECT_EQ(dataset->name(), "s");
  const RawSample first = read(*dataset, 0), second = read(*dataset, 1), last = read(*dataset, 3);
  EXPECT_EQ(first.rounds[0].question, "Q ");
  ASSERT_EQ(first.num_images(), 1);
  const ImageRef image = first.rounds[0].images[0];
  EXPECT_EQ(image.source->read(image.key), "one");
  EXPECT_EQ(image.name(), path("s-00.tar") + ": d/1 (the image)");
  EXPECT_EQ(second.rounds[0].answer, "A caption.");
  EXPECT_EQ(second.rounds[0].images[0].source->read(second.rounds[0].images[0].key), "two");
  EXPECT_EQ(read(*dataset, 2).num_images(), 0);
  EXPECT_EQ(last.rounds[0].answer, "Of img2dataset.");
  EXPECT_EQ(dataset->file_of(3), path("s-01.tar"));
}

TEST_F(OwnTar, UnpairedAndBrokenMembersAreBadSamples) {
  shard(0, tar_member("1.jpg", "x") + tar_member("2.txt", "caption") +
               tar_member("3.json", kTurns) + tar_member("4.jpg", "x") +
               tar_member("4.json", "{oops") + tar_member("5.json", kTextOnly) +
               tar_member("5.json", kTextOnly) + tar_member("6.jpg", "x") +
               tar_member("6.json", kTurns));
  const auto dataset = open_dataset(choice("s-00.tar"), sources());
  ASSERT_EQ(dataset->num_records(), 6);
  for (const auto& [record, part] : std::vector<std::pair<int64_t, const char*>>{
           {0, "s-00.tar: 1: an image without .json or .txt"},
           {1, "s-00.tar: 2: a caption without an image"},
           {2, "1 image placeholders for 0 images"},
           {3, "s-00.tar: 4.json: not valid JSON"},
           {4, "s-00.tar: 5: two members .json"}})
    EXPECT_TRUE(contains(bad(*dataset, record), part)) << bad(*dataset, record);
  EXPECT_EQ(read(*dataset, 5).num_images(), 1);
}

TEST_F(OwnTar, AShardThatIsMissingOrDamagedIsNamed) {
  shard(0, tar_member("1.txt", "x"));
  EXPECT_TRUE(contains(
      message_of([&] { open_dataset(choice(), sources()); }, ExitCode::kMissingInput), "s-01.tar"));
  write("s-01.tar", tar_member("2.jpg", std::string(2000, 'x')).substr(0, 1500));
  EXPECT_TRUE(contains(message_of([&] { open_dataset(choice(), sources()); }, ExitCode::kBadData),
                       path("s-01.tar") + ": not a sound tar archive at byte 512"));
}

TEST_F(OwnTar, TheIndexBelongsToAllShards) {
  shard(0, tar_member("1.json", kTextOnly));
  shard(1, tar_member("2.json", kTextOnly));
  DatasetSources with = sources();
  with.index_directory = path("index");
  const auto is_mapped = [&] { return TarIndex(choice().paths, path("index"), "s").is_mapped(); };
  EXPECT_FALSE(is_mapped());
  index_files(choice(), with);
  EXPECT_TRUE(is_mapped());
  const uint64_t fingerprint = open_dataset(choice(), with)->fingerprint();
  EXPECT_EQ(fingerprint, open_dataset(choice(), sources())->fingerprint());
  fs::last_write_time(path("s-01.tar"),
                      fs::last_write_time(path("s-01.tar")) + std::chrono::seconds(1));
  EXPECT_FALSE(is_mapped());
  EXPECT_EQ(fingerprint, open_dataset(choice(), with)->fingerprint());
  shard(1, tar_member("3.json", kTextOnly));
  EXPECT_NE(fingerprint, open_dataset(choice(), with)->fingerprint());
}

// Each shard has a hash of its own, so that the one that changed can be named.
TEST_F(OwnTar, AChangedShardIsTold) {
  shard(0, tar_member("1.json", kTextOnly));
  shard(1, tar_member("2.json", kTextOnly));
  const std::vector<SourceFile> before = open_dataset(choice(), sources())->files();
  shard(0, tar_member("another.json", kTextOnly));
  const std::vector<SourceFile> after = open_dataset(choice(), sources())->files();
  ASSERT_EQ(after.size(), 2U);
  EXPECT_EQ(after[0].path, path("s-00.tar"));
  EXPECT_EQ(after[0].hashed, SourceFile::Hashed::kIndex);
  EXPECT_NE(after[0].hash, before[0].hash);
  EXPECT_EQ(after[1].hash, before[1].hash);
  shard(1, tar_member("7.json", kTextOnly));
  EXPECT_NE(open_dataset(choice(), sources())->files()[1].hash, before[1].hash) << "another key";
}

TEST(BraceExpansion, RangesAndListsAsInBash) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(expand_braces("a"), Texts{"a"});
  EXPECT_EQ(expand_braces("s-{08..11}.tar"),
            (Texts{"s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"}));
  EXPECT_EQ(expand_braces("{a,b}{9..10}"), (Texts{"a9", "a10", "b9", "b10"}));
  EXPECT_EQ(expand_braces("{a,}"), (Texts{"a", ""}));
  EXPECT_EQ(without_braces("d{0..1}/s-{000..127}.tar"), "d/s-.tar");
  for (const char* pattern : {"{", "}", "a}b{", "{1..}", "{3..1}", "{a..c}", "{a}", "{}",
                              "{0..100000}", "{0..999}{0..999}", "{1..99999999999999999999}"})
    EXPECT_THROW(expand_braces(pattern), Error) << pattern;
}

}  // namespace
}  // namespace facet
