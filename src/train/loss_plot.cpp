#include "train/loss_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "io/file.h"
#include "train/svg_plot.h"

namespace facet {
namespace {

constexpr PlotFrame kFrame;
constexpr const char* kStepStyle = "stroke=\"#9ecae1\" stroke-width=\"1\"";
constexpr const char* kMeanStyle = "stroke=\"#08519c\" stroke-width=\"2\"";
constexpr const char* kEvalStyle = "stroke=\"#d94801\" stroke-width=\"1.5\"";
constexpr const char* kMeanColor = "#08519c";
constexpr const char* kEvalColor = "#d94801";
constexpr size_t kMostPoints = 2000;
constexpr double kMostSteps = 1e15;
constexpr double kMostSmoothing = 50;  // steps the running mean looks back over, in long runs

// Maps steps and losses to picture coordinates; the loss axis is logarithmic, starting and ending
// at whole fractions.
struct Axes {
  double first_step = 0, last_step = 1;
  double low = 0, high = 0;  // log10 of the loss

  double x(double step) const {
    return kFrame.left + (step - first_step) / (last_step - first_step) * kFrame.plot_width();
  }
  double y(double loss) const {
    return kFrame.top + (high - std::log10(loss)) / (high - low) * kFrame.plot_height();
  }
};

// Steps beyond kMostSteps, in a damaged log, can't be counted one by one.
bool drawable(const CurvePoint& point) {
  return point.step >= 0 && point.step <= kMostSteps && std::isfinite(point.loss) && point.loss > 0;
}

std::vector<CurvePoint> drawable_points(const std::vector<CurvePoint>& points) {
  std::vector<CurvePoint> kept;
  std::copy_if(points.begin(), points.end(), std::back_inserter(kept), drawable);
  return kept;
}

Axes axes_of(const std::vector<CurvePoint>& train, const std::vector<CurvePoint>& eval) {
  double low = INFINITY, high = -INFINITY, first = INFINITY, last = -INFINITY;
  for (const auto* points : {&train, &eval}) {
    for (const CurvePoint& point : *points) {
      low = std::min(low, std::log10(point.loss));
      high = std::max(high, std::log10(point.loss));
      first = std::min(first, point.step);
      last = std::max(last, point.step);
    }
  }
  if (low > high) return {0, 1, 0, 1};  // nothing to draw
  const double margin = std::max(0.05, 0.04 * (high - low));
  return {first, std::max(last, first + 1), low - margin, high + margin};
}

void add_curve(std::string& svg, const Axes& axes, const std::vector<CurvePoint>& points,
               const char* style) {
  const size_t stride = points.size() / kMostPoints + 1;
  std::vector<PlotPoint> drawn;
  for (size_t i = 0; i < points.size(); i += stride)
    drawn.push_back({axes.x(points[i].step), axes.y(points[i].loss)});
  add_polyline(svg, drawn, style);
}

// The mean of the logarithm, like the axis: a mean of the losses themselves would lag a steep fall.
std::vector<CurvePoint> running_mean(const std::vector<CurvePoint>& points) {
  std::vector<CurvePoint> means;
  const double window = std::clamp(static_cast<double>(points.size()) / 25, 1.0, kMostSmoothing);
  double mean = 0;
  for (const CurvePoint& point : points) {
    const auto seen = static_cast<double>(means.size() + 1);
    mean += (std::log(point.loss) - mean) / std::min(seen, window);
    means.push_back({point.step, std::exp(mean)});
  }
  return means;
}

void add_axes(std::string& svg, const Axes& axes) {
  for (const double loss : logarithmic_numbers(axes.low, axes.high, 0))
    add_y_tick(svg, kFrame, axes.y(loss), loss);
  for (const double step : round_numbers(axes.first_step, axes.last_step, 1))
    add_x_tick(svg, kFrame, axes.x(step), step);
  add_edge(svg, kFrame, "step", "loss");
}

void add_dot(std::string& svg, double x, double y, const char* color) {
  svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", x, y, color);
}

void add_dots(std::string& svg, const Axes& axes, const std::vector<CurvePoint>& points,
              const char* color) {
  for (const CurvePoint& point : points)
    add_dot(svg, axes.x(point.step), axes.y(point.loss), color);
}

void add_legend(std::string& svg, bool evaluated) {
  add_key(svg, {kFrame.left, 20}, kMeanStyle, "training loss, running mean");
  add_key(svg, {kFrame.left + 250, 20}, kStepStyle, "each step");
  if (!evaluated) return;
  add_key(svg, {kFrame.left + 390, 20}, kEvalStyle, "evaluation loss");
  add_dot(svg, kFrame.left + 404, 20, kEvalColor);
}

}  // namespace

std::string loss_curve_svg(const std::vector<CurvePoint>& train,
                           const std::vector<CurvePoint>& eval) {
  const std::vector<CurvePoint> steps = drawable_points(train), evaluations = drawable_points(eval);
  const Axes axes = axes_of(steps, evaluations);
  std::string svg = svg_head(kFrame);
  add_axes(svg, axes);
  add_curve(svg, axes, steps, kStepStyle);
  add_curve(svg, axes, running_mean(steps), kMeanStyle);
  add_curve(svg, axes, evaluations, kEvalStyle);
  if (steps.size() == 1) add_dots(svg, axes, steps, kMeanColor);  // a line of one point is not seen
  add_dots(svg, axes, evaluations, kEvalColor);
  add_legend(svg, !evaluations.empty());
  return svg + kSvgEnd;
}

std::vector<CurvePoint> read_curve(const std::string& log_path) {
  std::ifstream file(log_path);
  std::vector<CurvePoint> points;
  std::vector<std::string> header;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream stream(line);
    std::vector<std::string> cells;
    for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
    if (header.empty()) {
      header = cells;
      continue;
    }
    CurvePoint point;
    for (size_t i = 0; i < std::min(cells.size(), header.size()); ++i) {
      if (header[i] == "step") point.step = std::strtod(cells[i].c_str(), nullptr);
      if (header[i] == "loss") point.loss = std::strtod(cells[i].c_str(), nullptr);
    }
    points.push_back(point);
  }
  CHECK(!file.bad(), ExitCode::kIo, "{}: reading failed", log_path);
  return points;
}

void write_loss_curve(const std::string& output_dir, const std::vector<CurvePoint>& train,
                      const std::vector<CurvePoint>& eval) {
  write_file(output_dir + "/loss_curve.svg", loss_curve_svg(train, eval));
}

}  // namespace facet
