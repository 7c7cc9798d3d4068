"""What can be drawn of runs: one Panel each, with its numbers in words beside the title. plot_runs.py puts them into a picture.

All runs share the panels. A run has one look everywhere: a colour and a pattern of dashes, or thick black for the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable

from cli import require
from runs import Run, total_until

np, pd, ticker = require("numpy"), require("pandas"), require("matplotlib.ticker")

# Told apart by most colour-blind people (after Okabe and Ito, without yellow and black), in every pattern.
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4b1e"]
DASHES = ["-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (7, 1.5, 1.2, 1.5))]
MUTED = "0.4"
FEW = 3  # runs, up to which each step is shown faintly and each run has its own numbers
LOG_FROM = 4  # ratio of the largest to the smallest number from which a logarithmic axis is better
MAX_POINTS = 2000  # of a curve; more are not seen and make large files


@dataclass
class Look:
    color: str
    dashes: object = "-"
    width: float = 1.6
    layer: int = 3

    @property
    def line(self):
        """As matplotlib's arguments of a line."""
        return {"color": self.color, "linestyle": self.dashes, "linewidth": self.width, "zorder": self.layer}


def look(index, runs):
    """The look of the run of that number, of so many: 28 differ."""
    return Look(COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)], 1.6 if runs <= FEW else 1.2)


REFERENCE = Look("black", width=2.6, layer=4)


@dataclass
class Curve:
    """A run with its look, and the places of its steps and evaluations on the x axis."""

    run: Run
    look: Look
    x: np.ndarray
    evaluation_x: np.ndarray

    @property
    def rows(self):
        return self.run.steps.rows


@dataclass
class Style:
    """smooth: steps that are averaged; mean: "ema" or "window"; many: more than a FEW runs; y: "auto", "log" or "linear"."""

    smooth: int
    mean: str
    many: bool
    y: str = "auto"


@dataclass
class Panel:
    """values: of the rows of a log of steps, None where the log has none; no function: the evaluations. facts: see numbers()."""

    title: str
    values: Callable = None
    smooth: bool = True
    ratios: bool = False  # what counts are ratios: a logarithmic axis suits it
    counts: bool = False  # whole numbers, which jump
    facts: tuple = ()


def smoothed(values, style):
    """Mean of the last `smooth` steps, or an exponential one as long. What is not finite is left out, and stays without a mean."""
    known = values[np.isfinite(values)]
    if style.smooth > 1 and style.mean == "window":
        known = known.rolling(style.smooth, min_periods=1).mean()
    elif style.smooth > 1:
        known = known.ewm(span=style.smooth).mean()
    return known.reindex(values.index)


def thinned(x, y):
    """At most MAX_POINTS points: the lowest and the highest of each of as many pieces as needed, so that no peak is lost."""
    seen = np.flatnonzero(np.isfinite(y))
    if len(seen) <= MAX_POINTS:
        return x[seen], y[seen]
    kept = set()
    for piece in np.array_split(seen, MAX_POINTS // 2):
        kept |= {piece[y[piece].argmin()], piece[y[piece].argmax()]}
    kept = sorted(kept)
    return x[kept], y[kept]


def draw(panel, axes, curves, style):
    """Draws a panel. Returns whether any run has what it shows."""
    drawn = (_draw_evaluations if panel.values is None else _draw_steps)(panel, axes, curves, style)
    if not drawn:
        axes.text(0.5, 0.5, "not in the logs of these runs", transform=axes.transAxes, ha="center", va="center", color=MUTED)
        axes.set_yticks([])
    is_log = drawn and panel.ratios and _choose_scale(axes, style)
    if drawn and panel.counts:
        axes.yaxis.get_major_locator().set_params(integer=True)
    words = numbers(panel.facts, curves) if drawn else ""
    axes.annotate(words, (0, 1), (0, 4), "axes fraction", "offset points", va="bottom", fontsize=7.5, color=MUTED, parse_math=False)
    title = panel.title + (" (logarithmic axis)" if is_log else "")
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=6 + 10 * len(words.splitlines()), parse_math=False)
    return drawn


def _choose_scale(axes, style):
    """A logarithmic y axis if asked for, or, by default, where the numbers are positive and far apart. Returns whether it is."""
    drawn = np.concatenate([line.get_ydata() for line in axes.lines])
    drawn = drawn[np.isfinite(drawn)]
    ratio = drawn.max() / drawn.min() if drawn.min() > 0 else 0
    if style.y == "linear" or (style.y == "auto" and ratio < LOG_FROM):
        return False
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if ratio < 100 else (1,)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    return True


def _draw_steps(panel, axes, curves, style):
    drawn = False
    for curve in curves:
        values = panel.values(curve.rows)
        if values is None or not np.isfinite(values).any():
            continue
        drawn = True
        if panel.smooth and style.smooth > 1 and not style.many:
            axes.plot(*thinned(curve.x, values.to_numpy(float)), color=curve.look.color, linewidth=0.7, alpha=0.25)
        line = smoothed(values, style) if panel.smooth else values
        shape = "steps-post" if panel.counts else "default"
        axes.plot(*thinned(curve.x, line.to_numpy(float)), drawstyle=shape, **curve.look.line)
    return drawn


def _draw_evaluations(panel, axes, curves, style):
    drawn = False
    for curve in curves:
        if len(curve.evaluation_x) == 0:
            continue
        drawn = True
        loss = curve.run.evaluations.rows["loss"].to_numpy(float)
        axes.plot(curve.evaluation_x, loss, marker="o", markersize=2.5 if style.many else 4.5, **curve.look.line)
    return drawn


def restarts(rows):
    """Positions of the rows with which a new start of the run begins."""
    if "start" not in rows:
        return []
    return np.flatnonzero(rows["start"].diff().fillna(0).to_numpy() != 0)


def mark_restarts(axes, curves, panel, style):
    """A triangle on a run's curve at each new start. Returns whether there is one."""
    found = False
    for curve in curves:
        values = None if panel.values is None else panel.values(curve.rows)
        at = restarts(curve.rows)
        if values is None or len(at) == 0:
            continue
        found = True
        line = smoothed(values, style) if panel.smooth else values
        axes.plot(
            curve.x[at],
            line.to_numpy(float)[at],
            linestyle="",
            marker="^",
            markersize=8,
            color=curve.look.color,
            markeredgecolor="white",
            zorder=5,
        )
    return found


def numbers(facts, curves):
    """Facts of the runs in words: of a few runs each one's, of many the least and the most.

    facts: functions of a curve; each returns a number, what it is, and it in words, or None where the run has none."""
    if len(curves) <= FEW:
        texts = [", ".join(f"{what} {text}" for _, what, text in filter(None, (fact(curve) for fact in facts))) for curve in curves]
        return "\n".join(f"{curve.run.name}: {text}" if len(curves) > 1 else text for curve, text in zip(curves, texts) if text)
    return "\n".join(filter(None, (_span(fact, curves) for fact in facts)))


def _span(fact, curves):
    known = sorted(((*fact(curve), curve.run.name) for curve in curves if fact(curve)), key=lambda known: known[0])
    if not known:
        return ""
    (_, what, least, first), (_, _, most, last) = known[0], known[-1]
    return f"{what} {least} in all runs" if least == most else f"{what} {least} ({first}) to {most} ({last})"


def last_loss(curve):
    loss = curve.rows["loss"].iloc[-1]
    return loss, "last", f"{loss:.4g}"


def lowest_evaluation(curve):
    rows = curve.run.evaluations.rows if curve.run.evaluations else None
    if rows is None or not rows["loss"].notna().any():
        return None
    best = rows["loss"].idxmin()
    return rows["loss"][best], "lowest", f"{rows['loss'][best]:.4g} at step {rows['step'][best]}"


def clipped_share(curve):
    share = ((curve.rows["clip_factor"] < 1) & (curve.rows["skipped"] == 0)).mean()
    return share, "clipped in", f"{share:.0%} of steps"


def largest_norm(curve):
    norm = curve.rows["grad_norm"].where(np.isfinite(curve.rows["grad_norm"]))
    if not norm.notna().any():
        return None
    return norm.max(), "largest", f"{norm.max():.3g} at step {curve.rows['step'][norm.idxmax()]}"


def skipped_steps(curve):
    count = int(curve.rows["skipped"].sum())
    return count / len(curve.rows), "skipped", f"{count} of {len(curve.rows)} steps"


def median_of(values):
    def fact(curve):
        found = values(curve.rows)
        median = math.nan if found is None else found.median()
        return None if math.isnan(median) else (median, "median", f"{median:.4g}")

    return fact


def _column(name):
    return lambda rows: rows[name] if name in rows else None


def _tokens_per_second(rows):
    return rows["tokens"] / rows["seconds"].where(rows["seconds"] > 0)


def _mfu(rows):
    return 100 * rows["mfu"] if "mfu" in rows else None


def _rate_panels(curves):
    """One panel a set of parameter groups that have the same rates in all runs."""
    groups = {}
    for name in dict.fromkeys(name for curve in curves for name in curve.run.steps.rates):
        rates = tuple(tuple(curve.rows[name]) if name in curve.rows else None for curve in curves)
        groups.setdefault(rates, []).append(name[len("lr_") :])
    every = len(groups) == 1
    return [
        Panel("learning rate" + ("" if every else f": {', '.join(names)}"), _column(f"lr_{names[0]}"), smooth=False)
        for names in groups.values()
    ]


def panels_of(names, curves):
    """The panels that are asked for, in that order; `datasets` is one for each data set that any run has."""
    sets = dict.fromkeys(name for curve in curves for name in curve.run.steps.sets)
    made = {
        "loss": [Panel("training loss, per labelled token", _column("loss"), ratios=True, facts=(last_loss,))],
        "datasets": [Panel(f"training loss on {name}", _column(f"loss_{name}"), ratios=True) for name in sets],
        "evaluation": [Panel("evaluation loss, per labelled token", ratios=True, facts=(lowest_evaluation,))],
        "rate": _rate_panels(curves),
        "norm": [Panel("gradient norm, before clipping", _column("grad_norm"), ratios=True, facts=(clipped_share, largest_norm))],
        "skipped": [
            Panel("skipped steps, in all", lambda rows: rows["skipped"].cumsum(), smooth=False, counts=True, facts=(skipped_steps,))
        ],
        "speed": [Panel("tokens per second, all ranks", _tokens_per_second, facts=(median_of(_tokens_per_second),))],
        "mfu": [Panel("MFU: share of the hardware's peak, in percent", _mfu, facts=(median_of(_mfu),))],
    }
    return [panel for name in names for panel in made[name]]


def positions(run, kind):
    """Places on the x axis of a run's steps and of its evaluations: steps, tokens so far, or hours of computing so far."""
    steps = run.steps.rows["step"]
    evaluated = run.evaluations.rows["step"] if run.evaluations else pd.Series(dtype=float)
    if kind == "step":
        return steps.to_numpy(), evaluated.to_numpy()
    column, unit = {"tokens": ("tokens", 1), "time": ("seconds", 3600)}[kind]
    return tuple(total_until(run.steps, column, at) / unit for at in (steps, evaluated))
