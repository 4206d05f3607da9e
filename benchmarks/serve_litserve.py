"""A bundle behind LitServe, with batches of 32 that wait at most 5 ms: one of serve_rivals.py's servers.

A file of its own, for its worker processes import the class, and LitServe reads its annotations as they stand.
"""

from pathlib import Path
from typing import Any

import litserve as ls


class Api(ls.LitAPI):  # type: ignore[misc]
    """Texts to labels."""

    bundle: Path

    def setup(self, device: str) -> None:
        from benchmarks.serve_rivals import Onnx

        self.model = Onnx(self.bundle)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return str(request["text"])

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        return self.model(list(texts))

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


def serve(bundle: Path, port: int) -> None:
    """Serve until told to stop."""
    api = Api(max_batch_size=32, batch_timeout=0.005)
    api.bundle = bundle
    ls.LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)
