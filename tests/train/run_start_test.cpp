// What a start says about itself.
#include "train/run_start.h"

#include <gtest/gtest.h>

#include "tests/io/temporary_directory.h"
#include "train/git_version.h"

namespace facet {
namespace {

JsonDocument written(const RunStart& start) {
  JsonWriter writer;
  writer.begin_object();
  write_members(writer, start);
  writer.end_object();
  return JsonDocument::parse(writer.take(), "start");
}

RunStart on_two_hosts() {
  RunStart start;
  start.binding = {{"n1", "0-7", "0", 8, "0 NVIDIA H200"}, {"n2", "0-7", "0", 8, ""}};
  start.options = {{"zero_stage", "3"}, {"seed", "7"}};
  return start;
}

TEST(RunStartTest, SaysWhereItsRanksAre) {
  const JsonDocument start = written(on_two_hosts());
  EXPECT_EQ(start.root().at("ranks").as_int(), 2);
  EXPECT_EQ(start.root().at("hosts").at(1).as_string(), "n2");
  const JsonValue first = start.root().at("binding").at(0);
  EXPECT_EQ(first.at("rank").as_int(), 0);
  EXPECT_EQ(first.at("host").as_string(), "n1");
  EXPECT_EQ(first.at("cores").as_string(), "0-7");
  EXPECT_EQ(first.at("threads").as_int(), 8);
  EXPECT_EQ(first.at("gpu").as_string(), "0 NVIDIA H200");
  EXPECT_EQ(first.at("numa").as_string(), "0");
  EXPECT_FALSE(start.root().at("binding").at(1).find("gpu"));
  EXPECT_FALSE(start.root().find("slurm"));
  EXPECT_FALSE(start.root().find("resumed_from"));
}

TEST(RunStartTest, HasAllOptionsOrThoseThatChanged) {
  RunStart start = on_two_hosts();
  EXPECT_EQ(written(start).root().at("options").at("zero_stage").as_string(), "3");
  start.options_before = {{"zero_stage", "2"}, {"seed", "7"}};
  const JsonDocument later = written(start);
  EXPECT_FALSE(later.root().find("options"));
  const JsonValue changed = later.root().at("options_changed");
  EXPECT_EQ(changed.size(), 1);
  EXPECT_EQ(changed.at("zero_stage").at(0).as_string(), "2");
  EXPECT_EQ(changed.at("zero_stage").at(1).as_string(), "3");
}

TEST(RunStartTest, SaysWhichJobItBelongsTo) {
  RunStart start = on_two_hosts();
  start.slurm = {.id = "70_3", .number = "73", .cluster = "", .restarts = 2};
  const JsonDocument of_array = written(start);
  EXPECT_EQ(of_array.root().at("slurm").at("job_id").as_string(), "73");
  EXPECT_EQ(of_array.root().at("slurm").at("array_task").as_string(), "3");
  EXPECT_EQ(of_array.root().at("slurm").at("restart_count").as_int(), 2);
  start.slurm.id = "73";
  EXPECT_FALSE(written(start).root().at("slurm").find("array_task"));
}

TEST(RunStartTest, RecordsNoSecrets) {
  const std::string longest = "UCX_TLS=" + std::string(5000, 'x');
  const char* const entries[] = {"NCCL_DEBUG=INFO",
                                 "OMP_NUM_THREADS=4=5",
                                 "CUDA_VISIBLE_DEVICES=",
                                 "AWS_SECRET_ACCESS_KEY=a",
                                 "HOME=/root",
                                 "FACET_API_TOKEN=a",
                                 "OMPI_MCA_auth_munge_secret=a",
                                 "OMPI_MCA_orte_precondition_transports=a",
                                 "OMPI_MCA_btl=tcp,self",
                                 "SLURM_JWT=a",
                                 "XNCCL_DEBUG=a",
                                 "NO_EQUALS",
                                 longest.c_str(),
                                 nullptr};
  OptionTexts environment = recorded_environment(entries);
  EXPECT_LE(environment["UCX_TLS"].size(), 1003U);
  environment.erase("UCX_TLS");
  EXPECT_EQ(environment, (OptionTexts{{"NCCL_DEBUG", "INFO"},
                                      {"OMP_NUM_THREADS", "4=5"},
                                      {"CUDA_VISIBLE_DEVICES", ""},
                                      {"OMPI_MCA_btl", "tcp,self"}}));
}

TEST(RunStartTest, TheVersionNamesTheCommit) {
  EXPECT_TRUE(mentions(version_text(), fmt::format("(git {})\n", git_version())));
  EXPECT_TRUE(mentions(version_text(), program_version().mpi));
}

TEST(OptionTextsTest, AChangeIsALineAndANewOptionIsNone) {
  // An older program had no --keep_last; its default changed nothing.
  const auto changes = option_changes({{"seed", "7"}, {"inject", "x"}, {"gone", "1"}},
                                      {{"seed", "8"}, {"inject", ""}, {"keep_last", "2"}});
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].text(), "inject: x -> (none)");
  EXPECT_EQ(changes[1].text(), "seed: 7 -> 8");
}

}  // namespace
}  // namespace facet
