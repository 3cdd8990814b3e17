"""The forward pass: token ids in, scores of every possible next token out.

A decoder-only transformer as Llama, Mistral and Qwen2 build it: embedding; per block RMSNorm, rotary attention over the
cache, RMSNorm, SwiGLU; a last norm and the head. It computes what `transformers` computes, in 32-bit floats. Two ways in:
`read` takes a piece of one prompt, `decode` one token of each of several sequences. Neither knows sampling, text or time.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.engine.attention import attend_piece, attend_token
from penstock.engine.cache import Cache
from penstock.engine.config import Config
from penstock.engine.linear import Linear
from penstock.engine.rotary import Rotary, rotate
from penstock.engine.weights import Weights, aligned

Floats = NDArray[np.float32]


class _Block(NamedTuple):
    """The weights of one layer."""

    attention_norm: Floats
    qkv: Linear
    output: Linear
    mlp_norm: Floats
    gate_up: Linear
    down: Linear


class Transformer:
    """A model that is ready to run. It keeps no state of sequences: that is in their caches."""

    __slots__ = ("_blocks", "_embedding", "_head", "_norm", "_rotary", "_scale", "config")

    def __init__(self, config: Config, weights: Weights) -> None:
        self.config = config
        hidden = config.hidden_size
        self._embedding = weights.take("model.embed_tokens.weight", (config.vocab_size, hidden))
        self._blocks = [_block(config, weights, f"model.layers.{layer}.") for layer in range(config.layers)]
        self._norm = weights.take("model.norm.weight", (hidden,))
        tied = [self._embedding]
        self._head = Linear(tied if config.tied else [weights.take("lm_head.weight", (config.vocab_size, hidden))])
        self._rotary = Rotary(config.rope, config.head_dim)
        self._scale = np.float32(config.head_dim**-0.5)

    def cache(self, bound: int) -> Cache:
        """Make an empty cache for a sequence of at most `bound` tokens."""
        return Cache(self.config, bound)

    def read(self, ids: Sequence[int], cache: Cache) -> Floats:
        """Read a piece of a sequence behind what its cache holds; give its hidden states, [tokens, hidden_size]."""
        start, config = cache.length, self.config

        def attend(layer: int, queries: Floats, keys_values: Floats) -> Floats:
            cache.layer(layer)[:, start : start + len(ids)] = keys_values.transpose(1, 0, 2)
            return attend_piece(queries, cache, layer, config.sliding[layer])

        cache.reserve(len(ids))
        hidden = self._forward(ids, np.arange(start, start + len(ids)), Linear.together, attend)
        cache.advance(len(ids))
        return hidden

    def decode(self, ids: Sequence[int], caches: Sequence[Cache]) -> Floats:
        """Read one token of each of several sequences; give the scores of what comes next, [sequences, vocab_size].

        A sequence's scores are the same bits whatever the other sequences are, and however many.
        """
        config = self.config

        def attend(layer: int, queries: Floats, keys_values: Floats) -> Floats:
            sliding = config.sliding[layer]
            mixed = np.empty_like(queries)
            for row, cache in enumerate(caches):
                cache.layer(layer)[:, cache.length] = keys_values[row]
                mixed[row] = attend_token(queries[row], cache, layer, sliding)
            return mixed

        for cache in caches:
            cache.reserve(1)
        hidden = self._forward(ids, np.array([cache.length for cache in caches]), Linear.each, attend)
        for cache in caches:
            cache.advance(1)
        return self.logits(hidden)

    def logits(self, hidden: Floats) -> Floats:
        """Give the scores of every token of the vocabulary for some hidden states, [tokens, vocab_size]."""
        return self._head.each(rms_norm(hidden, self._norm, self.config.rms_norm_eps))

    def _forward(
        self,
        ids: Sequence[int],
        positions: NDArray[np.int64],
        project: Callable[[Linear, Floats], Floats],
        attend: Callable[[int, Floats, Floats], Floats],
    ) -> Floats:
        """Run the blocks; `project` multiplies by weights, `attend` stores keys and values and mixes them."""
        config = self.config
        epsilon, heads = config.rms_norm_eps, config.heads
        turning = heads + config.kv_heads
        shape = (len(ids), turning + config.kv_heads, config.head_dim)
        hidden = self._embedding[np.asarray(ids, np.int64)]
        turns = self._rotary.at(positions)
        with np.errstate(over="ignore", invalid="ignore"):  # exp of a large number is infinity, and x / infinity is 0
            for layer, block in enumerate(self._blocks):
                qkv = project(block.qkv, rms_norm(hidden, block.attention_norm, epsilon)).reshape(shape)
                qkv[:, :turning] = rotate(qkv[:, :turning], turns)
                mixed = attend(layer, qkv[:, :heads] * self._scale, qkv[:, heads:])
                hidden += project(block.output, mixed.reshape(len(ids), -1))
                gate_up = project(block.gate_up, rms_norm(hidden, block.mlp_norm, epsilon))
                hidden += project(block.down, swiglu(gate_up))
        return hidden


def rms_norm(rows: Floats, weight: Floats, epsilon: float) -> Floats:
    """Scale each row to a mean square of 1, then by the weight (Zhang and Sennrich, 2019)."""
    scale = np.vecdot(rows, rows)[:, None]
    scale /= np.float32(rows.shape[1])
    scale += np.float32(epsilon)
    normed: Floats = rows / np.sqrt(scale, out=scale)
    normed *= weight
    return normed


def swiglu(gate_up: Floats) -> Floats:
    """Give gate x sigmoid(gate) x up of rows that hold the gate in their first half (Shazeer, 2020)."""
    half = gate_up.shape[1] // 2
    gate = gate_up[:, :half]
    result = np.negative(gate)
    for row in result:  # not all at once: vectorised exp promises nothing about bits where a row begins elsewhere
        np.exp(row, out=row)
    result += np.float32(1)
    np.divide(gate, result, out=result)
    result *= gate_up[:, half:]
    return result


def _block(config: Config, weights: Weights, at: str) -> _Block:
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    attention, mlp = f"{at}self_attn.", f"{at}mlp."
    return _Block(
        attention_norm=weights.take(f"{at}input_layernorm.weight", (hidden,)),
        qkv=_linear(
            weights,
            {f"{attention}q_proj": queries, f"{attention}k_proj": keys, f"{attention}v_proj": keys},
            hidden,
            biased=config.qkv_bias,
        ),
        output=_linear(weights, {f"{attention}o_proj": hidden}, queries, biased=config.output_bias),
        mlp_norm=weights.take(f"{at}post_attention_layernorm.weight", (hidden,)),
        gate_up=_linear(weights, {f"{mlp}gate_proj": inner, f"{mlp}up_proj": inner}, hidden, biased=config.mlp_bias),
        down=_linear(weights, {f"{mlp}down_proj": hidden}, inner, biased=config.mlp_bias),
    )


def _linear(weights: Weights, names: dict[str, int], inputs: int, *, biased: bool) -> Linear:
    """Read matrices over the same inputs as one: joined where they are widened anyway, else each where it is mapped."""
    bias = np.concatenate([weights.take(f"{name}.bias", (rows,)) for name, rows in names.items()]) if biased else None
    if all(weights.is_mapped(f"{name}.weight") for name in names):
        return Linear([weights.take(f"{name}.weight", (rows, inputs)) for name, rows in names.items()], bias)
    for name, rows in names.items():
        weights.check(f"{name}.weight", (rows, inputs))
    joined = aligned((sum(names.values()), inputs))
    first = 0
    for name, rows in names.items():
        weights.fill(f"{name}.weight", joined[first : first + rows])
        first += rows
    return Linear([joined], bias)
