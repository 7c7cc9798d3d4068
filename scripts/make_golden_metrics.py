#!/usr/bin/env python3
"""Golden file tests/golden/data/metrics.json: what the reference programs make of answers and right answers.

BLEU, CIDEr-D and the words of captions come from pycocoevalcap (made with 1.2, whose PTBTokenizer needs Java); the accuracy of VQA from
vqaEval.py of its authors, whose quotation marks are straightened before it runs: they are typographic in the published file. Exact match
is the formula of SQuAD, written out here. vqaEval.py prepares no answer where all people agree; there the cases need no preparing.

usage: make_golden_metrics.py VQA_EVAL     VQA_EVAL: PythonEvaluationTools/vqaEvaluation/vqaEval.py of GT-Vision-Lab/VQA. Needs pycocoevalcap.
"""
import json
import pathlib
import re
import string
import sys
import types

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/data/metrics.json"

TEXTS = [
    "A man's dog isn't big, it's small.", "Two dogs (black) run; they can't stop!", "The U.S. flag at 10:30 p.m.", "a t-shirt and/or jeans",
    "It costs $3,000.50 or 5%...", '"Hello," he said.', "he'll gonna go, cannot wanna", "don’t “quote”", "Mr. Smith vs. Dr. No",
    "black & white photo", "e.g. this, i.e. that", "the dogs' bowl", "a_b c*d #tag @me", "http://x.org/a.html", "1/2 cup 3-4 people",
    "café naïve", "word.Another one", "no . space , here", "it 's", "hot-dog -- nice - yes", "I'd've", "CANNOT", "st. john", "5th avenue",
    "20's", "what's up?!", "[bracket] {brace}", "50% off; 3.5 mm", "x=y+z", "i'm o'clock", "the man,who ran", "we're they've who'd",
    "wait.. what", "lots of !!! marks", "#1", "let's", "ma'am", "rock n' roll", "mother-in-law's", "in the '90s", ""]

CAPTIONS = [
    ("a red ball on a table", ["a red ball lies on the table", "there is a red ball on a wooden table", "red ball"]),
    ("two dogs are playing in the snow", ["two dogs play in the snow", "a pair of dogs is playing in deep snow"]),
    ("a man", ["a man rides a horse along the beach", "man on a horse at the sea"]),
    ("the the the the the the", ["a cat sits on the mat", "the cat on the mat"]),
    ("A woman is holding an umbrella, and it's raining.", ["A woman holding an umbrella in the rain.", "It's raining on a woman with an umbrella"]),
    ("", ["an empty street at night"]),
    ("a kitchen with a stove, a sink and a large white refrigerator that stands next to the open window", ["a kitchen with a stove and a sink"])]

VQA = [
    ("yes", ["yes"] * 10), ("Yes.", ["yes"] * 9 + ["no"]), ("no", ["yes"] * 8 + ["no"] * 2), ("two", ["2"] * 3 + ["3"] * 7),
    ("a red ball", ["red ball"] * 4 + ["ball"] * 6), ("dont know", ["don't know"] * 5 + ["yes"] * 5), ("none", ["0"] * 1 + ["1"] * 9),
    ("3,000", ["3,000"] * 6 + ["3000"] * 4), ("black/white", ["black white"] * 2 + ["black and white"] * 8),
    ("it's 3.5 m.", ["its 3.5 m"] * 3 + ["it's 3.5 m."] * 7), ("The,  answer is [this]?", ["answer is this"] * 7 + ["that"] * 3),
    ("10:30", ["10:30"] * 10), ("10:30", ["10:30"] * 9 + ["half past ten"]), ("whos there", ["who's there"] * 9 + ["nobody"]), ("couldnt've been", ["couldn't've been"] * 5 + ["no"] * 5), ("left\nside", ["left side"] * 4 + ["left"] * 6)]

EXACT = [
    ("The red ball.", ["red ball"]), ("It is a red ball", ["red ball", "ball"]), ("reddish ball", ["red ball"]), ("3.5", ["35"]),
    ("A  cat!", ["dog", "cat"]), ("cat-dog", ["cat dog"]), ("catdog", ["cat-dog"])]


def squad(text):
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def vqa_accuracies(path):
    source = pathlib.Path(path).read_text(encoding="utf-8").replace("’", "'")
    module = types.ModuleType("vqa_eval")
    exec(re.sub(r'print ("[^"]*")', r"print(\1)", source), module.__dict__)  # written for Python 2
    accuracies = []
    for answer, right in VQA:
        questions = types.SimpleNamespace(qa={1: {
            "answers": [{"answer": text, "answer_id": i} for i, text in enumerate(right)], "question_type": "", "answer_type": ""}}, getQuesIds=lambda: [1])
        results = types.SimpleNamespace(qa={1: {"answer": answer}}, getQuesIds=lambda: [1])
        judge = module.VQAEval(questions, results, n=9)
        judge.updateProgress = lambda progress: None
        judge.evaluate()
        accuracies.append(judge.accuracy["overall"] / 100)
    return accuracies


def main():
    words = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(TEXTS)})
    right = PTBTokenizer().tokenize({i: [{"caption": text} for text in texts] for i, (_, texts) in enumerate(CAPTIONS)})
    given = PTBTokenizer().tokenize({i: [{"caption": text}] for i, (text, _) in enumerate(CAPTIONS)})
    bleu = {name: Bleu(4).compute_score({i: right[i] for i in chosen}, {i: given[i] for i in chosen}, verbose=0)[0]
            for name, chosen in (("all", range(len(CAPTIONS))), ("first_two", range(2)), ("short", range(3)))}
    golden = {
        "words": [{"text": text, "words": words[i][0].split()} for i, text in enumerate(TEXTS)],
        "captions": [{"answer": answer, "right": texts} for answer, texts in CAPTIONS],
        "bleu": bleu,
        "cider": float(Cider().compute_score(right, given)[0]),
        "vqa": [{"answer": answer, "right": texts, "accuracy": accuracy}
                for (answer, texts), accuracy in zip(VQA, vqa_accuracies(sys.argv[1]))],
        "exact": [{"answer": answer, "right": texts, "exact": int(any(squad(answer) == squad(text) for text in texts)),
                   "contains": int(any(squad(text) and f" {squad(text)} " in f" {squad(answer)} " for text in texts))}
                  for answer, texts in EXACT]}
    GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


main()
