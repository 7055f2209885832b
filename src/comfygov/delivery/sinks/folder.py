"""Results as files of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from comfygov.delivery.outputs import sum_and_size
from comfygov.errors import Code, GovError
from comfygov.model.delivery import OutputMode, Uploaded
from comfygov.ports import fs


class FolderSink:
    """Copies below `folder`; a file gets its name when it is whole."""

    kind: OutputMode = "file"

    def __init__(self, folder: str) -> None:
        if not folder:
            raise GovError(Code.USAGE, "no folder is named for the output `file`", "--out-dir DIR")
        self._folder = Path(folder).expanduser().absolute()

    def put(self, path: Path, key: str, media_type: str) -> Uploaded:
        del media_type
        target = self._folder / key
        with fs.explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = fs.beside(target, "tmp")
            try:
                shutil.copyfile(path, part)
                checksum, size = sum_and_size(part)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        return Uploaded(target.as_uri(), str(target), size, checksum)
