#!/usr/bin/env python3
"""The decoder of tests/bench/gpu/reference.h in PyTorch on a GPU, to compare gpu_bench with: bf16, LoRA on frozen weights, labelled rows only
in the head, torch.compile. Causal attention is scaled_dot_product_attention, MMCA is FlexAttention twice, over image and over text keys.

It times models of 2 and 4 layers and extrapolates to 32: a layer takes half of the difference. CLIP and the projection are not in it.

usage: bench_torch_gpu.py; prints "torch_causal_ms VALUE" and "torch_mmca_ms VALUE" (a step, 32 layers), and the tokens a second.
Where PyTorch or a GPU is missing it says so and ends with 0.
"""
import math
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as error:
    print(f"no comparison with PyTorch: {error}")
    sys.exit(0)
if not torch.cuda.is_available():
    print("no comparison with PyTorch: it sees no GPU")
    sys.exit(0)

WIDTH, HEADS, FEED_FORWARD, VOCABULARY, RANK, LAYERS = 4096, 32, 11008, 32002, 16, 32
SAMPLES, LENGTH, IMAGE_TOKENS, LABELLED = 2, 4096, 256, 0.3
WARM_UP, STEPS, SECONDS = 3, 8, 12


class LoraLinear(nn.Module):
    """y = x W' + (x R) L / r with W frozen."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.02, requires_grad=False)
        self.right = nn.Parameter(torch.randn(inputs, RANK) * 0.02)
        self.left = nn.Parameter(torch.zeros(RANK, outputs))

    def forward(self, x):
        return F.linear(x, self.weight) + (x @ self.right) @ self.left / RANK


def rms_norm(x, weight):
    return weight * (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.Parameter(torch.ones(2, WIDTH), requires_grad=False)
        self.q, self.k, self.v, self.o = (LoraLinear(WIDTH, WIDTH) for _ in range(4))
        self.gate, self.up = (LoraLinear(WIDTH, FEED_FORWARD) for _ in range(2))
        self.down = LoraLinear(FEED_FORWARD, WIDTH)

    def forward(self, x, cos, sin, attend):
        h = rms_norm(x, self.norms[0])
        q, k, v = (f(h).view(SAMPLES, LENGTH, HEADS, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        out = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.o(out.transpose(1, 2).reshape(SAMPLES, LENGTH, WIDTH))
        h = rms_norm(x, self.norms[1])
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(VOCABULARY, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = nn.Parameter(torch.ones(WIDTH), requires_grad=False)
        self.head = nn.Parameter(torch.randn(VOCABULARY, WIDTH) * 0.02, requires_grad=False)

    def forward(self, tokens, images, is_image, cos, sin, attend, labelled, targets):
        x = torch.where(is_image[:, :, None], images, F.embedding(tokens, self.embed))
        for block in self.blocks:
            x = block(x, cos, sin, attend)
        rows = rms_norm(x, self.norm).reshape(-1, WIDTH)[labelled]
        return F.cross_entropy(F.linear(rows, self.head).float(), targets)


def causal(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def mmca(is_image):
    """A text query adds a softmax over the image keys before it to one over the text keys; an image is its own value."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def mask_of(of_images):
        def mask(b, h, i, j):
            seen = (j <= i) & (is_image[b, j] == of_images)
            return torch.where(is_image[b, i], j == i, seen)

        return create_block_mask(mask, SAMPLES, None, LENGTH, LENGTH, device="cuda")

    masks = mask_of(True), mask_of(False)

    def attend(q, k, v):
        both = sum(flex_attention(q, k, v, block_mask=mask) for mask in masks)
        return torch.where(is_image[:, None, :, None], v, both)

    return attend


def step_milliseconds(layers, attend, batch):
    torch.manual_seed(1)
    with torch.device("cuda"):
        model = Decoder(layers).to(torch.bfloat16)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), fused=True)
    compiled = torch.compile(model)
    times = []
    began = time.perf_counter()
    for step in range(-WARM_UP, STEPS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        optimizer.zero_grad()
        compiled(*batch[:5], attend, *batch[5:]).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        torch.cuda.synchronize()
        if step == 0:
            began = begin
        if step >= 0:
            times.append((time.perf_counter() - begin) * 1e3)
        if step > 0 and time.perf_counter() - began > SECONDS:
            break
    return statistics.median(times)


def make_batch():
    generator = torch.Generator(device="cuda").manual_seed(1)
    place = torch.arange(LENGTH, device="cuda")
    is_image = (place // IMAGE_TOKENS % 2 == 0).expand(SAMPLES, LENGTH)
    tokens = torch.randint(0, VOCABULARY, (SAMPLES, LENGTH), device="cuda", generator=generator)
    images = torch.randn(SAMPLES, LENGTH, WIDTH, device="cuda", generator=generator).to(torch.bfloat16)
    angles = torch.outer(place, 10000 ** (-torch.arange(0, WIDTH // HEADS, 2, device="cuda") / (WIDTH // HEADS)))
    angles = angles.repeat(1, 2)
    text = (~is_image).reshape(-1).nonzero()[:, 0]
    labelled = text[-math.floor(LABELLED * len(text)) :]
    targets = torch.randint(0, VOCABULARY, (len(labelled),), device="cuda", generator=generator)
    return tokens, images, is_image, angles.cos().to(torch.bfloat16), angles.sin().to(torch.bfloat16), labelled, targets


def main():
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}; the decoder alone, without CLIP and projection", flush=True)
    batch = make_batch()
    for name in ("causal", "mmca"):
        try:
            attend = causal if name == "causal" else mmca(batch[2])
            two, four = (step_milliseconds(layers, attend, batch) for layers in (2, 4))
        except Exception as error:  # a version that cannot compile it is no error of ours
            print(f"torch_{name}: not measured: {type(error).__name__}: {error}", flush=True)
            continue
        whole = two + (LAYERS - 2) * (four - two) / 2
        print(f"torch_{name}_ms {whole:.1f}")
        print(f"torch_{name}: 2 layers {two:.1f} ms, 4 layers {four:.1f} ms, {LAYERS} layers {SAMPLES * LENGTH / whole * 1e3:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
