"""compare_runs.py: equal bits and tolerances, the first step that differs, missing steps, exit codes."""

import os

import fixtures
from support import ScriptTest


class CompareTest(ScriptTest):
    def setUp(self):
        super().setUp()
        self.rows = fixtures.write_run(self.at("a"))
        fixtures.write_run(self.at("b"))
        self.paths = [self.at("a"), self.at("b")]

    def change(self, step, **values):
        """Changes one step of run b."""
        rows = [{**row, **(values if row["step"] == step else {})} for row in self.rows]
        fixtures.write_log(self.at("b", "loss_log.csv"), "loss", 2, rows)

    def differ(self, *arguments):
        code, out, err = self.call("compare_runs", *self.paths, *arguments)
        self.assertEqual((code, err), (1, ""), out)
        return out

    def equal(self, *arguments):
        return self.succeed("compare_runs", *self.paths, *arguments)

    def test_equal_runs(self):
        out = self.equal()
        self.assertIn("equal to the bit in 30 steps; columns: epoch, micro_batches, samples", out)
        self.assertIn("equal to the bit in 4 evaluations", out)

    def test_v1_and_v2_of_the_same_run_are_equal(self):
        fixtures.write_run(self.at("v1"), version=1)
        self.succeed("compare_runs", self.at("v1"), self.at("b"))

    def test_the_last_bit_differs(self):
        loss = self.rows[16]["loss"]
        self.change(17, loss=loss * (1 + 2**-52))
        out = self.differ()
        self.assertIn("first differ at step 17; in all at 1 of 30 steps", out)
        self.assertIn(f"  loss: {loss!r} and {loss * (1 + 2**-52)!r}", out)
        self.equal("--tolerance", "1e-15")

    def test_the_first_of_several_differences_with_all_its_columns(self):
        rows = [
            {**row, "loss": row["loss"] + (row["step"] > 20), "tokens": row["tokens"] + (row["step"] == 21)} for row in self.rows
        ]
        fixtures.write_log(self.at("b", "loss_log.csv"), "loss", 2, rows)
        out = self.differ()
        self.assertIn("first differ at step 21; in all at 10 of 30 steps", out)
        self.assertIn(f"tokens: {self.rows[20]['tokens']} and {self.rows[20]['tokens'] + 1}", out)

    def test_a_tolerance_is_relative(self):
        self.change(5, loss=self.rows[4]["loss"] * 1.001)
        self.equal("--tolerance", "2e-3")
        self.equal("--columns", "step", "tokens")
        self.differ("--tolerance", "5e-4")

    def test_what_is_not_finite(self):
        self.change(5, grad_norm="nan")
        for arguments in ((), ("--tolerance", "0.9")):
            self.assertIn("grad_norm", self.differ(*arguments))
        fixtures.write_log(
            self.at("a", "loss_log.csv"), "loss", 2, [{**row, "grad_norm": "nan"} if row["step"] == 5 else row for row in self.rows]
        )
        self.equal()
        self.equal("--tolerance", "0.1")
        self.change(5, loss=-0.0)
        fixtures.write_log(
            self.at("a", "loss_log.csv"), "loss", 2, [{**row, "loss": 0.0} if row["step"] == 5 else row for row in self.rows]
        )
        self.differ("--columns", "loss")

    def test_time_memory_and_starts_are_not_arithmetic(self):
        self.change(
            5, seconds=99.5, forward_seconds=1, memory_bytes=1, mfu=None, time=fixtures.time_text(9e5), start=1, model_flops=1
        )
        self.equal()
        self.assertIn("mfu: ", self.differ("--columns", "loss", "mfu"))
        self.assertIn("time: ", self.differ("--columns", "time"))

    def test_steps_that_one_run_lacks(self):
        fixtures.write_log(self.at("b", "loss_log.csv"), "loss", 2, [row for row in self.rows if row["step"] not in (3, 8, 9, 10)])
        self.assertIn(f"{self.at('b', 'loss_log.csv')} has no step 3, 8-10 (4 of 30)", self.differ())
        self.equal("--common-steps")
        fixtures.write_log(self.at("b", "loss_log.csv"), "loss", 2, [{**row, "step": row["step"] + 100} for row in self.rows])
        self.assertIn("no step stands in both", self.call("compare_runs", *self.paths, "--common-steps")[1])

    def test_a_data_set_or_evaluations_that_one_run_lacks(self):
        os.remove(self.at("b", "eval_log.csv"))
        self.assertIn("eval_log.csv is not there, the other run has one", self.differ())
        fixtures.write_log(self.at("b", "loss_log.csv"), "loss", 2, self.rows, fixtures.SETS[:2])
        self.assertIn(f"loss_coco_caption is a column of {self.at('a', 'loss_log.csv')} only", self.differ())

    def test_evaluations_differ(self):
        fixtures.write_run(self.at("c"), eval_interval=15)
        self.paths[1] = self.at("c")
        self.assertIn("eval_log.csv has no step 15 (1 of 3)", self.differ())

    def test_wrong_calls(self):
        log, other = self.at("a", "loss_log.csv"), self.at("a", "eval_log.csv")
        self.refuse(65, "of another kind", "compare_runs", log, other)
        self.refuse(66, "No such file", "compare_runs", log, self.at("none"))
        self.refuse(66, "No such file", "compare_runs", self.at("a"), self.at("none"))
        self.refuse(65, "is empty", "compare_runs", log, self.write("empty.csv", ""))
        self.refuse(64, "give two directories or two logs", "compare_runs", self.at("a"), log)
        self.refuse(64, "no log has a column lss", "compare_runs", *self.paths, "--columns", "lss")
        self.refuse(64, "'2' is not a number from 0 to below 1", "compare_runs", *self.paths, "--tolerance", "2")
        self.refuse(64, "--help lists the options", "compare_runs", log)
