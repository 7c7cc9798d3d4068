#include "data/left_out.h"

#include "base/check.h"
#include "base/log.h"

namespace facet {

void LeftOut::add(const std::string& reason, const std::string& example) {
  Reason& of_reason = reasons_[reason];
  if (of_reason.count++ == 0) of_reason.example = example;
}

void LeftOut::tell(const std::string& dataset, int64_t kept) const {
  std::string all;
  for (const auto& [text, reason] : reasons_)
    all += fmt::format("\n  {}: {}, the first is {}", text, reason.count, reason.example);
  CHECK(kept > 0 || all.empty(), ExitCode::kBadData,
        "data set {}: all its conversations are left out:{}", dataset, all);
  for (const auto& [text, reason] : reasons_)
    log("data set {}: {} conversations are used, {} are left out ({}), the first is {}", dataset,
        kept, reason.count, text, reason.example);
}

std::string why_not_so_many(int64_t images, int64_t max_images) {
  if (images <= max_images) return "";
  return fmt::format("more images than --max_num_image_per_sample {}", max_images);
}

}  // namespace facet
