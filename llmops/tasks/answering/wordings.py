"""The part of a proof that is about the generator: whether its wordings say only what the entries say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmops.core.intervals import wilson
from llmops.core.protocols import Proof, Room, Server
from llmops.core.report import Number, Table
from llmops.tasks.answering.config import PhraseSection
from llmops.tasks.asking import PATH, even_sample

MOST = 50
"""Questions that the generator is asked."""
PATIENCE = 3
"""So many times it may fail to answer at the beginning; then it is not there."""
SHOWN = 10


def add_wordings(proof: Proof, settings: PhraseSection, questions: Sequence[str], server: Server, room: Room) -> None:
    """Ask the server up to 50 of `questions`, which it answers, in the generator's words, and add to the proof what the
    check of each found; and a warning where the generator gave none."""
    asked = [questions[place] for place in even_sample(len(questions), MOST)]
    checked = ask_wordings(asked, server, room)
    wordings = [one for one in checked if one is not None]
    proof.numbers |= figures(wordings, len(checked) - len(wordings))
    if not wordings:
        none = f"no wording came from the generator at {settings.url}: is it running? Its faithfulness was not measured"
        proof.warnings.append(none if asked else "no question was answered, so there was nothing to phrase")
    elif len(wordings) < len(checked):
        lost = len(checked) - len(wordings)
        proof.warnings.append(f"on {lost} of {len(checked)} questions no wording came from the generator")
    failed = [[one["words"], one["why"]] for one in wordings if not one["faithful"]]
    if failed:
        title = f"Wordings that fail the check ({len(failed)} of {len(wordings)})"
        proof.tables.append(Table(title, ["wording", "why"], failed[:SHOWN]))


def ask_wordings(asked: Sequence[str], server: Server, room: Room) -> list[dict[str, Any] | None]:
    """What the check found of each wording, None where none came; one question after the other, since a generator may
    be slow. Ends early where the generator is not there."""
    found: list[dict[str, Any] | None] = []
    with room.progress("asking the generator", len(asked)) as bar:
        for question in asked:
            found.append(server.post(PATH, {"question": question})["checked"])
            bar.update(len(found))
            if len(found) == PATIENCE and not any(found):
                break
    return found


def figures(wordings: Sequence[dict[str, Any]], lost: int) -> dict[str, Number]:
    """faithfulness (mean K-precision), the share of wordings that fail the check with its 95 % interval, and counts;
    None without wordings."""
    failed = float(np.mean([not one["faithful"] for one in wordings])) if wordings else None
    low, high = wilson(failed, len(wordings)) if failed is not None else (None, None)
    return {
        "wordings": len(wordings),
        "wordings_missing": lost,
        "faithfulness": float(np.mean([one["precision"] for one in wordings])) if wordings else None,
        "unfaithful_share": failed,
        "unfaithful_share_low": low,
        "unfaithful_share_high": high,
    }
