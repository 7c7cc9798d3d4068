"""Micro-batches of the golden cases: hashed token ids, pixels and labels."""

import torch

from . import hash_weights


def make(case, spec, samples):
    """samples: lists of segments, "t5" (five text tokens), "a3" (three labelled ones), "i"."""
    vocab, batch = spec["lm"]["vocab_size"], {"token_ids": [], "labels": [], "images": []}
    for number, segments in enumerate(samples):
        ids, labels = [], []
        for segment in segments.split():
            if segment == "i":
                ids.append(spec["image_token_id"])
                labels.append(-100)
                continue
            for _ in range(int(segment[1:])):
                h = int(hash_weights.hashes(f"{case} token {number}", len(ids) + 1)[-1])
                ids.append(3 + h % (vocab - 5))
                labels.append(ids[-1] if segment[0] == "a" else -100)
        batch["token_ids"].append(ids)
        batch["labels"].append(labels)
        batch["images"].append(segments.split().count("i"))
    return batch


def pixels(case, spec, batch):
    """fp32 (I,3,R,R), in the order of the image placeholders."""
    count, size = sum(batch["images"]), spec["image_size"]
    values = hash_weights.uniform(f"{case} pixels", count * 3 * size * size, 0.0, 1.7)
    return torch.from_numpy(values).reshape(count, 3, size, size)


def add(golden, case, batch):
    """token_ids, labels (T), sample_begin (B+1), images (B); the pixels come from their hash."""
    begin = [0]
    for ids in batch["token_ids"]:
        begin.append(begin[-1] + len(ids))
    golden.add(case, "token_ids", torch.tensor(sum(batch["token_ids"], [])))
    golden.add(case, "labels", torch.tensor(sum(batch["labels"], [])))
    golden.add(case, "sample_begin", torch.tensor(begin))
    golden.add(case, "images", torch.tensor(batch["images"]))
