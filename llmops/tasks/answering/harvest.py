"""What users said about answers, as training rows: a question with the answer that is right."""

from __future__ import annotations

from typing import Any

from llmops.core.protocols import Judged, Row
from llmops.fields.hashing import row_id


def harvested(said: Judged, asked: Row | None) -> Row | None:
    """The question with the corrected answer, or with the given one that was praised; None for anything else.

    `asked` are the request's inputs. A correction is the right answer's words; the id of an entry that the response
    named stands for that entry's.
    """
    if asked is None:
        return None
    question = asked["text"]
    found = corrected(said) if said.correction is not None else praised(said)
    if found is None or not found[0].strip():
        return None
    answer, source = found
    return {
        "id": row_id(question, answer), "text": question, "answer": answer.strip(), "source": source,
        "at": said.said_at, "request_id": said.id,
    }  # fmt: skip


def corrected(said: Judged) -> tuple[str, str | None]:
    """(answer, source) of a correction."""
    assert said.correction is not None
    wanted = said.correction.strip()
    for one in named(said):
        if wanted in (one["entry"], one["text"].strip()):
            return one["text"], one["source"]
    return wanted, None


def praised(said: Judged) -> tuple[str, str | None] | None:
    """(answer, source) of an answer that somebody called right; None where the server abstained or was not praised."""
    response = said.response or {}
    answer = response.get("answer")
    if said.rating is None or said.rating < 1 or said.abstained or not isinstance(answer, str):
        return None
    return answer, response.get("source")


def named(said: Judged) -> list[dict[str, Any]]:
    """The entries of a response with their words, the best one's too when the server kept them back."""
    response = said.response or {}
    entries = [one for one in response.get("alternatives", []) if isinstance(one.get("text"), str)]
    best = response.get("answer") or (response.get("withheld") or {}).get("answer")
    if isinstance(best, str):
        entries = [{"entry": response.get("entry"), "text": best, "source": response.get("source")}, *entries]
    return entries
