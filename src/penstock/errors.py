"""Everything that can go wrong with a call, as one tree.

Each leaf fixes a stable `code`, the HTTP status that the caller sees and what the line does `then`: `stop`, `retry` the
same target, go on to the `next` one, or to the next one of another `model`. The message says what was wrong, the hint what
to do. Dialects write these in the client's own form; nothing here knows a dialect, and no message ever holds a key or a
prompt.

    PenstockError
    ├── CallerError                      then = stop: the caller has to change something
    │   ├── InvalidRequest          400  invalid_request
    │   ├── ContextOverflow         400  context_length_exceeded
    │   ├── Unsupported             400  unsupported_parameter   (as Inexpressible, next: another target may do it)
    │   ├── Unauthenticated         401  invalid_api_key
    │   ├── PermissionDenied        403  permission_denied
    │   ├── NotFound                404  not_found
    │   ├── UnknownModel            404  model_not_found
    │   ├── MethodNotAllowed        405  method_not_allowed
    │   └── TooLarge                413  request_too_large
    ├── LimitError                       then = stop: the caller may come again later
    │   ├── BudgetExhausted         402  budget_exhausted
    │   ├── RateLimited             429  rate_limit_exceeded
    │   └── Overloaded              503  overloaded
    ├── UpstreamError                    one try failed
    │   ├── UpstreamRejected        4xx  upstream_rejected       stop: the provider refused the caller's content
    │   ├── UpstreamAuth            502  upstream_auth           next: our own credential was refused
    │   ├── UpstreamMissing         502  upstream_missing        next: the provider does not know the model
    │   ├── UpstreamRateLimited     429  upstream_rate_limited   retry
    │   ├── UpstreamOverloaded      503  upstream_overloaded     retry (503 and 529 keep their number)
    │   ├── UpstreamFailed          502  upstream_failed         retry: 5xx, refused, reset, DNS, TLS
    │   ├── UpstreamTimeout         504  upstream_timeout        next: no first byte, or silence in between
    │   ├── UpstreamGarbled         502  upstream_garbled        next: not what it says it is, or cut short
    │   └── UpstreamInvalid         502  upstream_invalid_output model: the answer is not of the form that was asked for
    ├── NoTarget                    503  no_target               nothing in the plan can serve this call
    ├── DeadlineExceeded            504  deadline_exceeded
    ├── ClientClosed                499  client_closed           the caller hung up (the status is nginx's)
    ├── Internal                    500  internal
    └── ConfigError                   -  invalid_config          holds every mistake of a configuration at once
"""

from typing import ClassVar, Final, Literal

import msgspec

Then = Literal["stop", "retry", "next", "model"]

SHUTDOWN: Final = "shutting down"
"""The reason of a cancellation that the server gives when its drain is over."""


class PenstockError(Exception):
    """Base of the tree.

    `param` names the offending member of the request, `retry_after_s` how long the caller (or the line) should wait.
    `status` starts as the class's and may be narrowed per instance, such as 529 on `UpstreamOverloaded`. `call_id` names
    the receipt, once there is one; `worked` tells that the provider may have spent tokens on the try all the same.
    """

    code: ClassVar[str] = "internal"
    default_status: ClassVar[int] = 500
    then: ClassVar[Then] = "stop"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        param: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.status = self.default_status if status is None else status
        self.retry_after_s = retry_after_s
        self.call_id = ""
        self.worked = False

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class CallerError(PenstockError):
    """The caller has to change the request; trying again as it is cannot help."""

    code = "invalid_request"
    default_status = 400


class InvalidRequest(CallerError):
    """Malformed, of the wrong type or out of range; `param` says where."""


class ContextOverflow(CallerError):
    """The prompt and the asked-for output do not fit into the context window of any target."""

    code = "context_length_exceeded"


class Unsupported(CallerError):
    """The target cannot express what was asked and the caller wants strictness."""

    code = "unsupported_parameter"


class Inexpressible(Unsupported):
    """This target cannot express what was asked; another one may."""

    then: ClassVar[Then] = "next"


class Unauthenticated(CallerError):
    """No key, or one that is unknown, revoked or expired."""

    code = "invalid_api_key"
    default_status = 401


class PermissionDenied(CallerError):
    """The key is fine and may not do this."""

    code = "permission_denied"
    default_status = 403


class NotFound(CallerError):
    """No such endpoint or record."""

    code = "not_found"
    default_status = 404


class UnknownModel(CallerError):
    """No model of that name; the hint names the nearest ones."""

    code = "model_not_found"
    default_status = 404


class MethodNotAllowed(CallerError):
    """The endpoint exists under another method."""

    code = "method_not_allowed"
    default_status = 405


class TooLarge(CallerError):
    """The request exceeds a size limit."""

    code = "request_too_large"
    default_status = 413


class LimitError(PenstockError):
    """A limit of this gateway was reached."""

    code = "overloaded"
    default_status = 503


class BudgetExhausted(LimitError):
    """The dearest end of this call does not fit into a budget that applies to it."""

    code = "budget_exhausted"
    default_status = 402


class RateLimited(LimitError):
    """Requests, tokens or calls at once exceed what the team, key or feature may do."""

    code = "rate_limit_exceeded"
    default_status = 429


class Overloaded(LimitError):
    """This process has more work than it can finish in time, or is draining."""


class UpstreamError(PenstockError):
    """One try at one target failed; `body` and `body_type` hold the provider's own error where it may be passed on."""

    code = "upstream_failed"
    default_status = 502
    then: ClassVar[Then] = "retry"

    body: bytes = b""
    dialect: str = ""


class UpstreamRejected(UpstreamError):
    """The provider refused the caller's content (400, 413, 422 ...): another try would be refused as well."""

    code = "upstream_rejected"
    default_status = 400
    then: ClassVar[Then] = "stop"


class UpstreamAuth(UpstreamError):
    """The provider refused the gateway's own credential; its text is never shown, since it may quote the key."""

    code = "upstream_auth"
    then: ClassVar[Then] = "next"


class UpstreamMissing(UpstreamError):
    """The provider does not know the model or the path."""

    code = "upstream_missing"
    then: ClassVar[Then] = "next"


class UpstreamRateLimited(UpstreamError):
    """429 from the provider; `retry_after_s` is what it asked for."""

    code = "upstream_rate_limited"
    default_status = 429


class UpstreamOverloaded(UpstreamError):
    """503 or 529 from the provider."""

    code = "upstream_overloaded"
    default_status = 503


class UpstreamFailed(UpstreamError):
    """The provider failed (5xx), or could not be reached."""


class UpstreamTimeout(UpstreamError):
    """The provider stayed silent for longer than its limits allow."""

    code = "upstream_timeout"
    default_status = 504
    then: ClassVar[Then] = "next"


class UpstreamGarbled(UpstreamError):
    """The reply is not what it says it is: malformed, cut short, of a foreign type."""

    code = "upstream_garbled"
    then: ClassVar[Then] = "next"


class UpstreamInvalid(UpstreamError):
    """The answer is whole and not of the form that was asked for; the same model elsewhere would do no better."""

    code = "upstream_invalid_output"
    then: ClassVar[Then] = "model"


class NoTarget(PenstockError):
    """Nothing in the plan can serve this call."""

    code = "no_target"
    default_status = 503


class DeadlineExceeded(PenstockError):
    """The one deadline over queue, tries and waits has passed."""

    code = "deadline_exceeded"
    default_status = 504


class ClientClosed(PenstockError):
    """The caller hung up; nobody reads this, but the receipt keeps it."""

    code = "client_closed"
    default_status = 499


class Internal(PenstockError):
    """A defect of the gateway itself; the details stand in its log under the call's id, never in the reply."""


class Mistake(msgspec.Struct, frozen=True):
    """One mistake in a configuration: where, what, and what was probably meant."""

    key: str
    message: str
    line: int | None = None
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}, {self.key}" if self.line else self.key
        return f"{place}: {self.message}" + (f" {self.suggestion}" if self.suggestion else "")


class ConfigError(PenstockError):
    """A configuration that cannot be used; `mistakes` lists all of them."""

    code = "invalid_config"

    def __init__(self, source: str, mistakes: tuple[Mistake, ...]) -> None:
        self.source = source
        self.mistakes = mistakes
        count = len(mistakes)
        lines = "".join(f"\n  {mistake}" for mistake in mistakes)
        super().__init__(f"{source} has {count} mistake{'s' if count != 1 else ''}:{lines}")
