"""Answers of the original's two tools, eval/batch_generation.py and chat/chat.py.

Both programs are run as they are, from their command line and their input to their output. Only what
they load is ours: a tiny model with hashed weights and the tokenizer of tests/golden/data. As there
is no GPU, what they move to one stays, and only pixels are rounded to fp16, not weights.
"""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import sys
import tempfile
import types
from unittest import mock

import torch
import transformers

from . import hash_weights, model_cases, original, specs

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = "tests/golden/data/images"
LONGEST = 10  # tokens of an answer
# The end token's row of the head is so much larger that some answers end before.
END_SCALE = 2.5
A, B, C = (f"{IMAGES}/{name}" for name in ("420.jpg", "rgb.png", "tall.png"))

# name -> rounds of [question, "path path"]. Both tools want an image in the first round.
CONVERSATIONS = {
    "one image": [["What is this?", A]],
    "text follows": [["What do you see?", A], ["Which colour is it?"], ["Sure?"]],
    "an image later": [["What is this?", A], ["And why?"], ["What is this one?", B]],
    "an image in each round": [["One?", A], ["Two?", B], ["Three?", C], ["Four?", A]],
    "two images": [["Compare, please.", f"{A} {B}"]],
    "two images, one later": [["Compare these.", f"{B} {C}"], ["And with this one?", A]],
    "two images later": [["What is this?", C], ["And these?", f"{A} {B}"], ["Which is red?"]],
    "three and two": [["Tell them apart.", f"{A} {B} {C}"], ["Go on."], ["Now?", f"{C} {A}"]],
    'comma, "quote"': [['Look:\nwhat is "this", and where?', B], ['It\'s "red", isn\'t it?\r\n']],
    "Größe 漢字": [["  Où est-il ? 漢字 \U0001F600 ", A], ["Et l\u2019autre, à gauche ?", C]],
}


def load_tool(loaded, reference, path):
    """One of the two programs as a module."""
    sys.modules["deepspeed"].add_config_arguments = lambda parser: parser
    sys.modules.setdefault("termcolor", types.SimpleNamespace(colored=lambda text, color: text))
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, f"{reference}/{path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DST = loaded.dst
    return module


def load_tokenizer(loaded):
    tokenizer = transformers.LlamaTokenizer(str(ROOT / "tests/golden/data/tokenizer.model"), legacy=True)
    loaded.dst.add_special_token(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    # In the fast tokenizer, which the tools load, <PAD> stays a special token, and is not decoded.
    tokenizer.add_special_tokens({"additional_special_tokens": ["<PAD>"]})
    return tokenizer


def describe_model(tokenizer, mmca):
    return specs.model(mmca=mmca, lm_changes={"vocab_size": len(tokenizer), "max_position_embeddings": 4096}) | {
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": tokenizer.eos_token_id,
        "compat": True,
    }


def make_model(loaded, spec, tokenizer):
    model = original.build_model(loaded, spec, tokenizer)
    model_cases.set_weights(model, "")
    with torch.no_grad():
        model.lang_decoder.lm_head.weight[tokenizer.eos_token_id] *= END_SCALE
    config = model.lang_decoder.generation_config
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    return model


class Recorder:
    """What model.generate is given and returns, and by how much each token was the likeliest."""

    def __init__(self, model):
        self.calls, self.margins = [], []
        self.generate, self.decoder = model.generate, model.lang_decoder.forward
        model.generate = self.run
        model.lang_decoder.forward = self.forward

    def run(self, img, lang, generation_length):
        del generation_length  # 256 in batch_generation.py
        output = self.generate(img, lang, generation_length=LONGEST)
        self.calls.append((lang[0].tolist(), output[0][0].tolist(), output[1]))
        return output

    def forward(self, *args, **options):
        output = self.decoder(*args, **options)
        first, second = output.logits[0, -1].topk(2).values.tolist()
        self.margins.append(first - second)
        return output


@contextlib.contextmanager
def on_the_cpu(directory, arguments, lines=()):
    """The tools' surroundings: their working directory, command line and terminal, no GPU."""
    half, to = torch.Tensor.half, torch.nn.Module.to
    patches = [
        mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
        mock.patch.object(torch.Tensor, "half", lambda tensor: half(tensor).float()),
        mock.patch.object(torch.nn.Module, "half", lambda module: module),
        mock.patch.object(torch.nn.Module, "to",
                          lambda module, *a, **k: module if a == ("cuda",) else to(module, *a, **k)),
        mock.patch.object(torch, "load", lambda *_, **__: {}),
        mock.patch.object(sys, "argv", ["tool", "--lm_model_name_or_path", "llama", *arguments]),
        mock.patch("builtins.input", mock.Mock(side_effect=list(lines))),
    ]
    before = os.getcwd()
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


def run_batch(tool, directory):
    """The whole input in one call; the text of its CSV."""
    data = directory / "eval/eval_data"
    data.mkdir(parents=True)
    (data / "golden.json").write_text(json.dumps(CONVERSATIONS))
    with on_the_cpu(directory, ["--eval_data", "golden", "--checkpoint_path", ".", "--checkpoint_names", "x"]):
        tool.main()
    return (directory / "results.csv").read_bytes().decode()


def run_chat(tool, directory):
    """One conversation after the other, with `clear` between them."""
    lines = []
    for rounds in CONVERSATIONS.values():
        for question, *images in rounds:
            lines += [images[0] if images else "na", question]
        lines += ["na", "clear"]
    lines[-1] = "quit"
    with on_the_cpu(directory, ["--checkpoint_path", "."], lines):
        tool.main()


def new_ids(history, call):
    """The round's own part of the prompt; the history takes it and the answer over."""
    prompt, answer, _ = call
    assert prompt[: len(history)] == history
    return prompt[len(history) :], answer


def describe_conversations(calls, tokenizer):
    calls, described = iter(calls), []
    for name, rounds in CONVERSATIONS.items():
        history, records = [], []
        for question, *images in rounds:
            call = next(calls)
            prompt, answer = new_ids(history, call)
            records.append({"question": question, "images": images[0] if images else "",
                            "prompt": prompt, "answer": answer, "text": call[2]})
            ends = answer[-1] == tokenizer.eos_token_id
            history = call[0] + (answer[:-1] if ends else answer) + [tokenizer.eos_token_id]
        described.append({"name": name, "rounds": records})
    return described


def all_runs(loaded, reference, system):
    """[{tool, mmca, csv, conversations}], the model of each, and the least margin."""
    loaded.dst.DEFAULT_PROMPT = system
    tokenizer = load_tokenizer(loaded)
    runs, margins = [], []
    for path, run in (("eval/batch_generation.py", run_batch), ("chat/chat.py", run_chat)):
        tool = load_tool(loaded, reference, path)
        for mmca in (False, True):
            spec = describe_model(tokenizer, mmca)
            model = make_model(loaded, spec, tokenizer)
            recorder = Recorder(model)
            processor = transformers.CLIPImageProcessor(
                size={"shortest_edge": spec["image_size"]},
                crop_size={"height": spec["image_size"], "width": spec["image_size"]})
            made = lambda **_: (model, processor, tokenizer)
            tool.create_model_and_transforms = tool.create_dsvl_model_and_transforms = made
            tool.AutoTokenizer = types.SimpleNamespace(from_pretrained=lambda *_, **__: tokenizer)
            with tempfile.TemporaryDirectory() as directory:
                directory = pathlib.Path(directory)
                (directory / "tests").symlink_to(ROOT / "tests")
                csv = run(tool, directory)
            runs.append({"tool": run.__name__.removeprefix("run_"), "model": spec, "csv": csv or "",
                         "conversations": describe_conversations(recorder.calls, tokenizer)})
            margins += recorder.margins
    return runs, sorted(margins)
