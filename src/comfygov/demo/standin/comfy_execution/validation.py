# ruff: noqa: ANN401 - values of a workflow are of any type
"""Checks a workflow before it is queued, with the error types of the real program."""

from __future__ import annotations

import inspect
import logging
import sys
import traceback
from typing import Any, NamedTuple

import nodes
from comfy_execution.graph_utils import ExecutionBlocker

log = logging.getLogger("comfyui")
Error = dict[str, Any]
Verdict = tuple[bool, list[Error], str]
CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class Spec(NamedTuple):
    """What a class says about one input."""

    name: str
    kind: Any
    category: str
    extra: dict[str, Any]

    @property
    def config(self) -> tuple[Any, dict[str, Any]]:
        """As it is shown in an error."""
        return self.kind, self.extra


def input_specs(cls: Any) -> dict[str, Spec]:
    """Every input of a class by name, hidden ones too."""
    found = {}
    for category, inputs in cls.INPUT_TYPES().items():
        for name, value in inputs.items():
            parts = value if isinstance(value, (tuple, list)) else (value,)
            extra = parts[1] if len(parts) > 1 else {}
            found.setdefault(name, Spec(name, parts[0], category, extra))
    return found


def full_type_name(cls: type) -> str:
    """The name of an exception's class as it is reported."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _error(kind: str, message: str, details: str, **extra: Any) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def types_match(received: Any, wanted: Any) -> bool:
    """Say whether an output of one type may go into an input of another."""
    if received == wanted or "*" in (received, wanted):
        return True
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    return bool({x.strip() for x in received.split(",")} & {x.strip() for x in wanted.split(",")})


def _exception(kind: str, message: str, error: Exception, **extra: Any) -> Error:
    name = full_type_name(type(error))
    trace = traceback.format_tb(sys.exc_info()[2])
    return _error(kind, message, str(error), **extra, exception_type=name, traceback=trace)


class Validator:
    """Goes through a workflow from its outputs upwards."""

    def __init__(self, prompt: dict[str, Any]) -> None:
        self.prompt = prompt
        self.verdicts: dict[str, Verdict] = {}

    def node(self, node_id: str) -> Verdict:
        """The verdict on one node and all it depends on."""
        if node_id not in self.verdicts:
            self.verdicts[node_id] = self._check(node_id)
        return self.verdicts[node_id]

    def _check(self, node_id: str) -> Verdict:
        inputs = self.prompt[node_id]["inputs"]
        cls = nodes.NODE_CLASS_MAPPINGS[self.prompt[node_id]["class_type"]]
        function = getattr(cls, "VALIDATE_INPUTS", None)
        asked = inspect.getfullargspec(function) if function is not None else None
        names = set(asked.args) if asked else set()
        takes_all = bool(asked and asked.varkw)
        errors: list[Error] = []
        good, received = True, {}
        for spec in input_specs(cls).values():
            if spec.category not in {"required", "optional"}:
                continue
            own = takes_all or spec.name in names
            good = self._input(inputs, spec, own, "input_types" in names, received, errors) and good
        if asked is not None and (names - {"cls", "s", "self"} or takes_all):
            errors += _custom(function, inputs, cls, names, takes_all, received)
        return (good and not errors, errors, node_id)

    def _input(
        self,
        inputs: dict[str, Any],
        spec: Spec,
        own: bool,  # noqa: FBT001
        own_types: bool,  # noqa: FBT001
        received: dict[str, Any],
        errors: list[Error],
    ) -> bool:
        """Check one input; False when something above it is bad."""
        if spec.name not in inputs:
            if spec.category == "required":
                text = "Required input is missing"
                errors.append(_error("required_input_missing", text, spec.name, input_name=spec.name))
            return True
        value = inputs[spec.name]
        if isinstance(value, list):
            return self._link(value, spec, own_types, received, errors)
        errors += _constant(inputs, spec, own)
        return True

    def _link(
        self,
        link: list[Any],
        spec: Spec,
        own_types: bool,  # noqa: FBT001
        received: dict[str, Any],
        errors: list[Error],
    ) -> bool:
        about = {"input_name": spec.name, "input_config": spec.config}
        if len(link) != 2:
            text = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            errors.append(_error("bad_linked_input", text, spec.name, **about, received_value=link))
            return True
        source = nodes.NODE_CLASS_MAPPINGS[self.prompt[link[0]]["class_type"]]
        kind = received[spec.name] = source.RETURN_TYPES[link[1]]
        if not own_types and not types_match(kind, spec.kind):
            details = f"{spec.name}, received_type({kind}) mismatch input_type({spec.kind})"
            text = "Return type mismatch between linked nodes"
            error = _error("return_type_mismatch", text, details, **about, received_type=kind, linked_node=link)
            errors.append(error)
            return True
        return self._above(link, about)

    def _above(self, link: list[Any], about: dict[str, Any]) -> bool:
        try:
            return self.node(link[0])[0]
        except Exception as error:
            text = "Exception when validating inner node"
            more = {**about, "exception_message": str(error), "linked_node": link}
            reason = _exception("exception_during_inner_validation", text, error, **more)
            self.verdicts[link[0]] = (False, [reason], link[0])
            return False


def _constant(inputs: dict[str, Any], spec: Spec, own: bool) -> list[Error]:  # noqa: FBT001
    value = inputs[spec.name]
    try:
        if isinstance(value, dict) and "__value__" in value:
            value = inputs[spec.name] = value["__value__"]
        if isinstance(spec.kind, str) and spec.kind in CONVERTERS:
            value = inputs[spec.name] = CONVERTERS[spec.kind](value)
    except Exception as error:
        text = f"Failed to convert an input value to a {spec.kind} value"
        about = {"input_name": spec.name, "input_config": spec.config, "received_value": value}
        details = f"{spec.name}, {value}, {error}"
        return [_error("invalid_input_type", text, details, **about, exception_message=str(error))]
    return [] if own else _limits(value, spec)


def _limits(value: Any, spec: Spec) -> list[Error]:
    about = {"input_name": spec.name, "input_config": spec.config, "received_value": value}
    low, high = spec.extra.get("min"), spec.extra.get("max")
    if low is not None and value < low:
        text = f"Value {value} smaller than min of {low}"
        return [_error("value_smaller_than_min", text, spec.name, **about)]
    if high is not None and value > high:
        return [_error("value_bigger_than_max", f"Value {value} bigger than max of {high}", spec.name, **about)]
    choices = spec.kind if isinstance(spec.kind, list) else spec.extra.get("options")
    if not isinstance(choices, list) or value in choices:
        return []
    long = len(choices) > 20
    shown = f"(list of length {len(choices)})" if long else str(choices)
    about["input_config"] = None if long else spec.config
    return [_error("value_not_in_list", "Value not in list", f"{spec.name}: '{value}' not in {shown}", **about)]


def _custom(
    function: Any,
    inputs: dict[str, Any],
    cls: Any,
    names: set[str],
    takes_all: bool,  # noqa: FBT001
    received: dict[str, Any],
) -> list[Error]:
    known = input_specs(cls)
    given = {k: None if isinstance(v, list) else v for k, v in inputs.items() if k in known}
    given = {k: v for k, v in given.items() if takes_all or k in names}
    if "input_types" in names:
        given["input_types"] = received
    answer = function(**given)
    if answer is True or isinstance(answer, ExecutionBlocker):
        return []
    tail = "" if answer is False else f" - {answer}"
    text = "Custom validation failed for node"
    return [_error("custom_validation_failed", text, f"{x}{tail}", input_name=x) for x in given]


def _find_outputs(prompt: dict[str, Any], targets: list[str] | None) -> tuple[Error | None, list[str]]:
    outputs = []
    for node_id, node in prompt.items():
        if "class_type" not in node:
            text = "Cannot execute because a node is missing the class_type property."
            return _error("invalid_prompt", text, f"Node ID '#{node_id}'"), []
        cls = nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])
        if cls is None:
            text = f"Cannot execute because node {node['class_type']} does not exist."
            return _error("invalid_prompt", text, f"Node ID '#{node_id}'"), []
        if getattr(cls, "OUTPUT_NODE", False) is True and (targets is None or node_id in targets):
            outputs.append(node_id)
    return (None, outputs) if outputs else (_error("prompt_no_outputs", "Prompt has no outputs", ""), [])


def _output(validator: Validator, node_id: str) -> Verdict:
    try:
        return validator.node(node_id)
    except Exception as error:
        reason = _exception("exception_during_validation", "Exception when validating node", error)
        validator.verdicts[node_id] = (False, [reason], node_id)
        return validator.verdicts[node_id]


def _collect(validator: Validator, output: str, found: dict[str, Any]) -> None:
    """Add the nodes that have errors of their own to the answer."""
    for node_id, (good, reasons, _) in validator.verdicts.items():
        if good or not reasons:
            continue
        class_type = validator.prompt[node_id]["class_type"]
        if node_id not in found:
            found[node_id] = {"errors": reasons, "dependent_outputs": [], "class_type": class_type}
            _log_reasons(f"* {class_type} {node_id}:", reasons)
        found[node_id]["dependent_outputs"].append(output)


def _log_reasons(title: str, reasons: list[Error]) -> None:
    if reasons:
        log.error(title)
    for reason in reasons:
        log.error("  - %s: %s", reason["message"], reason["details"])


def validate_prompt(
    prompt: dict[str, Any], targets: list[str] | None
) -> tuple[bool, Error | None, list[str], dict[str, Any]]:
    """Whether to queue it, the error if not, the good outputs, and the errors by node."""
    error, outputs = _find_outputs(prompt, targets)
    if error is not None:
        return False, error, [], {}
    validator = Validator(prompt)
    good: list[str] = []
    lines: list[str] = []
    node_errors: dict[str, Any] = {}
    for output in outputs:
        valid, reasons, _ = _output(validator, output)
        if valid:
            good.append(output)
            continue
        log.error("Failed to validate prompt for output %s:", output)
        _log_reasons("* (prompt):", reasons)
        lines += [f"{x['message']}: {x['details']}" for x in reasons]
        _collect(validator, output, node_errors)
        log.error("Output will be ignored")
    if good:
        return True, None, good, node_errors
    text = "Prompt outputs failed validation"
    return False, _error("prompt_outputs_failed_validation", text, "\n".join(lines)), [], node_errors
