"""Small random models with a vocabulary and a chat template that somebody uses, and llama.cpp counting their prompts."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import splintr

from penstock.tokens.vocabularies import KNOWN
from tokens.oracles import letters_of_bytes, merges_of, ordinary

WIDTH, HEADS, FEED_FORWARD, CONTEXT = 32, 2, 32, 8192

LEARNED = 80_000
"""Tokens of a vocabulary that a file holds: `assistant`, which every template writes, is the 78,191st of many."""


def write_model(path: Path, tokenizer: dict[str, Any], template: str = "") -> Path:
    """Write a Llama of one block. `tokenizer`: model, tokens, kinds, merges or scores, pre, bos, space_prefix."""
    tokens = tokenizer["tokens"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model(tokenizer["model"])
    writer.add_tokenizer_pre(tokenizer.get("pre", "default"))
    writer.add_token_list(tokens)
    writer.add_token_types(tokenizer["kinds"])
    if "merges" in tokenizer:
        writer.add_token_merges(tokenizer["merges"])
    if "scores" in tokenizer:
        writer.add_token_scores(tokenizer["scores"])
    bos = tokenizer.get("bos")
    writer.add_bos_token_id(0 if bos is None else bos)
    writer.add_eos_token_id(tokenizer.get("eos", 0))
    writer.add_add_bos_token(bos is not None)
    if "space_prefix" in tokenizer:
        writer.add_add_space_prefix(tokenizer["space_prefix"])
    if template:
        writer.add_chat_template(template)
    rng = np.random.default_rng(7)
    noise = lambda *shape: (rng.standard_normal(shape) * 0.05).astype(np.float32)  # noqa: E731
    writer.add_tensor("token_embd.weight", noise(len(tokens), WIDTH))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", noise(WIDTH, WIDTH))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def bundled(
    name: str, pre: str, *, bos: str | None = None, eos: str | None = None, more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The tokens that a family's vocabulary learned first, its control tokens and `more`, as its GGUF files have them."""
    letters = letters_of_bytes()
    ranks = {data: number for number, data in ordinary(name) if number < LEARNED}
    engine_name = KNOWN[name].engine
    engine = splintr.Tokenizer.from_pretrained(engine_name)
    special = {at: text for text, at in engine.special_tokens().items() if at < splintr.base_vocab_size(engine_name)}
    tokens = [data.decode("latin-1").translate(letters) for data in ranks]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    tokens += [*special.values(), *more]
    kinds += [gguf.TokenType.CONTROL] * (len(special) + len(more))
    merges = [" ".join(part.decode("latin-1").translate(letters) for part in pair) for pair in merges_of(ranks)]
    found = {"model": "gpt2", "pre": pre, "tokens": tokens, "kinds": kinds, "merges": merges}
    ends = {name: tokens.index(text) for name, text in (("bos", bos), ("eos", eos)) if text is not None}
    return found | ends


def sentencepieces(*, space_prefix: bool) -> dict[str, Any]:
    """The pieces of Mistral 7B as its GGUF file has them."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    pieces = MistralTokenizer.v1().instruct_tokenizer.tokenizer._model
    ids = range(pieces.GetPieceSize())
    kind = gguf.TokenType
    return {
        "model": "llama",
        "tokens": [pieces.IdToPiece(at) for at in ids],
        "scores": [pieces.GetScore(at) for at in ids],
        "kinds": [
            kind.UNKNOWN
            if pieces.IsUnknown(at)
            else kind.CONTROL
            if pieces.IsControl(at)
            else kind.BYTE
            if pieces.IsByte(at)
            else kind.NORMAL
            for at in ids
        ],
        "bos": 1,
        "eos": 2,
        "space_prefix": space_prefix,
    }


class LlamaCpp:
    """llama.cpp with one model in this process."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def prompt_tokens(self, **request: Any) -> int:
        """How many tokens the prompt of a chat has, as it reports them."""
        answer = self._server.handle_chat_completions({"max_tokens": 1, "temperature": 0, **request})
        assert "usage" in answer, answer
        return answer["usage"]["prompt_tokens"]

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, control tokens in it taken for text."""
        data = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
        request = urllib.request.Request(
            f"{self._server.listening_address}/tokenize", data, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())["tokens"]


@contextmanager
def llamacpp(model: Path) -> Iterator[LlamaCpp]:
    """Start llama.cpp on a model; end it afterwards."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    try:
        yield LlamaCpp(server)
    finally:
        del server
