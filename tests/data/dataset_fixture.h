// A --data_path that a test fills, and how it looks at what is read of it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "data/dataset.h"

namespace facet {

namespace fs = std::filesystem;

class DatasetTest : public testing::Test {
 protected:
  DatasetTest()
      : root_(fs::temp_directory_path() / ("facet_dataset_test." + std::to_string(getpid()))) {
    for (const char* images : {"coco/train2017", "coco/2014", "cc_sbu_align/image"})
      fs::create_directories(root_ / images);
  }
  ~DatasetTest() override { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  void write_llava(const std::string& records) const {
    write("llava/detail_23k.json", "[" + records + "]");
    write("llava/complex_reasoning_77k.json", "[]");
  }
  DatasetSources sources() const { return {root_, {"What?", "Where?", "Why?"}}; }
  std::unique_ptr<Dataset> open(const std::string& name) const {
    return open_dataset(name, sources());
  }
  static RawSample read(const Dataset& dataset, int64_t record, uint64_t sample = 0) {
    RandomStream draws(1, "test", 0, sample);
    return dataset.read(record, draws);
  }
  // The message of the error that `action` must end in.
  template <typename Action>
  static std::string message_of(Action action, ExitCode code) {
    try {
      action();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  fs::path root_;
};

inline std::vector<std::string> names(const std::vector<ImageRef>& images) {
  std::vector<std::string> result;
  for (const ImageRef& image : images) result.push_back(image.name());
  return result;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace facet
