"""Decoders of the families beside LLaMA-2, as Transformers computes them."""

import torch
import transformers

from . import batches, model_cases, specs

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# case, model_type, keys of config.json beside those of specs.lm()
FAMILIES = (
    ("mistral", "mistral", {"sliding_window": 7, "head_dim": 12, "num_key_value_heads": 2,
                            "rope_theta": 1e6, "rms_norm_eps": 1e-5}),
    ("qwen2", "qwen2", {"num_key_value_heads": 2, "rope_theta": 1e6, "tie_word_embeddings": True,
                        "eos_token_id": [3, 4]}),
    ("qwen2_upper_window", "qwen2", {"num_key_value_heads": 1, "use_sliding_window": True,
                                     "sliding_window": 5, "max_window_layers": 1}),
    ("llama3", "llama", {"num_key_value_heads": 2, "head_dim": 16, "rope_scaling": LLAMA3_ROPE,
                         "rope_theta": 500000.0, "tie_word_embeddings": True,
                         "eos_token_id": [5, 6, 7]}),
    ("llama_biases", "llama", {"attention_bias": True, "mlp_bias": True}),
)
GREEDY_TOKENS = 24


def greedy(model, embed, prompt):
    """The most likely token after all before it, again and again, without a cache."""
    ids = list(prompt)
    for _ in range(GREEDY_TOKENS):
        logits = model(inputs_embeds=embed(torch.tensor([ids])), use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
    return ids[len(prompt):]


def family_cases(golden):
    """Logits, sum of the loss and every gradient in fp64; the tokens of greedy decoding."""
    for case, model_type, changes in FAMILIES:
        spec = specs.model(lm_changes=changes)
        config = transformers.AutoConfig.for_model(
            model_type, **spec["lm"], torch_dtype="float32", attn_implementation="eager")
        model = transformers.AutoModelForCausalLM.from_config(config)
        config.architectures = [type(model).__name__]
        golden.cases[case] = spec | {"config_json": config.to_json_string(use_diff=True)}
        model_cases.set_weights(model, "lang_decoder.")
        embed = torch.nn.Embedding(spec["lm"]["vocab_size"], spec["lm"]["hidden_size"])
        model_cases.set_weights(embed, "lang_embed.")
        model.double().eval()
        embed.double()
        batch = batches.make(case, spec, ["t4 a19", "t1 a3 t5 a2"])
        batches.add(golden, case, batch)
        total, logits = model_cases.text_loss(model, embed, batch)
        total.backward()
        golden.add(case, "loss_sum", total.reshape(1))
        golden.add(case, "logits", torch.cat(logits))
        gradients = model_cases.gradients_of(model, "lang_decoder.")
        gradients |= model_cases.gradients_of(embed, "lang_embed.")
        model_cases.add_gradients(golden, case, gradients)
        with torch.no_grad():
            tokens = greedy(model, embed, batch["token_ids"][1])
        golden.add(case, "greedy", torch.tensor(tokens))
