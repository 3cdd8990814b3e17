"""What the generations of Claude take and refuse, by the name of the model.

Pure facts, dated November 2026; source: Anthropic's migration guides and its documentation of thinking, prefill and system
messages. A model that is no Claude (llama.cpp speaks this API as well) gets the oldest, widest rules.
Place in the line: behind `anthropic_messages_body.py`.
"""

import re
from typing import Final

from msgspec import Struct

_NAME: Final = re.compile(r"claude-(?:(opus|sonnet|haiku|fable|mythos)-)?(\d+)(?:[-.](\d{1,2}))?(?![\d])")
_ALWAYS_NEW: Final = re.compile(r"claude-(?:fable|mythos)")


class Rules(Struct, frozen=True):
    """What a model takes.

    adaptive        thinking whose amount it chooses itself, steered by an effort (from 4.6)
    budget          thinking with a number of tokens (until 4.6)
    sampling        temperature, top_p and top_k (until 4.6)
    both            temperature together with top_p (before 4.1)
    prefill         a last message of the assistant, which it goes on with (before 4.6)
    system_between  messages of the role `system` behind the first one (from Opus 4.8)
    """

    adaptive: bool = False
    budget: bool = True
    sampling: bool = True
    both: bool = True
    prefill: bool = True
    system_between: bool = False


_OLDEST: Final = Rules()


def rules_for(model: str) -> Rules:
    """Give the rules for a model's name, with or without a vendor's prefix and a date."""
    found = _NAME.search(model)
    if found is None:
        if _ALWAYS_NEW.search(model) is None:
            return _OLDEST
        version = (5, 0)
    else:
        version = (int(found[2]), int(found[3] or 0))
    family = found[1] if found is not None else ""
    newest = version >= (4, 7)
    return Rules(
        adaptive=version >= (4, 6),
        budget=not newest,
        sampling=not newest,
        both=version < (4, 1),
        prefill=version < (4, 6),
        system_between=version >= (4, 8) and (family, version) != ("sonnet", (5, 0)),
    )
