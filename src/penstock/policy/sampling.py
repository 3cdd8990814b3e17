"""Pins what a feature fixes about sampling, whatever the request says.

Pure: a call in, a call out, which names the fields that the gateway changed, so that the verbatim lane can splice them
into the client's own bytes.
"""

from msgspec import structs

from penstock.call import Call, Sampling
from penstock.settings import Pins


def pin(call: Call, pins: Pins) -> Call:
    """Give the call with the pinned values; the same object if nothing changes."""
    sampling = call.sampling
    wanted: dict[str, float | int] = {}
    if pins.temperature is not None and sampling.temperature != pins.temperature:
        wanted["temperature"] = pins.temperature
    if pins.top_p is not None and sampling.top_p != pins.top_p:
        wanted["top_p"] = pins.top_p
    if pins.seed is not None and sampling.seed != pins.seed:
        wanted["seed"] = pins.seed
    if pins.max_tokens is not None and (sampling.max_tokens is None or sampling.max_tokens > pins.max_tokens):
        wanted["max_tokens"] = pins.max_tokens
    model = pins.model or call.model
    if not wanted and model == call.model:
        return call
    pinned: Sampling = structs.replace(sampling, **wanted) if wanted else sampling
    changed = (*call.changed, *(name for name in wanted if name not in call.changed))
    return structs.replace(call, sampling=pinned, model=model, changed=changed)
