"""What each cell of the grid comes to: it works, it works with something left out that is named, or why it cannot be."""

CLIENT_NAMES = {
    "chat": "`openai` (chat completions)",
    "responses": "`openai` (responses)",
    "messages": "`anthropic`",
    "generate": "`google-genai`",
    "converse": "`boto3` (bedrock-runtime)",
    "ollama": "`ollama`",
}
DIALECTS = tuple(CLIENT_NAMES)
CASE_NAMES = (
    "plain",
    "streamed",
    "empty",
    "tools",
    "parallel tools",
    "tool results",
    "image by URL",
    "image inline",
    "structured output",
    "reasoning",
    "refusal",
    "length",
    "error 400",
    "provider's 401",
    "rate limit 429",
    "failure 500",
    "overload 529",
    "wrong key",
    "unknown model",
    "broken stream",
    "count",
    "embeddings",
    "model list",
)
FAMILY = {
    "chat": "anthropic",
    "responses": "openai",
    "messages": "anthropic",
    "generate": "google",
    "converse": "anthropic",
}
"""Whose signatures each stand-in makes; Ollama's API has none."""
TARGET_IDS = {"chat": "call_", "responses": "call_", "messages": "toolu_", "converse": "tooluse_"}
"""How the ids of calls begin where the API has ids."""

THINKERS = {
    "chat": "claude-",
    "responses": "gpt-5-",
    "messages": "claude-",
    "generate": "gemini-2.5-",
    "converse": "anthropic.claude-",
    "ollama": "gpt-oss-",
}
"""How the names of models begin that think: some APIs take what belongs to thinking for such names only."""
ONCE = frozenset({"model list", "wrong key", "unknown model"})
"""Cases in which no target is asked."""


_NOT_ASKED = {
    ("count", "chat"): "the client's API has no question for the number of tokens",
    ("count", "ollama"): "the client's API has no question for the number of tokens",
    ("embeddings", "messages"): "Anthropic's API has no embeddings",
    (
        "embeddings",
        "converse",
    ): "Bedrock embeds through `InvokeModel`, in each model's own format; Converse has no embeddings",
    ("model list", "converse"): "Bedrock lists models in its control plane, not where models are called",
    ("image by URL", "converse"): "Converse takes the bytes of a picture, or a place in S3",
    ("image by URL", "ollama"): "Ollama takes the bytes of a picture",
}
"""By case and client: what the client's own API cannot ask."""
_NOT_ANSWERED = {
    ("embeddings", "messages"): "the target's API has no embeddings: a 400 says so",
    ("embeddings", "converse"): "the target's API has no embeddings: a 400 says so",
    ("refusal", "ollama"): "Ollama has no word for a refusal",
}
"""By case and target: what the target's own API cannot answer."""


def cannot(case: str, client: str, target: str) -> str:
    """Say why a cell cannot be; "" where it can."""
    return _NOT_ASKED.get((case, client)) or _NOT_ANSWERED.get((case, target)) or ""


def drops(case: str, client: str, target: str, turn: int = 1) -> tuple[str, ...]:
    """Name what the target cannot express of a case, as `x-penstock-dropped` lists it."""
    if client == target:
        return ()
    if case == "image by URL" and target in {"converse", "ollama"}:
        return ("image",)
    if case != "reasoning":
        return ()
    lost = ["thinking"] if client == "responses" and target == "chat" else []
    if turn == 2 and target != "ollama" and (target == "generate" or client == "ollama"):
        lost.append("reasoning")
    return tuple(sorted(lost))
