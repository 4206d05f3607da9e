"""The shapes that rooms agree on: what a stage, a task, a learner, a codec and a runtime must offer.

Nothing here runs. Read `Job` for what a stage is handed, `Task` for what a new task must bring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llmops.core.errors import Mistake
from llmops.core.report import Report

if TYPE_CHECKING:
    import numpy as np

    from llmops.core.section import Section  # pydantic: 0.2 s that `--help` does not have

Row = dict[str, Any]
Arrays = Mapping[str, "np.ndarray[Any, Any]"]
S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Places:
    """Where a project's things lie. `root` is the folder that relative paths in a config are relative to."""

    root: Path
    runs: Path
    registry: Path
    traffic: Path

    def resolve(self, path: str) -> Path:
        """A path of the config as an absolute path."""
        return (self.root / Path(path).expanduser()).resolve()


class Room(Protocol):
    """The place a stage works in. `out` becomes the stage's folder, whole or not at all; `work` survives a
    kill, and the same command with the same inputs and settings finds it again."""

    out: Path
    work: Path

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event (metrics, progress) to the run's events.jsonl."""

    def progress(self, what: str, total: float | None = None) -> Progress:
        """A bar on a terminal, a line every 30 s elsewhere. Use as a context manager."""

    def say(self, line: str) -> None:
        """One line for the person who watches."""


class Progress(Protocol):
    def __enter__(self) -> Progress: ...
    def __exit__(self, *exc: object) -> None: ...
    def update(self, done: float, note: str = "") -> None:
        """`done` of `total` is done; `note` (loss, rate) stands beside the bar."""


@dataclass(frozen=True)
class Job:
    """All that a stage is handed.

    `sections` are the config's blocks by name (the task's is "task"); `inputs` the folders or files of
    the artifacts it takes, by kind; `champion` the folder of the bundle that serves now, if any; `run_id` and
    `config_path` are for lineage and for commands to type.
    """

    project: str
    sections: Mapping[str, Section]
    task: Task
    inputs: Mapping[str, Path]
    room: Room
    places: Places
    seed: int
    champion: Path | None = None
    run_id: str = ""
    config_path: str = "CONFIG"

    def section(self, name: str, kind: type[S]) -> S:
        """The config's block `name`, which is of the class `kind`."""
        block = self.sections[name]
        assert isinstance(block, kind), f"section {name} is a {type(block).__name__}"
        return block


@dataclass(frozen=True)
class Depends:
    """What a stage's result depends on besides the artifacts it takes.

    `settings` is JSON-able; `files` are paths whose contents count (missing ones too); `libraries` are
    distributions whose versions change the result.
    """

    settings: Mapping[str, Any]
    files: Sequence[Path] = ()
    libraries: Sequence[str] = ()


class Stage(Protocol):
    """One stage of the loop. Importing its module loads no torch; `run` may."""

    name: str
    version: int
    """Raised by hand when the code changes what the stage gives; a test watches over it."""

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        """What decides the result; a stage with equal `Depends` and inputs is reused."""

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        """Mistakes that show before any work is done; cheap."""

    def run(self, job: Job) -> Report:
        """Do the work, write the artifacts under `job.room.out`, say what was found."""


class GatedStage(Stage, Protocol):
    """A stage after which the gates decide."""

    def promote(self, job: Job, report: Report) -> None:
        """Make the candidate the champion and add to the report what was done. Doing it twice is doing it once."""


class Task(Protocol):
    """A kind of problem. Its module loads no torch. It brings two config blocks and three classes."""

    name: str
    version: int
    section: type[Section]
    """The class of the config's `task:` block."""
    train_section: type[Section]
    """The class of the config's `train:` block."""

    def example(self, section: Any, row: Row) -> Row | str:
        """One row of a source as an example ({"text": .., "label": ..} for a classifier), or in words why it is bad."""

    def encoding(self, train: Any) -> dict[str, Any]:
        """The part of `train:` that decides how rows are encoded."""

    def encoder(self, section: Any, train: Any) -> Encoder:
        """What `prepare` uses to turn examples into arrays."""

    def learner(self, section: Any, train: Any, seed: int) -> Learner:
        """What `need`, `train`, `tune` and `compress` train with. Loads torch."""

    def codec(self, bundle: Path) -> Codec:
        """What the server uses on the bundle in the folder `bundle`. Loads neither torch nor transformers."""

    def baseline(self, section: Any, dataset: Path) -> dict[str, float | None]:
        """What a simple model reaches on the data set, in the task's metric: {"valid", "test"}, None without rows."""

    def quality(self, dataset: Path, split: str, answers: Any) -> dict[str, float]:
        """The task's metrics of raw answers (as from `Learner.predict`) to a split."""

    def agreement(self, dataset: Path, split: str, answers: Any, others: Any) -> float:
        """Share of a split's rows on which the raw answers of two models say the same."""

    def calibrate(self, dataset: Path, answers: Any) -> dict[str, float | None]:
        """What the server decides by ("temperature", "threshold"), fitted on raw answers to the validation split,
        and what it does there (for a classifier "outside_recall", "coverage", "answered_accuracy")."""


class Encoder(Protocol):
    """Examples to arrays on disk."""

    def prepare(self, splits: Mapping[str, list[Row]], out: Path) -> dict[str, Any]:
        """Fit what must be fitted on the train split (a tokenizer, a label list), encode each split
        into `out`, and return figures for the report."""


Listener = Callable[[int, dict[str, float]], bool]
"""Called after every epoch with its number (from 1) and its metrics; returns True to stop the training."""


class Learner(Protocol):
    """A model that can be trained, measured, saved and exported. All folders belong to the caller."""

    def train(self, dataset: Path, work: Path, room: Room, listener: Listener | None = None) -> dict[str, Any]:
        """Train on the prepared data set; checkpoints live in `work`, and a killed training carries on from
        there to exactly the same weights. Returns {"metrics", "history" (one dict an epoch), "seconds",
        "peak_memory_mb", "parameters", "rows_per_s", ...}."""

    def predict(self, dataset: Path, split: str) -> Any:
        """The model's raw answers (float32 array [rows, classes]) for a split, in the split's order."""

    def save(self, folder: Path) -> None:
        """Write the model as safetensors + model.json."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""

    def export(self, folder: Path) -> list[Path]:
        """Write the float32 ONNX form into `folder`; returns the files."""


class Codec(Protocol):
    """Requests to arrays and answers back; the same code for every runtime of the task."""

    one: str
    """The field of a request's JSON that holds what is asked ("text")."""
    many: str
    """The field that holds a list of those ("texts")."""
    sample: Any
    """A request to warm a runtime up with."""

    @property
    def Request(self) -> type[Section]: ...
    @property
    def Response(self) -> type[Section]: ...

    def size(self, request: Any) -> int:
        """How large a request is (characters): limits count in it, batches group by it."""

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """Arrays for the runtime, padded to the longest request of this batch."""

    def decode(self, arrays: Sequence[Any], requests: Sequence[Any]) -> list[Any]:
        """Responses from the runtime's output arrays, one for each request."""


class Runtime(Protocol):
    """How a bundle computes. One-shot models run a batch; models that write will step."""

    def run(self, batch: Arrays) -> list[Any]:
        """The output arrays of one batch."""
