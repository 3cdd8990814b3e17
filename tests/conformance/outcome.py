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


def cannot(case: str, client: str, target: str) -> str:
    """Say why a cell cannot be; "" where it can."""
    if case == "count" and client in {"chat", "ollama"}:
        return "the client's API has no question for the number of tokens"
    if case == "embeddings":
        if client == "messages":
            return "Anthropic's API has no embeddings"
        if client == "converse":
            return "Bedrock embeds through `InvokeModel`, in each model's own format; Converse has no embeddings"
        if target in {"messages", "converse"}:
            return "the target's API has no embeddings: a 400 says so"
    if case == "model list" and client == "converse":
        return "Bedrock lists models in its control plane, not where models are called"
    if case == "image by URL":
        if client == "converse":
            return "Converse takes the bytes of a picture, or a place in S3"
        if client == "ollama":
            return "Ollama takes the bytes of a picture"
    if case == "refusal" and target == "ollama":
        return "Ollama has no word for a refusal"
    return ""


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
