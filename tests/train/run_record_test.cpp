// run.json: what is in it after starts and ends, and what is done with files that are none.
#include "train/run_record.h"

#include <gtest/gtest.h>

#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

using Earlier = RunRecord::Earlier;

JsonDocument record_in(const TemporaryDirectory& out) {
  return JsonDocument::read(out / "run.json");
}
int64_t starts_in(const TemporaryDirectory& out) {
  return record_in(out).root().at("starts").size();
}
bool is_there(const TemporaryDirectory& out, const char* name) {
  return std::filesystem::exists(std::filesystem::symlink_status(out / name));
}

// What `call` warns of.
template <typename Call>
std::string warnings_of(const Call& call) {
  testing::internal::CaptureStderr();
  call();
  return testing::internal::GetCapturedStderr();
}

void begin_with(RunRecord& record, const OptionTexts& options, const char* key = "options") {
  record.begin([&](JsonWriter& writer) {
    writer.key(key).begin_object();
    for (const auto& [name, value] : options) {
      writer.key(name);
      if (std::string_view(key) == "options") {
        writer.value(value);
      } else {
        writer.begin_array();
        writer.value("?");
        writer.value(value);
        writer.end_array();
      }
    }
    writer.end_object();
  });
}

// Two starts: one killed, one that saved.
void make_record(const TemporaryDirectory& out) {
  RunRecord first(out.path(), Earlier::kIsKeptAside);
  begin_with(first, {{"seed", "7"}, {"zero_stage", "0"}});
  RunRecord second(out.path(), Earlier::kGoesOn);
  begin_with(second, {{"zero_stage", "2"}}, "options_changed");
  second.end({ExitCode::kSaved, 60, "checkpoints/step_00000060"});
}

TEST(RunRecordTest, StartsAreCountedAndEnds) {
  const TemporaryDirectory out;
  make_record(out);
  const JsonDocument record = record_in(out);
  EXPECT_EQ(record.root().at("format").as_string(), "facet run record v1");
  const JsonValue starts = record.root().at("starts");
  ASSERT_EQ(starts.size(), 2);
  EXPECT_EQ(starts.at(0).at("start").as_int(), 1);
  EXPECT_FALSE(starts.at(0).find("end"));  // it was killed
  EXPECT_EQ(starts.at(1).at("start").as_int(), 2);
  const JsonValue end = starts.at(1).at("end");
  EXPECT_EQ(end.at("code").as_int(), 85);
  EXPECT_EQ(end.at("reason").as_string(), "saved");
  EXPECT_EQ(end.at("step").as_int(), 60);
  EXPECT_EQ(end.at("checkpoint").as_string(), "checkpoints/step_00000060");
  EXPECT_EQ(end.at("time").as_string().size(), 24U);
}

TEST(RunRecordTest, KnowsTheOptionsOfTheLastStart) {
  const TemporaryDirectory out;
  make_record(out);
  const RunRecord third(out.path(), Earlier::kGoesOn);
  EXPECT_EQ(third.start(), 3);
  EXPECT_EQ(third.last_options(), (OptionTexts{{"seed", "7"}, {"zero_stage", "2"}}));
}

// As logs are. Nothing happens before the set-up has succeeded.
TEST(RunRecordTest, ANewRunKeepsTheOldRecordAside) {
  const TemporaryDirectory out;
  make_record(out);
  RunRecord anew(out.path(), Earlier::kIsKeptAside);
  EXPECT_EQ(anew.start(), 1);
  EXPECT_TRUE(anew.last_options().empty());
  EXPECT_EQ(starts_in(out), 2);
  EXPECT_EQ(warnings_of([&] { begin_with(anew, {{"seed", "8"}}); }), "");
  EXPECT_EQ(starts_in(out), 1);
  EXPECT_EQ(JsonDocument::read(out / "run.json.previous").root().at("starts").size(), 2);
}

TEST(RunRecordTest, WhatIsNoRecordIsKept) {
  const std::string head = R"({"format": "facet run record v1", "starts": )";
  for (const std::string& text :
       {std::string(), std::string("{\"format\""), std::string("[]"), std::string("{}"),
        std::string(R"({"format": "facet run record v2", "starts": []})"), head + "{}}",
        head + "[1]}", head + R"([{"start": 0}]})", head + R"([{"start": 2}, {"start": 2}]})",
        head + R"([{"start": 9000000000000000000}]})",
        head + R"([{"start": 1, "options": {"seed": 7}}]})",
        head + R"([{"start": 1, "options_changed": {"seed": ["7"]}}]})", head + "[]} and more"}) {
    const TemporaryDirectory out;
    out.put("run.json", text);
    const std::string warnings = warnings_of([&] {
      RunRecord record(out.path(), Earlier::kGoesOn);
      EXPECT_EQ(record.start(), 1) << text;
      EXPECT_EQ(read_file(out / "run.json", 1000), text);
      begin_with(record, {});
    });
    EXPECT_TRUE(mentions(warnings, "run.json.previous")) << text;
    EXPECT_EQ(read_file(out / "run.json.previous", 1000), text);
    EXPECT_EQ(starts_in(out), 1);
  }
}

// Neither is followed, waited for or overwritten.
TEST(RunRecordTest, LinksAndDirectoriesOfThatNameAreKept) {
  const TemporaryDirectory out;
  std::filesystem::create_symlink("nowhere", out / "run.json");
  warnings_of([&] {
    RunRecord record(out.path(), Earlier::kGoesOn);
    begin_with(record, {});
  });
  EXPECT_TRUE(std::filesystem::is_symlink(out / "run.json.previous"));
  EXPECT_FALSE(is_there(out, "nowhere"));
  EXPECT_EQ(starts_in(out), 1);
}

// Here the directory's name is taken, and by more than a rename replaces.
TEST(RunRecordTest, WhatCannotBeKeptIsNotReplaced) {
  const TemporaryDirectory out;
  out.put("run.json", "somebody's");
  out.put("run.json.previous/file", "somebody's");
  const std::string warnings = warnings_of([&] {
    RunRecord record(out.path(), Earlier::kGoesOn);
    begin_with(record, {});
    record.end({});
  });
  EXPECT_TRUE(mentions(warnings, "this start is not recorded"));
  EXPECT_EQ(read_file(out / "run.json", 1000), "somebody's");
}

// A full disk, say: the run goes on, and its end may find room.
TEST(RunRecordTest, AFailedWriteIsAWarning) {
  const TemporaryDirectory out;
  const std::string gone = out / "gone";
  RunRecord record(gone, Earlier::kGoesOn);
  const std::string warnings = warnings_of([&] {
    begin_with(record, {});
    record.end({});
  });
  EXPECT_TRUE(mentions(warnings, "warning: this start is not recorded: "));
  EXPECT_TRUE(mentions(warnings, "warning: the end of this start is not recorded: "));
  std::filesystem::create_directory(gone);
  EXPECT_EQ(warnings_of([&] { record.end({}); }), "");
  const JsonDocument written = JsonDocument::read(gone + "/run.json");
  EXPECT_EQ(written.root().at("starts").at(0).at("end").at("code").as_int(), 0);
}

// Another rank than 0 adds the end of this start, and of no other one.
TEST(RunRecordTest, AnotherRankWritesTheEndOnly) {
  const TemporaryDirectory out;
  make_record(out);
  const std::string before = read_file(out / "run.json", 100'000);
  RunRecord(out.path(), 1).end({ExitCode::kIo, 3, "none"});
  RunRecord(out.path(), 3).end({ExitCode::kIo, 3, "none"});
  EXPECT_EQ(read_file(out / "run.json", 100'000), before);
  RunRecord(out.path(), 2).end({ExitCode::kIo, 3, "none"});
  EXPECT_EQ(record_in(out).root().at("starts").at(1).at("end").at("code").as_int(), 74);
}

TEST(RunRecordTest, WhatOthersAddedToAStartStays) {
  const TemporaryDirectory out;
  out.put("run.json",
          R"({"format": "facet run record v1", "starts": [{"start": 4, "note": [1.5, null]}]})");
  RunRecord record(out.path(), Earlier::kGoesOn);
  EXPECT_EQ(record.start(), 5);
  begin_with(record, {});
  EXPECT_EQ(record_in(out).root().at("starts").at(0).at("note").at(0).as_double(), 1.5);
}

TEST(RunRecordTest, TextsAreComparedAsTheyAreReadBack) {
  EXPECT_EQ(as_recorded("a\xe9\"\\\n"), "a\u00e9\"\\\n");
}

}  // namespace
}  // namespace facet
