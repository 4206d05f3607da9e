"""What need has to say where events are ranked: are there enough of them to learn from, and how exactly will the test
rows know an area under the ROC curve? (Hanley and McNeil 1982.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.intervals import auc_margin
from llmops.core.report import Number, Table
from llmops.stages.need.adequacy import recall_warnings
from llmops.stages.need.sample import SPLITS, Sample
from llmops.stages.need.told import Told
from llmops.tasks.event import event_of

RANKING = ("roc_auc", "average_precision")
"""Metrics that compare events with other rows."""
EVENTS_TO_LEARN = 100
"""Fewer training events than this teach little more than a rule of thumb would; a rule of thumb itself (Harrell 2015:
ten to twenty events for each thing that is learnt)."""
MARGINS = (0.05, 0.03, 0.02, 0.01)


def look(accept: Mapping[str, Any], sample: Sample, baseline: Mapping[str, Any], positive: str | None) -> Told:
    """All of it; the event is the class that the config calls `positive`, else the rarest."""
    counts = {split: sample.counts(split) for split in SPLITS}
    events = event_of(counts["train"], positive)
    by_split = {split: (counts[split][events], sum(counts[split].values()) - counts[split][events]) for split in SPLITS}
    wanted = float((accept.get("roc_auc") or {}).get("at_least") or baseline["valid"] or 0.75)
    expected = min(max(wanted, 0.5), 0.999)
    numbers: dict[str, Number] = {
        "classes": len(counts["train"]),
        **{f"rows_{split}": sum(by_split[split]) for split in SPLITS},
        **{f"events_{split}": by_split[split][0] for split in SPLITS},
        "roc_auc_margin": auc_margin(expected, *by_split["test"]),
    }
    rows: list[list[Number]] = [
        [split, events_, others, share(events_, others)] for split, (events_, others) in by_split.items()
    ]
    return Told(
        numbers,
        [
            Table(f"Events ({events}) and other rows", ["split", "events", "others", "share of events"], rows),
            margin_table(expected, *by_split["test"]),
        ],
        warnings(accept, by_split, expected),
    )


def share(events: int, others: int) -> float | None:
    """The share of events."""
    return events / (events + others) if events + others else None


def events_for(area: float, margin: float, events: int, others: int) -> int:
    """Test events, with as many others for each as now, from which the interval is no wider than +- `margin`."""
    ratio = others / events
    low, high = 1, 2
    while (auc_margin(area, high, max(1, round(high * ratio))) or 1) > margin:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        narrow = (auc_margin(area, middle, max(1, round(middle * ratio))) or 1) <= margin
        low, high = (low, middle) if narrow else (middle + 1, high)
    return low


def margin_table(area: float, events: int, others: int) -> Table:
    """How exactly the test rows know the area, and the events for other margins."""
    title = f"Test events, and how exactly they know a roc_auc near {area:.3g} (95 %)"
    if not events or not others:
        return Table(title, ["test events", "+-"], [])
    rows: list[list[Number]] = [[f"{events:,} (what there is)", auc_margin(area, events, others)]]
    rows += [[f"{events_for(area, margin, events, others):,}", margin] for margin in MARGINS]
    return Table(title, ["test events", "+-"], rows)


def warnings(accept: Mapping[str, Any], by_split: Mapping[str, tuple[int, int]], area: float) -> list[str]:
    """What deserves a person's eye."""
    events, others = by_split["test"]
    width = auc_margin(area, events, others)
    said = recall_warnings(accept, events)
    if by_split["train"][0] < EVENTS_TO_LEARN:
        few = by_split["train"][0]
        said.append(f"only {few} training rows are events; {EVENTS_TO_LEARN} or more are wanted to learn from")
    if width is None:
        return [*said, "no test row is an event (or all are), so roc_auc can't be measured on the test set"]
    if width > 0.05:
        needed = events_for(area, 0.05, events, others)
        knows = f"{events:,} test events know roc_auc near {area:.3g} only to +-{width:.3f}"
        said.append(f"{knows}; {needed:,} would bring it to +-0.05")
    margin = accept["champion"]["no_worse_by"] if accept.get("champion") else width
    if margin < width / 4:
        # two models of one kind agree on most rows: their difference is known about four times as exactly
        said.append(f"the gate champion.no_worse_by {margin:g} is finer than {events:,} test events can show")
    return said
