"""The members that are read are those of the official SDK; a new one there is noticed here."""

import inspect

from openai.types.responses import response_create_params

from penstock.wire import openai_responses_request_types as wire


def test_the_options_that_are_read_are_the_sdks() -> None:
    ours = set(wire.Request.__struct_fields__)
    theirs = set(inspect.get_annotations(response_create_params.ResponseCreateParamsBase)) | {"stream"}
    assert ours <= theirs
    assert theirs - ours == {
        *("access_programs", "background_options", "context_management", "conversation", "image", "moderation"),
        *("prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier"),
        *("stream_options",),
    }, "these ride along; a new one may deserve a neutral form"
