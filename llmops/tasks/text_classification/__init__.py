"""Text classification: one label for one text, or several. This module loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmops.core.errors import Mistake
from llmops.core.plugins import load
from llmops.core.protocols import Judged, Metric, Row
from llmops.core.protocols.task import Predicts
from llmops.core.section import Section
from llmops.fields.hashing import row_id
from llmops.fields.kind import BadCell
from llmops.fields.labelsets import labels_of, written_list
from llmops.tasks.base import TextTask, missing_model
from llmops.tasks.text_classification.config import (
    GATES_OF_MANY,
    GATES_OF_ONE,
    TextAcceptSection,
    TextClassificationSection,
    TextTrainSection,
)
from llmops.tasks.text_classification.several.reading import labels_of_row


class TextClassification(TextTask):
    """The task `text-classification`."""

    name = "text-classification"
    version = 1
    section: type[Section] = TextClassificationSection
    train_section: type[Section] = TextTrainSection
    accept_section: type[Section] = TextAcceptSection
    parts: ClassVar[Mapping[str, str]] = {
        "encoder": "llmops.tasks.text_classification.encoder:TextEncoder",
        "learner": "llmops.tasks.text_classification.learner:TextClassifier",
        "codec": "llmops.tasks.text_classification.codec:TextCodec",
        "baseline": "llmops.tasks.text_classification.baseline:score_dataset",
        "measure": "llmops.tasks.text_classification.measure:measure",
        "quality": "llmops.tasks.text_classification.assess:quality",
        "rowwise": "llmops.tasks.text_classification.assess:rowwise",
        "calibrate": "llmops.tasks.text_classification.assess:calibrate",
        "prove": "llmops.tasks.text_classification.proof:prove",
        "score": "llmops.tasks.text_classification.proof:score",
    }
    parts_of_many: ClassVar[Mapping[str, str]] = {
        "encoder": "llmops.tasks.text_classification.several.encoder:LabelsEncoder",
        "learner": "llmops.tasks.text_classification.several.learner:LabelsClassifier",
        "codec": "llmops.tasks.text_classification.several.codec:LabelsCodec",
        "baseline": "llmops.tasks.text_classification.several.baseline:score_dataset",
        "measure": "llmops.tasks.text_classification.several.assess:measure",
        "quality": "llmops.tasks.text_classification.several.assess:quality",
        "calibrate": "llmops.tasks.text_classification.several.assess:calibrate",
        "prove": "llmops.tasks.text_classification.several.proof:prove",
        "score": "llmops.tasks.text_classification.several.score:score",
    }
    """The parts where a text may have several labels."""
    settles = True
    of_two = frozenset({"recall"})

    def parts_for(self, section: TextClassificationSection) -> Mapping[str, str]:
        """By how many labels a text may have."""
        return self.parts_of_many if section.several else self.parts

    def codec(self, bundle: Path) -> Any:
        """By how many labels the bundle gives."""
        return load((self.parts_of_many if gives_several(bundle) else self.parts)["codec"])(bundle)

    def predicts(self, section: TextClassificationSection) -> Predicts:
        """A class, or any number of them."""
        return "classes" if section.several else "class"

    def unmeasured(self, section: TextClassificationSection) -> frozenset[str]:
        """Gates of one label where there may be several, and the other way round."""
        return GATES_OF_ONE if section.several else GATES_OF_MANY

    def metric(self, section: TextClassificationSection) -> Metric:
        """What models are compared by: the one that `task.metric` names."""
        return Metric(section.metric)

    def preparing(self, section: TextClassificationSection) -> dict[str, Any]:
        """All but when to abstain, which is chosen after the training."""
        return {name: value for name, value in section.plain().items() if name != "abstain"}

    def learning(self, section: TextClassificationSection) -> dict[str, Any]:
        """As `preparing`."""
        return self.preparing(section)

    def columns(self, section: TextClassificationSection) -> tuple[str, ...]:
        """The text, and what holds the label or the labels."""
        return section.text, *section.label_columns

    def example(self, section: TextClassificationSection, row: Row) -> Row | str:
        """{"text", "label"} from a source's row, or in words why the row is bad."""
        missing = [column for column in self.columns(section) if column not in row]
        if missing:
            return f"no column {missing[0]!r}"
        try:
            text = words_of(row[section.text], section.text, "text")
            if section.several:
                return {"text": text, "label": labels_of_row(section, row)}
            [column] = section.label_columns
            return {"text": text, "label": words_of(row[column], column, "label")}
        except BadCell as error:
            return str(error)

    def unlabelled(self, section: TextClassificationSection, row: Row) -> Row | str:
        """{"text"} of a source's row that needs no label, or in words why it is bad."""
        if section.text not in row:
            return f"no column {section.text!r}"
        try:
            return {"text": words_of(row[section.text], section.text, "text")}
        except BadCell as error:
            return str(error)

    def learns_unlabelled(self, train: TextTrainSection) -> tuple[str, str]:
        """Why texts without labels would teach nothing, and what to do; both empty where `train.few` learns them."""
        if train.few is None:
            do = "write `few: {}` in `train:` (with a pretrained encoder), or take `unlabelled` out"
            return "texts without labels are read by `train.few` alone.", do
        if train.method == "frozen":
            do = "write `method: full` (or lora), or take `unlabelled` out"
            return "`method: frozen` leaves the encoder as it is: texts without labels would teach it nothing.", do
        return "", ""

    def encoding(self, train: TextTrainSection) -> dict[str, Any]:
        """What decides how texts become tokens: the encoder, or the size of the vocabulary trained on the data."""
        how = (
            {"tokenizer": train.model} if train.pretrained else {"tokenizer": "trained", "vocabulary": train.vocabulary}
        )
        return {"model": train.pretrained, **how}

    def check(self, section: TextClassificationSection, train: TextTrainSection) -> list[Mistake]:
        """Mistakes that show without loading anything: a local model folder that is not there, settings that do not go
        together."""
        found = missing_model(train.model) if train.pretrained else []
        if section.several and train.few is not None:
            what = "`few` is for one label a text: it begins with one mean vector for each class."
            found.append(Mistake(what, "train.few", do="leave it out, or write `task: {labels: one}`"))
        if isinstance(section.describe, dict) and (
            blank := [name for name, words in section.describe.items() if not words.strip()]
        ):
            found.append(
                Mistake(
                    f"the description of {blank[0]} is empty.", "task.describe", do="say in words what belongs to it"
                )
            )
        if isinstance(section.describe, dict) and section.outside in section.describe:
            what = f"{section.outside} is `outside`: rows of no class, which are not trained as one."
            found.append(Mistake(what, "task.describe", do=f"take {section.outside} out of `describe`"))
        return found

    def thinned(self, dataset: Path, share: float, folder: Path) -> bool:
        """See thinning.py."""
        return bool(load("llmops.tasks.text_classification.thinning:thinned")(dataset, share, folder))

    def settings(self, section: TextClassificationSection, dataset: Path) -> dict[str, Any]:
        """Labels and max_tokens, as prepare found them."""
        about = json.loads((dataset / "dataset.json").read_bytes())
        found = {"labels": json.loads((dataset / "labels.json").read_bytes()), "max_tokens": about["max_tokens"]}
        return {**found, "several": True, "separator": section.separator} if section.several else found

    def harvested(self, section: TextClassificationSection, said: Judged) -> Row | None:
        """The correction as a labelled text; None for a rating alone, where the log kept no text, and for
        several labels where a text has one."""
        if said.correction is None or (asked := self.asked(section, said.request or {})) is None:
            return None
        label: Any = labels_of(said.correction, section.separator) if section.several else one_label(said.correction)
        if label is None:
            return None
        return {"id": row_id(asked["text"]), **asked, "label": label, "at": said.said_at, "request_id": said.id}


def one_label(correction: str) -> str | None:
    """The one label of a correction, also of one that a server of several labels kept as a list; None of more."""
    if (listed := written_list(correction)) is None:
        return correction
    labels = labels_of(listed)
    return labels[0] if len(labels) == 1 else None


def words_of(cell: Any, column: str, field: str) -> str:
    """A cell as the one text that it should be. Raises BadCell in words."""
    if isinstance(cell, list | tuple | set | dict):
        raise BadCell(f"more than one value in {column!r} (one label a row, please)")
    text = "" if cell is None else str(cell).strip()
    if not text:
        raise BadCell(f"empty {field}")
    return text


def gives_several(bundle: Path) -> bool:
    """Whether a bundle gives several labels. False for one that can't be read: its codec says so."""
    try:
        return bool(json.loads((bundle / "bundle.json").read_bytes())["settings"].get("several"))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
