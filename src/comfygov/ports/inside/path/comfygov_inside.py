"""What a process of a trial does, told to comfygov outside: which pack it was, and what it did.

Visibility, not a boundary: a pack that wants to can get round all of this. The sandbox is the boundary.
One line of JSON for each event goes through a unix socket in the folder $COMFYGOV_DESK, which packs cannot change.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

CUSTOM_NODES = os.environ.get("COMFYGOV_CUSTOM_NODES", "") + "/"
_DESK = os.environ.get("COMFYGOV_DESK", "")
_SOCKET_NAME = "desk.sock"
_MAX_PER_KIND = 2000
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|SSH_AUTH|_AUTH$", re.IGNORECASE)
_OURS = ("COMFYGOV_PACK", "COMFYGOV_DESK", "COMFYGOV_CUSTOM_NODES", "PYTHONPATH", "COMFYGOV_INSTALLS")
# Where programs keep keys, passwords and sessions: who opens or lists these looks for secrets.
_SECRET_FILE = re.compile(
    r"/\.(?:ssh|aws|gnupg|kube|docker|azure|netrc|git-credentials|pypirc|npmrc|password-store)(?:/|$)"
    r"|/\.config/(?:gcloud|gh|google-chrome|chromium|BraveSoftware|discord)(?:/|$)|/\.mozilla/"
    r"|/\.(?:bitcoin|ethereum|electrum|exodus)(?:/|$)"
)
_SECRET_PLACES = ("/etc/shadow", "/etc/gshadow", "/run/secrets/", "/var/run/secrets/")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib is not imported for this)

_BORN_FOR = os.environ.get("COMFYGOV_PACK", "")
_seen: set[tuple[str, ...]] = set()
_told: dict[str, int] = {}
_lock = threading.RLock()
_connection: tuple[int, socket.socket] | None = None
_busy = threading.local()


def pack_of_stack() -> str:
    """The pack whose code is on the call stack, the innermost; else that of the thread or process that began this."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (the only way to the frames without building them)
    start, length = CUSTOM_NODES, len(CUSTOM_NODES)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(start):
            return name[length:].split("/", 1)[0]
        frame = frame.f_back
    return _pack_of_thread() or _BORN_FOR


def _pack_of_thread() -> str:
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]  # noqa: SLF001
    found: str = getattr(thread, "_comfygov_pack", "")
    return found


def packs_on_stack() -> set[str]:
    """Every pack that has a part in what is done: code may claim to be another pack's, and cannot hide its caller."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    found = {_pack_of_thread(), _BORN_FOR}
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(CUSTOM_NODES):
            found.add(name[len(CUSTOM_NODES) :].split("/", 1)[0])
        frame = frame.f_back
    return found - {""}


def _is_import() -> bool:
    """True when Python itself writes, while it imports."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith("<frozen importlib")


def connect() -> socket.socket | None:
    """A new connection to comfygov; None where nobody listens. The folder's path may be longer than a socket's."""
    if not _DESK:
        return None
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = -1
    try:
        if sys.platform == "linux":
            folder = os.open(_DESK, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            made.connect(f"/proc/self/fd/{folder}/{_SOCKET_NAME}")
        else:
            made.connect(f"{_DESK}/{_SOCKET_NAME}")
    except OSError:
        made.close()
        return None
    finally:
        if folder >= 0:
            os.close(folder)
    return made


def tell(kind: str, pack: str, what: str, **details: Any) -> None:
    """Send one event; the same one of the same pack is sent once. Of what comes after the bound only that it does."""
    key = (kind, pack, what)
    with _lock:
        told = _told.get(kind, 0)
        if key in _seen or told > _MAX_PER_KIND:
            return
        _seen.add(key)
        _told[kind] = told + 1
        if told == _MAX_PER_KIND:
            kind, what, details = "lost", f"{kind}: more than {_MAX_PER_KIND} of one process", {}
        _send({"at": round(time.time(), 3), "kind": kind, "pack": pack, "what": what, "pid": os.getpid(), **details})


def _send(event: dict[str, Any]) -> None:
    global _connection  # noqa: PLW0603 (one for each process)
    with _lock:
        if _connection is None or _connection[0] != os.getpid():
            made = connect()
            if made is None:
                return
            _connection = (os.getpid(), made)
        through = sorted(packs_on_stack() - {event["pack"]})
        if through:
            event["through"] = through
        try:
            _connection[1].sendall(json.dumps(event).encode() + b"\n")
        except OSError:
            _connection = None


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)


def _words(value: object) -> str:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return hidden(" ".join(_text(part) for part in parts)[:500])


def hidden(text: str) -> str:
    """`text` without what looks like a secret in it."""
    text = re.sub(r"(://)[^/@\s]+@", r"\1***@", text)
    return re.sub(r"(?i)((?:token|secret|passw\w*|api[_-]?key)[=: ]+)\S+", r"\1***", text)


# -- what each audit event means (names: Python's table of audit events) ---------------------------------------


def _on_process(arguments: tuple[Any, ...]) -> None:
    executable, argv = arguments[0], arguments[1] if len(arguments) > 1 else ()
    words = _words(argv or executable).replace(f"{_HERE}/comfygov_installs.py", "-m")
    tell("process", pack_of_stack(), words)


def _on_shell(arguments: tuple[Any, ...]) -> None:
    tell("process", pack_of_stack(), _words(arguments[0]))


def _on_fork(_: tuple[Any, ...]) -> None:
    pack = pack_of_stack()
    if pack:
        tell("process", pack, "fork")


def _on_connect(arguments: tuple[Any, ...]) -> None:
    address = arguments[1]
    if isinstance(address, tuple) and len(address) >= 2:
        tell("connect", pack_of_stack(), f"{address[0]}:{address[1]}", host=_text(address[0]), port=address[1])
    elif isinstance(address, (str, bytes)) and _SOCKET_NAME not in _text(address):
        tell("connect", pack_of_stack(), f"unix:{_text(address)}")


def _on_lookup(arguments: tuple[Any, ...]) -> None:
    host, port = arguments[0], arguments[1]
    if host:
        tell("connect", pack_of_stack(), f"{_text(host)}:{_text(port)}", host=_text(host), port=_text(port))


def _on_open(arguments: tuple[Any, ...]) -> None:
    path, _, flags = arguments
    if isinstance(path, int):
        return
    if isinstance(flags, int) and flags & _WRITING:
        _changed("write", path)
    else:
        _looked_at(path)


def _on_list(arguments: tuple[Any, ...]) -> None:
    if arguments[0] is not None and not isinstance(arguments[0], int):
        _looked_at(arguments[0])


def _looked_at(path: Any) -> None:
    name = os.fsdecode(path)
    if ("/." in name and _SECRET_FILE.search(name)) or name.startswith(_SECRET_PLACES):
        pack = pack_of_stack()
        if pack:
            tell("secret", pack, os.path.abspath(name))  # noqa: PTH100


def _on_write(arguments: tuple[Any, ...]) -> None:
    _changed("write", arguments[0])


def _below(path: Any, descriptor: object) -> Any:
    """`path` where it is relative to an open folder, as in a walk that deletes."""
    if not isinstance(descriptor, int) or descriptor < 0:
        return path
    return os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), os.fsdecode(path))  # noqa: PTH115, PTH118


def _on_delete(arguments: tuple[Any, ...]) -> None:
    _changed("delete", _below(arguments[0], arguments[1] if len(arguments) > 1 else -1))


def _on_move(arguments: tuple[Any, ...]) -> None:
    _changed("delete", _below(arguments[0], arguments[2]))
    _changed("write", _below(arguments[1], arguments[3]))


def _on_mkdir(arguments: tuple[Any, ...]) -> None:
    _changed("write", _below(arguments[0], arguments[2]))


def _changed(kind: str, path: Any) -> None:
    """Only what lies outside of the pack's own folder, and what no import does by itself."""
    if isinstance(path, int):
        return
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
    if name.startswith(("/dev/", "/proc/self/")) and not name.startswith("/dev/shm/"):  # noqa: S108
        return
    if (name.endswith("/__pycache__") or "/__pycache__/" in name) and _is_import():
        return
    pack = pack_of_stack()
    if pack and not name.startswith(f"{CUSTOM_NODES}{pack}/"):
        tell(kind, pack, name)


def _on_library(arguments: tuple[Any, ...]) -> None:
    name = _text(arguments[0] or "")
    if name and "/site-packages/" not in name:
        tell("library", pack_of_stack(), name)


def _on_import(arguments: tuple[Any, ...]) -> None:
    """A file name comes with native modules only."""
    name = arguments[1] if len(arguments) > 1 else None
    if name and _text(name).startswith(CUSTOM_NODES):
        tell("library", pack_of_stack(), _text(name))


_HANDLERS = {
    "subprocess.Popen": _on_process,
    "os.system": _on_shell,
    "os.posix_spawn": _on_process,
    "os.exec": _on_process,
    "os.fork": _on_fork,
    "os.forkpty": _on_fork,
    "socket.connect": _on_connect,
    "socket.sendto": _on_connect,
    "socket.getaddrinfo": _on_lookup,
    "open": _on_open,
    "os.listdir": _on_list,
    "os.scandir": _on_list,
    "os.remove": _on_delete,
    "os.rmdir": _on_delete,
    "shutil.rmtree": _on_delete,
    "os.rename": _on_move,
    "os.mkdir": _on_mkdir,
    "os.truncate": _on_write,
    "os.chmod": _on_write,
    "ctypes.dlopen": _on_library,
    "import": _on_import,
}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    handler = _HANDLERS.get(event)
    if handler is None or getattr(_busy, "now", False):
        return
    _busy.now = True
    try:
        handler(arguments)
    except Exception:  # noqa: BLE001, S110 (whatever a pack hands to a call, watching it must not change the call)
        pass
    finally:
        _busy.now = False


def _watch_environment() -> None:
    kind = type(os.environ)
    original = kind.__getitem__

    def read(self: Any, key: Any) -> Any:
        if isinstance(key, str) and _SECRET.search(key) and not getattr(_busy, "now", False):
            _busy.now = True
            try:
                pack = pack_of_stack()
                if pack:
                    tell("secret", pack, key, there=key.encode() in self._data)
            finally:
                _busy.now = False
        return original(self, key)

    kind.__getitem__ = read  # type: ignore[method-assign]


def _watch_threads() -> None:
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        self._comfygov_pack = pack_of_stack()  # type: ignore[attr-defined]
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]


def child_environment(given: Any, pack: str) -> dict[Any, Any]:
    """The variables of a child: whoever starts it, it is watched too and knows for which pack it runs."""
    made = dict(os.environ if given is None else given)
    in_bytes = any(isinstance(name, bytes) for name in made)
    for name in _OURS:
        value = pack if name == "COMFYGOV_PACK" else os.environ.get(name, "")
        if name == "PYTHONPATH":
            value = os.pathsep.join(dict.fromkeys([_HERE, *filter(None, _text(made.get(name, "")).split(os.pathsep))]))
        if in_bytes:
            made.pop(name, None)
            made[name.encode()] = value.encode()
        else:
            made[name] = value
    return made


def _watch_children() -> None:
    """`subprocess` is imported by almost everything; only its class can be given the child's variables."""
    import subprocess

    import comfygov_installs  # type: ignore[import-not-found]

    original = subprocess.Popen.__init__

    def init(self: Any, args: Any, *rest: Any, **named: Any) -> None:
        if len(rest) < 10:
            named["env"] = child_environment(named.get("env"), pack_of_stack())
            args = comfygov_installs.redirected(args, shell=bool(named.get("shell")))
        original(self, args, *rest, **named)

    subprocess.Popen.__init__ = init  # type: ignore[method-assign]

    _pass_on_pack(os, "system")
    _watch_spawns()


def _pass_on_pack(module: Any, name: str) -> None:
    """Have what a function starts with this process's own variables know for which pack it runs."""
    original = getattr(module, name)

    def run(*arguments: Any, **named: Any) -> Any:
        os.environ["COMFYGOV_PACK"] = pack_of_stack()
        try:
            return original(*arguments, **named)
        finally:
            os.environ["COMFYGOV_PACK"] = _BORN_FOR

    setattr(module, name, run)


def _watch_spawns() -> None:
    """`multiprocessing` starts its children below `subprocess`, where no audit event is."""
    import _posixsubprocess

    original = _posixsubprocess.fork_exec

    def fork_exec(arguments: Any, *rest: Any) -> int:
        if _DESK:
            _hook("os.posix_spawn", (None, arguments))
        return int(original(arguments, *rest))

    _posixsubprocess.fork_exec = fork_exec
    _pass_on_pack(_posixsubprocess, "fork_exec")


def start() -> None:
    """Begin to watch this process; called once, before any of its own code."""
    _watch_children()
    if _DESK:
        _watch_threads()
        _watch_environment()
        sys.addaudithook(_hook)
