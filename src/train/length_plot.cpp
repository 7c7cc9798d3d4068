#include "train/length_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "train/svg_plot.h"

namespace facet {

namespace {

constexpr int kMostBins = 40;
constexpr double kNarrowestBin = 1.01;  // upper edge / lower edge
constexpr double kLegendLine = 20;      // pixels
constexpr std::array kColors = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                "#e69f00", "#56b4e9", "#7a5195", "#8c564b"};
constexpr std::array kDashes = {"", "7 3", "2 2"};
constexpr const char* kMixtureStyle = "stroke=\"#999\" stroke-width=\"4\"";
constexpr const char* kLimitColor = "#c00000";
constexpr const char* kMostColor = "#333";

struct Series {
  std::string name, style;
  std::vector<double> shares;  // of the samples in each bin, in percent
};

// Bin b is from edge(b) to edge(b + 1), in tokens.
struct Bins {
  double first = 1, ratio = kNarrowestBin;
  int count = 1;

  double edge(int bin) const { return first * std::pow(ratio, bin); }
};

Bins bins_of(const Distribution& lengths) {
  if (lengths.weights.empty()) return {};
  const double first = static_cast<double>(lengths.weights.begin()->first) - 0.5;
  const double last = static_cast<double>(lengths.weights.rbegin()->first) + 0.5;
  const double narrowest = std::log(last / first) / std::log(kNarrowestBin);
  const int count = static_cast<int>(std::clamp(narrowest, 1.0, double{kMostBins}));
  return {first, std::pow(last / first, 1.0 / count), count};
}

std::vector<double> shares_in(const Bins& bins, const Distribution& lengths) {
  std::vector<double> shares(static_cast<size_t>(bins.count));
  const double percent = 100 / std::max(lengths.total(), 1e-300);
  for (const auto& [length, weight] : lengths.weights) {
    const double low = static_cast<double>(length) - 0.5, high = low + 1;
    for (int b = 0; b < bins.count; ++b) {
      const double inside = std::min(high, bins.edge(b + 1)) - std::max(low, bins.edge(b));
      shares[static_cast<size_t>(b)] += std::max(inside, 0.0) * weight * percent;
    }
  }
  return shares;
}

std::string style_of(size_t set) {
  const char* dashes = kDashes[set / kColors.size() % kDashes.size()];
  return fmt::format("stroke=\"{}\" stroke-width=\"1.5\"{}", kColors[set % kColors.size()],
                     *dashes == 0 ? "" : fmt::format(" stroke-dasharray=\"{}\"", dashes));
}

std::vector<Series> series_of(const DataStatsReport& report, const Bins& bins) {
  std::vector<Series> all;
  if (report.sets.size() > 1)
    all.push_back({"mixture", kMixtureStyle, shares_in(bins, lengths_of_mixture(report))});
  for (size_t d = 0; d < report.sets.size(); ++d)
    all.push_back(
        {report.sets[d].name, style_of(d), shares_in(bins, lengths_of(report.sets[d].statistics))});
  return all;
}

// Maps tokens and percents to the picture.
struct Axes {
  PlotFrame frame;
  double low = 0, high = 1;  // log10 of the length
  double most = 1;           // percent

  double x(double length) const {
    return frame.left + (std::log10(length) - low) / (high - low) * frame.plot_width();
  }
  double y(double percent) const {
    return frame.bottom_end() - percent / most * frame.plot_height();
  }
};

// Own data sets may have long names.
std::string shortened(const std::string& name) {
  constexpr size_t kMost = 22;
  return name.size() <= kMost ? name : name.substr(0, kMost - 3) + "...";
}

double legend_width(const std::vector<Series>& all) {
  constexpr double kBesideName = 70, kLetter = 7.5;
  size_t longest = 0;
  for (const Series& series : all) longest = std::max(longest, shortened(series.name).size());
  return kBesideName + kLetter * static_cast<double>(longest);
}

Axes axes_of(const DataStatsReport& report, const Bins& bins, const std::vector<Series>& all) {
  Axes axes;
  axes.frame.right = legend_width(all);
  axes.frame.top = 60;
  axes.frame.height =
      std::max(axes.frame.height,
               axes.frame.top + axes.frame.bottom + kLegendLine * static_cast<double>(all.size()));
  const auto limit = static_cast<double>(report.max_seq_len);
  const double margin = 0.02;
  axes.low = std::log10(std::min(bins.first, limit)) - margin;
  axes.high = std::log10(std::max(bins.edge(bins.count), limit + 0.5)) + margin;
  axes.most = 1e-9;
  for (const Series& series : all)
    for (const double share : series.shares) axes.most = std::max(axes.most, 1.05 * share);
  return axes;
}

void add_axes(std::string& svg, const Axes& axes, const Bins& bins) {
  for (const double percent : round_numbers(0, axes.most, 0))
    add_y_tick(svg, axes.frame, axes.y(percent), percent);
  for (const double length : logarithmic_numbers(axes.low, axes.high, 1))
    add_x_tick(svg, axes.frame, axes.x(length), length);
  add_edge(svg, axes.frame, "tokens of a sample, text and images, before anything is cut",
           fmt::format("samples (% of each set, in bins {:.2g} % wide)", 100 * (bins.ratio - 1)));
}

// As steps, from zero to zero.
void add_histogram(std::string& svg, const Axes& axes, const Bins& bins, const Series& series) {
  std::vector<PlotPoint> points = {{axes.x(bins.edge(0)), axes.y(0)}};
  for (int b = 0; b < bins.count; ++b) {
    const double y = axes.y(series.shares[static_cast<size_t>(b)]);
    points.push_back({axes.x(bins.edge(b)), y});
    points.push_back({axes.x(bins.edge(b + 1)), y});
  }
  points.push_back({axes.x(bins.edge(bins.count)), axes.y(0)});
  add_polyline(svg, points, series.style);
}

// A line across the plot between the samples of at most this length and the longer ones, its name
// `above` pixels over the plot.
void add_limit(std::string& svg, const Axes& axes, int64_t length, double above, const char* color,
               const std::string& name) {
  const double x = axes.x(static_cast<double>(length) + 0.5);
  add_polyline(svg, {{x, axes.frame.top - above}, {x, axes.frame.bottom_end()}},
               fmt::format("stroke=\"{}\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"", color));
  const bool right_half = x > axes.frame.left + axes.frame.plot_width() / 2;
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\" fill=\"{}\">{}</text>\n",
                     x + (right_half ? -5 : 5), axes.frame.top - above + 10,
                     right_half ? "end" : "start", color, name);
}

void add_limits(std::string& svg, const Axes& axes, const DataStatsReport& report) {
  add_limit(svg, axes, report.max_seq_len, 46, kLimitColor,
            fmt::format("--max_seq_len {}", report.max_seq_len));
  const Distribution lengths = lengths_of_mixture(report);
  if (const auto most = quantile(lengths.weights, lengths.above, 0.99))
    add_limit(svg, axes, *most, 24, kMostColor, fmt::format("99 % have at most {}", *most));
}

}  // namespace

std::string length_histogram_svg(const DataStatsReport& report) {
  const Bins bins = bins_of(lengths_of_mixture(report));
  const std::vector<Series> all = series_of(report, bins);
  const Axes axes = axes_of(report, bins, all);
  std::string svg = svg_head(axes.frame);
  add_axes(svg, axes, bins);
  for (const Series& series : all) add_histogram(svg, axes, bins, series);
  add_limits(svg, axes, report);
  for (size_t i = 0; i < all.size(); ++i)
    add_key(svg,
            {axes.frame.right_end() + 15,
             axes.frame.top + kLegendLine * (static_cast<double>(i) + 0.5)},
            all[i].style, shortened(all[i].name));
  return svg + kSvgEnd;
}

}  // namespace facet
