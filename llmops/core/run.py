"""The run directory: plain files that a person can read, sealed stage by stage, whole or not at all.

    runs/<project>/<id>/           config.yaml run.json events.jsonl log.txt report.html
    runs/<project>/<id>/<stage>/   report.json report.md done.json and the stage's artifacts
    runs/<project>/.work/          what a killed stage left for its next try; found again by the stage's key
    runs/<project>/latest          -> the newest run

done.json is written last and the folder is renamed into place whole, so its existence means the stage
completed. Sealed files are never changed, so runs share them by hard links: each run directory is complete,
and nothing is stored twice.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmops.core.artifact import Artifact, fsync_folder, tree_digest, tree_files, tree_size, write_json, write_whole
from llmops.core.console import Bar, Console
from llmops.core.errors import DataError
from llmops.core.report import Report

FORMAT = 1


@dataclass(frozen=True)
class Sealed:
    """What done.json says of a stage. `refused` names the gates that said no."""

    stage: str
    key: str
    version: int
    made_at: str
    took_s: float
    artifacts: list[Artifact] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def artifact(self, kind: str) -> Artifact:
        """The artifact of a kind; DataError if the stage gave none."""
        for artifact in self.artifacts:
            if artifact.kind == kind:
                return artifact
        raise DataError(f"the stage {self.stage} left no {kind}", do="run it again: llmops clean, then llmops run")


@dataclass(frozen=True)
class RunFolder:
    """One run directory."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    def sealed(self, stage: str) -> Sealed | None:
        """What the stage left, if it completed and its artifacts are still there."""
        try:
            plain = json.loads((self.path / stage / "done.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise DataError("done.json cannot be read", str(self.path / stage), "remove this stage's folder") from error
        if plain.pop("format") > FORMAT:
            do = "upgrade llmops"
            raise DataError("this run was made by a newer llmops", str(self.path / stage), do)
        plain["artifacts"] = [Artifact(**artifact) for artifact in plain["artifacts"]]
        sealed = Sealed(**plain)
        whole = all((self.path / stage / artifact.path).exists() for artifact in sealed.artifacts)
        return sealed if whole else None

    def report(self, stage: str) -> Report | None:
        """The stage's report, if it completed."""
        path = self.path / stage / "report.json"
        return Report.read(json.loads(path.read_text())) if path.exists() else None

    def open_artifact(self, stage: str, kind: str) -> Path:
        """The path of an artifact after its digest was checked. Raises DataError if it was changed."""
        sealed = self.sealed(stage)
        if sealed is None:
            raise DataError(f"the run {self.id} has no {stage}", str(self.path), f"run it: llmops {stage} CONFIG")
        artifact = sealed.artifact(kind)
        path = self.path / stage / artifact.path
        if tree_digest(path) != artifact.sha256:
            do = f"remove {self.path / stage} and run llmops again"
            raise DataError(f"the {kind} is not what the stage {stage} wrote: its digest differs", str(path), do)
        return path

    def emit(self, stage: str, event: str, **fields: Any) -> None:
        """Append one event to events.jsonl."""
        line = json.dumps({"at": round(time.time(), 3), "stage": stage, "event": event, **fields}, default=str)
        with (self.path / "events.jsonl").open("a") as stream:
            stream.write(line + "\n")

    def note(self, **fields: Any) -> None:
        """Merge fields into run.json."""
        path = self.path / "run.json"
        known = json.loads(path.read_text()) if path.exists() else {"format": FORMAT, "run": self.id}
        write_json(path, {**known, **fields})

    def noted(self) -> dict[str, Any]:
        """What run.json holds."""
        path = self.path / "run.json"
        noted: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return noted


class RunStore:
    """All runs of one project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / ".work"

    def runs(self) -> list[RunFolder]:
        """All runs, newest first."""
        if not self.root.is_dir():
            return []
        found = [path for path in self.root.iterdir() if path.is_dir() and (path / "run.json").exists()]
        return [RunFolder(p) for p in sorted(found, reverse=True) if not p.is_symlink() and not p.name.startswith(".")]

    def find(self, run_id: str) -> RunFolder:
        """The run with this id, or the only one that starts with it. Raises DataError."""
        if run_id == "latest" and self.runs():
            return self.runs()[0]
        fits = [run for run in self.runs() if run.id == run_id] or [r for r in self.runs() if r.id.startswith(run_id)]
        if len(fits) != 1:
            what = f"several runs start with `{run_id}`" if fits else f"there is no run `{run_id}`"
            raise DataError(what, str(self.root), "see: llmops runs CONFIG")
        return fits[0]

    def new(self) -> RunFolder:
        """A new, empty run directory; `latest` points to it."""
        now = time.time()  # milliseconds in the last part, so that names sort by age within a second too
        tail = f"{int(now * 1000) % 1000:03x}{secrets.token_hex(1)[0]}"
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{tail}"
        path = self.root / name
        path.mkdir(parents=True)
        run = RunFolder(path)
        run.note(made_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"), stages={})
        link = self.root / f".latest.{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        os.replace(link, self.root / "latest")
        return run

    def reusable(self, stage: str, key: str) -> RunFolder | None:
        """The newest run in which this stage completed, unrefused, with this key."""
        for run in self.runs():
            sealed = run.sealed(stage)
            if sealed is not None and sealed.key == key and not sealed.refused:
                return run
        return None

    def share(self, stage: str, source: RunFolder, target: RunFolder) -> None:
        """Give `target` the stage that `source` completed, by hard links (copies where links cannot be)."""
        temporary = self.work / f"share-{os.getpid()}-{stage}"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source.path / stage, temporary, copy_function=link_or_copy)
        self._put(temporary, target.path / stage)

    def seal(self, run: RunFolder, room: StageRoom, sealed: Sealed, report: Report) -> None:
        """Write the reports and done.json, make all durable, and rename the folder into the run."""
        write_json(room.out / "report.json", report.plain())
        write_whole(room.out / "report.md", report.markdown(f"{sealed.stage}, run {run.id}"))
        for path in tree_files(room.out):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        write_json(room.out / "done.json", {"format": FORMAT, **asdict(sealed)})
        self._put(room.out, run.path / sealed.stage)
        shutil.rmtree(room.work.parent, ignore_errors=True)

    def _put(self, whole: Path, place: Path) -> None:
        """Rename a whole folder into its place; one that stands there is moved aside first."""
        if place.exists():
            aside = self.work / f"aside-{os.getpid()}-{secrets.token_hex(4)}"
            os.replace(place, aside)
            os.replace(whole, place)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(whole, place)
        fsync_folder(place.parent)

    def room(self, run: RunFolder, stage: str, key: str, console: Console) -> StageRoom:
        """A place for a stage to work in: an empty `out`, and the `work` that an earlier try with this key left."""
        place = self.work / f"{stage}-{key[:16]}"
        shutil.rmtree(place / "out", ignore_errors=True)
        for folder in (place / "out", place / "work"):
            folder.mkdir(parents=True, exist_ok=True)
        return StageRoom(place / "out", place / "work", run, stage, console)

    def artifacts(self, run: RunFolder, stage: str, gives: dict[str, str], out: Path) -> Iterator[Artifact]:
        """The artifacts that a stage left in `out`, with their digests. Raises DataError for a missing one."""
        for kind, name in gives.items():
            path = out / name
            if not path.exists():
                raise DataError(f"the stage {stage} left no {kind}", str(path), "this is a bug in llmops")
            yield Artifact(kind, name, tree_digest(path), tree_size(path), stage)

    def leftovers(self) -> list[Path]:
        """What killed commands left in .work, newest last."""
        return sorted(self.work.iterdir(), key=lambda path: path.stat().st_mtime) if self.work.is_dir() else []


def link_or_copy(source: str, target: str) -> str:
    """Hard link a file, or copy it where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


@dataclass
class StageRoom:
    """The place a stage works in; see protocols.Room."""

    out: Path
    work: Path
    run: RunFolder
    stage: str
    console: Console

    def emit(self, event: str, **fields: Any) -> None:
        self.run.emit(self.stage, event, **fields)

    def progress(self, what: str, total: float | None = None) -> Bar:
        return self.console.progress(what, total)

    def say(self, line: str) -> None:
        self.console.say(f"  {line}", style="dim")
