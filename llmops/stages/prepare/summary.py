"""What prepare has to say: counts, what was dropped and why, lengths, what deserves an eye, and where rows are labelled
their classes. The encoder adds its own figures."""

from __future__ import annotations

from collections import Counter
from typing import Any

from llmops.core.protocols import Row
from llmops.core.report import Number, Report, Table
from llmops.stages.prepare.classes import Classes, conflicts
from llmops.stages.prepare.gather import Gathered
from llmops.stages.prepare.phrases import SHOWN, few, short

CUT_SHARE = 0.05
TWIN_SHARE = 0.3
"""From so many of the rows on, twins are worth a word."""
PERCENTILES = (5, 50, 95, 99, 100)

Splits = dict[str, list[Row]]


def summary(
    found: Gathered, splits: Splits, augmented: int, figures: dict[str, Any], section: Any, labelled: bool
) -> Report:
    """The report of prepare. `figures` are the encoder's: "max_tokens" and "cut", and what it wants told beside
    ("numbers": dict, "tables": list[Table], "passages": list[Passage], "warnings": list[str]). `section` is the
    task's."""
    classes = Classes(splits, getattr(section, "outside", None)) if labelled else None
    reasons = found.dropped.by_reason()
    read = sum(loaded.read for loaded in found.loaded) + found.harvest_read
    kept = ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items())
    kept += f" in {len(classes.names)} classes" if classes else ""
    labels = {"classes": len(classes.names)} if classes else {}
    settled = {"conflicting_label": reasons.get("conflicting_label", 0)} if classes else {}
    numbers: dict[str, Number] = {
        "rows_read": read,
        "bad_rows": sum(len(loaded.bad) for loaded in found.loaded),
        **{split: len(rows) for split, rows in splits.items()},
        **labels,
        "dropped": sum(reasons.values()),
        "duplicates": reasons.get("duplicate", 0),
        "near_duplicates": reasons.get("near_duplicate", 0),
        **settled,
        "also_in_test": reasons.get("also_in_test", 0),
        "near_in_test": len(found.near_test),
        "harvest_rows": found.harvest_read,
        "harvest_kept": found.harvest_kept,
        **({"augmented": augmented} if classes else {}),
        "max_tokens": figures.get("max_tokens"),
        "cut": figures.get("cut", 0),
        **figures.get("numbers", {}),
    }
    return Report(
        headline=f"{read:,} rows read, {kept}; {sum(reasons.values()):,} dropped",
        numbers=numbers,
        tables=[
            *([classes.table()] if classes else []),
            *_tables(found, splits, labelled),
            *figures.get("tables", []),
        ],
        passages=list(figures.get("passages", [])),
        warnings=[
            *_warnings(found, splits, figures, section, labelled),
            *(classes.warnings() if classes else []),
            *figures.get("warnings", []),
        ],
    )


def _tables(found: Gathered, splits: Splits, labelled: bool) -> list[Table]:
    tables = []
    if reasons := found.dropped.by_reason():
        counted: list[list[Number]] = [[reason, n] for reason, n in reasons.items()]
        tables.append(Table("Dropped rows (each stands in dropped.jsonl)", ["reason", "rows"], counted))
    notes = [note for loaded in found.loaded for note in loaded.notes]
    sources: list[list[Number]] = [[n.name, n.rows, n.bad, n.encoding or "-", n.delimiter or "-"] for n in notes]
    tables.append(Table("Sources", ["source", "rows", "unreadable", "encoding", "delimiter"], sources))
    tables.append(_lengths(splits))
    tables += conflicts(found) if labelled else _bad(found)
    near = [row for row in found.dropped.rows if row["reason"] == "near_duplicate"]
    if near:
        rows: list[list[Number]] = [[short(row["text"]), short(row["twin_text"])] for row in near[:SHOWN]]
        tables.append(Table(f"Near duplicates ({len(near):,} in all)", ["dropped", "its twin that stays"], rows))
    if found.near_test:
        rows = [[short(test["text"]), short(twin["text"])] for test, twin in found.near_test[:SHOWN]]
        tables.append(Table("Test rows with a near twin in training", ["test", "training"], rows))
    return tables


def _lengths(splits: Splits) -> Table:
    rows: list[list[Number]] = []
    for split, kept in splits.items():
        lengths = sorted(len(row["text"]) for row in kept)
        if lengths:
            rows.append([split, *(lengths[min(len(lengths) - 1, len(lengths) * p // 100)] for p in PERCENTILES)])
    return Table("Characters in a text", ["split", *(f"{p} %" if p < 100 else "longest" for p in PERCENTILES)], rows)


def _bad(found: Gathered) -> list[Table]:
    """Rows with a field that is off: where the row stands, and which field."""
    bad = [row for loaded in found.loaded for row in loaded.bad]
    if not bad:
        return []
    told: list[list[Number]] = [
        [row.origin, f"{row.reason}: {row.detail}" if row.detail else row.reason] for row in bad[:SHOWN]
    ]
    return [Table(f"Rows that can't be used ({len(bad):,} in all)", ["row", "why"], told)]


def _warnings(found: Gathered, splits: Splits, figures: dict[str, Any], section: Any, labelled: bool) -> list[str]:
    lost = {row["label"] for row in found.dropped.rows if row["reason"] == "label_not_in_train"}
    guessed = [f"{n.name} ({n.encoding})" for loaded in found.loaded for n in loaded.notes if n.encoding_found]
    cut, every = figures.get("cut", 0), sum(map(len, splits.values()))
    limit = "context" if hasattr(section, "context") else "max_tokens"
    shared = 0 if labelled else _shared(splits)
    without_test = "nothing can be measured on it" if labelled else "figures come from validation rows"
    twins, read = found.dropped.by_reason().get("near_duplicate", 0), sum(loaded.read for loaded in found.loaded)
    said = [
        (
            twins > TWIN_SHARE * read,
            f"{twins:,} of {read:,} rows are near twins of others and were left out; if what sets them apart matters, "
            "raise `dedup.near` (0.9 by default; null: only equal texts)",
        ),
        (guessed, f"not UTF-8, the encoding was found out; look at a few rows of {few(guessed)}"),
        (any(loaded.bad for loaded in found.loaded), _bad_rows(found)),
        (lost, f"left out, since no training row has them: {few(lost)}"),
        (not splits["test"], f"the test split is empty; {without_test}"),
        (found.conflicts, f"texts with several labels: {len(found.conflicts):,}; see the table"),
        (found.near_test, f"test rows with a near twin in training: {len(found.near_test):,}; they stay"),
        (shared, f"held-out rows whose text also stands in training: {shared:,}"),
        (
            cut > CUT_SHARE * every,
            f"{cut:,} of {every:,} texts are longer than {figures.get('max_tokens')} tokens and were cut; "
            f"raise `task.{limit}` if the end matters",
        ),
    ]
    return [line for due, line in said if due]


def _shared(splits: Splits) -> int:
    """Rows of valid and test whose text is a training row's too: the split was not by the text, or nothing was
    de-duplicated."""
    trained = {row["text"].strip() for row in splits["train"]}
    return sum(row["text"].strip() in trained for split in ("valid", "test") for row in splits[split])


def _bad_rows(found: Gathered) -> str:
    reasons = Counter(bad.reason for loaded in found.loaded for bad in loaded.bad).most_common()
    more = f", and {len(reasons) - SHOWN} other reasons" if len(reasons) > SHOWN else ""
    return "bad rows were left out: " + ", ".join(f"{reason} {n:,}" for reason, n in reasons[:SHOWN]) + more
