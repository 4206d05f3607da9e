"""TaskBase: what most tasks say alike, so that a task's own file says only what is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from llmops.core.errors import Mistake
from llmops.core.protocols import Opened, Places, Row, Rows
from llmops.core.protocols.task import Predicts
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import Kind

TEXT: Mapping[str, Kind] = {"text": kind_of(FieldSection(kind="text"))}


class TaskBase:
    """Defaults of `core.protocols.Task`: rows that are recognised one by one, answered at once."""

    runtime: Literal["oneshot", "stepper"] = "oneshot"
    columned: ClassVar[bool] = False
    settles: ClassVar[bool] = False
    forms: tuple[str, ...] = ("float32", "int8", "int8-weights")
    default_forms: tuple[str, ...] = ("float32", "int8", "int8-weights")

    def predicts(self, section: Any) -> Predicts:
        """Nothing that a row holds as a label."""
        return "nothing"

    def reads(self, section: Any) -> Mapping[str, Kind]:
        """Rows are recognised by `example`."""
        return {}

    def tabled(self, section: Any, rows: Rows) -> tuple[Rows, Mapping[str, Any]]:
        """As they are."""
        return rows, {}

    def briefed(self, section: Any, need: Any) -> Any:
        """The block as it is: nothing that `need:` asks changes the answers."""
        return section

    def preparing(self, section: Any) -> dict[str, Any]:
        """All of it."""
        plain: dict[str, Any] = section.plain()
        return plain

    def learning(self, section: Any) -> dict[str, Any]:
        """All of it."""
        plain: dict[str, Any] = section.plain()
        return plain

    def complete(self, section: Any, dataset: Path, opened: Opened, folder: Path) -> None:
        """A candidate's folder is whole as it is."""


class TextTask(TaskBase):
    """A task whose rows are about one text each, "text"; its model may start from a pretrained one."""

    asks_as: ClassVar[str] = "text"
    """The field of a request that holds the text."""

    def inputs(self, section: Any) -> Mapping[str, Kind]:
        """The text."""
        return TEXT

    def cleaned(self, row: Row, clean: Callable[[str], str]) -> Row:
        """The example with its text cleaned."""
        return {**row, "text": clean(row["text"])}

    def asks(self, section: Any, row: Row) -> list[Row]:
        """The text."""
        return [{"text": row["text"]}]

    def asked(self, section: Any, request: Mapping[str, Any]) -> Row | None:
        """The text of a logged request."""
        text = request.get(self.asks_as)
        return {"text": text} if isinstance(text, str) and text.strip() else None

    def located(self, train: Any, places: Places) -> Any:
        """`train` with the path of a local model made absolute, by the rule for all paths of a config."""
        local = train.model.startswith((".", "/", "~")) or places.resolve(train.model).is_dir()
        return train.model_copy(update={"model": str(places.resolve(train.model))}) if local else train


def missing_model(model: str, example: str = "") -> list[Mistake]:
    """The mistake of a local model folder in which there is no model; none for other names."""
    from llmops.nets.pretrained import looks_local

    if not looks_local(model) or (Path(model).expanduser() / "config.json").is_file():
        return []
    such = f", such as {example}" if example else ""
    do = f"give a folder that holds config.json and *.safetensors{such}."
    return [Mistake(f"There is no model in the folder {model}.", "train.model", do=do)]
