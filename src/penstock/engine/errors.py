"""What can be wrong with a model folder or with a request to a model; every message says what to do.

Raised by the readers of a folder and by generation; mapped to a reply by whoever called the engine, never here.
"""


class EngineError(ValueError):
    """Something that the engine was given cannot be used."""


class BadModel(EngineError):
    """A model folder cannot be read: what is wrong with it, and what to do."""


class Full(EngineError):
    """All slots of a batch are taken: wait until a request has ended, or make the batch with more slots."""


class WindowExceeded(EngineError):
    """A prompt leaves no room for a single new token in the context window. Both figures are in tokens."""

    def __init__(self, prompt_tokens: int, window: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens} tokens, but the context window holds {window} including the reply: "
            f"send at most {max(window - 1, 0)} tokens."
        )
        self.prompt_tokens = prompt_tokens
        self.window = window

    def __reduce__(self) -> tuple[type["WindowExceeded"], tuple[int, int]]:
        """Pickle by the two figures, since the message is not an argument."""
        return type(self), (self.prompt_tokens, self.window)
