#include "train/loss_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "io/file.h"

namespace facet {
namespace {

constexpr double kWidth = 900, kHeight = 480, kLeft = 70, kRight = 20, kTop = 40, kBottom = 50;
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
    return kLeft + (step - first_step) / (last_step - first_step) * (kWidth - kLeft - kRight);
  }
  double y(double loss) const {
    return kTop + (high - std::log10(loss)) / (high - low) * (kHeight - kTop - kBottom);
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

// About six round numbers from first to last, 1, 2 or 5 times a power of ten apart, which is at
// least `least`.
std::vector<double> round_numbers(double first, double last, double least) {
  const double wanted = (last - first) / 6;
  double distance = std::pow(10.0, std::floor(std::log10(std::max(wanted, least))));
  for (const double factor : {2.0, 2.5, 2.0})
    if (distance < wanted) distance *= factor;
  std::vector<double> numbers;
  for (double number = std::ceil(first / distance) * distance; number <= last; number += distance)
    numbers.push_back(number);
  return numbers;
}

// 1, 2, 5, 10, 20, ... within the axis, for labels of a logarithmic axis. A short one has any round
// numbers.
std::vector<double> loss_ticks(const Axes& axes) {
  std::vector<double> ticks;
  for (int power = static_cast<int>(std::floor(axes.low)); power <= axes.high; ++power)
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double value = digit * std::pow(10.0, power);
      if (std::log10(value) >= axes.low && std::log10(value) <= axes.high) ticks.push_back(value);
    }
  constexpr size_t kFewest = 3;
  if (ticks.size() >= kFewest) return ticks;
  return round_numbers(std::pow(10.0, axes.low), std::pow(10.0, axes.high), 0);
}

std::vector<double> step_ticks(const Axes& axes) {
  return round_numbers(axes.first_step, axes.last_step, 1);
}

void add_polyline(std::string& svg, const Axes& axes, const std::vector<CurvePoint>& points,
                  const char* style) {
  const size_t stride = points.size() / kMostPoints + 1;
  svg += fmt::format("<polyline fill=\"none\" {} points=\"", style);
  for (size_t i = 0; i < points.size(); i += stride)
    svg += fmt::format("{:.1f},{:.1f} ", axes.x(points[i].step), axes.y(points[i].loss));
  svg += "\"/>\n";
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
  const double right = kWidth - kRight, bottom = kHeight - kBottom;
  for (const double value : loss_ticks(axes)) {
    const double y = axes.y(value);
    svg += fmt::format("<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n",
                       kLeft, y, right, y);
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n", kLeft - 8,
                       y + 4, value);
  }
  for (const double step : step_ticks(axes)) {
    const double x = axes.x(step);
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{}\" x2=\"{:.1f}\" y2=\"{}\" stroke=\"#eee\"/>\n",
                       x, kTop, x, bottom);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:g}</text>\n", x,
                       bottom + 18, step);
  }
  svg += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#888\"/>\n", kLeft,
      kTop, right - kLeft, bottom - kTop);
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>\n",
                     (kLeft + right) / 2, kHeight - 10);
  svg += fmt::format(
      "<text x=\"18\" y=\"{0}\" text-anchor=\"middle\" transform=\"rotate(-90 18 "
      "{0})\">loss</text>\n",
      (kTop + bottom) / 2);
}

void add_dot(std::string& svg, double x, double y, const char* color) {
  svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", x, y, color);
}

void add_dots(std::string& svg, const Axes& axes, const std::vector<CurvePoint>& points,
              const char* color) {
  for (const CurvePoint& point : points)
    add_dot(svg, axes.x(point.step), axes.y(point.loss), color);
}

// A short line as it is drawn, and what it is.
void add_key(std::string& svg, double x, const char* style, const char* words) {
  svg += fmt::format("<line x1=\"{}\" y1=\"20\" x2=\"{}\" y2=\"20\" {}/>\n", x, x + 28, style);
  svg += fmt::format("<text x=\"{}\" y=\"24\">{}</text>\n", x + 36, words);
}

void add_legend(std::string& svg, bool evaluated) {
  add_key(svg, kLeft, kMeanStyle, "training loss, running mean");
  add_key(svg, kLeft + 250, kStepStyle, "each step");
  if (!evaluated) return;
  add_key(svg, kLeft + 390, kEvalStyle, "evaluation loss");
  add_dot(svg, kLeft + 404, 20, kEvalColor);
}

}  // namespace

std::string loss_curve_svg(const std::vector<CurvePoint>& train,
                           const std::vector<CurvePoint>& eval) {
  const std::vector<CurvePoint> steps = drawable_points(train), evaluations = drawable_points(eval);
  const Axes axes = axes_of(steps, evaluations);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" "
      "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{0}\" height=\"{1}\" "
      "fill=\"white\"/>\n",
      kWidth, kHeight);
  add_axes(svg, axes);
  add_polyline(svg, axes, steps, kStepStyle);
  add_polyline(svg, axes, running_mean(steps), kMeanStyle);
  add_polyline(svg, axes, evaluations, kEvalStyle);
  if (steps.size() == 1) add_dots(svg, axes, steps, kMeanColor);  // a line of one point is not seen
  add_dots(svg, axes, evaluations, kEvalColor);
  add_legend(svg, !evaluations.empty());
  return svg + "</svg>\n";
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
