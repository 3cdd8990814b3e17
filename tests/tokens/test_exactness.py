"""Every vocabulary against somebody else's engine, on one corpus of everything that tokenizers disagree about."""

import os
from random import Random

import pytest

from penstock.tokens.vocabularies import KNOWN, vocabulary
from tokens.oracles import ENGINES, reference
from tokens.texts import corpus

QUICK, LONG = 2_000, 20_000


def well_formed(text: str) -> str:
    """What lone surrogates are counted as, and pairs of them."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def compare(name: str, texts: int, seed: int) -> list[str]:
    """Give the texts whose ids differ although the tally leaves no doubt, or by more than it leaves."""
    rng, mine, theirs = Random(seed), vocabulary(name), reference(name)
    differing, doubted = [], 0
    for _ in range(texts):
        text = corpus(rng)
        ids, expected = mine.encode(text), theirs(well_formed(text))
        if ids == expected:
            continue
        tally = mine.count(text)
        if 0 < abs(len(ids) - len(expected)) <= tally.slack or (tally.slack and len(ids) == len(expected)):
            doubted += 1
        else:
            differing.append(text)
    print(
        f"{name}: compared {texts} with {ENGINES[name]}, differing {len(differing)}, within a stated slack {doubted}, "
        f"seed {seed}"
    )
    return differing


@pytest.mark.parametrize("name", KNOWN)
def test_a_vocabulary_gives_the_tokens_of_the_reference(name):
    assert compare(name, QUICK, seed=41) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", KNOWN)
def test_a_vocabulary_gives_the_tokens_of_the_reference_on_many_texts(name):
    seed = int(os.environ.get("PENSTOCK_FUZZ_SEED", Random().randrange(1 << 32)))
    assert compare(name, LONG, seed) == []
