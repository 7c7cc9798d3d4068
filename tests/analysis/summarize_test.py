"""summarize_runs.py: one row a run with its numbers, runs at any depth, links, bad runs."""

import csv
import io
import os
import shutil
import subprocess
import tempfile

import fixtures
import summarize_runs
from support import ScriptTest


class SummarizeTest(ScriptTest):
    def table(self):
        """The rows by the run's name."""
        code, out, err = self.call("summarize_runs", self.directory, "--format", "csv")
        self.assertEqual((code, err), (0, ""))
        rows = list(csv.DictReader(io.StringIO(out)))
        self.assertEqual([row["run"] for row in rows], sorted(row["run"] for row in rows))
        return {row["run"]: row for row in rows}

    def test_the_numbers_of_a_run(self):
        rows = fixtures.write_run(self.at("run"), steps=30, kill_after=(12, 10), eval_interval=50)
        kept = [row for row in rows if row["start"] == 2 or row["step"] <= 10]
        code, out, err = self.call("summarize_runs", self.directory, "--format", "csv")
        self.assertIn("2 rows of steps that were done again later are left out", err)
        row = next(csv.DictReader(io.StringIO(out)))
        seconds = sum(r["seconds"] for r in kept)
        self.assertEqual((row["steps"], row["restarts"], row["end"]), ("30", "1", "done (0)"))
        self.assertEqual(float(row["loss"]), kept[-1]["loss"])
        self.assertAlmostEqual(float(row["hours"]), seconds / 3600)
        self.assertAlmostEqual(float(row["tokens/s"]), sum(r["tokens"] for r in kept) / seconds)
        self.assertAlmostEqual(float(row["mfu"]), sum(r["mfu"] * r["seconds"] for r in kept) / seconds)

    def test_best_and_last_evaluation(self):
        fixtures.write_run(self.at("run"))
        rows = [
            {**fixtures.eval_row(fixtures.random.Random(1), step, 1, 0, fixtures.SETS), "loss": loss}
            for step, loss in [(0, 7.0), (10, 1.25), (20, 1.5), (30, "nan")]
        ]
        fixtures.write_log(self.at("run", "eval_log.csv"), "eval", 2, rows)
        row = self.table()["run"]
        self.assertEqual([row[name] for name in ("best", "best_step", "last", "last_step")], ["1.25", "10", "nan", "30"])

    def test_why_runs_ended(self):
        for name, reason in [("done", "done"), ("killed", None), ("alive", None), ("silent", None), ("dead", None)]:
            fixtures.write_run(self.at(name), reason=reason)
        fixtures.write_record(self.at("done"), fixtures.record(3, "saved", 85))
        fixtures.write_run(self.at("old"), version=1)
        ended = subprocess.Popen("true")
        ended.wait()
        lock = f"host n1 pid %d job none boot {summarize_runs.boot_id()} run 1"
        self.write("alive/run.lock", lock % os.getpid())
        self.write("dead/run.lock", lock % ended.pid)
        os.utime(self.write("silent/run.lock", "host n2 pid 1 job 7 boot x run 1"), (1e9, 1e9))
        table = self.table()
        ends = {"done": "saved (85)", "killed": "killed", "alive": "running", "silent": "killed", "dead": "killed", "old": "-"}
        self.assertEqual({name: row["end"] for name, row in table.items()}, ends)
        restarts = {"done": "2", "killed": "0", "alive": "0", "silent": "0", "dead": "0", "old": ""}
        self.assertEqual({name: row["restarts"] for name, row in table.items()}, restarts)

    def test_runs_at_any_depth_and_links(self):
        fixtures.write_run(self.at("b/c/run"))
        fixtures.write_run(self.at("b/c/run/nested"))
        os.symlink(self.at("b/c/run"), self.at("a_link_to_a_run"))
        os.symlink(self.directory, self.at("b/loop"))
        os.symlink("nowhere", self.at("dangling"))
        outside = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, outside)
        fixtures.write_run(os.path.join(outside, "far"))
        os.symlink(outside, self.at("linked"))
        self.assertEqual(list(self.table()), ["b/c/run", "b/c/run/nested", "linked/far"])

    def test_bad_runs_are_named_and_not_fatal(self):
        fixtures.write_run(self.at("good"))
        for name, content in [("empty", ""), ("no_steps", "# facet loss log v2\n")]:
            os.mkdir(self.at(name))
            self.write(f"{name}/loss_log.csv", content)
        fixtures.write_run(self.at("bad_record"))
        self.write("bad_record/run.json", "{")
        code, out, err = self.call("summarize_runs", self.directory)
        self.assertEqual(code, 0)
        self.assertEqual(len(out.splitlines()), 3, out)
        for text in ("empty/loss_log.csv: is empty", "no_steps/loss_log.csv: has only a version line", "run.json: is no JSON"):
            self.assertEqual(err.count(text), 1, err)

    def test_markdown(self):
        fixtures.write_run(self.at("a|b"), version=1)
        lines = self.succeed("summarize_runs", self.directory).splitlines()
        self.assertEqual(len(set(map(len, lines))), 1)
        self.assertTrue(lines[0].startswith("| run"))
        self.assertRegex(lines[1], r"^\|-+\|-+:\|")
        self.assertRegex(lines[2], r"^\| a\\\|b \|    30 \| .* \| -   \|$")

    def test_nothing_to_show(self):
        self.refuse(66, "no loss_log.csv in it", "summarize_runs", self.directory)
        self.refuse(66, "is no directory", "summarize_runs", self.at("none"))
        fixtures.write_run(self.at("run"))
        self.write("run/loss_log.csv", "")
        code, out, err = self.call("summarize_runs", self.directory)
        self.assertEqual((code, out), (65, ""))
        self.assertIn("no run in it can be read", err)
