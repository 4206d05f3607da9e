"""TaskBase: what most tasks say alike, so that a task's own file says only what is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from llmops.core.errors import Mistake
from llmops.core.plugins import load
from llmops.core.protocols import (
    Encoder,
    Learner,
    Measured,
    Opened,
    Places,
    Proof,
    Room,
    Row,
    Rows,
    Server,
)
from llmops.core.protocols.task import Predicts
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import Kind

TEXT: Mapping[str, Kind] = {"text": kind_of(FieldSection(kind="text"))}


class TaskBase:
    """Defaults of `core.protocols.Task`: rows that are recognised one by one, answered at once.

    What loads libraries, or is long, a task names in `parts`, and it is loaded when it is needed.
    """

    parts: ClassVar[Mapping[str, str]]
    """"module:Name" of encoder, learner, codec, baseline, measure, quality, prove and score; where there are such
    things, of rowwise, complete and calibrate. Functions take what `core.protocols.Task` gives, calibrate the answers
    alone."""

    runtime: Literal["oneshot", "stepper"] = "oneshot"
    columned: ClassVar[bool] = False
    settles: ClassVar[bool] = False
    forms: tuple[str, ...] = ("float32", "int8", "int8-static", "int8-weights")
    default_forms: tuple[str, ...] = ("float32", "int8", "int8-weights")
    of_two: frozenset[str] = frozenset()

    def parts_for(self, section: Any) -> Mapping[str, str]:
        """The parts; a task whose sections ask for different kinds of answers says which."""
        return self.parts

    def predicts(self, section: Any) -> Predicts:
        """Nothing that a row holds as a label."""
        return "nothing"

    def unmeasured(self, section: Any) -> frozenset[str]:
        """None."""
        return frozenset()

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

    def encoder(self, section: Any, train: Any) -> Encoder:
        """Of the task's parts."""
        made: Encoder = load(self.parts_for(section)["encoder"])(section, train)
        return made

    def learner(self, section: Any, train: Any, seed: int) -> Learner:
        """Of the task's parts."""
        made: Learner = load(self.parts_for(section)["learner"])(section, train, seed)
        return made

    def codec(self, bundle: Path) -> Any:
        """Of the task's parts."""
        return load(self.parts["codec"])(bundle)

    def baseline(self, section: Any, dataset: Path) -> dict[str, float | None]:
        """Of the task's parts."""
        found: dict[str, float | None] = load(self.parts_for(section)["baseline"])(section, dataset)
        return found

    def complete(self, section: Any, dataset: Path, opened: Opened, folder: Path) -> None:
        """Of the task's parts; without one a candidate's folder is whole as it is."""
        if "complete" in (parts := self.parts_for(section)):
            load(parts["complete"])(dataset, opened, folder)

    def measure(self, section: Any, dataset: Path, opened: Opened, trained: Any) -> Measured:
        """Of the task's parts."""
        found: Measured = load(self.parts_for(section)["measure"])(section, dataset, opened, trained)
        return found

    def trained_quality(self, section: Any, dataset: Path, split: str, answers: Any) -> dict[str, float]:
        """Of the task's parts, "quality"."""
        found: dict[str, float] = load(self.parts_for(section)["quality"])(section, dataset, split, answers)
        return found

    def thinned(self, dataset: Path, share: float, folder: Path) -> bool:
        """Not here."""
        return False

    def rowwise(self, section: Any, dataset: Path, split: str, answers: Any) -> Any:
        """Of the task's parts; without one rows are not judged one by one."""
        rowwise = self.parts_for(section).get("rowwise")
        return None if rowwise is None else load(rowwise)(section, dataset, split, answers)

    def calibrate(self, section: Any, dataset: Path, measured: Measured) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the task's parts; without one nothing is calibrated after the training."""
        if "calibrate" not in (parts := self.parts_for(section)):
            return {}, {}
        found: tuple[dict[str, Any], dict[str, Any]] = load(parts["calibrate"])(section, dataset, measured.answers)
        return found

    def prove(self, section: Any, dataset: Path, bundle: Path, server: Server, learner: Learner, room: Room) -> Proof:
        """Of the task's parts."""
        found: Proof = load(self.parts_for(section)["prove"])(section, dataset, bundle, server, learner, room)
        return found

    def score(self, section: Any, dataset: Path, split: str, opened: Opened) -> float | None:
        """Of the task's parts."""
        found: float | None = load(self.parts_for(section)["score"])(section, dataset, split, opened)
        return found


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
