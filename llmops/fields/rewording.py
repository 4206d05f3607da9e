"""The verb augment: new training rows from old ones (EDA, Wei and Zou 2019): swap, delete, mistype, replace words.

What happens to a row depends on the seed and the row alone, so that growing data changes no row's copies.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from llmops.core.protocols import Row
from llmops.fields.config import AugmentStep
from llmops.fields.hashing import normalise, place

Synonyms = dict[str, list[str]]
Clean = Callable[[str], str]
ATTEMPTS = 4  # tries at a text that is new, for each wanted copy
SYNONYM_SHARE = 0.3  # of the words that have a synonym


def augment(
    rows: list[Row],
    step: AugmentStep,
    seed: int,
    taken: set[str],
    synonyms: Synonyms,
    clean: Clean,
    field: str = "text",
) -> list[Row]:
    """New rows made from `rows` by rewording `field`, each with "made_from", the id of its original.

    `taken` holds the normalised texts that no new row may equal (all splits'); it grows. `clean` is what every text
    goes through before training.
    """
    made = []
    for row in rows:
        dice = random.Random(f"{seed}:{row['id']}")
        for copy in range(_copies(step.copies, row["id"])):
            text = _new_text(row[field], step, dice, taken, synonyms, clean)
            if text is not None:
                origin = f"{row['origin']}+{copy + 1}"
                made.append({**row, field: text, "origin": origin, "made_from": row["id"]})
    return made


def _copies(wanted: float, row: str) -> int:
    """`wanted` on average over rows: 1.5 is one for half of them, two for the other half."""
    return int(wanted) + (place(f"copies:{row}") < wanted - int(wanted))


def _new_text(
    text: str, step: AugmentStep, dice: random.Random, taken: set[str], synonyms: Synonyms, clean: Clean
) -> str | None:
    words, glue = _words(text)
    for _ in range(ATTEMPTS):
        new = clean(glue.join(_changed(words, step, dice, synonyms)))
        key = normalise(new)
        if key and key not in taken:
            taken.add(key)
            return new
    return None


def _words(text: str) -> tuple[list[str], str]:
    """The words and what joins them; where words are not set apart by spaces, each character is one."""
    words = text.split()
    spaced = len(words) > 1 or text.isascii()
    return (words, " ") if spaced else (list(text), "")


def _changed(words: list[str], step: AugmentStep, dice: random.Random, synonyms: Synonyms) -> list[str]:
    words = [_synonym(word, synonyms, dice) for word in words]
    for _ in range(_times(step.swap * len(words) / 2, dice)):
        one, other = dice.randrange(len(words)), dice.randrange(len(words))
        words[one], words[other] = words[other], words[one]
    kept = [word for word in words if dice.random() >= step.delete]
    words = kept or [dice.choice(words)]
    return [_mistyped(word, dice) if dice.random() < step.typos else word for word in words]


def _times(mean: float, dice: random.Random) -> int:
    return int(mean) + (dice.random() < mean - int(mean))


def _synonym(word: str, synonyms: Synonyms, dice: random.Random) -> str:
    bare = word.strip(".,;:!?\"'()").casefold()
    if bare not in synonyms or dice.random() >= SYNONYM_SHARE:
        return word
    at = word.casefold().find(bare)
    return word[:at] + dice.choice(synonyms[bare]) + word[at + len(bare) :]


def _mistyped(word: str, dice: random.Random) -> str:
    """Two letters swapped, one left out, or one typed twice; placeholders such as <email> stay."""
    if len(word) < 3 or word.startswith("<"):
        return word
    at = dice.randrange(len(word) - 1)
    return dice.choice(
        [word[:at] + word[at + 1] + word[at] + word[at + 2 :], word[:at] + word[at + 1 :], word[: at + 1] + word[at:]]
    )
