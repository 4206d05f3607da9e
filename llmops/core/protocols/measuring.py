"""What models of a task are compared by, and what measuring one gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmops.core.report import Curve, Grid, Number, Passage, Table


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
    curves: list[Curve] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
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
