"""to_tensorboard.py: what a reader finds in the event file, with the times, tags and steps of the logs."""

import glob
import os
import struct

import event_file
import event_reader
import fixtures
from support import ScriptTest


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


class TensorBoardTest(ScriptTest):
    def convert(self, name="run"):
        """The event file of a run."""
        path = self.succeed("to_tensorboard", self.at(name), "--output", self.at("tb")).strip()
        self.assertEqual(glob.glob(self.at("tb", name, "events.out.tfevents.*")), [path])
        return path

    def test_known_checksums(self):
        # RFC 3720, B.4: 32 bytes of zeros, of ones, 0 to 31
        for data, crc in [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)]:
            self.assertEqual(event_file.crc32c(data), crc)
            self.assertEqual(event_reader.crc32c(data), crc)

    def test_points_of_steps_and_evaluations(self):
        rows = fixtures.write_run(self.at("run"), steps=6, eval_interval=3)
        points = event_reader.points(self.convert())
        row, samples = rows[1], 64
        expected = {
            "Train/Samples/train_loss": row["loss"],
            "Train/Samples/lr": row["lr_decay"],
            "Train/gradient_norm": row["grad_norm"],
            "Train/clip_factor": row["clip_factor"],
            "Train/tokens": row["tokens"],
            "Train/tokens_per_second": row["tokens"] / row["seconds"],
            "Train/memory_bytes": row["memory_bytes"],
            "Train/model_flops_per_second": row["model_flops"] / row["seconds"],
        }
        for name in fixtures.SETS:
            if row[f"labelled_tokens_{name}"]:
                expected[f"Train/Samples/train_loss/{name}"] = row[f"loss_{name}"]
        self.assertEqual(
            {tag: value for step, tag, value in points if step == samples}, {tag: float32(v) for tag, v in expected.items()}
        )
        self.assertEqual([step for step, tag, _ in points if tag == "Eval/loss"], [0, 96, 192])
        self.assertEqual([step for step, tag, _ in points if tag == "Train/tokens"], [32 * i for i in range(1, 7)])

    def test_order_and_times(self):
        rows = fixtures.write_run(self.at("run"), steps=6, eval_interval=3)
        events = list(event_reader.events(self.convert()))
        self.assertEqual(events[0][2], b"brain.Event:2")
        self.assertEqual([event[1] for event in events], sorted(event[1] for event in events))
        self.assertEqual([event[3][0][0].split("/")[0] for event in events if event[1] == 96], ["Train", "Eval"])
        begin, last = fixtures.BEGIN.timestamp(), events[-2]
        self.assertAlmostEqual(last[0] - begin, sum(row["seconds"] for row in rows), places=2)

    def test_times_of_v1_end_with_the_file(self):
        rows = fixtures.write_run(self.at("run"), version=1, steps=6)
        os.utime(self.at("run", "loss_log.csv"), (2e9, 2e9))
        events = list(event_reader.events(self.convert()))
        self.assertEqual(events[-1][0], 2e9)
        self.assertAlmostEqual(events[-2][0], 2e9 - rows[-1]["seconds"], places=5)

    def steps_with(self, path, tag):
        return [step // 32 for step, name, _ in event_reader.points(path) if name == tag]

    def test_options_that_change_between_starts(self):
        fixtures.write_run(self.at("run"), steps=4, kill_after=(2, 2))
        record = fixtures.record(2, precision="fp16", wall_clock_breakdown="false")
        record["starts"][1]["options_changed"] = {"precision": ["fp16", "bf16"], "wall_clock_breakdown": ["false", "true"]}
        fixtures.write_record(self.at("run"), record)
        path = self.convert()
        self.assertEqual(self.steps_with(path, "Train/Samples/loss_scale"), [1, 2])
        for name in ("forward", "backward", "backward_inner", "backward_allreduce", "step"):
            self.assertEqual(self.steps_with(path, f"Train/Samples/elapsed_time_ms_{name}"), [3, 4])

    def test_the_loss_scale_of_a_run_without_a_record(self):
        rows = fixtures.write_run(self.at("run"), version=1, steps=3)
        fixtures.write_log(self.at("run", "loss_log.csv"), "loss", 1, [{**row, "loss_scale": row["step"]} for row in rows])
        self.assertEqual(self.steps_with(self.convert(), "Train/Samples/loss_scale"), [1, 2, 3])

    def test_numbers_beyond_fp32(self):
        rows = fixtures.write_run(self.at("run"), steps=3, skip=(2,))
        rows[2]["grad_norm"] = 1e300
        fixtures.write_log(self.at("run", "loss_log.csv"), "loss", 2, rows)
        norms = [value for _, tag, value in event_reader.points(self.convert()) if tag == "Train/gradient_norm"]
        self.assertEqual(norms[1:], [float("inf")] * 2)

    def test_what_is_refused(self):
        fixtures.write_run(self.at("run"), steps=3)
        self.convert()
        self.refuse(74, "is there already", "to_tensorboard", self.at("run"), "--output", self.at("tb"))
        self.refuse(74, "cannot be written", "to_tensorboard", self.at("run"), "--output", self.write("file", ""))
        self.refuse(66, "No such file", "to_tensorboard", self.at("none"), "--output", self.at("tb2"))
        self.refuse(64, "--output", "to_tensorboard", self.at("run"))
