"""Runs the original system's own modules from a checkout (applications/DeepSpeed-VisualChat).

Only what it imports from DeepSpeed and torchvision is replaced, by modules of a few lines: training
engines are not run, the model and the data code are.
"""

import functools
import importlib
import sys
import types

import torch

import transformers


def stub_missing_modules():
    def get(root, path):
        return functools.reduce(getattr, path.split("."), root)

    def put(root, path, value):
        parent, _, leaf = path.rpartition(".")
        setattr(get(root, parent) if parent else root, leaf, value)

    def module(name, **members):
        made = types.ModuleType(name)
        made.__dict__.update(members)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = made
        return made

    module("deepspeed")
    module("deepspeed.compression")
    module("deepspeed.compression.helper", recursive_getattr=get, recursive_setattr=put)
    module("deepspeed.runtime")
    module("deepspeed.runtime.zero")
    module("deepspeed.runtime.zero.partition_parameters", ZeroParamStatus=None)
    # Imported by the Qwen-VL encoder, for pixels that it is not asked for here.
    transforms = module("torchvision.transforms", InterpolationMode=None)
    module("torchvision", transforms=transforms)


def load(path):
    """Makes the original's packages importable; returns what the cases need of them."""
    stub_missing_modules()
    sys.path.insert(0, path)
    loaded = types.SimpleNamespace()
    loaded.dsvl = importlib.import_module("utils.model.modeling_dsvl")
    loaded.qwen = importlib.import_module("utils.model.third_party_model.qwen_clip.qwen_clip")
    loaded.vis_proj = importlib.import_module("utils.model.vis_proj")
    loaded.lora = importlib.import_module("utils.module.lora")
    loaded.utils = importlib.import_module("utils.utils")
    loaded.data = importlib.import_module("utils.data")
    loaded.dst = importlib.import_module("utils.data.DST")
    loaded.dial = importlib.import_module("utils.data.dial_dataset")
    return loaded


class FakeTokenizer:
    """The two things the model asks of a tokenizer."""

    def __init__(self, image_token_id, pad_token_id):
        self.image_token_id, self.pad_token_id = image_token_id, pad_token_id

    def convert_tokens_to_ids(self, token):
        return self.image_token_id if token == "<image>" else -1


def build_model(loaded, spec, tokenizer=None):
    """The original's DeepSpeedViLModel from one of our case descriptions, in fp32."""
    vision = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(**spec["vision"], attention_dropout=0.0)
    )
    lang_config = transformers.LlamaConfig(**spec["lm"])
    lang_config.enable_mmca_attention = spec["mmca"]
    lang_config.pretraining_tp = 1
    decoder = loaded.dsvl.LlamaForCausalLM(lang_config)
    args = types.SimpleNamespace(vis_proj=spec["projection"])
    model = loaded.dsvl.DeepSpeedViLModel(
        vision,
        decoder,
        tokenizer or FakeTokenizer(spec["image_token_id"], spec["pad_token_id"]),
        vis_config=vision.config,
        decoder_name="llama",
        lang_config=lang_config,
        args=args,
    )
    for part, rank, scope in (
        ("lang_decoder", spec.get("lang_lora", 0), "model.layers."),
        ("vis_encoder", spec.get("vis_lora", 0), "encoder.layers."),
    ):
        if rank == 0:
            continue
        converted = loaded.lora.convert_linear_layer_to_lora(getattr(model, part), scope, rank)
        setattr(model, part, loaded.lora.only_optimize_lora_parameters(converted))
    return model


def run(model, batch, pixels):
    """The loss of one micro-batch, padded as the original's collator pads."""
    length = max(len(ids) for ids in batch["token_ids"])

    def padded(rows, value):
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

    ids = padded(batch["token_ids"], model.tokenizer.pad_token_id)
    labels = padded(batch["labels"], -100)
    mask = padded([[1] * len(row) for row in batch["token_ids"]], 0)
    return model(
        pixels, ids, attention_mask=mask, input_labels=labels, image_num=batch["images"]
    )[0]


def run_text(model, batch):
    """The mean loss of samples without images, which the original's splicing drops: its
    decoder is run on them by itself, one by one."""
    logits, labels = [], []
    for ids, wanted in zip(batch["token_ids"], batch["labels"]):
        embedded = model.lang_embed(torch.tensor([ids]))
        mask = torch.ones(1, len(ids))
        out = model.lang_decoder(inputs_embeds=embedded, attention_mask=mask, use_cache=False)
        logits.append(out.logits[0, :-1])
        labels.append(torch.tensor(wanted)[1:])
    return torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(labels))
