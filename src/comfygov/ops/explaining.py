"""Why no environment holds a change: the fewest lines that exclude each other, confirmed by the resolver."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import GovError
from comfygov.model.tx import ConflictReport, ConflictSide, Rejected
from comfygov.ops import locking, planning
from comfygov.ports import fs
from comfygov.resolve import conflict, lockfile, requirements
from comfygov.resolve.minimal import minimal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.ops.change import Change
    from comfygov.ops.context import Context
    from comfygov.resolve.conflict import Line
    from comfygov.truth.snapshots import State

# A minimal set of k among n lines takes about k * log(n) rounds; this is far beyond what real ones take.
MAX_CALLS = 120
SETTINGS = "your settings"
YOU = "you (--require, --dep)"
PINS = "overrides"
PINNED = "a pin of `gov resolve`"
FORCED = "forced"
_SUBJECTS = {
    conflict.CONSTRAINTS: SETTINGS,
    PINS: PINNED,
    FORCED: "a forced version of `gov resolve`",
    "comfyui": "ComfyUI",
    "comfyui-extra": YOU,
}


class Resolver:
    """Asks uv whether lines hold together. Answers are remembered; it is called from several threads."""

    def __init__(self, context: Context, work: Path, declared: Declaration, base: State) -> None:
        self._context, self._work, self.declared, self.base = context, work, declared, base
        self._numbers = itertools.count(1)
        self._answers: dict[frozenset[Line], str] = {}

    @property
    def calls(self) -> int:
        return len(self._answers)

    def refusal(self, lines: Sequence[Line]) -> str:
        """uv's words when `lines` have no solution together; empty when they have one."""
        key = frozenset(lines)
        if key not in self._answers:
            if self.calls >= MAX_CALLS:
                raise TooManyCallsError
            self._answers[key] = self._ask(lines)
        return self._answers[key]

    def _ask(self, lines: Sequence[Line]) -> str:
        groups: dict[str, list[str]] = {}
        for line in lines:
            groups.setdefault(line.group, []).append(line.text)
        constraints = tuple(groups.pop(conflict.CONSTRAINTS, ()))
        forced = tuple(entry for entry in self.declared.resolutions if entry.forced)
        asked = msgspec.structs.replace(
            self.declared,
            groups={name: tuple(texts) for name, texts in groups.items()},
            constraints=constraints,
            resolutions=forced,  # pins are lines like others: in the group that they are locked as
        )
        directory = self._work / f"probe-{next(self._numbers)}"
        try:
            locking.lock(self._context, directory, asked, self.base.uv_lock)
        except locking.NoSolution as no:
            return no.uv_text
        finally:
            fs.remove_tree(directory)
        return ""


class TooManyCallsError(Exception):
    """The resolver was asked MAX_CALLS questions."""


def malformed(txid: str, change: Change, lines: Sequence[Rejected]) -> ConflictReport:
    """The report of lines that no resolver can read."""
    line = lines[0]
    who = next((pack.id for pack in change.packs if line in pack.declared.malformed), "ComfyUI")
    where = f"{who}, {line.file} line {line.line}" if line.text else f"{who}, {line.file}"
    shown = f"{where}: `{line.text}` is {line.reason}" if line.text else f"{where}: {line.reason}"
    likely = requirements.suggestion(line.text)
    summary = f"{shown} (likely meant: `{likely}`)" if likely else shown
    return ConflictReport(txid, "malformed", summary, rejected=tuple(lines))


def explain(
    context: Context, work: Path, base: State, change: Change, declared: Declaration, problem: locking.NoSolution
) -> ConflictReport:
    """The report of a lock that failed; what the resolver could not confirm is said to be unconfirmed."""
    started = time.monotonic()
    resolver = Resolver(context, work, declared, base)
    asked = _with_pins(declared)
    try:
        lines, verified = _minimal(resolver, problem.uv_text, asked), True
    except (GovError, TooManyCallsError):
        lines, verified = conflict.suspects(problem.uv_text, asked), False
    words = (resolver.refusal(lines) if verified else "") or problem.uv_text
    report = _describe(context, base, change, lines, words)
    return msgspec.structs.replace(
        report,
        groups=tuple(sorted({line.group for line in lines})),
        uv_text=problem.uv_text,
        verified=verified,
        resolver_calls=resolver.calls,
        seconds=time.monotonic() - started,
    )


def _with_pins(declared: Declaration) -> Declaration:
    """Pins of `gov resolve` as the group that they are locked as, so that they can be at fault too."""
    pins = tuple(entry.requirement for entry in declared.resolutions if not entry.forced)
    return msgspec.structs.replace(declared, groups={**declared.groups, **({PINS: pins} if pins else {})})


def _minimal(resolver: Resolver, uv_text: str, declared: Declaration) -> list[Line]:
    """Starts from what uv's words name; from everything when that alone does not fail.

    A forced version that nobody has fails alone. It is asked about first: it stands in for what packs ask for, and
    the resolver's words then blame them.
    """
    for entry in declared.resolutions:
        line = conflict.Line(FORCED, entry.requirement)
        if entry.forced and resolver.refusal([line]):
            return [line]
    suspects = conflict.suspects(uv_text, declared)
    everything = conflict.lines_of(declared)
    start = suspects if suspects and resolver.refusal(suspects) else everything
    if start is everything and not resolver.refusal(everything):
        raise TooManyCallsError  # it fails for a reason that is in no line: nothing to be minimal about
    return minimal(start, lambda lines: bool(resolver.refusal(lines)))


def _describe(context: Context, base: State, change: Change, lines: Sequence[Line], words: str) -> ConflictReport:
    lock = lockfile.read(base.uv_lock.decode())
    package = conflict.contested(words, lines) if len(lines) > 1 else conflict.blamed(words, lines)
    version = lock.versions.get(package, "")
    form = conflict.form_of(words, lines, context.config.policy.core_packages)
    sides = tuple(_side(context, base, change, line, package, version) for line in lines)
    return ConflictReport(
        txid="",
        form=form,
        summary=_summary(form, sides, package, words) + _as_of(context, form),
        sides=sides,
        package=package,
        production_version=version,
        dependents=tuple(_dependents(base, lock, package, lines)) if package else (),
        reasons=tuple(conflict.reasons(words)),
    )


def _side(
    context: Context, base: State, change: Change, line: Line, package: str, production_version: str
) -> ConflictSide:
    who, where, on_trial = _subject(context, base, change, line)
    admits = line.admits(production_version) if line.package == package else None
    return ConflictSide(who, line.text, where, on_trial, admits)


def _subject(context: Context, base: State, change: Change, line: Line) -> tuple[str, str, bool]:
    """(who asks, where it is written, whether that is on trial)."""
    for pack in change.packs:
        if pack.plugin.group == line.group:
            return pack.id, pack.declared.places.get(line.text, ""), True
    if line.group == locking.COMFYUI_GROUP:
        where = change.comfyui.declared.places.get(line.text, "") if change.comfyui else "requirements.txt"
        return "ComfyUI", where, change.comfyui is not None
    plugin = next((known for known in base.registry.plugins if known.group == line.group), None)
    if plugin is not None:
        return plugin.id, planning.read_declared(context, plugin).places.get(line.text, ""), False
    if line.group == conflict.CONSTRAINTS:
        return SETTINGS, "config.toml, [python] constraints", False
    return _SUBJECTS.get(line.group, line.group), "", line.text in change.dependencies


def _dependents(base: State, lock: lockfile.Locked, package: str, lines: Sequence[Line]) -> list[str]:
    """Who else in production depends on the package: other packages, and lines that are no side of this."""
    sides = {line.group for line in lines if line.package == package}
    asking = [
        called(base, None, group)
        for group, texts in sorted(base.declared.groups.items())
        for text in texts
        if requirements.package_of(text) == package and group not in sides
    ]
    return list(dict.fromkeys([*asking, *lock.dependents_of(package)]))


def called(base: State, change: Change | None, group: str) -> str:
    """Whose lines a group holds."""
    packs = [*(pack.plugin for pack in change.packs), *base.registry.plugins] if change else base.registry.plugins
    plugin = next((known for known in packs if known.group == group), None)
    return plugin.id if plugin else _SUBJECTS.get(group, group)


def _summary(form: str, sides: Sequence[ConflictSide], package: str, words: str) -> str:
    """The whole story in one line."""
    names = _enumerated(list(dict.fromkeys(side.who for side in sides)))
    lines = ", ".join(f"`{side.line}`" for side in sides)
    about = package or "packages"
    if not sides:
        return "no environment holds all requirements (the resolver's words are below)"
    through = package and package not in {requirements.package_of(side.line) for side in sides}
    what = f"{lines}, which needs {package}, and that" if through else f"{lines}, and that"
    asks = f"{names} {'ask' if names == YOU else 'asks'} for"
    sentences = {
        "one_pack": f"{asks} what excludes itself: {lines}" + (f" ({package})" if through else ""),
        "two_packs": f"{names} want different versions of {about}",
        "comfyui": f"{names} want different versions of {about}",
        "core_packages": f"{names}: {about} is held by your settings, and the change needs another",
        "own_wishes": f"{names} exclude each other about {about}",
        "requires_python": f"{asks} {what} needs another Python than this home has",
        "missing_package": f"{asks} {what} is no package that the index has",
        "missing_version": f"{asks} {what} is no version that the index has",
        "missing_file": f"{asks} {what} is not at its address any more",
        "no_wheel": f"{asks} {what} has no wheel for this platform{_from_source(words)}",
    }
    return sentences.get(form, f"{lines} of {names} cannot be satisfied")


def _enumerated(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _as_of(context: Context, form: str) -> str:
    seen = context.config.python.exclude_newer
    return f" (the index is seen as of {seen})" if seen and form.startswith("missing") else ""


def _from_source(words: str) -> str:
    """Wheels that are not there can be built, where the settings allow it."""
    built = "--no-build" in words or "source distributions is disabled" in words
    return " and must be built from source ([policy] source_builds allows that)" if built else ""
