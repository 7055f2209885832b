"""Reading a model spec (YAML or JSON) and the `models` of a lock, and judging every word of them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.models import ModelEntry
from comfygov.models import sources
from comfygov.ports.source import without_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SPEC_BYTES = 64_000_000
_MAX_NAME_BYTES = 255
"""What ext4, APFS, NTFS and XFS take for one name."""
_CHECKSUM = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class RawEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry as it stands in a spec. Other keys are left alone: lists of other tools have more."""

    name: str = ""
    source: str | None = None
    sources: tuple[str, ...] = ()
    target_path: str | None = None
    target_subdir: str | None = None
    checksum: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Document(msgspec.Struct, frozen=True):
    models: tuple[RawEntry, ...]


def read(path: Path, models_dir: Path, home: Path | None) -> tuple[ModelEntry, ...]:
    """The entries of the spec or lock in `path`. Raises `not_found` or `bad_config`, naming entry and key."""
    return entries(path, raw_entries(path, read_text(path)), models_dir, home)


def read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise GovError(Code.BAD_CONFIG, f"{path} is larger than {MAX_SPEC_BYTES} bytes", "is it a model spec?")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        hint = "check the path; `gov models scan` makes a spec of the files that are there"
        raise GovError(Code.NOT_FOUND, f"there is no model spec {path}", hint) from error
    except OSError as error:
        raise GovError(Code.BAD_CONFIG, f"{path} cannot be read: {error.strerror}", "name a file") from error
    except UnicodeDecodeError as error:
        raise GovError(Code.BAD_CONFIG, f"{path} is not UTF-8: {error.reason}", "save it as UTF-8") from error


def raw_entries(path: Path, text: str) -> tuple[RawEntry, ...]:
    document = parse_document(path, text)
    if document is None or (isinstance(document, dict) and document.get("models", ()) is None):
        return ()
    try:
        return msgspec.convert(document, _Document).models
    except msgspec.ValidationError as error:
        where = str(error).replace(" - at `$.", ": `")
        raise GovError(Code.BAD_CONFIG, f"{path}: {where}", "docs/models.md shows a spec") from error


def parse_document(path: Path, text: str) -> Any:  # noqa: ANN401 (whatever the file holds)
    if text.lstrip().startswith("{"):
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            if path.suffix == ".json":
                raise GovError(Code.BAD_CONFIG, f"{path} is not valid JSON: {error}", "correct that place") from error
    import yaml

    try:
        return yaml.load(text, _loader())  # noqa: S506 (it is a safe one)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise GovError(Code.BAD_CONFIG, f"{path} is not valid YAML: {words}", "correct that line") from error


def _loader() -> Any:  # noqa: ANN401 (PyYAML, which not every command needs)
    """A safe loader that refuses two values for one key: it would forget the first, and so would what we write."""
    import yaml

    safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(safe):  # type: ignore[misc] # (of two classes that do the same)
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 (as there)
            names: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in names:
                    raise yaml.MarkedYAMLError(problem=f"`{key.value}` is there twice", problem_mark=key.start_mark)
                names.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def entries(path: Path, raw: Sequence[RawEntry], models_dir: Path, home: Path | None) -> tuple[ModelEntry, ...]:
    """Judged entries; no two may mean one file, also where the file system ignores case."""
    found: dict[str, ModelEntry] = {}
    for number, one in enumerate(raw):
        judged = entry(f"{path}: models[{number}]", one, path.parent, models_dir, home)
        if models_dir / judged.target_path == path:
            raise GovError(
                Code.BAD_CONFIG, f"{path}: models[{number}] is the spec itself", "give it another target_path"
            )
        key = folded(judged.target_path)
        if key in found:
            other = found[key]
            raise GovError(
                Code.BAD_CONFIG,
                f"{path}: models[{number}] `{judged.target_path}` and `{other.target_path}` are one file "
                "(where names differ in case only, on some systems)",
                "remove one, or give it another target_path",
            )
        found[key] = judged
    for key, judged in found.items():
        above = next((found[str(one)] for one in PurePosixPath(key).parents if str(one) in found), None)
        if above is not None:
            message = f"{path}: `{judged.target_path}` is inside of `{above.target_path}`, which is a file"
            raise GovError(Code.BAD_CONFIG, message, "give one of them another target_path")
    return tuple(found.values())


def folded(target: str) -> str:
    """Equal for names that some file system holds for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", target).casefold())


def entry(where: str, raw: RawEntry, base: Path, models_dir: Path, home: Path | None) -> ModelEntry:
    """One judged entry; `where` begins what is said of it, relative sources start at `base`."""
    texts = (*((raw.source,) if raw.source else ()), *raw.sources)
    parsed = [sources.parse(_expand_source(text, models_dir, home), base) for text in texts]
    target = _target(where, raw, parsed, models_dir, home)
    name = raw.name or PurePosixPath(target).name
    return ModelEntry(name, target, tuple(dict.fromkeys(one.text for one in parsed)), _checksum(where, raw), raw.size)


def _expand_source(text: str, models_dir: Path, home: Path | None) -> str:
    return _expand(text, models_dir, home) if text.startswith(("$", "file://$")) else text


def _checksum(where: str, raw: RawEntry) -> str | None:
    if raw.checksum is None or not raw.checksum.strip():
        return None
    match = _CHECKSUM.fullmatch(raw.checksum.strip())
    if match is None:
        raise GovError(
            Code.BAD_CONFIG,
            f"{where}: `{raw.checksum[:80]}` is no sha256 checksum",
            "write sha256: and 64 hexadecimal digits, or leave it out and run `gov models verify --record`",
        )
    return match[1].lower()


def _target(where: str, raw: RawEntry, parsed: Sequence[sources.Source], models_dir: Path, home: Path | None) -> str:
    if raw.target_path and raw.target_subdir is not None:
        raise GovError(Code.BAD_CONFIG, f"{where} has target_path and target_subdir", "keep one of them")
    if raw.target_path:
        return judged_target(where, raw.target_path, models_dir, home)
    if raw.target_subdir is None:
        raise GovError(Code.BAD_CONFIG, f"{where} says nowhere where it goes", "add target_path or target_subdir")
    names = [one.file_name for one in parsed if one.file_name]
    name = raw.name if PurePosixPath(raw.name).suffix or not names else names[0]
    if not name or "/" in name:
        raise GovError(Code.BAD_CONFIG, f"{where}: no file name follows from it", "add target_path")
    return judged_target(where, f"{raw.target_subdir.rstrip('/')}/{name}", models_dir, home)


def judged_target(where: str, text: str, models_dir: Path, home: Path | None) -> str:
    """`text` relative to the models folder, with `/`. Raises `bad_config` for what leaves the folder."""
    root = os.path.normpath(models_dir.absolute())
    expanded = _expand(text, models_dir, home)
    if expanded.startswith("/"):
        if not os.path.normpath(expanded).startswith(f"{root}/"):
            raise _leaves(where, text, root)
        if ".." in expanded.split("/"):
            raise _leaves(where, text, root)
        expanded = os.path.normpath(expanded)[len(root) + 1 :]
    parts = [part for part in expanded.split("/") if part not in ("", ".")]
    if len(parts) > 1 and parts[0] == "models":
        parts = parts[1:]  # no kind of model is called `models`: it is the folder itself
    if not parts or ".." in parts or parts[0].startswith("~") or re.match(r"[A-Za-z]:", parts[0]):
        raise _leaves(where, text, root)
    if any(_is_odd(part) for part in parts):
        problem = f"{where}: `{text[:200]}` has a name that no model can have: too long, odd characters, or git's own"
        raise GovError(Code.BAD_CONFIG, problem, "give it another target_path")
    return "/".join(parts)


def _is_odd(part: str) -> bool:
    try:
        too_long = len(part.encode()) > _MAX_NAME_BYTES
    except UnicodeEncodeError:
        return True
    return too_long or "\\" in part or part.lower() == ".git" or any(ord(c) < 32 or ord(c) == 127 for c in part)


def _leaves(where: str, text: str, root: str) -> GovError:
    shown = without_credentials(text[:200])
    return GovError(Code.BAD_CONFIG, f"{where}: `{shown}` is not inside {root}", "a target stays in the models folder")


def _expand(text: str, models_dir: Path, home: Path | None) -> str:
    """$COMFY_HOME and $MODELS_DIR, and nothing else: an environment variable may be a secret."""
    root = str(home) if home else os.environ.get("COMFY_HOME", "")
    values = {"COMFY_HOME": root, "MODELS_DIR": str(models_dir.absolute())}

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if values.get(name):
            return values[name]
        if name not in values and match.start() > 0:
            return match[0]  # part of a name
        known = "only $COMFY_HOME and $MODELS_DIR are replaced"
        hint = f"${name} is not set" if name in values else known
        raise GovError(Code.BAD_CONFIG, f"`{text[:200]}`: ${name} is unknown here", hint)

    return _VARIABLE.sub(value, text)
