"""A judge behind any OpenAI-compatible address: grades an answer from 1 to 10 (Zheng et al. 2023, MT-bench)."""

from __future__ import annotations

import json
import re
from urllib.error import URLError
from urllib.request import Request, urlopen

from llmops.core.errors import MachineError
from llmops.tasks.text_generation.config import JudgeSection

ASKED = (
    "Grade the assistant's answer for correctness, helpfulness and tone, from 1 (useless) to 10 (excellent).\n"
    "Reply with the number only.\n\nConversation:\n{question}\n\nAnswer:\n{answer}\n\nGrade:"
)
TIMEOUT_S = 120.0


def grade(judge: JudgeSection, question: str, answer: str) -> float:
    """The judge's grade. Raises MachineError when it cannot be reached or says no number."""
    body = {
        "model": judge.model,
        "temperature": 0,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": ASKED.format(question=question, answer=answer)}],
    }
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {judge.key}"} if judge.key else {})
    url = f"{judge.url.rstrip('/')}/chat/completions"
    try:
        with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=TIMEOUT_S) as response:
            said = json.loads(response.read())["choices"][0]["message"]["content"]
    except (URLError, OSError, ValueError, KeyError, IndexError) as error:
        raise MachineError(f"the judge does not answer: {error}", url, "check task.judge, or leave it out") from error
    number = re.search(r"\d+(\.\d+)?", said)
    if number is None:
        raise MachineError(f"the judge gave no grade: {said[:80]!r}", url, "take another model as judge")
    return min(10.0, max(1.0, float(number.group())))
