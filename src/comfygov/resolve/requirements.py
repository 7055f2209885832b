"""A pack's declared requirements: requirements.txt with its includes, else pyproject dependencies.

Lines become entries of a dependency group as the author wrote them. What cannot be taken is kept with
a reason; what cannot be parsed is an error that names file and line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from comfygov.model.names import canonical
from comfygov.model.tx import Rejected
from comfygov.ports import toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.requirements import Requirement

_COMMENT = re.compile(r"(^|\s)#.*$")
_INCLUDE = re.compile(r"(?:-r|--requirement)[=\s]*(?P<file>.+)")
_HASH_OPTION = re.compile(r"\s--hash[=\s]\S+")
# Parts of ComfyUI that a pack must not move; the frontend entry is a range that the registry reads.
_NOT_A_DEPENDENCY = frozenset({"comfyui-frontend-package", "comfyui"})


class ReadFile(Protocol):
    """Gives the text of a file of the pack, by its path inside the pack; None when it is not there."""

    def __call__(self, path: str) -> str | None: ...


@dataclass
class Declared:
    """What a pack asks for. `malformed` are lines that no resolver can read; `places` says of each requirement
    where it is written."""

    requirements: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    malformed: list[Rejected] = field(default_factory=list)
    requires_python: str = ""
    requires_comfyui: str = ""
    classifiers: tuple[str, ...] = ()
    has_install_script: bool = False
    of_comfyui: bool = False
    files: set[str] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)


def read_declared(read_file: ReadFile) -> Declared:
    """Read what the pack behind `read_file` declares."""
    declared = Declared(has_install_script=read_file("install.py") is not None)
    project = _read_pyproject(read_file, declared)
    if read_file("requirements.txt") is not None:
        _read_requirements_file(read_file, "requirements.txt", declared)
    else:
        dependencies = project.get("dependencies")
        for number, text in enumerate(dependencies if isinstance(dependencies, list) else (), start=1):
            _take(declared, "pyproject.toml", number, str(text))
    return declared


def _read_pyproject(read_file: ReadFile, declared: Declared) -> dict[str, object]:
    text = read_file("pyproject.toml")
    if text is None:
        return {}
    try:
        document = toml.loads(text)
    except toml.TOMLDecodeError as error:
        declared.rejected.append(Rejected("pyproject.toml", 0, "", f"not valid TOML: {error}"))
        return {}
    project = _table(document, "project")
    declared.requires_python = str(project.get("requires-python") or "")
    declared.requires_comfyui = str(_table(_table(document, "tool"), "comfy").get("requires-comfyui") or "")
    classifiers = project.get("classifiers")
    declared.classifiers = tuple(map(str, classifiers)) if isinstance(classifiers, list) else ()
    return project


def _table(document: dict[str, object], name: str) -> dict[str, object]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def read_requirements_text(text: str, name: str) -> Declared:
    """The same for one text on its own (ComfyUI's requirements.txt)."""
    declared = Declared(of_comfyui=True)
    _read_requirements_file(lambda path: text if path == name else None, name, declared)
    return declared


def read_file(read: ReadFile, name: str) -> Declared:
    """The same for a file of a person's, with what it includes."""
    declared = Declared(of_comfyui=True)
    _read_requirements_file(read, name, declared)
    return declared


def _read_requirements_file(read_file: ReadFile, name: str, declared: Declared) -> None:
    """Take the lines of the file `name` and of what it includes; each file is read once."""
    declared.files.add(name)
    for number, line in _logical_lines(read_file(name) or ""):
        include = _INCLUDE.fullmatch(line)
        if not include:
            _take(declared, name, number, line)
            continue
        included = _inside(name, include["file"].strip())
        if included is None:
            declared.rejected.append(Rejected(name, number, line, "it includes a file outside of the pack"))
        elif included in declared.files:
            continue
        elif read_file(included) is None:
            declared.malformed.append(Rejected(name, number, line, f"including `{included}`, which is not there"))
        else:
            _read_requirements_file(read_file, included, declared)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first physical line, content) without comments, with continuations joined."""
    joined, start = "", 0
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        start = start or number
        line = _COMMENT.sub("", raw).strip()
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        whole = (joined + line).strip()
        if whole:
            yield start, whole
        joined, start = "", 0
    if joined.strip():
        yield start, joined.strip()


def _inside(including: str, file: str) -> str | None:
    if "://" in file:
        return None
    parts: list[str] = []
    for part in (PurePosixPath(including).parent / file.replace("\\", "/")).parts:
        if part == ".." and not parts:
            return None
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return None if parts[:1] == ["/"] else "/".join(parts)


def _take(declared: Declared, file: str, number: int, line: str) -> None:
    """Put one line where it belongs."""
    if line.startswith("-"):
        declared.rejected.append(Rejected(file, number, line, _option_reason(line)))
        return
    text = _HASH_OPTION.sub("", line)
    text, option, rest = text.partition(" --")
    if option and rest.strip():
        declared.rejected.append(
            Rejected(file, number, line, f"the option --{rest.split()[0]} is not taken, the requirement is")
        )
    requirement = readable(text.strip())
    if requirement is None:
        bare = _is_bare_url(text.partition("@")[2] or text)
        reason = "a path, or a URL without a name, is not taken" if bare else "not a requirement"
        where = declared.rejected if bare else declared.malformed
        where.append(Rejected(file, number, line, reason))
    elif canonical(requirement.name) in _NOT_A_DEPENDENCY and not declared.of_comfyui:
        declared.rejected.append(Rejected(file, number, line, "ComfyUI itself decides this package"))
    elif text.strip() not in declared.requirements:
        declared.requirements.append(text.strip())
        declared.places[text.strip()] = f"{file} line {number}"


def _is_bare_url(text: str) -> bool:
    return bool(re.match(r"(git\+|https?://|file:|\./|\.\./|/|[\w./-]+\.(whl|tar\.gz|zip)\b)", text.strip()))


def _option_reason(line: str) -> str:
    option = re.split(r"[=\s]", line)[0]
    if option in ("-e", "--editable"):
        return "an editable install is not reproducible"
    if option in ("-c", "--constraint"):
        return "constraints of one pack would bind all; put them into [python] constraints"
    if option in ("--extra-index-url", "--index-url", "-i", "-f", "--find-links"):
        return "a pack does not choose package indexes for all; see [python] index_url and find_links"
    return "options are not taken"


def parse(text: str) -> Requirement | None:
    """The requirement, or None when the text is none."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def package_of(text: str) -> str:
    """The canonical name of what a requirement, or a bare name, is about."""
    found = parse(text)
    return canonical(found.name if found else text)


def refuses(line: str, pin: str) -> bool:
    """True when `line` is about the package of `pin` (`name==version`) and does not take that version."""
    wanted, pinned = parse(line), parse(pin)
    if wanted is None or pinned is None or canonical(wanted.name) != canonical(pinned.name):
        return False
    version = next(iter(pinned.specifier)).version
    return not wanted.specifier.contains(version, prereleases=True)


def applies(line: str, python: str) -> bool:
    """True when the marker of `line` holds on a Python of this version, without any extra."""
    wanted = parse(line)
    if wanted is None or wanted.marker is None:
        return wanted is not None
    minor = ".".join(python.split(".")[:2])
    return wanted.marker.evaluate({"extra": "", "python_version": minor, "python_full_version": python})


def locked_names(uv_lock: str) -> frozenset[str]:
    """The packages of a uv.lock."""
    return frozenset(re.findall(r'^\[\[package\]\]\nname = "([^"]+)"', uv_lock, re.MULTILINE))


def name_at_start(text: str) -> str:
    """The package that a line which cannot be read seems to be about; empty when it begins with no name."""
    found = re.match(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", suggestion(text) or text)
    return canonical(found[0]) if found else ""


# What people write for something else, in the order in which it is put right.
_SLIPS = (
    (r"^!?\s*(python[\d.]* -m )?pip[\d.]* install (-U |--upgrade )?", ""),
    (r"\s+-{1,2}[A-Za-z].*$", ""),
    (r"^[\"'\u2018\u2019\u201c\u201d](.*)[\"'\u2018\u2019\u201c\u201d]$", r"\1"),
    (r"\u2265", ">="),
    (r"\u2264", "<="),
    (r"([<>=!~])\s+=", r"\1="),
    (r"=>", ">="),
    (r"=<", "<="),
    (r"(?<![=<>!~])=(?!=)", "=="),
    (r"~(?!=)", "~="),
    (r"\.[xX]\b", ".*"),
    (r"(\.\*){2,}", ".*"),
    (r"([<>]=?|~=)(\s*[\w.]+?)\.\*", r"\1\2"),
    (r"([\w*])\s+(?=[<>=!~]=?\s*\d[^;]*$)", r"\1,"),
    (r"^([\w.-]+),", r"\1"),
    (r"^([\w.-]+)\s*[@\s]\s*v?(\d[\w.]*)$", r"\1==\2"),
    (r"\s*@\s*latest$", ""),
    (r"[\s.;,=<>!~+]+$", ""),
)


def suggestion(text: str) -> str:
    """The likely intended form of a malformed requirement, or an empty string."""
    fixed = text.strip()
    for slip, meant in _SLIPS:
        fixed = re.sub(slip, meant, fixed)
        if fixed != text and readable(fixed):
            return fixed
    return ""


def readable(text: str) -> Requirement | None:
    """The requirement, when it is one that a resolver can read: `numpy@1.2` names an address that is none."""
    found = parse(text)
    return None if found and found.url and not re.match(r"(git\+)?[a-z]+:", found.url) else found


def satisfied(lines: Iterable[str], freeze: tuple[str, ...]) -> bool:
    """True when the packages of `freeze` meet every requirement in `lines`, as far as one can tell without
    resolving: a line with a URL or extras counts as not met."""
    installed = {line.split("==")[0]: line.split("==")[1].split(" ")[0] for line in freeze}
    for line in lines:
        wanted = parse(line)
        if wanted is None or wanted.url or wanted.extras:
            return False
        if wanted.marker and not wanted.marker.evaluate():
            continue
        version = installed.get(canonical(wanted.name))
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            return False
    return True
