"""Reads what runs of facet leave behind: loss_log.csv, eval_log.csv and run.json, into data frames and plain dictionaries.

A log is a line with its version ("# facet loss log v2"), a header, and a row a step (docs/running.md). v1 and v2 come out alike:

- a row a step, in the order of the steps; of a step that stands twice, because a run was killed and did it again, the last row;
- what a log does not have (v1: start, time, mfu, ...) is not a column; what is empty in a row is NaN;
- loss_SET is NaN where the data set had no labelled token in the step (v1 has 0 there, v2 nothing);
- time is a UTC timestamp.

Every problem is a Failure with the file, the line and what is wrong: 65 for a file that is no log or a wrong one, 66 for one that
is not there or cannot be read. What is survivable (the last row is cut, steps stand twice) is in `notes`, a sentence each.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from dataclasses import dataclass, field

from cli import BAD_INPUT, MISSING_INPUT, Failure, note, require

np, pd = require("numpy"), require("pandas")

LOSS_LOG, EVAL_LOG, RECORD = "loss_log.csv", "eval_log.csv", "run.json"
KINDS = {"loss": LOSS_LOG, "eval": EVAL_LOG}
VERSIONS = (1, 2)
RECORD_FORMAT = "facet run record v1"
MAX_BYTES = 1 << 32  # of a log; a run of a million steps has 300 MB

# Every row has a number in these columns, and in v2 a start and a time; in others a row may have none.
REQUIRED = {
    "loss": "step epoch micro_batches samples tokens labelled_tokens loss grad_norm clip_factor loss_scale skipped seconds".split(),
    "eval": "step epoch samples labelled_tokens loss seconds".split(),
}
REQUIRED_SINCE_V2 = ["start", "time"]
WHOLE = ("step", "epoch", "start")
LABELLED = "labelled_tokens_"


@dataclass
class Log:
    """One log: kind is "loss" or "eval"; rows as described above, an index from 0."""

    path: str
    kind: str
    version: int
    rows: pd.DataFrame = None
    notes: list[str] = field(default_factory=list)

    @property
    def sets(self):
        """The names of the data sets."""
        return [name[len(LABELLED) :] for name in self.rows if name.startswith(LABELLED)]

    @property
    def rates(self):
        """The columns of the learning rates, one a parameter group."""
        return [name for name in self.rows if name.startswith("lr_")]


@dataclass
class Run:
    """A run: its steps, its evaluations (None if there is no log of them), where run.json is if there is one.

    place: the run's directory, or its log if that has another name than loss_log.csv; name: the end of that."""

    place: str
    name: str
    steps: Log
    evaluations: Log | None
    record_path: str | None

    @property
    def notes(self):
        return self.steps.notes + (self.evaluations.notes if self.evaluations else [])


def bad(path, what):
    """The error of a file that is wrong."""
    return Failure(BAD_INPUT, f"{path}: {what}")


def read_run(path):
    """A run by its output directory, or by its log: beside loss_log.csv.previous, eval_log.csv.previous belongs to it."""
    log_path = os.path.join(path, LOSS_LOG) if os.path.isdir(path) else path
    if os.path.isdir(path) and not os.path.lexists(log_path):
        raise Failure(MISSING_INPUT, f"{path}: no {LOSS_LOG} in it; give the --output_dir of a run, or a log")
    steps = read_log(log_path)
    if steps.kind != "loss":
        raise bad(log_path, f"is a log of evaluations; give the {LOSS_LOG} of the run, or its directory")
    place = os.path.abspath(log_path)
    directory, name = os.path.split(place)
    evaluations = record = None
    if name.startswith(LOSS_LOG):
        evaluations, record = (os.path.join(os.path.dirname(log_path), kin + name[len(LOSS_LOG) :]) for kin in (EVAL_LOG, RECORD))
    has_evaluations = evaluations and os.path.lexists(evaluations)
    return Run(
        place=directory if name == LOSS_LOG else place,
        name=os.path.basename(directory),
        steps=steps,
        evaluations=read_log(evaluations, "eval", may_be_empty=True) if has_evaluations else None,
        record_path=record,
    )


def read_runs(paths):
    """Several runs, with names that tell them apart, and their notes on stderr."""
    found = [read_run(path) for path in paths]
    for run, name in zip(found, distinct_names([run.place for run in found])):
        run.name = name
        for text in run.notes:
            note(text)
    return found


def distinct_names(places):
    """The shortest ends of the paths by which those that differ can be told apart."""
    parts = [place.strip(os.sep).split(os.sep) for place in places]
    deepest = max(map(len, parts), default=1)
    for depth in range(1, deepest + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(set(places)):
            break
    return names


def read_log(path, kind=None, may_be_empty=False):
    """A log. `kind` is what it has to be, if that is known. A log of evaluations may have no rows yet."""
    with open_regular(path) as file:
        kind, version = _version(path, file.readline(200), kind)
        lines, cut = _lines(path, file)
    required = REQUIRED[kind] + REQUIRED_SINCE_V2 * (version > 1)
    names = _header(path, lines, cut, required)
    log = Log(path, kind, version)
    rows = _whole_rows(log, lines[1:], cut, len(names))
    if not rows and not may_be_empty:
        raise bad(path, f"has no rows{' but one that is cut' if log.notes else ''}: no step was done")
    log.rows = _last_of_each_step(log, _without_unlabelled(_numbers(path, names, rows, required)))
    if log.kind == "loss" and log.rows["step"][0] > 1:
        log.notes.append(f"{path}: begins at step {log.rows['step'][0]}; tokens and hours are counted from there")
    return log


def open_regular(path):
    """The file for reading, as bytes. Failure(66) if it is not there, cannot be read, or is no regular file; 65 if it is huge."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait
            raise Failure(MISSING_INPUT, f"{path}: is no regular file; give a log or the directory of a run")
        if found.st_size > MAX_BYTES:
            raise bad(path, f"is no log of a run: it has more than {MAX_BYTES >> 30} GiB")
        return open(path, "rb")
    except OSError as error:
        raise Failure(MISSING_INPUT, f"{path}: {error.strerror}") from error


def _version(path, line, kind):
    """Kind and version by the first line, which must be of that kind if one is given."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    known = {f"# facet {k} log v{version}": (k, version) for k in ([kind] if kind else KINDS) for version in VERSIONS}
    if text in known:
        return known[text]
    if not line:
        raise bad(path, "is empty")
    if any(text.startswith(first[:-1]) for first in known):
        raise bad(path, f"begins with '{text}', a version that is not known here; known: {', '.join(known)}")
    raise bad(path, f"is no log of facet: its first line is '{text[:60]}'; known: {', '.join(known)}")


def _lines(path, file):
    """The whole lines after the first, and whether something without a line break comes after them."""
    try:
        text = file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad(path, f"is no log: byte {error.start} after its first line is not UTF-8") from error
    except OSError as error:
        raise Failure(MISSING_INPUT, f"{path}: {error.strerror}") from error
    lines = text.replace("\r\n", "\n").split("\n")
    damaged = next((i for i, line in enumerate(lines[:-1]) if "\0" in line), None)
    if damaged is not None:
        raise bad(path, f"line {damaged + 2} has zero bytes: it was damaged in a crash")
    return lines[:-1], lines[-1] != ""


def _header(path, lines, cut, required):
    if not lines:
        raise bad(path, "ends within its header" if cut else "has only a version line: no step was done")
    names = lines[0].split(",")
    sets = [name[len(LABELLED) :] for name in names if name.startswith(LABELLED)]
    missing = [name for name in required + [f"loss_{s}" for s in sets] if name not in names]
    if missing:
        raise bad(path, f"line 2, the header, has no column {', '.join(missing)}")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise bad(path, f"line 2, the header, has a column twice: {', '.join(sorted(twice))}")
    return names


def _whole_rows(log, rows, cut, columns):
    """The rows, without a last one that has not as many values as the header; _lines has left out one without a line break."""
    if not cut and rows and rows[-1].count(",") + 1 < columns:
        rows, cut = rows[:-1], True
    if cut:
        log.notes.append(f"{log.path}: its last row, line {len(rows) + 3}, is cut; used without it")
    for i, row in enumerate(rows):
        if row.count(",") + 1 != columns:
            raise bad(log.path, f"line {i + 3} has {row.count(',') + 1} values, the header {columns}")
    return rows


def _numbers(path, names, rows, required):
    """A frame of int64, float64 and, for `time`, UTC timestamps. An empty value is NaN, and an error in a required column."""
    frame = _parsed(names, rows)
    for name in names:
        if name == "time":
            frame[name] = pd.to_datetime(frame[name], format="%Y-%m-%dT%H:%M:%S.%fZ", utc=True, errors="coerce")
            _check(path, names, rows, name, frame[name].isna(), lambda text: False, "a time like 2026-11-29T11:07:12.123Z")
            continue
        whole = name in WHOLE
        if rows and (frame[name].dtype.kind not in ("i" if whole else "if") or (whole and frame[name].min() < 0)):
            _check(
                path,
                names,
                rows,
                name,
                [True] * len(rows),
                _is_whole if whole else _is_number,
                "a whole number" if whole else "a number",
            )
            raise bad(path, f"column {name} has a number that is too large")
        if name in required:
            _check(path, names, rows, name, frame[name].isna(), lambda text: text != "", "a number")
    return frame


def _parsed(names, rows):
    """Columns as pandas takes them: int64, float64, or something else where a value is no number."""
    if not rows:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in names})
    return pd.read_csv(
        io.StringIO("\n".join(rows)),
        header=None,
        names=names,
        index_col=False,
        lineterminator="\n",
        quoting=csv.QUOTE_NONE,
        skip_blank_lines=False,
        keep_default_na=False,
        na_values=["", "nan", "-nan"],
        dtype={"time": str},
        float_precision="round_trip",
        low_memory=False,
    )


def _check(path, names, rows, name, suspicious, is_right, expected):
    """Error with the line of the first suspicious value of a column whose text is not right."""
    at = names.index(name)
    for i, row in enumerate(rows):
        text = row.split(",")[at] if suspicious[i] else None
        if text is not None and not is_right(text):
            raise bad(path, f"line {i + 3}: {name} is '{text[:40]}', not {expected}")


def _is_number(text):
    try:
        return text == "" or (float(text) is not None and "_" not in text)
    except ValueError:
        return False


def _is_whole(text):
    return text.isascii() and text.isdigit()


def _without_unlabelled(frame):
    """loss_SET is NaN where the set had no labelled token."""
    for name in [name for name in frame if name.startswith(LABELLED)]:
        loss = f"loss_{name[len(LABELLED):]}"
        frame[loss] = frame[loss].astype(float).where(frame[name] > 0)
    return frame


def _last_of_each_step(log, frame):
    """A run that was killed after its last checkpoint does the steps since then again; those rows count."""
    again = frame["step"].duplicated(keep="last")
    if again.any():
        log.notes.append(f"{log.path}: {again.sum()} rows of steps that were done again later are left out")
        frame = frame[~again]
    return frame.sort_values("step", kind="stable", ignore_index=True)


def read_record(path):
    """A run.json: a dictionary with `starts`, a list of dictionaries; None if there is none."""
    if path is None or not os.path.lexists(path):
        return None
    try:
        with open_regular(path) as file:
            record = json.loads(file.read().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad(path, f"is no JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
        raise bad(
            path, f"is no '{RECORD_FORMAT}': its format is {record.get('format') if isinstance(record, dict) else 'missing'!r}"
        )
    starts = record.get("starts")
    if not isinstance(starts, list) or not starts or not all(map(_is_start, starts)):
        raise bad(path, "has no list of starts with numbers and options")
    return record


def _is_start(start):
    if not isinstance(start, dict) or not isinstance(start.get("start"), int):
        return False
    changes = start.get("options_changed", {})
    return all(isinstance(options, dict) for options in (start.get("options", {}), changes)) and all(
        isinstance(change, list) and len(change) == 2 for change in changes.values()
    )


def options_by_start(record):
    """The options of each start, by its number: those of the first, and what each later one has changed."""
    options, found = {}, {}
    for start in record["starts"]:
        changes = {name: new for name, (_, new) in start.get("options_changed", {}).items()}
        options = {**options, **start.get("options", {}), **changes}
        found[start["start"]] = options
    return found


def total_until(log, column, steps):
    """The sum of a column of a log of steps over all rows up to each of `steps`: an array as long as these."""
    totals = np.concatenate([[0], log.rows[column].fillna(0).cumsum()])
    return totals[np.searchsorted(log.rows["step"], steps, side="right")]
