"""Stands in for installers inside a governed ComfyUI: says what is wanted, and lets comfygov outside answer.

`python comfygov_installs.py FORM ARG...` is what the programs pip, uv, conda, … on PATH run; FORM is their name.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import comfygov_inside  # type: ignore[import-not-found]

_INSTALLERS = frozenset({"pip", "pip3", "uv", "uvx", "easy_install", "conda", "mamba", "micromamba", "poetry", "pipx"})
_WITH_VALUE = frozenset(
    {
        *("-r", "--requirement", "--requirements", "-c", "--constraint", "--constraints", "-t", "--target", "-i"),
        *("--index-url", "--extra-index-url", "--index", "--default-index", "-f", "--find-links", "--platform"),
        *("--python-version", "--prefix", "--root", "--src", "--proxy", "--timeout", "--retries", "--trusted-host"),
        *("--progress-bar", "--upgrade-strategy", "--no-binary", "--only-binary", "--python", "-p", "--cache-dir"),
        *("-n", "--name", "--channel", "--log", "--report", "--config-settings", "--torch-backend", "-e", "--editable"),
    }
)
_CHANGING = frozenset({"install", "uninstall", "add", "remove", "sync", "download", "wheel", "run", "create", "update"})


class Wish(dict[str, Any]):
    """A structured request: form, command, requirements, argv, target, pack."""


def understand(form: str, argv: list[str]) -> Wish:
    """What an installer called `form` was asked to do."""
    words = list(argv)
    if form == "uv" and words[:1] == ["pip"]:
        words = words[1:]
    command = "install" if form == "easy_install" else ""
    while words and not command:
        word = words.pop(0)
        if word in _WITH_VALUE:
            words[:1] = []
        elif not word.startswith("-"):
            command = word
    found = Wish(form=form, command=command, argv=[form, *argv], requirements=[], target="", pack="")
    while words:
        _take(found, words)
    return found


def _take(found: Wish, words: list[str]) -> None:
    word = words.pop(0)
    name, joined, value = word.partition("=") if word.startswith("--") else (word, "", "")
    if name in _WITH_VALUE or (name == "-c" and found["form"] in ("conda", "mamba")):
        value = value if joined else (words.pop(0) if words else "")
    elif word.startswith("-r") and len(word) > 2:
        name, value = "-r", word[2:]
    if name in ("-r", "--requirement", "--requirements"):
        found["requirements"] += _lines_of(value)
    elif name in ("-t", "--target", "--prefix", "--root"):
        found["target"] = value
    elif name in ("-e", "--editable"):
        found["requirements"].append(f"-e {value}")
    elif not word.startswith("-"):
        found["requirements"].append(word)


def _lines_of(path: str, depth: int = 0) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            lines = [line.split(" #")[0].strip() for line in file]
    except OSError:
        return [f"-r {path}"]
    found: list[str] = []
    for line in lines:
        nested = re.match(r"(?:-r|--requirement)[ =]?\s*(\S+)", line)
        if nested and depth < 5:
            found += _lines_of(os.path.join(os.path.dirname(path), nested[1]), depth + 1)  # noqa: PTH118, PTH120
        elif line and not line.startswith("#"):
            found.append(line)
    return found


def ask(form: str, argv: list[str]) -> int:
    """Have comfygov answer an installer's command line; the exit code that the installer would have had."""
    wish = understand(form, argv)
    if wish["command"] not in _CHANGING and form != "ensurepip":
        return _show(wish)
    wish["pack"] = comfygov_inside.pack_of_stack()
    answer = _from_desk(wish) if os.environ.get("COMFYGOV_DESK") else _alone(wish)
    if answer["said"]:
        (sys.stdout if answer["exit"] == 0 else sys.stderr).write(answer["said"] + "\n")
    import importlib

    importlib.invalidate_caches()
    return int(answer["exit"])


def _from_desk(wish: Wish) -> dict[str, Any]:
    line = {"kind": "install", "what": comfygov_inside.hidden(" ".join(wish["argv"])), "pid": os.getpid(), **wish}
    comfygov_inside._busy.now = True  # noqa: SLF001 (our own question is nothing that the pack did)
    try:
        connection = comfygov_inside.connect()
        if connection is None:
            return {"exit": 1, "said": "comfygov: nobody answers installs any more"}
        line["through"] = sorted(comfygov_inside.packs_on_stack() - {line["pack"]})
        with connection, connection.makefile("r", encoding="utf-8") as reader:
            connection.sendall(json.dumps(line).encode() + b"\n")
            said = reader.readline()
        found: dict[str, Any] = json.loads(said) if said else {"exit": 1, "said": "comfygov did not answer"}
    finally:
        comfygov_inside._busy.now = False  # noqa: SLF001
    return found


def _alone(wish: Wish) -> dict[str, Any]:
    """In production nobody listens: what is there already is fine, the rest goes through a trial."""
    missing = [line for line in wish["requirements"] if not is_satisfied(line)]
    if wish["form"] == "ensurepip" or (not missing and wish["command"] == "install" and wish["requirements"]):
        return {"exit": 0, "said": "\n".join(f"Requirement already satisfied: {line}" for line in wish["requirements"])}
    _note(wish)
    if os.environ.get("COMFYGOV_INSTALLS") == "record":
        _let_through(wish)
    who = f"pack {wish['pack']}" if wish["pack"] else "a program"
    dependencies = " ".join(f"--dep '{line}'" for line in missing)
    way = f"gov tx run {wish['pack']} {dependencies}".replace("  ", " ").strip()
    said = f"comfygov: {who} asked {wish['form']} to {wish['command']} {', '.join(missing) or 'packages'}; "
    return {"exit": 1, "said": f"{said}this environment is governed and stays as it is. To try it: {way}"}


def _note(wish: Wish) -> None:
    path = os.environ.get("COMFYGOV_INSTALL_LOG", "")
    if path:
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps({**wish, "argv": comfygov_inside.hidden(" ".join(wish["argv"])).split()}) + "\n")


def _let_through(wish: Wish) -> None:
    """The real installer, if there is one, with our own folders off its paths."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    programs = os.environ.get("COMFYGOV_PROGRAMS", "")
    environment = dict(os.environ)
    for name, ours in (("PYTHONPATH", here), ("PATH", programs)):
        kept = [part for part in environment.get(name, "").split(os.pathsep) if part and part != ours]
        environment[name] = os.pathsep.join(kept)
    os.execvpe(wish["form"], wish["argv"], environment)  # noqa: S606 (an argument list)


def is_satisfied(line: str) -> bool:
    """True when a requirement line is met by what is installed; without `packaging` only plain pins are compared."""
    from importlib import metadata

    match = re.match(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*([^;@]*)", line)
    if not match or "@" in line or line.startswith("-"):
        return False
    try:
        version = metadata.version(match[1])
    except metadata.PackageNotFoundError:
        return False
    wanted = match[2].strip()
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return not wanted or wanted.replace(" ", "") == f"=={version}"
    return SpecifierSet(wanted).contains(version, prereleases=True)


def _show(wish: Wish) -> int:
    """`pip list`, `freeze`, `show` and the like change nothing."""
    from importlib import metadata

    if "--version" in wish["argv"] or "-V" in wish["argv"]:
        sys.stdout.write(f"{wish['form']} 25.0 (comfygov answers for it)\n")
        return 0
    if wish["command"] in ("list", "freeze"):
        rows = sorted({(str(found.metadata["Name"]), found.version) for found in metadata.distributions()})
        sys.stdout.write("".join(f"{name}=={version}\n" for name, version in rows))
        return 0
    if wish["command"] == "show" and wish["requirements"]:
        try:
            found = metadata.distribution(wish["requirements"][0])
        except metadata.PackageNotFoundError:
            return 1
        sys.stdout.write(f"Name: {found.metadata['Name']}\nVersion: {found.version}\n")
        return 0
    return 0 if not wish["command"] or wish["command"] in ("check", "help", "config", "cache", "debug") else 1


def redirected(args: Any, *, shell: bool) -> Any:
    """The arguments of a child; where they start an installer past our stand-ins, those instead."""
    if shell or isinstance(args, (str, bytes)) or not args:
        return args
    words = [comfygov_inside._text(os.fspath(word)) for word in args]  # noqa: SLF001
    name = os.path.basename(words[0])  # noqa: PTH119
    ours = [sys.executable, os.path.abspath(__file__)]  # noqa: PTH100
    if name in _INSTALLERS and "/" in words[0]:
        return [*ours, name, *words[1:]]
    if re.fullmatch(r"python[\d.]*", name) and "-m" in words:
        at = words.index("-m")
        module = words[at + 1] if at + 1 < len(words) else ""
        isolated = any(re.fullmatch(r"-[A-Za-z]*[IES][A-Za-z]*", word) for word in words[1:at])
        if isolated and module in ("pip", "uv", "ensurepip", "easy_install"):
            return [*ours, module, *words[at + 2 :]]
    return args


if __name__ == "__main__":
    raise SystemExit(ask(sys.argv[1], sys.argv[2:]))
