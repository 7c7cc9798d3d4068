#!/usr/bin/env python3
"""Golden files of nine data sets: tests/golden/data/sets.

A small --data_path in every layout, and in sets.json samples that the original's own classes and
collator made of it (style visualchat), and what the plain rules make of the same draws (style
correct): token ids, labels, the files of the images in their order, and the checksum of the pixels.

usage: make_golden_sets.py --original DIR   (applications/DeepSpeed-VisualChat at commit 83757d9)
Needs Pillow 10.4, numpy 1.26, transformers 4.46, sentencepiece, torch.
"""
import argparse
import base64
import io
import json
import pathlib
import random
import re
import shutil
import tempfile
import zlib

import numpy as np
import PIL
import transformers
from golden import original_sets
from golden.image_files import picture
from PIL import Image
from transformers import CLIPImageProcessor, LlamaTokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/data/sets"
MAX_IMAGES = 3
SIDE = 8
ACCESSES = 3  # of each record


def jpeg(number):
    out = io.BytesIO()
    Image.fromarray(picture(9 + number % 3, 8, 3, 100 + number)).save(out, "JPEG", quality=60)
    return out.getvalue()


def put(path, content):
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content, indent=1) + "\n")


def turns(*texts):
    return [{"from": "gpt" if i % 2 else "human", "value": t} for i, t in enumerate(texts)]


def write_llava():
    names = [f"{n:012}.jpg" for n in range(1, 6)]
    for number, name in enumerate(names):
        put(f"coco/train2017/{name}", jpeg(number))
    put("llava/detail_23k.json", [
        {"id": "1", "image": names[0], "conversations": turns("<image>\nWhat is it?", "a circle")},
        {"id": "2", "image": names[1], "conversations": turns("Which?\n<image>", "red\nand blue")}])
    put("llava/complex_reasoning_77k.json", [
        {"id": "3", "image": names[0], "conversations": turns("<image>\nWhy so?", "who knows")}])
    put("llava/conversation_58k.json", [
        {"id": "4", "image": names[0],
         "conversations": turns("<image>\nHow many?", "one", "Sure?", "yes", "Large?", "no")},
        {"id": "5", "image": names[2], "conversations": turns("<image>\nHere?", "here", "x?", "y")}])
    put("aokvqa/annotations/aokvqa_v1p0_train.json", [
        {"image_id": 1, "question": "Which colour?", "choices": ["red", "blue"],
         "correct_choice_idx": 1, "rationales": ["It is the sea.", "Water is so.", "All see it."]},
        {"image_id": 3, "question": "Which shape?", "choices": ["circle"], "correct_choice_idx": 0,
         "rationales": ["no corners"], "difficult_direct_answer": False}])


def write_ocr():
    book = {"imageURL": "http://books/I/one.jpg", "questions": ["Who wrote it?", "What is it?"],
            "answers": ["Jane \u00c4. Doe", "a book"], "split": 1, "title": "x"}
    put("OCR_VQA/dataset.json", {"0001": book, "0002": {
        **book, "imageURL": "http://books/I/two.v2.png", "questions": ["Is it red?"],
        "answers": ["Yes"], "split": 3}})
    put("OCR_VQA/images/0001.jpg", jpeg(10))
    out = io.BytesIO()
    Image.fromarray(picture(7, 9, 3, 111)).save(out, "PNG")
    put("OCR_VQA/images/0002.png", out.getvalue())


def record(question, answer, images, related=()):
    return {"instruction": question, "answer": answer, "image_ids": list(images),
            "rel_ins_ids": list(related)}


def write_mimic_it():
    cgd = [f"CGD_IMG_{n:012}" for n in range(1, 6)]
    put("MIMIC-IT/CGD_instructions.json", {"meta": {"version": "0"}, "data": {
        "CGD_INS_1": record("What differs?", "the colour", cgd[:2], ["CGD_INS_2", "CGD_INS_9"]),
        "CGD_INS_2": record("And\nelse?", "nothing", cgd[:2], ["CGD_INS_1"]),
        "CGD_INS_3": record("Same?", "no", [cgd[0], cgd[3]], ["CGD_INS_2", "CGD_INS_4"]),
        "CGD_INS_4": record("Alike?", "a bit", [cgd[0], cgd[3]]),
        "CGD_INS_5": record("One?", "one", [cgd[4]]),
        "CGD_INS_6": record("Three?", "three", [cgd[0], cgd[1], cgd[2]])}})
    for index, name in enumerate(("SD", "SN", "TVC", "VST")):
        ids = [f"{name}_IMG_{n}" for n in range(5)]
        put(f"MIMIC-IT/{name}.json", {key: base64.b64encode(jpeg(20 + 5 * index + n)).decode()
                                      for n, key in enumerate(ids[:4])})
        put(f"MIMIC-IT/{name}_instructions.json", {"data": {
            "1": record("What <image>happens?", "this", ids[:2], ["3", "2"]),
            "2": record("Then?", "that", ids[:2]),
            "3": record("At last?", "the end", ids[:2], ["1"]),
            "4": record("Lost?", "one of two", [ids[1], ids[4]]),
            "5": record("All lost?", "none", [ids[4]], ["6"]),
            "6": record("One?", "one \u6f22", [ids[3]], ["5"])}})


def say(role, content, *images):
    turn = {"role": role, "content": content}
    if images:
        turn["images"] = [{"image_id": i, "caption": "unused"} for i in images]
    return turn


def write_sparkles():
    mark = "<Img><ImageHere></Img>"
    for name, offset in (("CC", 0), ("VG", 3)):
        for n in range(3):
            put(f"SparklesDialogue{name}/images/{12 + offset + n}.jpg", jpeg(50 + offset + n))
    put("SparklesDialogueCC/annotations/SparklesDialogueCC.json", [
        {"dialogue": [
            say("user", f"compare{mark} IMAGE#12\nand IMAGE#13. which USA?", "12", "13"),
            say("assistant", "IMAGE#13 is BIG. IMAGE#12 is not! \u00e9tude."),
            say("user", f"{mark}and IMAGE#14? tell", "14"), say("assistant", "IMAGE#14, IMAGE#12.")]},
        {"dialogue": [say("user", "odd", "12")]},
        {"dialogue": [say("user", "lost", "99"), say("assistant", "x")]},
        {"dialogue": [say("assistant", "turned"), say("user", "round")]}])
    put("SparklesDialogueVG/images/1.jpg", jpeg(60))
    put("SparklesDialogueVG/annotations/SparklesDialogueVG.json", [
        {"dialogue": [say("user", "is IMAGE#15 like IMAGE#1? IMAGE#9", 1, 15),
                      say("assistant", "no.\nIMAGE#1 IS Red.\u00a0IMAGE#15 too.\n\nend")]},
        {"dialogue": [say("user", "IMAGE#17 twice", 17, "17"), say("assistant", "_a?! b. \u043d\u0415")]},
        {"dialogue": [say("user", "what is in IMAGE#15?", 15), say("assistant", "IMAGE#15 has one.")]}])


# ---- what a sample is, read back from the original's texts, and once more by the plain rules

class Recorder:
    """Notes instruction and answer of each round that the original encodes."""

    def __init__(self, data):
        self.rounds, self.encode = [], data.tokenize
        data.tokenize = self

    def __call__(self, text):
        question = re.search("### Question:\n(.*)\n\n### Answer:\n$", text["instruction"], re.S)
        self.rounds.append({"question": question[1], "answer": text["answer"],
                            "images": text["instruction"].count("<image>")})
        return self.encode(text)


def processed(data, processor):
    """A processor that also notes which picture it was given, by checksum."""
    seen = []

    def call(image):
        seen.append(zlib.crc32(np.asarray(image).tobytes()))
        return processor(image)
    data.vis_processor = call
    return seen


def pictures_by_checksum():
    names = {}
    for path in sorted(OUT.rglob("*")):
        if path.suffix in (".jpg", ".png"):
            names[zlib.crc32(np.asarray(Image.open(path).convert("RGB")).tobytes())] = \
                str(path.relative_to(OUT))
        elif path.name in ("SD.json", "SN.json", "TVC.json", "VST.json"):
            for key, text in json.loads(path.read_text()).items():
                image = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
                names[zlib.crc32(np.asarray(image).tobytes())] = \
                    f"{path.relative_to(OUT)}: image {key}"
    return names


def by_plain_rules(tokenizer, system, rounds):
    """docs/computes.md, "Prompts and labels"."""
    def ids_of(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    ids, labels, image = [tokenizer.bos_token_id], [-100], 0
    for i, r in enumerate(rounds):
        header = "\n".join(f"### Image {image + k + 1}:\n<image>" for k in range(r["images"]))
        prompt = (system if i == 0 else "") + (header + "\n\n" if header else "")
        prompt_ids = ids_of(f"{prompt}### Question:\n{r['question']}\n\n### Answer:\n")
        answer_ids = ids_of(r["answer"]) + [tokenizer.eos_token_id]
        image += r["images"]
        ids += prompt_ids + answer_ids
        labels += [-100] * len(prompt_ids) + answer_ids
    return ids, labels


def same_in_both_styles(name, record):
    """
    Of sparkles_dialogue the record in which no sentence begins with a word in capitals and only one
    image is shown; of the others all up to the first head that lacks an image.
    """
    if name == "sparkles_dialogue":
        return record == 3
    return record == 0 or not name.startswith("otter_mimicit") or name == "otter_mimicit_cgd"


def samples_of(name, data_path, tokenizers, processor, system, names):
    data = original_sets.build(name, data_path, tokenizers["visualchat"], processor, MAX_IMAGES)
    recorder, seen = Recorder(data), processed(data, processor)
    records = []
    for index in range(len(data)):
        accessed = {}
        for access in range(ACCESSES):
            random.seed(100 * index + access)
            recorder.rounds, seen[:] = [], []
            sample = data[index]
            key = json.dumps(recorder.rounds)
            accessed[key] = (sample, recorder.rounds, list(seen))
        for (sample, rounds, pictures), (ids, labels, pixels) in zip(
                accessed.values(),
                original_sets.collate([s for s, _, _ in accessed.values()],
                                      tokenizers["visualchat"].pad_token_id)):
            images = [names[p] for p in pictures]
            common = {"set": name, "record": index, "rounds": rounds, "images": images,
                      "pixels": zlib.crc32(np.ascontiguousarray(pixels, np.float32).tobytes())}
            records.append({**common, "style": "visualchat", "ids": ids, "labels": labels})
            if same_in_both_styles(name, index):
                ids, labels = by_plain_rules(tokenizers["correct"], system, rounds)
                records.append({**common, "style": "correct", "ids": ids, "labels": labels})
    return {"name": name, "records": len(data)}, records


def tokenizers_of(dst):
    made = {}
    for style in ("correct", "visualchat"):
        tokenizer = LlamaTokenizer(str(OUT.parent / "tokenizer.model"), legacy=True)
        if style == "visualchat":
            dst.add_special_token(tokenizer)
        else:
            tokenizer.add_tokens(["### Image:", "<image>"], special_tokens=True)
        tokenizer.pad_token = tokenizer.eos_token
        made[style] = tokenizer
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--original", type=pathlib.Path, required=True)
    original = parser.parse_args().original
    shutil.rmtree(OUT, ignore_errors=True)
    for write in (write_llava, write_ocr, write_mimic_it, write_sparkles):
        write()
    system = (ROOT / "data/prompts/system.txt").read_text().rstrip() + "\n\n"
    phrases = (ROOT / "data/prompts/why_phrases.txt").read_text().splitlines()
    dst = original_sets.load(original, system, phrases)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE},
                                   crop_size={"height": SIDE, "width": SIDE})
    sets, samples = [], []
    with tempfile.TemporaryDirectory() as scratch:  # the original writes beside its input
        data_path = pathlib.Path(scratch) / "data"
        shutil.copytree(OUT, data_path)
        tokenizers, names = tokenizers_of(dst), pictures_by_checksum()
        for name in original_sets.CLASSES:
            described, made = samples_of(name, data_path, tokenizers, processor, system, names)
            sets.append(described)
            samples += made
    made_with = {"pillow": PIL.__version__, "transformers": transformers.__version__,
                 "numpy": np.__version__, "original": "83757d9"}
    (OUT / "sets.json").write_text(json.dumps(
        {"made_with": made_with, "max_images": MAX_IMAGES, "side": SIDE, "system": system,
         "sets": sets, "samples": samples}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
