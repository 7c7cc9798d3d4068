#!/usr/bin/env python3
"""Writes tests/golden/adapter: a tiny LLaMA, adapters for it as PEFT saves them, the logits that PEFT gets with each, the losses and
logits of one of them in training with PEFT's optimizer of LoRA+, and the gradients of those with DoRA, with patterns, and with modules that are trained whole.

usage: scripts/make_golden_adapter.py

Made with torch 2.5.1, transformers 4.46.3 and peft 0.13.2. By hand only, no part of `make check`.
"""
import os
import shutil

import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
from transformers import AdamW, LlamaConfig, LlamaForCausalLM

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "adapter")
TOKENS = [1, 4, 9, 5, 7, 2, 3]
# By name: targets as a list of last names, and as a pattern of whole paths with the scale of rank-stabilised LoRA; DoRA on all linears;
# ranks and alphas by patterns, which differ within joined layers; the tables of tokens and all norms whole beside LoRA.
ADAPTERS = {
    "listed": dict(r=3, lora_alpha=2, target_modules=["q_proj", "v_proj"]),
    "rslora": dict(r=2, lora_alpha=5, use_rslora=True, target_modules=r"model\.layers\.1\.(mlp\.up_proj|self_attn\.o_proj)"),
    "dora": dict(r=3, lora_alpha=4, use_dora=True, target_modules="all-linear"),
    "patterns": dict(r=3, lora_alpha=2, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"],
                     rank_pattern={"q_proj": 4, "layers.1.self_attn.v_proj": 2}, alpha_pattern={"q_proj": 6, "down_proj": 5.5}),
    "saved": dict(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"], modules_to_save=["embed_tokens", "lm_head", "norm"]),
}


def base_model():
    torch.manual_seed(11)
    config = LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         vocab_size=11, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=5000.0, initializer_range=0.3)
    return LlamaForCausalLM(config).eval()


def adapted_model(choices):
    torch.manual_seed(12)
    model = get_peft_model(base_model(), LoraConfig(task_type="CAUSAL_LM", **choices)).eval()
    for parameter_name, parameter in model.named_parameters():
        if "lora_magnitude_vector" in parameter_name:  # the norms of the weight's rows
            parameter.data *= 1 + 0.2 * torch.randn(parameter.shape)
        elif "lora_" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.3)
        elif "modules_to_save" in parameter_name:
            parameter.data += 0.2 * torch.randn(parameter.shape)
    return model


def save_adapter(name, choices):
    model = adapted_model(choices)
    model.base_model.model.config._name_or_path = model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(os.path.join(ROOT, name), save_embedding_layers=False)  # else it asks the hub for "base"
    os.remove(os.path.join(ROOT, name, "README.md"))
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].contiguous()


def train_with_lora_plus(name, steps=4):
    """What tests/checkpoint/adapter_test.cpp trains too."""
    model = adapted_model(ADAPTERS[name])
    optimizer = create_loraplus_optimizer(model, AdamW, lr=2e-3, loraplus_lr_ratio=16, betas=(0.9, 0.95), eps=1e-6,
                                          loraplus_weight_decay=0.1)
    tokens = torch.tensor([TOKENS])
    losses = []
    for _ in range(steps):
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    with torch.no_grad():
        logits = model(tokens).logits[0].contiguous()
    return {f"{name}_losses": torch.tensor(losses), f"{name}_trained": logits}


def gradients(name):
    """Of the mean loss: of the adapter's tensors, under their names in its file, and of the embedded tokens."""
    model = adapted_model(ADAPTERS[name])
    tokens = torch.tensor([TOKENS])
    embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
    model(inputs_embeds=embedded, labels=tokens).loss.backward()
    grads = {f"{name}_grad.embedded": embedded.grad[0].contiguous()}
    for parameter_name, parameter in model.named_parameters():
        if parameter.grad is not None:
            file_name = parameter_name.replace(".default.weight" if "magnitude" in parameter_name else ".default", "")
            file_name = file_name.replace(".modules_to_save", "")
            grads[f"{name}_grad.{file_name}"] = parameter.grad
    return grads


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    base = base_model()
    base.save_pretrained(os.path.join(ROOT, "base"))
    os.remove(os.path.join(ROOT, "base", "generation_config.json"))
    logits = {name: save_adapter(name, choices) for name, choices in ADAPTERS.items()}
    logits["base"] = base(torch.tensor([TOKENS])).logits[0].detach().contiguous()
    logits.update(train_with_lora_plus("rslora"))
    for name in ("dora", "patterns", "saved"):
        logits.update(gradients(name))
    save_file({**logits, "tokens_as_float": torch.tensor(TOKENS, dtype=torch.float32)}, os.path.join(ROOT, "logits.safetensors"))


if __name__ == "__main__":
    main()
