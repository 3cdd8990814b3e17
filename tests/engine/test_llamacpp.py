"""The same weights in llama.cpp: an engine that shares no line with ours takes the same tokens."""

import numpy as np
import pytest
from tests.engine.random_gguf import llamacpp, write_gguf
from tests.engine.random_models import LLAMA, LLAMA_BIASED, QWEN2, random_tensors, write_folder

from penstock.engine.folder import load
from penstock.engine.generate import generate
from penstock.engine.sampler import Sampling, seeded

TOKENS = 96
FILES = {
    "llama": LLAMA,
    "linear": LLAMA_BIASED | {"mlp_bias": False, "attention_bias": False},
    "qwen2": QWEN2,
    "qwen2_untied": QWEN2 | {"tie_word_embeddings": False, "num_key_value_heads": 1},
}


@pytest.mark.parametrize("name", FILES)
def test_greedy_tokens_are_those_of_llama_cpp(tmp_path, name):
    file = FILES[name] | {"eos_token_id": None}
    tensors = random_tensors(file, seed=21)
    folder = write_folder(tmp_path, file, tensors=tensors)
    (folder / "generation_config.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    model = load(folder)
    # llama.cpp is told to go on after its stop token; it does so by never drawing it
    sampling = Sampling(temperature=0, logit_bias=((1, -100.0),))
    with llamacpp(write_gguf(tmp_path / "model.gguf", file, tensors)) as theirs:
        for seed, length in enumerate((1, 7, 64, 65, 150, 300)):
            prompt = np.random.default_rng(seed).integers(4, 288, length).tolist()
            ours = [one.id for one in generate(model, prompt, sampling, max_tokens=TOKENS, rng=seeded(0, 0))]
            want = theirs.greedy(prompt, TOKENS)

            assert len(ours) == TOKENS
            assert ours == want
            assert len(set(ours)) > 10, "a loop of few tokens would show little"
