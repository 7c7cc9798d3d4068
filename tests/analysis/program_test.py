"""The scripts on what the program itself writes: its logs are read without a note, and its event file has the same points."""

import glob
import os
import subprocess
import sys

import event_reader
import runs
from support import ScriptTest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))


class ProgramTest(ScriptTest):
    @classmethod
    def setUpClass(cls):
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "FACET_"))}
        cls.environment = {**surroundings, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

    def run_program(self, *command):
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout.decode(errors="replace")[-3000:])

    def train(self, name, *options):
        tiny = self.at("tiny")
        if not os.path.exists(tiny):
            self.run_program(os.path.join(BUILD, "make_tiny"), "--output", tiny, "--scenes", "24", "--seed", "1")
        self.run_program(
            os.path.join(BUILD, "facet"),
            "train",
            "--lm_model_name_or_path",
            f"{tiny}/lm",
            "--vision_model_name_or_path",
            f"{tiny}/clip",
            "--data_path",
            f"{tiny}/data",
            "--dataset_names",
            "llava",
            "llava_dial",
            "coco_caption",
            "--threads",
            "1",
            "--eval_interval",
            "4",
            "--output_dir",
            self.at(name),
            *options,
        )

    def test_logs_and_event_file(self):
        self.train("run", "--max_steps", "8", "--enable_tensorboard", "--precision", "fp16")
        run = runs.read_run(self.at("run"))
        self.assertEqual(run.notes, [])
        self.assertEqual(list(run.steps.rows["step"]), list(range(1, 9)))
        self.assertEqual(list(run.evaluations.rows["step"]), [0, 4, 8])
        path = self.succeed("to_tensorboard", self.at("run"), "--output", self.at("tb")).strip()
        [own] = glob.glob(self.at("run/tb_logging/events.out.tfevents.*"))
        self.assertEqual(event_reader.points(path), event_reader.points(own))
        self.assertIn("| run |", self.succeed("summarize_runs", self.at("run")))
        self.assertIn("equal to the bit in 8 steps", self.succeed("compare_runs", self.at("run"), self.at("run")))
        self.succeed("plot_runs", self.at("run"), "--panels", "all", "--output", self.at("run.png"))


class EnvironmentTest(ScriptTest):
    def test_missing_packages_are_one_line(self):
        for package in ("pandas", "matplotlib"):
            self.write(f"{package}.py", "raise ImportError('planted')\n")
            script = os.path.join(ROOT, "scripts/analysis/plot_runs.py")
            done = subprocess.run(
                [sys.executable, script, "x"], env={**os.environ, "PYTHONPATH": self.directory}, capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 78)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn(f"cannot load {package}", done.stderr)
            self.assertIn("(planted); apt-get install python3-pandas", done.stderr)
            os.remove(self.at(f"{package}.py"))

    def test_a_reader_that_goes_away(self):
        script = os.path.join(ROOT, "scripts/analysis/compare_runs.py")
        log = os.path.join(ROOT, "tests/analysis/v1_run")
        done = subprocess.run(
            ["bash", "-c", '"$@" | true; echo "${PIPESTATUS[0]}"', "", sys.executable, script, log, log],
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.stderr, "")

    def test_every_script_explains_itself_with_examples(self):
        for script in ("plot_runs", "compare_runs", "summarize_runs", "to_tensorboard"):
            code, out, _ = self.call(script, "--help")
            self.assertEqual(code, 0)
            self.assertIn(f"examples:\n  {script}.py ", out)
            self.assertIn("exit codes:", out)
