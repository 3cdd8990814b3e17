"""The models of `random_models.py` as GGUF files, and llama.cpp answering them: an engine that shares no line with ours.

GGUF files of the Llama family keep the two numbers of a rotary pair side by side, so rows of queries and keys are put in
another order than in Hugging Face files; those of Qwen2 are not. The stretching of Llama 3 is a tensor of factors there.

Run as a script it answers completion requests, one JSON line each, until its input ends: `python random_gguf.py MODEL`.
"""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np

from penstock.engine.config import Config, Rope, read_config
from penstock.engine.rotary import frequencies

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def write_gguf(path: Path, file: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    """Write a model with a vocabulary of plain words: prompts are given as ids, so no text is ever encoded."""
    config = read_config(msgspec.json.encode(file))
    kind = "qwen2" if config.architecture.startswith("Qwen2") else "llama"
    writer = gguf.GGUFWriter(str(path), kind)
    writer.add_context_length(config.window)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if config.rope.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope.factor)
    words = [f"w{number}" for number in range(config.vocab_size)]
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(words))
    writer.add_token_merges(["w 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    for name, tensor in tensors.items():
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(reordered(name, tensor, config, kind)))
    if config.rope.kind == "llama3":
        plain = frequencies(Rope(config.rope.theta), config.head_dim)
        writer.add_tensor("rope_freqs.weight", plain / frequencies(config.rope, config.head_dim))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def reordered(name: str, tensor: np.ndarray, config: Config, kind: str) -> np.ndarray:
    """Put the halves of each head's rotary pairs side by side, as the Llama family of GGUF has them."""
    if kind != "llama" or not ("q_proj" in name or "k_proj" in name):
        return tensor
    heads = config.heads if "q_proj" in name else config.kv_heads
    return tensor.reshape(heads, 2, config.head_dim // 2, -1).swapaxes(1, 2).reshape(tensor.shape)


class LlamaCpp:
    """llama.cpp in a process of its own, on one thread."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def complete(self, **request: Any) -> dict[str, Any]:
        """Answer one request of its `/completion` route."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("llama.cpp ended without an answer")

    def greedy(self, prompt: list[int], tokens: int, *, cached: bool = False) -> list[int]:
        """Continue with the most probable tokens but never the stop token; give their ids."""
        answer = self.complete(prompt=prompt, n_predict=tokens, temperature=0, ignore_eos=True, cache_prompt=cached)
        return [int(number) for number in re.findall(r"w(\d+)", answer["choices"][0]["text"])]

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used so far (Linux)."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def llamacpp(model: Path, *, exact: bool = True) -> Iterator[LlamaCpp]:
    """Start llama.cpp on a model; end it afterwards. `exact` keeps all in 32-bit floats; else its own, faster defaults."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(model), *(["exact"] if exact else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield LlamaCpp(process)
        finally:
            process.kill()


def main(path: str, *, exact: bool) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 4352
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    if exact:
        params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    for line in sys.stdin:
        print(json.dumps(server.handle_completions(json.loads(line))), flush=True)
    del server


if __name__ == "__main__":
    main(sys.argv[1], exact="exact" in sys.argv)
