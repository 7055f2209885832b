"""Run-time installs of a trial: answered from outside of the box, with production's versions held, and made part of
what the transaction declares."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs.locked import chosen_extras
from comfygov.errors import GovError
from comfygov.model.tx import InstallRequest
from comfygov.ops import boxing, settling
from comfygov.ports import fs
from comfygov.resolve import requirements
from comfygov.resolve.torch_family import locked_versions
from comfygov.trial import denying

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.ops.change import Change
    from comfygov.ops.context import Context
    from comfygov.ports.desk import Answer, Event

_MAX_REQUESTS = 200
_SHOWN = 300


@dataclass
class Absorber:
    """Answers the installs of one boot. `proposed` is what is declared so far, `uv_lock` its lock, `freeze` what the
    environment of the trial has; `extra` is an environment beside it, which its Python looks into first."""

    context: Context
    work: Path
    change: Change
    proposed: Declaration
    uv_lock: bytes
    freeze: tuple[str, ...]
    extra: Path
    absorbed: dict[str, list[str]] = field(default_factory=dict)
    requests: list[InstallRequest] = field(default_factory=list)
    _refused: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)

    def prepare(self) -> Path:
        """Make the empty environment for what will be absorbed; returns its folder of packages."""
        fs.remove_tree(self.extra)
        self.extra.parent.mkdir(parents=True, exist_ok=True)
        self.context.uv.make_venv(self.extra, self.context.interpreter.path)
        return self.extra / "lib" / f"python{self.context.interpreter.minor}" / "site-packages"

    def answer(self, event: Event) -> Answer:
        """What the installer inside is to say and to end with; called from threads of the desk, one at a time."""
        if len(self.requests) >= _MAX_REQUESTS:
            return {"exit": 1, "answer": "refused", "said": "comfygov: too many installs"}
        request = _read(event)
        key = (request.pack, request.requirements)
        try:
            answer, reason = ("refused", self._refused[key]) if key in self._refused else self._judge(request)
        except GovError as error:
            answer, reason = "refused", error.message
        if answer == "refused":
            self._refused[key] = reason  # who asks a hundred times is not resolved a hundred times
        self.requests.append(msgspec.structs.replace(request, answer=answer, reason=reason))
        return {"exit": int(answer == "refused"), "answer": answer, "said": f"comfygov: {reason}"}

    def _judge(self, request: InstallRequest) -> tuple[str, str]:
        if request.form == "ensurepip":
            return "satisfied", "pip is there: comfygov answers for it"
        if request.command not in ("install", "add") or not request.requirements:
            return "refused", f"`{request.form} {request.command}` is not taken: a governed environment only grows"
        read = requirements.read_requirements_text("\n".join(request.requirements), "requirements.txt")
        for line in (*read.rejected, *read.malformed):
            return "refused", f"{line.text[:_SHOWN]}: {line.reason}"
        for text in read.requirements:
            if (parsed := requirements.parse(text)) is not None and parsed.url:
                # It would be fetched from outside of the box, past its network and with the person's own keys.
                return "refused", f"{text}: an address is taken from requirements.txt, not while a pack runs"
        if requirements.satisfied(read.requirements, self.freeze):
            return "satisfied", f"requirement already satisfied: {', '.join(read.requirements)}"
        pack = next((pack for pack in self.change.packs if pack.id == request.pack), None)
        if pack is None:
            who = f"{request.pack} is not on trial" if request.pack else "it cannot be told which pack asks"
            way = f" (to try it: gov tx run {request.pack})" if request.pack else ""
            return "refused", f"{who}: {', '.join(read.requirements)} is not installed{way}"
        return self._absorb(pack.plugin.group, request.pack, read.requirements)

    def _absorb(self, group: str, pack: str, lines: list[str]) -> tuple[str, str]:
        declared = _with_lines(self.proposed, group, lines)
        settled = settling.settle(self.context, self.work, declared, self.uv_lock, settling.Wishes())
        before, after = locked_versions(self.uv_lock.decode()), settled.versions
        moved = [
            f"{name} {before[name]} -> {after[name]}"
            for name in before
            if after.get(name, before[name]) != before[name]
        ]
        if moved:
            ask = f"gov tx run {pack} " + " ".join(f"--dep '{line}'" for line in lines)
            return "refused", f"{', '.join(lines)} would move {', '.join(moved[:5])}: {ask} tries that"
        python, extras = self.context.interpreter.path, chosen_extras(settled.pyproject)
        new = {name: version for name, version in after.items() if name not in before}
        for reason in denying.packages(new, frozenset(new), self.context.config.policy.deny):
            return "refused", f"on the deny list: {reason}"
        shared = boxing.box(self.context).protects_environment
        self.context.uv.sync_group(self.work, self.extra, python, group, sorted(before), extras, shared=shared)
        self.proposed, self.uv_lock = declared, settled.uv_lock
        self.absorbed.setdefault(pack, []).extend(lines)
        added = [f"{name}=={version}" for name, version in new.items()]
        self.freeze = tuple(sorted((*self.freeze, *added)))
        return "absorbed", f"installed {', '.join(added) or ', '.join(lines)}, as part of what {pack} declares"


def _with_lines(declared: Declaration, group: str, lines: list[str]) -> Declaration:
    known = declared.groups.get(group, ())
    groups = {**declared.groups, group: tuple(dict.fromkeys((*known, *lines)))}
    return msgspec.structs.replace(declared, groups=groups)


def _read(event: Event) -> InstallRequest:
    """The request as its process told it, of bounded length."""
    return InstallRequest(
        pack=event.pack,
        form=event.form[:_SHOWN],
        command=event.command[:_SHOWN],
        requirements=tuple(line[:_SHOWN] for line in event.requirements[:_MAX_REQUESTS]),
        argv=event.what[:_SHOWN],
        target=event.target[:_SHOWN],
    )


def all_requests(earlier: list[InstallRequest], last: Absorber) -> tuple[InstallRequest, ...]:
    """Each request once, with what became of it: one that was absorbed is satisfied when it comes again. What the
    last round absorbed is in no plan."""
    found: dict[tuple[str, tuple[str, ...]], InstallRequest] = {}
    for request in last.requests:
        if request.answer == "absorbed":
            why = "it asks for something new at every start"
            request = msgspec.structs.replace(request, answer="refused", reason=why)  # noqa: PLW2901
        found[request.pack, request.requirements] = request
    for request in earlier:
        if request.answer == "absorbed" or (request.pack, request.requirements) not in found:
            found[request.pack, request.requirements] = request
    return tuple(found.values())


def extended(change: Change, absorbed: dict[str, list[str]]) -> Change:
    """The change with what its packs installed by themselves among what they declare."""
    packs = []
    for pack in change.packs:
        more = [line for line in absorbed.get(pack.id, ()) if line not in pack.declared.requirements]
        places = {**pack.declared.places, **dict.fromkeys(more, "installed while it started")}
        lines = [*pack.declared.requirements, *more]
        declared = dataclasses.replace(pack.declared, requirements=lines, places=places)
        packs.append(dataclasses.replace(pack, declared=declared))
    return dataclasses.replace(change, packs=tuple(packs))
