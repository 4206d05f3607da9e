"""What prepare has to say: counts, what was dropped and why, what the fields hold, what deserves an eye, and where a
class is predicted the classes. The encoder adds its own figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from llmops.core.protocols import Job, Rows
from llmops.core.protocols.task import CLASSED
from llmops.core.report import Number, Report, Table, cell
from llmops.fields.kind import Kind
from llmops.fields.rows import columns_of
from llmops.stages.prepare.batch import Batch
from llmops.stages.prepare.classes import Classes, conflicts
from llmops.stages.prepare.gather import Gathered
from llmops.stages.prepare.phrases import SHOWN, brief, few, subject

CUT_SHARE = 0.05
TWIN_SHARE = 0.3
"""From so many of the rows on, twins are worth a word."""

Splits = Mapping[str, Rows]


def summary(job: Job, found: Gathered, splits: Splits, augmented: int, figures: dict[str, Any]) -> Report:
    """The report of prepare. `figures` are the encoder's: "max_tokens" and "cut", and what it wants told beside
    ("numbers": dict, "tables": list[Table], "passages": list[Passage], "warnings": list[str])."""
    section: Any = job.sections["task"]
    inputs = job.task.inputs(section)
    predicts = job.task.predicts(section)
    classed, several = predicts in CLASSED, predicts == "classes"
    classes = Classes(splits, getattr(section, "outside", None), several) if classed else None
    reasons = found.dropped.by_reason()
    read = sum(loaded.read for loaded in found.loaded) + found.harvest_read
    kept = ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items())
    if classes:
        kept += f" with {len(classes.names)} labels" if several else f" in {len(classes.names)} classes"
    return Report(
        headline=f"{read:,} rows read, {kept}; {sum(reasons.values()):,} dropped",
        numbers={**_numbers(found, splits, classes, read, augmented), **_encoded(figures)},
        tables=[
            *(classes.tables() if classes else []),
            *_tables(found, splits, inputs, job.task.settles),
            *figures.get("tables", []),
        ],
        passages=list(figures.get("passages", [])),
        warnings=[
            *_warnings(found, splits, figures, section, inputs),
            *_of_splits(found, splits, classed, inputs),
            *(classes.warnings() if classes else []),
            *figures.get("warnings", []),
        ],
    )


def _numbers(found: Gathered, splits: Splits, classes: Classes | None, read: int, augmented: int) -> dict[str, Number]:
    reasons = found.dropped.by_reason()
    return {
        "rows_read": read,
        "bad_rows": sum(len(loaded.bad) for loaded in found.loaded),
        **{split: len(rows) for split, rows in splits.items()},
        **(classes.numbers() if classes else {}),
        "dropped": sum(reasons.values()),
        "duplicates": reasons.get("duplicate", 0),
        "near_duplicates": reasons.get("near_duplicate", 0),
        **({"conflicting_label": reasons.get("conflicting_label", 0)} if classes else {}),
        "also_in_test": reasons.get("also_in_test", 0),
        "near_in_test": len(found.near_test),
        **({"described": found.described} if found.described else {}),
        "harvest_rows": found.harvest_read,
        "harvest_kept": found.harvest_kept,
        **({"augmented": augmented} if classes else {}),
    }


def _encoded(figures: dict[str, Any]) -> dict[str, Number]:
    lengths = {"max_tokens": figures["max_tokens"], "cut": figures["cut"]} if "max_tokens" in figures else {}
    return {**lengths, **figures.get("numbers", {})}


def _tables(found: Gathered, splits: Splits, inputs: Mapping[str, Kind], settles: bool) -> list[Table]:
    tables = []
    if reasons := found.dropped.by_reason():
        counted: list[list[Number]] = [[reason, n] for reason, n in reasons.items()]
        tables.append(Table("Dropped rows (each stands in dropped.jsonl)", ["reason", "rows"], counted))
    notes = [note for loaded in found.loaded for note in loaded.notes]
    sources: list[list[Number]] = [[n.name, n.rows, n.bad, n.encoding or "-", n.delimiter or "-"] for n in notes]
    tables.append(Table("Sources", ["source", "rows", "unreadable", "encoding", "delimiter"], sources))
    tables.append(field_table(splits, inputs))
    tables += conflicts(found, inputs) if settles else _bad(found)
    near = [row for row in found.dropped.rows if row["reason"] == "near_duplicate"]
    if near:
        rows: list[list[Number]] = [[brief(row, inputs), brief(row["twin_row"], inputs)] for row in near[:SHOWN]]
        tables.append(Table(f"Near duplicates ({len(near):,} in all)", ["dropped", "its twin that stays"], rows))
    if found.near_test:
        rows = [[brief(test, inputs), brief(twin, inputs)] for test, twin in found.near_test[:SHOWN]]
        tables.append(Table("Test rows with a near twin in training", ["test", "training"], rows))
    return tables


def field_table(splits: Splits, inputs: Mapping[str, Kind]) -> Table:
    """What each field holds, as its kind sees it; the training rows of a table, every split of a single field."""
    shown = splits if len(inputs) == 1 else {"train": splits["train"]}
    rows: list[list[Number]] = []
    for split, kept in shown.items():
        if not len(kept):
            continue
        columns = columns_of(kept, inputs)
        for name, kind in inputs.items():
            told = [f"{figure} {cell(value)}" for figure, value in kind.profile(columns[name]).items()]
            rows.append([split if len(inputs) == 1 else name, kind.name, "; ".join(told)])
    return Table("What the fields hold", ["split" if len(inputs) == 1 else "field", "kind", "values"], rows)


def _bad(found: Gathered) -> list[Table]:
    """Rows with a field that is off: where the row stands, and which field."""
    bad = [row for loaded in found.loaded for row in loaded.bad]
    if not bad:
        return []
    told: list[list[Number]] = [
        [row.origin, f"{row.reason}: {row.detail}" if row.detail else row.reason] for row in bad[:SHOWN]
    ]
    return [Table(f"Rows that can't be used ({len(bad):,} in all)", ["row", "why"], told)]


def _warnings(
    found: Gathered, splits: Splits, figures: dict[str, Any], section: Any, inputs: Mapping[str, Kind]
) -> list[str]:
    guessed = [f"{n.name} ({n.encoding})" for loaded in found.loaded for n in loaded.notes if n.encoding_found]
    unused = [f"{note.name}: {few(note.unused)}" for loaded in found.loaded for note in loaded.notes if note.unused]
    alone = [f"{note.unmatched:,} in {note.name}" for loaded in found.loaded for note in loaded.notes if note.unmatched]
    cut, every = figures.get("cut", 0), sum(map(len, splits.values()))
    limit = "context" if hasattr(section, "context") else "max_tokens"
    twins, read = found.dropped.by_reason().get("near_duplicate", 0), sum(loaded.read for loaded in found.loaded)
    what = subject(inputs).lower()
    said = [
        (
            twins > TWIN_SHARE * read,
            f"{twins:,} of {read:,} rows are near twins of others and were left out; if what sets them apart matters, "
            "raise `dedup.near` (0.9 by default; null: only equal ones)",
        ),
        (guessed, f"not UTF-8, the encoding was found out; look at a few rows of {few(guessed)}"),
        (alone, "rows whose key stands nowhere in a table that joins (its columns are missing there): " + few(alone)),
        (unused, "columns that no setting names were not read: " + "; ".join(unused)),
        (any(loaded.bad for loaded in found.loaded), _bad_rows(found)),
        (
            found.untrained,
            "left out of held-out rows, since no training row has them: "
            + few(f"{label} ({rows:,} rows)" for label, rows in found.untrained.items()),
        ),
        (found.conflicts, f"{what} that are labelled in several ways: {len(found.conflicts):,}; see the table"),
        *((True, line) for loaded in found.loaded if loaded.joined and (line := loaded.joined.warning())),
        (found.near_test, f"test rows with a near twin in training: {len(found.near_test):,}; they stay"),
        (
            cut > CUT_SHARE * every,
            f"{cut:,} of {every:,} {what} are longer than {figures.get('max_tokens')} tokens and were cut; "
            f"raise `task.{limit}` if what was cut matters",
        ),
    ]
    return [line for due, line in said if due]


def _of_splits(found: Gathered, splits: Splits, classed: bool, inputs: Mapping[str, Kind]) -> list[str]:
    """What the splits themselves deserve an eye for."""
    without_test = "nothing can be measured on it" if classed else "figures come from validation rows"
    shared = 0 if classed else _shared(found.splits)
    what = subject(inputs).lower()
    of = f"whose {what.removesuffix('s')} also stands" if what != "rows" else "whose inputs also stand"
    said = [
        (not len(splits["test"]), f"the test split is empty; {without_test}"),
        (shared, f"held-out rows {of} in training: {shared:,}"),
    ]
    return [line for due, line in said if due]


def _shared(splits: Mapping[str, Batch]) -> int:
    """Rows of valid and test whose inputs are a training row's too: the split was not by them, or nothing was
    de-duplicated."""
    trained = set(splits["train"].keys.tolist())
    return sum(key in trained for split in ("valid", "test") for key in splits[split].keys.tolist())


def _bad_rows(found: Gathered) -> str:
    reasons = Counter(bad.reason for loaded in found.loaded for bad in loaded.bad).most_common()
    more = f", and {len(reasons) - SHOWN} other reasons" if len(reasons) > SHOWN else ""
    return "bad rows were left out: " + ", ".join(f"{reason} {n:,}" for reason, n in reasons[:SHOWN]) + more
