// OUT/loss_curve.svg: the loss of every step, its running mean and the evaluations, as a plot for
// any browser.
#pragma once

#include <string>
#include <vector>

namespace facet {

struct CurvePoint {
  double step = 0;
  double loss = 0;
};

// The SVG text. `train` has a point per step, `eval` one per evaluation; either may be empty.
// Points that are not finite are left out. More than 2,000 steps are thinned for the pale line; the
// running mean sees all of them.
std::string loss_curve_svg(const std::vector<CurvePoint>& train,
                           const std::vector<CurvePoint>& eval);

// The points of a log (loss_log.h): its columns step and loss.
std::vector<CurvePoint> read_curve(const std::string& log_path);

// Writes it next to the logs, under a temporary name first. Throws Error(kIo) with the path.
void write_loss_curve(const std::string& output_dir, const std::vector<CurvePoint>& train,
                      const std::vector<CurvePoint>& eval);

}  // namespace facet
