"""What OpenAI's clients send about an answer's form: tools, which of them to call, JSON and the schema it meets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictStr

from llmops.core.section import Section
from llmops.serving.grammar import Callable, Wanted
from llmops.serving.openairefusal import refused
from llmops.serving.strictschema import check_size, check_strict

MOST_TOOLS = 128
"""OpenAI's own limit."""
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
"""The arguments of a tool that names none."""
Name = Annotated[StrictStr, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(Section):
    """A function that the model may call."""

    name: Name
    """Its name: letters, digits, underscores and dashes."""
    description: StrictStr | None = None
    """What it does, for the model."""
    parameters: dict[str, Any] | None = None
    """The JSON schema of its arguments, an object; without one it takes none."""
    strict: StrictBool | None = None
    """Hold the arguments to all of the schema, or refuse the request."""


class Tool(Section):
    """A tool: a function."""

    type: Literal["function"]
    """The kind of tool."""
    function: Function
    """The function."""


class Named(Section):
    """A function's name."""

    name: StrictStr
    """Its name."""


class NamedTool(Section):
    """The tool that must be called."""

    type: Literal["function"]
    """The kind of tool."""
    function: Named
    """Which it is."""


class TextFormat(Section):
    """Any words."""

    type: Literal["text"]
    """The kind of answer."""


class JsonObject(Section):
    """A JSON object of any kind."""

    type: Literal["json_object"]
    """The kind of answer."""


class Schema(Section):
    """A schema by its name."""

    name: Name
    """What it is called."""
    description: StrictStr | None = None
    """Not looked at."""
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    """The JSON schema."""
    strict: StrictBool | None = None
    """Hold the answer to all of the schema, or refuse the request; else to what can be held."""


class JsonSchema(Section):
    """JSON that meets a schema."""

    type: Literal["json_schema"]
    """The kind of answer."""
    json_schema: Schema
    """The schema."""


Format = Annotated[TextFormat | JsonObject | JsonSchema, Field(discriminator="type")]
Choice = Literal["none", "auto", "required"] | NamedTool
Tools = Annotated[list[Tool], Field(max_length=MOST_TOOLS)]


def read_form(tools: Sequence[Tool], choice: Choice | None, several: bool, form: Format | None) -> Wanted | None:
    """What the answer is held to; None: to nothing. Raises Refusal that names the field."""
    schema, strict = _schema(form)
    callable_tools = tuple(_callable(tool, f"tools[{number}]") for number, tool in enumerate(tools))
    names = [tool.name for tool in callable_tools]
    if len(set(names)) < len(names):
        raise refused("two tools have one name", "give each its own", "tools")
    if not names and choice not in (None, "none", "auto"):
        raise refused("`tool_choice` needs `tools`", "send both, or neither", "tool_choice")
    named = choice.function.name if isinstance(choice, NamedTool) else choice or "auto"
    if isinstance(choice, NamedTool) and named not in names:
        raise refused(f"`tool_choice` names no tool: {named!r}", f"name one of: {', '.join(names)}", "tool_choice")
    if named == "none" or not names:
        return None if schema is None else Wanted(schema, strict)
    return Wanted(schema, strict, callable_tools, named, several)


def _callable(tool: Tool, place: str) -> Callable:
    place = f"{place}.function.parameters"
    schema = {"type": "object", **(tool.function.parameters or NOTHING)}
    strict = bool(tool.function.strict)
    if schema["type"] != "object":
        raise refused(f"`{place}`: arguments are an object", 'send {"type": "object", ..}', place, "invalid_schema")
    _checked(schema, strict, place)
    return Callable(tool.function.name, schema, strict)


def _schema(form: Format | None) -> tuple[dict[str, Any] | None, bool]:
    if form is None or isinstance(form, TextFormat):
        return None, False
    if isinstance(form, JsonObject):
        return {"type": "object"}, False
    schema, strict = form.json_schema.schema_, bool(form.json_schema.strict)
    _checked(schema, strict, "response_format.json_schema.schema")
    return schema, strict


def _checked(schema: dict[str, Any], strict: bool, place: str) -> None:
    trouble = check_size(schema) or (check_strict(schema) if strict else None)
    if trouble:
        raise refused(f"`{place}`: {trouble}", "mend the schema", place, "invalid_schema")
