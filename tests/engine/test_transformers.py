"""Exactness against `transformers` and PyTorch: another implementation, on the same files, in 32-bit floats on the CPU.

Needs PyTorch, which the ordinary environment does not have (`make torch` installs the CPU build). Besides, this file makes
the golden logits that `test_transformer.py` compares in every run:

    PYTHONPATH=src:. python tests/engine/test_transformers.py
"""

import importlib.util
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.engine.random_models import CONFIGS, LLAMA, write_model

from penstock.engine.config import Rope, read_config
from penstock.engine.rotary import frequencies
from penstock.engine.transformer import Transformer
from penstock.engine.weights import Weights

GOLDEN = Path(__file__).parent / "golden" / "logits.json"
HAS_TORCH = importlib.util.find_spec("torch") is not None
WHY = "torch is not installed: `make torch` installs the CPU build"
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason=WHY)
CASES = [(name, "F32", 1) for name in CONFIGS] + [("llama", "BF16", 1), ("qwen2", "F16", 3), ("mistral", "BF16", 2)]
POSITIONS = [64, 149]
ROUNDED = 6
"""Decimals of the golden logits."""


def ids(count, seed=11):
    return np.random.default_rng(seed).integers(0, 288, count).tolist()


def by_transformers(folder, prompt):
    """Logits behind every token, and the model's own inverse frequencies."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0].numpy()
    return logits, model.model.rotary_emb.inv_freq.numpy()


def ours(folder):
    return Transformer(read_config((folder / "config.json").read_bytes()), Weights.open(folder))


@needs_torch
@pytest.mark.filterwarnings("default")  # theirs are not ours
@pytest.mark.parametrize(("name", "dtype", "shards"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_prefill_and_every_step_give_the_logits_of_transformers(tmp_path, name, dtype, shards, seed):
    folder = write_model(tmp_path, CONFIGS[name], seed=seed, dtype=dtype, shards=shards)
    prompt = ids(300, seed)
    want, _ = by_transformers(folder, prompt)
    model = ours(folder)
    cache = model.cache(300)
    got = [model.logits(model.read(prompt[first : first + 64], cache)) for first in range(0, 192, 64)]
    got += [model.decode([one], [cache]) for one in prompt[192:]]
    difference = np.abs(np.concatenate(got) - want).max()

    print(f"{name} {dtype} in {shards}: largest difference {difference:.1e} of logits up to {np.abs(want).max():.1f}")
    assert difference < 1e-4


@needs_torch
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("factor", [8.0, 32.0])
@pytest.mark.parametrize("head_dim", [16, 64, 128])
def test_rotary_frequencies_are_those_of_transformers_to_the_last_bit(tmp_path, head_dim, factor):
    """A last bit would grow with the position: 1e-7 of position 100,000 is a hundredth of a turn."""
    file = LLAMA | {"head_dim": head_dim, "num_hidden_layers": 1}
    file["rope_scaling"] = LLAMA["rope_scaling"] | {"factor": factor, "original_max_position_embeddings": 8192}
    _, want = by_transformers(write_model(tmp_path, file), [1])
    rope = Rope(file["rope_theta"], "llama3", factor, 1.0, 4.0, 8192)

    np.testing.assert_array_equal(frequencies(rope, head_dim), want)


@needs_torch
@pytest.mark.filterwarnings("default")
def test_the_golden_logits_are_what_transformers_computes_today():
    for case, made in zip(msgspec.json.decode(GOLDEN.read_bytes())["cases"], golden(), strict=True):
        assert case | {"logits": None} == made | {"logits": None}
        np.testing.assert_allclose(case["logits"], made["logits"], rtol=0, atol=5e-5)


def golden():
    """Make the golden cases."""
    prompt, cases = ids(150), []
    for name, dtype, shards in CASES:
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), CONFIGS[name], seed=7, dtype=dtype, shards=shards)
            logits, _ = by_transformers(folder, prompt)
        rows = [[round(float(one), ROUNDED) for one in logits[position]] for position in POSITIONS]
        case = {"config": name, "dtype": dtype, "shards": shards, "seed": 7, "ids": prompt, "positions": POSITIONS}
        cases.append(case | {"logits": rows})
    return cases


def main():
    import torch
    import transformers

    about = {
        "about": "logits behind some positions, made by transformers from seeded weights",
        "command": "PYTHONPATH=src:. python tests/engine/test_transformers.py",
        "made_with": {"transformers": transformers.__version__, "torch": str(torch.__version__)},
    }
    text = msgspec.json.encode(about | {"cases": golden()}).decode()
    GOLDEN.write_text(text.replace("],[", "],\n[").replace(',"cases"', ',\n"cases"') + "\n")


if __name__ == "__main__":
    main()
