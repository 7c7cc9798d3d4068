"""Optimizer, schedules, parameter groups and whole training curves."""

import torch
import transformers

from . import batches, hash_weights, model_cases, original, plain_model, specs

BETAS, EPS = (0.9, 0.95), 1e-6
SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
)


def adamw_case(golden):
    """transformers.AdamW in fp32 over 20 steps."""
    case, steps, count = "adamw", 20, 37
    golden.cases[case] = {"steps": steps, "count": count, "weight_decay": 0.1}
    p = torch.nn.Parameter(torch.from_numpy(hash_weights.uniform("adamw start", count)))
    optimizer = transformers.AdamW([p], lr=1e-2, betas=BETAS, eps=EPS, weight_decay=0.1)
    values = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 + step % 3)
        p.grad = torch.from_numpy(hash_weights.uniform(f"adamw gradient {step}", count))
        optimizer.step()
        values.append(p.detach().clone())
    golden.add(case, "values", torch.stack(values))


def schedule_cases(golden):
    """Multipliers of transformers.get_scheduler, 40 steps and three beyond."""
    rate = 1e-3
    for name in SCHEDULES:
        for warmup in (0, 7):
            case = f"schedule_{name}_{warmup}"
            golden.cases[case] = {"schedule": name, "warmup": warmup, "steps": 40, "rate": rate}
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
            schedule = transformers.get_scheduler(name, optimizer, warmup, 40)
            factors = []
            for _ in range(43):
                factors.append(schedule.get_last_lr()[0] / rate)
                optimizer.step()
                schedule.step()
            golden.add(case, "factors", torch.tensor(factors, dtype=torch.float64))


GROUPED = (
    ("groups_baseline", specs.model()),
    ("groups_vit_lora", specs.model("vit", lang_lora=3, vis_lora=2)),
    ("groups_perceiver_lora", specs.model("perceiver", lang_lora=4)),
)


def group_cases(golden, loaded):
    """Names in the four groups of the original's get_optimizer_grouped_parameters."""
    for case, spec in GROUPED:
        model = original.build_model(loaded, spec)
        names = {id(p): n for n, p in model.named_parameters()}
        groups = loaded.utils.get_optimizer_grouped_parameters(model, 0.1, small_lr=1e-5)
        golden.cases[case] = dict(spec, compat=True, groups=[
            sorted(names[id(p)] for p in group["params"]) for group in groups
        ])


CURVE = {
    "steps": 20,
    "accumulation": 2,
    "micro_batches": 6,
    "warmup": 3,
    "schedule": "cosine",
    "learning_rate": 2e-3,
    "learning_rate_pretraining_components": 5e-4,
    "weight_decay": 0.05,
    "max_norm": 1.0,
}
CURVE_SAMPLES = (
    ["t3 i t2 a4", "t1 i a3"],
    ["t2 i a6"],
    ["t2 i t2 i a3", "t4 i a7"],
    ["i t3 a5", "t3 i a2"],
    ["t5 i t1 a9", "t2 i t2 a2"],
    ["t6 i a3"],
)


def curve_data(golden, case, spec, samples_of_batches):
    """The micro-batches that all curves of the case cycle through."""
    data = []
    for n, samples in enumerate(samples_of_batches):
        name = f"{case}_batch_{n}"
        batch = batches.make(name, spec, samples)
        batches.add(golden, name, batch)
        data.append((batch, batches.pixels(name, spec, batch)))
    return data


def walk(curve, data, groups, forward, scaler=None, after_step=lambda: None):
    """Losses and gradient norms of the curve's steps. forward(window, scale) -> the loss, after the
    backward of loss * scale; a scaler says what scale is and which steps are skipped."""
    rate, small_rate = curve["learning_rate"], curve["learning_rate_pretraining_components"]
    groups = [dict(g, lr=small_rate if i >= 2 else rate) for i, g in enumerate(groups)]
    groups = [g for g in groups if g["params"]]
    optimizer = transformers.AdamW(groups, lr=rate, betas=BETAS, eps=EPS)
    schedule = transformers.get_scheduler(
        curve["schedule"], optimizer, curve["warmup"], curve["steps"]
    )
    params = [p for g in groups for p in g["params"]]
    losses, norms = [], []
    for step in range(curve["steps"]):
        k = curve["accumulation"]
        window = [data[(step * k + i) % len(data)] for i in range(k)]
        scale = scaler.scale if scaler else 1.0
        losses.append(forward(window, scale))
        norm = torch.sqrt(sum(p.grad.double().pow(2).sum() for p in params)) / scale
        norms.append(float(norm))
        if scaler is None or scaler.accepts(float(norm)):
            clip = max(1.0, float((norm + 1e-6) / curve["max_norm"]))
            for p in params:
                p.grad /= clip * scale
            optimizer.step()
            schedule.step()
            after_step()
        optimizer.zero_grad()
    return losses, norms


def add_curve(golden, case, losses, norms, suffix=""):
    print(f"{case}{suffix}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    golden.add(case, "losses" + suffix, torch.tensor(losses, dtype=torch.float64))
    golden.add(case, "norms" + suffix, torch.tensor(norms, dtype=torch.float64))


def compat_model(curve, loaded, spec, dtype=torch.float32):
    """Parameter groups of the original's model and its forward: the mean of micro-batch means."""
    model = original.build_model(loaded, spec)
    model_cases.set_weights(model, "")
    model.to(dtype)
    groups = loaded.utils.get_optimizer_grouped_parameters(
        model, curve["weight_decay"], small_lr=curve["learning_rate_pretraining_components"]
    )

    def forward(window, scale):
        total = 0.0
        for batch, pixels in window:
            loss = original.run(model, batch, pixels.to(dtype)) / len(window)
            (loss * scale).backward()
            total += float(loss)
        return total

    return groups, forward


def compat_curve(golden, loaded):
    """The original's model and groups in fp32."""
    case, spec = "curve_compat", specs.model("perceiver", True, lang_lora=4, compat=True)
    golden.cases[case] = dict(spec, **CURVE)
    groups, forward = compat_model(CURVE, loaded, spec)
    data = curve_data(golden, case, spec, CURVE_SAMPLES)
    add_curve(golden, case, *walk(CURVE, data, groups, forward))


def correct_groups(curve, params, unfreeze=()):
    """The four groups of `correct`, where normalisation weights do not decay. Trained is what is so
    by default, and what the prefixes name."""
    groups = [{"params": [], "weight_decay": w} for w in (curve["weight_decay"], 0.0) * 2]
    for name, p in params.items():
        trained = model_cases.trained_in_correct("curve", None, name) or name.startswith(unfreeze)
        p.requires_grad_(trained)
        if not p.requires_grad:
            continue
        is_norm = p.dim() == 1 and name.endswith(".weight")
        groups[("bias" in name or is_norm) + 2 * ("embed" in name)]["params"].append(p)
    return groups


def correct_forward(params, spec):
    """The mean over the labelled tokens of the window."""
    dtype = next(iter(params.values())).dtype

    def forward(window, scale):
        labelled = sum(plain_model.num_labelled(batch) for batch, _ in window)
        total = 0.0
        for batch, pixels in window:
            loss = plain_model.loss_sum(params, spec, batch, pixels.to(dtype))[0] / labelled
            (loss * scale).backward()
            total += float(loss)
        return total

    return forward


def correct_curve(golden):
    """The plain fp64 model."""
    case, spec = "curve_correct", specs.model("perceiver", True, lang_lora=4)
    golden.cases[case] = dict(spec, **CURVE)
    params = model_cases.plain_parameters(spec)
    groups, forward = correct_groups(CURVE, params), correct_forward(params, spec)
    data = curve_data(golden, case, spec, CURVE_SAMPLES)
    add_curve(golden, case, *walk(CURVE, data, groups, forward))


def all_cases(golden, loaded):
    adamw_case(golden)
    schedule_cases(golden)
    group_cases(golden, loaded)
    compat_curve(golden, loaded)
    correct_curve(golden)
