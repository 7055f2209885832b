"""The JSON Schema of what `gov … --json` prints: `python -m tools.reference` writes docs/json-output.schema.json.

`data` of each command is the data type that its use case returns; the tests hold every envelope that they
see against the schema (tests/kit/envelopes.py), so that this table cannot go stale unnoticed.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import msgspec

RESULTS: dict[str, tuple[str, ...]] = {
    "demo": ("ops.demo.DemoResult",),
    "init": ("ops.init.InitResult",),
    "status": ("ops.status.Status",),
    "sync": ("ops.sync.SyncResult",),
    "doctor": ("ops.doctor.Examined",),
    "verify": ("ops.verify.Verified",),
    "gc": ("ops.gc.GcResult",),
    "audit": ("ops.audit.AuditLog", "ops.audit.AuditChecked"),
    "run": ("ops.production.Started",),
    "stop": ("ops.production.Stopped",),
    "logs": ("ops.run.LogText",),
    "node add": ("ops.nodes.AddResult",),
    "node list": ("ops.nodes.NodeList",),
    "node show": ("ops.nodes.NodeDetail",),
    "node remove": ("ops.nodes.RemoveResult",),
    "node enable": ("ops.nodes.ToggleResult",),
    "node disable": ("ops.nodes.ToggleResult",),
    "tx run": ("ops.tx_view.TxDetail",),
    "tx list": ("ops.tx_view.TxList",),
    "tx inspect": ("ops.tx_view.TxDetail",),
    "tx promote": ("ops.tx_promote.PromoteResult",),
    "tx abort": ("model.tx.Transaction",),
    "resolve": ("ops.tx_view.TxDetail", "ops.suggesting.SuggestResult"),
    "models verify": ("ops.models_verify.VerifyResult",),
    "models add": ("ops.models_add.AddResult",),
    "models list": ("ops.models_list.ListResult",),
    "models scan": ("ops.models_scan.ScanResult",),
    "models needed": ("ops.models_needed.NeededResult",),
    "models gc": ("ops.models_gc.ModelsGcResult",),
    "version create": ("ops.version_create.Created",),
    "version list": ("ops.version_view.VersionList",),
    "version show": ("model.version.VersionLock",),
    "version diff": ("ops.version_view.Compared",),
    "version clone": ("ops.version_clone.Cloned",),
    "version verify": ("ops.version_view.VersionVerified",),
    "version bundle": ("ops.version_bundle.Bundled",),
    "version remove": ("ops.version_remove.Removal",),
    "handler run": ("ops.handler_run.Ran",),
    "handler check": ("ops.handler_check.Checked",),
    "handler health": ("ops.handler_status.Health",),
    "handler serve": ("ops.handler_serve.Served",),
    "image context": ("ops.image_context.ContextMade",),
    "image build": ("ops.image_build.Built",),
    "image verify": ("ops.image_build.Verified",),
    "image deploy-files": ("ops.image_deploy.DeployFiles",),
    "image start": ("ops.image_inside.ImageChecked",),
    "image health": ("ops.handler_status.Health",),
    "snapshot list": ("ops.history.SnapshotList",),
    "snapshot inspect": ("ops.history.SnapshotDetail",),
    "snapshot diff": ("ops.history.StateDifference",),
    "snapshot create": ("model.state.SnapshotMeta",),
    "rollback": ("ops.history.RollbackResult",),
    "bisect start": ("ops.bisect.BisectResult",),
    "outdated": ("ops.outdated.Outdated",),
    "completion": ("cli.completion.Completion",),
}
_REFERENCE = "#/definitions/{name}"


def output_schema() -> bytes:
    """JSON Schema (draft 7) of the envelope; `data` may be null where a command did not get as far as its result."""
    kinds = {name: [_kind(path) for path in paths] for name, paths in RESULTS.items()}
    every = list(dict.fromkeys(kind for found in kinds.values() for kind in found))
    references, definitions = msgspec.json.schema_components(every, ref_template=_REFERENCE)
    by_kind = dict(zip(every, references, strict=True))
    schema = _envelope()
    schema["allOf"] = [
        {
            "if": {"properties": {"command": {"const": name}}},
            "then": {"properties": {"data": {"anyOf": [{"type": "null"}, *(by_kind[kind] for kind in found)]}}},
        }
        for name, found in kinds.items()
    ]
    schema["definitions"] = definitions
    return json.dumps(schema, indent=1, sort_keys=True).encode() + b"\n"


def _kind(path: str) -> type[Any]:
    module, _, name = path.rpartition(".")
    kind: type[Any] = getattr(import_module(f"comfygov.{module}"), name)
    return kind


def _envelope() -> dict[str, Any]:
    text = {"type": "string"}
    error = {
        "type": "object",
        "required": ["code", "message", "hint", "details"],
        "properties": {"code": text, "message": text, "hint": text, "details": {"type": "array", "items": text}},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "What gov prints with --json",
        "type": "object",
        "required": ["schema", "command", "ok", "data", "findings", "error"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": "comfygov/1"},
            "command": {"enum": ["gov", "node", "tx", "models", "version", "snapshot", "bisect", "handler", *RESULTS]},
            "ok": {"type": "boolean"},
            "data": True,
            "findings": {"type": "array"},
            "error": {"anyOf": [{"type": "null"}, error]},
        },
    }
