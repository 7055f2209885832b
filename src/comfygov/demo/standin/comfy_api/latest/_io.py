# ruff: noqa: B027, N802, ANN401, A002 - names and shapes are given by ComfyUI
"""Schemas of v3 nodes, translated into the v1 form that the rest of the stand-in reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any


class ComfyExtension(ABC):
    """What comfy_entrypoint() returns."""

    async def on_load(self) -> None:
        """Called by the real program when the extension is loaded."""

    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]:
        """The nodes of the extension."""


@dataclass
class Input:
    """One input of a node."""

    id: str
    io_type: Any
    optional: bool
    extra: dict[str, Any]


@dataclass
class Output:
    """One output of a node."""

    io_type: str
    id: str | None = None
    display_name: str | None = None
    is_output_list: bool = False


class _Type:
    """A type of value, with its `Input` and `Output`."""

    def __init__(self, io_type: str) -> None:
        self.io_type = io_type

    def Input(self, id: str, optional: bool = False, **extra: Any) -> Input:  # noqa: FBT001, FBT002
        """An input of this type."""
        return Input(id, self.io_type, optional, extra)

    def Output(self, id: str | None = None, display_name: str | None = None, **more: Any) -> Output:
        """An output of this type."""
        return Output(self.io_type, id, display_name, bool(more.get("is_output_list")))


class _Combo(_Type):
    """One of several strings."""

    def Input(self, id: str, options: Any = (), optional: bool = False, **extra: Any) -> Input:  # noqa: FBT001, FBT002
        """A choice."""
        return Input(id, "COMBO", optional, {**extra, "options": list(options)})


Image, Mask, Latent = _Type("IMAGE"), _Type("MASK"), _Type("LATENT")
Model, Clip, Vae, Conditioning = _Type("MODEL"), _Type("CLIP"), _Type("VAE"), _Type("CONDITIONING")
Int, Float, String, Boolean, AnyType = (_Type(x) for x in ("INT", "FLOAT", "STRING", "BOOLEAN", "*"))
Combo = _Combo("COMBO")


@dataclass
class Schema:
    """All that is known about a node."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_input_list: bool = False
    not_idempotent: bool = False


class NodeOutput:
    """What execute() returns: values, and what to show."""

    standin_node_output = True

    def __init__(self, *values: Any, ui: Any = None, block_execution: str | None = None) -> None:
        from comfy_execution.graph_utils import ExecutionBlocker

        self.ui = ui.as_dict() if hasattr(ui, "as_dict") else ui
        blocker = ExecutionBlocker(block_execution) if block_execution is not None else None
        self.result: Any = blocker or (values or None)


class _FromSchema:
    """A class attribute that is read from the schema."""

    def __init__(self, read: Any) -> None:
        self.read = read

    def __get__(self, _: Any, owner: Any) -> Any:
        return self.read(owner.GET_SCHEMA())


class ComfyNode:
    """The base of v3 nodes."""

    FUNCTION = "standin_execute"
    OUTPUT_NODE = _FromSchema(lambda schema: schema.is_output_node)
    CATEGORY = _FromSchema(lambda schema: schema.category)
    DESCRIPTION = _FromSchema(lambda schema: schema.description)
    DEPRECATED = _FromSchema(lambda schema: schema.is_deprecated)
    EXPERIMENTAL = _FromSchema(lambda schema: schema.is_experimental)
    INPUT_IS_LIST = _FromSchema(lambda schema: schema.is_input_list)
    NOT_IDEMPOTENT = _FromSchema(lambda schema: schema.not_idempotent)
    RETURN_TYPES = _FromSchema(lambda schema: [x.io_type for x in schema.outputs])
    RETURN_NAMES = _FromSchema(lambda schema: [x.display_name or x.id or x.io_type for x in schema.outputs])
    OUTPUT_IS_LIST = _FromSchema(lambda schema: [x.is_output_list for x in schema.outputs])

    @classmethod
    def define_schema(cls) -> Schema:
        """Said by each node: this base has none."""
        raise NotImplementedError(f"{cls.__name__} has no define_schema")

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        """The schema, made once per class."""
        if "standin_schema" not in cls.__dict__:
            cls.standin_schema = cls.define_schema()
        return cls.standin_schema

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs in v1 form."""
        found: dict[str, Any] = {"required": {}}
        for value in cls.GET_SCHEMA().inputs:
            place = found.setdefault("optional" if value.optional else "required", {})
            place[value.id] = (value.io_type, value.extra)
        return found

    @classmethod
    def standin_execute(cls, **inputs: Any) -> Any:
        """Run the node."""
        return cls.execute(**inputs)  # type: ignore[attr-defined]
