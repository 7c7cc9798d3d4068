// A step that was repeated, beside the row that the run's log has of it.
#pragma once

#include <string>
#include <vector>

#include "train/log_table.h"
#include "train/step_report.h"

namespace facet {

struct ComparedValue {
  std::string column;  // of loss_log.csv
  std::string now, logged;
  bool equal = false;  // the same bits: the log's digits read back as the value they were
};

// Everything of a step that does not depend on time, in the order of the log. A data set that had
// no labelled token in the step has the loss 0 in logs of version 1 and none in later ones.
std::vector<ComparedValue> compare_with_log(const StepReport& report, const LogTable& log,
                                            size_t row, const std::vector<std::string>& groups,
                                            const std::vector<std::string>& datasets);

bool all_equal(const std::vector<ComparedValue>& values);

// "loss=2.3 (the log has 2.4), grad_norm=..": those that differ.
std::string differences_text(const std::vector<ComparedValue>& values);

// A table of all values.
std::string table_text(const std::vector<ComparedValue>& values);

}  // namespace facet
