"""The id and the encrypted content of a thought travel as one text and come apart again."""

import pytest

from penstock.wire.openai_responses_signature import join, split


@pytest.mark.parametrize("encrypted", ["gAAA", "", "with:colon"])
def test_an_id_and_its_content_come_apart_again(encrypted: str) -> None:
    assert split(join("rs_1", encrypted)) == ("rs_1", encrypted)


@pytest.mark.parametrize("ident", [None, "", "msg_1", "rs_a:b"])
def test_what_is_no_id_of_a_thought_is_left_out(ident: str | None) -> None:
    assert join(ident, "gAAA") == "gAAA"


def test_a_signature_without_an_id_is_all_content() -> None:
    assert split("gAAA") == (None, "gAAA")
    assert split("other:gAAA") == (None, "other:gAAA")
