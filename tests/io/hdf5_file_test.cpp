#include "io/hdf5_file.h"

#include <gtest/gtest.h>
#include <hdf5.h>

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

// A file with the data set x of 1000 integers, and what `change` adds to it.
std::string file_with(const TemporaryDirectory& directory, void (*change)(hid_t file)) {
  const std::string path = directory / "a.h5";
  const std::vector<int32_t> ids(1000, 7);
  Hdf5File made = Hdf5File::create(path);
  made.write("x", ids.data(), {1000});
  made.close();
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  change(file);
  EXPECT_GE(H5Fclose(file), 0);
  return path;
}

void make_dataset(hid_t file, const char* name, hid_t creation) {
  const hsize_t length = 1000;
  const hid_t space = H5Screate_simple(1, &length, nullptr);
  const hid_t dataset =
      H5Dcreate2(file, name, H5T_NATIVE_INT32, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  const std::vector<int32_t> ids(length, 7);
  EXPECT_GE(H5Dwrite(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids.data()), 0);
  H5Dclose(dataset);
  H5Sclose(space);
  H5Pclose(creation);
}

TEST(Hdf5File, LinksAreNotFollowed) {
  const TemporaryDirectory directory;
  const std::string path = file_with(directory, [](hid_t file) {
    H5Lcreate_soft("/x", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/loop", file, "loop", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/x", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
  });
  const Hdf5File file = Hdf5File::open(path);
  for (const std::string name : {"soft", "loop", "outside", "outside/x", "loop/x"}) {
    EXPECT_TRUE(mentions(error_of([&] { file.read_i32(name); }), "65: ")) << name;
    EXPECT_TRUE(mentions(error_of([&] { file.exists(name); }), "is a link to another")) << name;
    EXPECT_TRUE(mentions(error_of([&] { file.shape(name); }), "is a link to another")) << name;
  }
  EXPECT_EQ(file.read_i32("x").size(), 1000u);
}

TEST(Hdf5File, StorageOutsideAndFiltersAreRefused) {
  const TemporaryDirectory directory;
  const std::string path = file_with(directory, [](hid_t file) {
    const hid_t external = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(external, "/dev/null", 0, H5F_UNLIMITED);
    make_dataset(file, "external", external);
    const hid_t filtered = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk = 100;
    H5Pset_chunk(filtered, 1, &chunk);
    H5Pset_fletcher32(filtered);
    make_dataset(file, "filtered", filtered);
    const hid_t chunked = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(chunked, 1, &chunk);
    make_dataset(file, "chunked", chunked);
  });
  const Hdf5File file = Hdf5File::open(path);
  EXPECT_TRUE(mentions(error_of([&] { file.read_i32("external"); }), "is stored in other files"));
  EXPECT_TRUE(mentions(error_of([&] { file.read_i32("filtered"); }), "is compressed or filtered"));
  EXPECT_EQ(file.read_i32("chunked"), std::vector<int32_t>(1000, 7));
}

// Hard links cost nothing in the file.
TEST(Hdf5File, ManyNamesForOneDataSetDoNotFillTheMemory) {
  const TemporaryDirectory directory;
  const std::string path = file_with(directory, [](hid_t file) {
    for (int i = 0; i < 20; ++i)
      H5Lcreate_hard(file, "x", file, std::to_string(i).c_str(), H5P_DEFAULT, H5P_DEFAULT);
  });
  const Hdf5File file = Hdf5File::open(path);
  const std::string error = error_of([&] {
    for (int i = 0; i < 20; ++i) file.read_i32(std::to_string(i));
  });
  EXPECT_TRUE(mentions(error, "65: "));
  EXPECT_TRUE(mentions(error, "more than twice the"));
}

// A file that says it holds more than it does.
TEST(Hdf5File, NoMoreIsAllocatedThanTheFileHas) {
  const TemporaryDirectory directory;
  const std::string path = file_with(directory, [](hid_t file) {
    const hsize_t huge = hsize_t{1} << 40;
    const hid_t space = H5Screate_simple(1, &huge, nullptr);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(creation, H5D_ALLOC_TIME_LATE);
    H5Dclose(H5Dcreate2(file, "late", H5T_NATIVE_INT32, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Pclose(creation);
    H5Sclose(space);
  });
  const Hdf5File file = Hdf5File::open(path);
  EXPECT_TRUE(mentions(error_of([&] { file.read_i32("late"); }), "claims more elements"));
}

}  // namespace
}  // namespace facet
