"""Reading and writing `config.toml`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model import builds
from comfygov.model.config import Config
from comfygov.model.tx import GATES
from comfygov.ports import fs, toml
from comfygov.ports.source import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A name, an address or path, or a name with version specifiers (PEP 440).
_DENIABLE = re.compile(
    r"[A-Za-z0-9][\w.-]*|\S*[/:]\S*"
    r"|[A-Za-z0-9][\w.-]*\s*(?:===?|~=|!=|<=?|>=?)\s*[\w.*+!-]+(?:\s*,\s*(?:===?|~=|!=|<=?|>=?)\s*[\w.*+!-]+)*"
)
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""PEP 508, names."""
INDEX_RULE = "https://HOST/simple, or `none`: only what find_links has"
HEADER = "# Settings of this comfygov home. All keys: docs/05_data_contracts.md\n"


def read_config(path: Path) -> Config:
    """The settings in `path`; raises `bad_config` naming the line, the key, and the nearest key."""
    try:
        raw = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GovError(Code.BAD_CONFIG, f"{path} is not valid TOML: {error}", "correct that line") from error
    _check_keys(path, raw)
    try:
        return _check_values(path, msgspec.convert(raw, Config))
    except msgspec.ValidationError as error:
        message = str(error).replace(" - at `$.", ": key `").replace("`$`", "`the file`")
        raise GovError(Code.BAD_CONFIG, f"{path}: {message}", _hint(message)) from error


def is_index(address: str) -> bool:
    """Whether this can be a package index. uv takes a bare word for a folder, and says only that nothing is in it."""
    return address in ("", "none") or bool(re.fullmatch(r"(https?://|file://|/)\S+", address))


def _hint(message: str) -> str:
    """The values that a key may have, where they can be counted."""
    section, _, key = message.rpartition("key `")[2].rstrip("`").partition(".")
    tables = {field.name: field.type for field in msgspec.structs.fields(Config)}
    keys = msgspec.structs.fields(tables[section]) if section in tables else ()
    values = next(
        (get_args(field.type) for field in keys if field.name == key and get_origin(field.type) is Literal), ()
    )
    return f"correct that key: one of {', '.join(map(str, values))}" if values else "correct that key"


def _check_keys(path: Path, raw: dict[str, Any]) -> None:
    sections = {field.name: field.type for field in msgspec.structs.fields(Config)}
    for name, table in raw.items():
        if name not in sections:
            raise _unknown(path, f"[{name}]", name, list(sections))
        if not isinstance(table, dict):
            raise GovError(Code.BAD_CONFIG, f"{path}: `{name}` must be a table", f"write [{name}] and keys below it")
        known = [field.name for field in msgspec.structs.fields(sections[name])]
        for key in table:
            if key not in known:
                raise _unknown(path, f"`{key}` in [{name}]", key, known)


def _check_values(path: Path, config: Config) -> Config:
    _refuse_bad_places(path, config)
    if config.rollback.snapshot_retention < 1:
        raise GovError(Code.BAD_CONFIG, f"{path}: `snapshot_retention` must be at least 1", "the default is 50")
    for address in (config.python.index_url, *config.python.find_links):
        if without_credentials(address) != address:
            raise GovError(
                Code.BAD_CONFIG,
                f"{path}: an address below [python] holds credentials, which every snapshot would store",
                "put them into ~/.netrc, which uv reads, and the bare address here",
            )
    _refuse_odd_words(path, "index_url", (config.python.index_url,), is_index, INDEX_RULE)
    _refuse_odd_words(path, "platforms", config.python.platforms, builds.is_platform, builds.PLATFORM_RULE)
    _refuse_odd_words(path, "torch_backends", config.python.torch_backends, builds.is_build, builds.BUILD_RULE)
    _refuse_odd_names(path, config)
    if config.tx.timeout_seconds <= 0:
        raise GovError(Code.BAD_CONFIG, f"{path}: `timeout_seconds` must be more than 0", "the default is 600")
    for gate in config.policy.gates:
        if gate not in GATES:
            raise _unknown(path, f"gate `{gate}` in [policy.gates]", gate, list(GATES))
    for entry in config.policy.deny:
        if not _DENIABLE.fullmatch(entry):
            known = 'known forms: "PACK", "https://HOST/OWNER/PACK", "PACKAGE", "PACKAGE==1.2"'
            raise GovError(Code.BAD_CONFIG, f"{path}: `{entry}` in `deny` is no pack, source or release", known)
    if not re.fullmatch(r"none|[1-9]\d*(\.\d+)?\s*([KMGT](i?B)?|%)", config.tx.memory_limit):
        known = 'known forms: "16G", "75%", "none"'
        raise GovError(Code.BAD_CONFIG, f"{path}: `memory_limit` is no amount of memory", known)
    return config


def _refuse_odd_names(path: Path, config: Config) -> None:
    named = {"core_packages": config.policy.core_packages, "keep": config.policy.keep, "exclude": config.python.exclude}
    for key, names in named.items():
        _refuse_odd_words(path, key, names, lambda name: bool(_PACKAGE.fullmatch(name)), "names of packages")


def _refuse_odd_words(path: Path, key: str, words: tuple[str, ...], is_right: Callable[[str], bool], rule: str) -> None:
    odd = [word for word in words if not is_right(word)]
    if odd:
        raise GovError(Code.BAD_CONFIG, f"{path}: `{odd[0][:80]}` in `{key}` is none", f"known: {rule}")


_OWN = ("state", "snapshots", "lockfiles", ".venvs", ".venv-candidate", "ComfyUI", "models", "config.toml")
_OWN_FILES = ("pyproject.toml", "uv.lock", "extra_model_paths.yaml")


def refuse_own_place(what: str, root: Path, place: Path) -> None:
    """The link to production's environment must not stand where a home keeps something else."""
    if place == root or (place.is_relative_to(root) and place.relative_to(root).parts[0] in (*_OWN, *_OWN_FILES)):
        raise GovError(
            Code.USAGE, f"{what} {place} is where the home keeps something else", "name a path that is not there yet"
        )


def _refuse_bad_places(path: Path, config: Config) -> None:
    from pathlib import Path

    root = path.parent.absolute()
    for key, value in (("comfyui_dir", config.paths.comfyui_dir), ("models_dir", config.paths.models_dir)):
        if (root / Path(value).expanduser()).resolve() == root.resolve():
            raise GovError(
                Code.BAD_CONFIG, f"{path}: `{key}` must name a folder of its own", "leave the key out for the default"
            )
    refuse_own_place(f"{path}: `prod_env`", root, root / Path(config.runtime.prod_env).expanduser())
    candidates = Path(config.runtime.candidate_root)
    if (
        candidates.is_absolute()
        or ".." in candidates.parts
        or not candidates.parts
        or candidates.parts[0] in _NOT_CANDIDATES
    ):
        raise GovError(
            Code.BAD_CONFIG,
            f"{path}: `candidate_root` must be a folder of its own below the home",
            "the default is .venv-candidate",
        )


_NOT_CANDIDATES = tuple(name for name in (*_OWN, *_OWN_FILES) if name != ".venv-candidate")


def _unknown(path: Path, shown: str, name: str, known: list[str]) -> GovError:
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
    return GovError(Code.BAD_CONFIG, f"{path}: unknown {shown}", hint)


def update_config(path: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Set keys in `path`, keeping the person's comments and order."""
    import tomlkit

    document = tomlkit.parse(path.read_text(encoding="utf-8") if path.is_file() else HEADER)
    for section, keys in changes.items():
        table = document.setdefault(section, tomlkit.table())
        for key, value in keys.items():
            table[key] = value
    fs.write_if_changed(path, tomlkit.dumps(document).encode())
