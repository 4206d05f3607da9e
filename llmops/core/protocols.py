"""The shapes that rooms agree on: what a stage, a task, a learner, a codec and a runtime must offer.

Nothing here runs. Read `Job` for what a stage is handed, `Task` for what a new task must bring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from llmops.core.errors import Mistake
from llmops.core.report import Number, Passage, Report, Table

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


@dataclass(frozen=True)
class Judged:
    """A request of the traffic log that somebody spoke about: the latest rating and the latest correction, either may
    be None. `request` and `response` are what went over the wire, None when the log keeps no texts; `said_at` is the
    time of the latest word (seconds since 1970)."""

    id: str
    at: float
    version: int | None
    text: str | None
    label: str | None
    abstained: bool
    source: str
    rating: int | None
    correction: str | None
    said_at: float
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Metric:
    """What models of a task are compared by: its name among the task's figures, and which way is better."""

    name: str
    higher: bool = True

    def gain(self, ours: float, theirs: float) -> float:
        """How much better `ours` is than `theirs`; below 0 when it is worse."""
        return ours - theirs if self.higher else theirs - ours


@dataclass(frozen=True)
class Measured:
    """A candidate's figures on validation rows, measured on this machine as the server would compute.

    `quality` is the task's metric, `agreement` the share of rows (or tokens) on which it says what the trained model
    says, `cost_ms` the time of one answer (or of one token of one stream), by which candidates count as faster or
    slower; `figures` all that the report and bundle.json tell; `answers` are raw answers, for `Task.calibrate`.
    """

    quality: float
    agreement: float
    cost_ms: float
    figures: Mapping[str, Number]
    answers: Any = None


@dataclass
class Proof:
    """What the real server's answers to held-out rows are worth. `numbers` hold the task's metric and all that its
    gates name; `lines` become proof/answers.jsonl."""

    headline: str
    numbers: dict[str, Number]
    tables: list[Table] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    split: str = "test"


class Server(Protocol):
    """The real server on one bundle, as a task sees it while it is proven. `host` and `port` are its address."""

    host: str
    port: int

    def post(self, path: str, body: Any) -> Any:
        """The JSON of a 200 answer. Raises DataError, with the end of the server's stderr, for anything else."""


class Opened(Protocol):
    """An opened bundle or candidate: the manifest's settings, the codec and the runtime that belong together."""

    @property
    def codec(self) -> Any: ...
    @property
    def runtime(self) -> Any: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


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
    labelled: bool
    """Whether examples carry "label", one of a set of classes: then prepare settles conflicts and stratifies."""
    forms: tuple[str, ...]
    """Forms of the weights that compress can make for this task (float32, int8, int8-weights, int4-weights)."""
    default_forms: tuple[str, ...]
    """The candidates when the config names none."""

    def metric(self, section: Any) -> Metric:
        """What early stopping, tune, compress and the gates `above_baseline` and `champion` compare models by."""

    def columns(self, section: Any) -> tuple[str, ...]:
        """Columns that every source must have; none when `example` recognises the shape of each row."""

    def example(self, section: Any, row: Row) -> Row | str:
        """One row of a source as an example, or in words why it is bad. "text" is what twins are recognised by and
        what the split is hashed from; the rest is the task's ("label" where `labelled`)."""

    def cleaned(self, row: Row, clean: Callable[[str], str]) -> Row:
        """The example with `clean` applied to each of its texts, "text" among them."""

    def encoding(self, train: Any) -> dict[str, Any]:
        """The part of `train:` that decides how rows are encoded."""

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


class Encoder(Protocol):
    """Examples to arrays on disk."""

    def prepare(self, splits: Mapping[str, list[Row]], out: Path) -> dict[str, Any]:
        """Fit what must be fitted on the train split (a tokenizer, a label list), encode each split
        into `out`, and return figures for the report. "passages" among them (list[Passage]) are shown to the user."""


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
        """Write all that a float32 bundle answers with into `folder`: model.onnx (with external data beside it where it
        has some), and the files that the codec reads; returns the files. `merged/` may hold the model for other tools.
        What the runtime must know of the network may lie in settings.json: it joins the bundle's settings."""


class Updating(Protocol):
    """What a learner offers beside, whose train section has `update`."""

    def begin_from(self, folder: Path) -> str:
        """Have the next training start from the model in `folder`, as `save` wrote it; else in words why it cannot."""


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
    """How a one-shot bundle computes."""

    def run(self, batch: Arrays) -> list[Any]:
        """The output arrays of one batch."""


class TokenText(Protocol):
    """Tokens of one answer turned into text as they come."""

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is not whole."""

    def end(self) -> str:
        """What was held back."""


class WritingCodec(Protocol):
    """Chats and prompts to tokens, tokens to text; for models that step."""

    context: int
    """Tokens that a prompt and its answer may have together."""
    end_tokens: frozenset[int]
    """Tokens that end an answer."""
    vocabulary: int
    chats: bool
    """Whether the bundle has a chat template."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a conversation, up to where the assistant's answer begins. Raises ValueError in words when the
        template refuses it."""

    def prompt(self, text: str) -> list[int]:
        """The tokens of a plain prompt, with the begin token where the model has one."""

    def writer(self) -> TokenText:
        """A fresh decoder for one answer."""

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""

    def piece(self, token: int) -> str:
        """One token as the API's logprobs name it."""


class Stepper(Protocol):
    """How a bundle that writes computes: a cache with `slots` places, one conversation each. Not thread-safe."""

    slots: int
    context: int
    """Tokens that one slot holds."""

    def prefill(self, slot: int, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
        """Forget what the slot held and read `tokens` (1 to context); float32 logits of the next one [vocabulary]."""

    def score(self, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
        """Logits after every token, float32 [len(tokens), vocabulary]; no slot is touched."""

    def step(self, tokens: Mapping[int, int]) -> np.ndarray[Any, Any]:
        """One token for each of these slots, in the order of the mapping; logits float32 [len(tokens), vocabulary]."""

    def free(self, slot: int) -> None:
        """Forget what the slot held."""

    def length(self, slot: int) -> int:
        """Tokens that the slot holds."""
