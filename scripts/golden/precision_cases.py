"""One training curve in fp64 and, with the program's casts, in bf16 and fp16."""

import math

import torch

from . import model_cases, specs, training_cases

MADE_FROM = (
    "golden/plain_model.py with transformers.AdamW: fp64 throughout; bf16 and fp16 in fp32 "
    "arithmetic with every operator's output, every activation's gradient and the parameters as "
    "they are read rounded to 16 bits (golden/casts.py), masters, moments and accumulated "
    "parameter gradients in fp32; fp16 with a loss scale from 65536"
)

# Small rates: without masters most of the steps are lost, and rounding noise is not amplified, so
# that two runs of equal casts differ from fp64 by about the same.
CURVE = training_cases.CURVE | {
    "learning_rate": 2e-4,
    "learning_rate_pretraining_components": 5e-5,
}
SAMPLES = (
    ["t3 i t2 a14", "t1 i a13"],
    ["t2 i a16"],
    ["t2 i t2 i a13", "t4 i a17"],
    ["i t3 a15", "t3 i a12"],
    ["t5 i t1 a19", "t2 i t2 a12"],
    ["t6 i a13", "t5 a20"],
)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class LossScaler:
    """docs/computes.md, "Loss scale"."""

    WINDOW, HYSTERESIS = 100, 2

    def __init__(self):
        self.scale, self.hysteresis, self.good_steps, self.skipped = 65536.0, self.HYSTERESIS, 0, 0

    def accepts(self, norm):
        if math.isfinite(norm):
            self.good_steps += 1
            if self.good_steps == self.WINDOW:
                self.scale *= 2
                self.good_steps, self.hysteresis = 0, self.HYSTERESIS
            return True
        self.skipped += 1
        self.good_steps = 0
        if self.hysteresis > 1:
            self.hysteresis -= 1
        else:
            self.scale = max(1.0, self.scale / 2)
        return False


def run(spec, data, dtype=None, forget_masters=False):
    """Losses and norms; dtype: None is fp64. forget_masters: a step that updates 16-bit values."""
    arithmetic = torch.float64 if dtype is None else torch.float32
    params = model_cases.plain_parameters(spec, arithmetic, dtype)
    groups = training_cases.correct_groups(CURVE, params)
    scaler = LossScaler() if dtype is torch.float16 else None

    def round_masters():
        with torch.no_grad():
            for master in params.values():
                master.copy_(master.to(dtype).to(arithmetic))

    forward = training_cases.correct_forward(params, spec)
    after_step = round_masters if forget_masters else lambda: None
    curve = training_cases.walk(CURVE, data, groups, forward, scaler, after_step)
    assert scaler is None or scaler.skipped == 0, "a skipped step says nothing about rounding"
    return curve


def largest_error(losses, exact):
    return max(abs(a - b) for a, b in zip(losses, exact))


def curves(golden):
    """losses_X and norms_X for X = fp64, bf16, fp16; in the description the largest error over the
    steps, and what it would be if steps were taken on the 16-bit values."""
    case, spec = "curve_precision", specs.model("perceiver", True, lang_lora=4)
    data = training_cases.curve_data(golden, case, spec, SAMPLES)
    exact, norms = run(spec, data)
    training_cases.add_curve(golden, case, exact, norms, "_fp64")
    errors = {}
    for name, dtype in DTYPES.items():
        losses, norms = run(spec, data, dtype)
        training_cases.add_curve(golden, case, losses, norms, "_" + name)
        errors[name] = largest_error(losses, exact)
        without, _ = run(spec, data, dtype, forget_masters=True)
        errors[name + "_without_masters"] = largest_error(without, exact)
    print(errors)
    golden.cases[case] = dict(spec, **CURVE, largest_error=errors)
