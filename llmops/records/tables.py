"""Tables as columns: the rows of all sources of a task that is `columned`, joined, typed and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.protocols import Row, Task
from llmops.fields.kind import BadCell, Kind
from llmops.fields.rows import Columned, noted
from llmops.records.columns import ColumnReading, read_columns
from llmops.records.config import SourceSection, as_source
from llmops.records.joining import join, unjoined
from llmops.records.reading import BadRow

if TYPE_CHECKING:
    import pyarrow as pa


def load_tables(
    sources: Sequence[str | SourceSection],
    root: Path,
    task: Task,
    section: Any,
    extra: Mapping[str, str],
    limit: int | None = None,
) -> tuple[Columned, list[BadRow], list[ColumnReading]]:
    """All rows of `sources` with the columns that the task reads, the rows that can't be used, and what was read.

    Columns that a source with `join:` brings stand beside the rows of the sources before it. See
    `examples.load_examples` for the errors.
    """
    kinds = task.reads(section)
    plain = [as_source(source) for source in sources]
    beside = unjoined(plain, root, kinds, limit)
    first = {name: kind for name, kind in kinds.items() if name not in beside.names}
    readings = [
        read_columns(source, root, beside.with_keys(first), extra, limit) for source in plain if source.join is None
    ]
    rows = readings[0].columns.joined([reading.columns for reading in readings[1:]])
    rows = join(rows, beside, list(kinds))
    made, gone = task.tabled(section, rows)
    assert isinstance(made, Columned)
    bad = [row for reading in [*readings, *beside.readings] for row in reading.bad]
    kept = np.ones(len(made), bool)
    for reason, places in gone.items():
        kept[places] = False
        bad += [BadRow(origin, reason) for origin in made.take(places).values("origin")]
    return made.take(np.flatnonzero(kept)), bad, [*readings, *beside.readings]


def typed(found: Sequence[Row], kinds: Mapping[str, Kind], like: Columned) -> Columned:
    """Rows as they stand in JSON as rows of the same columns as `like`; a cell that its kind can't read is missing."""
    import pyarrow as pa

    columns = {}
    for field in like.table.schema:
        kind = kinds.get(field.name)
        if kind is not None:
            columns[field.name] = kind.arrow(kind.column([_read(kind, row.get(field.name)) for row in found]))
        else:
            note = next((name for name in ("label", "origin", "weight") if noted(name) == field.name), "")
            columns[field.name] = pa.array([_note(note, row) for row in found])
    return Columned(
        pa.table({name: _cast(column, like.table.schema.field(name).type) for name, column in columns.items()})
    )


def _read(kind: Kind, cell: Any) -> Any:
    try:
        return kind.read(cell)
    except BadCell:
        return None


def _note(name: str, row: Row) -> Any:
    return 1.0 if name == "weight" else row.get(name)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return column if column.type == kind or pa.types.is_dictionary(kind) else column.cast(kind)
