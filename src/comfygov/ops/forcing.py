"""Who cannot live with a version that is forced for all: what a forced version costs, told before it is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.errors import Code, GovError
from comfygov.ops import explaining, locking
from comfygov.resolve import conflict, lockfile, requirements
from comfygov.resolve.conflict import Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.model.tx import ConflictReport, ConflictSide
    from comfygov.ops.change import Change
    from comfygov.ops.context import Context
    from comfygov.ops.settling import Settled
    from comfygov.truth.snapshots import State

# Packages that production does not have at this version are asked about one by one.
_MAX_ASKED = 12


@dataclass(frozen=True)
class Judge:
    """Asks about versions of `package`. `installed` are production's packages, name -> version."""

    report: ConflictReport
    change: Change
    package: str
    resolver: explaining.Resolver
    installed: dict[str, str]
    environment: Path
    python: str

    def all_against(self, pin: str, uv_lock: str) -> Iterator[str]:
        """Who cannot live with `pin`, each once; `uv_lock` is what comes out with it forced."""
        yield from dict.fromkeys((*self._lines_against(pin), *self._packages_against(pin, uv_lock)))

    def _lines_against(self, pin: str) -> Iterator[str]:
        """Sides of the conflict that have no solution alone with the pin, and every other line about it."""
        for side in self.report.sides:
            if self._is_against(side.line, pin):
                pulled = "" if requirements.package_of(side.line) == self.package else f", which {self._needs_another}"
                yield f"{side.who}: {side.line}{pulled}"
        for line in conflict.lines_of(self.resolver.declared):
            if requirements.refuses(line.text, pin) and requirements.applies(line.text, self.python):
                yield f"{explaining.called(self.resolver.base, self.change, line.group)}: {line.text}"

    def _packages_against(self, pin: str, uv_lock: str) -> Iterator[str]:
        """Packages of a lock that say of themselves that they need another version, but for those of sides that
        go against it already."""
        told = {requirements.package_of(side.line) for side in self.report.sides if self._is_against(side.line, pin)}
        locked = lockfile.read(uv_lock).depends
        others = [(name, version) for name, version, needed in locked if self.package in needed and name not in told]
        asked = [f"{name}=={version}" for name, version in others if self.installed.get(name) != version][:_MAX_ASKED]
        against = self._those_against(asked, pin)
        for name, version in others:
            known = self.installed.get(name) == version
            if self._refused_by_installed(name, pin) if known else f"{name}=={version}" in against:
                yield f"{name} {version}, which {self._needs_another}"

    @property
    def _needs_another(self) -> str:
        return f"needs another {self.package}"

    def _is_against(self, line: str, pin: str) -> bool:
        """A line about the package itself tells without the resolver."""
        found = requirements.parse(line)
        if found and not found.url and not found.extras and requirements.package_of(line) == self.package:
            return requirements.refuses(line, pin) and requirements.applies(line, self.python)
        return self._exclude_each_other([line], pin)

    def _those_against(self, lines: Sequence[str], pin: str) -> list[str]:
        """Those of `lines` that exclude the pin. Mostly none does, which one question tells."""
        if not lines or not self._exclude_each_other(lines, pin):
            return []
        return [line for line in lines if len(lines) == 1 or self._exclude_each_other([line], pin)]

    def _exclude_each_other(self, lines: Sequence[str], pin: str) -> bool:
        try:
            return bool(self.resolver.refusal([*(Line("side", line) for line in lines), Line("pin", pin)]))
        except (GovError, explaining.TooManyCallsError):
            return False  # not known to go against it

    def _refused_by_installed(self, name: str, pin: str) -> bool:
        lines = record.requires(self.environment, name)
        return any(requirements.refuses(line, pin) and requirements.applies(line, self.python) for line in lines)


def refuse_in_vain(change: Change, settled: Settled) -> None:
    """A forced version of a package that nothing needs would be recorded and do nothing."""
    for entry in change.overrides:
        name = requirements.package_of(entry.requirement)
        if name not in settled.versions and name not in settled.declared.exclude:
            message = f"nothing here needs {name}, so forcing {entry.requirement} would do nothing"
            hint = f"leave it out (--unpin {name} if it was given before), or --pin {entry.requirement} to install it"
            raise GovError(Code.USAGE, message, hint)


def judge(context: Context, work: Path, base: State, change: Change, report: ConflictReport, package: str) -> Judge:
    """`work` is for the resolver's questions."""
    return Judge(
        report,
        change,
        package,
        explaining.Resolver(context, work, unforced(context, base, change, package), base),
        lockfile.read(base.uv_lock.decode()).versions,
        context.generations.path(base.generation),
        context.interpreter.version,
    )


def unforced(context: Context, base: State, change: Change, package: str) -> Declaration:
    """What production would be declared to be, but for pins and forced versions of the package."""
    declared = locking.with_settings(change.declaration(base.declared, ""), context.config, context.interpreter)
    others = tuple(e for e in declared.resolutions if requirements.package_of(e.requirement) != package)
    return msgspec.structs.replace(declared, resolutions=others)


def without_others(
    declared: Declaration, base: State, change: Change, report: ConflictReport, side: ConflictSide
) -> Declaration:
    """`declared` without the lines of the other sides: what that side can have shows then."""
    gone = {(other.who, other.line) for other in report.sides if other is not side}

    def kept(group: str, lines: tuple[str, ...]) -> tuple[str, ...]:
        who = explaining.called(base, change, group)
        return tuple(line for line in lines if (who, line) not in gone)

    return msgspec.structs.replace(
        declared,
        groups={group: kept(group, lines) for group, lines in declared.groups.items()},
        constraints=kept(conflict.CONSTRAINTS, declared.constraints),
        resolutions=tuple(e for e in declared.resolutions if (explaining.PINNED, e.requirement) not in gone),
    )
