"""Model folders with random weights, as they would come from the hub, for tests and benchmarks.

The weights are made from the raw 64-bit numbers of NumPy's PCG64, which NumPy promises never to change, so that checked-in
results stay true: uniform, with the spread that keeps activations of order one. The same seed gives the same model.
"""

import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from penstock.engine.config import read_config
from penstock.engine.tokenizer import train
from penstock.engine.weights import write_safetensors

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = "the cat and the hat sat on the mat; then a hen ran in. " * 3

SMALL: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "eos_token_id": 1,
    "bos_token_id": 0,
}
LLAMA = SMALL | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "tie_word_embeddings": True,
}
LLAMA_BIASED = SMALL | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": True,
    "mlp_bias": True,
    "head_dim": 32,
    "num_key_value_heads": 4,
    "rope_theta": 10000.0,
    "rope_scaling": {"type": "linear", "factor": 4.0},
    "tie_word_embeddings": False,
}
MISTRAL = SMALL | {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "num_key_value_heads": 1,
    "sliding_window": 24,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
QWEN2 = SMALL | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "use_sliding_window": False,
    "sliding_window": 24,
    "max_window_layers": 2,
    "tie_word_embeddings": True,
}
QWEN2_SLIDING = QWEN2 | {"use_sliding_window": True, "tie_word_embeddings": False}
CONFIGS = {
    "llama": LLAMA,
    "llama_biased": LLAMA_BIASED,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "qwen2_sliding": QWEN2_SLIDING,
}


class Uniform:
    """Numbers between -1 and 1, times what gives them a spread; the same from the same seed, in any version of NumPy."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def __call__(self, shape: tuple[int, ...], spread: float) -> np.ndarray:
        raw = self._bits.random_raw(math.prod(shape)) >> np.uint64(40)
        uniform = raw.astype(np.float32) / np.float32(1 << 23) - np.float32(1)
        return (uniform * np.float32(spread * math.sqrt(3))).reshape(shape)


def shapes(file: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor that a configuration asks for, in a fixed order."""
    config = read_config(msgspec.json.encode(file))
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.layers):
        at = f"model.layers.{layer}."
        found |= {f"{at}input_layernorm.weight": (hidden,), f"{at}post_attention_layernorm.weight": (hidden,)}
        for name, rows, columns, biased in (
            ("self_attn.q_proj", queries, hidden, config.qkv_bias),
            ("self_attn.k_proj", keys, hidden, config.qkv_bias),
            ("self_attn.v_proj", keys, hidden, config.qkv_bias),
            ("self_attn.o_proj", hidden, queries, config.output_bias),
            ("mlp.gate_proj", inner, hidden, config.mlp_bias),
            ("mlp.up_proj", inner, hidden, config.mlp_bias),
            ("mlp.down_proj", hidden, inner, config.mlp_bias),
        ):
            found[f"{at}{name}.weight"] = (rows, columns)
            if biased:
                found[f"{at}{name}.bias"] = (rows,)
    found["model.norm.weight"] = (hidden,)
    if not config.tied:
        found["lm_head.weight"] = (config.vocab_size, hidden)
    return found


def random_tensors(file: dict[str, Any], seed: int = 7) -> dict[str, np.ndarray]:
    """Weights for a configuration: norms about one, biases small, the rest scaled by how many inputs it adds up."""
    uniform = Uniform(seed)
    tensors = {}
    for name, shape in shapes(file).items():
        if name.endswith("norm.weight"):
            tensors[name] = 1 + uniform(shape, 0.2)
        elif name.endswith(".bias"):
            tensors[name] = uniform(shape, 0.3)
        elif name.startswith("model.embed"):
            tensors[name] = uniform(shape, 0.25)
        else:
            tensors[name] = uniform(shape, 1.5 / math.sqrt(shape[1]))
    return tensors


def write_model(
    folder: Path,
    file: dict[str, Any],
    *,
    seed: int = 7,
    dtype: Any = "F32",
    shards: int = 1,
    tensors: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write config.json and the weights, in one file or in several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes(msgspec.json.encode(file))
    tensors = random_tensors(file, seed) if tensors is None else tensors
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype=dtype, metadata={"format": "pt"})
        return folder
    where = {name: f"model-{number % shards + 1:05}-of-{shards:05}.safetensors" for number, name in enumerate(tensors)}
    for name in sorted(set(where.values())):
        part = {tensor: tensors[tensor] for tensor, at in where.items() if at == name}
        write_safetensors(folder / name, part, dtype=dtype, metadata={"format": "pt"})
    total = sum(tensor.size for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_bytes(msgspec.json.encode(index))
    return folder


def write_folder(folder: Path, file: dict[str, Any], **options: Any) -> Path:
    """Write a whole folder: the model, a byte-level tokenizer with control tokens, a chat template."""
    write_model(folder, file, **options)
    (folder / "tokenizer.json").write_bytes(train([TEXT], 288, SPECIAL).to_json())
    words = {"bos_token": SPECIAL[0], "eos_token": {"content": SPECIAL[3]}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(words))
    (folder / "generation_config.json").write_bytes(msgspec.json.encode({"eos_token_id": [1, 2]}))
    return folder


if __name__ == "__main__":
    write_folder(Path(sys.argv[2]), CONFIGS[sys.argv[1]])
