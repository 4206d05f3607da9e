"""A server's /openapi.json, held against the specification by a kept validator, and against what the server does."""

from __future__ import annotations

from typing import Any

import jsonschema
from openapi_spec_validator import validate

from tests.standin import Caller


class Interface:
    """The document of a running server; made, it is valid OpenAPI and names no address that is not there."""

    def __init__(self, port: int) -> None:
        self.call = Caller(port)
        status, self.document = self.call("GET", "/openapi.json")
        assert status == 200
        validate(self.document)
        assert self.document["openapi"] == "3.1.0"
        for path, at in self.document["paths"].items():
            for method in at:
                got = self.call.raw(method.upper(), path.replace("{name}", "x"), b"{}" if method == "post" else None)
                assert got[0] not in (405, 500), (method, path)
                assert got[0] != 404 or b"no-such-address" not in got[2].replace(b"_", b"-"), path

    @property
    def addresses(self) -> set[str]:
        return set(self.document["paths"])

    def example(self, path: str) -> Any:
        return self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]

    def takes(self, path: str, body: Any) -> bool:
        """Whether the document says that the address takes this body."""
        content = self.document["paths"][path]["post"]["requestBody"]["content"]
        return self._fits(content["application/json"]["schema"], body)

    def gives(self, path: str, status: int, answer: Any) -> bool:
        """Whether the document says that the address may give this answer."""
        said = self.document["paths"][path]["post"]["responses"]
        told = said["200"] if status == 200 else said[f"{status // 100}XX"]
        return self._fits(told["content"]["application/json"]["schema"], answer)

    def agrees(self, path: str, body: Any, good: bool) -> Any:
        """The answer to a body on which the document and the server agree, and which fits what the document says."""
        status, answer = self.call("POST", path, body)
        assert self.takes(path, body) == good, (path, body, answer)
        assert (status == 200) == good, (path, body, answer)
        assert self.gives(path, status, answer), (path, body, answer)
        return answer

    def _fits(self, schema: Any, value: Any) -> bool:
        whole = {**schema, "components": self.document["components"]}
        return bool(jsonschema.Draft202012Validator(whole).is_valid(value))
