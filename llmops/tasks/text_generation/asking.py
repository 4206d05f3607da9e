"""Asks the real server as its clients do: held-out rows token by token, and questions that it answers freely."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Server
from llmops.tasks.text_generation.config import TextGenerationSection
from llmops.tasks.text_generation.windows import Window

SINGLE = 20
"""Questions asked one by one and streamed, for the times; the rest come eight at once."""
ANSWERED = 60
TOGETHER = 8
TIMEOUT_S = 300.0
SHARE_OF_DOCUMENT = 0.5


@dataclass(frozen=True)
class Asked:
    """A held-out question: a conversation, or the beginning of a document; `answer` is the written one, if any."""

    id: str
    shown: str
    messages: list[Mapping[str, str]]
    prompt: str
    answer: str | None


@dataclass(frozen=True)
class Reply:
    """The server's answer; `first_token_ms` of streamed ones; `finished`: it came to an end by itself."""

    text: str
    tokens: int
    finished: bool
    took_ms: float
    first_token_ms: float | None = None


def read_forced(server: Server, seen: Sequence[Window], told: Callable[[int], None]) -> dict[str, Any]:
    """Raw answers (see assess.py) that the server gives when it reads the windows: /v1/completions with `echo`."""
    argmax, logp = [], []
    for index, window in enumerate(seen):
        body = {"prompt": window.tokens.tolist(), "max_tokens": 0, "echo": True, "logprobs": 1}
        said = server.post("/v1/completions", body)["choices"][0]["logprobs"]
        places = window.counted.tolist()
        argmax += [said["top_token_ids"][place][0] for place in places]
        logp += [said["token_logprobs"][place] for place in places]
        told(index + 1)
    return {"argmax": np.array(argmax, np.int64), "logp": np.array(logp, np.float32)}


def questions(section: TextGenerationSection, dataset: Path, split: str) -> list[Asked]:
    """At most `ANSWERED` questions, evenly spread over the split."""
    lines = [line for line in (dataset / f"{split}.jsonl").read_text(encoding="utf-8").split("\n") if line]
    kept = min(len(lines), ANSWERED)
    rows = [json.loads(lines[index * len(lines) // kept]) for index in range(kept)]
    return [_asked(section, row) for row in rows]


def _asked(section: TextGenerationSection, row: Mapping[str, Any]) -> Asked:
    if section.objective == "language-model":
        text = str(row["document"])
        prompt = text[: max(1, min(int(len(text) * SHARE_OF_DOCUMENT), section.context // 2))]
        return Asked(str(row["id"]), prompt, [], prompt, None)
    messages = row["messages"]
    answer = row.get("chosen")
    if answer is None:
        messages, answer = messages[:-1], messages[-1]["content"]
    shown = "\n".join(f"{message['role']}: {message['content']}" for message in messages if message["role"] != "system")
    return Asked(str(row["id"]), shown, messages, "", str(answer))


def ask_all(
    server: Server, section: TextGenerationSection, asked: Sequence[Asked], told: Callable[[int], None]
) -> list[Reply]:
    """Greedy answers to all questions: the first ones streamed one by one, the others together."""
    if asked:
        ask(server, section, asked[0], stream=True)  # what is set up at the first request is not its fault
    replies = []
    for one in asked[:SINGLE]:
        replies.append(ask(server, section, one, stream=True))
        told(len(replies))
    with ThreadPoolExecutor(TOGETHER) as pool:
        for reply in pool.map(lambda one: ask(server, section, one, stream=False), asked[SINGLE:]):
            replies.append(reply)
            told(len(replies))
    return replies


def ask(server: Server, section: TextGenerationSection, one: Asked, stream: bool) -> Reply:
    """One greedy answer, over a connection of its own. Raises DataError when it is not 200."""
    path = "/v1/chat/completions" if one.messages else "/v1/completions"
    body: dict[str, Any] = {"messages": one.messages} if one.messages else {"prompt": one.prompt}
    body |= {"temperature": 0, "max_tokens": section.answer.max_tokens, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    began = time.perf_counter()
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT_S)) as connection:
        connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            said = response.read().decode(errors="replace")
            raise DataError(
                f"the server answered {response.status} to a held-out row: {said[:300]}", one.id, "see deploy's log"
            )
        if stream:
            return _streamed(response, began)
        said = json.loads(response.read())
    choice = said["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    took_ms = (time.perf_counter() - began) * 1000
    return Reply(text, said["usage"]["completion_tokens"], choice["finish_reason"] == "stop", took_ms)


def _streamed(response: http.client.HTTPResponse, began: float) -> Reply:
    """A reply put together from server-sent events."""
    pieces, tokens, finished, first = [], 0, False, None
    for raw in response:
        line = raw.decode().strip()
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data:"))
        for choice in event["choices"]:
            piece = choice["delta"].get("content") if "delta" in choice else choice.get("text")
            if piece:
                first = first or time.perf_counter()
                pieces.append(piece)
            finished = finished or choice.get("finish_reason") == "stop"
        if event.get("usage"):
            tokens = event["usage"]["completion_tokens"]
    took = time.perf_counter() - began
    return Reply("".join(pieces), tokens, finished, took * 1000, ((first or time.perf_counter()) - began) * 1000)
