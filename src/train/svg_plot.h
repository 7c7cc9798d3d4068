// Pieces of plots as SVG, which any browser shows. Each add_...() appends to the text of a picture
// that begins with svg_head() and ends with kSvgEnd.
#pragma once

#include <string>
#include <vector>

namespace facet {

// In pixels, from the top left corner: the picture, and the margins around what is plotted.
struct PlotFrame {
  double width = 900, height = 480, left = 70, right = 20, top = 40, bottom = 50;

  double right_end() const { return width - right; }
  double bottom_end() const { return height - bottom; }
  double plot_width() const { return width - left - right; }
  double plot_height() const { return height - top - bottom; }
};

struct PlotPoint {
  double x = 0, y = 0;  // pixels
};

std::string svg_head(const PlotFrame& frame);
inline constexpr const char* kSvgEnd = "</svg>\n";

// About six round numbers from first to last, 1, 2 or 5 times a power of ten apart, which is at
// least `least`.
std::vector<double> round_numbers(double first, double last, double least);
// 1, 2, 5, 10, 20, ... from 10^low to 10^high, for labels of a logarithmic axis. A short one has
// any round numbers, `least` apart or more.
std::vector<double> logarithmic_numbers(double low, double high, double least);

// A line across the plot, and the number that it stands for beside the axis.
void add_x_tick(std::string& svg, const PlotFrame& frame, double x, double number);
void add_y_tick(std::string& svg, const PlotFrame& frame, double y, double number);
// The edge of the plot and the names of its axes.
void add_edge(std::string& svg, const PlotFrame& frame, const std::string& x_axis,
              const std::string& y_axis);

// `style`: attributes, such as stroke="#ddd".
void add_polyline(std::string& svg, const std::vector<PlotPoint>& points, const std::string& style);
// In a legend: a short line as it is drawn, and what it is.
void add_key(std::string& svg, const PlotPoint& at, const std::string& style,
             const std::string& words);

}  // namespace facet
