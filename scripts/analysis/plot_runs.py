#!/usr/bin/env python3
"""Draws the logs of one or many runs into one picture.

panels, in the order in which they are named:
  loss        training loss
  datasets    training loss of each data set, a panel each
  evaluation  evaluation loss
  rate        learning rate
  norm        gradient norm, with the share of clipped steps and the largest norm
  skipped     steps that changed no weight
  speed       tokens per second
  mfu         share of the peak of the hardware

A triangle marks where a run was started again. A run's curve is smoothed; with up to three runs each step is there too, faintly.

exit codes: 0 done, 64 wrong command line, 65 a log is wrong, 66 a log is missing, 74 the picture cannot be written,
78 pandas or matplotlib is missing

examples:
  plot_runs.py out
  plot_runs.py sweep/* --reference baseline --x tokens --output sweep.png
  plot_runs.py out --panels loss,datasets --smooth 100 --smoothing window --output loss.svg
"""

import argparse
import math
import os
import warnings

import cli
from cli import Failure, Parser, printable, require
from panels import FEW, MUTED, REFERENCE, Curve, Style, draw, look, mark_restarts, panels_of, positions
from runs import read_runs

matplotlib = require("matplotlib")
matplotlib.use("Agg")  # no display
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402

PANELS = ["loss", "datasets", "evaluation", "rate", "norm", "skipped", "speed", "mfu"]
DEFAULT_PANELS = ["loss", "evaluation", "rate", "norm"]
FORMATS = (".png", ".svg", ".pdf")
X_LABELS = {"step": "step", "tokens": "tokens seen in training", "time": "hours of computing"}


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="output directory of a run, or its loss_log.csv")
    parser.add_argument(
        "--output", default="runs.png", type=picture, metavar="FILE", help="ends with .png, .svg or .pdf (default runs.png)"
    )
    parser.add_argument(
        "--panels", type=panel_names, metavar="A,B,...", help=f"of {','.join(PANELS)}, or all (default {','.join(DEFAULT_PANELS)})"
    )
    parser.add_argument("--x", choices=list(X_LABELS), default="step", help="x axis (default step)")
    parser.add_argument(
        "--smooth", type=cli.positive, metavar="N", help="average N steps, 1: none (default: a 30th of the longest run)"
    )
    parser.add_argument(
        "--smoothing",
        choices=["ema", "window"],
        default="ema",
        help="exponential moving average with the span N, or the mean of the last N (default ema)",
    )
    parser.add_argument("--reference", metavar="RUN", help="a run that is drawn in thick black")
    parser.add_argument(
        "--y",
        choices=["auto", "log", "linear"],
        default="auto",
        help="axes of losses and norms (default auto: logarithmic where the numbers are far apart)",
    )
    arguments = parser.parse_args()
    if not arguments.runs and not arguments.reference:
        parser.error("no run is given")
    return arguments


def picture(path):
    if not path.lower().endswith(FORMATS):
        raise argparse.ArgumentTypeError(f"'{printable(path)}' does not end with {', '.join(FORMATS)}")
    return path


def panel_names(text):
    names = PANELS if text == "all" else text.split(",")
    wrong = [name for name in names if name not in PANELS]
    if wrong:
        raise argparse.ArgumentTypeError(f"no panel is called '{printable(wrong[0])}'; there are {', '.join(PANELS)}")
    return list(dict.fromkeys(names))


def read_curves(arguments):
    """The runs with their looks, the reference first; a reference that is also among the runs is there once."""
    reference = [arguments.reference] if arguments.reference else []
    others = [path for path in arguments.runs if os.path.realpath(path) not in map(os.path.realpath, reference)]
    paths = reference + others
    looks = [REFERENCE] * len(reference) + [look(i, len(paths)) for i in range(len(others))]
    found = read_runs(paths)
    for run in found:
        run.name = printable(run.name)
    return [Curve(run, its_look, *positions(run, arguments.x)) for run, its_look in zip(found, looks)]


def style_of(arguments, curves):
    longest = max(len(curve.rows) for curve in curves)
    return Style(arguments.smooth or max(1, longest // 30), arguments.smoothing, len(curves) > FEW, arguments.y)


def chosen_panels(arguments, curves):
    """By default without evaluations where there are none; what is named is drawn in any case."""
    if arguments.panels:
        return arguments.panels
    evaluated = any(len(curve.evaluation_x) for curve in curves)
    return [name for name in DEFAULT_PANELS if name != "evaluation" or evaluated]


def make_axes(count):
    """A figure with that many panels, in one column up to three, else in two."""
    columns, width = (1, 8.5) if count <= 3 else (2, 12)
    lines = math.ceil(count / columns)
    size = (width, 2.7 * lines + 0.4)
    figure, grid = plt.subplots(lines, columns, figsize=size, sharex=True, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count], columns


def dress(axes, kind, is_lowest):
    """Ticks, grid and the label of the x axis."""
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.tick_params(labelbottom=True)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(8, steps=[1, 2, 5, 10], integer=kind == "step"))
    if kind == "tokens":
        axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=" "))
    if is_lowest:
        axes.set_xlabel(X_LABELS[kind])


def add_legend(figure, curves, style, any_restart):
    """Outside, to the right of all panels. (A name may begin with _ or hold $, so it becomes a text after the legend is made.)"""
    lines = [Line2D([], [], **curve.look.line) for curve in curves]
    names = [c.run.name + (" (reference)" if c.look is REFERENCE else "") for c in curves]
    if style.smooth > 1 and not style.many:
        lines.append(Line2D([], [], color=MUTED, linewidth=0.7, alpha=0.6))
        names.append("each step")
    if any_restart:
        lines.append(Line2D([], [], color=MUTED, linestyle="", marker="^", markersize=8, markeredgecolor="white"))
        names.append("started again")
    legend = figure.legend(
        lines,
        ["name"] * len(lines),
        loc="upper left",
        bbox_to_anchor=(1.0, 0.985),
        frameon=False,
        fontsize=9,
        handlelength=3.4,
        ncol=math.ceil(len(lines) / 40),
        title=smoothing_in_words(style),
        title_fontsize=8,
        alignment="left",
    )
    for text, name in zip(legend.get_texts(), names):
        text.set_parse_math(False)
        text.set_text(name)


def smoothing_in_words(style):
    if style.smooth == 1:
        return "not smoothed"
    return f"smoothed: {'exponential mean over about' if style.mean == 'ema' else 'mean of the last'} {style.smooth} steps"


def draw_all(arguments, curves):
    """The picture as a figure."""
    style = style_of(arguments, curves)
    panels = panels_of(chosen_panels(arguments, curves), curves)
    if not panels:
        raise Failure(cli.BAD_INPUT, f"{curves[0].run.steps.path}: has no columns for {', '.join(arguments.panels)}")
    figure, all_axes, columns = make_axes(len(panels))
    for panel, axes in zip(panels, all_axes):
        draw(panel, axes, curves, style)
        dress(axes, arguments.x, all_axes.index(axes) >= len(panels) - columns)
    marked = next((i for i, panel in enumerate(panels) if panel.values), 0)
    add_legend(figure, curves, style, mark_restarts(all_axes[marked], curves, panels[marked], style))
    return figure


def main():
    arguments = parse_arguments()
    warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
    figure = draw_all(arguments, read_curves(arguments))
    try:
        figure.savefig(arguments.output, dpi=110, bbox_inches="tight")
    except OSError as error:
        raise Failure(cli.NOT_WRITTEN, f"{arguments.output}: cannot be written: {error.strerror}") from error
    return 0


if __name__ == "__main__":
    cli.run(main)
