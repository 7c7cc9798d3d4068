// Annotations of MIMIC-IT: {"data": {id: {"instruction": text, "answer": text, "image_ids": [id,
// ...], "rel_ins_ids": [id, ...]}, ...}}. Records that belong together become one conversation:
//
// In the order of the file, each record that no earlier one has taken is a head. It brings its
// images and a round of its own; then each of its rel_ins_ids that is not yet taken brings a round
// (and shows no images of its own). Which heads count is for the data set to say; the others take
// no records.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/json_records.h"

namespace facet {

class MimicItConversations {
 public:
  // Why a head does not count; "" if it does. A malformed record may throw: it counts, and is bad
  // when it is read.
  using WhyNot = std::function<std::string(const JsonValue& record)>;

  // `root`: of the annotation file. A line of the log of `dataset` tells what was left out.
  MimicItConversations(const std::string& dataset, const JsonValue& root, const WhyNot& why_not);

  int64_t size() const { return static_cast<int64_t>(begin_.size()) - 1; }
  JsonValue head(int64_t conversation) const;
  // The head's own first. Without images.
  std::vector<RawRound> rounds(int64_t conversation) const;

 private:
  void add(int64_t head, std::vector<bool>& taken);

  JsonRecords records_;
  std::vector<int32_t> members_;   // records, one conversation after the other
  std::vector<int64_t> begin_{0};  // (conversations + 1) in members_
};

// An array of ids.
JsonValue ids_of(const JsonValue& record, std::string_view key);

// The file name of COCO's image of which "CGD_IMG_000000123456" is the id: what follows the first
// eight characters, and .jpg.
std::string coco_file_of_cgd(std::string_view image_id);

}  // namespace facet
