// The entries of a zip file as PyTorch writes it: stored without compression, zip64 where 32 bits
// do not suffice (PKWARE's APPNOTE 6.3.3, sections 4.3 and 4.5.3).
//
// The reader trusts nothing: every length is checked against the file, no name twice, no two
// entries overlap, no file in several parts. Entries that are compressed or encrypted are listed,
// but their content cannot be read.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "io/input_file.h"

namespace facet {

struct ZipEntry {
  int64_t begin = 0;  // of its content, in bytes from the beginning of the file
  int64_t bytes = 0;
  uint32_t crc = 0;              // CRC-32 of the content, as the directory says
  const char* packed = nullptr;  // "compressed", "encrypted": not as it was stored
};

// By name. kBadData.
std::map<std::string, ZipEntry> read_zip_directory(const InputFile& file);

// CRC-32 of a range of the file.
uint32_t crc32_of(const InputFile& file, int64_t begin, int64_t bytes);

}  // namespace facet
