// A `squeue` of the tests' own in PATH, and the variables of a Slurm job.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/environment.h"

namespace facet {

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
