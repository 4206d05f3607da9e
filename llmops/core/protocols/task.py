"""What a new task must bring. Each stage asks it for what only it can know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmops.core.errors import Mistake
from llmops.core.protocols.learner import Encoder, Learner
from llmops.core.protocols.measuring import Measured, Metric, Opened, Proof, Server
from llmops.core.protocols.room import Places, Room
from llmops.core.rows import Row, Rows

if TYPE_CHECKING:
    from llmops.core.section import Section  # pydantic: 0.2 s that `--help` does not have


@dataclass(frozen=True)
class Judged:
    """A request of the traffic log that somebody spoke about: the latest rating and the latest correction, either may
    be None; where an answer may have several labels, `label` and `correction` are texts of JSON lists (see
    fields/labelsets.py). `request` and `response` are what went over the wire, None when the log keeps no contents;
    `said_at` is the time of the latest word (seconds since 1970)."""

    id: str
    at: float
    version: int | None
    label: str | None
    abstained: bool
    source: str
    rating: int | None
    correction: str | None
    said_at: float
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None


Predicts = Literal["class", "classes", "number", "nothing"]
CLASSED: tuple[Predicts, ...] = ("class", "classes")
"""What is predicted where the row's "label" is one of a set of classes, or several of them."""


class Task(Protocol):
    """A kind of problem. Its module loads no torch. It brings three config blocks, what prepare needs to know of its
    rows, an encoder, a learner, a codec, and what its answers are worth."""

    name: str
    version: int
    section: type[Section]
    """The class of the config's `task:` block."""
    train_section: type[Section]
    """The class of the config's `train:` block."""
    accept_section: type[Section]
    """The class of `need.accept`: the gates of this task; a subclass of core.accept.AcceptSection."""
    runtime: Literal["oneshot", "stepper"]
    """How its bundles compute: with a Codec and a Runtime, or with a WritingCodec and a Stepper."""
    columned: bool
    """Whether rows travel as columns (fields.rows.Columned), read by the kinds of `reads`; else each row is recognised
    by `example`."""
    settles: bool
    """Whether rows with equal inputs have one right label, so that contradictions are mistakes that prepare settles by
    vote; else they stay and are counted."""
    forms: tuple[str, ...]
    """Forms of the weights that compress can make for this task (float32, int8, int8-weights, int4-weights)."""
    default_forms: tuple[str, ...]
    """The candidates when the config names none."""
    of_two: frozenset[str]
    """Gates on figures that only two classes have."""

    def metric(self, section: Any) -> Metric:
        """What early stopping, tune, compress and the gates `above_baseline` and `champion` compare models by."""

    def predicts(self, section: Any) -> Predicts:
        """What is predicted: a class, any number of classes (the row's "label" is then a list of them, sorted, each
        once, maybe empty), a number (all these stand in the row's "label"), or nothing that a row holds as a label
        (words, an entry)."""

    def unmeasured(self, section: Any) -> frozenset[str]:
        """Gates of `accept_section` whose figures answers of this kind do not have."""

    def inputs(self, section: Any) -> Mapping[str, Any]:
        """The fields of a row that go in, by name, each with its fields.kind.Kind. Equal rows are recognised by them,
        the split is hashed from them, drift is measured on them."""

    def reads(self, section: Any) -> Mapping[str, Any]:
        """Where `columned`: the columns of the sources that are read, by name, each with its Kind."""

    def columns(self, section: Any) -> tuple[str, ...]:
        """Columns that every source must have; none when `example` recognises the shape of each row."""

    def example(self, section: Any, row: Row) -> Row | str:
        """One row of a source as an example, or in words why it is bad (the reason, by which bad rows are counted, and
        maybe after "; " more of it): the inputs by their names, and the rest is the task's ("label" where it predicts
        one)."""

    def tabled(self, section: Any, rows: Rows) -> tuple[Rows, Mapping[str, Any]]:
        """Where `columned`: what was read as the data set's rows (the target is "label"), and the rows that have to go:
        their places, an int64 array, by reason."""

    def cleaned(self, row: Row, clean: Callable[[str], str]) -> Row:
        """The example with `clean` applied to each of its texts."""

    def asks(self, section: Any, row: Row) -> list[Row]:
        """What a server would have been asked by a row: its inputs; of a conversation each of the user's messages."""

    def asked(self, section: Any, request: Mapping[str, Any]) -> Row | None:
        """The inputs of a request as the traffic log holds it; None when it has none."""

    def briefed(self, section: Any, need: Any) -> Any:
        """The task's block, told what `need:` asks of its answers (the costs of mistakes, the slices)."""

    def preparing(self, section: Any) -> dict[str, Any]:
        """The part of `task:` that decides the data set: when it changes, prepare works again."""

    def learning(self, section: Any) -> dict[str, Any]:
        """The part of `task:` that decides the model: when it changes, train and tune work again."""

    def encoding(self, train: Any) -> dict[str, Any]:
        """The part of `train:` that decides how rows are encoded, by the names of its settings."""

    def check(self, section: Any, train: Any) -> list[Mistake]:
        """Mistakes that show without loading anything."""

    def located(self, train: Any, places: Places) -> Any:
        """`train` with its paths made absolute by the rule for all paths of a config."""

    def encoder(self, section: Any, train: Any) -> Encoder:
        """What `prepare` uses to turn examples into arrays."""

    def learner(self, section: Any, train: Any, seed: int) -> Learner:
        """What `need`, `train`, `tune` and `compress` train with. Loads torch."""

    def codec(self, bundle: Path) -> Any:
        """What the server uses on the bundle in the folder `bundle`: a Codec, or a WritingCodec for a model that
        steps. Loads neither torch nor transformers."""

    def baseline(self, section: Any, dataset: Path) -> dict[str, float | None]:
        """What a simple model reaches on the data set, in the task's metric: {"valid", "test"}, None without rows."""

    def settings(self, section: Any, dataset: Path) -> dict[str, Any]:
        """What the codec needs to know: `settings` of bundle.json, not yet calibrated."""

    def complete(self, section: Any, dataset: Path, opened: Opened, folder: Path) -> None:
        """Write into a candidate's folder what depends on its own numbers (an index of vectors); most: nothing."""

    def measure(self, section: Any, dataset: Path, opened: Opened, trained: Any) -> Measured:
        """Measure a candidate on the validation split; `trained` are `Learner.predict`'s raw answers to it."""

    def trained_quality(self, section: Any, dataset: Path, split: str, answers: Any) -> dict[str, float]:
        """The task's figures of raw answers (as from `Learner.predict`) to a split."""

    def thinned(self, dataset: Path, share: float, folder: Path) -> bool:
        """Make `folder` a data set with a `share` of the training rows, the other splits as they are; False where the
        task has no such. The same share is the same rows."""

    def rowwise(self, section: Any, dataset: Path, split: str, answers: Any) -> Any:
        """How right raw answers are, row by row: float64 [rows], 0 to 1; None where a task judges no single rows. Two
        models' differences on the same rows tell more than their two figures."""

    def calibrate(self, section: Any, dataset: Path, measured: Measured) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what joins the bundle's settings, what it does on validation): temperature, threshold and the like."""

    def prove(self, section: Any, dataset: Path, bundle: Path, server: Server, learner: Learner, room: Room) -> Proof:
        """Ask the real server every held-out row (test; validation when there is no test row) and say what its answers
        are worth, and whether they are the trained model's."""

    def score(self, section: Any, dataset: Path, split: str, opened: Opened) -> float | None:
        """The task's metric of an opened bundle on a split: the champion on the candidate's rows. None when the two
        cannot be compared."""

    def harvested(self, section: Any, said: Judged) -> Row | None:
        """The training row that a user's rating or correction becomes; None when nothing can be learnt from it."""
