"""Is a home whole? An independent judge: it reads files and asks git, and imports nothing of comfygov.

What it holds is what docs/reliability.md promises after any kill, once the next command has run.
"""

from __future__ import annotations

import base64
import csv
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LEFTOVER = re.compile(r".*\.comfygov-[a-z]+(\.disabled)?")


def problems(
    home: Path, user_files: dict[Path, bytes], *, collected: bool = True, environment: bool = True
) -> list[str]:
    """Everything that is wrong with the home; `collected` says that `gov gc` has run since the kill, `environment`
    that every installed file is to be read and every package imported."""
    head = _json(home / "state" / "head.json")
    snapshot = home / "snapshots" / head["snapshot"]
    found = _snapshots(home)
    if not (snapshot / "meta.json").is_file():
        return [*found, f"head names {head['snapshot']}, which is not there"]
    found += _truth(home, snapshot)
    found += _code(home, snapshot)
    found += _links(home, _json(snapshot / "meta.json")["generation"])
    if environment:
        found += environment_problems(home / ".venvs" / _json(snapshot / "meta.json")["generation"], home / "uv.lock")
    found += _audit(home, head)
    found += _lock_and_marker(home)
    found += _transactions(home)
    found += [f"a process still runs: {line}" for line in processes(home)]
    found += _user_files(home, user_files)
    return found + (_leftovers(home) if collected else [])


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _snapshots(home: Path) -> list[str]:
    found = []
    for path in sorted((home / "snapshots").iterdir()):
        if path.name.startswith("."):
            continue
        missing = {"meta.json", "pyproject.toml", "uv.lock", "plugins.json"} - {file.name for file in path.iterdir()}
        if missing:
            found.append(f"snapshot {path.name} lacks {sorted(missing)}")
        elif _json(path / "meta.json")["id"] != path.name:
            found.append(f"snapshot {path.name} calls itself {_json(path / 'meta.json')['id']}")
    return found


def _truth(home: Path, snapshot: Path) -> list[str]:
    pairs = {"pyproject.toml": home, "uv.lock": home, "plugins.json": home / "state"}
    return [
        f"{name} is not what head says"
        for name, place in pairs.items()
        if not (place / name).is_file() or (place / name).read_bytes() != (snapshot / name).read_bytes()
    ]


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _code(home: Path, snapshot: Path) -> list[str]:
    wanted = {home / "ComfyUI": _json(snapshot / "meta.json")["comfyui_commit"]}
    for plugin in _json(snapshot / "plugins.json")["plugins"]:
        wanted[home / "ComfyUI" / "custom_nodes" / plugin["id"]] = plugin["commit"]
    found = []
    for checkout, commit in wanted.items():
        if not (checkout / ".git").exists():
            found.append(f"{checkout.name} is no checkout")
        elif _git(checkout, "rev-parse", "HEAD") != commit:
            found.append(f"{checkout.name} is at another commit than head says")
        elif _git(checkout, "status", "--porcelain", "--untracked-files=no"):
            found.append(f"{checkout.name} is not what its commit says")
        found += [f"a git lock is left: {path}" for path in (checkout / ".git").glob("*.lock")]
    return found


def _links(home: Path, generation: str) -> list[str]:
    found = []
    if os.path.realpath(home / ".venv-prod") != str((home / ".venvs" / generation).resolve()):
        found.append(f".venv-prod leads to {os.path.realpath(home / '.venv-prod')}, head says {generation}")
    if os.path.realpath(home / ".venv") != os.path.realpath(home / ".venv-prod"):
        found.append(".venv does not lead to .venv-prod")
    return found


def environment_problems(environment: Path, uv_lock: Path) -> list[str]:
    """Every file against RECORD by sha256, the packages against the lock, and each package imports."""
    site = next(environment.glob("lib/python3*/site-packages"), None)
    if site is None or not (environment / "pyvenv.cfg").is_file():
        return [f"{environment.name} is no environment"]
    found = []
    modules = set()
    for info in sorted(site.glob("*.dist-info")):
        for name, digest, _ in csv.reader((info / "RECORD").read_text().splitlines()):
            path = site / name
            if digest and not path.is_file():
                found.append(f"{info.name}: {name} is missing")
            elif digest and _sha256(path) != digest.removeprefix("sha256="):
                found.append(f"{info.name}: {name} has other content")
            if name.endswith("/__init__.py") and name.count("/") == 1:
                modules.add(name.split("/")[0])
    locked = {
        f"{package['name'].replace('-', '_')}-{package['version']}"
        for package in tomllib.loads(uv_lock.read_text()).get("package", [])
        if "virtual" not in package["source"]
    }
    installed = {info.name.removesuffix(".dist-info") for info in site.glob("*.dist-info")}
    if locked != installed:
        found.append(f"the lock says {sorted(locked)}, installed is {sorted(installed)}")
    imports = "; ".join(f"import {name}" for name in sorted(modules)) or "pass"
    done = subprocess.run([environment / "bin" / "python", "-I", "-c", imports], capture_output=True, check=False)
    return found + ([f"packages do not import: {done.stderr.decode()[-200:]}"] if done.returncode else [])


def _sha256(path: Path) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()


def _audit(home: Path, head: dict[str, Any]) -> list[str]:
    previous, last = "", None
    for number, raw in enumerate((home / "state" / "audit.jsonl").read_bytes().splitlines(), start=1):
        line = json.loads(raw)
        bare = raw.replace(f'"digest":"{line["digest"]}"'.encode(), b'"digest":""')
        if hashlib.sha256(bare).hexdigest() != line["digest"] or line["previous"] != previous:
            return [f"audit line {number} does not belong there"]
        previous, last = line["digest"], line
    if last is None or head["audit"] != previous:
        return ["head does not remember the last audit line"]
    made = [json.loads(raw)["after"] for raw in (home / "state" / "audit.jsonl").read_bytes().splitlines()]
    # What stands before a change has no line of its own: the change's line names it.
    ours = [path.name for path in (home / "snapshots").iterdir() if not path.name.startswith(".")]
    unknown = [name for name in ours if not name.endswith("_pre") and name not in made]
    return [f"{name} is a snapshot that no audit line knows" for name in unknown]


def _lock_and_marker(home: Path) -> list[str]:
    found = ["the marker of a commit is left"] if (home / "state" / "materialising.json").exists() else []
    with (home / "state" / "home.lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append("the lock is held by nobody we know")
    return found


def _transactions(home: Path) -> list[str]:
    found = []
    audit = (home / "state" / "audit.jsonl").read_text()
    for path in (home / "state" / "transactions").glob("tx*.json"):
        tx = _json(path)
        if tx["status"] == "running":
            found.append(f"{tx['txid']} is running and nobody runs it")
        candidate = home / tx["candidate_env"] if tx.get("candidate_env") else None
        plan = tx.get("promotion_plan") or {}
        if candidate is not None and not candidate.is_dir() and not (home / ".venvs" / plan["generation"]).is_dir():
            found.append(f"{tx['txid']} names a candidate that is gone")
        if tx["status"] == "promoted" and f'"{tx["promotion"]["snapshot_post"]}"' not in audit:
            found.append(f"{tx['txid']} is promoted, and its snapshot was never made")
    return found


def processes(home: Path) -> list[str]:
    """Living processes that work in the home or were started for it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            directory = str((entry / "cwd").readlink())
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if directory.startswith(str(home)) or f"COMFYGOV_RUN_ID={home}".encode() in environment:
            found.append(f"{entry.name} {command}")
    return found


def _user_files(home: Path, user_files: dict[Path, bytes]) -> list[str]:
    """Each is where it was, or was kept aside, with every byte."""
    rescued = {path.read_bytes() for path in (home / "state" / "rescued").rglob("*") if path.is_file()}
    return [
        f"the user's {path} is gone or changed"
        for path, data in user_files.items()
        if not (path.is_file() and path.read_bytes() == data) and data not in rescued
    ]


def _leftovers(home: Path) -> list[str]:
    open_now = {
        path.stem
        for path in (home / "state" / "transactions").glob("tx*.json")
        if _json(path)["status"] not in ("promoted", "aborted")
    }
    needed = {_json(path)["generation"] for path in (home / "snapshots").glob("[0-9]*/meta.json")}
    plans = [_json(home / "state" / "transactions" / f"{txid}.json").get("promotion_plan") for txid in open_now]
    needed |= {plan["generation"] for plan in plans if plan}
    found = [f"left in .venvs: {path.name}" for path in (home / ".venvs").iterdir() if path.name not in needed]
    for place in (home / ".venv-candidate", home / "state" / "work"):
        there = place.iterdir() if place.is_dir() else ()
        found += [f"left: {path.relative_to(home)}" for path in there if path.name not in open_now]
    folders = (home, home / "state", home / "state" / "transactions", home / "snapshots", home / "ComfyUI")
    for place in (folder for folder in folders if folder.is_dir()):
        found += [f"left: {path.relative_to(home)}" for path in place.iterdir() if _LEFTOVER.fullmatch(path.name)]
    nodes = home / "ComfyUI" / "custom_nodes"
    return found + [f"left: {path.relative_to(home)}" for path in nodes.iterdir() if _LEFTOVER.fullmatch(path.name)]
