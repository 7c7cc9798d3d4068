#include "train/loss_plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "base/check.h"

namespace facet {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(LossPlot, DrawsEveryStepAndEveryEvaluationInsideTheFrame) {
  std::vector<CurvePoint> train;
  for (int i = 0; i < 100; ++i) train.push_back({static_cast<double>(i), 5.0 / (i + 1)});
  const std::string svg = loss_curve_svg(train, {{0, 5}, {99, 0.06}});
  EXPECT_EQ(count(svg, "<circle"), 2u + 1);  // and one in the legend
  EXPECT_EQ(count(svg, "<polyline"), 3u);
  const size_t begin = svg.find("points=\"") + 8;
  std::istringstream points(svg.substr(begin, svg.find('"', begin) - begin));
  std::string pair;
  double last_x = -1;
  int n = 0;
  for (; points >> pair; ++n) {
    const double x = std::stod(pair), y = std::stod(pair.substr(pair.find(',') + 1));
    EXPECT_GT(x, last_x);
    EXPECT_GE(x, 70);
    EXPECT_LE(x, 880);
    EXPECT_GE(y, 40);
    EXPECT_LE(y, 430);
    last_x = x;
  }
  EXPECT_EQ(n, 100);
}

TEST(LossPlot, TheEvaluationIsALineOfItsOwn) {
  const std::vector<CurvePoint> train = {{1, 4}, {2, 3}, {3, 2}};
  const std::string with = loss_curve_svg(train, {{0, 4}, {3, 2}});
  EXPECT_EQ(count(with, "evaluation loss"), 1u);
  EXPECT_EQ(count(with, "stroke=\"#d94801\""), 2u);  // the line and its key
  EXPECT_EQ(count(loss_curve_svg(train, {}), "evaluation"), 0u);
  // Without a line there is a point, and beside it at least two losses to read it by.
  const std::string single = loss_curve_svg({{1, 6.9}}, {});
  EXPECT_EQ(count(single, "<circle"), 1u);
  EXPECT_GE(count(single, "text-anchor=\"end\""), 2u);
  EXPECT_EQ(count(loss_curve_svg({{1, 4}}, {{1, 4}}), "<circle"), 3u);
}

TEST(LossPlot, NothingAndNonsenseGiveAnEmptyPicture) {
  for (const std::string& svg :
       {loss_curve_svg({}, {}), loss_curve_svg({{0, NAN}, {1, INFINITY}, {2, -1}}, {})}) {
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    EXPECT_NE(svg.find("</svg>"), std::string::npos);
  }
}

TEST(LossPlot, RefusesADirectoryThatIsNotThere) {
  EXPECT_THROW(write_loss_curve("/nonexistent-directory", {}, {}), Error);
}

}  // namespace
}  // namespace facet
