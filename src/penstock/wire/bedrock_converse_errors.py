"""Errors of Converse, both ways: as a body with a header, and as an exception within a stream.

Pure. AWS says what an error is in the header `x-amzn-ErrorType`; the body has the words. Within a stream it is the header
`:exception-type` of the last frame. Place in the line: behind `bedrock_converse.py` and its streams. Source: the service
model of bedrock-runtime (its exceptions and their statuses).
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, Struct, structs
from msgspec.json import Decoder, encode

from penstock.errors import PenstockError, UpstreamAuth, UpstreamError, UpstreamFailed, UpstreamRejected
from penstock.wire.bedrock_converse_request_types import NAME
from penstock.wire.eventstream import Headers, event_frame, header_block
from penstock.wire.provider_error import MAX_JSON_BYTES, Said, classify, clean, may_be_shown, read_said

HEADER: Final = b"x-amzn-errortype"

_BY_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "UnrecognizedClientException",
        402: "ServiceQuotaExceededException",
        403: "AccessDeniedException",
        404: "ResourceNotFoundException",
        408: "ModelTimeoutException",
        424: "ModelErrorException",
        429: "ThrottlingException",
        503: "ServiceUnavailableException",
        504: "ModelTimeoutException",
        529: "ServiceUnavailableException",
    }
)
_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "accessdenied": 403,
        "unrecognizedclient": 403,
        "invalidsignature": 403,
        "expiredtoken": 403,
        "resourcenotfound": 404,
        "modeltimeout": 408,
        "modelerror": 424,
        "modelstreamerror": 424,
        "modelnotready": 429,
        "throttling": 429,
        "servicequotaexceeded": 429,
        "serviceunavailable": 503,
        "internalserver": 500,
        "internalfailure": 500,
        "validation": 400,
    }
)
"""What an exception means, by its name in small letters without `Exception`."""
_IN_STREAM: Final[Mapping[int, str]] = MappingProxyType(
    {429: "throttlingException", 503: "serviceUnavailableException", 529: "serviceUnavailableException"}
)
_MODEL_FAILED: Final = 424
_NO_MODEL: Final = re.compile(
    r"(?i)model identifier is invalid|on-demand throughput|not (?:found|supported) .*model|end of its life"
)
_TOO_LONG: Final = re.compile(r"(?i)input is too long|exceeds? the (?:maximum|model)|too many input tokens")


class _Body(Struct, rename={"kind": "__type"}):
    """An error's words, under the names that AWS's services have for them; some put the type into the body."""

    message: str | None = None
    Message: str | None = None
    kind: str | None = None


class _Shown(_Body, kw_only=True):
    """The least that makes an error body one of this dialect."""

    message: str


_BODY: Final = Decoder(_Body)


# -- to clients --


def write_error(error: PenstockError) -> bytes:
    """Write an error's body; what Bedrock itself said about the request goes on as it is."""
    if isinstance(error, UpstreamRejected) and error.dialect == NAME and error.body:
        return error.body
    return encode({"message": str(error)})


def error_type(status: int) -> str:
    """Give the name of the exception that stands for a status."""
    return _BY_STATUS.get(status) or ("ValidationException" if status < 500 else "InternalServerException")


def error_headers(error: PenstockError) -> tuple[tuple[bytes, bytes], ...]:
    """Give the header that tells the AWS SDKs which exception it is."""
    return ((HEADER, error_type(error.status).encode()),)


def write_exception(error: PenstockError) -> bytes:
    """Write an error as the last frame of a stream."""
    kind = _IN_STREAM.get(error.status)
    payload: dict[str, object] = {"message": str(error)}
    if kind is None and isinstance(error, UpstreamError) and not isinstance(error, UpstreamRejected | UpstreamAuth):
        kind = "modelStreamErrorException"
        payload |= {"originalStatusCode": error.status, "originalMessage": error.message}
    if kind is None:
        kind = "validationException" if error.status < 500 else "internalServerException"
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return event_frame(header_block(headers), encode(payload))


# -- from Bedrock --


def read_error(status: int, body: bytes) -> UpstreamError:
    """Say what an error means, by its status and words; its own body is kept where it may be shown."""
    said = _said(body)
    error = _classify(status, said)
    if isinstance(error, UpstreamRejected) and may_be_shown(body, _Shown):
        error.body = body
        error.dialect = NAME
    return error


def read_exception(headers: Headers, payload: bytes) -> UpstreamError:
    """Say what a frame means that is no event: an exception, or an error without a type."""
    kind = headers.get(":exception-type") or headers.get(":error-code") or ""
    said = _said(payload)
    if not said.message and isinstance(text := headers.get(":error-message"), str):
        said = structs.replace(said, message=clean(text))
    said = structs.replace(said, kind=kind if isinstance(kind, str) else "")
    status = _status_of(said.kind) or 500
    error = _classify(status, structs.replace(said, kind=""))
    if not isinstance(error, UpstreamAuth):
        error.message = error.message.replace(f"answered {status}", "ended its reply with an error", 1)
    return error


def _said(body: bytes) -> Said:
    """Read an error's words."""
    try:
        found = _BODY.decode(body) if len(body) <= MAX_JSON_BYTES else _Body()
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return read_said(body)
    text = found.message if found.message is not None else found.Message
    if text is None:
        return structs.replace(read_said(body), kind=found.kind or "")
    return Said(message=clean(text), kind=found.kind or "")


def _status_of(kind: str) -> int | None:
    """Give the status that goes with an exception's name, however it is written: `a.b#ThrottlingException:http://...`."""
    word = kind.rpartition("#")[2].partition(":")[0].lower().removesuffix("exception")
    return _STATUS.get(word)


def _classify(status: int, said: Said) -> UpstreamError:
    typed = _status_of(said.kind)
    if typed is not None and 400 <= status < 500 and typed != status:
        status = typed  # a quota's end is a 400 that goes away, like being throttled
    code = ""
    if status == 400 and _NO_MODEL.search(said.message):
        code = "model_not_found"
    elif status == 400 and _TOO_LONG.search(said.message):
        code = "context_length_exceeded"
    if status == _MODEL_FAILED:
        text = f"The provider answered {status}" + (f": {said.message}" if said.message else ".")
        return UpstreamFailed(text)
    return classify(status, Said(said.message, code))
