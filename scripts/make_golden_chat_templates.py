#!/usr/bin/env python3
"""Golden file tests/golden/data/chat_templates.json: what Transformers' apply_chat_template() makes of conversations, ids and which
of them the assistant says, with the tokenizers of tests/golden/data/tokenizers.

The templates below write what the published ones of LLaMA-3-Instruct, ChatML, Vicuna 1.5 and Mistral-Instruct write; {% generation %}
marks what is learnt. A newline that a template puts behind the last turn is left out, because nothing comes after it.

usage: make_golden_chat_templates.py     Needs transformers (made with 5.24.0) and tokenizers.
"""
import json
import pathlib

import transformers
from transformers import PreTrainedTokenizerFast

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/data"

LLAMA3 = """
{%- for m in messages -%}
  {%- if loop.first %}{{ bos_token }}{% endif -%}
  {{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}
  {%- if m.role == 'assistant' -%}
    {% generation %}{{ m.content | trim + '<|eot_id|>' }}{% endgeneration %}
  {%- else -%}
    {{ m.content | trim + '<|eot_id|>' }}
  {%- endif -%}
{%- endfor -%}"""

CHATML = """
{%- for m in messages -%}
  {{ '<|im_start|>' + m.role + '\n' }}
  {%- if m.role == 'assistant' -%}
    {% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}
  {%- else -%}
    {{ m.content + '<|im_end|>' }}
  {%- endif -%}
  {{ '\n' }}
{%- endfor -%}"""

VICUNA = """
{{- bos_token -}}
{%- for m in messages -%}
  {%- if m.role == 'system' -%}
    {{ m.content + ' ' }}
  {%- elif m.role == 'user' -%}
    {{ 'USER: ' + m.content + ' ASSISTANT:' }}
  {%- else -%}
    {% generation %}{{ ' ' + m.content + eos_token }}{% endgeneration %}
  {%- endif -%}
{%- endfor -%}"""

MISTRAL = """
{{- bos_token -}}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}{% set rest = messages[1:] -%}
{%- else %}{% set system = '' %}{% set rest = messages %}{% endif -%}
{%- for m in rest -%}
  {%- if m.role == 'user' -%}
    {{ '[INST] ' + (system if loop.first else '') + m.content + 'SPACE[/INST]' }}
  {%- else -%}
    {% generation %}{{ ' ' + m.content + eos_token }}{% endgeneration %}
  {%- endif -%}
{%- endfor -%}"""

# Name, directory, template, newline behind the last turn.
CASES = [("llama3", "llama3", LLAMA3, False), ("chatml", "qwen2", CHATML, True), ("vicuna", "llama2", VICUNA, False),
         ("vicuna", "mistral", VICUNA, False), ("mistral", "llama2", MISTRAL.replace("SPACE", " "), False),
         ("mistral", "mistral", MISTRAL.replace("SPACE", ""), False)]

SYSTEM = "You describe pictures. Be brief."
# System text or None, then question, images, answer of each round.
CONVERSATIONS = [
    (SYSTEM, [("What is shown?", 0, "A red circle.")]),
    (None, [("What is shown?", 1, "A red circle."), ("And its colour?", 0, "It's 100% red\n\nand round."), ("Why?", 2, "the photograph")]),
    (SYSTEM, [("Compare both: 1234 na\u00efve \u6f22\u5b57", 2, "\U0001F600 e\u0301 12345"), ("  x <both> y", 0, "don't new words <word>")]),
    (SYSTEM, [("", 1, "showing"), ("two\nlines\n", 0, "ends with a space "), ("  spaces  ", 0, "\u3000")]),
    # Tokens that span prompt and answer; a system text with white space around it.
    ("\n " + SYSTEM + " \n\n", [("What?\n", 0, "\n\nred"), (" ", 1, " <both>circle"), ("Why?", 0, "\t\n\n\n x")]),
]


def messages(system, rounds):
    listed = [{"role": "system", "content": system}] if system else []
    for question, images, answer in rounds:
        listed += [{"role": "user", "content": "<image>\n" * images + question}, {"role": "assistant", "content": answer}]
    return listed


def tokenizer_of(kind, template):
    directory = GOLDEN / "tokenizers" / kind
    config = json.loads((directory / "tokenizer_config.json").read_text())
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"), bos_token=config["bos_token"],
                                        eos_token=config["eos_token"], chat_template=template, clean_up_tokenization_spaces=False)
    tokenizer.add_tokens(["### Image:", "<image>"], special_tokens=True)
    return tokenizer


def main():
    golden = {"made_with": {"transformers": transformers.__version__}, "cases": []}
    for name, kind, template, newline in CASES:
        tokenizer = tokenizer_of(kind, template)
        for system, rounds in CONVERSATIONS:
            made = tokenizer.apply_chat_template(messages(system, rounds), return_dict=True, return_assistant_tokens_mask=True)
            ids, mask = made["input_ids"], made["assistant_masks"]
            if newline:
                ids, mask = ids[:-1], mask[:-1]
            golden["cases"].append({
                "template": name, "tokenizer": kind, "system": system,
                "rounds": [{"question": q, "images": n, "answer": a} for q, n, a in rounds], "ids": ids, "said": mask})
    (GOLDEN / "chat_templates.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
