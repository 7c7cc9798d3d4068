#include "io/hdf5_file.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "io/file.h"
#include "temporary_directory.h"

namespace facet {
namespace {

TEST(Hdf5File, WhatIsWrittenReadsBack) {
  TemporaryDirectory directory;
  const std::string path = directory / "a.h5";
  const std::vector<float> pixels = {1, 2.5f, -3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> ids = {1, -100, 2147483647};
  const std::vector<int64_t> large = {int64_t{1} << 40, -1};
  {
    Hdf5File file = Hdf5File::create(path);
    file.write("step_0/rank_1/pixels", pixels.data(), {1, 2, 2, 2});
    file.write("step_0/rank_1/ids", ids.data(), {3});
    file.write("step_0/large", large.data(), {1, 2});
    file.write("step_0/none", ids.data(), {0, 3});
    file.write_attribute("/", "format", "facet replay");
    file.write_attribute("step_0", "note", "two\nlines \xc3\xa9");
    file.write_attribute("step_0/large", "empty", "");
    file.write_attribute("/", "long", std::string(100000, 'x'));
    file.close();
  }
  Hdf5File first = Hdf5File::open(path);
  const Hdf5File file = std::move(first);
  EXPECT_EQ(file.shape("step_0/rank_1/pixels"), (std::vector<int64_t>{1, 2, 2, 2}));
  EXPECT_EQ(file.read_f32("step_0/rank_1/pixels"), pixels);
  EXPECT_EQ(file.read_i32("step_0/rank_1/ids"), ids);
  EXPECT_EQ(file.read_i64("step_0/large"), large);
  EXPECT_TRUE(file.read_i32("step_0/none").empty());
  EXPECT_EQ(file.shape("step_0/none"), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(file.read_attribute("/", "format"), "facet replay");
  EXPECT_EQ(file.read_attribute("step_0", "note"), "two\nlines \xc3\xa9");
  EXPECT_EQ(file.read_attribute("step_0/large", "empty"), "");
  EXPECT_EQ(file.read_attribute("/", "long").size(), 100000u);
  EXPECT_TRUE(file.has_attribute("/", "format"));
  EXPECT_FALSE(file.has_attribute("/", "formats"));
  EXPECT_TRUE(file.exists("step_0/rank_1"));
  EXPECT_FALSE(file.exists("step_0/rank_2/ids"));
}

TEST(Hdf5File, ErrorsNameTheFileAndTheObject) {
  TemporaryDirectory directory;
  const std::string path = directory / "a.h5";
  const int32_t one = 1;
  {
    Hdf5File file = Hdf5File::create(path);
    file.write("x", &one, {1});
    EXPECT_TRUE(mentions(error_of([&] { file.write("x", &one, {1}); }), "74: " + path));
  }
  const Hdf5File file = Hdf5File::open(path);
  EXPECT_TRUE(
      mentions(error_of([&] { file.read_f32("x"); }), "x does not have the expected element type"));
  EXPECT_TRUE(
      mentions(error_of([&] { file.read_i64("x"); }), "x does not have the expected element type"));
  testing::internal::CaptureStderr();
  const std::string error = error_of([&] { file.read_i32("y"); });
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(mentions(error, "65: " + path + ": opening y failed in HDF5: "));
  EXPECT_FALSE(mentions(error, "no reason given"));
  EXPECT_TRUE(mentions(error_of([&] { file.read_attribute("/", "y"); }), "attribute y of /"));
  EXPECT_TRUE(mentions(error_of([&] { Hdf5File::open(directory / "none.h5"); }), "66: "));
  EXPECT_TRUE(mentions(error_of([&] { Hdf5File::create(directory / "no/a.h5"); }), "74: "));
}

TEST(Hdf5File, RubbishIsRefused) {
  TemporaryDirectory directory;
  const std::string path = directory / "a.h5";
  const std::vector<int32_t> ids(1000, 7);
  {
    Hdf5File file = Hdf5File::create(path);
    file.write("x", ids.data(), {1000});
    file.close();
  }
  const std::string good = read_file(path, 1 << 20);
  for (const size_t length : {size_t{0}, size_t{7}, size_t{60}, good.size() / 2}) {
    directory.put("t.h5", std::string_view(good).substr(0, length));
    EXPECT_TRUE(mentions(error_of([&] { Hdf5File::open(directory / "t.h5"); }), "65: ")) << length;
  }
}

}  // namespace
}  // namespace facet
