"""Lets a generator behind an OpenAI-compatible address phrase an answer from the entry that was found."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from llmops.tasks.answering.config import PhraseSection
from llmops.tasks.answering.faithful import Checked, check

AT_ONCE = 8
"""Questions of one batch that are phrased at the same time."""
INSTRUCTION = (
    "Answer the question with what the entry says, in one or two friendly sentences. Add nothing that the entry does"
    " not say. Answer in the language of the question."
)
logger = logging.getLogger(__name__)


class Phraser:
    """Asks the generator. Whatever goes wrong there costs the wording, never the answer: it stands in the log."""

    def __init__(self, settings: PhraseSection) -> None:
        self.settings = settings

    @cached_property
    def client(self) -> Any:
        """The HTTP client with its pool of connections; the key comes from the environment."""
        import httpx

        key = os.environ.get(self.settings.key or "", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(timeout=self.settings.timeout_s, headers=headers)

    def phrase_all(self, pairs: Sequence[tuple[str, str]]) -> list[Checked | None]:
        """The generator's wording of each (question, entry), checked against both; None where there is none."""
        if not pairs:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(pairs)), thread_name_prefix="phrase") as pool:
            return list(pool.map(lambda pair: self.checked(*pair), pairs))

    def checked(self, question: str, entry: str) -> Checked | None:
        """The wording of one answer with what the check found, which is also logged where it fails."""
        words = self.phrase(question, entry)
        if words is None:
            return None
        found = check(words, entry, question, self.settings.supported)
        if not found.faithful:
            logger.warning("a wording from %s fails the check: %s", self.settings.url, found.why)
        return found

    def phrase(self, question: str, entry: str) -> str | None:
        """The answer to one question in the generator's words; None when it does not answer with some."""
        body = {
            "model": self.settings.model,
            "messages": [
                {"role": "system", "content": INSTRUCTION},
                {"role": "user", "content": f"Entry:\n{entry}\n\nQuestion:\n{question}"},
            ],
            "max_tokens": self.settings.max_tokens,
            "temperature": 0,
        }
        try:
            said = self.client.post(f"{self.settings.url.rstrip('/')}/chat/completions", json=body)
            said.raise_for_status()
            words = str(said.json()["choices"][0]["message"]["content"] or "").strip()
        except Exception as error:  # the network, the status, or a body of another shape: all end alike
            logger.warning("no wording from %s: %r", self.settings.url, error)
            return None
        return words or None
