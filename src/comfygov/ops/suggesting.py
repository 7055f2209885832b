"""`gov resolve --suggest`: ways out of a conflict, each tried with the resolver, the cheapest first.

What is tried is bounded: newer commits of the packs on the other side, older states of the pack's requirements,
and versions of the contested package forced for all.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.errors import Code, GovError
from comfygov.model.names import PROJECT_NAME
from comfygov.model.state import Resolution
from comfygov.model.tx import ConflictReport, Difference, Override, Strategy, Suggestion, Transaction
from comfygov.ops import change as changes
from comfygov.ops import explaining, forcing, locking, planning, resolving, settling, unrecorded
from comfygov.ops.context import changing
from comfygov.ports import git_history
from comfygov.ports.git import recorded_source
from comfygov.resolve import requirements
from comfygov.resolve.torch_family import locked_versions
from comfygov.truth import store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.ops.change import Change, PackOnTrial
    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State

MAX_OLDER = 6
_NAMED = 5
PARALLEL = 4


@dataclass(frozen=True)
class _Idea:
    """A changed change, and what taking it costs besides packages that move. `forced` is the `package==version` that
    it forces. What `command` does is what `change` is: a new transaction has none of the pins of this one."""

    strategy: Strategy
    title: str
    command: str
    change: Change
    cost: tuple[str, ...] = ()
    forced: str = ""
    loosened: frozenset[str] = frozenset()


class SuggestResult(msgspec.Struct, frozen=True):
    transaction: Transaction
    conflict: ConflictReport
    suggestions: tuple[Suggestion, ...]


def suggest(context: Context, txid: str) -> SuggestResult:
    """Try the strategies; what was found is kept in the conflict report too."""
    tx = resolving.open_transaction(context, txid)
    if not tx.conflict_report:
        raise GovError(Code.WRONG_STATE, f"{tx.txid} has no conflict", f"gov tx inspect {tx.txid}")
    path = context.home.root / tx.conflict_report
    report = store.load(path, ConflictReport)
    base = context.head_state()
    change = planning.plan_again(context, base, tx, None, None)
    with unrecorded.working(context, "resolve") as name:
        found = _try_all(context, context.home.work / name, base, tx, report, change)
    report = msgspec.structs.replace(report, suggestions=tuple(found))
    with changing(context):
        if context.transactions.load(tx.txid).conflict_report == tx.conflict_report:
            store.save(path, report)
    return SuggestResult(tx, report, report.suggestions)


def _try_all(
    context: Context, work: Path, base: State, tx: Transaction, report: ConflictReport, change: Change
) -> list[Suggestion]:
    numbers, package = itertools.count(1), report.package or _first_named(report)
    judge = forcing.judge(context, work, base, change, report, package)

    def attempt(idea: _Idea) -> Suggestion:
        return _attempt(context, work / f"try-{next(numbers)}", base, tx, idea, judge)

    with ThreadPoolExecutor(PARALLEL) as pool:
        tries = _tries(context, base, report, change, package)
        found = pool.map(lambda entry: _newest(context, work / f"free-{next(numbers)}", base, package, entry[1]), tries)
        versions: dict[str, str] = {}
        for version, (whose, _) in zip(found, tries, strict=True):
            versions.setdefault(version, whose)
        ideas = [
            *_updates_of_others(context, base, tx, report, change),
            *_older_releases(context, tx, report, change),
            *_loosened_settings(tx, report, change),
            *_dropped_wishes(tx, report, change),
            *_versions(tx, report, change, package, versions),
        ]
        tried = list(pool.map(attempt, ideas))
    return sorted(_only_first_older(tried), key=_price)


def _only_first_older(tried: list[Suggestion]) -> list[Suggestion]:
    """Of the older releases the newest that works; when none does, the newest that was tried."""
    older = [entry for entry in tried if entry.strategy == "older_release"]
    best = next((entry for entry in older if entry.works), older[0] if older else None)
    return [entry for entry in tried if entry.strategy != "older_release" or entry is best]


def _price(entry: Suggestion) -> tuple[bool, bool, int, int, int]:
    core, moved = entry.core_impact, entry.difference
    return (
        not entry.works,
        entry.forced,
        len(core.changed) + len(core.removed),
        len(entry.violated),
        len(moved.changed) + len(moved.removed),
    )


def _attempt(
    context: Context, work: Path, base: State, tx: Transaction, idea: _Idea, judge: forcing.Judge
) -> Suggestion:
    bare = idea.change.declaration(base.declared, tx.txid)
    declared = locking.with_settings(bare, context.config, context.interpreter)
    held = tuple(line for line in declared.constraints if line not in idea.loosened)
    declared = msgspec.structs.replace(declared, constraints=held)
    said = Suggestion(idea.strategy, idea.title, idea.command, works=False, forced=bool(idea.change.overrides))
    if idea.change.malformed(base.declared):
        return msgspec.structs.replace(said, cost=("a line still cannot be read",))
    try:
        wishes = settling.Wishes(idea.change.upgrades, idea.change.asked_for())
        settled = settling.settle(context, work, declared, base.uv_lock, wishes)
    except locking.NoSolution as problem:
        return msgspec.structs.replace(said, cost=(_what_remains(context, work, base, idea, declared, problem),))
    before, after = (_freeze(versions) for versions in (locked_versions(base.uv_lock.decode()), settled.versions))
    difference = record.difference(before, after)
    core = record.only(context.config.policy.core_packages, difference)
    violated = tuple(judge.all_against(idea.forced, settled.uv_lock.decode())) if idea.forced else ()
    cost = (*idea.cost, *(f"goes against: {line}" for line in violated), *_moves(difference, core))
    return msgspec.structs.replace(
        said, works=True, cost=cost, violated=violated, difference=difference, core_impact=core
    )


def _what_remains(
    context: Context, work: Path, base: State, idea: _Idea, declared: Declaration, problem: locking.NoSolution
) -> str:
    """A change may have several conflicts; who solved one is told the next."""
    if not idea.change.overrides:
        return "the resolver finds no solution for this either"
    rest = explaining.explain(context, work, base, idea.change, declared, problem)
    return f"it solves this, but not: {rest.summary}; take it, then --suggest again: {idea.command}"


def _moves(difference: Difference, core: Difference) -> Iterator[str]:
    """What happens to production, what matters most first; packages that are only added cost nothing."""
    yield from (f"core package: {line}" for line in core.lines())
    moved = Difference(changed=tuple(entry for entry in difference.changed if entry not in core.changed))
    yield from (f"moves in production: {line}" for line in moved.lines())
    gone = [package.name for package in difference.removed if package not in core.removed]
    if gone:
        more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
        yield f"no longer installed: {', '.join(gone[:_NAMED])}{more}"


def _freeze(versions: dict[str, str]) -> tuple[str, ...]:
    """As `record.freeze` says it; the project itself is no package of an environment."""
    real = {name: version for name, version in versions.items() if name != PROJECT_NAME}
    return tuple(f"{name}=={version}" for name, version in sorted(real.items()))


# -- strategies ------------------------------------------------------------------------------------


def _unpinned(change: Change, packs: tuple[PackOnTrial, ...]) -> Change:
    """What `gov tx run` proposes with these packs: pins and forced versions are those of a transaction."""
    return dataclasses.replace(change, packs=packs, pins=(), overrides=())


def _updates_of_others(
    context: Context, base: State, tx: Transaction, report: ConflictReport, change: Change
) -> Iterator[_Idea]:
    """The pack on the other side may have learned to live with it meanwhile."""
    for who in dict.fromkeys(side.who for side in report.sides if not side.on_trial):
        plugin = base.registry.get(who)
        if plugin is None or who in change.ids:
            continue
        try:
            newer = planning.at_newest(context, plugin)
        except GovError as error:
            context.progress.warn(f"{who} could not be looked up: {error.message}")
            continue
        if newer.plugin.commit != plugin.commit:
            both = _unpinned(change, (*change.packs, newer))
            yield _Idea(
                "update_other",
                f"update {who} too, to its newest commit {newer.plugin.commit[:10]}",
                changes.command_of(tx, {who: ""}),
                both,
                (f"{who} changes as well; both are tried together",),
            )


def _older_releases(context: Context, tx: Transaction, report: ConflictReport, change: Change) -> Iterator[_Idea]:
    """Earlier commits of the pack at which it asked for something else."""
    on_trial = {side.who for side in report.sides if side.on_trial} | ({tx.node_id} if not report.sides else set())
    for pack in change.packs:
        if pack.id not in on_trial:
            continue
        for older, behind in _older_states(context, pack):
            packs = tuple(older if entry.id == pack.id else entry for entry in change.packs)
            named = git_history.described(context.git, _repository(context, pack), older.plugin.commit)
            yield _Idea(
                "older_release",
                f"take {pack.id} at {named}, {behind} commits earlier",
                changes.command_of(tx, {pack.id: older.plugin.commit}),
                _unpinned(change, packs),
                (f"{pack.id} is {behind} commits older",),
            )


def _repository(context: Context, pack: PackOnTrial) -> Path:
    return context.git.cache_of(recorded_source(pack.plugin.source))


def _older_states(context: Context, pack: PackOnTrial) -> Iterator[tuple[PackOnTrial, int]]:
    """(the pack at the last commit before its requirements changed, how many commits earlier), newest first."""
    files = sorted(pack.declared.files | {"requirements.txt", "pyproject.toml"})
    repository, seen = _repository(context, pack), {tuple(pack.declared.requirements)}
    found = 0
    for commit in git_history.before_changes_of(context.git, repository, pack.plugin.commit, files, 4 * MAX_OLDER):
        older = planning.at_commit(context, pack, commit)
        asked = tuple(older.declared.requirements)
        if asked not in seen and found < MAX_OLDER:
            seen.add(asked)
            found += 1
            yield older, git_history.count_between(context.git, repository, commit, pack.plugin.commit)


def _tries(
    context: Context, base: State, report: ConflictReport, change: Change, package: str
) -> list[tuple[str, Declaration | None]]:
    """(whose version of the contested package it is, what is to be locked to find it); None: production's."""
    if not package:
        return []
    free = forcing.unforced(context, base, change, package)
    tries: list[tuple[str, Declaration | None]] = [("that production has", None)]
    for side in report.sides:
        direct = requirements.package_of(side.line) == package and "@" not in side.line
        alone = _bound(free, package, side.line) if direct else forcing.without_others(free, base, change, report, side)
        tries.append((f"that {side.who} needs", alone))
    tries.append((f"that {change.label} needs alone", _only_change(free, change)))
    return [*tries, ("the newest there is", _bound(free, package, package))]


def _newest(context: Context, work: Path, base: State, package: str, declared: Declaration | None) -> str:
    """The newest version of `package` that `declared` takes; empty when there is none."""
    if declared is None:
        return locked_versions(base.uv_lock.decode()).get(package, "")
    try:
        _, lock = locking.lock(context, work, declared, base.uv_lock, (package,))
    except locking.NoSolution:
        return ""
    return locked_versions(lock.decode()).get(package, "")


def _first_named(report: ConflictReport) -> str:
    if report.rejected:
        return requirements.name_at_start(report.rejected[0].text)
    return requirements.package_of(report.sides[0].line) if report.sides else ""


def _only_change(declared: Declaration, change: Change) -> Declaration:
    groups = {pack.plugin.group: tuple(pack.declared.requirements) for pack in change.packs}
    return msgspec.structs.replace(declared, groups={**groups, locking.EXTRA_GROUP: change.dependencies})


def _bound(declared: Declaration, package: str, line: str) -> Declaration:
    """`declared` as if the package were bound by `line` and by those lines about it that `line` can live with."""
    mine = requirements.parse(line)
    spec = str(mine.specifier) if mine and requirements.package_of(line) == package else ""
    asked = [text for texts in declared.groups.values() for text in texts if requirements.package_of(text) == package]
    others = [
        found for found in map(requirements.parse, asked) if found and not _contradict(spec, str(found.specifier))
    ]
    bounds = ",".join(dict.fromkeys(part for part in (spec, *(str(found.specifier) for found in others)) if part))
    free = Resolution(f"{package}{bounds if spec else ''}", forced=True)
    return msgspec.structs.replace(declared, resolutions=(*declared.resolutions, free))


def _contradict(one: str, other: str) -> bool:
    """True when two bounds cannot both hold, as far as the versions that they name tell."""
    from packaging.specifiers import SpecifierSet

    both = SpecifierSet(f"{one},{other}" if one and other else one or other)
    named = [spec.version.removesuffix(".*") for spec in both]
    near = [version for name in named for version in (name, f"{name}.1", f"{name}.post1")]
    return bool(named) and not any(both.contains(version, prereleases=True) for version in near)


def _loosened_settings(tx: Transaction, report: ConflictReport, change: Change) -> Iterator[_Idea]:
    """The person's own bounds can go, when they are a side of it."""
    lines = frozenset(side.line for side in report.sides if side.who == explaining.SETTINGS)
    if lines:
        shown = " and ".join(f"`{line}`" for line in sorted(lines))
        yield _Idea(
            "loosen_settings",
            f"take {shown} out of [python] constraints in config.toml",
            changes.command_of(tx),
            _unpinned(change, change.packs),
            ("then run the command below",),
            loosened=lines,
        )


def _dropped_wishes(tx: Transaction, report: ConflictReport, change: Change) -> Iterator[_Idea]:
    """What the person asked for in an earlier change can go too."""
    lines = [side.line for side in report.sides if side.who == explaining.YOU and not side.on_trial]
    if lines:
        dropped = tuple(dict.fromkeys((*change.dropped, *map(requirements.package_of, lines))))
        shown = " and ".join(f"`{line}`" for line in lines)
        free = dataclasses.replace(_unpinned(change, change.packs), dropped=dropped)
        command = changes.command_of(msgspec.structs.replace(tx, dropped=dropped))
        yield _Idea("loosen_settings", f"no longer ask for {shown} yourself", command, free)


def _versions(
    tx: Transaction,
    report: ConflictReport,
    change: Change,
    package: str,
    versions: dict[str, str],
) -> Iterator[_Idea]:
    """Each version forced for all; where it stands in for a line that cannot be read a pin is enough."""
    for version, whose in versions.items():
        if not version:
            continue
        pin, shown = f"{package}=={version}", whose if whose.startswith("the ") else f"the version {whose}"
        strategy: Strategy = "keep_production" if whose == "that production has" else "newest_that_fits"
        if report.rejected:
            pinned = change.pinned((pin,), ())
            title = f"take {pin}, {shown}, in place of the line"
            yield _Idea(strategy, title, f"gov resolve {tx.txid} --pin {shlex.quote(pin)}", pinned)
            continue
        yield _Idea(
            strategy,
            f"force {pin} for all, {shown}",
            f"gov resolve {tx.txid} --override {shlex.quote(pin)} --reason {shlex.quote(report.summary)}",
            change.pinned((), (Override(pin, report.summary),)),
            forced=pin,
        )
