"""Logs of both versions come out alike; every kind of broken log is one clear error; what is survivable is used and said."""

import json
import math
import os
import signal

import fixtures
import runs
from cli import Failure
from support import ScriptTest

HEADER = ",".join(fixtures.columns(fixtures.STEP_COLUMNS[1], fixtures.SETS))
V1 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1_run")


class LogTest(ScriptTest):
    def read_lines(self, change):
        """The log of a run with three steps, after its lines were changed."""
        if not os.path.exists(self.at("run")):
            fixtures.write_run(self.at("run"), steps=3)
        lines = open(self.at("run", "loss_log.csv")).read().splitlines(keepends=True)
        return runs.read_log(self.write("log.csv", "".join(change(lines))))


class ReadLogTest(LogTest):
    def test_both_versions_have_the_same_numbers(self):
        rows = fixtures.write_run(self.at("v1"), version=1)
        fixtures.write_run(self.at("v2"), version=2)
        one, two = (runs.read_run(self.at(version)) for version in ("v1", "v2"))
        for name in one.steps.rows:
            self.assertTrue(one.steps.rows[name].equals(two.steps.rows[name]), name)
            for value, row in zip(two.steps.rows[name], rows):
                self.assertTrue(value == row[name] or (row[name] is None and math.isnan(value)), name)
        self.assertEqual(one.steps.sets, fixtures.SETS)
        self.assertEqual(one.steps.rates, ["lr_decay", "lr_no_decay"])
        self.assertNotIn("mfu", one.steps.rows)
        self.assertEqual(str(two.steps.rows["time"][0]), rows[0]["time"].replace("T", " ").replace("Z", "000+00:00"))
        self.assertTrue(one.evaluations.rows["loss"].equals(two.evaluations.rows["loss"]))

    def test_a_set_without_labelled_tokens_has_no_loss(self):
        for version in (1, 2):
            fixtures.write_run(self.at(f"v{version}"), version=version)
            rows = runs.read_run(self.at(f"v{version}")).steps.rows
            absent = rows["labelled_tokens_llava_dial"] == 0
            self.assertEqual(absent.sum(), 10)
            self.assertTrue((rows["loss_llava_dial"].isna() == absent).all())

    def test_a_real_log_of_v1(self):
        run = runs.read_run(V1)
        self.assertEqual(run.notes, [])
        self.assertEqual(list(run.steps.rows["step"]), list(range(1, 13)))
        self.assertEqual(run.steps.sets, ["llava", "llava_dial", "coco_caption"])
        self.assertEqual(list(run.evaluations.rows["step"]), [0, 6, 12])
        # As awk computes it of the 4 steps with labelled tokens; of all 12 it would be 2.49.
        self.assertAlmostEqual(run.steps.rows["loss_llava_dial"].mean(), 7.47000204523404, places=12)

    def test_logs_that_were_kept_aside(self):
        fixtures.write_run(self.at("run"), steps=30)
        fixtures.write_run(self.at("old"), steps=20)
        for name in ("loss_log.csv", "eval_log.csv", "run.json"):
            os.replace(self.at("old", name), self.at("run", name + ".previous"))
        new, old = runs.read_runs([self.at("run"), self.at("run", "loss_log.csv.previous")])
        self.assertEqual([new.evaluations.rows["step"].max(), old.evaluations.rows["step"].max()], [30, 20])
        self.assertEqual([new.name, old.name], ["run", "loss_log.csv.previous"])
        self.assertEqual(old.record_path, self.at("run", "run.json.previous"))
        os.replace(self.at("run", "loss_log.csv"), self.at("run", "copy.csv"))
        self.assertIsNone(runs.read_run(self.at("run", "copy.csv")).evaluations)

    def test_names_tell_runs_apart(self):
        self.assertEqual(runs.distinct_names(["/a/x/run", "/a/y/run"]), ["x/run", "y/run"])
        self.assertEqual(runs.distinct_names(["/a/x", "/a/y"]), ["x", "y"])
        self.assertEqual(runs.distinct_names(["/a/x", "/a/x"]), ["x", "x"])


class SurvivableLogTest(LogTest):
    def test_a_cut_last_row_is_left_out(self):
        for cut in (lambda row: row[: len(row) // 2], lambda row: row[:-1], lambda row: row[: len(row) // 2] + "\n"):
            log = self.read_lines(lambda lines: lines[:-1] + [cut(lines[-1])])
            self.assertEqual(list(log.rows["step"]), [1, 2])
            self.assertEqual(len(log.notes), 1)
            self.assertIn("last row, line 5, is cut; used without it", log.notes[0])

    def test_of_a_step_that_stands_twice_the_last_row_counts(self):
        rows = fixtures.write_run(self.at("killed"), steps=20, kill_after=(12, 10))
        run = runs.read_run(self.at("killed"))
        self.assertEqual(list(run.steps.rows["step"]), list(range(1, 21)))
        self.assertEqual(
            list(run.steps.rows["loss"])[9:13], [row["loss"] for row in rows if row["start"] == 2 or row["step"] == 10][:4]
        )
        self.assertEqual(list(run.steps.rows["start"]), [1] * 10 + [2] * 10)
        self.assertIn("2 rows of steps that were done again later are left out", run.notes[0])

    def test_a_log_that_begins_late_says_so(self):
        log = self.read_lines(lambda lines: lines[:2] + lines[3:])
        self.assertIn("begins at step 2", log.notes[0])

    def test_line_ends_of_windows(self):
        self.assertEqual(len(self.read_lines(lambda lines: [line.replace("\n", "\r\n") for line in lines]).rows), 3)

    def test_numbers_that_are_not_finite(self):
        for text, expected in [("inf", math.inf), ("nan", math.nan), ("-nan", math.nan)]:
            log = self.read_lines(lambda lines: lines[:2] + [lines[2].replace(lines[2].split(",")[9], text)] + lines[3:])
            self.assertEqual(str(log.rows["grad_norm"][0]), str(expected))

    def test_evaluations_that_have_not_begun(self):
        fixtures.write_run(self.at("run"))
        fixtures.write_log(self.at("run", "eval_log.csv"), "eval", 2, [])
        self.assertEqual(len(runs.read_run(self.at("run")).evaluations.rows), 0)


class BadLogTest(LogTest):
    def assert_fails(self, code, text, function, *arguments):
        with self.assertRaises(Failure) as caught:
            function(*arguments)
        self.assertIn(text, str(caught.exception))
        self.assertEqual(caught.exception.code, code)

    def test_what_is_not_there_or_cannot_be_read(self):
        os.mkdir(self.at("empty"))
        os.mkfifo(self.at("fifo"))
        signal.alarm(10)  # whoever opens it waits for ever
        os.makedirs(self.at("odd", "loss_log.csv"))
        os.symlink("nowhere", self.at("dangling"))
        for path, text in [
            ("none", "none: No such file"),
            ("empty", "empty: no loss_log.csv in it"),
            ("fifo", "is no regular file"),
            ("odd", "loss_log.csv: is no regular file"),
            ("dangling", "No such file"),
        ]:
            with self.subTest(path):
                self.assert_fails(66, text, runs.read_run, self.at(path))

    def test_files_that_are_no_logs(self):
        for content, text in [
            ("", "is empty"),
            ("\n\n", "is no log of facet: its first line is ''"),
            (b"\x89PNG\r\n\x1a\n\xff", "is no log of facet"),
            ("step,loss\n1,2\n", "its first line is 'step,loss'"),
            ("x" * 10000, "is no log of facet"),
            ("# facet loss log v3\nstep\n1\n", "begins with '# facet loss log v3', a version that is not known"),
            ("# facet loss log v1", "has only a version line"),
            ("# facet loss log v2\n", "has only a version line"),
            ("# facet loss log v1\nstep,ep", "ends within its header"),
            ("# facet loss log v1\n" + HEADER + "\n", "has no rows"),
            ("# facet loss log v1\n" + HEADER + "\n1,2", "has no rows but one that is cut"),
            (b"# facet loss log v1\n" + HEADER.encode() + b"\n1,\xff\n", "is not UTF-8"),
            ("# facet loss log v1\nstep,loss\n1,2\n", "has no column epoch, micro_batches"),
            ("# facet loss log v1\n" + HEADER + ",loss_scale\n", "has a column twice: loss_scale"),
            ("# facet loss log v1\n" + HEADER.replace(",loss_llava,", ",") + "\n", "has no column loss_llava"),
        ]:
            with self.subTest(text):
                self.assert_fails(65, text, runs.read_log, self.write("log.csv", content))

    def test_rows_that_are_wrong(self):
        def with_value(name, value):
            def change(lines):
                at, row = lines[1].strip().split(",").index(name), lines[3].strip().split(",")
                row[at] = value
                return lines[:3] + [",".join(row) + "\n"] + lines[4:]

            return change

        for change, text in [
            (lambda lines: lines[:3] + ["1,2\n"] + lines[4:], "line 4 has 2 values, the header 30"),
            (lambda lines: lines[:3] + ["\n"] + lines[4:], "line 4 has 1 values"),
            (lambda lines: lines[:3] + [lines[3].replace("\n", ",7\n")] + lines[4:], "line 4 has 31 values"),
            (lambda lines: lines[:3] + ["\0" * 90 + "\n"] + lines[4:], "line 4 has zero bytes"),
            (with_value("loss", "abc"), "line 4: loss is 'abc', not a number"),
            (with_value("loss", ""), "line 4: loss is '', not a number"),
            (with_value("loss", "NA"), "line 4: loss is 'NA'"),
            (with_value("loss", "True"), "loss is 'True'"),
            (with_value("loss", '"1"'), "loss is '\"1\"'"),
            (with_value("mfu", "1_0"), "mfu is '1_0'"),
            (with_value("step", "2.5"), "step is '2.5', not a whole number"),
            (with_value("step", "-2"), "step is '-2', not a whole number"),
            (with_value("step", ""), "step is ''"),
            (with_value("step", "nan"), "step is 'nan'"),
            (with_value("tokens", "9" * 30), "column tokens has a number that is too large"),
            (with_value("time", "yesterday"), "line 4: time is 'yesterday', not a time like"),
            (with_value("time", ""), "time is ''"),
        ]:
            with self.subTest(text):
                self.assert_fails(65, text, self.read_lines, change)

    def test_columns_without_any_number(self):
        def blank(*names):
            def change(lines):
                kept = [name not in names for name in lines[1].strip().split(",")]
                return lines[:2] + [
                    ",".join(v if keep else "" for v, keep in zip(line.strip().split(","), kept)) + "\n" for line in lines[2:]
                ]

            return change

        self.assert_fails(65, "line 3: grad_norm is ''", self.read_lines, blank("grad_norm"))
        self.assertTrue(self.read_lines(blank("mfu", "loss_llava")).rows["mfu"].isna().all())

    def test_records_that_are_wrong(self):
        self.assertIsNone(runs.read_record(self.at("run.json")))
        good = fixtures.record(2)
        for content, text in [
            ("{", "is no JSON"),
            ("[" * 100000, "is no JSON"),
            ("[]", "its format is 'missing'"),
            (json.dumps({**good, "format": "v9"}), "its format is 'v9'"),
            (json.dumps({**good, "starts": []}), "has no list of starts"),
            (json.dumps({**good, "starts": [1]}), "has no list of starts"),
            (json.dumps({**good, "starts": [{"start": "1"}]}), "has no list of starts"),
            (json.dumps({**good, "starts": [{"start": 1, "options": 7}]}), "has no list of starts"),
            (json.dumps({**good, "starts": [{"start": 1, "options_changed": {"threads": "2"}}]}), "has no list of starts"),
            (b"\xff", "is no JSON"),
        ]:
            with self.subTest(text):
                self.write("run.json", content)
                self.assert_fails(65, text, runs.read_record, self.at("run.json"))

    def test_a_log_of_evaluations_is_no_run(self):
        fixtures.write_run(self.at("run"))
        self.assert_fails(65, "is a log of evaluations", runs.read_run, self.at("run", "eval_log.csv"))
        os.replace(self.at("run", "loss_log.csv"), self.at("run", "eval_log.csv"))
        fixtures.write_run(self.at("other"))
        os.replace(self.at("other", "loss_log.csv"), self.at("run", "loss_log.csv"))
        self.assert_fails(65, "eval_log.csv: is no log of facet", runs.read_run, self.at("run"))
