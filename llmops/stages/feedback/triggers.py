"""Triggers: the champion that serves now, and the reasons for which a retrain is due."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.registry import history, store
from llmops.stages.feedback.config import RetrainWhen

DAY_S = 86_400


@dataclass(frozen=True)
class Champion:
    """The version that serves, its bundle, since when (seconds since 1970), and what it was made of."""

    version: int
    bundle: Path
    since: float
    lineage: dict[str, Any]

    @property
    def harvest_rows(self) -> int:
        """Rows of the harvest that its training read."""
        return int(self.lineage.get("harvest_rows") or 0)

    def age_s(self) -> float:
        return max(0.0, time.time() - self.since)


def champion(registry: Path) -> Champion | None:
    """The champion of a project's registry; None before the first promotion. DataError when it is damaged."""
    found = store.champion(registry)
    if found is None:
        return None
    version, bundle = found
    moves = [line["at"] for line in history.read(registry) if line["version"] == version]
    try:
        lineage = json.loads((bundle / "bundle.json").read_bytes())["lineage"]
        pointer = registry / store.POINTER
        since = datetime.fromisoformat(moves[-1]).timestamp() if moves else pointer.stat().st_mtime
    except (OSError, ValueError, KeyError) as error:
        do = "go back to a version that is whole: llmops rollback CONFIG VERSION"
        raise DataError(f"the champion cannot be read: {error!r}", str(bundle), do) from error
    return Champion(version, bundle, since, dict(lineage))


def too_old(when: RetrainWhen, champion: Champion | None) -> bool:
    """Whether the trigger `every` has fired."""
    span = when.every_s()
    return span is not None and champion is not None and champion.age_s() >= span


def reasons(
    when: RetrainWhen, champion: Champion, corrections_new: int, drift_tests: list[str], what: str = "corrections"
) -> list[str]:
    """Why a retrain is due, in words; empty when it is not. `drift_tests` are the tests that fired, `what` is learnt
    from."""
    found = []
    if when.corrections is not None and corrections_new >= when.corrections:
        found.append(f"{corrections_new} new {what} (corrections: {when.corrections})")
    if when.drift and drift_tests:
        found.append(f"the traffic has drifted: {', '.join(drift_tests)} (drift: true)")
    if too_old(when, champion):
        found.append(f"the champion is {champion.age_s() / DAY_S:.1f} days old (every: {when.every})")
    return found
