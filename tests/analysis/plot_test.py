"""plot_runs.py: what is in the picture, looked at through matplotlib's own objects, and pictures of all formats."""

import os
import subprocess
import sys

import fixtures
import numpy as np
import panels
import plot_runs
import runs
from support import ScriptTest


class PlotTest(ScriptTest):
    def tearDown(self):
        plot_runs.plt.close("all")

    def figure(self, *arguments):
        """The figure that the script would write."""
        with self.arguments("plot_runs", arguments):
            parsed = plot_runs.parse_arguments()
        with self.quiet():
            return plot_runs.draw_all(parsed, plot_runs.read_curves(parsed))

    def panel(self, figure, title):
        return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))

    def words(self, figure, title):
        """The numbers under a panel's title."""
        return self.panel(figure, title).texts[0].get_text()

    def legend(self, figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    def lines(self, axes):
        """The lines but for the faint ones and the marks."""
        return [line for line in axes.lines if line.get_linewidth() > 1 and line.get_linestyle() != "None"]

    def test_twenty_runs_have_twenty_looks(self):
        for i in range(20):
            fixtures.write_run(self.at(f"run{i:02d}"), steps=12, seed=i)
        figure = self.figure(*[self.at(f"run{i:02d}") for i in range(20)])
        self.assertEqual(self.legend(figure), [f"run{i:02d}" for i in range(20)])
        looks = {(line.get_color(), str(line._dash_pattern)) for line in self.lines(self.panel(figure, "training loss"))}
        self.assertEqual(len(looks), 20)
        box = figure.legends[0].get_bbox_to_anchor().transformed(figure.transFigure.inverted())
        self.assertGreaterEqual(box.x0, 1.0)

    def test_x_axes(self):
        rows = fixtures.write_run(self.at("run"), steps=20)
        total = {"step": 20, "tokens": sum(r["tokens"] for r in rows), "time": sum(r["seconds"] for r in rows) / 3600}
        for kind, last in total.items():
            figure = self.figure(self.at("run"), "--x", kind)
            self.assertAlmostEqual(self.panel(figure, "training loss").lines[0].get_xdata()[-1], last)
            evaluated = self.panel(figure, "evaluation").lines[0].get_xdata()
            self.assertAlmostEqual(evaluated[0], 0)
            self.assertAlmostEqual(evaluated[-1], last)

    def test_smoothing(self):
        rows = fixtures.write_run(self.at("run"), steps=20)
        loss = np.array([row["loss"] for row in rows])

        def curve(*arguments):
            return self.lines(self.panel(self.figure(self.at("run"), *arguments), "training loss"))[0].get_ydata()

        np.testing.assert_array_equal(curve("--smooth", "1"), loss)
        np.testing.assert_allclose(curve("--smooth", "4", "--smoothing", "window")[10], loss[7:11].mean())
        weights = (1 - 2 / 5) ** np.arange(20)[::-1]
        np.testing.assert_allclose(curve("--smooth", "4")[-1], (weights * loss).sum() / weights.sum())

    def test_each_step_is_faint_where_runs_are_few(self):
        for i in range(4):
            fixtures.write_run(self.at(str(i)), steps=12)
        few, many = (self.figure(*[self.at(str(i)) for i in range(n)], "--smooth", "3") for n in (3, 4))
        self.assertEqual([len(self.panel(figure, "training loss").lines) for figure in (few, many)], [6, 4])
        self.assertIn("each step", self.legend(few))
        self.assertNotIn("each step", self.legend(many))

    def test_smoothing_leaves_out_what_is_not_there(self):
        fixtures.write_run(self.at("run"), steps=20, version=1)
        axes = self.panel(self.figure(self.at("run"), "--panels", "datasets", "--smooth", "5"), "training loss on llava_dial")
        self.assertGreater(min(line.get_ydata().min() for line in axes.lines), 0.5)

    def test_panels(self):
        fixtures.write_run(self.at("run"), steps=12)
        figure = self.figure(self.at("run"), "--panels", "all")
        self.assertEqual(len(figure.axes), 7 + len(fixtures.SETS))
        figure = self.figure(self.at("run"), "--panels", "mfu,loss")
        self.assertEqual([axes.get_title(loc="left")[:5] for axes in figure.axes], ["MFU: ", "train"])
        fixtures.write_run(self.at("old"), steps=12, version=1)
        axes = self.panel(self.figure(self.at("old"), "--panels", "mfu"), "MFU")
        self.assertEqual([text.get_text() for text in axes.texts if text.get_text()], ["not in the logs of these runs"])
        os.remove(self.at("run", "eval_log.csv"))
        self.assertEqual(len(self.figure(self.at("run")).axes), 3)

    def test_numbers_beside_the_titles(self):
        rows = fixtures.write_run(self.at("run"), steps=40, skip=(5, 6))
        figure = self.figure(self.at("run"), "--panels", "norm,skipped,loss")
        share = sum(row["clip_factor"] < 1 and not row["skipped"] for row in rows) / 40
        top = max((row for row in rows if not row["skipped"]), key=lambda row: row["grad_norm"])
        self.assertEqual(
            self.words(figure, "gradient norm"),
            f"clipped in {share:.0%} of steps, largest {top['grad_norm']:.3g} at step {top['step']}",
        )
        self.assertEqual(self.words(figure, "skipped"), "skipped 2 of 40 steps")
        for i in range(4):
            fixtures.write_run(self.at(f"r{i}"), steps=40, seed=i, skip=range(1, i + 1))
        figure = self.figure(*[self.at(f"r{i}") for i in range(4)], "--panels", "skipped")
        self.assertEqual(self.words(figure, "skipped"), "skipped 0 of 40 steps (r0) to 3 of 40 steps (r3)")

    def test_parameter_groups_with_rates_of_their_own(self):
        rows = fixtures.write_run(self.at("run"), steps=5)
        self.assertEqual(len(self.figure(self.at("run"), "--panels", "rate").axes), 1)
        fixtures.write_log(self.at("run", "loss_log.csv"), "loss", 2, [{**row, "lr_no_decay": 1e-5} for row in rows])
        figure = self.figure(self.at("run"), "--panels", "rate")
        self.assertEqual([axes.get_title(loc="left") for axes in figure.axes], ["learning rate: decay", "learning rate: no_decay"])

    def test_logarithmic_axes_where_numbers_are_far_apart(self):
        rows = fixtures.write_run(self.at("run"), steps=40)
        scales = {
            y: self.panel(self.figure(self.at("run"), "--y", y), "training loss").get_yscale() for y in ("auto", "log", "linear")
        }
        self.assertEqual(scales, {"auto": "log", "log": "log", "linear": "linear"})
        fixtures.write_log(self.at("run", "loss_log.csv"), "loss", 2, [{**row, "loss": 2 + row["loss"]} for row in rows])
        self.assertEqual(self.panel(self.figure(self.at("run")), "training loss").get_yscale(), "linear")

    def test_a_reference(self):
        for name in ("a", "b"):
            fixtures.write_run(self.at(name), steps=12)
        figure = self.figure(self.at("a"), self.at("b"), "--reference", self.at("b") + "/", "--smooth", "1")
        self.assertEqual(self.legend(figure), ["b (reference)", "a"])
        black, other = self.lines(self.panel(figure, "training loss"))
        self.assertEqual(black.get_color(), "black")
        self.assertGreater(black.get_linewidth(), 1.5 * other.get_linewidth())
        self.assertGreater(black.get_zorder(), other.get_zorder())

    def test_restarts_are_marked(self):
        fixtures.write_run(self.at("run"), steps=20, kill_after=(12, 10))
        figure = self.figure(self.at("run"))
        marks = [line for line in self.panel(figure, "training loss").lines if line.get_marker() == "^"]
        self.assertEqual([list(line.get_xdata()) for line in marks], [[11]])
        self.assertIn("started again", self.legend(figure))

    def test_long_logs_keep_their_peaks(self):
        values = np.zeros(50000)
        values[[17, 31234, 49999]] = [5, -3, 2]
        x, y = panels.thinned(np.arange(50000), values)
        self.assertLessEqual(len(x), panels.MAX_POINTS)
        self.assertTrue({17, 31234, 49999} <= set(x))
        self.assertTrue((np.diff(x) > 0).all())

    def test_names_that_mean_something_to_matplotlib(self):
        for name in ("_hidden", "a$b$c$\\frac"):
            fixtures.write_run(self.at(name), steps=4)
        names = ["_hidden", "a$b$c$\\frac"]
        self.assertEqual(self.legend(self.figure(*map(self.at, names))), names)
        self.call("plot_runs", *map(self.at, names), "--output", self.at("p.png"))
        self.assertTrue(os.path.getsize(self.at("p.png")) > 10000)

    def test_pictures_without_a_display(self):
        fixtures.write_run(self.at("run"), steps=12)
        script = os.path.join(os.path.dirname(plot_runs.__file__), "plot_runs.py")
        environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
        subprocess.run(
            [sys.executable, script, self.at("run"), "--output", self.at("p.png")],
            check=True,
            env={**environment, "MPLBACKEND": "TkAgg"},
        )
        for name in ("p.svg", "p.PDF"):
            self.succeed("plot_runs", self.at("run"), "--output", self.at(name))
        for name, begin in [("p.png", b"\x89PNG"), ("p.svg", b"<?xml"), ("p.PDF", b"%PDF")]:
            self.assertTrue(open(self.at(name), "rb").read().startswith(begin), name)

    def test_what_is_refused(self):
        fixtures.write_run(self.at("run"), steps=4)
        for code, text, arguments in [
            (64, "does not end with .png", ["--output", "p.bmp"]),
            (64, "no panel is called 'los'", ["--panels", "los"]),
            (64, "'0' is not a whole number from 1", ["--smooth", "0"]),
            (74, "cannot be written", ["--output", self.at("no/p.png")]),
            (66, "none: No such file", ["--reference", self.at("none")]),
            (64, "'hours'", ["--x", "hours"]),
        ]:
            with self.subTest(text):
                self.refuse(code, text, "plot_runs", self.at("run"), *arguments)
        self.refuse(64, "no run is given", "plot_runs")
        fixtures.write_run(self.at("no_sets"), steps=4)
        log = runs.read_log(self.at("no_sets", "loss_log.csv")).rows
        names = [name for name in log if not name.startswith(("loss_l", "loss_c", "labelled_tokens_"))]
        lines = [",".join(map(str, row)) for row in log[names].assign(time=fixtures.time_text(0)).to_numpy()]
        self.write("no_sets/loss_log.csv", "\n".join(["# facet loss log v2", ",".join(names), *lines, ""]))
        self.refuse(65, "has no columns for datasets", "plot_runs", self.at("no_sets"), "--panels", "datasets")
        self.refuse(65, "is empty", "plot_runs", self.at("run"), self.write("log.csv", ""))
