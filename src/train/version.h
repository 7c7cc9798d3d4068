// The program, the compiler and the libraries it runs with.
#pragma once

#include <string>

namespace facet {

struct ProgramVersion {
  std::string version;  // of facet
  std::string git;      // train/git_version.h
  std::string mpi, hdf5, onednn;
  std::string cuda;  // what it was built for; says so where it was built without
};
ProgramVersion program_version();

// "facet 0.1 (git 8762aea1b2c3)"
std::string program_name();

// "g++ 12.2.0, AVX2, FMA": on these too the last bits of what the host computes depend.
std::string compiler_text();

// For --version: a line for each.
std::string version_text();

}  // namespace facet
