"""The transformer of penstock-mini in PyTorch, for training only: Llama's architecture, with Hugging Face's names.

`penstock.engine.transformer` runs the same network in NumPy; the names of the weights are those that it reads.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The size of the network. `width` is `heads` x `head`."""

    vocabulary: int = 4096
    width: int = 256
    layers: int = 3
    heads: int = 8
    kv_heads: int = 8
    inner: int = 160
    window: int = 1024
    theta: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """Dimensions of one head."""
        return self.width // self.heads

    def config(self, bos: int, eos: int) -> dict[str, Any]:
        """Give `config.json` as the hub has it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "head_dim": self.head,
            "hidden_act": "silu",
            "hidden_size": self.width,
            "initializer_range": 0.02,
            "intermediate_size": self.inner,
            "max_position_embeddings": self.window,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pretraining_tp": 1,
            "rms_norm_eps": self.epsilon,
            "rope_scaling": None,
            "rope_theta": self.theta,
            "tie_word_embeddings": True,
            "torch_dtype": "float16",
            "use_cache": True,
            "vocab_size": self.vocabulary,
        }


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate queries or keys by their positions: halves, as Llama does. `x` is (batch, heads, time, head)."""
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-right, left), dim=-1) * sine


class Attention(nn.Module):
    """Causal self-attention with grouped heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)
        later = torch.full((shape.window, shape.window), -torch.inf).triu(1)
        self.register_buffer("later", later, persistent=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Give what each position gathers from those before it."""
        batch, time, width = x.shape
        shape, group = self.shape, self.shape.heads // self.shape.kv_heads
        q = self.q_proj(x).view(batch, time, shape.heads, shape.head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, shape.kv_heads, shape.head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, shape.kv_heads, shape.head).transpose(1, 2)
        q, k = turned(q, cosine, sine), turned(k, cosine, sine)
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        # Written out, since PyTorch's fused attention is twice as slow on a CPU for lines as short as these.
        scores = (q * shape.head**-0.5) @ k.transpose(2, 3) + self.later[:time, :time]
        mixed = scores.softmax(dim=-1).to(v.dtype) @ v
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, time, width))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position alone."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One block: attention and feed-forward, each with its norm before and its residual around."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Give the next residual stream."""
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cosine, sine))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class Mini(nn.Module):
    """The whole network. The output head shares the embedding's weights."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.dropout = nn.Dropout(dropout)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * shape.layers) ** 0.5 if deep else 0.02)
        steps = shape.theta ** (-torch.arange(0, shape.head, 2).double() / shape.head)
        angles = torch.outer(torch.arange(shape.window).double(), steps).repeat(1, 2)
        self.register_buffer("cosine", angles.cos().float(), persistent=False)
        self.register_buffer("sine", angles.sin().float(), persistent=False)

    def hidden(self, ids: Tensor) -> Tensor:
        """Give the last hidden states: (batch, time) ids to (batch, time, width)."""
        time = ids.shape[1]
        x = self.dropout(self.embed_tokens(ids))
        for layer in self.layers:
            x = layer(x, self.cosine[:time], self.sine[:time])
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Give the scores of all tokens for hidden states of any shape (..., width)."""
        return functional.linear(hidden, self.embed_tokens.weight)

    def named_weights(self) -> dict[str, Tensor]:
        """Give the weights under the names that a model folder has."""
        return {f"model.{name}": weight.detach() for name, weight in self.named_parameters()}
