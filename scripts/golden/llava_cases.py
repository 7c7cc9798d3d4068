"""LLaVA-1.5's model as Transformers computes it."""

import json
import zlib

import numpy as np
import PIL
import torch
import transformers
from PIL import Image

from . import batches, hash_weights, model_cases, specs

# case, vision_feature_layer, vision_feature_select_strategy, changes of the language model
CASES = (
    ("llava", -2, "default", {}),
    ("llava_all_tokens", -1, "full", {"num_key_value_heads": 2, "rms_norm_eps": 1e-5}),
)
SAMPLES = ["t3 i t4 a5", "t2 i t1 i a6 t2 i t2 a3", "t4 a7"]
# How parameters are called here, by the beginnings of Transformers' names.
NAMES = {
    "model.language_model.embed_tokens.": "lang_embed.",
    "model.language_model.": "lang_decoder.model.",
    "lm_head.": "lang_decoder.lm_head.",
    "model.vision_tower.": "vis_encoder.",
    "model.multi_modal_projector.linear_1.": "projection.0.",
    "model.multi_modal_projector.linear_2.": "projection.2.",
}


def own_name(name):
    prefix = next(prefix for prefix in NAMES if name.startswith(prefix))
    return NAMES[prefix] + name[len(prefix):]


def make_model(spec, layer, strategy):
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**spec["vision"]),
        text_config=transformers.LlamaConfig(**spec["lm"]),
        image_token_index=spec["image_token_id"], projector_hidden_act="gelu",
        vision_feature_layer=layer, vision_feature_select_strategy=strategy)
    config._attn_implementation = "eager"
    model = transformers.LlavaForConditionalGeneration(config)
    config.architectures = [type(model).__name__]
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(hash_weights.weight(own_name(name), tuple(p.shape))))
    return model.double().eval(), config


def loss_sum(model, spec, batch, pixels):
    """The sum of the loss, and each sample's logits, image tokens included."""
    total, logits, image = 0.0, [], 0
    for ids, labels, count in zip(batch["token_ids"], batch["labels"], batch["images"]):
        long_ids, long_labels = [], []
        for token, label in zip(ids, labels):
            repeats = spec["image_tokens"] if token == spec["image_token_id"] else 1
            long_ids += [token] * repeats
            long_labels += [label] * repeats
        inputs = {"input_ids": torch.tensor([long_ids]), "use_cache": False}
        if count > 0:
            inputs["pixel_values"] = pixels[image:image + count]
        image += count
        out = model(**inputs).logits[0]
        total = total + torch.nn.functional.cross_entropy(out[:-1], torch.tensor(long_labels)[1:], reduction="sum")
        logits.append(out)
    return total, logits


def llava_cases(golden):
    """Logits, sum of the loss and every gradient in fp64."""
    for case, layer, strategy, changes in CASES:
        spec = specs.model("mlp2x_gelu", lm_changes=changes, vision_feature_layer=layer,
                           drop_class_token=strategy == "default")
        spec["image_tokens"] = (spec["image_size"] // spec["vision"]["patch_size"]) ** 2 + (strategy == "full")
        model, config = make_model(spec, layer, strategy)
        golden.cases[case] = spec | {"config_json": config.to_json_string(use_diff=True)}
        batch = batches.make(case, spec, SAMPLES)
        batches.add(golden, case, batch)
        total, logits = loss_sum(model, spec, batch, batches.pixels(case, spec, batch).double())
        total.backward()
        golden.add(case, "loss_sum", total.reshape(1))
        golden.add(case, "logits", torch.cat(logits))
        gradients = {own_name(n): p.grad for n, p in model.named_parameters() if p.grad is not None}
        model_cases.add_gradients(golden, case, gradients)


# Wide, high, square, and of one pixel; sizes above and below theirs, and a crop inside.
IMAGES = ("420.jpg", "odd_420.jpg", "gray_8.png", "one_column.png", "one_row.png", "one_pixel.png")
SIZES = ((24, 24), (61, 61), (40, 27))
MEAN = [0.48145466, 0.4578275, 0.40821073]


def image_cases(directory):
    """CRC-32 of the pixels of LlavaImageProcessor with do_pad."""
    images = []
    for name in IMAGES:
        for size, crop in SIZES:
            processor = transformers.LlavaImageProcessor(
                do_pad=True, size={"shortest_edge": size}, crop_size={"height": crop, "width": crop}, image_mean=MEAN)
            image = Image.open(directory / "images" / name).convert("RGB")
            pixels = processor.preprocess(image, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
            images.append({"file": f"tests/golden/data/images/{name}", "size": size, "crop": crop,
                           "values": zlib.crc32(np.ascontiguousarray(pixels.astype(np.float32)).tobytes())})
    note = {"made_by": "scripts/make_golden_llava.py",
            "versions": f"transformers {transformers.__version__}, Pillow {PIL.__version__}"}
    (directory / "llava_images.json").write_text(json.dumps(note | {"images": images}, indent=1) + "\n")
