"""A small random model as a GGUF file, and the real llama.cpp server on it.

The weights are noise from a fixed seed: it speaks gibberish, deterministically at temperature 0, which is all that tests of
framing, usage and limits need. Run as a script it serves the model: `python model.py model.gguf PORT`.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, BLOCKS, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 2, 128, 4096
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("e", "r"), ("a", "n"), ("o", "n")]


def printable_bytes():
    """GPT-2's mapping of the 256 bytes to printable characters."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    mapping, extra = {byte: chr(byte) for byte in plain}, 256
    for byte in range(256):
        if byte not in mapping:
            mapping[byte] = chr(extra)
            extra += 1
    return [mapping[byte] for byte in range(256)]


def write_model(path: Path) -> Path:
    """Write the model; 0.5 MB."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = [*printable_bytes(), *control, *(left + right for left, right in MERGES)]
    kinds = [gguf.TokenType.CONTROL if word in control else gguf.TokenType.NORMAL for word in words]
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in MERGES])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(7)

    def noise(*shape):
        return (rng.standard_normal(shape) * 0.08).astype(np.float32)

    writer.add_tensor("token_embd.weight", noise(len(words), WIDTH))
    writer.add_tensor("output.weight", noise(len(words), WIDTH))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    kv_rows = WIDTH // HEADS * KV_HEADS
    for block in range(BLOCKS):
        name = f"blk.{block}."
        for tensor, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", kv_rows, WIDTH),
            ("attn_v", kv_rows, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", FEED_FORWARD, WIDTH),
            ("ffn_up", FEED_FORWARD, WIDTH),
            ("ffn_down", WIDTH, FEED_FORWARD),
        ):
            writer.add_tensor(f"{name}{tensor}.weight", noise(rows, columns))
        writer.add_tensor(f"{name}attn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{name}ffn_norm.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def serve(path: str, port: int) -> None:
    """Serve until the standard input closes."""
    import xllamacpp as xlc

    params = xlc.CommonParams()
    params.model.path = path
    params.n_ctx = 2048
    params.n_parallel = 2
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.endpoint_metrics = True
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xlc.Server(params)
    print("serving", flush=True)  # after this line the model answers
    sys.stdin.read()
    del server


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
