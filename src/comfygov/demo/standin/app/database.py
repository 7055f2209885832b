"""The small SQLite file of the server, made at start."""

import logging
from pathlib import Path

from comfy.cli_args import args

log = logging.getLogger("comfyui")
TROUBLE = (
    "Failed to initialize database. Please ensure you have installed the latest requirements. If the error "
    "persists, please report this as in future the database will be required: %s"
)


def database_path() -> str:
    """The file named by --database-url."""
    if not args.database_url.startswith("sqlite:///"):
        raise ValueError(f"Unsupported database URL '{args.database_url}'.")
    return str(args.database_url).split("///", 1)[1]


def _create(path: str) -> None:
    import sqlite3

    fresh = not Path(path).exists()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL)")
    connection.close()
    if fresh:
        log.info("Database upgraded from None to 0001")


def setup_database() -> None:
    """Make the database; a failure is logged and does not stop the start."""
    try:
        _create(database_path())
    except Exception as error:
        log.error(TROUBLE, error)  # noqa: TRY400 - one line, like the real program
