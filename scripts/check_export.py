#!/usr/bin/env python3
"""Loads an exported epoch-N directory with Transformers, strictly, and says what does not fit.

usage: scripts/check_export.py OUT/epoch-N [FULL_EXPORT]

Of an adapter it loads the base models that it names and puts the adapter on them with PEFT. With FULL_EXPORT, an export of the
same weights as a whole model, it says by how much the logits differ, and fails above 2e-5.

Needs torch, transformers, safetensors and sentencepiece, for adapters peft. By hand only, no part of `make check`.
"""
import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import (AutoConfig, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, CLIPVisionModel,
                          LlavaForConditionalGeneration, SiglipVisionModel)


def load_strictly(kind, directory):
    model, info = kind.from_pretrained(directory, torch_dtype=torch.float32, output_loading_info=True)
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


def name_in_file(placed):
    return placed.replace(".modules_to_save.", ".").replace(".default.", ".").replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")


def load_adapted(load, directory, prepare=lambda model: None):
    """The base model that an adapter names, with that adapter. Every matrix must have its place and every place its matrix."""
    from peft import PeftModel
    with open(os.path.join(directory, "adapter_config.json"), encoding="utf-8") as file:
        base = load(json.load(file)["base_model_name_or_path"])
    prepare(base)
    model = PeftModel.from_pretrained(base, directory).eval()
    stored = load_file(os.path.join(directory, "adapter_model.safetensors"))
    placed = {name_in_file(name): value for name, value in model.state_dict().items()
              if ".lora_" in name or ".modules_to_save." in name}
    if placed.keys() != stored.keys():
        sys.exit(f"{directory}: not in both: {sorted(placed.keys() ^ stored.keys())[:10]}")
    if not all(torch.equal(placed[name], value.to(placed[name].dtype)) for name, value in stored.items()):
        sys.exit(f"{directory}: what PEFT has loaded is not what the file holds")
    return model


def load_decoder(directory):
    return load_strictly(AutoModelForCausalLM, directory)


def add_rows(extra, others):
    """With a tied head the token table stays the decoder's own, as in a whole model's export."""
    def prepare(decoder):
        decoder.resize_token_embeddings(len(extra["lang_embed.weight"]), mean_resizing=False)
        tied = decoder.config.tie_word_embeddings
        rows = others.get(f"lang_decoder.{'model.embed_tokens' if tied else 'lm_head'}.weight.added_rows")
        if rows is not None:
            decoder.lm_head.weight.data[-len(rows):] = rows
        if not tied:
            decoder.model.embed_tokens.weight.data[:] = extra["lang_embed.weight"]
    return prepare


def check_adapter(directory, full):
    extra = load_file(os.path.join(directory, "projection.safetensors"))
    other_file = os.path.join(directory, "other_weights.safetensors")
    others = load_file(other_file) if os.path.exists(other_file) else {}
    decoder = load_adapted(load_decoder, os.path.join(directory, "lang_decoder"), add_rows(extra, others))
    if os.path.exists(os.path.join(directory, "vis_encoder")):
        load_adapted(load_vision, os.path.join(directory, "vis_encoder"))
    tokens = check_tokenizer(os.path.join(directory, "lang_decoder"), len(extra["lang_embed.weight"]))
    ids = torch.arange(3, 40)[None] % len(extra["lang_embed.weight"])
    with torch.no_grad():
        logits = decoder(ids).logits
    print(f"{directory}: adapter, {len(extra)} tensors beside it, {tokens}; logits norm {logits.norm():.7g}")
    if full:
        with torch.no_grad():
            merged = load_decoder(os.path.join(full, "lang_decoder"))(ids).logits
        difference = (merged - logits).abs().max().item()
        print(f"{full}: logits differ by {difference:.3g} at most")
        if difference > 2e-5:
            sys.exit("these are other weights")


def main(directory):
    decoder = load_decoder(os.path.join(directory, "lang_decoder"))
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


def check_llava(directory):
    model = load_strictly(LlavaForConditionalGeneration, directory)
    tokens = check_tokenizer(directory, model.get_input_embeddings().weight.shape[0])
    config = model.config
    processor = AutoProcessor.from_pretrained(directory, use_fast=False)
    size = config.vision_config.image_size
    inputs = processor(text="USER: <image>\nwhat is it? ASSISTANT:", images=np.zeros((size, 2 * size, 3), np.uint8),
                       return_tensors="pt", images_kwargs={"input_data_format": "channels_last"})
    count = (inputs["input_ids"] == config.image_token_index).sum().item()
    if count != config.image_seq_length:
        sys.exit(f"{directory}: the processor makes {count} tokens of an image, config.json says {config.image_seq_length}")
    with torch.no_grad():
        logits = model(**inputs).logits
    if not torch.isfinite(logits).all():
        sys.exit("the loaded model gives non-finite values")
    print(f"{directory}: {type(model).__name__} {tuple(logits.shape)}, {type(processor.image_processor).__name__}, {tokens}; "
          f"logits norm {logits.norm():.7g}")


def is_llava(directory):
    file = os.path.join(directory, "config.json")
    return os.path.exists(file) and AutoConfig.from_pretrained(directory).model_type == "llava"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if is_llava(sys.argv[1]):
        check_llava(sys.argv[1])
    elif os.path.exists(os.path.join(sys.argv[1], "lang_decoder", "config.json")):
        main(sys.argv[1])
    else:
        check_adapter(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None)
