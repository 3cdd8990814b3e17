"""Finding plugins by entry point."""

import pytest

from penstock.errors import ConfigError
from penstock.plugins import PROVIDERS, find


def test_a_built_in_comes_in_through_the_door():
    assert find(PROVIDERS, "openai").__name__ == "HttpProvider"


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ConfigError, match=r"no plugin 'nope'\. Known: .*openai"):
        find(PROVIDERS, "nope")
