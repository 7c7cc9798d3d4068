#!/usr/bin/env python3
"""Draws docs/images/demo.svg from what `make demo` leaves behind: the loss of every step and evaluation, and two scenes that
were never trained on with the captions that the model wrote. Python's standard library only; the result has no scripts and
no references to other files, so that a web page can show it.

usage: scripts/draw_demo.py [BUILD [OUT.svg [SCENE SCENE]]]
"""
import base64
import csv
import json
import math
import pathlib
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 900, 384
PLOT = {"left": 62, "right": 560, "top": 62, "bottom": 332}
INK, MUTED, GRID, LINE, FAINT, DOT = "#1f2937", "#6b7280", "#e5e7eb", "#1d4ed8", "#93b4f5", "#c2410c"


def rows(path):
    """The rows of a log as dictionaries; its first line is a version."""
    with open(path, newline="") as file:
        file.readline()
        return list(csv.DictReader(file))


def smoothed(values, half=12):
    """Geometric means over neighbours: the loss falls by orders of magnitude."""
    logs = [math.log(v) for v in values]
    windows = (logs[max(0, i - half):i + half + 1] for i in range(len(logs)))
    return [math.exp(sum(w) / len(w)) for w in windows]


class Plot:
    """The curve, on a logarithmic axis."""

    def __init__(self, last_step, lowest, highest):
        self.last_step = last_step
        self.low, self.high = math.floor(math.log10(lowest) * 2) / 2, math.ceil(math.log10(highest) * 2) / 2

    def x(self, step):
        return PLOT["left"] + (PLOT["right"] - PLOT["left"]) * step / self.last_step

    def y(self, loss):
        share = (math.log10(loss) - self.low) / (self.high - self.low)
        return PLOT["bottom"] - (PLOT["bottom"] - PLOT["top"]) * share

    def path(self, steps, losses, color, width):
        points = " ".join(f"{self.x(s):.1f},{self.y(v):.1f}" for s, v in zip(steps, losses))
        return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round"/>'

    def axes(self):
        for loss in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10):
            if not self.low <= math.log10(loss) <= self.high:
                continue
            y = self.y(loss)
            yield f'<line x1="{PLOT["left"]}" y1="{y:.1f}" x2="{PLOT["right"]}" y2="{y:.1f}" stroke="{GRID}"/>'
            yield text(PLOT["left"] - 8, y + 4, f"{loss:g}", MUTED, anchor="end")
        stride = 10 ** math.floor(math.log10(self.last_step / 2))
        stride *= next(f for f in (1, 2, 5, 10) if self.last_step / (stride * f) <= 5)
        for step in range(0, self.last_step + 1, int(stride)):
            yield text(self.x(step), PLOT["bottom"] + 20, str(step), MUTED, anchor="middle")
        yield text((PLOT["left"] + PLOT["right"]) / 2, PLOT["bottom"] + 38, "step", MUTED, anchor="middle")


def text(x, y, words, color=INK, size=13, anchor="start", weight="normal", style="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}" font-style="{style}">{escape(words)}</text>')


def curve(run):
    steps, evaluations = rows(run / "loss_log.csv"), rows(run / "eval_log.csv")
    at = [int(row["step"]) for row in steps]
    losses = [float(row["loss"]) for row in steps]
    eval_at = [int(row["step"]) for row in evaluations]
    eval_losses = [float(row["loss"]) for row in evaluations]
    plot = Plot(at[-1], min(losses + eval_losses), max(losses + eval_losses))
    yield text(PLOT["left"] - 38, 34, "Loss", weight="bold", size=15)
    yield from plot.axes()
    yield plot.path(at, losses, FAINT, 1)
    yield plot.path(at, smoothed(losses), LINE, 2)
    yield plot.path(eval_at, eval_losses, DOT, 1.5)
    for step, loss in zip(eval_at, eval_losses):
        yield f'<circle cx="{plot.x(step):.1f}" cy="{plot.y(loss):.1f}" r="4" fill="{DOT}"/>'
    x, y = PLOT["right"] - 236, PLOT["top"] + 16
    yield f'<line x1="{x}" y1="{y}" x2="{x + 26}" y2="{y}" stroke="{LINE}" stroke-width="2"/>'
    yield text(x + 34, y + 4, "training, smoothed")
    yield f'<line x1="{x}" y1="{y + 22}" x2="{x + 26}" y2="{y + 22}" stroke="{DOT}" stroke-width="1.5"/>'
    yield f'<circle cx="{x + 13}" cy="{y + 22}" r="4" fill="{DOT}"/>'
    yield text(x + 34, y + 26, f"held-out samples: {eval_losses[0]:.2g} to {eval_losses[-1]:.2g}")


def scene(answer, right, top):
    """One image, the question and the model's caption, which is marked right or wrong."""
    left, side = 606, 132
    image = base64.b64encode(pathlib.Path(answer["image_path"]).read_bytes()).decode()
    yield (f'<image x="{left}" y="{top}" width="{side}" height="{side}" href="data:image/png;base64,{image}"/>'
           f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{GRID}"/>')
    x, y = left + side + 14, top + 30
    for line in wrapped(answer["question"], 18):
        yield text(x, y, line, MUTED, style="italic")
        y += 18
    y += 8
    for line in wrapped(answer["answer"], 17):
        yield text(x, y, line, weight="bold")
        y += 18
    if answer["answer"] != right:
        yield text(x, y, f"(right: {right})", MUTED, size=11)


def wrapped(words, columns):
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def scenes(demo, names):
    with open(demo / "captions.csv", newline="") as file:
        answers = {row["test_name"]: row for row in csv.DictReader(file)}
    right = json.loads((demo / "tiny/data/eval/captions.json").read_text())
    exact = sum(answers[name]["answer"] == right[name] for name in answers)
    yield text(606, 34, "Scenes never trained on", weight="bold", size=15)
    for i, name in enumerate(names):
        yield from scene(answers[name], right[name], PLOT["top"] - 12 + i * 150)
    yield text(606, PLOT["bottom"] + 38, f"{exact} of {len(answers)} captions exactly right", MUTED)


def main(build="build", out="docs/images/demo.svg", *names):
    demo = pathlib.Path(build) / "demo"
    body = [*curve(demo / "run"), *scenes(demo, names or ("held_out_004", "held_out_005"))]
    label = "The loss of the demo's run, and two scenes it was not trained on with the captions it wrote"
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'role="img" aria-label="{label}" font-family="Helvetica, Arial, sans-serif">')
    # A card of its own: readable on light and dark pages.
    card = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" fill="#ffffff" stroke="#d1d5db"/>'
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(out).write_text("\n".join([head, card, *body, "</svg>"]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
