"""What a user would write instead of `llmops serve`: three small servers, for serve.py.

    python benchmarks/serve_rivals.py bare|litserve|pipeline BUNDLE PORT

All answer POST /predict {"text": ..} with {"label", "probability"}. `bare` and `litserve` compute with BUNDLE's
model.onnx and tokenizer.json; `pipeline` with a BERT of MiniLM's size, whose answers mean nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Onnx:
    """A bundle's ONNX file, as a short script would use it."""

    def __init__(self, bundle: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        settings = json.loads((bundle / "bundle.json").read_bytes())["settings"]
        self.labels: list[str] = settings["labels"]
        self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self.tokenizer.enable_truncation(settings["max_tokens"])
        self.tokenizer.enable_padding()
        self.session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])

    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        found = self.tokenizer.encode_batch(texts)
        tokens = np.array([one.ids for one in found], np.int64)
        mask = np.array([one.attention_mask for one in found], np.int64)
        logits = self.session.run(None, {"tokens": tokens, "mask": mask})[0]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return [{"label": self.labels[row.argmax()], "probability": float(row.max())} for row in shares]


def behind_fastapi(answer: Callable[[str], dict[str, Any]], port: int) -> None:
    """One request a call; FastAPI runs such a function in its pool of threads."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Ask(BaseModel):
        text: str

    app = FastAPI()

    def predict(asked: Ask) -> dict[str, Any]:
        return answer(asked.text)

    predict.__annotations__["asked"] = Ask
    app.post("/predict")(predict)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def bare(bundle: Path, port: int) -> None:
    """onnxruntime behind FastAPI."""
    model = Onnx(bundle)
    behind_fastapi(lambda text: model([text])[0], port)


def pipeline(bundle: Path, port: int) -> None:
    """transformers' pipeline behind FastAPI."""
    import transformers

    from llmops.nets.pretrained import find

    labels = json.loads((bundle / "bundle.json").read_bytes())["settings"]["labels"]
    folder = find("sentence-transformers/all-MiniLM-L6-v2")
    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asking = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    behind_fastapi(lambda text: asking(text)[0], port)


def litserve(bundle: Path, port: int) -> None:
    """LitServe, with batches."""
    from benchmarks.serve_litserve import serve

    serve(bundle, port)


if __name__ == "__main__":
    {"bare": bare, "litserve": litserve, "pipeline": pipeline}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
