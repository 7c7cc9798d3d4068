#!/usr/bin/env python3
"""Golden files tests/golden/data/tokenizers/: small tokenizers of the kinds that tokenizer.json is read for, and what the
tokenizers library makes of random texts with them.

KIND/tokenizer.json and tokenizer_config.json, for each kind:
  llama2   Prepend and Replace, bytes of unknown characters, merges as texts
  llama3   a pattern, then bytes as characters; words that are tokens are not merged
  mistral  Metaspace that marks only the first piece
  qwen2    NFC, a pattern, bytes as characters; no begin token
texts.json: what random texts are made of (tests/data/tokenizer_json_test.cpp makes the same ones), and for each kind the ids and decoded
texts of the first of them, and of all a running hash, noted every so many texts.

variants.json: the kinds with other steps of their tokenizer.json, as changes of its text, and a hash of what the library makes of random
texts then. It is made from the files of the kinds, which "variants" leaves as they are.

usage: make_golden_tokenizer_json.py [variants]     Needs tokenizers (made with 0.23.3).
"""
import json
import pathlib
import sys

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden/data/tokenizers"
TEXTS, NOTED_EVERY, IN_FULL = 10000, 250, 50

MARK = "\u2581"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def token(content, special=True, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": not special, "special": special, **flags}


# Flags of every sort, in each kind.
FLAGGED = [token("<both>", lstrip=True, rstrip=True), token("<word>", special=False, normalized=False, single_word=True),
           token("new words", special=False), token("e\u0301tude", special=False), token("<left>", lstrip=True),
           token("caf\u00e9", special=False, single_word=True), token("\u2603", special=False, rstrip=True)]

# What random texts consist of. The same in every kind, so that the others' tokens are text there.
WORDS = ["the", "quick", "fox", "photograph", "showing", "Vision", "LANGUAGE", "model's", "don't", "WE'LL", "it'\u017f",
         "naturally", "extraordinary", "gradient", "checkpoint", "na\u00efve", "\u00fcber", "\u0440\u0443\u0441\u0441\u043a\u0438\u0439",
         "\u6f22\u5b57", "\u3072\u3089\u304c\u306a", "\ud55c\uad6d\uc5b4", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u05e9\u05dc\u05d5\u05dd",
         "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e44\u0e17\u0e22", "1234567", "3.14", "x_1", "<0x0A>", "<0x", MARK, MARK + MARK + "a", "\u0120the", "zyzzyva"]
SPACES = [" ", " ", " ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2003", "\u180e", "\u200b", "\u0085", "\u2028", "\v", "\f",
          "\x1c", "\ufeff"]
EMOJI = ["\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F1E9\U0001F1EA", "\u2764\ufe0f", "\U0001F44D\U0001F3FD", "\u2603"]
PUNCTUATION = [".", ",", "...", "?!", "--", "(", "\")", "{}", "&&", "\\", "'", "'s", "'Re", "\u2019s", "<", ">", "</", "|>", "[INST", "#", "@"]
# First and last code point.
RANGES = [(0x20, 0x7e), (0x00, 0x1f), (0x7f, 0xa0), (0xa1, 0x17f), (0x300, 0x33f), (0x391, 0x3a1), (0x400, 0x45f), (0x5d0, 0x5ea),
          (0x621, 0x64a), (0x905, 0x939), (0xe01, 0xe30), (0x1100, 0x1112), (0x1161, 0x1175), (0x11a8, 0x11c2), (0x1f00, 0x1f15),
          (0x2000, 0x200f), (0x2028, 0x202f), (0x2100, 0x213a), (0x2460, 0x2473), (0x3041, 0x3096), (0x4e00, 0x9fa5), (0xac00, 0xd7a3),
          (0xe000, 0xe010), (0xf900, 0xf92c), (0xff01, 0xff5e), (0x10330, 0x1034a), (0x1d400, 0x1d454), (0x1f300, 0x1f320),
          (0x20000, 0x20100)]


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        return (z ^ z >> 31) % n


def random_text(number, lists):
    random = Random(number)
    text = ""
    for _ in range(random.below(13)):
        kind = random.below(len(lists) + 2)
        times = 1 + random.below(4)
        if kind < len(lists):
            fragment = lists[kind][random.below(len(lists[kind]))]
            text += fragment * (times if kind == 1 else 1)
            if kind == 0 and random.below(2):
                text += " "
        else:
            first, last = RANGES[random.below(len(RANGES))]
            for _ in range(times):
                text += chr(first + random.below(last - first + 1))
    return text


def corpus():
    yield from (path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    for number in range(2000):
        random = Random(number ^ 0x5EED << 32)
        yield " ".join(WORDS[random.below(len(WORDS) - 6)] for _ in range(10))


def trained(size, pre_tokenizer, specials, alphabet):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False,
                                  limit_alphabet=400)
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def spaced_model(merges_as_text):
    """A vocabulary that writes spaces as U+2581 and knows bytes."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocab, merges = trained(1200, pre_tokenizers.Metaspace(), ["<unk>", "<s>", "</s>", *bytes_], [MARK])
    for run in (1, 2):
        vocab[MARK * run * 2] = len(vocab)
        merges.append([MARK * run] * 2)
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
            "merges": [" ".join(pair) for pair in merges] if merges_as_text else merges}


def byte_model(pattern, **settings):
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    vocab, merges = trained(700, pre_tokenizers.Sequence([split, level]), [], pre_tokenizers.ByteLevel.alphabet())
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": merges, **settings}


def split_and_bytes(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


def template(begin, size):
    return {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin: {"id": begin, "ids": [size], "tokens": [begin]}}}


SPACED_DECODER = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"},
                                                   {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def with_ids(tokens, vocab):
    """added_tokens: those of the vocabulary keep their ids, the others get the next ones."""
    new = iter(range(len(vocab), len(vocab) + len(tokens)))
    listed = [{"id": vocab[t["content"]] if t["content"] in vocab else next(new), **t} for t in tokens]
    return sorted(listed, key=lambda t: t["id"])


def whole(model, tokens, **parts):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": with_ids(tokens, model["vocab"]),
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts, "model": model}


def llama2():
    model = spaced_model(True)
    tokens = [token("<unk>"), token("<s>"), token("</s>"), *FLAGGED]
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK},
                                                      {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]}
    return (whole(model, tokens, normalizer=normalizer, decoder=SPACED_DECODER, post_processor=template("<s>", 1)),
            {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": True})


def mistral():
    model = spaced_model(False)
    tokens = [token("<unk>"), token("<s>"), token("</s>"), token("[INST]"), token("[/INST]"), *FLAGGED]
    metaspace = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": False}
    return (whole(model, tokens, pre_tokenizer=metaspace, decoder=SPACED_DECODER, post_processor=template("<s>", 1)),
            {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False, "add_bos_token": True})


def llama3():
    model = byte_model(LLAMA3, ignore_merges=True)
    for word in ("zyzzyva", "\u0120zyzzyva"):  # no merge leads to them
        model["vocab"][word] = len(model["vocab"])
    tokens = [token(f"<|{name}|>") for name in ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id")] + FLAGGED
    begin = template("<|begin_of_text|>", len(model["vocab"]))
    return (whole(model, tokens, pre_tokenizer=split_and_bytes(LLAMA3), decoder=BYTE_LEVEL,
                  post_processor={"type": "Sequence", "processors": [BYTE_LEVEL, begin]}),
            {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"})


def qwen2():
    model = byte_model(QWEN2)
    tokens = [token(f"<|{name}|>") for name in ("endoftext", "im_start", "im_end")] + FLAGGED
    return (whole(model, tokens, normalizer={"type": "NFC"}, pre_tokenizer=split_and_bytes(QWEN2), decoder=BYTE_LEVEL,
                  post_processor=BYTE_LEVEL),
            {"bos_token": None, "eos_token": "<|endoftext|>", "add_bos_token": False})


KINDS = {"llama2": llama2, "llama3": llama3, "mistral": mistral, "qwen2": qwen2}


class Hash:
    """FNV-1a of 64 bits."""

    def __init__(self):
        self.value = 0xCBF29CE484222325

    def add(self, data):
        for byte in data:
            self.value = (self.value ^ byte) * 0x100000001B3 & (1 << 64) - 1


def add_text(hashed, tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    # Two of three tokens: characters break off.
    broken = tokenizer.decode([one for i, one in enumerate(ids) if i % 3 != 1], skip_special_tokens=True)
    for data in (text.encode(), b"".join(one.to_bytes(4, "little") for one in ids), decoded.encode(), broken.encode()):
        hashed.add(data + b"\xff")
    return ids, decoded, broken


def expected(tokenizer, lists):
    hashed, noted, full = Hash(), [], []
    for number in range(TEXTS):
        text = random_text(number, lists)
        ids, decoded, broken = add_text(hashed, tokenizer, text)
        if number < IN_FULL:
            full.append({"text": text, "ids": ids, "decoded": decoded, "broken": broken})
        if number % NOTED_EVERY == NOTED_EVERY - 1:
            noted.append(f"{hashed.value:016x}")
    return {"full": full, "hashes": noted}


ISOLATED, INVERT = '"behavior":"Isolated"', '"invert":false'
PREFIX, REGEX = '"add_prefix_space":false', '"use_regex":false'
SPLITTERS = '"pretokenizers":['
# Name, kind, and texts of tokenizer.json with those in their place.
VARIANTS = [
    *((f"{behavior} {inverted}", "llama3",
       [[json.dumps(LLAMA3), '"[aeiou]|\\\\s+"'], [ISOLATED, f'"behavior":"{behavior}"'], [INVERT, f'"invert":{inverted}']])
      for behavior in ("Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous") for inverted in ("false", "true")),
    ("text as pattern", "qwen2", [['{"Regex":' + json.dumps(QWEN2) + "}", '{"String":"a."}'], [ISOLATED, '"behavior":"MergedWithNext"']]),
    ("digits", "llama3", [[SPLITTERS, SPLITTERS + '{"type":"Digits","individual_digits":true},']]),
    ("numbers", "llama3", [[SPLITTERS, SPLITTERS + '{"type":"Digits","individual_digits":false},']]),
    ("GPT-2's pattern", "llama3", [[REGEX, '"use_regex":true']]),
    ("space first", "qwen2", [[PREFIX, '"add_prefix_space":true']]),
    # White space that two tokens want.
    ("carriage return", "llama3", [['"content":"<word>","single_word":true,"lstrip":false,"rstrip":false',
                                    '"content":"\\r","single_word":false,"lstrip":false,"rstrip":false']]),
    ("newline to the left", "qwen2", [['"content":"<word>","single_word":true,"lstrip":false,"rstrip":false',
                                       '"content":"\\n","single_word":false,"lstrip":true,"rstrip":false']]),
]
VARIANT_TEXTS = 1000


def make_variants(lists):
    listed = []
    for name, kind, changes in VARIANTS:
        text = (GOLDEN / kind / "tokenizer.json").read_text()
        for old, new in changes:
            assert text.count(old) >= 1, (name, old)
            text = text.replace(old, new, 1)
        tokenizer, hashed = Tokenizer.from_str(text), Hash()
        for number in range(VARIANT_TEXTS):
            add_text(hashed, tokenizer, random_text(number, lists))
        listed.append({"name": name, "kind": kind, "changes": changes, "hash": f"{hashed.value:016x}"})
    golden = {"made_with": {"tokenizers": tokenizers.__version__}, "texts": VARIANT_TEXTS, "variants": listed}
    (GOLDEN / "variants.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


def main():
    if sys.argv[1:] == ["variants"]:
        return make_variants(json.loads((GOLDEN / "texts.json").read_text())["lists"])
    made = {kind: make() for kind, make in KINDS.items()}
    added = sorted({t["content"] for tokenizer, _ in made.values() for t in tokenizer["added_tokens"]})
    lists = [WORDS, SPACES, EMOJI, PUNCTUATION, added]
    golden = {"made_with": {"tokenizers": tokenizers.__version__}, "texts": TEXTS, "noted_every": NOTED_EVERY, "lists": lists,
              "ranges": RANGES, "kinds": {}}
    for kind, (tokenizer, config) in made.items():
        directory = GOLDEN / kind
        directory.mkdir(parents=True, exist_ok=True)
        compact = {"ensure_ascii": False, "separators": (",", ":")}
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer, **compact) + "\n")
        (directory / "tokenizer_config.json").write_text(json.dumps(config, **compact) + "\n")
        golden["kinds"][kind] = expected(Tokenizer.from_str(json.dumps(tokenizer)), lists)
    (GOLDEN / "texts.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    make_variants(lists)


if __name__ == "__main__":
    main()
