#!/usr/bin/env python3
"""Makes tests/golden/answers.json: the answers of DeepSpeed-VisualChat's two tools.

Needs torch 2.5.1, transformers 4.46, sentencepiece, Pillow 10.4, numpy and a checkout of
DeepSpeedExamples at the commit named in golden/store.py:

    scripts/make_golden_answers.py --reference DeepSpeedExamples/applications/DeepSpeed-VisualChat

Model weights are not stored: both sides compute them from a hash of their names.
"""

import argparse
import json
import pathlib

import torch
import transformers

from golden import answer_cases, original, store


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True, help="applications/DeepSpeed-VisualChat")
    parser.add_argument("--output", default="tests/golden/answers.json")
    args = parser.parse_args()
    loaded = original.load(args.reference)
    system = (answer_cases.ROOT / "data/prompts/system.txt").read_text().rstrip() + "\n\n"
    runs, margins = answer_cases.all_runs(loaded, args.reference, system)
    golden = {
        "made_by": "scripts/make_golden_answers.py",
        "made_from": "eval/batch_generation.py and chat/chat.py of DeepSpeed-VisualChat of "
                     f"DeepSpeedExamples at {store.REFERENCE_COMMIT}, in fp32 with pixels rounded to fp16",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "least_margin": margins[0],  # of a chosen token's logit over the next one's
        "longest_answer": answer_cases.LONGEST,
        "end_scale": answer_cases.END_SCALE,
        "system": system,
        "runs": runs,
    }
    pathlib.Path(args.output).write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    lengths = [len(r["answer"]) for run in runs for c in run["conversations"] for r in c["rounds"]]
    print(f"{args.output}: {sum(len(run['conversations']) for run in runs)} conversations, {len(lengths)} answers of "
          f"{min(lengths)} to {max(lengths)} tokens; margins {', '.join(f'{m:.1e}' for m in margins[:5])} ...")


if __name__ == "__main__":
    main()
