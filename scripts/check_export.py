#!/usr/bin/env python3
"""Loads an exported epoch-N directory with Transformers, strictly, and says what does not fit.

usage: scripts/check_export.py OUT/epoch-N

Needs torch, transformers, safetensors and sentencepiece. By hand only, no part of `make check`.
"""
import json
import os
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel, SiglipVisionModel


def load_strictly(kind, directory):
    model, info = kind.from_pretrained(directory, output_loading_info=True)
    for complaint in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if info[complaint]:
            sys.exit(f"{directory}: {complaint}: {list(info[complaint])[:10]}")
    return model.eval()


def load_vision(directory):
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as config:
        architecture = json.load(config)["architectures"][0]
    kinds = {kind.__name__: kind for kind in (CLIPVisionModel, SiglipVisionModel)}
    return load_strictly(kinds[architecture], directory)


def check_tokenizer(directory, rows):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    header, image = tokenizer.convert_tokens_to_ids(["### Image:", "<image>"])
    if len({header, image, tokenizer.unk_token_id}) != 3 or max(header, image) >= rows:
        sys.exit(f"{directory}: ### Image: is {header}, <image> is {image}, {rows} rows")
    ids = tokenizer("### Image: <image>\n\nwhat is it?").input_ids
    begins_right = tokenizer.bos_token_id in (None, ids[0])
    if ids.count(header) != 1 or ids.count(image) != 1 or not begins_right:
        sys.exit(f"{directory}: the added tokens are not split out of a text: {ids}")
    return f"### Image: = {header}, <image> = {image}"


def main(directory):
    decoder = load_strictly(AutoModelForCausalLM, os.path.join(directory, "lang_decoder"))
    [architecture] = AutoConfig.from_pretrained(os.path.join(directory, "lang_decoder")).architectures
    if type(decoder).__name__ != architecture:
        sys.exit(f"lang_decoder is a {type(decoder).__name__}, config.json says {architecture}")
    vision = load_vision(os.path.join(directory, "vis_encoder"))
    extra = load_file(os.path.join(directory, "projection.safetensors"))
    lang_embed = extra["lang_embed.weight"]
    embed = decoder.model.embed_tokens.weight
    if lang_embed.shape != embed.shape:
        sys.exit(f"lang_embed is {tuple(lang_embed.shape)}, embed_tokens {tuple(embed.shape)}")
    if not decoder.config.tie_word_embeddings and not torch.equal(lang_embed, embed):
        sys.exit("embed_tokens differs from lang_embed although the head is not tied")
    with torch.no_grad():
        logits = decoder(torch.arange(5)[None]).logits
        size = vision.config.image_size
        features = vision(torch.zeros(1, 3, size, size)).last_hidden_state
    if not (torch.isfinite(logits).all() and torch.isfinite(features).all()):
        sys.exit("the loaded models give non-finite values")
    tokens = check_tokenizer(os.path.join(directory, "lang_decoder"), embed.shape[0])
    print(f"{directory}: {architecture} {tuple(logits.shape)}, vision {tuple(features.shape)}, "
          f"{len(extra)} tensors beside them, {tokens}; logits norm {logits.norm():.7g}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
