"""The `correct` model as plainly as possible: fp64, dense masks, gradients by autograd.

Parameters are one flat dictionary by name, the program's names (casts.Parameters). Its
`stored` stands wherever an operator of the program writes a result: nothing happens there in fp64,
a rounding in the 16-bit curves.
"""

import math

import torch
import torch.nn.functional as F


def linear(p, name, x, residual=0.0):
    y = residual + x @ p[name + ".weight"].T
    if name + ".bias" in p:
        y = y + p[name + ".bias"]
    if name + ".lora_right_weight" in p:
        right, left = p[name + ".lora_right_weight"], p[name + ".lora_left_weight"]
        y = p.stored(y) + p.stored(x @ right) @ left / right.shape[1]
    return p.stored(y)


def layer_norm(p, name, x, eps):
    return p.stored(F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], eps))


def rms_norm(p, name, x, eps):
    return p.stored(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * p[name + ".weight"])


def heads(x, count):  # (..., T, H*E) -> (..., H, T, E)
    return x.unflatten(-1, (count, -1)).transpose(-3, -2)


def unheads(x):
    return x.transpose(-3, -2).flatten(-2)


def attend(q, k, v):
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def resize(grid_rows, size):
    """(g*g, C) -> (size*size, C)."""
    g = math.isqrt(len(grid_rows))
    if g == size:
        return grid_rows
    planes = grid_rows.T.reshape(1, -1, g, g)
    return F.interpolate(planes, (size, size), mode="bicubic", align_corners=False)[0].flatten(1).T


def vision_block(p, name, vision, x):
    eps, count = vision["layer_norm_eps"], vision["num_attention_heads"]
    h = layer_norm(p, name + "layer_norm1", x, eps)
    q, k, v = (heads(linear(p, f"{name}self_attn.{part}_proj", h), count) for part in "qkv")
    x = linear(p, name + "self_attn.out_proj", p.stored(unheads(attend(q, k, v))), x)
    h = linear(p, name + "mlp.fc1", layer_norm(p, name + "layer_norm2", x, eps))
    h = h * torch.sigmoid(1.702 * h) if vision["hidden_act"] == "quick_gelu" else F.gelu(h)
    return linear(p, name + "mlp.fc2", p.stored(h), x)


def vision_features(p, spec, pixels):
    vision, root = spec["vision"], "vis_encoder.vision_model."
    patch = p[root + "embeddings.patch_embedding.weight"]
    rows = p.stored(F.conv2d(p.stored(pixels), patch, stride=vision["patch_size"]).flatten(2).mT)
    positions = p[root + "embeddings.position_embedding.weight"]
    grid = pixels.shape[-1] // vision["patch_size"]
    rows = rows + p.stored(resize(positions[1:], grid))
    first = (p[root + "embeddings.class_embedding"] + positions[0]).expand(len(pixels), 1, -1)
    x = p.stored(torch.cat([first, rows], 1))
    x = layer_norm(p, root + "pre_layrnorm", x, vision["layer_norm_eps"])
    for n in range(vision["num_hidden_layers"] + 1 + spec.get("vision_feature_layer", -1)):
        x = vision_block(p, f"{root}encoder.layers.{n}.", vision, x)
    drop = spec.get("drop_class_token", False) or spec["projection"] == "perceiver"
    return x[:, 1:] if drop else x


def project(p, spec, x):
    if spec["projection"] == "perceiver":
        position = p["projection.pos_embed"]
        q = layer_norm(p, "projection.ln_q", p.stored(p["projection.query"]), 1e-12)
        q = p.stored(q + position)
        v = layer_norm(p, "projection.ln_kv", linear(p, "projection.kv_proj", x), 1e-12)
        k = p.stored(v + p.stored(resize(position, math.isqrt(x.shape[1]))))
        weights = p["projection.attn.in_proj_weight"].chunk(3)
        biases = p["projection.attn.in_proj_bias"].chunk(3)
        q, k, v = (p.stored(t @ w.T + b) for t, w, b in zip((q, k, v), weights, biases))
        q = p.stored(q.expand(len(x), -1, -1))
        q, k, v = (heads(t, len(position[0]) // 128) for t in (q, k, v))
        x = linear(p, "projection.attn.out_proj", p.stored(unheads(attend(q, k, v))))
        x = layer_norm(p, "projection.projection.0", x, 1e-12)
        return linear(p, "projection.projection.1", x)
    head = "projection."
    if spec["projection"] == "vit":
        x = vision_block(p, "projection.vis_layer.", spec["vision"], x)
        head = "projection.projection."
    return layer_norm(p, head + "1", linear(p, head + "0", x), 1e-12)


def rope_frequencies(lm, length):
    half = lm["hidden_size"] // lm["num_attention_heads"] // 2
    scaling = lm.get("rope_scaling") or {"rope_type": "none"}
    base, kind = lm["rope_theta"], scaling["rope_type"]
    if kind == "dynamic":
        limit, factor = lm["max_position_embeddings"], scaling["factor"]
        stretch = factor * max(length, limit) / limit - (factor - 1)
        base = base * stretch ** (half / (half - 1))
    f = base ** (-torch.arange(half, dtype=torch.float64) / half)
    if kind == "linear":
        f = f / scaling["factor"]
    if kind == "llama3":
        old, factor = scaling["original_max_position_embeddings"], scaling["factor"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        turns = old * f / (2 * math.pi)
        smooth = ((turns - low) / (high - low)).clamp(0, 1)
        f = smooth * f + (1 - smooth) * f / factor
    return f


def rotate(x, frequencies):
    angle = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * frequencies
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def masked_softmax(scores, visible):
    """Zero rows where nothing is visible."""
    scores = scores.masked_fill(~visible, -math.inf)
    top = scores.amax(-1, keepdim=True).clamp(min=-1e30)
    weights = torch.exp(scores - top.detach())
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-37)


def decoder_attention(q, k, v, is_image, mmca):
    n = len(is_image)
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if not mmca:
        return masked_softmax(scores, causal) @ v
    text_row, image_key = ~is_image[:, None], is_image[None, :]
    both = masked_softmax(scores, causal & text_row & image_key)
    both = both + masked_softmax(scores, causal & text_row & ~image_key)
    return both @ v + torch.where(is_image[:, None], v, torch.zeros_like(v))


def decoder(p, spec, x, is_image):
    """Logits (L,V) of one sample's embeddings (L,D)."""
    lm, root = spec["lm"], "lang_decoder.model."
    eps, frequencies = lm["rms_norm_eps"], rope_frequencies(lm, len(x))
    groups = lm["num_attention_heads"] // lm["num_key_value_heads"]
    for n in range(lm["num_hidden_layers"]):
        name = f"{root}layers.{n}."
        h = rms_norm(p, name + "input_layernorm", x, eps)
        q = heads(linear(p, name + "self_attn.q_proj", h), lm["num_attention_heads"])
        k = heads(linear(p, name + "self_attn.k_proj", h), lm["num_key_value_heads"])
        v = heads(linear(p, name + "self_attn.v_proj", h), lm["num_key_value_heads"])
        q, k = (p.stored(rotate(t, frequencies)) for t in (q, k))
        k, v = (t.repeat_interleave(groups, 0) for t in (k, v))
        out = p.stored(unheads(decoder_attention(q, k, v, is_image, spec["mmca"])))
        x = linear(p, name + "self_attn.o_proj", out, x)
        h = rms_norm(p, name + "post_attention_layernorm", x, eps)
        gate, up = linear(p, name + "mlp.gate_proj", h), linear(p, name + "mlp.up_proj", h)
        x = linear(p, name + "mlp.down_proj", p.stored(F.silu(gate) * up), x)
    x = rms_norm(p, root + "norm", x, eps)
    tied = lm.get("tie_word_embeddings", False)
    head = p[root + "embed_tokens.weight" if tied else "lang_decoder.lm_head.weight"]
    return p.stored(x @ head.T)


def splice(p, spec, token_ids, labels, images):
    """Embeddings, image marks and labels of one sample; the images in the order of their places."""
    pieces, marks, wanted, images = [], [], [], iter(images)
    for token, label in zip(token_ids, labels):
        image = token == spec["image_token_id"]
        piece = next(images) if image else p["lang_embed.weight"][token][None]
        pieces.append(piece)
        marks += [image] * len(piece)
        wanted += [-100] * len(piece) if image else [label]
    return torch.cat(pieces), torch.tensor(marks), torch.tensor(wanted)


def loss_sum(p, spec, batch, pixels):
    """(sum of the cross-entropy over labelled positions, their number, logits of each sample)."""
    tokens = None if len(pixels) == 0 else project(p, spec, vision_features(p, spec, pixels))
    total, count, all_logits, first = 0.0, 0, [], 0
    for ids, labels, images in zip(batch["token_ids"], batch["labels"], batch["images"]):
        own = [] if tokens is None else tokens[first : first + images]
        first += images
        x, marks, wanted = splice(p, spec, ids, labels, own)
        logits = decoder(p, spec, p.stored(x), marks)
        all_logits.append(logits)
        kept = wanted[1:] != -100
        total = total + F.cross_entropy(logits[:-1][kept], wanted[1:][kept], reduction="sum")
        count += int(kept.sum())
    return total, count, all_logits


def num_labelled(batch):
    """A sample's first token has no predecessor and never counts."""
    return sum(label != -100 for labels in batch["labels"] for label in labels[1:])


def parameter_shapes(spec):
    """Every parameter of the composed model by name."""
    vision, lm = spec["vision"], spec["lm"]
    c, f = vision["hidden_size"], vision["intermediate_size"]
    d, m, v = lm["hidden_size"], lm["intermediate_size"], lm["vocab_size"]
    grid = vision["image_size"] // vision["patch_size"]
    root = "vis_encoder.vision_model."
    shapes = {
        root + "embeddings.class_embedding": (c,),
        root + "embeddings.patch_embedding.weight": (c, 3) + (vision["patch_size"],) * 2,
        root + "embeddings.position_embedding.weight": (1 + grid * grid, c),
        "lang_embed.weight": (v, d),
        "lang_decoder.model.embed_tokens.weight": (v, d),
        "lang_decoder.model.norm.weight": (d,),
    }

    def add_linear(name, outputs, inputs, bias=True, rank=0):
        shapes[name + ".weight"] = (outputs, inputs)
        if bias:
            shapes[name + ".bias"] = (outputs,)
        if rank:
            shapes[name + ".lora_right_weight"] = (inputs, rank)
            shapes[name + ".lora_left_weight"] = (rank, outputs)

    def add_norm(name, width):
        shapes[name + ".weight"] = shapes[name + ".bias"] = (width,)

    def add_block(name, rank):
        add_norm(name + "layer_norm1", c)
        add_norm(name + "layer_norm2", c)
        for part in ("q", "k", "v", "out"):
            add_linear(f"{name}self_attn.{part}_proj", c, c, rank=rank)
        add_linear(name + "mlp.fc1", f, c, rank=rank)
        add_linear(name + "mlp.fc2", c, f, rank=rank)

    add_norm(root + "pre_layrnorm", c)
    add_norm(root + "post_layernorm", c)
    for n in range(vision["num_hidden_layers"]):
        add_block(f"{root}encoder.layers.{n}.", spec.get("vis_lora", 0))
    if spec["projection"] == "perceiver":
        shapes["projection.query"] = shapes["projection.pos_embed"] = (256, d)
        shapes["projection.attn.in_proj_weight"] = (3 * d, d)
        shapes["projection.attn.in_proj_bias"] = (3 * d,)
        add_linear("projection.kv_proj", d, c)
        add_linear("projection.attn.out_proj", d, d)
        for name in ("ln_q", "ln_kv", "projection.0"):
            add_norm("projection." + name, d)
        add_linear("projection.projection.1", d, d)
    else:
        head = "projection.projection." if spec["projection"] == "vit" else "projection."
        if spec["projection"] == "vit":
            add_block("projection.vis_layer.", 0)
        add_linear(head + "0", d, c)
        add_norm(head + "1", d)
    kv = d * lm["num_key_value_heads"] // lm["num_attention_heads"]
    for n in range(lm["num_hidden_layers"]):
        name, rank = f"lang_decoder.model.layers.{n}.", spec.get("lang_lora", 0)
        shapes[name + "input_layernorm.weight"] = (d,)
        shapes[name + "post_attention_layernorm.weight"] = (d,)
        for part, outputs in (("q", d), ("k", kv), ("v", kv), ("o", d)):
            add_linear(f"{name}self_attn.{part}_proj", outputs, d, False, rank)
        for part, outputs, inputs in (("gate", m, d), ("up", m, d), ("down", d, m)):
            add_linear(f"{name}mlp.{part}_proj", outputs, inputs, False, rank)
    if not lm.get("tie_word_embeddings", False):
        shapes["lang_decoder.lm_head.weight"] = (v, d)
    return shapes
