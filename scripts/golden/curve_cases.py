"""Training curves in fp64 of models small enough for the emulated GPU."""

import contextlib
import unittest.mock

import numpy as np
import torch

from . import model_cases, precision_cases, specs, training_cases

CURVE = precision_cases.CURVE | {"steps": 10, "warmup": 2}
# One of the decoder's head widths is supported by the tensor-core kernels.
WIDE = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1}


def add_exact(golden, case, losses, norms):
    """As two fp32 numbers, the second one the remainder of the first."""
    training_cases.add_curve(golden, case, losses, norms, "_fp64")
    for name, values in (("losses", losses), ("norms", norms)):
        rest = [value - float(np.float32(value)) for value in values]
        golden.add(case, f"{name}_fp64_rest", np.array(rest))


def correct_curve(golden, case, spec):
    """The plain fp64 model; trains what is trained by default and what spec["unfreeze"] names."""
    golden.cases[case] = dict(spec, **CURVE)
    params = model_cases.plain_parameters(spec)
    groups = training_cases.correct_groups(CURVE, params, tuple(spec.get("unfreeze", ())))
    forward = training_cases.correct_forward(params, spec)
    data = training_cases.curve_data(golden, case, spec, precision_cases.SAMPLES)
    add_exact(golden, case, *training_cases.walk(CURVE, data, groups, forward))


@contextlib.contextmanager
def fp64_instead():
    """The original asks for fp32 in its norms, softmax and rotary tables whatever its type."""
    with unittest.mock.patch.object(torch, "float32", torch.float64), \
            unittest.mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float)


# The original's splicing drops samples without images.
WITH_IMAGES = precision_cases.SAMPLES[:-1] + (["t6 i a13"],)


def compat_curve(golden, loaded, case, spec):
    """The original's model and groups in fp64; the mean of micro-batch means."""
    golden.cases[case] = dict(spec, **CURVE)
    data = training_cases.curve_data(golden, case, spec, WITH_IMAGES)
    with fp64_instead():
        groups, forward = training_cases.compat_model(CURVE, loaded, spec, torch.float64)
        add_exact(golden, case, *training_cases.walk(CURVE, data, groups, forward))


def curves(golden, loaded):
    lora = {"lang_lora": 4, "vis_lora": 2}
    decoder = [f"lang_decoder.{part}." for part in ("model.layers", "model.norm", "lm_head")]
    correct_curve(golden, "curve_causal", specs.model(lm_changes=WIDE, unfreeze=decoder))
    correct_curve(golden, "curve_mmca", specs.model("vit", True, lm_changes=WIDE))
    correct_curve(golden, "curve_mmca_lora", specs.model("vit", True, lm_changes=WIDE, **lora))
    compat_curve(golden, loaded, "curve_mmca_compat",
                 specs.model("vit", True, lm_changes=WIDE, compat=True, **lora))
