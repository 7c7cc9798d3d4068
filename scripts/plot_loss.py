#!/usr/bin/env python3
"""Draws one or several loss logs of facet: training and evaluation loss, gradient norm, learning rate.

usage: plot_loss.py RUN [RUN ...] [--output loss.png] [--datasets] [--log]

RUN is an output directory of `facet train`, or a loss_log.csv; evaluations are read from the eval_log.csv beside it.
"""
import argparse
import csv
import math
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullFormatter, ScalarFormatter  # noqa: E402

DASHES = [":", "-.", (0, (5, 1)), (0, (1, 3))]
VERSIONS = ("v2", "v1")


def number(cell):
    """NaN for what is absent or no number, as the time of day."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def read_log(path, kind):
    """Columns by name, as floats. A run that is still writing may leave an incomplete last row, which is dropped."""
    try:
        with open(path, newline="") as file:
            version = file.readline().rstrip("\n")
            rows = list(csv.reader(file))
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    known = [f"# facet {kind} log {v}" for v in VERSIONS]
    if version not in known:
        sys.exit(f"{path}: begins with '{version}', expected '{known[0]}'")
    names = rows[0]
    complete = [row for row in rows[1:] if len(row) == len(names)]
    return {name: [number(row[i]) for row in complete] for i, name in enumerate(names)}


def color_of(index):
    return plt.get_cmap("tab10")(index % 10)


class Run:
    def __init__(self, path):
        log = os.path.join(path, "loss_log.csv") if os.path.isdir(path) else path
        directory = os.path.dirname(os.path.abspath(log))
        self.name = os.path.basename(directory)
        self.steps = read_log(log, "loss")
        evaluations = os.path.join(directory, "eval_log.csv")
        self.evaluations = read_log(evaluations, "eval") if os.path.exists(evaluations) else {"step": [], "loss": []}

    def columns(self, prefix):
        return [name for name in self.steps if name.startswith(prefix)]


def running_mean(values, window):
    """Mean over the last `window` finite values, NaN where there is none."""
    means = []
    for i in range(len(values)):
        recent = [v for v in values[max(0, i + 1 - window) : i + 1] if math.isfinite(v)]
        means.append(sum(recent) / len(recent) if recent else math.nan)
    return means


def only_labelled(run, name):
    """A data set's loss, NaN at steps where it had no labelled token (version 1 has 0 there)."""
    counts = run.steps["labelled_tokens_" + name[len("loss_") :]]
    return [v if n > 0 else math.nan for v, n in zip(run.steps[name], counts)]


def draw_loss(axes, runs, colors, datasets):
    for run, color in zip(runs, colors):
        step, loss = run.steps["step"], run.steps["loss"]
        window = max(1, len(step) // 50)
        axes.plot(step, loss, color=color, alpha=0.25 if window > 1 else 1, linewidth=1)
        axes.plot(step, running_mean(loss, window), color=color, linewidth=1.6, label=f"{run.name}, training")
        evaluations = run.evaluations
        if evaluations["step"]:
            axes.plot(evaluations["step"], evaluations["loss"], color=color, linewidth=1, linestyle="--", marker="o", markersize=4,
                      markerfacecolor="white", label=f"{run.name}, evaluation")
        if not datasets:
            continue
        # With several runs a data set has its run's colour and a dash pattern, otherwise its own colour.
        names = [n for n in run.columns("loss_") if n != "loss_scale"]
        for i, name in enumerate(names):
            look = {"color": color_of(i + 1)} if len(runs) == 1 else {"color": color, "linestyle": DASHES[i % len(DASHES)]}
            axes.plot(step, running_mean(only_labelled(run, name), window), linewidth=1, label=f"{run.name}, {name[len('loss_'):]}", **look)
    axes.set_ylabel("loss per labelled token")
    axes.legend(frameon=False, fontsize=8)


def draw_norm(axes, runs, colors):
    for run, color in zip(runs, colors):
        axes.plot(run.steps["step"], run.steps["grad_norm"], color=color, linewidth=1)
        skipped = [s for s, flag in zip(run.steps["step"], run.steps["skipped"]) if flag]
        for step in skipped:
            axes.axvline(step, color=color, linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set_ylabel("gradient norm")


def draw_rates(axes, runs, colors):
    """One line for all groups that share a rate."""
    for run, color in zip(runs, colors):
        groups = {}
        for name in run.columns("lr_"):
            groups.setdefault(tuple(run.steps[name]), []).append(name[len("lr_") :])
        for (rates, names), style in zip(groups.items(), ["-", "--", ":", "-."]):
            label = f"{run.name}: {', '.join(names)}" if len(groups) > 1 else run.name
            axes.plot(run.steps["step"], rates, color=color, linewidth=1.2, linestyle=style, label=label)
    axes.set_ylabel("learning rate")
    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-2, 3))
    axes.yaxis.set_major_formatter(formatter)
    axes.legend(frameon=False, fontsize=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output directory of a run, or its loss_log.csv")
    parser.add_argument("--output", default="loss.png", help="PNG, SVG or PDF, as its name ends (default loss.png)")
    parser.add_argument("--datasets", action="store_true", help="also the loss of each data set")
    parser.add_argument("--log", action="store_true", help="logarithmic loss axis")
    arguments = parser.parse_args()

    runs = [Run(path) for path in arguments.runs]
    if any(not run.steps["step"] for run in runs):
        sys.exit("a log holds no complete row")
    colors = [color_of(i) for i in range(len(runs))]
    figure, (loss, norm, rates) = plt.subplots(3, 1, figsize=(9, 9), sharex=True, height_ratios=[3, 1, 1], layout="constrained")
    draw_loss(loss, runs, colors, arguments.datasets)
    if arguments.log:
        loss.set_yscale("log")
    draw_norm(norm, runs, colors)
    draw_rates(rates, runs, colors)
    rates.set_xlabel("step")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (loss, norm, rates):
        axes.grid(True, color="0.9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    figure.savefig(arguments.output, dpi=130)


if __name__ == "__main__":
    main()
