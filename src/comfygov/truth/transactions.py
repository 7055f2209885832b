"""Transaction records, one file each, and their index."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.tx import Logs, Transaction, TxSummary
from comfygov.ports import fs
from comfygov.truth import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from comfygov.truth.home import Home


class Transactions:
    """The transactions of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._directory = home.transactions

    def _path(self, txid: str) -> Path:
        return self._directory / f"{txid}.json"

    def create(self, tx: Transaction, logs_of: Callable[[str], Logs], known: Iterable[str]) -> Transaction:
        """Write `tx` as a new record under a txid of its own, which is none of `known` either: a record may
        have been lost or moved aside. No lock is needed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        given = (re.match(r"tx(\d+)", name) for name in (*os.listdir(self._directory), *known))
        number = max((int(found[1]) for found in given if found), default=0)
        while True:
            number += 1
            txid = f"tx{number:04d}"
            named = msgspec.structs.replace(tx, txid=txid, logs=logs_of(txid))
            with fs.explained(self._path(txid)):
                if fs.create_atomic(self._path(txid), store.encode(named)):
                    return named

    def save(self, tx: Transaction) -> Transaction:
        store.save(self._path(tx.txid), tx)
        return tx

    def load(self, txid: str) -> Transaction:
        return store.load(self._path(self.resolve(txid)), Transaction)

    def exists(self, txid: str) -> bool:
        return self._path(txid).is_file()

    def resolve(self, text: str) -> str:
        """The txid that `text` names: itself or its number."""
        txid = f"tx{int(text):04d}" if text.isascii() and text.isdigit() else text
        if not re.fullmatch(r"tx\d+", txid) or not self._path(txid).is_file():
            raise GovError(Code.NOT_FOUND, f"there is no transaction `{text}`", "gov tx list")
        return txid

    def summaries(self) -> list[TxSummary]:
        """All of them, oldest first."""
        index = store.Index(self._home.state / "transactions_index.json", self._directory, TxSummary)
        return list(index.entries(self._files, self._summarise).values())

    def _files(self) -> list[tuple[str, str]]:
        try:
            names = filter(_is_record, os.listdir(self._directory))
        except FileNotFoundError:
            return []
        return [(name, f"{self._directory}/{name}") for name in sorted(names, key=lambda name: (len(name), name))]

    def _summarise(self, path: str) -> TxSummary:
        data = Path(path).read_bytes()
        if not data:
            # Made where there are no hardlinks, and its first record not written yet.
            return TxSummary(Path(path).stem, "", "node_first_run", "running", "")
        try:
            return msgspec.json.decode(data, type=TxSummary)
        except msgspec.MsgspecError as error:
            raise GovError(
                Code.HOME_DAMAGED, f"{path} cannot be read: {error}", f"move it aside: mv {path} {path}.damaged"
            ) from error


def _is_record(name: str) -> bool:
    return bool(re.fullmatch(r"tx\d+\.json", name))
