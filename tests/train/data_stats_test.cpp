// The table, the sentences and the picture of facet data-stats, from made statistics.
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "train/data_stats_text.h"
#include "train/length_plot.h"

namespace facet {
namespace {

// 99 samples of 10 tokens and one of 200, and 50 of 40 to 89.
DataStatsReport two_sets() {
  DataStatsReport report;
  report.image_tokens = 7;
  report.max_seq_len = 100;
  report.sets.resize(2);
  DataStatsReport::Set &a = report.sets[0], &b = report.sets[1];
  a.name = "a";
  a.records = 300;
  a.training = a.places = 90;
  a.statistics.fates = {99, 1, 0, 0, 0, 0};
  a.statistics.lengths = {{10, 99}, {200, 1}};
  a.statistics.images = {{0, 50}, {2, 50}};
  a.statistics.rows = 1000;
  a.statistics.labels = 250;
  b.name = "b";
  b.records = 50;
  b.training = b.places = 45;
  b.statistics.fates = {50, 0, 0, 0, 0, 0};
  for (int64_t length = 40; length < 90; ++length) b.statistics.lengths[length] = 1;
  b.statistics.images = {{1, 50}};
  b.statistics.rows = 3000;
  b.statistics.labels = 750;
  return report;
}

// The words of the row that begins with this name.
std::vector<std::string> row_of(const std::string& table, const std::string& name) {
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    if (words[0] == name) return words;
  }
  return {};
}

using Words = std::vector<std::string>;

TEST(DataStats, TheTableHasARowForEachSetAndTheMixture) {
  const std::string table = data_stats_table(two_sets());
  EXPECT_EQ(row_of(table, "a"), (Words{"a", "300", "100", "10", "10", "10", "10", "200", "0",
                                       "1.00", "2", "25.0", "%", "1", "0"}));
  EXPECT_EQ(row_of(table, "b"), (Words{"b", "50", "50", "40", "64", "87", "89", "89", "1", "1.00",
                                       "1", "25.0", "%", "0", "0"}));
  EXPECT_EQ(row_of(table, "mixture"), (Words{"mixture", "350", "150", "10", "10", "83", "89", "200",
                                             "0", "1.00", "2", "25.0", "%", "1", "0"}));
  EXPECT_NE(table.find("its images (7 each)"), std::string::npos);
  DataStatsReport single = two_sets();
  single.sets.pop_back();
  EXPECT_TRUE(row_of(data_stats_table(single), "mixture").empty());
}

// b is seen three times as often: 100 samples of a stand beside 150 of b.
TEST(DataStats, TheMixtureCountsASampleAsOftenAsAnEpochDoes) {
  DataStatsReport report = two_sets();
  report.weighted = true;
  report.sets[1].places = 3 * report.sets[1].training;
  const std::string table = data_stats_table(report);
  EXPECT_EQ(row_of(table, "b").back(), "3.00");
  const Words mixture = row_of(table, "mixture");
  EXPECT_EQ(mixture[4], "48");  // 100 + 3 * 9 of 250
  EXPECT_EQ(data_stats_sentences(report)[0].substr(0, 5), "0.4 %");
}

TEST(DataStats, SaysWhichLengthWouldDo) {
  DataStatsReport report = two_sets();
  EXPECT_EQ(data_stats_sentences(report),
            (Words{"0.667 % of the samples exceed --max_seq_len 100 and lose rounds or are left "
                   "out; --max_seq_len 89 keeps 99 % of the samples whole, 200 all of them"}));
  report.max_seq_len = 200;
  EXPECT_EQ(data_stats_sentences(report)[0].find("every sample fits into --max_seq_len 200; "), 0u);
  report.sets[0].statistics.endless = 2;  // more than 1 %
  report.sets[0].statistics.fates[static_cast<size_t>(Fate::kCut)] += 2;
  const Words sentences = data_stats_sentences(report);
  EXPECT_NE(sentences[0].find("no --max_seq_len keeps 99 %"), std::string::npos) << sentences[0];
  EXPECT_NE(sentences[1].find("2 of the samples that are cut"), std::string::npos) << sentences[1];
}

TEST(DataStats, SaysWhatIsLeftOutAndWhy) {
  DataStatsReport report = two_sets();
  report.sets[0].statistics.fates = {90, 0, 4, 3, 2, 1};
  const Words sentences = data_stats_sentences(report);
  ASSERT_EQ(sentences.size(), 3u);
  EXPECT_EQ(sentences[1],
            "data set a: 10 of 100 samples are left out: 4 whose first round alone exceeds "
            "--max_seq_len 100, 3 with more images than --max_num_image_per_sample, 2 with an "
            "empty answer, 1 malformed or without anything to learn from");
  EXPECT_EQ(sentences[2],
            "a run would end at the first sample that is left out, and later with --bad_samples "
            "skip: 6.67 % of the samples are more than --max_bad_fraction 0.01");
  report.max_bad_fraction = 0.07;
  EXPECT_EQ(data_stats_sentences(report)[2],
            "a run would end at the first sample that is left out; with --bad_samples skip it goes "
            "on");
  report.skips_bad = true;
  EXPECT_EQ(data_stats_sentences(report).size(), 2u);
  report.sets[0].statistics = {};
  report.sets[0].statistics.fates = {0, 0, 0, 0, 5, 0};
  EXPECT_NE(data_stats_sentences(report)[1].find("a: none of its samples can be used"),
            std::string::npos);
  EXPECT_EQ(row_of(data_stats_table(report), "a"),
            (Words{"a", "300", "5", "-", "-", "-", "-", "-", "-", "-", "0", "5"}));
}

using Points = std::vector<std::pair<double, double>>;

// The points of the lines that are drawn so.
std::vector<Points> lines_of(const std::string& svg, const std::string& style) {
  std::vector<Points> lines;
  const std::string begin = "<polyline fill=\"none\" stroke=\"" + style;
  for (size_t at = svg.find(begin); at != std::string::npos; at = svg.find(begin, at + 1)) {
    const size_t first = svg.find("points=\"", at) + 8;
    std::istringstream stream(svg.substr(first, svg.find('"', first) - first));
    Points points;
    for (std::string pair; stream >> pair;)
      points.emplace_back(std::stod(pair), std::stod(pair.substr(pair.find(',') + 1)));
    lines.push_back(points);
  }
  return lines;
}

TEST(LengthPlot, DrawsEachSetTheMixtureAndBothLimits) {
  const std::string svg = length_histogram_svg(two_sets());
  for (const char* words : {">a<", ">b<", ">mixture<", ">--max_seq_len 100<",
                            ">99 % have at most 89<", ">tokens of a sample"})
    EXPECT_NE(svg.find(words), std::string::npos) << words;
  const auto a = lines_of(svg, "#0072b2"), b = lines_of(svg, "#d55e00");
  const auto mixture = lines_of(svg, "#999"), limit = lines_of(svg, "#c00000");
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(b.size(), 1u);
  ASSERT_EQ(mixture.size(), 1u);
  ASSERT_EQ(limit.size(), 1u);
  const double right_of_b = b[0].back().first;
  EXPECT_GT(right_of_b, limit[0][0].first);  // all lines end at the longest of all
  for (const auto& [x, y] : b[0]) EXPECT_TRUE(x <= limit[0][0].first || y == 430) << x;
  for (const Points& points : {a[0], b[0], mixture[0]})
    for (const auto& [x, y] : points) {
      EXPECT_GE(x, 70);
      EXPECT_LE(x, 900);
      EXPECT_GE(y, 60);
      EXPECT_LE(y, 430);
    }
}

// All lengths are the same: one peak with all of the samples, 100 of the axis' 105 %.
TEST(LengthPlot, TheSharesOfAllBinsAreAHundredPercent) {
  DataStatsReport report = two_sets();
  report.sets.pop_back();
  report.sets[0].statistics.lengths = {{100, 3}};
  const std::string svg = length_histogram_svg(report);
  const auto line = lines_of(svg, "#0072b2");
  ASSERT_EQ(line.size(), 1u);
  double highest = 430;
  for (const auto& [x, y] : line[0]) highest = std::min(highest, y);
  EXPECT_NEAR((430 - highest) / 370, 1 / 1.05, 1e-3);
  const auto limit = lines_of(svg, "#c00000");
  EXPECT_NEAR(line[0].back().first, limit[0][0].first, 0.1);  // what fits is left of it
}

TEST(LengthPlot, NothingGivesAnEmptyPicture) {
  DataStatsReport report = two_sets();
  for (DataStatsReport::Set& set : report.sets) set.statistics = {};
  const std::string svg = length_histogram_svg(report);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
}

}  // namespace
}  // namespace facet
