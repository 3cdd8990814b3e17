"""What is wrong is said with what to do about it."""

import copy
import pickle

import pytest

from penstock.engine.errors import BadModel, EngineError, Full, WindowExceeded


def test_a_prompt_that_does_not_fit_is_told_both_figures_and_what_would_fit():
    error = WindowExceeded(70, 64)

    assert (error.prompt_tokens, error.window) == (70, 64)
    assert str(error) == (
        "The prompt has 70 tokens, but the context window holds 64 including the reply: send at most 63 tokens."
    )


def test_a_window_of_nothing_does_not_ask_for_less_than_nothing():
    assert "at most 0 tokens" in str(WindowExceeded(1, 0))


@pytest.mark.parametrize("clone", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
def test_the_figures_survive_a_copy_to_another_process(clone):
    error = clone(WindowExceeded(70, 64))

    assert (error.prompt_tokens, error.window, str(error)) == (70, 64, str(WindowExceeded(70, 64)))


@pytest.mark.parametrize("kind", [BadModel, Full, WindowExceeded])
def test_whoever_catches_the_engines_errors_catches_each_of_them(kind):
    assert issubclass(kind, EngineError)
    assert issubclass(EngineError, ValueError)
