"""How ComfyUI is started: by the real path of an interpreter, with exactly the named packs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8188
_TREE_FILES = ("main.py", "nodes.py", "requirements.txt")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
_ALLOWED_NAMES = frozenset(
    {
        *("PATH", "LANG", "LANGUAGE", "TZ", "TERM", "USER", "LOGNAME", "DISPLAY", "LD_LIBRARY_PATH"),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_ENDPOINT", "HF_HUB_OFFLINE"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
_ALLOWED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "MIOPEN_", "PYTORCH_", "TORCH_")


def refuse_other_tree(comfyui: Path, shown: str = "") -> None:
    """Raise unless `comfyui` is a ComfyUI that can be governed; messages name it as `shown`."""
    shown = shown or str(comfyui)
    missing = [name for name in _TREE_FILES if not (comfyui / name).is_file()]
    if missing:
        raise GovError(
            Code.NOT_COMFYUI,
            f"{shown} is no ComfyUI: {', '.join(missing)} is missing",
            "check --repo or --comfyui-dir",
        )
    arguments = comfyui / "comfy" / "cli_args.py"
    if arguments.is_file() and "whitelist-custom-nodes" not in arguments.read_text(encoding="utf-8"):
        raise GovError(
            Code.NOT_COMFYUI,
            f"the ComfyUI in {shown} is too old: it cannot be told which packs to load (--whitelist-custom-nodes)",
            "choose a newer one with --ref",
        )


def arguments(
    python: str, *, packs: Sequence[str], host: str, port: int, model_paths: Sequence[Path], extra: Sequence[str]
) -> list[str]:
    """The argument list of `main.py`; packs are names of entries in custom_nodes."""
    argv = [python, "main.py", "--listen", host, "--port", str(port), "--disable-auto-launch"]
    argv += ["--extra-model-paths-config", *map(str, model_paths), "--disable-all-custom-nodes"]
    if packs:
        argv += ["--whitelist-custom-nodes", *packs]
    return [*argv, *extra]


def shipped_packs(comfyui: Path) -> list[str]:
    """Single files that ComfyUI itself ships in custom_nodes."""
    path = comfyui / "custom_nodes" / "websocket_image_save.py"
    return [path.name] if path.is_file() else []


def may_see(name: str, value: str) -> bool:
    """True for environment variables that a trial gets: what programs need to run, and nothing that may hold
    a secret (a proxy's address can)."""
    if name.upper() in _PROXIES:
        return "@" not in value
    return name in _ALLOWED_NAMES or name.startswith(_ALLOWED_PREFIXES)
