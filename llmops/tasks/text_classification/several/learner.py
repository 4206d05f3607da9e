"""LabelsClassifier: the Learner where a text may have several labels."""

from __future__ import annotations

from typing import Literal

from llmops.tasks.text_classification.learner import TextClassifier
from llmops.tasks.text_classification.several.encoder import LabelsEncoder
from llmops.tasks.text_classification.several.objective import LabelsObjective
from llmops.tasks.text_classification.several.update import LabelsHold


class LabelsClassifier(TextClassifier):
    """As TextClassifier, with a logistic loss for each label."""

    gives: Literal["one", "many"] = "many"
    objective = LabelsObjective
    hold = LabelsHold.to
    encoder = LabelsEncoder
