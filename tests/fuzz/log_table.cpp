// loss_log.csv as a plan by a measured run and the repetition of a step read it: by the names of
// its columns.
#include "train/log_table.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string path = fuzz::put("loss_log.csv", fuzz::text_of(data, size));
  return fuzz::may_refuse([&] {
    const LogTable log(path);
    for (size_t row = 0; row < log.rows(); ++row)
      for (const std::string& column : log.columns()) static_cast<void>(log.text(row, column));
    if (log.rows() == 0) return;
    const std::string& step = log.text(log.rows() - 1, "step");
    for (const int64_t number : {int64_t{2}, int64_t{-1}})
      if (step == std::to_string(number))
        fuzz::require(log.row_of_step(number) == log.rows() - 1, "the last row is not found");
    static_cast<void>(log.number(0, "loss"));
  });
}
