#!/usr/bin/env python3
"""Makes tests/golden/llava.safetensors and, of images that become squares, tests/golden/data/llava_images.json.

Needs torch 2.5.1, transformers 4.57, Pillow 10.4 and numpy:

    scripts/make_golden_llava.py

Model weights are not stored: both sides compute them from a hash of their names.
"""

import argparse
import pathlib

from golden import llava_cases, store


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="tests/golden")
    args = parser.parse_args()
    golden = store.GoldenFile("transformers' LlavaForConditionalGeneration in fp64 (norms and softmax in fp32)",
                              "scripts/make_golden_llava.py")
    llava_cases.llava_cases(golden)
    golden.save(pathlib.Path(args.output) / "llava.safetensors")
    llava_cases.image_cases(pathlib.Path(args.output) / "data")


if __name__ == "__main__":
    main()
