"""Forward and backward of models and their parts."""

import types

import torch
import transformers

from . import batches, casts, hash_weights, original, plain_model, specs


def set_weights(module, prefix):
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.from_numpy(hash_weights.weight(prefix + name, tuple(p.shape))))


def weighted_sum(case, output):
    """A scalar of the output whose gradient is a hashed tensor G."""
    g = hash_weights.uniform(f"{case} G", output.numel())
    return (output.flatten() * torch.from_numpy(g).to(output.dtype)).sum()


def add_gradients(golden, case, gradients):
    """gradients: name -> tensor. Rows of (n,13) in the order of the names."""
    names = sorted(gradients)
    rows = [hash_weights.digest(n, gradients[n].detach().double().numpy()) for n in names]
    golden.cases[case]["gradients"] = names
    golden.add(case, "gradients", torch.tensor(rows, dtype=torch.float64))


def gradients_of(module, prefix):
    return {prefix + n: p.grad for n, p in module.named_parameters() if p.grad is not None}


def encoder_cases(golden, config_class, model_class, cases):
    """A vision model of Transformers in fp64. cases: name, changes of the shape, pixels, layer."""
    for case, changes, size, layer in cases:
        spec = specs.model(vision_changes=changes, image_size=size, vision_feature_layer=layer)
        golden.cases[case] = spec
        config = config_class(**{k: v for k, v in spec["vision"].items() if k != "family"})
        config._attn_implementation = "eager"
        model = model_class(config)
        set_weights(model, "vis_encoder.")
        model.double().eval()
        pixels = batches.pixels(case, spec, {"images": [2]}).double()
        output = model(pixels, output_hidden_states=True,
                       interpolate_pos_encoding=size != spec["vision"]["image_size"])
        features = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        weighted_sum(case, features).backward()
        golden.add(case, "features", features)
        add_gradients(golden, case, gradients_of(model, "vis_encoder."))


def clip_cases(golden):
    encoder_cases(golden, transformers.CLIPVisionConfig, transformers.CLIPVisionModel, (
        ("clip_quick_gelu", {}, 12, -1),
        ("clip_gelu", {"hidden_act": "gelu", "layer_norm_eps": 1e-6}, 12, -1),
        ("clip_resized", {}, 20, -1),
        ("clip_smaller", {}, 8, -1),
        ("clip_layer_before_last", {}, 12, -2),
    ))


def siglip_cases(golden):
    """The largest ones' heads are 72 wide, and their images no multiple of the patch."""
    margin = dict(specs.SIGLIP, image_size=15)
    wide = dict(specs.SIGLIP, hidden_size=144)
    encoder_cases(golden, transformers.SiglipVisionConfig, transformers.SiglipVisionModel, (
        ("siglip", specs.SIGLIP, 12, -1),
        ("siglip_margin", margin, 15, -1),
        ("siglip_resized", margin, 22, -1),
        ("siglip_smaller", specs.SIGLIP, 8, -1),
        ("siglip_layer_before_last", specs.SIGLIP, 12, -2),
        ("siglip_wide_heads", wide, 12, -1),
    ))


def qwen_vl_cases(golden, loaded):
    """The original's copy of Qwen-VL's vision encoder in fp64. Its 256 positions and queries are
    fewer here. The real one's heads are 104 wide."""
    for case, changes, size in (
        ("qwen_vl", {}, 12),
        ("qwen_vl_resized", {"pool_width": 256, "pool_queries": 4}, 20),
        ("qwen_vl_wide_heads", {"hidden_size": 208}, 12),
    ):
        spec = specs.model(vision_changes=dict(specs.QWEN_VL, **changes), image_size=size)
        golden.cases[case] = spec
        vision = spec["vision"]
        model = loaded.qwen.VisionTransformer(
            image_size=size, patch_size=vision["patch_size"], width=vision["hidden_size"],
            layers=vision["num_hidden_layers"], heads=vision["num_attention_heads"],
            mlp_size=vision["intermediate_size"], output_dim=vision["pool_width"],
            n_queries=vision["pool_queries"])
        positions = (vision["image_size"] // vision["patch_size"]) ** 2
        model.positional_embedding = torch.nn.Parameter(
            torch.zeros(positions, vision["hidden_size"]))
        set_weights(model, "vis_encoder.")
        model.double().eval()
        features = model(batches.pixels(case, spec, {"images": [2]}).double())
        weighted_sum(case, features).backward()
        golden.add(case, "features", features)
        add_gradients(golden, case, gradients_of(model, "vis_encoder."))


def projection_cases(golden, loaded):
    """The original's projections in fp64, with the gradient of the features too."""
    for case, kind, width, size in (
        ("projection_baseline", "baseline", 32, 12),
        ("projection_vit", "vit", 32, 12),
        ("projection_perceiver", "perceiver", 128, 12),
        ("projection_perceiver_two_heads", "perceiver", 256, 12),
        ("projection_perceiver_larger_grid", "perceiver", 128, 80),
    ):
        spec = specs.model(kind, lm_changes={"hidden_size": width}, image_size=size)
        golden.cases[case] = spec
        config = transformers.CLIPVisionConfig(**spec["vision"])
        config._attn_implementation = "eager"
        owner = types.SimpleNamespace(args=types.SimpleNamespace(vis_proj=kind))
        projection = loaded.dsvl.DeepSpeedViLModel.build_projection(owner, config, width)
        if kind == "perceiver" and width == 128:
            golden.add(case, "initial_pos_embed", projection.pos_embed)
        projection.requires_grad_(True)
        set_weights(projection, "projection.")
        projection.double().eval()
        tokens = 1 + (size // 4) ** 2
        shape = (2, tokens, spec["vision"]["hidden_size"])
        values = hash_weights.uniform(f"{case} features", 2 * tokens * shape[2])
        features = torch.from_numpy(values).reshape(shape).double().requires_grad_()
        output = projection(features)
        weighted_sum(case, output).backward()
        if output.numel() < 4000:
            golden.add(case, "tokens", output)
        else:
            digest = hash_weights.digest("tokens", output.detach().numpy())
            golden.add(case, "tokens_digest", torch.tensor(digest))
        gradients = gradients_of(projection, "projection.") | {"features": features.grad}
        add_gradients(golden, case, gradients)


def text_loss(model, embed, batch):
    """The sum of a causal language model's loss over a batch of text, and each sample's logits."""
    total, logits = 0.0, []
    for ids, labels in zip(batch["token_ids"], batch["labels"]):
        out = model(inputs_embeds=embed(torch.tensor([ids])), use_cache=False).logits[0]
        wanted = torch.tensor(labels)[1:]
        total = total + torch.nn.functional.cross_entropy(out[:-1], wanted, reduction="sum")
        logits.append(out)
    return total, logits


def llama_cases(golden):
    """Transformers' LlamaForCausalLM on lang_embed's rows; sum of the loss; every gradient."""
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    for case, changes in (
        ("llama", {}),
        ("llama_gqa", {"num_key_value_heads": 2, "rope_theta": 500000.0}),
        ("llama_one_kv_head", {"num_key_value_heads": 1, "rms_norm_eps": 1e-5}),
        ("llama_linear", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        ("llama_dynamic", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
                           "max_position_embeddings": 16}),
        ("llama_llama3", {"rope_scaling": llama3, "rope_theta": 500000.0}),
        ("llama_tied", {"tie_word_embeddings": True}),
    ):
        spec = specs.model(lm_changes=changes)
        golden.cases[case] = spec
        batch = batches.make(case, spec, ["t4 a19", "t1 a3 t5 a2"])
        batches.add(golden, case, batch)
        config = transformers.LlamaConfig(**spec["lm"], attn_implementation="eager")
        llama = transformers.LlamaForCausalLM(config)
        set_weights(llama, "lang_decoder.")
        embed = torch.nn.Embedding(spec["lm"]["vocab_size"], spec["lm"]["hidden_size"])
        set_weights(embed, "lang_embed.")
        llama.double().eval()
        embed.double()
        total, logits = text_loss(llama, embed, batch)
        total.backward()
        golden.add(case, "loss_sum", total.reshape(1))
        golden.add(case, "logits", torch.cat(logits))
        gradients = gradients_of(llama, "lang_decoder.") | gradients_of(embed, "lang_embed.")
        add_gradients(golden, case, gradients)


COMPAT = (
    ("compat_causal", specs.model(), ["t3 i t4 a5", "t2 i t1 i a6 t2 i t2 a3"]),
    ("compat_mmca", specs.model(mmca=True), ["t3 i t4 a5", "i t5 a4", "t2 i t1 i a6 t2 i t2 a3"]),
    ("compat_vit_lora", specs.model("vit", True, lang_lora=3, vis_lora=2),
     ["t3 i a4", "i i t2 a5"]),
    ("compat_perceiver_lora",
     specs.model("perceiver", True, lm_changes={"num_key_value_heads": 2}, lang_lora=4),
     ["t3 i t2 a4", "t1 i a3"]),
    ("compat_everything", specs.model("vit", True, lm_changes={"num_key_value_heads": 2}),
     ["t3 i t4 a5", "i t5 a4", "t2 i t1 i a6 t2 i t2 a3"]),
    ("compat_text_only", specs.model(mmca=True), ["t4 a5", "t1 a7 t3 a2"]),
)


def compat_cases(golden, loaded):
    """Loss (mean of the micro-batch) and gradients of the original's DeepSpeedViLModel in fp32."""
    for case, spec, samples in COMPAT:
        golden.cases[case] = dict(spec, compat=True)
        batch = batches.make(case, spec, samples)
        batches.add(golden, case, batch)
        model = original.build_model(loaded, spec)
        set_weights(model, "")
        if case in ("compat_everything", "compat_text_only"):
            model.requires_grad_(True)
        if any(batch["images"]):
            loss = original.run(model, batch, batches.pixels(case, spec, batch))
        else:
            loss = original.run_text(model, batch)
        loss.backward()
        golden.add(case, "loss_mean", loss.reshape(1))
        add_gradients(golden, case, gradients_of(model, ""))


GQA_TIED = {"num_key_value_heads": 2, "tie_word_embeddings": True}
CORRECT = (
    ("correct_causal", specs.model(), ["t3 i t4 a5", "t2 i t1 i a6 t2 i t2 a3", "t4 a7"]),
    ("correct_mmca", specs.model(mmca=True),
     ["t3 i t4 a5", "i t5 a4", "t5 a6", "t2 i t1 i a6 t2 i t2 a3"]),
    ("correct_vit_lora", specs.model("vit", True, lang_lora=3, vis_lora=2),
     ["t3 i a4", "i i t2 a5", "t3 a3"]),
    ("correct_perceiver_lora",
     specs.model("perceiver", True, lm_changes={"num_key_value_heads": 2}, lang_lora=4),
     ["t3 i t2 a4", "t1 i a3"]),
    ("correct_everything",
     specs.model(mmca=True, lm_changes=GQA_TIED, image_size=20, vision_feature_layer=-2,
                 drop_class_token=True), ["t3 i a4", "i i t2 a5", "t3 a3"]),
)


def trained_in_correct(case, spec, name):
    """Who is trained by default (docs/computes.md, "The model"), or everything that the loss depends on."""
    if name == "projection.pos_embed":
        return False
    if case == "correct_everything":
        unused = ("post_layernorm", f"encoder.layers.{spec['vision']['num_hidden_layers'] - 1}.")
        return not any(part in name for part in unused)
    return name.startswith(("projection.", "lang_embed.")) or "lora_" in name


def plain_parameters(spec, dtype=torch.float64, stored_as=None):
    masters = {
        name: torch.from_numpy(hash_weights.weight(name, shape)).to(dtype)
        for name, shape in plain_model.parameter_shapes(spec).items()
    }
    return casts.Parameters(masters, stored_as)


def correct_cases(golden):
    """Sum of the loss, logits and gradients of the plain fp64 model."""
    for case, spec, samples in CORRECT:
        golden.cases[case] = dict(spec)
        batch = batches.make(case, spec, samples)
        batches.add(golden, case, batch)
        params = plain_parameters(spec)
        for name, p in params.items():
            p.requires_grad_(trained_in_correct(case, spec, name))
        pixels = batches.pixels(case, spec, batch).double()
        total, _, logits = plain_model.loss_sum(params, spec, batch, pixels)
        total.backward()
        golden.add(case, "loss_sum", total.reshape(1))
        logits = torch.cat(logits)
        if spec["projection"] != "perceiver":
            golden.add(case, "logits", logits)
        add_gradients(golden, case, {n: p.grad for n, p in params.items() if p.requires_grad})
