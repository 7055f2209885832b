"""Where ComfyUI looks for models: the models folder, its own, and those of extra_model_paths.yaml."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.model.models import FOLDER_NAMES, MODEL_ENDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LEGACY = {"unet": "diffusion_models", "clip": "text_encoders"}
_MAX_DEPTH = 32


@dataclass
class Folders:
    """`models_dir` is where new files go. `roots` are other folders of the same layout, `extra` maps a kind of
    models to further folders for it."""

    models_dir: Path
    roots: tuple[Path, ...] = ()
    extra: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def target(self, target_path: str) -> Path:
        return self.models_dir / target_path

    def elsewhere(self, target_path: str) -> Iterator[Path]:
        """Other places where ComfyUI would find what belongs to `target_path`, in its order."""
        kind, _, rest = target_path.partition("/")
        if not rest:
            return
        own = self.models_dir / target_path
        for folder in self.of_kind(kind):
            if folder / rest != own:
                yield folder / rest

    def of_kind(self, kind: str) -> Iterator[Path]:
        """Every folder in which ComfyUI looks for `kind`."""
        yield from self.extra.get(_LEGACY.get(kind, kind), ())
        for root in (self.models_dir, *self.roots):
            yield from (root / name for name in FOLDER_NAMES.get(kind, (kind,)))

    def kinds(self) -> list[str]:
        found = {path.name for root in (self.models_dir, *self.roots) for path in _subfolders(root)}
        return sorted(found | set(self.extra))


def _subfolders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def read_extra_paths(files: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """The folders that extra_model_paths.yaml files name, by kind. Raises `bad_config`."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in files:
        if path.is_file():
            for kind, folders in _read(path):
                found[kind] = (*found.get(kind, ()), *folders)
    return found


def files_of_arguments(arguments: Sequence[str]) -> list[str]:
    """The files that ComfyUI's `--extra-model-paths-config` names: one or more behind it, or one behind `=`."""
    found: list[str] = []
    taking = False
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if name == "--extra-model-paths-config":
            taking = not separator
            found += [value] if separator else []
        elif argument.startswith("-"):
            taking = False
        elif taking:
            found.append(argument)
    return found


def _read(path: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GovError(Code.BAD_CONFIG, f"{path} cannot be read: {error}", "ComfyUI cannot read it either") from error
    sections = document.values() if isinstance(document, dict) else ()
    for section in sections:
        if isinstance(section, dict):
            yield from _section(section, path.parent)


def _section(section: dict[str, object], beside: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """As ComfyUI reads it (utils/extra_config.py): variables and ~ in base_path, one folder on each line."""
    base = beside
    if isinstance(section.get("base_path"), str):
        base = beside / Path(os.path.expandvars(str(section["base_path"]))).expanduser()
    for kind, value in section.items():
        if kind not in ("base_path", "is_default", "custom_nodes") and isinstance(value, str):
            folders = tuple(Path(os.path.normpath(base / line)) for line in value.split("\n") if line)
            yield _LEGACY.get(kind, kind), folders


def model_files(root: Path) -> Iterator[Path]:
    """Every model file below `root`, sorted."""
    found = []
    for folder in folders_below(root):
        with os.scandir(folder) as entries:
            for entry in entries:
                is_model = entry.name.lower().endswith(MODEL_ENDINGS) and not entry.name.startswith(".")
                if is_model and entry.is_file():
                    found.append(folder / entry.name)
    yield from sorted(found)


def folders_below(root: Path) -> Iterator[Path]:
    """`root` and the folders in it; those that are links are followed, each real folder once, hidden ones not."""
    seen: set[tuple[int, int]] = set()
    pending = [(root, 0)] if root.is_dir() else []
    while pending:
        folder, depth = pending.pop()
        facts = folder.stat()
        if (facts.st_dev, facts.st_ino) in seen or depth > _MAX_DEPTH:
            continue
        seen.add((facts.st_dev, facts.st_ino))
        with os.scandir(folder) as entries:
            pending += [(folder / one.name, depth + 1) for one in entries if one.name[0] != "." and one.is_dir()]
        yield folder
