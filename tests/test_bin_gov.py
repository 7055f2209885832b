"""`bin/gov` as a newcomer meets it: a bare checkout, an empty home, and whatever Python there is."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parent.parent
LOCKS = sorted((CHECKOUT / "requirements").glob("*.txt"))
NOTICE = "comfygov: preparing its environment (once) ...\n"
PYTHON_NAMES = ("python3", "python3.13", "python3.12", "python3.11", "python3.10")
NETWORK_SETTING = re.compile(r"(PIP|UV)_.*(INDEX|FIND_LINKS|CERT|PROXY|HOST|TIMEOUT)|SSL_.*|.*_(proxy|PROXY)")
BASH = shutil.which("bash") or "bash"
FIRST_START_S = 300
ECHO = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Bare:
    """A copy of what `bin/gov` needs of the checkout, and a machine that knows nothing of it yet."""

    root: Path
    settings: Mapping[str, str]

    @property
    def gov(self) -> Path:
        return self.root / "bin/gov"

    @property
    def environment(self) -> Path:
        return self.root / ".venv"

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.root.glob(".venv*"))

    def pretend_ready(self) -> None:
        """An environment whose Python repeats its arguments."""
        write_program(self.environment / "bin/python", ECHO)
        first_line = (self.root / "requirements/run.txt").read_text().splitlines()[0]
        (self.environment / "comfygov.stamp").write_text(f"{first_line}\n")

    def shadow(self, programs: Mapping[str, str]) -> Bare:
        """The same machine with these programs found first."""
        folder = self.root / "programs"
        for name, text in programs.items():
            write_program(folder / name, text)
        return self.given(PATH=f"{folder}{os.pathsep}{self.settings['PATH']}")

    def given(self, **settings: str) -> Bare:
        return Bare(self.root, {**self.settings, **settings})

    def start(self, *words: str | Path, cwd: Path | None = None) -> Outcome:
        done = subprocess.run(
            words or (self.gov, "--version"),
            cwd=cwd,
            env=dict(self.settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FIRST_START_S,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def package_cache(name: str) -> str:
    """Tests share the user's caches: an empty home would mean the same downloads for each of them."""
    return os.environ.get(f"{name.upper()}_CACHE_DIR", str(Path.home() / ".cache" / name))


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    root = tmp_path / "a checkout"
    for name in ("bin", "requirements", "src"):
        shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    main = root / "src/comfygov/__main__.py"
    if not main.exists():
        main.write_text("import comfygov\nprint('gov', comfygov.__version__)\n")
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if NETWORK_SETTING.fullmatch(name)}
    caches = {"PIP_CACHE_DIR": package_cache("pip"), "UV_CACHE_DIR": package_cache("uv")}
    here = {"HOME": str(home), "PATH": os.environ["PATH"], "COMFYGOV_PYTHON": sys.executable}
    return Bare(root, {**kept, **caches, **here})


@pytest.fixture
def with_pypi(bare: Bare, tmp_path: Path) -> Bare:
    """Skips where packages cannot be had: that is a fault of the network, not of `bin/gov`."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("no uv to ask whether PyPI is reachable")
    asked = bare.start(uv, "pip", "install", "--no-cache", "--target", tmp_path / "asked", "tomli-w")
    if asked.code:
        pytest.skip(f"PyPI is not reachable: {asked.err.strip()[-200:]}")
    return bare


def without_venv() -> str:
    """A Python like Debian's without the package that carries ensurepip."""
    return f"""#!/bin/sh
case "$*" in
  *"-m venv"*) mkdir -p "$4/bin"; echo "ensurepip is not available"; exit 1 ;;
  *ensurepip*) exit 1 ;;
esac
exec "{sys.executable}" "$@"
"""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_its_content_in_its_first_line(lock: Path) -> None:
    first_line, body = lock.read_bytes().split(b"\n", 1)
    digest = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
    assert first_line.decode() == f"# content {digest}", "run bin/lock: environments would not be made anew"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_and_hashes_everything_and_names_no_index(lock: Path) -> None:
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())[1:]
    assert entries
    assert all(re.match(r"[\w.-]+==\S+ ", entry) and "--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--.*(index|find-links)", lock.read_text())


def test_the_lock_holds_every_dependency_of_the_project() -> None:
    declared = re.search(
        r"^dependencies = \[(.*?)^\]", (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert declared
    wanted = set(re.findall(r'^\s*"([\w.-]+)', declared[1], re.MULTILINE))
    locked = set(re.findall(r"^([\w.-]+)==", (CHECKOUT / "requirements/run.txt").read_text(), re.MULTILINE))
    assert wanted <= locked, "run bin/lock"


def test_a_start_hands_over_every_word_and_needs_no_other_program(bare: Bare) -> None:
    bare.pretend_ready()
    done = bare.given(PATH="").start(BASH, bare.gov, "node", "add", "two words", "")
    assert done == Outcome(0, "-I\n-m\ncomfygov\nnode\nadd\ntwo words\n\n", "")


@pytest.mark.parametrize(
    ("cwd", "called"),
    [
        (".", "bin/gov"),
        (".", "./bin/gov"),
        ("bin", "./gov"),
        ("src/comfygov", "../../bin/gov"),
        ("bin", "../../a checkout//bin/./gov"),
        (".", "linked/gov"),
        ("other place", "gov-here"),
        ("other place", "./far-gov"),
    ],
)
def test_it_finds_its_checkout_however_it_is_called(bare: Bare, cwd: str, called: str) -> None:
    bare.pretend_ready()
    (bare.root / "other place").mkdir()
    (bare.root / "linked").symlink_to("bin")
    (bare.root / "other place/gov-here").symlink_to("../bin/gov")
    (bare.root / "other place/far-gov").symlink_to(bare.root / "other place/gov-here")
    done = bare.start(BASH, called, "status", cwd=bare.root / cwd)
    assert done == Outcome(0, "-I\n-m\ncomfygov\nstatus\n", "")


@pytest.mark.parametrize("home", [None, ""])
def test_a_start_needs_no_home(bare: Bare, home: str | None) -> None:
    bare.pretend_ready()
    settings = {name: value for name, value in bare.settings.items() if name != "HOME"}
    if home is not None:
        settings["HOME"] = home
    assert Bare(bare.root, settings).start().code == 0


def test_no_python_is_said(bare: Bare) -> None:
    broken = "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n"
    machine = bare.shadow(dict.fromkeys(PYTHON_NAMES, broken)).given(COMFYGOV_PYTHON="")
    done = machine.start()
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: no Python 3.10 or later was found\n\nhint: install one, or set `COMFYGOV_PYTHON` to the path of one\n"
    )
    assert bare.leftovers() == []


def test_a_python_that_was_asked_for_is_not_replaced_by_another(bare: Bare) -> None:
    done = bare.given(COMFYGOV_PYTHON="no-such-python").start()
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: `COMFYGOV_PYTHON` is `no-such-python`, ")
    assert "\n\nhint: " in done.err
    assert bare.leftovers() == []


def test_a_python_without_ensurepip_names_the_one_package(bare: Bare) -> None:
    broken_uv = "#!/bin/sh\nexit 1\n"
    machine = bare.shadow({"python3": without_venv(), "uv": broken_uv}).given(COMFYGOV_PYTHON="")
    done = machine.start()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (done.code, done.out) == (1, "")
    assert "ensurepip is not available" in done.err
    assert f"hint: install the package `python{version}-venv` (Debian, Ubuntu)" in done.err
    assert bare.leftovers() == []


def test_an_environment_that_somebody_else_made_is_left_alone(bare: Bare) -> None:
    bare.environment.mkdir()
    (bare.environment / "theirs").touch()
    settings = {name: value for name, value in bare.settings.items() if name != "HOME"}
    done = Bare(bare.root, settings).start()
    assert (done.code, done.out) == (1, "")
    assert "hint: set `XDG_CACHE_HOME`" in done.err
    assert [path.name for path in bare.environment.iterdir()] == ["theirs"]


@pytest.mark.slow
def test_no_network_is_said_and_leaves_nothing(bare: Bare) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    offline = bare.given(**nowhere, PIP_RETRIES="0", PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="", no_proxy="*")
    done = offline.start()
    assert (done.code, done.out) == (1, "")
    error, _, hint = done.err.removeprefix(NOTICE).partition("\n\nhint: ")
    assert error.startswith("error: the packages of comfygov's environment could not be installed\n  ")
    assert "PyPI" in hint
    assert bare.leftovers() == []


@pytest.mark.slow
def test_the_first_start_prepares_and_the_next_ones_say_nothing(with_pypi: Bare, tmp_path: Path) -> None:
    first = with_pypi.start()
    assert (first.code, first.err) == (0, NOTICE)
    assert first.out
    assert with_pypi.leftovers() == [".venv"]
    made = with_pypi.environment.stat().st_ino

    # What lies in the working directory or in PYTHONPATH is not part of the command.
    (tmp_path / "comfygov.py").write_text("raise SystemExit('a stranger')")
    strange = with_pypi.given(PYTHONPATH=str(tmp_path), PYTHONHOME=str(tmp_path))
    link = tmp_path / "gov"
    link.symlink_to(with_pypi.gov)
    assert strange.start(link, "--version", cwd=tmp_path) == Outcome(0, first.out, "")
    assert with_pypi.environment.stat().st_ino == made

    moved = Bare(tmp_path / "moved", with_pypi.settings)
    with_pypi.root.rename(moved.root)
    assert moved.start() == Outcome(0, first.out, "")

    with (moved.root / "requirements/run.txt").open("r+") as lock:
        lock.write("# changed")
    assert moved.start() == Outcome(0, first.out, NOTICE)
    assert moved.start() == Outcome(0, first.out, "")
    assert moved.leftovers() == [".venv"]


@pytest.mark.slow
def test_simultaneous_first_starts_make_one_environment(with_pypi: Bare) -> None:
    (with_pypi.root / ".venv.new.1/env").mkdir(parents=True)  # what a killed start leaves
    with ThreadPoolExecutor(3) as pool:
        outcomes = [start.result() for start in [pool.submit(with_pypi.start) for _ in range(3)]]
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], outcomes
    assert len({outcome.out for outcome in outcomes}) == 1
    assert {outcome.err for outcome in outcomes} <= {NOTICE, ""}
    assert with_pypi.leftovers() == [".venv"]


@pytest.mark.slow
def test_a_uv_makes_up_for_a_python_without_ensurepip(with_pypi: Bare) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    programs = {"python3": without_venv(), "uv": f'#!/bin/sh\nexec "{uv}" "$@"\n'}
    machine = with_pypi.shadow(programs).given(COMFYGOV_PYTHON="")
    first = machine.start()
    assert (first.code, first.err) == (0, NOTICE)
    assert machine.start() == Outcome(0, first.out, "")


@pytest.mark.slow
def test_where_the_checkout_is_no_place_for_it_the_environment_goes_to_the_cache(with_pypi: Bare) -> None:
    with_pypi.environment.mkdir()
    (with_pypi.environment / "theirs").touch()
    first = with_pypi.start()
    assert (first.code, first.err) == (0, NOTICE)
    assert with_pypi.start() == Outcome(0, first.out, "")
    assert list((Path(with_pypi.settings["HOME"]) / ".cache/comfygov").glob("env-*/comfygov.stamp"))
    assert [path.name for path in with_pypi.environment.iterdir()] == ["theirs"]
    assert with_pypi.leftovers() == [".venv"]
