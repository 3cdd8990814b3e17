"""Names in both spellings, unknown members, signatures that survive Google's own SDK."""

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import decode, encode

from penstock.call import Signer
from penstock.errors import InvalidRequest
from penstock.wire import gemini_members as members


def test_names_go_both_ways() -> None:
    assert members.camel("max_output_tokens") == "maxOutputTokens"
    assert members.snake("maxOutputTokens") == "max_output_tokens"


def test_everything_but_the_callers_own_is_put_in_camel_case() -> None:
    body = b'{"a_b":[{"c_d":1,"args":{"e_f":2}},"g_h",null],"labels":{"i_j":"k"}}'
    assert decode(members.in_camel(body)) == {
        "aB": [{"cD": 1, "args": {"e_f": 2}}, "g_h", None],
        "labels": {"i_j": "k"},
    }
    for kept in (b'{"topK":"a_b","_x":1}', b'[{"args": {"a_b":1}}]', b'"x_y":', b'{"args":{"a_b":1}}'):
        assert members.in_camel(kept) is kept
    with pytest.raises(InvalidRequest, match="two members"):
        members.in_camel(b'{"a_b":1,"a_b":2}')
    with pytest.raises(InvalidRequest, match="both spellings") as caught:
        members.in_camel(b'{"x":{"a_b":1,"aB":2}}')
    assert caught.value.param == "x.aB"


def test_members_of_what_is_there() -> None:
    assert members.members(None) == members.members(Raw(b"[]")) == {}
    assert members.items(None) == members.items(Raw(b"null")) == []
    assert members.items(Raw(b"{}")) == [Raw(b"{}")]
    assert len(members.items(Raw(b"[1,2]"))) == 2
    own = members.members(Raw(b'{"a":1,"b":null,"c":{"d":1,"e":2}}'))
    assert members.rest(own, "a") == (("c", b'{"d":1,"e":2}'),)
    assert members.inner(own, "c", "d") == (("c", b'{"e":2}'),)
    assert members.inner(own, "c", "d", "e") == ()
    assert members.is_object(b" {}")
    assert not members.is_object(b"[]")


def test_members_are_merged_into_what_is_written() -> None:
    out: dict[str, object] = {"a": {"x": 1}, "b": 2}
    members.merge(out, (("a", b'{"x":9,"y":2}'), ("b", b"9"), ("c", b"3"), ("a", b"7")))
    assert decode(encode(out)) == {"a": {"x": 1, "y": 2}, "b": 2, "c": 3}
    assert members.given(a=None, b=0) == {"b": 0}


# -- signatures --


@given(
    signature=st.binary(min_size=1).map(lambda data: encode(data).decode().strip('"')),
    signer=st.sampled_from(("anthropic", "openai", "google")),
)
def test_signatures_survive_googles_sdk(signature: str, signer: Signer) -> None:
    written = members.write_signature(signature, signer)
    part = types.Part.model_validate({"text": "x", "thoughtSignature": written})
    returned = part.model_dump(mode="json", by_alias=True, exclude_none=True)["thoughtSignature"]
    assert members.read_signature(returned) == (signature, signer)


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=("Cs",))))
def test_a_signature_that_is_no_base64_survives_too(signature: str) -> None:
    for signer in ("anthropic", "google"):
        written = members.write_signature("~" + signature, signer)  # type: ignore[arg-type]
        types.Part.model_validate({"thoughtSignature": written})
        assert members.read_signature(written) == ("~" + signature, signer)


def test_signatures_of_nobody_are_none() -> None:
    assert members.write_signature(None, "google") is None
    assert members.read_signature(None) == members.read_signature("") == (None, "")
    assert members.read_signature("not base64!") == ("not base64!", "google")
    assert members.read_signature("penstock.openai.x!") == ("x!", "openai")
    assert members.write_signature("YWI", "") == "YWI="
