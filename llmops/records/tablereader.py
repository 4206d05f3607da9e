"""Parquet files and Hugging Face data sets. The libraries come with the train extra and are imported when needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError, MachineError
from llmops.core.protocols import Row
from llmops.fields.words import as_python
from llmops.records.config import SourceSection
from llmops.records.reading import Reading
from llmops.records.textfiles import must_be_file

HUB = "hf://"
SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")
INSTALL = "pip install 'llmops-loop[train]'"


def read_parquet(path: Path, name: str) -> Reading:
    """A Parquet file. Raises MachineError without pyarrow, DataError when it is no Parquet file."""
    must_be_file(path, name)
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise _missing(name, "Parquet files need pyarrow, which is not installed") from None
    try:
        table = ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"{name} is not a Parquet file: {error}.", where=str(path), do="export it again") from None
    names = table.schema_arrow.names
    twice = frozenset(column for column in names if names.count(column) > 1)
    return Reading(name=name, rows=_batches(table, name), columns=list(dict.fromkeys(names)), duplicated=twice)


def _batches(table: Any, name: str) -> Iterator[tuple[Row, str]]:
    number = 0
    for batch in table.iter_batches(batch_size=1024):
        columns = [as_python(column) for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            yield dict(zip(batch.schema.names, cells, strict=True)), f"{name}:{number}"


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    return any((path / file).is_file() for file in SAVED)


def read_dataset(path: Path, name: str, source: SourceSection) -> Reading:
    """A Hugging Face data set: a folder of `save_to_disk`, or `hf://NAME` on the hub.

    Raises MachineError without `datasets`; DataError when the data set or the split is not there.
    """
    try:
        import datasets
    except ImportError:
        raise _missing(name, "Hugging Face data sets need `datasets`, which is not installed") from None
    on_hub = name.startswith(HUB)
    loaded = _from_hub(datasets, name, source) if on_hub else _from_disk(datasets, path, name, source)
    return Reading(name=name, rows=_dataset_rows(datasets, loaded, name), columns=list(loaded.column_names))


def _from_hub(datasets: Any, name: str, source: SourceSection) -> Any:
    try:
        return datasets.load_dataset(name.removeprefix(HUB), split=source.split, revision=source.revision)
    except Exception as error:  # the hub's client raises many kinds, of several libraries
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{name} can't be loaded from the hub: {reason}",
            where=name,
            do="check the name, the split and the network; or save it with save_to_disk and name the folder",
        ) from error


def _from_disk(datasets: Any, path: Path, name: str, source: SourceSection) -> Any:
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{name} is not a data set that save_to_disk wrote: {error}", where=str(path), do="save it again"
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        if source.split not in loaded:
            have = ", ".join(f"`{split}`" for split in loaded)
            raise DataError(
                f"{name} has no split `{source.split}`.", where=str(path), do=f"set `split:` to one of {have}"
            )
        loaded = loaded[source.split]
    return loaded


def _dataset_rows(datasets: Any, loaded: Any, name: str) -> Iterator[tuple[Row, str]]:
    """Rows with the numbers of ClassLabel columns, and of lists of them, turned into their names."""
    kinds = {column: getattr(feature, "feature", feature) for column, feature in loaded.features.items()}
    classes = {column: kind for column, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)}
    for number, row in enumerate(loaded, 1):
        yield {**row, **{column: _named(row[column], kind) for column, kind in classes.items()}}, f"{name}:{number}"


def _named(value: Any, kind: Any) -> Any:
    """The name of a class's number, or those of a list."""
    if isinstance(value, list):
        return [_named(one, kind) for one in value]
    return kind.int2str(value) if isinstance(value, int) and value >= 0 else value


def _missing(name: str, what: str) -> MachineError:
    return MachineError(f"{what}.", where=name, do=INSTALL)
