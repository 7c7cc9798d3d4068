#!/usr/bin/env python3
"""Makes TensorBoard event files of the logs of runs, with the tags that `facet train --enable_tensorboard` writes.

The points of a run go to OUTPUT/NAME/events.out.tfevents.*, where NAME is that of the run; an event file that is there already is
an error, since TensorBoard would show all points twice. The step of a point is the number of samples after the training step. Its
time is that of the log; v1 has none, so there the last step gets the time of the file and each one before it is as much earlier as
its successor took. Neither TensorBoard nor TensorFlow is needed.

exit codes: 0 done, 64 wrong command line, 65 a log is wrong, 66 a log is missing, 74 the event file cannot be written

examples:
  to_tensorboard.py out --output tb && tensorboard --logdir tb
  to_tensorboard.py sweep/* --output tb
"""

import glob
import math
import os
import socket

import cli
from cli import Failure, Parser
from event_file import first_event, record, scalars_event
from runs import options_by_start, read_record, read_runs, total_until


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output directory of a run, or its loss_log.csv")
    parser.add_argument("--output", required=True, metavar="DIR", help="what tensorboard --logdir is given")
    return parser.parse_args()


def times_of(run):
    """Seconds since 1970 at which each step ended."""
    rows = run.steps.rows
    if "time" in rows:
        return [time.timestamp() for time in rows["time"]]
    end = os.stat(run.steps.path).st_mtime
    later = rows["seconds"].fillna(0)[::-1].cumsum()[::-1].shift(-1, fill_value=0)
    return list(end - later)


class Options:
    """What a run's steps are shown with, by run.json; without it a loss scale that is not 1 says that a run was in fp16."""

    def __init__(self, run):
        record = read_record(run.record_path) if "start" in run.steps.rows else None
        self.by_start = options_by_start(record) if record else {}
        self.scales = bool((run.steps.rows["loss_scale"] != 1).any())

    def has_scale(self, row):
        options = self.by_start.get(row.get("start"), {})
        return options["precision"] == "fp16" if "precision" in options else self.scales

    def has_phases(self, row):
        return "reduce_seconds" in row and self.by_start.get(row.get("start"), {}).get("wall_clock_breakdown") == "true"


def losses(tag, row, sets):
    """The loss, and that of each data set that had labelled tokens."""
    yield tag, row["loss"]
    for name in sets:
        if row[f"labelled_tokens_{name}"] > 0:
            yield f"{tag}/{name}", row[f"loss_{name}"]


def phases(row):
    """Milliseconds by DeepSpeed's names; its `backward` is the pass with the reduction in it."""
    backward, reduce = row["backward_seconds"], row["reduce_seconds"]
    names = {"forward": row["forward_seconds"], "backward": backward + reduce, "backward_inner": backward}
    names.update({"backward_allreduce": reduce, "step": row["optimizer_seconds"]})
    for name, seconds in names.items():
        yield f"Train/Samples/elapsed_time_ms_{name}", 1e3 * seconds


def step_scalars(run, row, options):
    yield from losses("Train/Samples/train_loss", row, run.steps.sets)
    if run.steps.rates:
        yield "Train/Samples/lr", row[run.steps.rates[0]]
    if options.has_scale(row):
        yield "Train/Samples/loss_scale", row["loss_scale"]
    yield "Train/gradient_norm", row["grad_norm"]
    yield "Train/clip_factor", row["clip_factor"]
    yield "Train/tokens", row["tokens"]
    memory, flops = row.get("memory_bytes", math.nan), row.get("model_flops", math.nan)  # of v2
    if not math.isnan(memory):
        yield "Train/memory_bytes", memory
    if row["seconds"] > 0:
        yield "Train/tokens_per_second", row["tokens"] / row["seconds"]
    if row["seconds"] > 0 and not math.isnan(flops):
        yield "Train/model_flops_per_second", flops / row["seconds"]
    if options.has_phases(row):
        yield from phases(row)


def step_events(run):
    """(samples, 0, time, scalars) of each step."""
    rows, options = run.steps.rows, Options(run)
    samples = total_until(run.steps, "samples", rows["step"])
    for n, time, row in zip(samples, times_of(run), rows.to_dict("records")):
        yield int(n), 0, time, list(step_scalars(run, row, options))


def evaluation_events(run, begin, steps):
    """(samples, 1, time, scalars) of each evaluation: after the step with as many samples; in v1 at the time of that."""
    if run.evaluations is None:
        return
    rows = run.evaluations.rows
    samples = total_until(run.steps, "samples", rows["step"])
    time_of = {n: time for n, _, time, _ in steps}
    for n, row in zip(samples, rows.to_dict("records")):
        time = row["time"].timestamp() if "time" in row else time_of.get(int(n), begin)
        yield int(n), 1, time, list(losses("Eval/loss", row, run.evaluations.sets))


def events(run):
    """The messages of a run's event file, in the order of their steps."""
    steps = list(step_events(run))
    begin = steps[0][2] - float(run.steps.rows["seconds"].fillna(0)[0])
    points = sorted([*steps, *evaluation_events(run, begin, steps)], key=lambda point: point[:2])
    yield first_event(begin)
    for samples, _, time, scalars in points:
        yield scalars_event(time, samples, scalars)


def write(run, directory):
    """Writes the event file of a run; returns its path."""
    found = glob.glob(os.path.join(glob.escape(directory), "events.out.tfevents.*"))
    if found:
        raise Failure(cli.NOT_WRITTEN, f"{found[0]} is there already, all points would stand twice; give another --output")
    begin = math.floor(times_of(run)[0])
    path = os.path.join(directory, f"events.out.tfevents.{begin:010d}.{socket.gethostname()}.{os.getpid()}.0")
    data = b"".join(map(record, events(run)))
    try:
        os.makedirs(directory, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
    except OSError as error:
        raise Failure(cli.NOT_WRITTEN, f"{error.filename or path}: cannot be written: {error.strerror}") from error
    return path


def main():
    arguments = parse_arguments()
    found = read_runs(arguments.runs)
    for run in found:
        print(cli.printable(write(run, os.path.join(arguments.output, run.name))))


if __name__ == "__main__":
    cli.run(main)
