#!/usr/bin/env python3
"""Makes tests/golden/families.safetensors.

Needs torch 2.5.1, transformers 4.57 and numpy:

    scripts/make_golden_families.py

Model weights are not stored: both sides compute them from a hash of their names.
"""

import argparse
import pathlib

from golden import family_cases, store


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="tests/golden")
    args = parser.parse_args()
    golden = store.GoldenFile(
        "transformers' MistralForCausalLM, Qwen2ForCausalLM and LlamaForCausalLM in fp64 (norms and "
        "softmax in fp32)", "scripts/make_golden_families.py")
    family_cases.family_cases(golden)
    golden.save(pathlib.Path(args.output) / "families.safetensors")


if __name__ == "__main__":
    main()
