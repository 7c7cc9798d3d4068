#!/usr/bin/env python3
"""Golden files for the data code: tests/golden/data.

Images in many storage formats and the photographs of data/photos with the checksum of the pixels that Pillow reads, of the crops and of
the normalised pixels of CLIPImageProcessor and SiglipImageProcessor (the slow ones); a small SentencePiece model with the ids
that LlamaTokenizer (legacy) gives; samples tokenised by the original's own code (compat) and by the
plain rules (correct).

usage: make_golden_data.py --original DIR   (applications/DeepSpeed-VisualChat at commit 83757d9)
Needs Pillow 10.4, numpy, transformers 4.46, sentencepiece, torch.
"""
import argparse
import io
import json
import pathlib
import struct
import sys
import types
import zlib

import numpy as np
import PIL
import sentencepiece
import transformers
from golden.image_files import picture, png
from PIL import Image
from transformers import CLIPImageProcessor, LlamaTokenizer, SiglipImageProcessor

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/data"
IMAGES = OUT / "images"
PHOTOS = ROOT / "data/photos"


def write_png(name, *args, **options):
    (IMAGES / name).write_bytes(png(*args, **options))


def write_images():
    IMAGES.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    rgb = picture(61, 47, 3, 1)
    Image.fromarray(rgb).save(IMAGES / "rgb.png")
    Image.fromarray(picture(61, 47, 4, 2), "RGBA").save(IMAGES / "rgba.png")
    Image.fromarray(picture(40, 33, 2, 3), "LA").save(IMAGES / "gray_alpha.png")
    for depth in (1, 2, 4, 8):
        gray = picture(37, 29, 1, 4 + depth) >> (8 - depth)
        write_png(f"gray_{depth}.png", gray, 0, depth)
    write_png("gray_16.png", picture(20, 11, 1, 5).astype(np.uint16) * 257, 0, 16)
    colors = rng.integers(0, 256, (16, 3))
    for depth in (2, 4, 8):
        count = min(16, 1 << depth)
        indices = rng.integers(0, count, (23, 35, 1))
        write_png(f"palette_{depth}.png", indices, 3, depth, palette=colors[:count],
                  transparency=bytes([0, 128, 255]))
    write_png("palette_short.png", rng.integers(0, 16, (8, 8, 1)), 3, 4, palette=colors[:5])
    wide = rng.integers(0, 65536, (19, 27, 3))
    write_png("rgb_16.png", wide, 2, 16)
    write_png("rgba_16_interlaced.png", rng.integers(0, 65536, (19, 27, 4)), 6, 16, interlaced=True)
    write_png("gray_alpha_16.png", rng.integers(0, 65536, (9, 14, 2)), 4, 16)
    write_png("rgb_interlaced.png", picture(33, 30, 3, 6), 2, 8, interlaced=True)
    write_png("gray_1_interlaced.png", picture(21, 18, 1, 8) >> 7, 0, 1, interlaced=True)
    write_png("rgb_transparent_color.png", picture(16, 16, 3, 9), 2, 8,
              transparency=struct.pack(">HHH", 10, 20, 30))
    for name, width, height in (("one_pixel", 1, 1), ("one_row", 50, 1), ("one_column", 1, 50),
                                ("wide", 257, 9), ("tall", 7, 97), ("three", 3, 3)):
        Image.fromarray(picture(width, height, 3, width)).save(IMAGES / f"{name}.png")

    photo = picture(119, 83, 3, 20)
    for name, options in (("444", {"subsampling": 0}), ("422", {"subsampling": 1}),
                          ("420", {"subsampling": 2}),
                          ("progressive", {"progressive": True, "subsampling": 2}),
                          ("low_quality", {"quality": 8})):
        Image.fromarray(photo).save(IMAGES / f"{name}.jpg", **{"quality": 85, **options})
    Image.fromarray(picture(45, 31, 1, 21)[..., 0], "L").save(IMAGES / "gray.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo[:40]).save(IMAGES / "exif_rotated.jpg", exif=exif, comment=b"x" * 30)
    Image.fromarray(picture(17, 23, 3, 22)).save(IMAGES / "odd_420.jpg", subsampling=2)
    Image.fromarray(picture(24, 16, 4, 23), "CMYK").save(IMAGES / "cmyk.jpg")
    Image.fromarray(picture(24, 16, 3, 24)).save(IMAGES / "picture.gif")


def crc(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def preprocess(image, size, crop, normalise):
    return pixels_of(CLIPImageProcessor, image, normalise, size={"shortest_edge": size},
                     crop_size={"height": crop, "width": crop})


def pixels_of(kind, image, normalise, **sizes):
    processor = kind(do_rescale=normalise, do_normalize=normalise, **sizes)
    return processor(image, input_data_format="channels_last")["pixel_values"][0]


# (shortest edge, crop): larger, smaller, odd; a crop larger than the image is padded.
CROPS = [(56, 56), (224, 224), (97, 90), (24, 57), (33, 33)]
# Sides of SiglipImageProcessor.
SQUARES = [56, 97]
REFUSED = ["picture.gif"]


def describe_images():
    records = []
    for path in sorted(IMAGES.iterdir()) + sorted(PHOTOS.iterdir()):
        name = str(path.relative_to(ROOT))
        if path.name in REFUSED:
            records.append({"file": name, "refused": True})
            continue
        image = Image.open(path).convert("RGB")
        record = {"file": name, "width": image.width, "height": image.height,
                  "pixels": crc(np.asarray(image)), "crops": []}
        for size, crop in CROPS:
            cropped = preprocess(image, size, crop, False)
            values = preprocess(image, size, crop, True)
            assert cropped.dtype == np.uint8 and values.dtype == np.float32
            record["crops"].append({"size": size, "crop": crop,
                                    "bytes": crc(cropped.transpose(1, 2, 0)), "values": crc(values)})
        record["squares"] = []
        for side in SQUARES:
            size = {"height": side, "width": side}
            resized, values = (pixels_of(SiglipImageProcessor, image, normalise, size=size)
                               for normalise in (False, True))
            assert resized.dtype == np.uint8 and values.dtype == np.float32
            record["squares"].append({"size": side, "bytes": crc(resized.transpose(1, 2, 0)),
                                      "values": crc(values)})
        records.append(record)
    return records


# Sizes to resize between: (width, height) -> (width, height).
RESIZES = [((64, 48), (64, 48)), ((64, 48), (32, 48)), ((64, 48), (64, 100)), ((97, 61), (41, 257)),
           ((1, 1), (5, 3)), ((1, 40), (7, 7)), ((200, 150), (3, 2)), ((257, 1), (16, 1)),
           ((31, 17), (310, 170)), ((500, 333), (336, 224))]


def describe_resizes():
    """The test computes the same source: a pattern of integers."""
    records = []
    for (w, h), (new_w, new_h) in RESIZES:
        i = np.arange(w * h * 3, dtype=np.uint64)
        source = ((i * i * 31 + i * 7) >> 3) % 251
        image = Image.fromarray(source.astype(np.uint8).reshape(h, w, 3))
        resized = image.resize((new_w, new_h), Image.Resampling.BICUBIC)
        records.append({"from": [w, h], "to": [new_w, new_h], "pixels": crc(np.asarray(resized))})
    return records


def train_tokenizer():
    """A LLaMA-like model: BPE with byte fallback, nothing normalised."""
    colors = "red green blue yellow black purple".split()
    shapes = "circle square triangle cross".split()
    places = ["at the top left", "at the bottom right", "in the center", "in the middle"]
    lines = [f"a {c} {s} {p}" for c in colors for s in shapes for p in places]
    for name in ("system.txt", "caption_questions.txt"):
        lines += (ROOT / "data/prompts" / name).read_text().splitlines()
    lines += ["### Question:", "### Answer:", "### Image 1:", "0 1 2 3 4 5 6 7 8 9"] * 3
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=500, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1, minloglevel=2)
    (OUT / "tokenizer.model").write_bytes(model.getvalue())


TEXTS = ["", " ", "  ", "a red circle", " a red circle", "a  red   circle ", "\n", "\n\n", "\ta\tb",
         "line\nline\r\n", "emoji \U0001F600\U0001F468\u200D\U0001F469\u200D\U0001F467 end", "äöü ß 漢字 عربي",
         "combining e\u0301", "\u2581marks\u2581", "<image>", "<image>text", "<image> text",
         "text<image>", "text <image> text", "<image><image>", "### Image:", "### Image 1:\n<image>\n\n",
         "### Image:\n<image>\n\n### Question:\nwhat?\n\n### Answer:\n", "### Image", "###Image:",
         "</s>", "a</s>b", "<s>begin", "<unk> x", "<s", "<imag", "<<image>>", "<0x0A>", "nul\0byte",
         "\u00a0nbsp\u3000wide", "x" * 40, "What is this a picture of?\n", "1234567890 + 3.14"]


def describe_tokens(tokenizer):
    records = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        records.append({"text": text, "ids": ids,
                        "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    return records


def load_original(directory):
    """The original's data modules; its package imports a launcher that is not needed here."""
    sys.path.insert(0, str(directory))
    rank = types.ModuleType("utils.utils")
    rank.get_rank = lambda: 0
    rank.print_rank_0 = lambda *_: None
    rank.is_rank_0 = lambda: True
    sys.modules["utils.utils"] = rank
    from utils.data import DST
    from utils.data.dial_dataset import DialDataset
    from utils.data.llava_dataset import LlavaDataset
    return DST, LlavaDataset, DialDataset


def conversation(rounds, first_has_image):
    turns = []
    for i, (question, answer) in enumerate(rounds):
        image = "<image>\n" if first_has_image and i == 0 else ""
        turns += [{"value": image + question}, {"value": answer}]
    return {"conversations": turns, "image": "none"}


CONVERSATIONS = [
    [[("What is this?", "a red circle at the top left")]],
    [[("What do you see?", " leading space")], [("And here?", "a blue cross\nand more")]],
    [[("Which colour?", "red"), ("Which shape?", "a circle, of course"), ("Sure?", "Yes. \U0001F600")]],
    [[("One?", "1"), ("Two?", "2")], [("Three?", "3")], [("Four?", "4"), ("Five?", "5"), ("Six?", "6")]],
    [[("  spaces  kept?  ", "trailing  ")]],
]


def describe_compat(original, tokenizer, system):
    dst, llava, dial = original
    dst.DEFAULT_PROMPT = system
    records = []
    for records_of_sample in CONVERSATIONS:
        kind = dial if any(len(rounds) > 1 for rounds in records_of_sample) else llava
        data = kind.__new__(kind)
        data.tokenizer, data.prompter = tokenizer, dst.Prompter()
        data.add_eos, data.ignore_instruction = True, True
        data.data_debug_path, data.data_debug_counter = None, 0
        data.image_token_dict = dst.get_image_num_map(tokenizer)
        data.process_image = lambda *_, **__: 0
        data.annotation = [[conversation(rounds, True) for rounds in records_of_sample]]
        sample = data[0]
        rounds = [{"question": q, "answer": a, "images": int(i == 0)}
                  for part in records_of_sample for i, (q, a) in enumerate(part)]
        records.append({"style": "visualchat", "rounds": rounds, "ids": sample["input_ids"],
                        "labels": sample["labels"]})
    return records


def describe_correct(tokenizer, system):
    """docs/computes.md, "Prompts and labels", in its plainest form: pieces, then ids, then labels."""
    def ids_of(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    conversations = [[(q, a, int(i == 0)) for part in sample for i, (q, a) in enumerate(part)]
                     for sample in CONVERSATIONS]
    conversations += [[("Text only?", "yes", 0)], [("Both?", "two", 2), ("And?", "three more", 3)]]
    records = []
    for rounds in conversations:
        ids, labels, image = [tokenizer.bos_token_id], [-100], 0
        for i, (question, answer, count) in enumerate(rounds):
            header = "\n".join(f"### Image {image + k + 1}:\n<image>" for k in range(count))
            prompt = (system if i == 0 else "") + (header + "\n\n" if count else "")
            prompt += f"### Question:\n{question}\n\n### Answer:\n"
            image += count
            prompt_ids, answer_ids = ids_of(prompt), ids_of(answer) + [tokenizer.eos_token_id]
            ids += prompt_ids + answer_ids
            labels += [-100] * len(prompt_ids) + answer_ids
        records.append({"style": "correct", "ids": ids, "labels": labels,
                        "rounds": [{"question": q, "answer": a, "images": n} for q, a, n in rounds]})
    return records


def write_json(name, value):
    (OUT / name).write_text(json.dumps(value, indent=None, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--original", type=pathlib.Path, required=True)
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    made_with = {"pillow": PIL.__version__, "transformers": transformers.__version__,
                 "sentencepiece": sentencepiece.__version__, "numpy": np.__version__,
                 "original": "83757d9"}
    write_images()
    write_json("images.json", {"made_with": made_with, "images": describe_images()})
    write_json("resizes.json", {"made_with": made_with, "resizes": describe_resizes()})

    train_tokenizer()
    tokenizer = LlamaTokenizer(str(OUT / "tokenizer.model"), legacy=True)
    original = load_original(args.original)
    base_size = len(tokenizer)
    original[0].add_special_token(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    system = (ROOT / "data/prompts/system.txt").read_text().rstrip() + "\n\n"
    write_json("tokens.json", {"made_with": made_with, "base_size": base_size, "size": len(tokenizer),
                               "added": {t: i for t, i in tokenizer.get_added_vocab().items()
                                         if i >= base_size},
                               "texts": describe_tokens(tokenizer)})
    samples = describe_correct(tokenizer, system) + describe_compat(original, tokenizer, system)
    write_json("prompts.json", {"made_with": made_with, "system": system, "samples": samples})


if __name__ == "__main__":
    main()
