"""Results as text for people: home, packs, snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.text import difference, plural, short, table, when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.state import Baseline, Plugin
    from comfygov.model.tx import Rejected
    from comfygov.ops.demo import DemoResult
    from comfygov.ops.history import RollbackResult, SnapshotDetail, SnapshotList, StateDifference
    from comfygov.ops.init import InitResult
    from comfygov.ops.nodes import AddResult, NodeDetail, NodeList, RemoveResult
    from comfygov.ops.production import Started
    from comfygov.ops.status import Status
    from comfygov.ops.sync import SyncResult


def init_lines(result: InitResult) -> Iterator[str]:
    word = "is governed" if result.created else "was governed already and is checked"
    yield f"{result.home} {word}: snapshot {result.snapshot}, {plural(result.packages, 'package')}"
    for line in result.repaired:
        yield f"  repaired: {line}"
    yield from baseline_lines(result.baseline)
    if result.adopted:
        yield f"  {plural(len(result.adopted), 'pack')} of the install are registered: {', '.join(result.adopted)}"
    for found in result.findings:
        yield f"  {found.kind} {found.subject} {found.problem}" + (f" ({found.hint})" if found.hint else "")
    told = {found.subject for found in result.findings}
    for name in (name for name in result.unmanaged if name not in told):
        yield f"  custom_nodes/{name} is not managed and is not loaded (gov node add registers a pack)"
    yield "next: gov run, or gov node add URL"


def baseline_lines(baseline: Baseline) -> Iterator[str]:
    if not baseline.core_classes:
        return
    yield (
        f"  ComfyUI {baseline.comfyui_version} answers after {baseline.boot_seconds:.1f} s with "
        f"{len(baseline.core_classes)} node classes of its own (torch {baseline.pytorch_version or 'unknown'})"
    )
    for name in baseline.core_failures:
        yield f"  {name} of ComfyUI itself does not import: a package that it needs is missing"
    for pack in baseline.packs:
        if not pack.loaded:
            yield f"  {pack.name} does not import: {pack.reason}"


def status_lines(result: Status) -> Iterator[str]:
    yield f"home        {result.home}"
    parts = f"environment {result.generation or 'none'}, ComfyUI {short(result.comfyui_commit)}"
    yield f"production  {result.head or 'none'}  ({parts})"
    yield f"packs       {result.nodes_enabled} enabled of {result.nodes_registered} registered"
    if result.running:
        running = result.running
        older = "" if running.snapshot == result.head else f", started on {running.snapshot}: restart to load head"
        yield f"ComfyUI     runs on port {running.port} (pid {running.pid}){older}"
    else:
        yield "ComfyUI     does not run"
    seen = "as head says (packages, folders, commits; gov verify looks at each file)"
    yield f"health      {plural(len(result.drift), 'difference') + ' to head' if result.drift else seen}"
    for line in result.drift:
        yield f"            {line}"
    if result.unfinished:
        yield f"unfinished  `{result.unfinished}` was interrupted; the next changing command finishes it (gov sync)"
    if result.busy:
        yield f"busy        {result.busy.command} (pid {result.busy.pid}, since {result.busy.since})"
    yield f"history     {plural(result.snapshots, 'snapshot')}; {_counts(result.transactions)}"
    for tx in result.pending:
        yield f"waits       {tx.txid} {tx.node_id}: {tx.status}"


def _counts(counts: dict[str, int]) -> str:
    if not counts:
        return "no transactions"
    return plural(sum(counts.values()), "transaction") + ": " + ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))


def sync_lines(result: SyncResult) -> Iterator[str]:
    for line in result.repaired:
        yield f"repaired  {line}"
    yield f"production is {result.snapshot}"


def started_lines(result: Started) -> Iterator[str]:
    if result.exit_code is not None:
        yield f"ComfyUI ended with exit code {result.exit_code}"
    else:
        yield f"ComfyUI answers on {result.url} (pid {result.record.pid}, after {result.boot_seconds:.1f} s)"


def rejected_lines(rejected: tuple[Rejected, ...], word: str) -> Iterator[str]:
    for line in rejected:
        where = f"{line.file} line {line.line}" if line.line else line.file
        yield f"  {word}: {where}: {line.text or '(the whole file)'} — {line.reason}"


def added_lines(result: AddResult) -> Iterator[str]:
    plugin = result.plugin
    yield f"{plugin.id} is registered at {short(plugin.commit)} (snapshot {result.snapshot})"
    yield "  production does not load it before it has been tried and promoted"
    if result.declared:
        yield f"  it asks for: {', '.join(result.declared)}"
    yield from rejected_lines(result.rejected, "not taken")
    yield from rejected_lines(result.malformed, "cannot be read")
    yield f"next: gov tx run {plugin.id}"


def node_list_lines(result: NodeList) -> Iterator[str]:
    rows = [(p.id, plugin_state(p), short(p.commit), p.ref or "-", p.source) for p in result.plugins]
    if rows:
        yield from table(rows, ("id", "state", "commit", "ref", "source"))
    else:
        yield "no packs yet: gov node add URL"
    for name in result.unmanaged:
        yield f"unmanaged: custom_nodes/{name} (not loaded)"


def plugin_state(plugin: Plugin) -> str:
    if plugin.enabled:
        return "enabled"
    return "disabled" if plugin.promoted else "not promoted"


def node_detail_lines(result: NodeDetail) -> Iterator[str]:
    plugin = result.plugin
    yield f"{plugin.id}: {plugin_state(plugin)}"
    yield f"  source   {plugin.source}"
    yield f"  commit   {plugin.commit} (ref {plugin.ref or 'default branch'})"
    yield f"  folder   {result.path}"
    if result.checkout_commit != plugin.commit:
        yield f"           is at {result.checkout_commit or 'nothing'}: gov sync repairs it"
    for name in result.edited:
        yield f"           edited: {name}"
    yield f"  group    {plugin.group}: {', '.join(plugin.managed_deps) or 'no requirements'}"
    if result.health:
        health = result.health
        came_up = f"{len(health.classes)} classes, {health.seconds:.1f} s" if health.loaded else f"no: {health.reason}"
        yield f"  loads    {came_up}"
    for tx in result.transactions:
        yield f"  {tx.txid}   {tx.status}, {when(tx.started_at)}"


def removed_lines(result: RemoveResult) -> Iterator[str]:
    yield f"{result.node_id} is removed: production is {result.snapshot.id}"
    yield from difference(result.packages)
    if not result.purged:
        yield f"  its folder, custom_nodes/{result.node_id}, stays and is not loaded (--purge-code deletes it)"
    if result.rescued:
        yield f"  your own files of that folder are in {result.rescued}"
    yield f"back: gov rollback {result.snapshot_pre}"


def snapshot_list_lines(result: SnapshotList) -> Iterator[str]:
    rows = [
        (
            "*" if meta.id == result.head else "",
            meta.id,
            when(meta.created_at),
            meta.node_id or "-",
            meta.generation[:8],
            meta.reason,
        )
        for meta in result.snapshots
    ]
    yield from table(rows, ("", "snapshot", "created", "pack", "env", "reason"))


def snapshot_detail_lines(result: SnapshotDetail) -> Iterator[str]:
    meta = result.meta
    yield f"{meta.id}{' (head)' if result.is_head else ''}: {meta.reason or meta.kind}, {when(meta.created_at)}"
    yield f"  ComfyUI      {result.comfyui.repo} at {short(result.comfyui.commit)}"
    there = "is there" if result.environment_exists else "is gone: a rollback builds it again"
    yield f"  environment  {meta.generation} {there}"
    for plugin in result.plugins:
        yield f"  pack         {plugin.id} {short(plugin.commit)} {plugin_state(plugin)}"
    yield f"  packages     {len(result.packages)} (--json lists them)"


def state_difference_lines(result: StateDifference) -> Iterator[str]:
    yield f"{result.before} -> {result.after}"
    if result.comfyui:
        yield f"  ComfyUI {short(result.comfyui[0])} -> {short(result.comfyui[1])}"
    for change in result.nodes:
        yield f"  pack {change.id}: {change.before or 'absent'} -> {change.after or 'absent'}"
    yield from difference(result.packages)


def rollback_lines(result: RollbackResult) -> Iterator[str]:
    if not result.changed:
        yield f"production is {result.target} already"
        return
    yield f"production is what {result.target} was, after {result.seconds:.2f} s (snapshot {result.snapshot.id})"
    yield from list(state_difference_lines(result.difference))[1:]
    yield f"back: gov rollback {result.snapshot_pre}"


def demo_lines(result: DemoResult) -> Iterator[str]:
    yield f"picture    {result.picture}"
    yield f"rollback   {result.rollback_seconds:.3f} s"
    yield f"home       {result.home}"
    yield f"look at    gov status --home {result.home}"
    yield f"           gov tx inspect {result.failed} --home {result.home}"
