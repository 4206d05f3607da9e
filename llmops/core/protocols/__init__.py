"""The shapes that rooms agree on: what a stage, a task, a learner, a codec and a runtime must offer.

Nothing here runs. Read stage.py for what a stage is handed, task.py for what a new task must bring.
"""

from llmops.core.protocols.codec import (
    Arrays,
    Cited,
    Codec,
    Conversing,
    Embedder,
    Occluding,
    Reply,
    Runtime,
    Stepper,
    TokenText,
    Vector,
    WritingCodec,
)
from llmops.core.protocols.learner import Encoder, Learner, Listener, Updating
from llmops.core.protocols.measuring import Measured, Metric, Opened, Proof, Server
from llmops.core.protocols.room import Places, Progress, Room
from llmops.core.protocols.stage import Base, Depends, GatedStage, Job, Stage
from llmops.core.protocols.task import Judged, Task
from llmops.core.rows import Row, Rows

__all__ = [
    "Arrays", "Base", "Cited", "Codec", "Conversing", "Depends", "Embedder", "Encoder", "GatedStage", "Job", "Judged",
    "Learner", "Listener", "Measured", "Metric", "Occluding", "Opened", "Places", "Progress", "Proof", "Reply",
    "Room", "Row", "Rows", "Runtime", "Server", "Stage", "Stepper", "Task", "TokenText", "Updating", "Vector",
    "WritingCodec",
]  # fmt: skip
