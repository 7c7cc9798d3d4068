#!/usr/bin/env python3
"""Compares the numbers of two runs, or of two of their logs, step by step.

By default every number must have the same bits (NaN equals NaN), in the columns that are results of arithmetic: all but those of
time, memory, speed and starts. A step that only one run has is a difference, too.

exit codes: 0 equal, 1 different, 64 wrong command line, 65 a log is wrong, 66 a log is missing

examples:
  compare_runs.py out_a out_b
  compare_runs.py out_cpu out_gpu --tolerance 1e-3 --columns loss grad_norm
  compare_runs.py reference running --common-steps
  compare_runs.py out_a/eval_log.csv out_b/eval_log.csv
"""

import argparse
import math
import os

import cli
from cli import Failure, Parser, note, printable, require
from runs import EVAL_LOG, bad, read_log, read_run

np = require("numpy")

NOT_ARITHMETIC = ("step", "start", "time", "memory_bytes", "model_flops", "mfu")
SHOWN = 10  # columns, and ranges of steps, in one message


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("a", metavar="A", help="output directory of a run, or a log")
    parser.add_argument("b", metavar="B", help="what it is compared with")
    parser.add_argument(
        "--tolerance",
        type=tolerance,
        default=0,
        metavar="T",
        help="numbers x and y are equal if |x - y| <= T max(|x|, |y|) (default: they have the same bits)",
    )
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="only these columns (default: all that are results of arithmetic)"
    )
    parser.add_argument("--common-steps", action="store_true", help="a step that only one run has is no difference")
    return parser.parse_args()


def tolerance(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{printable(text)}' is not a number from 0 to below 1")
    return value


def log_pairs(a, b):
    """The pairs of logs that are compared: of two runs the steps, and the evaluations where both have a log of them."""
    for path in (a, b):
        if not os.path.exists(path):
            raise Failure(cli.MISSING_INPUT, f"{path}: No such file or directory")
    if os.path.isdir(a) != os.path.isdir(b):
        raise Failure(cli.USAGE, f"{a} and {b}: give two directories or two logs")
    if os.path.isdir(a):
        left, right = read_run(a), read_run(b)
        return [(left.steps, right.steps)] + [(left.evaluations, right.evaluations)] * bool(left.evaluations and right.evaluations)
    left, right = read_log(a), read_log(b)
    if left.kind != right.kind:
        raise bad(b, f"is a log of another kind than {a}")
    return [(left, right)]


def missing_evaluations(a, b):
    """The path of the log of evaluations that one of two runs lacks; None if there is no such log."""
    if not os.path.isdir(a):
        return None
    paths = [os.path.join(directory, EVAL_LOG) for directory in (a, b)]
    lacking = [path for path in paths if not os.path.lexists(path)]
    return lacking[0] if len(lacking) == 1 else None


def check_names(chosen, pairs):
    """A column that is asked for must be in one of the logs."""
    known = list(dict.fromkeys(name for pair in pairs for log in pair for name in log.rows))
    for name in chosen or []:
        if name not in known:
            raise Failure(cli.USAGE, f"no log has a column {name}; they have: {', '.join(known)}")


def is_arithmetic(name):
    return name not in NOT_ARITHMETIC and not name.endswith("seconds")


def compared_columns(a, b, chosen):
    """The columns to compare, and those that only one of the logs has."""
    both = [name for name in a.rows if name in b.rows]
    one = [name for name in [*a.rows, *b.rows] if name not in both]
    if not chosen:
        return list(filter(is_arithmetic, both)), list(filter(is_arithmetic, one))
    return [name for name in both if name in chosen], [name for name in one if name in chosen]


def differs(a, b, relative):
    """Which elements of two columns of equal length differ. Equal bits for 0; a NaN equals a NaN only."""
    if a.dtype.kind not in "if":  # times
        return (a != b).to_numpy()
    if a.dtype.kind == b.dtype.kind == "i" and not relative:
        return (a != b).to_numpy()
    x, y = a.to_numpy(float), b.to_numpy(float)
    if not relative:
        return (x.view(np.int64) != y.view(np.int64)) & ~(np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        near = np.abs(x - y) <= relative * np.maximum(np.abs(x), np.abs(y))
    return ~(near | (x == y) | (np.isnan(x) & np.isnan(y)))


def ranges(steps):
    """ "1-3, 7" of a sorted list of steps."""
    ends = []
    for step in steps:
        if ends and step == ends[-1][1] + 1:
            ends[-1][1] = step
        else:
            ends.append([step, step])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ends[:SHOWN]]
    return ", ".join(texts + ["..."] * (len(ends) > SHOWN))


def missing_steps(a, b):
    """A line for each log that lacks steps of the other."""
    for lacking, other in ((a, b), (b, a)):
        steps = sorted(set(other.rows["step"]) - set(lacking.rows["step"]))
        if steps:
            yield f"{lacking.path} has no step {ranges(steps)} ({len(steps)} of {len(other.rows)})"


def first_difference(a, b, columns, relative):
    """Lines about the first step at which a column differs: the values there, and how many steps differ in all."""
    left, right = (log.rows.set_index("step", drop=False) for log in (a, b))
    common = left.index.intersection(right.index)
    left, right = left.loc[common], right.loc[common]
    different = {name: differs(left[name], right[name], relative) for name in columns}
    any_column = np.logical_or.reduce([*different.values(), np.zeros(len(common), bool)])
    if not any_column.any():
        return
    at = int(any_column.argmax())
    there = [name for name in columns if different[name][at]]
    yield f"first differ at step {common[at]}; in all at {any_column.sum()} of {len(common)} steps"
    for name in there[:SHOWN]:
        yield f"  {name}: {shown(left[name].iloc[at])} and {shown(right[name].iloc[at])}"
    if len(there) > SHOWN:
        yield f"  and {len(there) - SHOWN} more columns"


def shown(value):
    """A number with the fewest digits that read back as the same value."""
    return repr(value.item()) if isinstance(value, np.generic) else str(value)


def compare(a, b, arguments):
    """Prints what differs between two logs of one kind. Returns whether anything does."""
    columns, of_one = compared_columns(a, b, arguments.columns)
    if not columns and not of_one:  # what is asked for is in the other pair of logs
        return False
    lines = [] if arguments.common_steps else list(missing_steps(a, b))
    common = len(set(a.rows["step"]) & set(b.rows["step"]))
    if common == 0 and len(a.rows) + len(b.rows) > 0:
        lines.append("no step stands in both")
    lines += [f"{name} is a column of {(a if name in a.rows else b).path} only" for name in of_one]
    lines += first_difference(a, b, columns, arguments.tolerance)
    what = f"{a.path} and {b.path}"
    if lines:
        print(printable(f"{what}: different"))
        print("\n".join(printable(f"  {line}") for line in lines))
        return True
    how = f"equal within {arguments.tolerance:g}" if arguments.tolerance else "equal to the bit"
    print(printable(f"{what}: {how} in {common} {'steps' if a.kind == 'loss' else 'evaluations'}; columns: {', '.join(columns)}"))
    return False


def main():
    arguments = parse_arguments()
    pairs = log_pairs(arguments.a, arguments.b)
    for text in [text for pair in pairs for log in pair for text in log.notes if "tokens and hours" not in text]:
        note(text)
    check_names(arguments.columns, pairs)
    different = any([compare(a, b, arguments) for a, b in pairs])
    lacking = missing_evaluations(arguments.a, arguments.b)
    if lacking and not arguments.common_steps:
        print(printable(f"{lacking} is not there, the other run has one"))
        different = True
    return int(different)


if __name__ == "__main__":
    cli.run(main)
