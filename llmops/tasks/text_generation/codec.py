"""GenerationCodec: chats and prompts to tokens, tokens to text, by the files of a bundle. No torch, no transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from llmops.core.errors import DataError
from llmops.core.protocols import TokenText
from llmops.fields.cleaning import cleaner
from llmops.tasks.text_generation.chat import Chat
from llmops.tasks.text_generation.examples import by_line
from llmops.tasks.text_generation.guard import GuardedTokenizer
from llmops.tasks.text_generation.pieces import Pieces
from llmops.tasks.text_generation.template import ChatTemplate
from llmops.tasks.text_generation.toolwords import (
    CALL,
    Message,
    called_words,
    result_words,
    tools_words,
    with_words,
)
from llmops.tasks.text_generation.turns import in_turns

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


class GenerationCodec:
    """What the server uses on a bundle that writes; see core.protocols.WritingCodec. Safe to share between threads.

    `tokenizer` and `spoken` (the chat template at work; None without one) are those that prepare encodes rows with.
    """

    call_marks = CALL

    def __init__(self, bundle: Path) -> None:
        """Reads bundle.json (settings, cleaning), tokenizer.json and chat_template.jinja. Raises DataError when one of
        them cannot be read."""
        try:
            manifest = json.loads((bundle / "bundle.json").read_bytes())
            settings = manifest["settings"]
            tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
            self.context = int(settings["context"])
            self.end_tokens = frozenset(int(token) for token in settings["end_tokens"])
            self.vocabulary = int(settings["vocabulary"])
            self.begin: int | None = settings.get("begin_token")
            self.system: str | None = settings.get("system")
            self._clean = cleaner(manifest.get("cleaning") or settings.get("cleaning") or UNCLEANED)
            self.tokenizer = GuardedTokenizer(tokenizer)
            self._pieces = Pieces(tokenizer)
            kept = tokenizer.get_added_tokens_decoder().items()
            self.added: Mapping[str, int] = {token.content: number for number, token in kept if not token.special}
            self.spoken = _chat(bundle, self.tokenizer, _special(settings, tokenizer), settings.get("join"))
        except Exception as error:  # tokenizers raises a bare Exception
            do = "make the bundle again: llmops compress CONFIG"
            raise DataError(f"the bundle cannot be read: {error!r}", str(bundle), do) from error
        self.chats = self.spoken is not None

    def chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> list[int]:
        """The tokens of a conversation, up to where the assistant's answer begins. Tools, their calls and results are
        written as in training rows. Raises ValueError in words when the model has no chat template, or the template
        refuses the conversation."""
        if self.spoken is None:
            raise ValueError("this model was not trained on chats; ask it for completions of a prompt")
        if not messages:
            raise ValueError("messages is empty")
        spoken = [self._message(message, f"messages[{number}]") for number, message in enumerate(messages)]
        told, _ = in_turns(spoken, self.spoken.join)
        if not told:
            raise ValueError("no message has words")
        plain = [self._cleaned(message) for message in with_words(told, tools_words(tools))]
        if self.system is not None and all(message["role"] != "system" for message in plain):
            plain.insert(0, {"role": "system", "content": self.system})
        return self.spoken.tokens(plain)

    def prompt(self, text: str) -> list[int]:
        """The tokens of a plain prompt, with the begin token where the model has one. Raises ValueError when nothing
        is left to begin with."""
        head = [] if self.begin is None else [self.begin]
        tokens = head + self.tokenizer.plain([by_line(text, self._clean)])[0]
        if not tokens:
            raise ValueError("the prompt is empty")
        return tokens

    def writer(self) -> TokenText:
        """A fresh decoder for one answer."""
        return self._pieces.writer()

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""
        return self._pieces.text(tokens)

    def piece(self, token: int) -> str:
        """One token as the API's logprobs name it."""
        return self._pieces.name(token)

    def letters(self, text: str) -> list[int]:
        """The tokens of a text in which no special or added token stands, whatever is written there."""
        return self.tokenizer.letters(text)

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, [vocabulary]; empty for special and added ones. Raises ValueError in words for a
        tokenizer whose tokens have no bytes of their own."""
        return self._pieces.every(self.vocabulary)

    def _message(self, message: Mapping[str, Any], field: str) -> Message:
        """A message as the training rows had it. Raises ValueError, which names the field."""
        role = ROLES.get(str(message.get("role")))
        if role is None:
            raise ValueError(f"{field}.role is {message.get('role')!r}; known are {', '.join(ROLES)}")
        content, calls = message.get("content"), message.get("tool_calls")
        if calls:
            return {"role": role, "content": called_words(content, [call["function"] for call in calls])}
        if not isinstance(content, str):
            raise ValueError(f"{field}.content is not text")
        if role == "tool":
            return {"role": "user", "content": result_words(content.strip())}
        return {"role": role, "content": content.strip()}

    def _cleaned(self, message: Message) -> Message:
        return {**message, "content": by_line(message["content"], self._clean).strip()}


UNCLEANED: dict[str, Any] = {"unicode": "none", "whitespace": False, "lowercase": False, "redact": []}


def _chat(bundle: Path, tokenizer: GuardedTokenizer, special: Mapping[str, str], join: str | None) -> Chat | None:
    path = bundle / "chat_template.jinja"
    if not path.is_file():
        return None
    return Chat(tokenizer, ChatTemplate(path.read_text(encoding="utf-8"), special), join)


def _special(settings: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, str]:
    """The special tokens that the template may name; worked out from their ids where bundle.json does not list them."""
    if "special_tokens" in settings:
        return dict(settings["special_tokens"])
    ids = {
        "bos_token": settings.get("begin_token"),
        "eos_token": next(iter(settings["end_tokens"]), None),
        "pad_token": settings.get("pad_token"),
    }
    return {name: str(tokenizer.id_to_token(number)) for name, number in ids.items() if number is not None}
