"""The forward pass: what `transformers` computes, whichever way a sequence is read, and whoever is read beside it.

The golden logits were made by `transformers` and PyTorch on the same seeded weights; `test_transformers.py` makes them anew
and compares many more where PyTorch is installed.
"""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.random_models import CONFIGS, LLAMA, LLAMA_BIASED, MISTRAL, random_tensors, shapes, write_model

from penstock.engine.config import read_config
from penstock.engine.errors import BadModel
from penstock.engine.transformer import Transformer, rms_norm, swiglu
from penstock.engine.weights import Weights

GOLDEN = msgspec.json.decode((Path(__file__).parent / "golden" / "logits.json").read_bytes())
IDS = np.random.default_rng(5).integers(0, 288, 400).tolist()


def transformer(folder):
    return Transformer(read_config((folder / "config.json").read_bytes()), Weights.open(folder))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every configuration, ready to run."""
    folder = tmp_path_factory.mktemp("models")
    return {name: transformer(write_model(folder / name, file)) for name, file in CONFIGS.items()}


def in_pieces(model, ids, cuts, cache=None):
    """Read ids cut at some places; pieces of one go the way of decoding. Gives the scores behind every token."""
    cache = model.cache(len(ids)) if cache is None else cache
    found = []
    for first, last in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        piece = ids[first:last]
        found.append(model.decode(piece, [cache]) if len(piece) == 1 else model.logits(model.read(piece, cache)))
    return np.concatenate(found)


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda case: f"{case['config']} {case['dtype']} x{case['shards']}"
)
@pytest.mark.parametrize(
    "cuts", [[], [64, 128], [40, 41, 42, 43, 100, 101]], ids=["at once", "in pieces", "with steps"]
)
def test_logits_are_those_of_transformers(case, cuts, tmp_path):
    file = CONFIGS[case["config"]]
    model = transformer(write_model(tmp_path, file, seed=case["seed"], dtype=case["dtype"], shards=case["shards"]))
    got = in_pieces(model, case["ids"], cuts)[case["positions"]]

    np.testing.assert_allclose(got, case["logits"], rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(sorted(CONFIGS)), cuts=st.sets(st.integers(1, 149), max_size=12))
def test_however_a_sequence_is_cut_the_scores_agree(models, name, cuts):
    whole = in_pieces(models[name], IDS[:150], [])

    np.testing.assert_allclose(in_pieces(models[name], IDS[:150], sorted(cuts)), whole, rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(CONFIGS)),
    lengths=st.lists(st.integers(1, 130), min_size=1, max_size=8),
    steps=st.integers(1, 4),
)
def test_each_sequence_gets_the_same_bits_alone_and_among_others(models, name, lengths, steps):
    model = models[name]

    def begun(number, length):
        cache = model.cache(length + steps)
        model.read(IDS[number : number + length], cache)
        return cache

    together = [begun(*one) for one in enumerate(lengths)]
    alone = [begun(*one) for one in enumerate(lengths)]
    for step in range(steps):
        ids = [IDS[-1 - step - number] for number in range(len(lengths))]
        rows = model.decode(ids, together)
        for number, row in enumerate(rows):
            one = model.decode([ids[number]], [alone[number]])[0]
            np.testing.assert_array_equal(row.view(np.uint32), one.view(np.uint32))


def test_a_later_token_changes_nothing_before_it(models):
    model = models["llama"]
    one, other = (in_pieces(model, [*IDS[:60], last], []) for last in (3, 4))

    np.testing.assert_array_equal(one[:60], other[:60])
    assert (one[60] != other[60]).all()


def test_a_sliding_window_forgets_what_lies_before_it(models):
    """Three layers of 24 positions see 3 x 23 tokens back, and no further."""
    model, other_first = models["mistral"], [(IDS[0] + 1) % 288, *IDS[1:120]]
    one, other = (in_pieces(model, ids, [50, 51, 52]) for ids in (IDS[:120], other_first))

    assert (one[3 * 23] != other[3 * 23]).any()
    np.testing.assert_array_equal(one[3 * 23 + 1 :], other[3 * 23 + 1 :])


def test_weights_of_f32_are_used_where_they_lie_and_others_are_joined(tmp_path):
    mapped = transformer(write_model(tmp_path / "mapped", LLAMA))
    joined = transformer(write_model(tmp_path / "joined", LLAMA, dtype="F16"))

    assert [len(mapped._blocks[0].qkv._parts), len(joined._blocks[0].qkv._parts)] == [3, 1]
    assert not mapped._embedding.flags.writeable
    assert mapped._head._parts[0][2].base is not None


@pytest.mark.parametrize("name", sorted(shapes(LLAMA_BIASED)))
@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_a_tensor_that_is_missing_or_has_another_shape_is_refused_by_name(tmp_path, name, dtype):
    tensors = random_tensors(LLAMA_BIASED)
    without = {other: tensor for other, tensor in tensors.items() if other != name}
    with pytest.raises(BadModel, match=f"lack the tensor '{name}'"):
        transformer(write_model(tmp_path / "missing", LLAMA_BIASED, tensors=without, dtype=dtype))
    misshapen = tensors | {name: tensors[name][:-1]}
    with pytest.raises(BadModel, match=f"'{name}' has the shape"):
        transformer(write_model(tmp_path / "misshapen", LLAMA_BIASED, tensors=misshapen, dtype=dtype))


def test_damaged_weights_give_no_numbers_and_no_warning(tmp_path):
    tensors = random_tensors(MISTRAL)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = np.inf
    model = transformer(write_model(tmp_path, MISTRAL, tensors=tensors))

    assert np.isnan(in_pieces(model, IDS[:5], [3, 4])).any()


def test_rms_norm_makes_the_mean_square_one_and_scales():
    rows = np.random.default_rng(0).standard_normal((3, 50), dtype=np.float32) * 7
    weight = np.linspace(0, 2, 50, dtype=np.float32)
    want = rows / np.sqrt((rows.astype(float) ** 2).mean(1, keepdims=True) + 1e-5) * weight

    np.testing.assert_allclose(rms_norm(rows, weight, 1e-5), want, atol=1e-6)
    assert not rms_norm(np.zeros((1, 4), np.float32), np.ones(4, np.float32), 1e-5).any()


def test_swiglu_gates_the_second_half_by_the_first():
    rows = np.random.default_rng(0).standard_normal((3, 50), dtype=np.float32) * 5
    gate, up = rows[:, :25].astype(float), rows[:, 25:]

    np.testing.assert_allclose(swiglu(rows), gate / (1 + np.exp(-gate)) * up, rtol=1e-5, atol=1e-6)
