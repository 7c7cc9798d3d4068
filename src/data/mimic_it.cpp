#include "data/mimic_it.h"

#include <fmt/format.h>

#include "base/check.h"
#include "data/bad_samples.h"
#include "data/formats.h"
#include "data/left_out.h"

namespace facet {

namespace {

// What `action` makes of a record; nothing where the record is malformed.
template <typename Action>
void if_well_formed(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
  }
}

}  // namespace

JsonValue ids_of(const JsonValue& record, std::string_view key) {
  const JsonValue ids = record.at(key);
  if (!ids.is_array()) ids.reject("expected an array of ids");
  for (const JsonValue id : ids) id.as_string();
  return ids;
}

std::string coco_file_of_cgd(std::string_view image_id) {
  constexpr std::string_view kPrefix = "CGD_";
  constexpr size_t kPrefixLength = 8;
  CHECK(image_id.starts_with(kPrefix) && image_id.size() > kPrefixLength, ExitCode::kBadData,
        "the image id {} is not CGD_IMG_ and the name of a COCO image", image_id);
  return std::string(image_id.substr(kPrefixLength)) + ".jpg";
}

MimicItConversations::MimicItConversations(const std::string& dataset, const JsonValue& root,
                                           const WhyNot& why_not)
    : records_(root.at("data")) {
  std::vector<bool> taken(static_cast<size_t>(records_.size()));
  LeftOut left_out;
  for (int64_t record = 0; record < records_.size(); ++record) {
    if (taken[static_cast<size_t>(record)]) continue;
    taken[static_cast<size_t>(record)] = true;
    std::string reason;
    if_well_formed([&] { reason = why_not(records_.at(record)); });
    if (reason.empty()) {
      add(record, taken);
    } else {
      left_out.add(reason, std::string(records_.id(record)));
    }
  }
  left_out.tell(dataset, size());
}

void MimicItConversations::add(int64_t head, std::vector<bool>& taken) {
  members_.push_back(static_cast<int32_t>(head));
  if_well_formed([&] {
    for (const JsonValue id : ids_of(records_.at(head), "rel_ins_ids")) {
      const std::optional<int64_t> related = records_.find(id.as_string());
      if (!related || taken[static_cast<size_t>(*related)]) continue;
      taken[static_cast<size_t>(*related)] = true;
      members_.push_back(static_cast<int32_t>(*related));
    }
  });
  begin_.push_back(static_cast<int64_t>(members_.size()));
}

JsonValue MimicItConversations::head(int64_t conversation) const {
  const int64_t first = begin_[static_cast<size_t>(conversation)];
  const JsonValue record = records_.at(members_[static_cast<size_t>(first)]);
  ids_of(record, "rel_ins_ids");  // malformed: then it has taken none
  return record;
}

std::vector<RawRound> MimicItConversations::rounds(int64_t conversation) const {
  const auto c = static_cast<size_t>(conversation);
  std::vector<RawRound> rounds;
  for (int64_t m = begin_[c]; m < begin_[c + 1]; ++m) {
    const JsonValue record = records_.at(members_[static_cast<size_t>(m)]);
    RawRound& round = rounds.emplace_back();
    round.question = clean_question(record.at("instruction").as_string());
    round.answer = record.at("answer").as_string();
  }
  return rounds;
}

}  // namespace facet
