"""Makes runs as facet leaves them behind: logs of v1 and v2 and run.json, from a seed, with every column that the formats have.

What a test expects it takes from the rows that write_run returns, or from what it planted: `kill_after` (the steps after a
checkpoint are done again by a second start, and stand twice), `skip` (steps without a finite gradient), sets that are absent.
"""

import json
import os
import random
from datetime import datetime, timedelta, timezone

SETS = ["llava", "llava_dial", "coco_caption"]
GROUPS = ["decay", "no_decay"]
BEGIN = datetime(2026, 11, 29, 11, 7, 12, 123000, tzinfo=timezone.utc)

STEP_COLUMNS = {
    1: "step,epoch,micro_batches,samples,tokens,labelled_tokens,loss,grad_norm,clip_factor,loss_scale,skipped,LR,"
    "seconds,LOSS,LABELLED",
    2: "step,epoch,start,time,micro_batches,samples,tokens,labelled_tokens,loss,grad_norm,clip_factor,loss_scale,skipped,LR,"
    "seconds,data_seconds,forward_seconds,backward_seconds,reduce_seconds,optimizer_seconds,"
    "memory_bytes,model_flops,mfu,LOSS,LABELLED",
}
EVAL_COLUMNS = {
    1: "step,epoch,samples,labelled_tokens,loss,seconds,LOSS,LABELLED",
    2: "step,epoch,start,time,samples,labelled_tokens,loss,seconds,LOSS,LABELLED",
}


def columns(template, sets):
    parts = {
        "LR": [f"lr_{g}" for g in GROUPS],
        "LOSS": [f"loss_{s}" for s in sets],
        "LABELLED": [f"labelled_tokens_{s}" for s in sets],
    }
    return [name for part in template.split(",") for name in parts.get(part, [part])]


def text_of(row, name, version):
    """A value as the program prints it: the fewest digits; v2 has nothing for the loss of an absent set, v1 has 0."""
    value = row[name]
    if value is None:
        return "0" if version == 1 else ""
    return str(value).removesuffix(".0")


def write_log(path, kind, version, rows, sets=SETS, end="\n"):
    names = columns((STEP_COLUMNS if kind == "loss" else EVAL_COLUMNS)[version], sets)
    lines = [f"# facet {kind} log v{version}", ",".join(names)]
    lines += [",".join(text_of(row, name, version) for name in names) for row in rows]
    with open(path, "w", newline="") as file:
        file.write("\n".join(lines) + end)


def time_text(seconds):
    return (BEGIN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def losses(rng, mean, sets, absent):
    """Losses and labelled tokens of the sets, and those of all."""
    row = {}
    for name in sets:
        count = 0 if name in absent else rng.randrange(5, 60)
        row[f"labelled_tokens_{name}"] = count
        row[f"loss_{name}"] = mean * (0.8 + 0.4 * rng.random()) if count else None
    total = sum(row[f"labelled_tokens_{name}"] for name in sets)
    row["labelled_tokens"] = total
    row["loss"] = sum(row[f"labelled_tokens_{n}"] * row[f"loss_{n}"] for n in sets if row[f"loss_{n}"]) / total
    return row


def step_row(rng, step, start, clock, sets, skipped=False, has_peak=True):
    seconds = 1.5 + rng.random()
    norm = float("inf") if skipped else 0.3 + 2 * rng.random()
    absent = [name for i, name in enumerate(sets) if i > 0 and (step + i) % 3 == 0]
    row = {
        "step": step,
        "epoch": 1 + step // 50,
        "start": start,
        "time": time_text(clock + seconds),
        "micro_batches": 4,
        "samples": 32,
        "tokens": 3000 + rng.randrange(500),
        "grad_norm": norm,
        "clip_factor": 0 if skipped else 1 / max(1.0, norm),
        "loss_scale": 1,
        "skipped": int(skipped),
        "lr_decay": 1e-3 / step,
        "lr_no_decay": 1e-3 / step,
        "seconds": seconds,
        "memory_bytes": 123456789,
        "model_flops": 7.5e12,
        "mfu": 0.25 + 0.2 * rng.random() if has_peak else None,
    }
    for phase in ("data", "forward", "backward", "reduce", "optimizer"):
        row[f"{phase}_seconds"] = seconds / 5
    row.update(losses(rng, 0.5 + 7 / step**0.5, sets, absent))
    return row


def eval_row(rng, step, start, clock, sets):
    row = {
        "step": step,
        "epoch": step // 50,
        "start": start,
        "time": time_text(clock),
        "samples": 60,
        "seconds": 0.5 + rng.random(),
    }
    row.update(losses(rng, 0.6 + 7 / (step + 1) ** 0.5, sets, []))
    return row


def record(starts, reason="done", code=0, **options):
    """run.json of that many starts; reason None: the last one was killed."""
    list_of = []
    for number in range(1, starts + 1):
        start = {"start": number, "time": "2026-11-29T11:07:12Z", "ranks": 2, "hosts": ["n1"], "program": {"version": "0.1"}}
        start.update({"options": {"precision": "bf16", **options}} if number == 1 else {"options_changed": {}})
        list_of.append(start)
    if reason:
        list_of[-1]["end"] = {"time": "2026-11-29T12:00:00Z", "code": code, "reason": reason, "step": 1, "checkpoint": "none"}
    return {"format": "facet run record v1", "starts": list_of}


def write_record(directory, content):
    with open(os.path.join(directory, "run.json"), "w") as file:
        json.dump(content, file)


def write_run(
    directory, version=2, steps=30, seed=1, sets=SETS, skip=(), kill_after=None, eval_interval=10, reason="done", has_peak=True
):
    """A run. kill_after (STEP, CHECKPOINT): it was killed after STEP and went on from CHECKPOINT; its log was not cut back.

    Returns the rows of the log of steps, as they stand in it."""
    os.makedirs(directory)
    rng = random.Random(seed)
    numbers = [(step, 1) for step in range(1, steps + 1)]
    if kill_after:
        killed, checkpoint = kill_after
        numbers = [(s, 1) for s in range(1, killed + 1)] + [(s, 2) for s in range(checkpoint + 1, steps + 1)]
    rows, evaluations, clock = [], [eval_row(rng, 0, 1, 0, sets)], 0.0
    for step, start in numbers:
        rows.append(step_row(rng, step, start, clock, sets, step in skip, has_peak))
        clock += rows[-1]["seconds"]
        if step % eval_interval == 0:
            evaluations.append(eval_row(rng, step, start, clock, sets))
    write_log(os.path.join(directory, "loss_log.csv"), "loss", version, rows, sets)
    write_log(os.path.join(directory, "eval_log.csv"), "eval", version, evaluations, sets)
    if version > 1:
        write_record(directory, record(2 if kill_after else 1, reason))
    return rows
