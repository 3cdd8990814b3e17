"""Thoughts become items and thoughts again, whoever signed them; so do the signatures of tool calls."""

import pytest

from penstock.call import Reasoning, ToolUse
from penstock.wire.openai_responses_reasoning import MADE, item_id, read_item, write_item, write_tool_signature


def again(part: Reasoning) -> object:
    item = write_item(part, f"{MADE}1")
    summary = [entry["text"] for entry in item["summary"]]
    return read_item(item["id"], item.get("encrypted_content"), summary, [])


@pytest.mark.parametrize(
    "part",
    [
        Reasoning("a"),
        Reasoning("a", "rs_1:gAAA", signer="openai"),
        Reasoning("", "rs_1:gAAA", signer="openai"),
        Reasoning("a", "gAAA", signer="openai"),
        Reasoning("a", "rs_1:", signer="openai"),
        Reasoning("a", "c2ln", signer="anthropic"),
        Reasoning("", "c2ln", redacted=True, signer="anthropic"),
        Reasoning("", "c2ln", signer="google"),
    ],
)
def test_a_thought_comes_back_the_same(part: Reasoning) -> None:
    assert again(part) == part


def test_the_parts_of_a_summary_are_one_text_and_it_goes_before_the_thinking_itself() -> None:
    assert read_item("rs_1", "g", ["a", "b"], ["c"]) == Reasoning("a\n\nb", "rs_1:g", signer="openai")
    assert read_item("rs_1", None, [], ["c", "d"]) == Reasoning("cd")
    assert read_item(None, "", ["a"], []) == Reasoning("a")
    assert read_item("rs_1", None, ["a"], []) == Reasoning("a", "rs_1:", signer="openai"), "it is stored by its id"


def test_the_signature_of_a_tool_call_goes_before_it() -> None:
    use = ToolUse("call:1", "f", "{}", signature="c2ln", signer="google")
    item = write_tool_signature(use, "rs_penstock_1")
    assert item is not None
    assert read_item(item["id"], item["encrypted_content"], [], []) == ("call:1", "c2ln", "google")
    assert write_tool_signature(ToolUse("c", "f", "{}"), "x") is None
    assert write_tool_signature(ToolUse("c", "f", "{}", signature="s", signer="openai"), "x") is None


def test_made_ids_are_the_same_each_time_and_differ_by_place() -> None:
    assert item_id("msg", "r", 1) == item_id("msg", "r", 1) != item_id("msg", "r", 2)
    assert item_id("msg", "r", 1).startswith("msg_")
    assert item_id("rs", "r", 1).startswith(MADE)
    assert len(item_id("rs", "r", 1)) <= 64
