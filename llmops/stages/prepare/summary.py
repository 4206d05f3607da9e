"""What prepare has to say: counts, what was dropped and why, conflicts, lengths, and what deserves an eye."""

from __future__ import annotations

from collections import Counter
from typing import Any

from llmops.core.protocols import Row
from llmops.core.report import Number, Report, Table
from llmops.stages.prepare.gather import Gathered

CLASSES_SHOWN = 40
SHOWN = 10
FEW = 5  # training rows of a class below which it is called tiny
IMBALANCE = 10  # the largest class over the smallest from which a warning is due
CUT_SHARE = 0.05
PERCENTILES = (5, 50, 95, 99, 100)

Splits = dict[str, list[Row]]


def summary(found: Gathered, splits: Splits, augmented: int, figures: dict[str, Any], outside: str | None) -> Report:
    """The report of prepare; `figures` are the encoder's, `outside` is the label that belongs to no class."""
    counts = {split: Counter(row["label"] for row in rows) for split, rows in splits.items()}
    classes = sorted(set(counts["train"]), key=lambda label: (-counts["train"][label], label))
    reasons = found.dropped.by_reason()
    read = sum(loaded.read for loaded in found.loaded) + found.harvest_read
    bad = sum(len(loaded.bad) for loaded in found.loaded)
    kept = ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items())
    numbers: dict[str, Number] = {
        "rows_read": read,
        "bad_rows": bad,
        **{split: len(rows) for split, rows in splits.items()},
        "classes": len(classes),
        "dropped": sum(reasons.values()),
        "duplicates": reasons.get("duplicate", 0),
        "near_duplicates": reasons.get("near_duplicate", 0),
        "conflicting_label": reasons.get("conflicting_label", 0),
        "also_in_test": reasons.get("also_in_test", 0),
        "near_in_test": len(found.near_test),
        "harvest_rows": found.harvest_read,
        "harvest_kept": found.harvest_kept,
        "augmented": augmented,
        "max_tokens": figures.get("max_tokens"),
        "cut": figures.get("cut", 0),
    }
    return Report(
        headline=f"{read:,} rows read, {kept} in {len(classes)} classes; {sum(reasons.values()):,} dropped",
        numbers=numbers,
        tables=_tables(found, splits, counts, classes, outside),
        warnings=_warnings(found, splits, counts, classes, figures),
    )


def _tables(
    found: Gathered, splits: Splits, counts: dict[str, Counter[str]], classes: list[str], outside: str | None
) -> list[Table]:
    labels = [*classes[:CLASSES_SHOWN], *([outside] if outside else [])]
    title = "Rows by class" + (
        f" (the {CLASSES_SHOWN} largest of {len(classes)})" if len(classes) > CLASSES_SHOWN else ""
    )
    tables = [
        Table(title, ["class", *splits], [[label, *(counts[split][label] for split in splits)] for label in labels])
    ]
    if reasons := found.dropped.by_reason():
        tables.append(
            Table(
                "Dropped rows (each stands in dropped.jsonl)", ["reason", "rows"], [[r, n] for r, n in reasons.items()]
            )
        )
    notes = [note for loaded in found.loaded for note in loaded.notes]
    sources: list[list[Number]] = [[n.name, n.rows, n.bad, n.encoding or "-", n.delimiter or "-"] for n in notes]
    tables.append(Table("Sources", ["source", "rows", "unreadable", "encoding", "delimiter"], sources))
    tables.append(_lengths(splits))
    if found.conflicts:
        tables.append(_conflicts(found))
    near = [row for row in found.dropped.rows if row["reason"] == "near_duplicate"]
    if near:
        rows: list[list[Number]] = [[_short(row["text"]), _short(row["twin_text"])] for row in near[:SHOWN]]
        tables.append(Table(f"Near duplicates ({len(near):,} in all)", ["dropped", "its twin that stays"], rows))
    if found.near_test:
        rows = [[_short(test["text"]), _short(twin["text"])] for test, twin in found.near_test[:SHOWN]]
        tables.append(Table("Test rows with a near twin in training", ["test", "training"], rows))
    return tables


def _lengths(splits: Splits) -> Table:
    rows: list[list[Number]] = []
    for split, kept in splits.items():
        lengths = sorted(len(row["text"]) for row in kept)
        if lengths:
            rows.append([split, *(lengths[min(len(lengths) - 1, len(lengths) * p // 100)] for p in PERCENTILES)])
    return Table("Characters in a text", ["split", *(f"{p} %" if p < 100 else "longest" for p in PERCENTILES)], rows)


def _conflicts(found: Gathered) -> Table:
    rows: list[list[Number]] = [
        [_short(c.text), ", ".join(f"{label} {n}" for label, n in c.labels.items()), c.kept or "none (a tie)"]
        for c in found.conflicts[:SHOWN]
    ]
    return Table(f"Texts with several labels ({len(found.conflicts):,} in all)", ["text", "labels", "kept"], rows)


def _warnings(
    found: Gathered, splits: Splits, counts: dict[str, Counter[str]], classes: list[str], figures: dict[str, Any]
) -> list[str]:
    lost = {row["label"] for row in found.dropped.rows if row["reason"] == "label_not_in_train"}
    guessed = [f"{n.name} ({n.encoding})" for loaded in found.loaded for n in loaded.notes if n.encoding_found]
    cut, every = figures.get("cut", 0), sum(map(len, splits.values()))
    said = [
        (guessed, f"not UTF-8, the encoding was found out; look at a few rows of {_few(guessed)}"),
        (any(loaded.bad for loaded in found.loaded), _bad_rows(found)),
        (lost, f"left out, since no training row has them: {_few(lost)}"),
        (not splits["test"], "the test split is empty; nothing can be measured on it"),
        (found.conflicts, f"texts with several labels: {len(found.conflicts):,}; see the table"),
        (found.near_test, f"test rows with a near twin in training: {len(found.near_test):,}; they stay"),
        (
            cut > CUT_SHARE * every,
            f"{cut:,} of {every:,} texts are longer than {figures.get('max_tokens')} tokens and were cut; "
            "raise `task.max_tokens` if the end matters",
        ),
    ]
    return [line for due, line in said if due] + _class_warnings(counts, classes)


def _class_warnings(counts: dict[str, Counter[str]], classes: list[str]) -> list[str]:
    """What deserves an eye about the classes, the largest of which comes first in `classes`."""
    tiny = [label for label in classes if counts["train"][label] < FEW]
    most, least = counts["train"][classes[0]], counts["train"][classes[-1]]
    look_alike = _look_alike(classes)
    missing = {split: _without(counts, classes, split) for split in ("valid", "test")}
    said = [
        (tiny, f"fewer than {FEW} training rows: {_few(tiny)}"),
        *((labels, f"no {split} row: {_few(labels)}") for split, labels in missing.items()),
        (
            most >= IMBALANCE * least,
            f"imbalance: `{classes[0]}` has {most:,} training rows, `{classes[-1]}` {least:,}; "
            "consider `train.class_weights: balanced` and `task.metric: f1_macro`",
        ),
        (look_alike, f"labels that differ only in case or spaces: {_few(look_alike)}"),
    ]
    return [line for due, line in said if due]


def _bad_rows(found: Gathered) -> str:
    reasons: Counter[str] = Counter(bad.reason for loaded in found.loaded for bad in loaded.bad)
    return "bad rows were left out: " + ", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common())


def _without(counts: dict[str, Counter[str]], classes: list[str], split: str) -> list[str]:
    return [label for label in classes if counts[split] and not counts[split][label]]


def _look_alike(classes: list[str]) -> list[str]:
    folded = Counter("".join(label.casefold().split()) for label in classes)
    return sorted(label for label in classes if folded["".join(label.casefold().split())] > 1)


def _few(names: list[str] | set[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else "")


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
