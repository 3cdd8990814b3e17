"""What the endpoints say beside the body, and what lists of models hold, are plain values."""

from pathlib import Path

import pytest

from penstock.errors import UpstreamGarbled
from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow, told_nothing
from penstock.wire.registry import _ANSWERS, _EMBEDDINGS

GOLDEN = Path(__file__).parent / "golden"
SPEAK = [*_ANSWERS.values(), *_EMBEDDINGS.values()]


def test_nothing_is_asked_unless_it_is_said() -> None:
    assert Asked() == NOTHING_ASKED == Asked(None, None, "generate", "")


def test_a_model_belongs_to_the_gateway_unless_somebody_else_is_named() -> None:
    assert ModelRow("fast") == ModelRow("fast", "penstock", 0, None, None, frozenset())


@pytest.mark.parametrize("speaks", SPEAK, ids=lambda speaks: type(speaks).__name__)
def test_what_a_dialect_tells_of_a_reply_is_what_it_taps_whoever_wrote_that(speaks: object) -> None:
    """Also one that inherits from another: what is no reply to its question is told by none."""
    tell, told = getattr(speaks, "tell", told_nothing), 0
    for path in sorted(GOLDEN.rglob("*.json")):
        said = tell(path.read_bytes())
        try:
            tapped = speaks.tap_reply(path.read_bytes())
        except UpstreamGarbled:
            tapped = None
        if said is not None:
            assert said.raw == path.read_bytes()
            assert said.events == tapped
            told += 1
    assert (told > 0) is (type(speaks).__name__ in {"OpenAIChat", "AnthropicMessages", "Gemini"})
