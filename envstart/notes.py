"""What one run has to tell the next, because no table of the host does: small files, gone after a boot."""

from __future__ import annotations

import os

from .errors import Temporary, reason
from .locks import private_directory


def read(state_dir: str, name: str) -> str:
    """The text of a note; "" if there is none. Temporary if that cannot be told."""
    try:
        with open(f"{state_dir}/{name}.note", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Temporary(f"cannot read {state_dir}/{name}.note: {reason(error)}; run it as root") from None


def write(state_dir: str, name: str, text: str) -> None:
    """Keep ``text``, whole or not at all; "" takes the note away. Temporary if it cannot be kept."""
    path = f"{private_directory(state_dir)}/{name}.note"
    try:
        if not text:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            return
        with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.rename(f"{path}.new", path)
    except OSError as error:
        raise Temporary(f"cannot write {path}: {reason(error)}") from None
