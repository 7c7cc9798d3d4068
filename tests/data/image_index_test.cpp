#include "data/image_index.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "base/check.h"
#include "data/json_images.h"
#include "io/base64.h"
#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

class ImageIndexTest : public testing::Test {
 protected:
  std::string json(const std::string& text) const { return directory_.put("SD.json", text); }
  std::string index() const { return directory_ / "index"; }
  std::string index_file() const { return index() + "/SD.json.index"; }
  bool is_mapped() const {
    return ImageIndex(InputFile(directory_ / "SD.json"), index()).is_mapped();
  }
  void keep() const { ImageIndex::keep(InputFile(directory_ / "SD.json"), index()); }

  TemporaryDirectory directory_;
};

TEST_F(ImageIndexTest, IsMadeOnceAndThenMapped) {
  const std::string path = json(R"({"b":"Zm9v","a":"Zg=="})");
  EXPECT_FALSE(is_mapped());
  EXPECT_FALSE(fs::exists(index())) << "only keep() writes";
  keep();
  EXPECT_TRUE(is_mapped());
  const auto written = fs::last_write_time(index_file());
  keep();
  EXPECT_EQ(fs::last_write_time(index_file()), written);
  for (const std::string& directory : {index(), std::string()}) {
    const JsonImages images(path, directory);
    EXPECT_EQ(images.read("a"), "f");
    EXPECT_EQ(images.read("b"), "foo");
    EXPECT_TRUE(images.contains("b"));
    EXPECT_FALSE(images.contains(""));
  }
}

TEST_F(ImageIndexTest, BesideTheFileItServesAllRuns) {
  json(R"({"a":"Zg=="})");
  keep();
  fs::rename(index_file(), directory_ / "SD.json.index");
  EXPECT_TRUE(is_mapped());
  EXPECT_TRUE(ImageIndex(InputFile(directory_ / "SD.json"), "").is_mapped());
  keep();
  EXPECT_FALSE(fs::exists(index_file()));
}

TEST_F(ImageIndexTest, OfAnotherFileOrDamagedIsNotUsed) {
  json(R"({"a":"Zg=="})");
  keep();
  json(R"({"a": "Zg=="})");  // another size
  EXPECT_FALSE(is_mapped());
  keep();
  EXPECT_TRUE(is_mapped());
  fs::last_write_time(directory_ / "SD.json",
                      fs::last_write_time(directory_ / "SD.json") + std::chrono::seconds(1));
  EXPECT_FALSE(is_mapped());
  keep();
  const std::string good = read_file(index_file(), 1 << 20);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    directory_.put("index/SD.json.index", bad);
    ASSERT_FALSE(is_mapped()) << "byte " << i;
  }
  for (const size_t bytes : {size_t{0}, size_t{63}, size_t{64}, good.size() - 1}) {
    directory_.put("index/SD.json.index", good.substr(0, bytes));
    ASSERT_FALSE(is_mapped()) << bytes;
  }
  directory_.put("index/SD.json.index", good);
  EXPECT_TRUE(is_mapped());
}

TEST_F(ImageIndexTest, WhyItIsMadeAgainIsTold) {
  const auto told = [&] {
    testing::internal::CaptureStderr();
    keep();
    return testing::internal::GetCapturedStderr();
  };
  json(R"({"a":"Zg=="})");
  EXPECT_EQ(told(), "");
  const std::string good = read_file(index_file(), 1 << 20);
  directory_.put("index/SD.json.index", good.substr(0, good.size() - 1));
  EXPECT_TRUE(mentions(told(), "SD.json: its index " + index_file() + " is damaged"));
  json(R"({"a": "Zg=="})");
  EXPECT_TRUE(
      mentions(told(), "SD.json: the file has changed since " + index_file() + " was made"));
}

TEST_F(ImageIndexTest, FindsEveryIdOfMany) {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i)
    text += fmt::format("{}\"IMG_{}\" : \"{}\"", i == 0 ? "" : ",\n", i * 7 % 1000,
                        encode_base64(std::to_string(i * 7 % 1000)));
  const JsonImages images(json(text + "}"), "");
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(images.read(fmt::format("IMG_{}", i)), std::to_string(i));
  EXPECT_FALSE(images.contains("IMG_1000"));
}

TEST_F(ImageIndexTest, ABadImageIsNamedWithItsId) {
  const JsonImages images(
      json(
          R"({"good":"Zm9v","slash":"Zm9v\/\/\/\/","null":null,"number":7,"twice":"Zg==","twice":"Zg==",)"
          R"("cut":"Zm9","line":"Zm9v\nZm9v","\u6f22":"Zg=="})"),
      "");
  EXPECT_EQ(images.read("good"), "foo");
  EXPECT_EQ(images.read("slash"), "foo\xff\xff\xff");
  EXPECT_EQ(images.read("\u6f22"), "f");
  const std::pair<const char*, const char*> bad[] = {{"lost", "66: "},   {"null", "65: "},
                                                     {"number", "65: "}, {"twice", "65: "},
                                                     {"cut", "65: "},    {"line", "65: "}};
  for (const auto& [id, code] : bad) {
    const std::string error = error_of([&, id = id] { images.read(id); });
    EXPECT_TRUE(error.starts_with(code + (directory_ / "SD.json") + ": image " + id)) << error;
  }
}

}  // namespace
}  // namespace facet
