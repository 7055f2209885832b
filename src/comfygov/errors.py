"""The one error type of comfygov, and the exit code that each error code stands for."""

from __future__ import annotations

from enum import Enum
from typing import Final

EXIT_DONE: Final = 0
EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_DRIFT: Final = 3
EXIT_NO_SOLUTION: Final = 4
EXIT_NETWORK: Final = 5
EXIT_BUSY: Final = 6
EXIT_INTERRUPTED: Final = 130


class Code(Enum):
    """Stable error codes: scripts match on the first value, the shell sees the second."""

    USAGE = ("usage", EXIT_USAGE)
    NOT_FOUND = ("not_found", EXIT_USAGE)
    NOT_A_HOME = ("not_a_home", EXIT_USAGE)
    BAD_ID = ("bad_id", EXIT_USAGE)
    BAD_SOURCE = ("bad_source", EXIT_USAGE)
    REF_NOT_FOUND = ("ref_not_found", EXIT_USAGE)
    BAD_CONFIG = ("bad_config", EXIT_USAGE)
    HOME_NEWER = ("home_newer", EXIT_REFUSED)
    HOME_DAMAGED = ("home_damaged", EXIT_REFUSED)
    ALREADY_EXISTS = ("already_exists", EXIT_REFUSED)
    NOT_A_PACK = ("not_a_pack", EXIT_REFUSED)
    NOT_COMFYUI = ("not_comfyui", EXIT_REFUSED)
    LOCAL_EDITS = ("local_edits", EXIT_REFUSED)
    WRONG_STATE = ("wrong_state", EXIT_REFUSED)
    NEEDS_APPROVAL = ("needs_approval", EXIT_REFUSED)
    TRIAL_FAILED = ("trial_failed", EXIT_REFUSED)
    PROMOTE_FAILED = ("promote_failed", EXIT_REFUSED)
    NOT_READY = ("not_ready", EXIT_REFUSED)
    TORCH_MISFIT = ("torch_misfit", EXIT_REFUSED)
    BAD_REQUIREMENTS = ("bad_requirements", EXIT_NO_SOLUTION)
    NO_SOLUTION = ("no_solution", EXIT_NO_SOLUTION)
    BUILD_FAILED = ("build_failed", EXIT_REFUSED)
    DRIFT = ("drift", EXIT_DRIFT)
    AUDIT_BROKEN = ("audit_broken", EXIT_DRIFT)
    ENVIRONMENT_DAMAGED = ("environment_damaged", EXIT_DRIFT)
    RUNNING = ("running", EXIT_REFUSED)
    NOT_RUNNING = ("not_running", EXIT_REFUSED)
    PORT_TAKEN = ("port_taken", EXIT_REFUSED)
    DISK_FULL = ("disk_full", EXIT_REFUSED)
    PERMISSION = ("permission", EXIT_REFUSED)
    TOOL_MISSING = ("tool_missing", EXIT_REFUSED)
    TOOL_FAILED = ("tool_failed", EXIT_REFUSED)
    TIMEOUT = ("timeout", EXIT_REFUSED)
    JOB_FAILED = ("job_failed", EXIT_REFUSED)
    NETWORK = ("network", EXIT_NETWORK)
    BUSY = ("busy", EXIT_BUSY)
    INTERRUPTED = ("interrupted", EXIT_INTERRUPTED)
    INTERNAL = ("internal", EXIT_REFUSED)

    @property
    def text(self) -> str:
        return self.value[0]

    @property
    def exit_code(self) -> int:
        return self.value[1]


class GovError(Exception):
    """An expected failure: what happened, to what, and the command that helps.

    ``message`` is one sentence without a full stop; ``details`` are further lines (a list of
    files, the tail of a log); ``hint`` is a command or the next step.
    """

    def __init__(self, code: Code, message: str, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details

    @property
    def exit_code(self) -> int:
        return self.code.exit_code
