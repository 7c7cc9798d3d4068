// Names of the Hugging Face hub become directories of its local cache.
#include "options/hub_cache.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "options/options.h"
#include "tests/environment.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

const std::string kCommit(40, 'a');

class HubCacheTest : public ::testing::Test {
 protected:
  HubCacheTest() {
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"})
      environment_.remove(name);
    environment_.set("HOME", home_);
    fs::remove_all(home_);
    fs::create_directories(home_);
  }
  ~HubCacheTest() override { fs::remove_all(home_); }

  // A model with one snapshot, whose refs/main holds `ref`. Returns the snapshot's directory.
  static std::string add(const std::string& cache, const std::string& model,
                         const std::string& ref = kCommit) {
    const std::string root = cache + "/models--" + model;
    fs::create_directories(root + "/refs");
    fs::create_directories(root + "/snapshots/" + kCommit);
    std::ofstream(root + "/refs/main") << ref;
    return root + "/snapshots/" + kCommit;
  }
  static std::string failure(const std::string& name) {
    const auto found = look_up_in_hub_cache(name);
    return found ? found->failure : "no name";
  }
  static std::string directory(const std::string& name) {
    const auto found = look_up_in_hub_cache(name);
    return found ? found->directory : "no name";
  }

  const std::string home_ = ::testing::TempDir() + "hub_cache_home";
  Environment environment_;
};

TEST_F(HubCacheTest, NamesAreFoundInTheCacheThatTheEnvironmentNames) {
  environment_.set("XDG_CACHE_HOME", home_ + "/xdg");
  const std::string xdg = add(home_ + "/xdg/huggingface/hub", "meta-llama--Llama-2-7b-hf");
  EXPECT_EQ(directory("meta-llama/Llama-2-7b-hf"), xdg);
  environment_.set("HF_HOME", home_ + "/hf");
  EXPECT_EQ(directory("meta-llama/Llama-2-7b-hf"), "");
  const std::string hf = add(home_ + "/hf/hub", "meta-llama--Llama-2-7b-hf", kCommit + "\n");
  EXPECT_EQ(directory("meta-llama/Llama-2-7b-hf"), hf);
  environment_.set("HF_HUB_CACHE", "~/own");
  const std::string own = add(home_ + "/own", "gpt2");
  EXPECT_EQ(directory("gpt2"), own);
  environment_.set("HF_HUB_CACHE", "${HF_HOME}/$NONE/../hub");
  fs::create_directory(home_ + "/hf/$NONE");
  EXPECT_EQ(hub_cache_directory(), home_ + "/hf/$NONE/../hub");
  EXPECT_NE(directory("meta-llama/Llama-2-7b-hf"), "");
}

TEST_F(HubCacheTest, WithoutVariablesItLiesInTheHomeDirectory) {
  const std::string snapshot = add(home_ + "/.cache/huggingface/hub", "openai--clip");
  EXPECT_EQ(directory("openai/clip"), snapshot);
}

TEST_F(HubCacheTest, WhatIsMissingIsSaidWithTheCommandThatFetchesIt) {
  const std::string hub = home_ + "/.cache/huggingface/hub";
  EXPECT_NE(failure("a/b").find(hub + " has no models--a--b"), std::string::npos) << failure("a/b");
  EXPECT_NE(failure("a/b").find("hf download a/b (before huggingface_hub 0.34: "
                                "huggingface-cli download a/b)"),
            std::string::npos);
  add(hub, "a--b", std::string(40, 'b'));
  EXPECT_NE(failure("a/b").find(", which is a/b@main, is not there"), std::string::npos);
  for (const std::string& foreign : {std::string("../../../../etc"), std::string(), "x\n" + kCommit,
                                     kCommit.substr(1), std::string(1000, 'a')}) {
    add(hub, "a--b", foreign);
    EXPECT_EQ(directory("a/b"), "") << foreign;
    EXPECT_NE(failure("a/b"), "") << foreign;
  }
}

// Fetched with --revision COMMIT.
TEST_F(HubCacheTest, SnapshotsThatRefsMainDoesNotNameAreNamed) {
  const std::string hub = home_ + "/.cache/huggingface/hub";
  add(hub, "a--b", std::string(40, 'b'));
  const std::string there = "; in the cache there are a/b@" + kCommit + ": give one of these";
  EXPECT_NE(failure("a/b").find(", is not there" + there), std::string::npos) << failure("a/b");
  fs::remove(hub + "/models--a--b/refs/main");
  EXPECT_EQ(directory("a/b"), "");
  EXPECT_NE(failure("a/b").find("/refs/main" + there), std::string::npos) << failure("a/b");
}

TEST_F(HubCacheTest, RevisionsAreBranchesTagsAndWholeCommits) {
  const std::string root = home_ + "/.cache/huggingface/hub/models--a--b";
  const std::string snapshot = add(home_ + "/.cache/huggingface/hub", "a--b");
  const std::string other = root + "/snapshots/" + std::string(40, 'b');
  fs::create_directories(other);
  fs::create_directories(root + "/refs/refs/pr");
  std::ofstream(root + "/refs/refs/pr/1") << std::string(40, 'b');
  std::ofstream(root + "/refs/v1.0") << std::string(40, 'c');
  EXPECT_EQ(directory("a/b@main"), snapshot);
  EXPECT_EQ(directory("a/b@refs/pr/1"), other);
  EXPECT_EQ(directory("a/b@" + kCommit), snapshot);
  EXPECT_EQ(directory("a/b@" + std::string(40, 'b')), other);
  const std::string there = "; in the cache there are a/b@main, a/b@refs/pr/1: give one of these";
  for (const std::string& name : {std::string("a/b@v1.0"), std::string("a/b@v2"),
                                  "a/b@" + kCommit.substr(1), "a/b@" + std::string(40, 'd')}) {
    EXPECT_EQ(directory(name), "") << name;
    EXPECT_NE(failure(name).find(there), std::string::npos) << failure(name);
  }
  EXPECT_NE(failure("a/b@v2").find("hf download a/b --revision v2 ("), std::string::npos);
  EXPECT_NE(failure("a/c@v2").find("has no models--a--c"), std::string::npos) << failure("a/c@v2");
}

TEST_F(HubCacheTest, PathsAreNoNames) {
  for (const char* path :
       {"/models/a", "./a",     "../a",   "a/b/c",     "a//b",     "a/",    "",
        "~/a",       "a/..",    "a b",    "a/.hidden", "a\nb",     "a@",    "@main",
        "a@../main", "a@/main", "a@b//c", "a@b/",      "a@b/../c", "a@v 1", "a@.."})
    EXPECT_FALSE(look_up_in_hub_cache(path)) << path;
  EXPECT_FALSE(look_up_in_hub_cache(std::string(97, 'a')));
}

// A directory goes before a name.
TEST_F(HubCacheTest, OptionsTakeTheSnapshot) {
  const std::string hub = home_ + "/.cache/huggingface/hub";
  const std::string lm = add(hub, "o--lm"), adapter = add(hub, "o--adapter");
  const ParsedOptions parsed =
      parse_options(Command::kPlan,
                    {"--lm_model_name_or_path", "o/lm", "--vision_model_name_or_path", home_,
                     "--adapter", "o/adapter@" + kCommit},
                    1);
  EXPECT_EQ(parsed.options.lm_model_name_or_path, lm);
  EXPECT_EQ(parsed.options.adapter, adapter);
  EXPECT_EQ(parsed.options.vision_model_name_or_path, home_);
  ASSERT_FALSE(parsed.notes.empty());
  EXPECT_EQ(parsed.notes.back(), "o/adapter@" + kCommit + ": " + adapter);

  Options missing = parsed.options;
  missing.lm_model_name_or_path = "o/other";
  try {
    check_paths(Command::kPlan, missing);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kMissingInput);
    EXPECT_NE(std::string(error.what()).find("huggingface-cli download o/other"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace facet
