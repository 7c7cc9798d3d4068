#!/usr/bin/env python3
"""The model of tests/bench/step_bench.cpp in eager PyTorch: one full fine-tuning step, fp32, on the CPU.

It does what the DeepSpeed-VisualChat training step does: samples padded to the longest, logits at every position and the
labelled ones picked afterwards, attention with explicit scores and masks (two softmaxes over two masks for MMCA), AdamW.
For plain causal attention it uses PyTorch's own scaled_dot_product_attention where that is there, which is faster.

usage: bench_torch.py [steps] [threads]; prints "torch_causal_ms VALUE" and "torch_mmca_ms VALUE"
"""
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, LAYERS, HEADS, FEED_FORWARD, VOCABULARY = 512, 8, 8, 1408, 8000
VISION, VISION_LAYERS, VISION_HEADS, VISION_FEED_FORWARD, IMAGE, PATCH = 256, 4, 4, 1024, 112, 14
TEXT_LENGTHS = [242, 262, 278, 298]  # image places included, two a sample
IMAGE_PLACES = [30, 40]


class VisionBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(VISION), nn.LayerNorm(VISION)
        self.q, self.k, self.v, self.o = (nn.Linear(VISION, VISION) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(VISION, VISION_FEED_FORWARD), nn.Linear(VISION_FEED_FORWARD, VISION)

    def forward(self, x):
        n, t, _ = x.shape
        h = self.ln1(x)
        q, k, v = (f(h).view(n, t, VISION_HEADS, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, VISION))
        h = self.fc1(self.ln2(x))
        return x + self.fc2(h * torch.sigmoid(1.702 * h))


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class DecoderBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = RmsNorm(), RmsNorm()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(WIDTH, FEED_FORWARD, bias=False) for _ in range(2))
        self.down = nn.Linear(FEED_FORWARD, WIDTH, bias=False)

    def attend(self, q, k, v, masks):
        if masks is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        weights = sum(torch.softmax(scores + mask, dim=-1, dtype=torch.float32) for mask in masks)
        return weights @ v

    def forward(self, x, cos, sin, masks):
        n, t, _ = x.shape
        h = self.n1(x)
        q, k, v = (f(h).view(n, t, HEADS, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        out = self.attend(rotate(q, cos, sin), rotate(k, cos, sin), v, masks)
        x = x + self.o(out.transpose(1, 2).reshape(n, t, WIDTH))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, VISION, PATCH, PATCH, bias=False)
        self.class_token = nn.Parameter(torch.zeros(VISION))
        self.positions = nn.Parameter(torch.zeros(1 + (IMAGE // PATCH) ** 2, VISION))
        self.pre_norm = nn.LayerNorm(VISION)
        self.vision = nn.ModuleList(VisionBlock() for _ in range(VISION_LAYERS))
        self.projection = nn.Sequential(nn.Linear(VISION, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12))
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(DecoderBlock() for _ in range(LAYERS))
        self.norm = RmsNorm()
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, pixels, samples, mmca):
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = torch.cat((self.class_token.expand(len(x), 1, -1), x), dim=1) + self.positions
        x = self.pre_norm(x)
        for block in self.vision:
            x = block(x)
        image = self.projection(x)

        rows, kinds, targets = [], [], []
        for b, (tokens, labels) in enumerate(samples):
            text = self.embed(tokens)
            parts, kind, target, begin = [], [], [], 0
            for i, place in enumerate(IMAGE_PLACES):
                parts += [text[begin:place], image[2 * b + i]]
                kind += [1] * (place - begin) + [2] * image.shape[1]
                target += [labels[begin:place], torch.full((image.shape[1],), -100)]
                begin = place + 1
            parts.append(text[begin:])
            kind += [1] * (len(tokens) - begin)
            target.append(labels[begin:])
            rows.append(torch.cat(parts))
            kinds.append(torch.tensor(kind))
            targets.append(torch.cat(target))
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        kinds = nn.utils.rnn.pad_sequence(kinds, batch_first=True)
        targets = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-100)

        length = x.shape[1]
        frequencies = 10000 ** (-torch.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
        angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
        masks = mmca_masks(kinds) if mmca else None
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin(), masks)
        logits = self.head(self.norm(x))
        logits, targets = logits[:, :-1].reshape(-1, VOCABULARY), targets[:, 1:].reshape(-1)
        picked = targets != -100
        return F.cross_entropy(logits[picked], targets[picked])


def mmca_masks(kinds):
    """Additive masks (B,1,L,L) of the image keys and of the text keys; an image reads itself only."""
    length = kinds.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    text_query = (kinds != 2)[:, :, None]
    low = torch.finfo(torch.float32).min
    masks = []
    for kind in (2, 1):
        seen = causal & (kinds == kind)[:, None, :] & text_query
        if kind == 2:
            seen = seen | (torch.eye(length, dtype=torch.bool) & ~text_query)
        masks.append(torch.where(seen, 0.0, low)[:, None])
    return masks


def measure(model, pixels, samples, mmca, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95))
    times = []
    for step in range(-2, steps):
        begin = time.perf_counter()
        optimizer.zero_grad()
        model(pixels, samples, mmca).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step >= 0:
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    torch.manual_seed(1)
    samples = []
    for length in TEXT_LENGTHS:
        tokens = torch.randint(0, 7000, (length,))
        labels = tokens.clone()
        labels[: length * 7 // 10] = -100
        samples.append((tokens, labels))
    pixels = torch.rand(2 * len(samples), 3, IMAGE, IMAGE) - 0.5
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for mmca in (False, True):
        print(f"torch_{'mmca' if mmca else 'causal'}_ms {measure(Model(), pixels, samples, mmca, steps):.3f}")


if __name__ == "__main__":
    main()
