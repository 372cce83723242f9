"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from common.platform import flush


@contextlib.contextmanager
def replacing(target: Path, *, durable: bool = False) -> Iterator[Path]:
    """Let a file be written that takes the place of another one, or its place if there is none.

    A reader sees the old file or the complete new one, also when the writer is killed. If the
    block fails, the old file stays and nothing is left beside it.

    Args:
        target: The file that is replaced; its folder must exist.
        durable: Wait until the content has reached the disk, so that a crash of the machine does
            not leave an empty file under the final name either.

    Yields:
        The path to write to, in the folder of ``target``.
    """
    draft = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield draft
        if durable:
            flush(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def write_file(
    target: Path, content: str | bytes, *, durable: bool = False, is_private: bool = False
) -> None:
    """Write a file that appears whole, text as UTF-8; see ``replacing``.

    Args:
        target: The file.
        content: What it holds.
        durable: As of ``replacing``.
        is_private: Nobody but the user may read it, whatever the umask says.
    """
    with replacing(target, durable=durable) as draft:
        if is_private:
            draft.touch(mode=0o600)
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing_folder(target: Path, is_intact: Callable[[Path], bool]) -> Iterator[Path]:
    """Let a folder be filled that appears under its name when all went well.

    Args:
        target: Its final name; folders above it are made.
        is_intact: Tells whether what is there already can stay; see ``publish_folder``.

    Yields:
        An empty folder beside ``target``.
    """
    draft = target.with_name(f".{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        yield draft
        publish_folder(draft, target, is_intact)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish_folder(draft: Path, target: Path, is_intact: Callable[[Path], bool]) -> None:
    """Make a complete folder appear as ``target``; one that another process finished first stays.

    Raises:
        OSError: The disk cannot be written.
    """
    try:
        draft.replace(target)
    except OSError:
        if is_intact(target):
            return
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)


def file_holding(path: Path) -> Path:
    """Return the file on disk that holds what ``path`` names.

    That is ``path`` itself, unless it goes on behind a file, as ``runs.zip/rank0.json`` does for
    a recording in an archive: then the archive.
    """
    for place in (path, *path.parents):
        try:
            status = place.stat()
        except (NotADirectoryError, FileNotFoundError):  # what Windows says of a path behind a file
            continue
        except (OSError, ValueError):  # a name with a NUL is a ValueError
            return path
        return place if stat.S_ISREG(status.st_mode) else path
    return path
