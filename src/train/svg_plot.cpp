#include "train/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace facet {

std::string svg_head(const PlotFrame& frame) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" "
      "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{0}\" height=\"{1}\" "
      "fill=\"white\"/>\n",
      frame.width, frame.height);
}

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

std::vector<double> logarithmic_numbers(double low, double high, double least) {
  std::vector<double> numbers;
  for (int power = static_cast<int>(std::floor(low)); power <= high; ++power)
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double value = digit * std::pow(10.0, power);
      if (std::log10(value) >= low && std::log10(value) <= high) numbers.push_back(value);
    }
  constexpr size_t kFewest = 3;
  if (numbers.size() >= kFewest) return numbers;
  return round_numbers(std::pow(10.0, low), std::pow(10.0, high), least);
}

void add_x_tick(std::string& svg, const PlotFrame& frame, double x, double number) {
  svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{}\" x2=\"{:.1f}\" y2=\"{}\" stroke=\"#eee\"/>\n", x,
                     frame.top, x, frame.bottom_end());
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:g}</text>\n", x,
                     frame.bottom_end() + 18, number);
}

void add_y_tick(std::string& svg, const PlotFrame& frame, double y, double number) {
  svg += fmt::format("<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n",
                     frame.left, y, frame.right_end(), y);
  svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
                     frame.left - 8, y + 4, number);
}

void add_edge(std::string& svg, const PlotFrame& frame, const std::string& x_axis,
              const std::string& y_axis) {
  svg += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#888\"/>\n",
      frame.left, frame.top, frame.plot_width(), frame.plot_height());
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                     (frame.left + frame.right_end()) / 2, frame.height - 10, x_axis);
  svg += fmt::format(
      "<text x=\"18\" y=\"{0}\" text-anchor=\"middle\" transform=\"rotate(-90 18 "
      "{0})\">{1}</text>\n",
      (frame.top + frame.bottom_end()) / 2, y_axis);
}

void add_polyline(std::string& svg, const std::vector<PlotPoint>& points,
                  const std::string& style) {
  svg += fmt::format("<polyline fill=\"none\" {} points=\"", style);
  for (const PlotPoint& point : points) svg += fmt::format("{:.1f},{:.1f} ", point.x, point.y);
  svg += "\"/>\n";
}

void add_key(std::string& svg, const PlotPoint& at, const std::string& style,
             const std::string& words) {
  svg += fmt::format("<line x1=\"{0}\" y1=\"{1}\" x2=\"{2}\" y2=\"{1}\" {3}/>\n", at.x, at.y,
                     at.x + 28, style);
  svg += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", at.x + 36, at.y + 4, words);
}

}  // namespace facet
