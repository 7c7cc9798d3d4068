#!/usr/bin/env python3
"""The model of tests/bench/batch_decode_bench.cpp in Transformers: greedy generate() in fp32 on the CPU.

usage: bench_decode.py [threads] [rounds]; prints "transformers_1 VALUE" and "transformers_8 VALUE": the answers' tokens a
second with 1 and with 8 prompts of equal length, prompts included in the time, the best of the rounds
"""
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

PROMPT, ANSWER = 128, 64


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=8, num_attention_heads=16,
        num_key_value_heads=16, max_position_embeddings=1024, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).eval()
    for count in (1, 8):
        prompts = torch.randint(3, 32000, (count, PROMPT))
        best = 0
        for _ in range(rounds):
            begin = time.perf_counter()
            with torch.inference_mode():
                out = model.generate(
                    prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=ANSWER, min_new_tokens=ANSWER,
                    do_sample=False, pad_token_id=0)
            assert out.shape == (count, PROMPT + ANSWER), out.shape
            best = max(best, count * ANSWER / (time.perf_counter() - begin))
        print(f"transformers_{count} {best:.3f}", flush=True)


if __name__ == "__main__":
    main()
