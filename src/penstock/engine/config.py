"""Reads `config.json` of a model folder: which decoder-only transformer it is, and how large.

Three architectures are known, as `transformers` names them: Llama, Mistral and Qwen2 (Qwen2.5 uses the same). They are one
computation with other switches: which projections have a bias, how rotary positions are scaled, which layers see only a
sliding window. Where a member is missing, the default of that architecture in `transformers` holds. What would change
the computation in a way that is not built here is refused by name, never ignored.

Reads bytes, touches no file. First in the line: the sizes here decide what the weights must look like.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import msgspec

from penstock.engine.errors import BadModel

Read = TypeVar("Read")


class Rope(msgspec.Struct, frozen=True):
    """Rotary positions: base, and how the frequencies are stretched for windows longer than the trained one."""

    theta: float = 10000.0
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_window: int = 8192


class Config(msgspec.Struct, frozen=True):
    """What a transformer's computation depends on, besides its weights. Sizes are counts of numbers or tokens.

    `sliding` gives per layer how many positions a token sees, itself included; None means all before it.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    rms_norm_eps: float
    rope: Rope
    sliding: tuple[int | None, ...]
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    eos_ids: frozenset[int]


class _Defaults(msgspec.Struct, frozen=True):
    """What `transformers` assumes for an architecture where its config.json is silent."""

    model_type: str
    window: int
    kv_heads: int | None = None
    sliding_window: int | None = None
    qkv_bias: bool = False
    reads_biases: bool = False


ARCHITECTURES: Mapping[str, _Defaults] = MappingProxyType(
    {
        "LlamaForCausalLM": _Defaults("llama", window=2048, reads_biases=True),
        "MistralForCausalLM": _Defaults("mistral", window=131072, kv_heads=8, sliding_window=4096),
        "Qwen2ForCausalLM": _Defaults("qwen2", window=32768, kv_heads=32, sliding_window=4096, qkv_bias=True),
    }
)


class _RopeFile(msgspec.Struct):
    """`rope_scaling`, or `rope_parameters` as transformers 5 writes it (then with the base in it)."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: float | None = None
    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None
    partial_rotary_factor: float | None = None


class _File(msgspec.Struct):
    """The members of config.json that matter here, under their own names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    architectures: list[str] | None = None
    model_type: str | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int | None = None
    rms_norm_eps: float = 1e-6
    rope_theta: float | None = None
    rope_scaling: _RopeFile | None = None
    rope_parameters: _RopeFile | None = None
    partial_rotary_factor: float | None = None
    sliding_window: int | msgspec.UnsetType | None = msgspec.UNSET
    use_sliding_window: bool | None = None
    max_window_layers: int = 28
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    hidden_act: str = "silu"
    quantization_config: dict[str, Any] | None = None
    eos_token_id: int | list[int] | None = None


def decode_json(text: bytes, shape: type[Read], name: str) -> Read:
    """Decode a JSON file of a model folder; BadModel says where it is not what it should be."""
    try:
        return msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadModel(f"{name} is not as it should be: {error}. Fetch the model's folder again.") from error


def id_set(ids: int | list[int] | None) -> frozenset[int]:
    """Give one id, several, or none as a set."""
    return frozenset(() if ids is None else (ids,) if isinstance(ids, int) else ids)


def read_config(text: bytes) -> Config:
    """Read config.json; BadModel names what is missing, out of range or not supported."""
    file = decode_json(text, _File, "config.json")
    architecture, defaults = _architecture(file)
    kv_heads = file.num_key_value_heads or defaults.kv_heads or file.num_attention_heads
    head_dim = file.head_dim or file.hidden_size // max(file.num_attention_heads, 1)
    window = file.max_position_embeddings or defaults.window
    _check_sizes(file, kv_heads, head_dim, window)
    if file.hidden_act not in {"silu", "swish"}:
        raise BadModel(f"config.json asks for the activation {file.hidden_act!r}; only silu is supported.")
    if file.quantization_config is not None:
        raise BadModel(
            "config.json says that the weights are quantised; fetch the model with weights in f32, f16 or bf16."
        )
    return Config(
        architecture=architecture,
        vocab_size=file.vocab_size,
        hidden_size=file.hidden_size,
        intermediate_size=file.intermediate_size,
        layers=file.num_hidden_layers,
        heads=file.num_attention_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        window=window,
        rms_norm_eps=file.rms_norm_eps,
        rope=_rope(file, window),
        sliding=_sliding(file, defaults),
        tied=file.tie_word_embeddings,
        qkv_bias=defaults.qkv_bias or (defaults.reads_biases and file.attention_bias),
        output_bias=defaults.reads_biases and file.attention_bias,
        mlp_bias=defaults.reads_biases and file.mlp_bias,
        eos_ids=id_set(file.eos_token_id),
    )


def _architecture(file: _File) -> tuple[str, _Defaults]:
    """Find the first architecture that is known; by model_type where none is named."""
    named = file.architectures or []
    for name in named:
        if name in ARCHITECTURES:
            return name, ARCHITECTURES[name]
    for name, defaults in ARCHITECTURES.items():
        if not named and defaults.model_type == file.model_type:
            return name, defaults
    given = ", ".join(named) or file.model_type or "none"
    raise BadModel(f"The architecture {given} is not supported; known are {', '.join(ARCHITECTURES)}.")


def _check_sizes(file: _File, kv_heads: int, head_dim: int, window: int) -> None:
    """Refuse sizes that no transformer has, before anything is allocated by them."""
    sizes = {
        "vocab_size": file.vocab_size,
        "hidden_size": file.hidden_size,
        "intermediate_size": file.intermediate_size,
        "num_hidden_layers": file.num_hidden_layers,
        "num_attention_heads": file.num_attention_heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": window,
    }
    for name, size in sizes.items():
        if not 1 <= size <= 1 << 24:
            raise BadModel(f"config.json gives {name} as {size}; it must be between 1 and {1 << 24}.")
    if file.num_hidden_layers > 1024:
        raise BadModel(f"config.json gives num_hidden_layers as {file.num_hidden_layers}; at most 1024 are supported.")
    if file.num_attention_heads % kv_heads:
        raise BadModel(
            f"config.json gives {file.num_attention_heads} attention heads for {kv_heads} key-value heads; "
            "the first must be a multiple of the second."
        )
    if head_dim % 2:
        raise BadModel(f"config.json gives head_dim as {head_dim}; rotary positions need an even one.")
    if not 0 < file.rms_norm_eps < 1:
        raise BadModel(f"config.json gives rms_norm_eps as {file.rms_norm_eps}; it must lie between 0 and 1.")


def _rope(file: _File, window: int) -> Rope:
    scaling = file.rope_parameters or file.rope_scaling or _RopeFile()
    kind = scaling.rope_type or scaling.type or "default"
    theta = scaling.rope_theta or file.rope_theta or 10000.0
    if (scaling.partial_rotary_factor or file.partial_rotary_factor or 1.0) != 1.0:
        raise BadModel("config.json asks for rotary positions on a part of each head, which is not supported.")
    if not 0 < theta < float("inf"):
        raise BadModel(f"config.json gives rope_theta as {theta}; it must be a positive number.")
    if kind == "default":
        return Rope(theta)
    if kind not in {"linear", "llama3"}:
        raise BadModel(
            f"config.json asks for rotary positions scaled as {kind!r}; supported are default, linear, llama3."
        )
    factor = scaling.factor or 0.0
    low, high = scaling.low_freq_factor or 1.0, scaling.high_freq_factor or 4.0
    original = scaling.original_max_position_embeddings or window
    if not (0 < factor < float("inf") and 0 < low < high < float("inf") and original > 0):
        raise BadModel(
            "config.json scales rotary positions by factors that make no sense: "
            f"factor {factor}, low_freq_factor {low}, high_freq_factor {high}, original window {original}."
        )
    return Rope(theta, "linear" if kind == "linear" else "llama3", factor, low, high, original)


def _sliding(file: _File, defaults: _Defaults) -> tuple[int | None, ...]:
    """Which layers see only a sliding window. Llama has none; Mistral has it everywhere; Qwen2 where it is switched on."""
    layers = file.num_hidden_layers
    size = defaults.sliding_window if file.sliding_window is msgspec.UNSET else file.sliding_window
    if defaults.sliding_window is None or size is None:
        return (None,) * layers
    if size < 1:
        raise BadModel(f"config.json gives sliding_window as {size}; it must be at least 1, or null.")
    if not defaults.qkv_bias:
        return (size,) * layers
    if not file.use_sliding_window:
        return (None,) * layers
    if file.layer_types is None:
        return tuple(size if layer >= file.max_window_layers else None for layer in range(layers))
    if len(file.layer_types) != layers:
        raise BadModel(f"config.json gives {len(file.layer_types)} layer_types for {layers} layers.")
    if unknown := set(file.layer_types) - {"full_attention", "sliding_attention"}:
        raise BadModel(
            f"config.json gives the layer type {min(unknown)!r}; known are full_attention, sliding_attention."
        )
    return tuple(size if kind == "sliding_attention" else None for kind in file.layer_types)
