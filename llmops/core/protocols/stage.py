"""What a stage must offer, and the `Job` that it is handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llmops.core.errors import Mistake
from llmops.core.protocols.room import Places, Room
from llmops.core.protocols.task import Task
from llmops.core.report import Report

if TYPE_CHECKING:
    from llmops.core.section import Section  # pydantic: 0.2 s that `--help` does not have

S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Base:
    """The trained model of a version that was promoted, from which an update starts: its folder and its digest, and the
    data set that it was trained on. The folders may be gone."""

    version: int
    sha256: str
    model: Path
    dataset: Path


@dataclass(frozen=True)
class Job:
    """All that a stage is handed.

    `sections` are the config's blocks by name (the task's is "task"); `inputs` the folders or files of
    the artifacts it takes, by kind; `champion` the folder of the bundle that serves now, if any; `run_id` and
    `config_path` are for lineage and for commands to type; `base` is what an update starts from, where one is wanted
    and there is one.
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
    base: Base | None = None

    def section(self, name: str, kind: type[S]) -> S:
        """The config's block `name`, which is of the class `kind`."""
        block = self.sections[name]
        assert isinstance(block, kind), f"section {name} is a {type(block).__name__}"
        return block


@dataclass(frozen=True)
class Depends:
    """What a stage's result depends on besides the artifacts it takes.

    `settings` is JSON-able; `files` are paths whose contents count (missing ones too); `libraries` are
    distributions whose versions change the result; `base` says that the champion's trained model is one of its inputs.
    """

    settings: Mapping[str, Any]
    files: Sequence[Path] = ()
    libraries: Sequence[str] = ()
    base: bool = False


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
