#!/usr/bin/env python3
"""Golden file tests/golden/data/tokenizer_directories.json: what Transformers' LlamaTokenizer makes
of model directories whose JSON files name tokens in every way there is.

Each case holds the JSON files that lie beside tests/golden/data/tokenizer.model, the ids of roles and
of the tokens that mark images after add_tokens() as DeepSpeed-VisualChat calls it, and the ids of
texts. LlamaTokenizer reads the directory; where only the begin of a text gets a space mark
(legacy: false) it is LlamaTokenizerFast, which differs in texts that begin with a space.

usage: make_golden_tokenizers.py     Needs transformers, sentencepiece, tokenizers, protobuf.
"""
import json
import pathlib
import shutil
import tempfile

import sentencepiece
import transformers
from transformers import LlamaTokenizer, LlamaTokenizerFast

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/data"

TEXTS = ["", " ", "  ", "a red circle", " a red circle", "\na", "\u2581marks\u2581", "<image>", " <image>",
         "<image>text", "<image> text", "text<image>", "text <image> text", "<image> <image>", "### Image 1:\n<image>\n\n",
         "### Image:\n<image>\n\n### Question:\nwhat?\n\n### Answer:\n", "</s>", "a</s>b", " </s> x", "<s>begin", "<unk> x",
         "a <pad> b", "<pad>", "<pad><pad>", "a<pad>b", "x <word> y", "x<word>y", "<word>", "<word> <image>",
         "left \t\u00a0\u3000<both>\n\n right", "<both> <both>", "<|im_end|>", "a<|im_end|> b", "\U0001F600 end"]

PAD = {"content": "<pad>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}


def decoder(**tokens):
    return {"added_tokens_decoder": {i.lstrip("i"): token for i, token in tokens.items()}}


CASES = {
    "nothing": {},
    "added_tokens": {"added_tokens.json": {"<pad>": 500}},
    "decoder": {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer",
                                          "added_tokens_decoder": {"500": {"content": "<pad>", "special": True}}}},
    "decoder goes before added_tokens": {"added_tokens.json": {"<x>": 500}, "tokenizer_config.json": decoder(i500=PAD)},
    "empty decoder": {"added_tokens.json": {"<pad>": 500}, "special_tokens_map.json": {"pad_token": "<pad>"},
                      "tokenizer_config.json": decoder()},
    "pieces in decoder": {"tokenizer_config.json": decoder(
        i0={"content": "<unk>", "special": True}, i1={"content": "<s>", "special": True},
        i2={"content": "</s>", "special": True}, i500=PAD, i501={"content": "<image>", "special": False})},
    "pad named": {"tokenizer_config.json": {"pad_token": "<pad>"}},
    "pad named, decoder": {"tokenizer_config.json": {"pad_token": "<pad>", **decoder(i500=PAD)}},
    "pad is unknown": {"special_tokens_map.json": {"pad_token": "<unk>"}},
    "map": {"special_tokens_map.json": {"pad_token": {"content": "<pad>", "rstrip": True}, "eos_token": "<|im_end|>"}},
    "map and added": {"special_tokens_map.json": {"pad_token": "<pad>"}, "added_tokens.json": {"<pad>": 500},
                      "tokenizer_config.json": {"pad_token": None, "eos_token": "</s>"}},
    "typed objects": {"tokenizer_config.json": {"eos_token": {"__type": "AddedToken", "content": "<|im_end|>"},
                                                "pad_token": {"__type": "AddedToken", **PAD}}},
    "further": {"tokenizer_config.json": {"additional_special_tokens": ["<image>", "<word>"], "pad_token": "<pad>",
                                          "eos_token": "<|im_end|>"}},
    "further in both": {"tokenizer_config.json": {"additional_special_tokens": ["<image>"]},
                        "special_tokens_map.json": {"additional_special_tokens": ["<word>", "<image>"]}},
    "flags": {"tokenizer_config.json": decoder(
        i500={"content": "<both>", "lstrip": True, "rstrip": True, "special": True},
        i501={"content": "<word>", "single_word": True}, i502={"content": "<image>", "lstrip": True, "special": True})},
    "tokenizer.json": {"fast": {"add": ["<pad>"]}},
    "not legacy": {"tokenizer_config.json": {"legacy": False}},
    "not legacy, pad": {"tokenizer_config.json": {"legacy": False, "pad_token": "<pad>",
                                                  **decoder(i500=PAD, i501={"content": "<word>"})}},
    "not legacy, no prefix": {"tokenizer_config.json": {"legacy": False, "add_prefix_space": False, **decoder(i500=PAD)}},
    "not legacy, but tokenizer.json is": {"tokenizer_config.json": {"legacy": False}, "fast": {"legacy": True}},
    "legacy, but tokenizer.json is not": {"tokenizer_config.json": {"legacy": True}, "fast": {"legacy": False}},
}


def fast_json(directory, options):
    """tokenizer.json of this tokenizer: what the test needs of it, without the vocabulary."""
    fast = LlamaTokenizerFast.from_pretrained(directory, legacy=options.get("legacy", True), from_slow=True)
    fast.add_tokens(options.get("add", []))
    whole = json.loads(fast.backend_tokenizer.to_str())
    return whole, {key: whole[key] for key in ("added_tokens", "normalizer", "pre_tokenizer")}


def describe(name, files):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        shutil.copy(GOLDEN / "tokenizer.model", root)
        stored = {file: content for file, content in files.items() if file != "fast"}
        fast = files.get("fast")
        if fast is not None:
            whole, stored["tokenizer.json"] = fast_json(directory, fast)
            (root / "tokenizer.json").write_text(json.dumps(whole))
        for file in stored.keys() - {"tokenizer.json"}:
            (root / file).write_text(json.dumps(stored[file]))
        config = files.get("tokenizer_config.json", {})
        kind = LlamaTokenizerFast if "legacy" in config else LlamaTokenizer
        tokenizer = kind.from_pretrained(directory)
        base = len(tokenizer)
        pad = tokenizer.pad_token
        tokenizer.add_tokens(["### Image:", "<image>"], special_tokens=True)
        if pad is None:
            tokenizer.add_special_tokens({"pad_token": "<PAD>"})
        header, image = tokenizer.convert_tokens_to_ids(["### Image:", "<image>"])
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        return {"name": name, "files": stored, "base_size": base, "size_compat": len(tokenizer), "names_pad": pad is not None,
                "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "header": header, "image": image, "ids": ids}


def main():
    transformers.logging.set_verbosity_error()
    made_with = {"transformers": transformers.__version__, "sentencepiece": sentencepiece.__version__}
    golden = {"made_with": made_with, "texts": TEXTS, "cases": [describe(*case) for case in CASES.items()]}
    (GOLDEN / "tokenizer_directories.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
