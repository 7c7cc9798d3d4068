#!/usr/bin/env python3
"""Makes the golden files of tests/golden.

Needs torch 2.5.1, transformers 4.46, numpy and a checkout of DeepSpeedExamples at the
commit named in golden/store.py:

    scripts/make_golden.py --reference DeepSpeedExamples/applications/DeepSpeed-VisualChat

Model weights and pixels are not stored: both sides compute them from a hash of their names.
"""

import argparse
import pathlib

import torch

from golden import curve_cases, model_cases, original, precision_cases, store, training_cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True, help="applications/DeepSpeed-VisualChat")
    parser.add_argument("--output", default="tests/golden")
    parser.add_argument("--only", nargs="*", default=[], help="files to make; default: all")
    args = parser.parse_args()
    torch.manual_seed(0)
    out = pathlib.Path(args.output)
    loaded = original.load(args.reference)
    the_original = f"DeepSpeed-VisualChat of DeepSpeedExamples at {store.REFERENCE_COMMIT}"

    transformers_llama = "transformers.LlamaForCausalLM in fp64 (norms and softmax in fp32)"
    training = (
        f"transformers.AdamW and get_scheduler; groups and curve_compat by {the_original}; "
        "curve_correct by golden/plain_model.py in fp64"
    )
    files = {
        "clip_vision": ("transformers.CLIPVisionModel in fp64", model_cases.clip_cases),
        "siglip_vision": (
            "transformers.SiglipVisionModel in fp64",
            model_cases.siglip_cases,
        ),
        "qwen_vl_vision": (
            f"VisionTransformer of qwen_clip.py of {the_original}, in fp64",
            lambda golden: model_cases.qwen_vl_cases(golden, loaded),
        ),
        "projection": (
            f"vis_proj.py and build_projection of {the_original}, in fp64",
            lambda golden: model_cases.projection_cases(golden, loaded),
        ),
        "llama": (transformers_llama, model_cases.llama_cases),
        "vlm_compat": (
            f"DeepSpeedViLModel of {the_original}, in fp32",
            lambda golden: model_cases.compat_cases(golden, loaded),
        ),
        "vlm_correct": (
            "golden/plain_model.py, dense masks and autograd in fp64",
            model_cases.correct_cases,
        ),
        "training": (training, lambda golden: training_cases.all_cases(golden, loaded)),
        "precision": (precision_cases.MADE_FROM, precision_cases.curves),
        "curves": (
            "transformers.AdamW; golden/plain_model.py in fp64; curve_mmca_compat by "
            f"{the_original} in fp64",
            lambda golden: curve_cases.curves(golden, loaded),
        ),
    }
    for name, (made_from, add_cases) in files.items():
        if args.only and name not in args.only:
            continue
        golden = store.GoldenFile(made_from)
        add_cases(golden)
        golden.save(out / f"{name}.safetensors")


if __name__ == "__main__":
    main()
