"""The tiny models of the golden cases; the C++ side reads them back from the files."""

IMAGE_TOKEN, PAD_TOKEN, VOCAB = 60, 2, 61


def vision(**changes):
    return {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 12,
        "patch_size": 4,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    } | changes


SIGLIP = {"family": "siglip", "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
QWEN_VL = {
    "family": "qwen_vl",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "pool_queries": 9,
    "pool_width": 128,
}


def lm(**changes):
    return {
        "hidden_size": 32,
        "intermediate_size": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": VOCAB,
        "max_position_embeddings": 640,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    } | changes


def model(projection="baseline", mmca=False, vision_changes=None, lm_changes=None, **more):
    changes = dict(lm_changes or {})
    if projection == "perceiver":
        changes.setdefault("hidden_size", 128)
    return {
        "vision": vision(**(vision_changes or {})),
        "lm": lm(**changes),
        "projection": projection,
        "mmca": mmca,
        "image_size": 12,
        "image_token_id": IMAGE_TOKEN,
        "pad_token_id": PAD_TOKEN,
    } | more
