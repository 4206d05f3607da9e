"""The document at /openapi.json: a server's addresses in OpenAPI 3.1, schemas made from the classes that check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from llmops import __version__
from llmops.serving.interface import JSON, Operation, Predicted, Schema, operations

if TYPE_CHECKING:
    from llmops.serving.service import Service

Mode = Literal["validation", "serialization"]
REF = "#/components/schemas/"
TEXT: Schema = {"type": "string"}
ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "what": {**TEXT, "description": "What is wrong."},
                "do": {**TEXT, "description": "What to do about it."},
                "code": {**TEXT, "description": "A fixed word, for programs."},
            },
            "required": ["what", "do", "code"],
        }
    },
    "required": ["error"],
}
OPENAI_ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {**TEXT, "description": "What is wrong, and what to do about it."},
                "type": {**TEXT, "description": "The kind of error."},
                "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                "code": {"type": ["string", "null"], "description": "A fixed word, for programs."},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
NOTED: Schema = {
    "id": {**TEXT, "description": "What feedback names the answer by."},
    "version": {"type": "integer", "description": "The model that answered; 0: not from the registry."},
}
"""What stands in each prediction beside the model's answer."""


class Plain(GenerateJsonSchema):
    """pydantic's schemas without the titles that only repeat names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def document(service: Service) -> Schema:
    """The whole document of a server, for the model that it serves now."""
    model, told = service.holder.model, operations(service)
    manifest = model.predictor.manifest
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"llmops: {manifest.task}", "version": str(model.version),
            "description": f"What this server takes and gives, written from what it checks by (llmops {__version__}).",
        },
        "paths": {path: {method: _operation(path, method, one) for method, one in at.items()}
                  for path, at in told.items()},
        "components": {"schemas": _components(told)},
    }  # fmt: skip


def _operation(path: str, method: str, told: Operation) -> Schema:
    gives = _reference(told.gives, "Answers")
    error = f"{REF}{'OpenAIError' if told.openai else 'Error'}"
    refusal = {"content": {JSON: {"schema": {"$ref": error}}}}
    made: Schema = {
        "operationId": "_".join([method, *re.findall(r"\w+", path)]),
        "summary": told.summary,
        "responses": {
            "200": {
                "description": HTTPStatus.OK.phrase,
                "content": {kind: {"schema": gives if kind == JSON else TEXT} for kind in told.media},
            },
            "4XX": {"description": "What was sent is wrong, or too much", **refusal},
            "5XX": {"description": "The server cannot answer now", **refusal},
        },
    }
    names = re.findall(r"{(\w+)}", path)
    if names:
        made["parameters"] = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
    if told.body is not None:
        content = {JSON: {"schema": _reference(told.body, "Requests"), "example": told.example}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _reference(told: Any, predicted: str) -> Schema:
    """The schema of a class, by its name among the components; what is a schema stays as it is."""
    if isinstance(told, Predicted):
        return {"$ref": f"{REF}{predicted}"}
    return {"$ref": f"{REF}{told.__name__}"} if isinstance(told, type) else told


def _components(told: Mapping[str, Mapping[str, Operation]]) -> Schema:
    """All schemas that the operations name."""
    every = [one for at in told.values() for one in at.values()]
    wanted: list[tuple[type[BaseModel], Mode]] = []
    for one in every:
        body, gives = one.body, one.gives
        if isinstance(body, Predicted):
            wanted.append((body.response, "serialization"))
            body, gives = body.request, None
        wanted += [(body, "validation")] if isinstance(body, type) else []
        wanted += [(gives, "serialization")] if isinstance(gives, type) else []
    made: Schema = models_json_schema(wanted, ref_template=f"{REF}{{model}}", schema_generator=Plain)[1].get(
        "$defs", {}
    )
    for one in every:
        if one.more and isinstance(one.body, type):
            made[one.body.__name__]["properties"] |= one.more
        if isinstance(one.body, Predicted):
            made |= _predictions(one.body, made)
    return {**made, "Error": ERROR, "OpenAIError": OPENAI_ERROR}


def _predictions(parts: Predicted, made: Schema) -> Schema:
    """The schemas of /v1/predict: one thing or several of them, with their answers."""
    response = made.pop(parts.response.__name__)
    prediction = {
        **response,
        "title": "Prediction",
        "properties": {**NOTED, **response["properties"]},
        "required": [*NOTED, *response.get("required", [])],
    }
    answers = _list_of({"$ref": f"{REF}Prediction"}, "The answers, in the order of the request.")
    several = _object({"version": NOTED["version"], "results": answers}, ["version", "results"])
    found = {"Prediction": prediction, "Answers": {"anyOf": [{"$ref": f"{REF}Prediction"}, several]}}
    if parts.one is None:
        return {**found, **_rows(parts)}
    asked = dict(made[parts.request.__name__]["properties"])
    items = {name: value for name, value in asked.pop(parts.one).items() if name != "description"}
    texts = _list_of(items, f"Several; what stands beside them holds for each. At most {parts.most}.", parts.most)
    many = _object({parts.many: texts, **asked}, [parts.many])
    return {**found, "Requests": {"anyOf": [{"$ref": f"{REF}{parts.request.__name__}"}, many]}}


def _rows(parts: Predicted) -> Schema:
    """The schemas of rows of fields, which a table's codec tells itself."""
    row: Schema = {**parts.request, "properties": dict(parts.request["properties"])}
    row["properties"].setdefault("reasons", {"type": "integer", "minimum": 0, "description": "Reasons to name."})
    if target := row.get("x-target"):
        row["properties"].setdefault(target, {"description": "What is predicted; it may come along, unread."})
    rows = _list_of({"$ref": f"{REF}Row"}, f"Several rows, at most {parts.most}.", parts.most)
    one: Schema = {"$ref": f"{REF}Row"}
    return {"Row": row, "Requests": {"anyOf": [one, rows, _object({parts.many: rows}, [parts.many])]}}


def _list_of(items: Schema, description: str, most: int | None = None) -> Schema:
    bounds = {} if most is None else {"minItems": 1, "maxItems": most}
    return {"type": "array", "items": items, "description": description, **bounds}


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
