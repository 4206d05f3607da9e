"""Any source of the config as rows: `read(source, root)` finds out what it is and hands it to its reader."""

from __future__ import annotations

from pathlib import Path

from llmops.core.errors import DataError
from llmops.records.config import SourceSection, as_source, is_database
from llmops.records.csvreader import read_csv
from llmops.records.folderreader import read_folder
from llmops.records.jsonlreader import read_jsonl
from llmops.records.jsonreader import read_json
from llmops.records.plaintext import read_text
from llmops.records.reading import Reading
from llmops.records.sqlreader import read_sql
from llmops.records.tablereader import HUB, is_saved_dataset, read_dataset, read_parquet
from llmops.records.textfiles import must_be_file

ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
PLAIN = {".txt", ".text", ".md"}
"""Endings that are plain text, and no table, for a task that reads one column."""


def source_path(source: str | SourceSection, root: Path) -> Path | None:
    """The file or folder of a source, absolute; None for a data set on the hub and for a database."""
    path = as_source(source).path
    return None if path.startswith(HUB) or is_database(source) else (root / Path(path).expanduser()).resolve()


def read(source: str | SourceSection, root: Path, columns: tuple[str, ...] = ("text", "label")) -> Reading:
    """The rows of one source, lazily, each with its origin "file:line".

    `root` is what relative paths are relative to; `columns` are those that the task reads: they name what text without
    names holds (a text and its folder's label; one column alone means plain text), and are empty for a task that
    recognises rows by their shape. Raises DataError for what is missing, unreadable or not what it claims to be,
    MachineError when the library for it is not installed.
    """
    source = as_source(source)
    if is_database(source):
        return read_sql(source, root)
    path = source_path(source, root)
    form = _format(source, path, columns)
    if form == "hf":
        return read_dataset(path or root, source.path, source)
    assert path is not None
    if form == "text":
        return read_text(path, source.path, source, columns[0] if columns else "text")
    if form == "folder":
        if not path.is_dir():
            raise DataError(f"there is no folder {source.path}.", where=str(path), do="check `path:` and `format:`")
        return read_folder(path, source.path, source, columns)
    if form == "parquet":
        return read_parquet(path, source.path)
    return {"csv": read_csv, "json": read_json, "jsonl": read_jsonl}[form](path, source.path, source)


def _format(source: SourceSection, path: Path | None, columns: tuple[str, ...]) -> str:
    if path is None:
        return "hf"
    plain = len(columns) == 1
    if source.format != "auto":
        return "text" if plain and source.format == "folder" else source.format
    if path.is_dir():
        return "hf" if is_saved_dataset(path) else "text" if plain else "folder"
    must_be_file(path, source.path)
    ending = path.suffix.lower()
    if plain and ending in PLAIN:
        return "text"
    if ending not in ENDINGS:
        raise DataError(
            f"{source.path}: llmops can't tell from the ending `{ending}` what this is.",
            where=str(path),
            do="write the source in its long form with `format: csv` (or jsonl, json, text, parquet, folder, hf)",
        )
    return ENDINGS[ending]
