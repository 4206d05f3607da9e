"""What lies beside the weights in a model's folder, as transformers and vLLM read it: tokenizer, template, ends."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError

FORMAT = 1
REFERENCE = "reference.safetensors"
TEMPLATE = "chat_template.jinja"


@dataclass
class Companions:
    """The tokenizer's and the template's source texts, the data set's facts (generation.json), and, for preferences,
    what the model gave each row of each split before the training: float32 [rows]."""

    tokenizer: str
    template: str | None
    facts: dict[str, Any]
    reference: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    @classmethod
    def of_dataset(cls, dataset: Path) -> Companions:
        """What a prepared data set brings; DataError when it is torn."""
        try:
            facts = json.loads((dataset / "generation.json").read_bytes())
            return cls(*_texts(dataset), facts)
        except (OSError, ValueError) as problem:
            raise DataError(f"The data set cannot be read: {problem}", str(dataset), "run prepare again.") from problem

    def write(self, folder: Path, answer: dict[str, Any]) -> None:
        """Write all but the weights and model.json; `answer` are the defaults of writing (temperature, top_p)."""
        write_whole(folder / "tokenizer.json", self.tokenizer)
        if self.template is not None:
            write_whole(folder / TEMPLATE, self.template)
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                **self.facts.get("special_tokens", {}),
                "model_max_length": self.facts["context"],
                "clean_up_tokenization_spaces": False,
            },
        )
        write_json(folder / "generation_config.json", self.generation(answer))
        if self.reference:
            from safetensors.numpy import save

            write_whole(folder / REFERENCE, save(self.reference))

    def generation(self, answer: dict[str, Any]) -> dict[str, Any]:
        """generation_config.json as transformers reads it."""
        ends = self.end_tokens
        drawn = {"temperature": answer["temperature"], "top_p": answer["top_p"]} if answer["temperature"] else {}
        begin = self.facts.get("begin_token")
        return {
            "eos_token_id": ends[0] if len(ends) == 1 else ends,
            "pad_token_id": self.facts["pad_token"],
            **({} if begin is None else {"bos_token_id": begin}),
            "do_sample": bool(drawn),
            **drawn,
        }

    @property
    def end_tokens(self) -> list[int]:
        """Tokens that end an answer."""
        return list(self.facts.get("end_tokens") or [self.facts["end_token"]])

    @classmethod
    def read(cls, folder: Path) -> tuple[Companions, dict[str, Any]]:
        """What `write` wrote, and model.json. Raises OSError, ValueError or KeyError when it is torn, DataError when it
        is newer than this llmops."""
        from safetensors.numpy import load

        about = json.loads((folder / "model.json").read_bytes())
        if about["format"] > FORMAT:
            raise DataError(
                f"The model has format {about['format']}, this llmops knows {FORMAT}.", str(folder), "upgrade llmops."
            )
        path = folder / REFERENCE
        reference = load(path.read_bytes()) if path.is_file() else {}
        return cls(*_texts(folder), about["facts"], reference), about


def _texts(folder: Path) -> tuple[str, str | None]:
    path = folder / TEMPLATE
    template = path.read_text(encoding="utf-8") if path.is_file() else None
    return (folder / "tokenizer.json").read_text(encoding="utf-8"), template
