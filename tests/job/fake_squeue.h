// A `squeue` of the tests' own in PATH, and the variables of a Slurm job.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

namespace facet {

// Sets environment variables and puts them back.
class Environment {
 public:
  ~Environment() {
    for (const auto& [name, value] : before_)
      value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
  }
  void set(const std::string& name, const std::string& value) {
    keep(name);
    setenv(name.c_str(), value.c_str(), 1);
  }
  void remove(const std::string& name) {
    keep(name);
    unsetenv(name.c_str());
  }

 private:
  void keep(const std::string& name) {
    const char* const value = std::getenv(name.c_str());
    before_.emplace(name, value != nullptr ? std::optional<std::string>(value) : std::nullopt);
  }
  std::map<std::string, std::optional<std::string>> before_;
};

class FakeSqueue {
 public:
  FakeSqueue() {
    std::filesystem::create_directories(directory_);
    for (const char* name : {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
                             "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME", "SLURM_JOB_END_TIME"})
      environment.remove(name);
    environment.set("PATH", directory_);  // a real one may be installed
    std::filesystem::remove(directory_ + "/squeue");
    std::filesystem::remove(directory_ + "/calls");
  }
  ~FakeSqueue() { std::filesystem::remove_all(directory_); }

  // What it does, in sh.
  void does(const std::string& commands) const {
    const std::string path = directory_ + "/squeue";
    std::ofstream(path) << "#!/bin/sh\necho \"$@\" >>" << directory_ << "/calls\n" << commands;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  // A line for each call: its arguments.
  std::string calls() const {
    std::ifstream file(directory_ + "/calls");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  Environment environment;

 private:
  std::string directory_ = ::testing::TempDir() + "facet_fake_squeue";
};

}  // namespace facet
