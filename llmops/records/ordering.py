"""The split of running text: what comes last is held out."""

from __future__ import annotations

from collections.abc import Sequence


def by_order(sizes: Sequence[int], valid: float, test: float) -> list[str]:
    """The split of each row: the last share `test` of all characters tests, the share `valid` before it validates.

    `sizes` are the rows' characters, in the order of the files. A row belongs where its middle lies, so the shares are
    met as nearly as whole rows allow.
    """
    total, before = sum(sizes), 0
    places = []
    for size in sizes:
        middle = (before + size / 2) / max(1, total)
        before += size
        places.append("test" if middle >= 1 - test else "valid" if middle >= 1 - test - valid else "train")
    return places
