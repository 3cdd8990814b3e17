"""What the endpoints say beside the body, and what lists of models hold, are plain values."""

from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow


def test_nothing_is_asked_unless_it_is_said() -> None:
    assert Asked() == NOTHING_ASKED == Asked(None, None, "generate", "")


def test_a_model_belongs_to_the_gateway_unless_somebody_else_is_named() -> None:
    assert ModelRow("fast") == ModelRow("fast", "penstock", 0, None, None, frozenset())
