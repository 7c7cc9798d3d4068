#!/usr/bin/env python3
"""Prints a table of all runs below a directory: how far they came, their losses, their speed and why they ended.

A run is a directory with a loss_log.csv. Links to directories are followed, each directory is read once.

  best, last   evaluation loss: the lowest and the last one, with its step
  loss         training loss of the last step
  tokens/s     all tokens through all seconds of the steps, on all ranks together
  mfu          operations of the model as a share of the peak of the hardware, on average
  restarts     how often the run was started again
  hours        the seconds of all steps
  end          why the last start ended: the reason of its last line, "running" where its lock shows a sign of life, "killed" where
               neither is there, "-" without run.json (runs before log v2)

Runs that cannot be read are named on stderr in a line each.

exit codes: 0 done, 64 wrong command line, 65 no run can be read, 66 there is no run

examples:
  summarize_runs.py sweep
  summarize_runs.py sweep --format csv > sweep.csv
"""

import csv
import os
import sys
import time

import cli
from cli import Failure, Parser, note, printable
from runs import LOSS_LOG, open_regular, read_record, read_run

# Each column with how a number in it is shown in markdown.
COLUMNS = {
    "run": "{}",
    "steps": "{:d}",
    "best": "{:.4f}",
    "best_step": "{:d}",
    "last": "{:.4f}",
    "last_step": "{:d}",
    "loss": "{:.4f}",
    "tokens/s": "{:.0f}",
    "mfu": "{:.1%}",
    "restarts": "{:d}",
    "hours": "{:.2f}",
    "end": "{}",
}
LOCK_SECONDS = 60  # a run renews the time of its lock every 5 s; facet takes over a silent one of an unknown holder after this


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("directory", metavar="DIR", help="where to look, at any depth")
    parser.add_argument("--format", choices=["markdown", "csv"], default="markdown", help="(default markdown)")
    return parser.parse_args()


def directories(top):
    """All directories below one, itself included, each once: those reached without a link first, under their own names."""
    seen, links = set(), [top]
    while links:
        for path, inside, _ in os.walk(links.pop(0), onerror=report):
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                inside.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            inside.sort()
            links += [os.path.join(path, name) for name in inside if os.path.islink(os.path.join(path, name))]
            yield path


def report(error):
    note(f"{error.filename}: {error.strerror}")


def end_of(record, directory):
    """Why the last start of a run ended, and how often it was started again (None if that is not known)."""
    if record is None:
        return "-", None
    starts = record["starts"]
    end = starts[-1].get("end")
    if isinstance(end, dict):
        return f"{end.get('reason', '?')} ({end.get('code', '?')})", len(starts) - 1
    return ("running" if is_held(directory) else "killed"), len(starts) - 1


def is_held(directory):
    """Whether run.lock shows a sign of life and, if it was made since this machine was booted, its process is there."""
    path = os.path.join(directory, "run.lock")
    try:
        with open_regular(path) as file:
            age = time.time() - os.fstat(file.fileno()).st_mtime
            words = file.read(4096).decode("utf-8", "replace").split()
    except Failure:
        return False
    holder = dict(zip(words[::2], words[1::2]))  # "host n1 pid 4711 job none boot ... run ..."
    return age < LOCK_SECONDS and (holder.get("boot") != boot_id() or os.path.exists(f"/proc/{holder.get('pid')}"))


def boot_id():
    """Changes with every boot of a machine; None where there is no such thing."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None


def mean_mfu(rows):
    """Weighted by the time of the steps; None where the peak is not known."""
    known = rows[rows["mfu"].notna()] if "mfu" in rows else rows[:0]
    seconds = known["seconds"].sum()
    return (known["mfu"] * known["seconds"]).sum() / seconds if seconds > 0 else None


def evaluations_of(run):
    """Best loss, its step, last loss, its step; None where there are none."""
    if run.evaluations is None or run.evaluations.rows.empty:
        return [None] * 4
    rows = run.evaluations.rows
    losses, steps = list(rows["loss"]), [int(step) for step in rows["step"]]
    best = int(rows["loss"].idxmin()) if rows["loss"].notna().any() else None
    lowest = [None, None] if best is None else [losses[best], steps[best]]
    return lowest + [losses[-1], steps[-1]]


def summary(path, name):
    """The row of a run, by COLUMNS."""
    run = read_run(path)
    for text in run.notes:
        note(text)
    rows = run.steps.rows
    seconds = rows["seconds"].sum()
    end, restarts = end_of(read_record(run.record_path), path)
    if restarts is None and "start" in rows:
        restarts = rows["start"].nunique() - 1
    return [
        name,
        len(rows),
        *evaluations_of(run),
        rows["loss"].iloc[-1],
        rows["tokens"].sum() / seconds if seconds > 0 else None,
        mean_mfu(rows),
        restarts,
        seconds / 3600,
        end,
    ]


def summaries(top):
    """The rows of all runs below a directory, sorted by name; a run that cannot be read is reported instead."""
    if not os.path.isdir(top):
        raise Failure(cli.MISSING_INPUT, f"{top}: is no directory")
    rows, bad = [], 0
    for path in directories(top):
        if not os.path.lexists(os.path.join(path, LOSS_LOG)):
            continue
        name = os.path.relpath(path, top)
        try:
            rows.append(summary(path, os.path.basename(os.path.abspath(top)) if name == "." else name))
        except Failure as failure:
            note(failure)
            bad += 1
    if not rows:
        raise Failure(
            cli.BAD_INPUT if bad else cli.MISSING_INPUT,
            f"{top}: " + ("no run in it can be read" if bad else f"no {LOSS_LOG} in it"),
        )
    return sorted(rows, key=lambda row: row[0])


def markdown(rows):
    """The rows as a table that can be read as it stands: columns of equal width, numbers to the right; "-" is not known."""
    table = [list(COLUMNS)] + [[cell(value, form) for value, form in zip(row, COLUMNS.values())] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table)]
    is_text = [form == "{}" for form in COLUMNS.values()]
    lines = [" | ".join(text.ljust(n) if left else text.rjust(n) for text, n, left in zip(row, widths, is_text)) for row in table]
    rule = "|".join("-" * (n + 2) if left else "-" * (n + 1) + ":" for n, left in zip(widths, is_text))
    return [f"| {lines[0]} |", f"|{rule}|"] + [f"| {line} |" for line in lines[1:]]


def cell(value, form):
    return "-" if value is None else printable(form.format(value)).replace("|", "\\|")


def main():
    arguments = parse_arguments()
    rows = summaries(arguments.directory)
    if arguments.format == "markdown":
        print("\n".join(markdown(rows)))
        return 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([printable(value) if isinstance(value, str) else value for value in row] for row in rows)
    return 0


if __name__ == "__main__":
    cli.run(main)
