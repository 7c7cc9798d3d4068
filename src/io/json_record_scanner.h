// Where the records of a JSON file of any size lie: the lines of JSON lines, or the elements of one
// array. Reads from the begin to the end once, in pieces.
//
// Of a record only its end is looked for; whoever reads it finds out whether it is JSON. A bad line
// is therefore one bad record. In an array a bracket or quotation mark too many shifts the ends of
// all that follow.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "io/input_file.h"

namespace facet {

struct JsonRecordPlace {
  int64_t offset = 0, bytes = 0;
  int64_t line = 0;  // where it begins, from 1
};

// Calls `found` for every record, in order; lines of white space only are none. Returns XXH3 of all
// bytes of the file. A file that begins with '[' and is not called .jsonl or .ndjson is an array.
// An array that does not end, and a file that holds something else by its first bytes (an archive,
// HTML, ...), are Error(kBadData).
uint64_t scan_json_records(const InputFile& file,
                           const std::function<void(const JsonRecordPlace&)>& found);

}  // namespace facet
