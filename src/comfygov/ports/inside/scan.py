"""Reads a pack's code without running it: what it imports, and what a careful reader would stop at.

    python -I -S scan.py FOLDER

prints one JSON object: `findings` (file, line, rule, text), `imports` (module, file, line, optional) and `names` (what
the pack's own modules are called). It runs alone, in a process with a deadline: this is a stranger's code, and reading
it may take for ever or end the reader.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import warnings
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 (-I leaves it out)

from decoding import code_behind  # type: ignore[import-not-found]

_MAX_FILES = 3000
_MAX_FILE_BYTES = 2 << 20
_MAX_FINDINGS = 200
_SHOWN = 100
_LONG_LINE = 5000
_LARGEST_PTH_BYTES = 10_000
_SKIPPED_FOLDERS = frozenset({".git", "__pycache__", "node_modules"})

_DECODERS = frozenset(
    {
        *("base64.b64decode", "base64.b32decode", "base64.b85decode", "base64.a85decode", "base64.urlsafe_b64decode"),
        *("base64.decodebytes", "zlib.decompress", "gzip.decompress", "bz2.decompress", "lzma.decompress"),
        *("bytes.fromhex", "bytearray.fromhex", "codecs.decode", "binascii.unhexlify", "binascii.a2b_base64"),
        "marshal.loads",
    }
)
_DOWNLOADS = frozenset(
    {
        *("urllib.request.urlopen", "requests.get", "requests.post", "requests.request", "httpx.get", "httpx.post"),
        *("urllib3.request", "aiohttp.request"),
    }
)
_RUNNERS = frozenset(
    {"exec", "eval", "compile", "builtins.exec", "builtins.eval", "marshal.loads", "types.FunctionType"}
)
_UNPICKLERS = frozenset({"pickle.loads", "dill.loads", "cloudpickle.loads"})
_STARTERS = frozenset(
    {
        *("os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "os.spawnl", "os.posix_spawn"),
        *("subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output", "subprocess.Popen"),
        *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_exec"),
        "asyncio.create_subprocess_shell",
    }
)
_PIP = frozenset({"pip.main", "pip._internal.main", "pip._internal.cli.main.main", "pip._internal.main.main"})
_INSTALL = re.compile(r"\b(?:pip3?|uv|conda|mamba|easy_install|ensurepip)\b(?:.*\binstall\b|.*--upgrade)", re.DOTALL)
_BY_NAME = frozenset({"os", "subprocess", "builtins", "__builtins__", "sys.modules"})
_BY_NAME_CALLED = frozenset({"system", "popen", "exec", "eval", "Popen"})
_QUIET_IMPORTS = frozenset({"os", "subprocess", "socket", "ctypes", "marshal", "base64", "pty"})
_SHELL_TRICK = re.compile(
    r"(?:curl|wget)\b[^|\n]*\|\s*(?:ba|z|da)?sh\b|/dev/tcp/|\bnc(?:at)?\b[^\n]* -e\b|bash -i\b"
    r"|powershell[^\n]*-(?:e|enc|encodedcommand|w hidden|windowstyle hidden)\b|\bcertutil\b[^\n]*-urlcache|\bmshta\b"
    r"|\bschtasks\b[^\n]*/create|\bcrontab -|\bLaunchAgents\b|CurrentVersion\\\\?Run\b",
    re.IGNORECASE,
)
_SECRET_PLACE = re.compile(
    r"(?:^|[/\\~])\.(?:ssh|aws|gnupg|kube|netrc|git-credentials)(?:$|[/\\])|\bid_(?:rsa|ed25519)\b|/etc/shadow"
    r"|\bLogin Data\b|\bwallet\.dat\b|Local Storage[/\\]+leveldb|\bcookies\.sqlite\b"
)
_SENDS_AWAY = re.compile(
    r"discord(?:app)?\.com/api/webhooks|api\.telegram\.org/bot|webhook\.site|pastebin\.com/raw", re.IGNORECASE
)
_MANGLED = re.compile(r"_0x[0-9a-f]{4,}|[Il1O0]{8,}|_{6,}\w*|__pyarmor\w*|pyarmor_runtime\w*|pytransform")


class File(ast.NodeVisitor):
    """One module: a walk that keeps in mind the scope, whether code runs at import, and what names stand for."""

    def __init__(self, path: str, report: Report) -> None:
        self.path, self.report = path, report
        self.aliases: dict[str, str] = {}
        self.taint: list[dict[str, str]] = [{}]
        self.values: dict[str, ast.expr] = {}
        self.function: list[str] = []
        self.called: dict[str, set[str]] = {}
        self.installs: list[tuple[int, str, str]] = []
        self.guarded = 0
        self.mangled: dict[str, int] = {}

    def find(self, node: ast.AST, rule: str, text: str) -> None:
        self.report.find(self.path, getattr(node, "lineno", 0), rule, text)

    # -- names -------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.split(".")[0]
            self.aliases[alias.asname or name] = name
            self._imported(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        if node.module and not node.level:
            self._imported(node.module, node.lineno)

    def _imported(self, module: str, line: int) -> None:
        optional = bool(self.guarded or self.function)
        self.report.imports.append({"module": module, "file": self.path, "line": line, "optional": optional})
        if _MANGLED.fullmatch(module.split(".", maxsplit=1)[0]):
            self.report.find(self.path, line, "obfuscated", f"imports `{module[:_SHOWN]}`, which unpacks hidden code")

    def dotted(self, node: ast.expr) -> str:
        """`sp.run` as `subprocess.run` where `sp` stands for that."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            parts.append(self.aliases.get(node.id, node.id))
        elif isinstance(node, ast.Call) and self.dotted(node.func) in ("__import__", "importlib.import_module"):
            first = node.args[0] if node.args else None
            parts.append(str(first.value) if isinstance(first, ast.Constant) else "?")
        else:
            parts.append("?")
        return ".".join(reversed(parts))

    # -- scopes ------------------------------------------------------------------------------------

    def _in_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.function.append(node.name)
        self.taint.append({})
        self.generic_visit(node)
        self.taint.pop()
        self.function.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = _in_function  # noqa: N815 (ast's own names)

    def visit_Try(self, node: ast.Try) -> None:
        self.guarded += 1
        for inside in (*node.body, *node.handlers):
            self.visit(inside)
        self.guarded -= 1
        for after in (*node.orelse, *node.finalbody):
            self.visit(after)

    def visit_If(self, node: ast.If) -> None:
        typing_only = "TYPE_CHECKING" in ast.dump(node.test)
        self.guarded += typing_only
        self.generic_visit(node)
        self.guarded -= typing_only

    # -- values ------------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        origin = self.origin(node.value)
        for target in node.targets:
            for name in (part.id for part in ast.walk(target) if isinstance(part, ast.Name)):
                self.taint[-1].update({name: origin} if origin else {})
                self.values[name] = node.value
        self.generic_visit(node)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            if isinstance(item.optional_vars, ast.Name) and (origin := self.origin(item.context_expr)):
                self.taint[-1][item.optional_vars.id] = origin
        self.generic_visit(node)

    def origin(self, node: ast.AST) -> str:
        """`decoded` or `downloaded` where that is what an expression holds; else empty."""
        for part in ast.walk(node):
            if isinstance(part, ast.Call):
                name = self.dotted(part.func)
                if name in _DOWNLOADS or name.endswith(".recv"):
                    return "downloaded"
                if name in _DECODERS:
                    return "decoded"
            elif isinstance(part, ast.Name):
                found = next((scope[part.id] for scope in reversed(self.taint) if part.id in scope), "")
                if found:
                    return found
        return ""

    def words(self, node: ast.AST, depth: int = 0) -> list[str]:
        """The constant texts of an expression, also behind the names in it."""
        found: list[str] = []
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
            elif isinstance(part, ast.Name) and depth < 3 and part.id in self.values:
                found += self.words(self.values[part.id], depth + 1)
        return found[:200]

    # -- what is looked for ------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        name = self.dotted(node.func)
        self.called.setdefault(self.function[-1] if self.function else "", set()).add(name.rsplit(".", 1)[-1])
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        origin = next(filter(None, map(self.origin, given)), "")
        if origin and name in (_RUNNERS | _STARTERS | _UNPICKLERS):
            self.find(node, f"runs_{origin}", f"`{name}` runs what was {origin}")
        if name in _PIP or (name in _STARTERS and _INSTALL.search(" ".join(self.words(ast.Tuple(given, ast.Load()))))):
            self.installs.append((node.lineno, self.function[-1] if self.function else "", name))
        self._hidden(node, name, given)
        self._pth(node, given)
        if name.endswith("join") or name == "bytes":
            letters = sum(isinstance(part, ast.Call) and self.dotted(part.func) == "chr" for part in ast.walk(node))
            if letters >= 12:
                self.find(node, "obfuscated", f"a text is put together from {letters} single characters")
        self.generic_visit(node)

    def _hidden(self, node: ast.Call, name: str, given: list[ast.expr]) -> None:
        of = self.dotted(given[0]) if name == "getattr" and len(given) > 1 else ""
        if of in _BY_NAME and (not isinstance(given[1], ast.Constant) or given[1].value in _BY_NAME_CALLED):
            self.find(node, "hidden_process", f"`getattr({of}, …)` reaches a function by its name")
        if name == "__import__" and given:
            first = given[0]
            if isinstance(first, ast.BinOp) or (isinstance(first, ast.Constant) and first.value in _QUIET_IMPORTS):
                self.find(node, "hidden_process", "`__import__` instead of an import")
        if name in _STARTERS:
            options = {keyword.arg: keyword.value for keyword in node.keywords}
            flags = ast.dump(options["creationflags"]) if "creationflags" in options else ""
            detached = "preexec_fn" in options or _is_true(options, "start_new_session")
            if detached or re.search(r"DETACHED|NO_WINDOW|134217728", flags):
                self.find(node, "hidden_process", f"`{name}` starts a program that is hidden or detached")
        if name in ("os.setsid", "os.daemon", "pty.spawn"):
            self.find(node, "hidden_process", f"`{name}` detaches a process")

    def _pth(self, node: ast.Call, given: list[ast.expr]) -> None:
        words = self.words(ast.Tuple(given, ast.Load()))
        if any(word.endswith(".pth") for word in words):
            attributes = (part for part in ast.walk(node) if isinstance(part, ast.Attribute))
            named = " ".join([*words, *map(self.dotted, attributes)])
            if re.search(r"site-packages|getsitepackages|getusersitepackages|purelib|usercustomize", named):
                self.find(node, "startup_code", "a .pth file in site-packages runs at every start of Python")

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, (str, bytes)):
            self.look_at_text(node, node.value)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        whole = _folded(node)
        if whole is None:
            self.generic_visit(node)
        else:
            self.look_at_text(node, whole)

    def look_at_text(self, node: ast.expr, text: str | bytes) -> None:
        hidden = code_behind(text)
        if hidden:
            self.find(node, "hidden_code", f"a text that decodes to {hidden}")
        plain = text if isinstance(text, str) else text.decode("latin-1")
        if len(plain) > 20_000 and not plain.isascii():
            return
        plain = plain[:20_000]
        if match := _SHELL_TRICK.search(plain):
            self.find(node, "hidden_process", f"a command of the kind that attackers use: {match[0][:_SHOWN]}")
        if match := _SECRET_PLACE.search(plain):
            self.find(node, "secrets", f"names where secrets are kept: {match[0][:_SHOWN]}")
        if match := _SENDS_AWAY.search(plain):
            self.find(node, "sends_away", f"an address to which stolen data is often sent: {match[0]}")
        if "comfygov" in plain.lower():
            self.find(node, "evades", "it speaks of comfygov, which watches it")

    def visit_Name(self, node: ast.Name) -> None:
        if _MANGLED.fullmatch(node.id):
            self.mangled.setdefault(node.id, node.lineno)

    def conclude(self) -> None:
        """What only the whole module shows."""
        if len(self.mangled) >= 5 or any("pyarmor" in name for name in self.mangled):
            line, name = min((line, name) for name, line in self.mangled.items())
            self.report.find(self.path, line, "obfuscated", f"names that hide what they are for, as `{name[:_SHOWN]}`")
        at_import, waiting = set[str](), [""]
        while waiting:
            for name in self.called.get(waiting.pop(), set()) - at_import:
                at_import.add(name)
                waiting.append(name)
        for line, function, name in self.installs:
            if not function or function in at_import:
                self.report.find(
                    self.path, line, "installs_at_import", f"`{name}` installs packages when it is imported"
                )


def _is_true(options: dict[str | None, ast.expr], name: str) -> bool:
    value = options.get(name)
    return isinstance(value, ast.Constant) and value.value is True


def _folded(node: ast.expr) -> str | None:
    """The text of constants that are added up; None where anything else is in it."""
    parts: list[str] = []
    waiting: list[ast.expr] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add):
            waiting += [part.left, part.right]
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            parts.append(part.value)
        else:
            return None
    return "".join(reversed(parts))


class Report:
    """What was found in all files."""

    def __init__(self) -> None:
        self.findings: list[dict[str, Any]] = []
        self.imports: list[dict[str, Any]] = []
        self.names: set[str] = set()

    def find(self, file: str, line: int, rule: str, text: str) -> None:
        found = {"file": file, "line": line, "rule": rule, "text": text}
        if found not in self.findings and len(self.findings) < _MAX_FINDINGS:
            self.findings.append(found)


def read_module(path: str, shown: str, report: Report) -> None:
    with open(path, "rb") as file:  # noqa: PTH123
        source = file.read(_MAX_FILE_BYTES + 1)
    if len(source) > _MAX_FILE_BYTES:
        report.find(shown, 0, "obfuscated", "a module of more than 2 MiB, which was not read")
        return
    module = File(shown, report)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        if shown != "install.py":  # it is there to install, and is run for that
            module.visit(tree)
            module.conclude()
        else:
            module.visit(tree)
    except (SyntaxError, ValueError):
        return  # no Python for this version; whether it is for the trial's, its import says
    except (RecursionError, MemoryError):
        report.find(shown, 0, "obfuscated", "it is nested so deep that it cannot be read")
    for number, line in enumerate(source.split(b"\n"), 1):
        if len(line) > _LONG_LINE and line.count(b";") > 50:
            report.find(shown, number, "obfuscated", f"a line of {len(line)} characters that holds many statements")


def read_pack(folder: str) -> Report:
    """Read a pack: a folder, or the one file that it is."""
    report, count = Report(), 0
    if os.path.isfile(folder):  # noqa: PTH113
        shown = os.path.basename(folder)  # noqa: PTH119
        report.names.add(shown.removesuffix(".py"))
        read_module(folder, shown, report)
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        report.names.update(folders)
        for name in sorted(files):
            path = os.path.join(root, name)  # noqa: PTH118
            shown = os.path.relpath(path, folder)
            stem, ending = os.path.splitext(name)  # noqa: PTH122
            report.names.update({stem.split(".")[0]} if ending in (".py", ".pyc", ".so", ".pyd") else ())
            if ending == ".pyc" and f"{stem}.py" not in files:
                report.find(shown, 0, "obfuscated", "compiled code without its source")
            is_small = os.lstat(path).st_size < _LARGEST_PTH_BYTES  # others are models
            if (ending == ".pth" and is_small) or name in ("sitecustomize.py", "usercustomize.py"):
                report.find(shown, 0, "startup_code", "a file of the kind that runs at every start of Python")
            if ending in (".py", ".pyw") and count < _MAX_FILES and not os.path.islink(path):  # noqa: PTH114
                count += 1
                read_module(path, shown, report)
    return report


if __name__ == "__main__":
    found = read_pack(sys.argv[1])
    json.dump({"findings": found.findings, "imports": found.imports, "names": sorted(found.names)}, sys.stdout)
