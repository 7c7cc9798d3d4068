"""Runs the original's own data-set classes and collator on a made --data_path.

What is replaced: draws at construction (records stay in the order of the file, and none is lost by
the grouping), the barrier between processes, and the texts that are ours (system text, phrases).
Draws at access are Python's own, from a fixed seed.
"""

import contextlib
import importlib
import random
import sys
import types

import torch

# Names of data sets, modules and classes; the last set takes the limit of images.
CLASSES = {
    "aokvqa": ("aokvqa_dataset", "AOKVQADataset"),
    "ocr_vqa": ("ocr_vqa_dataset", "OCRVQADataset"),
    "otter_mimicit_cgd": ("otter_mimicit_cgd_dataset", "OtterMimicitCgdDataset"),
    "otter_mimicit_sd": ("otter_mimicit_sd_dataset", "OtterMimicitSdDataset"),
    "otter_mimicit_sn": ("otter_mimicit_sn_dataset", "OtterMimicitSnDataset"),
    "otter_mimicit_tvc": ("otter_mimicit_tvc_dataset", "OtterMimicitTvcDataset"),
    "otter_mimicit_vst": ("otter_mimicit_vst_dataset", "OtterMimicitVstDataset"),
    "llava_otter_blend": ("llava_otter_blend_dataset", "LlavaOtterBlendDataset"),
    "sparkles_dialogue": ("sparkles_dialogue_dataset", "SparklesDialogueDataset"),
}
LIMITED = ("otter_mimicit_sn", "otter_mimicit_tvc", "otter_mimicit_vst")


def load(path, system, phrases):
    sys.path.insert(0, str(path))
    rank = types.ModuleType("utils.utils")
    rank.get_rank, rank.is_rank_0, rank.print_rank_0 = lambda: 0, lambda: True, lambda *_: None
    sys.modules["utils.utils"] = rank
    torch.distributed.barrier = lambda *_: None
    dst = importlib.import_module("utils.data.DST")
    dst.DEFAULT_PROMPT = system
    dst.random_grouping = lambda records, _: [[record] for record in records]
    importlib.import_module("utils.data.aokvqa_dataset").REASON_QUESTIONS = phrases
    return dst


@contextlib.contextmanager
def in_file_order():
    kept = random.shuffle
    random.shuffle = lambda _: None
    try:
        yield
    finally:
        random.shuffle = kept


def build(name, data_path, tokenizer, processor, max_images):
    module, kind = CLASSES[name]
    make = getattr(importlib.import_module(f"utils.data.{module}"), kind)
    options = {"tokenizer": tokenizer, "vis_processor": processor}
    if name in LIMITED:
        options["max_num_image_per_sample"] = max_images
    if name == "llava_otter_blend":
        options["followup"] = False
    with in_file_order():
        return make(str(data_path), None, 1, **options)


def collate(samples, pad):
    """The collator's batch, cut back into samples: ids, labels and pixels of each."""
    collator = importlib.import_module("utils.data.utils").DataCollatorPadToMaxLen(4096, pad)
    batch = collator(samples)
    image = 0
    for row, count in enumerate(batch["image_num"]):
        length = int(batch["attention_mask"][row].sum())
        yield (batch["input_ids"][row, :length].tolist(), batch["labels"][row, :length].tolist(),
               batch["image"][image:image + count].numpy())
        image += count
