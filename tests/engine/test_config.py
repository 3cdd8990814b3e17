"""config.json as the hub has it: read, filled up with the architecture's defaults, refused by name where unknown."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.random_models import LLAMA, LLAMA_BIASED, MISTRAL, QWEN2, QWEN2_SLIDING

from penstock.engine.config import Config, Rope, id_set, read_config
from penstock.engine.errors import BadModel

BARE = {
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def read(file):
    return read_config(msgspec.json.encode(file))


def refused(file):
    with pytest.raises(BadModel) as caught:
        read(file)
    return str(caught.value)


def test_everything_that_the_computation_depends_on_is_read():
    assert read(LLAMA) == Config(
        architecture="LlamaForCausalLM",
        vocab_size=288,
        hidden_size=64,
        intermediate_size=112,
        layers=3,
        heads=4,
        kv_heads=2,
        head_dim=16,
        window=512,
        rms_norm_eps=1e-5,
        rope=Rope(500000.0, "llama3", 8.0, 1.0, 4.0, 64),
        sliding=(None, None, None),
        tied=True,
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        eos_ids=frozenset({1}),
    )


@pytest.mark.parametrize(
    ("model_type", "kv_heads", "window", "sliding", "qkv_bias"),
    [("llama", 4, 2048, None, False), ("mistral", 8, 131072, 4096, False), ("qwen2", 32, 32768, None, True)],
)
def test_where_a_member_is_missing_the_architectures_default_holds(model_type, kv_heads, window, sliding, qkv_bias):
    config = read(BARE | {"model_type": model_type, "num_attention_heads": 32 if kv_heads > 4 else 4, "head_dim": 12})

    assert (config.kv_heads, config.window, config.sliding) == (kv_heads, window, (sliding, sliding))
    assert (config.qkv_bias, config.output_bias, config.mlp_bias) == (qkv_bias, False, False)
    assert (config.rms_norm_eps, config.rope, config.tied, config.eos_ids) == (1e-6, Rope(), False, frozenset())


def test_the_size_of_a_head_follows_from_the_width_unless_it_is_said():
    assert read(LLAMA).head_dim == 16
    assert read(LLAMA | {"head_dim": None}).head_dim == 16
    assert read(LLAMA_BIASED).head_dim == 32


def test_llama_reads_its_biases_mistral_has_none_and_qwen2_always_has_those_of_attention():
    biased = {"attention_bias": True, "mlp_bias": True}

    assert [read(LLAMA | biased).qkv_bias, read(LLAMA | biased).output_bias, read(LLAMA | biased).mlp_bias] == [
        True
    ] * 3
    assert [read(MISTRAL | biased).qkv_bias, read(MISTRAL | biased).mlp_bias] == [False, False]
    assert [read(QWEN2).qkv_bias, read(QWEN2 | biased).output_bias, read(QWEN2 | biased).mlp_bias] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("file", "sliding"),
    [
        (LLAMA | {"sliding_window": 24}, (None, None, None)),
        (MISTRAL, (24, 24, 24)),
        (MISTRAL | {"sliding_window": None}, (None, None, None)),
        (QWEN2, (None, None, None)),
        (QWEN2_SLIDING, (None, None, 24)),
        (QWEN2_SLIDING | {"max_window_layers": 0}, (24, 24, 24)),
        (QWEN2_SLIDING | {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, (24, None, None)),
        (QWEN2 | {"layer_types": ["full_attention"] * 3}, (None, None, None)),
    ],
)
def test_the_layers_that_see_only_a_sliding_window_are_known(file, sliding):
    assert read(file).sliding == sliding


@pytest.mark.parametrize(
    ("members", "rope"),
    [
        ({"rope_theta": 5e5}, Rope(5e5)),
        ({"rope_theta": 5e5, "rope_scaling": None}, Rope(5e5)),
        ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "default"}}, Rope(5e5)),
        ({"rope_scaling": {"type": "linear", "factor": 2.5}}, Rope(10000.0, "linear", 2.5, 1.0, 4.0, 512)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7e4}}, Rope(7e4)),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 7e4, "factor": 32.0, "low_freq_factor": 2.0}},
            Rope(7e4, "llama3", 32.0, 2.0, 4.0, 512),
        ),
    ],
)
def test_rotary_positions_are_read_as_transformers_4_and_5_write_them(members, rope):
    plain = {name: value for name, value in LLAMA.items() if not name.startswith("rope")}

    assert read(plain | members).rope == rope


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "The architecture GPT2LMHeadModel is not supported; known are Llama"),
        ({"architectures": None, "model_type": "gemma"}, "The architecture gemma is not supported"),
        ({"architectures": [], "model_type": None}, "The architecture none is not supported"),
        ({"hidden_size": 0}, "hidden_size as 0"),
        ({"vocab_size": 1 << 40}, "vocab_size as 1099511627776"),
        ({"num_hidden_layers": 5000}, "num_hidden_layers as 5000"),
        ({"num_attention_heads": 0}, "num_attention_heads as 0"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "4 attention heads for 3 key-value heads"),
        ({"head_dim": 15}, "head_dim as 15"),
        ({"rms_norm_eps": 0}, "rms_norm_eps as 0"),
        ({"hidden_act": "gelu"}, "the activation 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"rope_theta": -1.0}, "rope_theta as -1.0"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'; supported are default, linear, llama3"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor 0.0"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0}}, "low_freq_factor 4.0"),
        ({"partial_rotary_factor": 0.5}, "a part of each head"),
        ({"hidden_size": "64"}, "config.json is not as it should be: Expected `int`, got `str` - at `$.hidden_size`"),
    ],
)
def test_what_would_change_the_computation_is_refused_by_name(members, says):
    assert says in refused(LLAMA | members)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"sliding_window": 0}, "sliding_window as 0"),
        ({"layer_types": ["full_attention"]}, "1 layer_types for 3 layers"),
        ({"layer_types": ["chunked_attention"] * 3}, "'chunked_attention'"),
    ],
)
def test_a_sliding_window_that_makes_no_sense_is_refused(members, says):
    assert says in refused(QWEN2_SLIDING | members)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"{}", b"\xff{}", b'{"hidden_size": NaN}', b"[" * 100_000])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(BadModel, match=r"config\.json is not as it should be"):
        read_config(text)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*LLAMA, "head_dim", "sliding_window", "layer_types", "rope_parameters", "attention_bias"]),
        st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.text(max_size=5) | st.lists(st.text()),
        max_size=4,
    )
)
def test_any_other_value_of_any_member_is_read_or_refused_and_never_crashes(members):
    for file in (LLAMA, MISTRAL, QWEN2_SLIDING):
        try:
            config = read(file | members)
        except BadModel:
            continue
        assert config.heads % config.kv_heads == 0
        assert len(config.sliding) == config.layers


@pytest.mark.parametrize(("ids", "as_set"), [(None, set()), (7, {7}), (0, {0}), ([1, 2], {1, 2})])
def test_stop_tokens_are_one_several_or_none(ids, as_set):
    assert id_set(ids) == as_set


PUBLISHED = {
    "Llama-3.2-1B-Instruct": (
        """{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0,
        "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256}""",
        (
            16,
            32,
            8,
            64,
            131072,
            Rope(500000.0, "llama3", 32.0, 1.0, 4.0, 8192),
            None,
            True,
            False,
            {128001, 128008, 128009},
        ),
    ),
    "Mistral-7B-v0.1": (
        """{"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 32000}""",
        (32, 32, 8, 128, 32768, Rope(10000.0), 4096, False, False, {2}),
    ),
    "Qwen2.5-0.5B-Instruct": (
        """{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
        "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true,
        "use_sliding_window": false, "vocab_size": 151936}""",
        (24, 14, 2, 64, 32768, Rope(1000000.0), None, True, True, {151645}),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_are_read_as_they_are(name):
    text, want = PUBLISHED[name]
    config = read_config(text.encode())
    sizes = (config.layers, config.heads, config.kv_heads, config.head_dim, config.window)

    assert (*sizes, config.rope, config.sliding[-1], config.tied, config.qkv_bias, config.eos_ids) == want
