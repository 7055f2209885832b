"""comfygov for an image: this very one as a wheel, and the packages that it needs, by their sums."""

from __future__ import annotations

from pathlib import Path

import comfygov
from comfygov import __version__
from comfygov.delivery.image import wheel
from comfygov.errors import Code, GovError
from comfygov.ports import toml

_PACKAGE = Path(comfygov.__file__).parent
_INSTALLED = _PACKAGE / "delivery" / "image" / "requirements"
_CHECKOUT = _PACKAGE.parent.parent


def put(folder: Path, *, extras: bool) -> None:
    """Write `needs/requirements.txt` and `comfygov/….whl`; `extras`: with the RunPod SDK and the storage clients."""
    needs, own = folder / "needs", folder / "comfygov"
    for part in (needs, own):
        part.mkdir(parents=True)
    (needs / "requirements.txt").write_text(_requirements("extras" if extras else "run"), encoding="utf-8")
    wheel.write(_PACKAGE, __version__, _metadata(), own)


def _requirements(name: str) -> str:
    """Hashed requirements, as `bin/lock` wrote them; a build asks PyPI for them."""
    for path in (_INSTALLED / f"{name}.txt", _CHECKOUT / "requirements" / f"{name}.txt"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise GovError(
        Code.TOOL_FAILED, "this comfygov was installed without the list of its own packages", "install it again"
    )


def _metadata() -> str:
    project = _CHECKOUT / "pyproject.toml"
    if _PACKAGE.parent.name == "src" and project.is_file():
        return _metadata_of(toml.loads(project.read_text(encoding="utf-8"))["project"])
    from importlib import metadata

    text = metadata.distribution("comfygov").read_text("METADATA")
    if text is None:
        raise GovError(Code.TOOL_FAILED, "this comfygov was installed without its own metadata", "install it again")
    return text


def _metadata_of(project: dict[str, object]) -> str:
    needs = project.get("dependencies", [])
    lines = ["Metadata-Version: 2.1", "Name: comfygov", f"Version: {__version__}"]
    lines += [f"Summary: {project['description']}", f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {line}" for line in (needs if isinstance(needs, list) else [])]
    return "\n".join(lines) + "\n"
