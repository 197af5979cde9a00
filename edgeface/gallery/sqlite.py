"""A gallery in one file, with the ``sqlite3`` of the standard library."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

import numpy as np

from edgeface.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryModelError,
    InvalidInputError,
    SubjectExistsError,
    SubjectNotFoundError,
)
from edgeface.gallery.base import (
    SubjectInfo,
    TemplateSource,
    check_templates,
    normalise_subject_name,
    short_id,
    utc_now,
)
from edgeface.gallery.matrix import TemplateMatrix, is_usable
from edgeface.gallery.schema import as_gallery_errors, connect, create_file
from edgeface.types import Candidate, FloatArray, Template

__all__ = ["SqliteGallery"]

_STORED = np.dtype("<f4")


class SqliteGallery:
    """A gallery that outlives the process: what was acknowledged survives a crash.

    Templates and names are stored **unencrypted**, in a file of mode 0600: whoever can read the
    file, or a copy of it, has both, and a template can be turned back into a likeness of the
    face. Until galleries are encrypted, keep the file on an encrypted disk.

    A removed subject leaves nothing in the file or its log. Copies, and the spare blocks of a
    flash disk, are out of reach of that.

    Several threads may share a gallery, and several processes one file: a change made by another
    process is seen by the next search.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        model_id: str,
        embedding_size: int,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._path = path
        self._model_id = model_id
        self._embedding_size = embedding_size
        self._clock = clock
        self._lock = threading.RLock()
        self._matrix: TemplateMatrix | None = None
        self._data_version = -1

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model_id: str,
        embedding_size: int,
        create: bool = True,
        clock: Callable[[], datetime] = utc_now,
    ) -> SqliteGallery:
        """Return the gallery at ``path``, made there first if it does not exist and ``create``.

        Raises:
            GalleryFormatError: The file is not a gallery, damaged, of an unknown schema, or not a
                plain file. It is left as it was.
            GalleryModelError: The gallery belongs to another model.
            GalleryError: There is no such file or folder, or other users may read the file.
        """
        if not model_id or embedding_size < 1:
            raise InvalidInputError(
                f"a gallery needs a model_id and an embedding size of at least 1, got "
                f"{model_id!r} and {embedding_size}"
            )
        file = Path(path).absolute()
        meta = {"model_id": model_id, "embedding_size": str(embedding_size)}
        with as_gallery_errors(file):
            if not os.path.lexists(file):
                if not create:
                    raise GalleryError(f"no gallery at {file}; enrol a subject to make one")
                create_file(file, {**meta, "created_at": _as_text(clock())})
            connection = connect(file)
            try:
                _check_meta(connection, file, meta)
            except BaseException:
                connection.close()
                raise
        return cls(connection, file, model_id=model_id, embedding_size=embedding_size, clock=clock)

    @property
    def model_id(self) -> str:
        """The model that every template of the gallery belongs to."""
        return self._model_id

    @property
    def embedding_size(self) -> int:
        """The length of every template."""
        return self._embedding_size

    @property
    def path(self) -> Path:
        """The file of the gallery."""
        return self._path

    @property
    def quarantined(self) -> int:
        """How many stored templates are unusable (not finite, or of a wrong length or size).

        They take no part in a search; enrol their subjects again.
        """
        with self._use() as connection:
            return self._current_matrix(connection).quarantined

    def add(
        self,
        subject: str,
        templates: Sequence[Template],
        *,
        source: TemplateSource = TemplateSource.IMAGE,
        extend: bool = False,
    ) -> None:
        """Store ``templates`` under ``subject``: see :meth:`Gallery.add`.

        They are on the disk when this returns.
        """
        source = TemplateSource(source)
        name = normalise_subject_name(subject)
        self._check(templates)
        if not templates:
            raise InvalidInputError("a subject needs at least one template, got none")
        now = _as_text(self._clock())
        with self._use() as connection, _transaction(connection):
            subject_id = _subject_id(connection, name)
            if subject_id is not None and not extend:
                raise SubjectExistsError(
                    "a subject of that name is enrolled already; choose another name, or pass "
                    "extend=True to add templates to it"
                )
            self._matrix = None
            if subject_id is None:
                subject_id = connection.execute(
                    "INSERT INTO subject (name, created_at) VALUES (?, ?)", (name, now)
                ).lastrowid
            connection.executemany(
                "INSERT INTO template (subject_id, vector, quality, source, created_at) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (subject_id, _to_blob(row.vector), float(row.quality), source.value, now)
                    for row in templates
                ],
            )

    def subjects(self) -> list[SubjectInfo]:
        """Return the enrolled subjects, sorted by name."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT name, count(template.id), subject.created_at FROM subject "
                "LEFT JOIN template ON template.subject_id = subject.id "
                "GROUP BY subject.id ORDER BY name"
            ).fetchall()
        return [SubjectInfo(*row) for row in rows]

    def templates(self, subject: str) -> list[Template]:
        """Return the usable templates of ``subject``: see :meth:`Gallery.templates`."""
        name = normalise_subject_name(subject)
        with self._use() as connection:
            subject_id = _require_subject(connection, name)
            rows = connection.execute(
                "SELECT vector, quality FROM template WHERE subject_id = ? ORDER BY id",
                (subject_id,),
            ).fetchall()
        rows = [row for row in rows if self._is_whole(row[0])]
        vectors = self._to_array([vector for vector, _ in rows])
        usable = is_usable(vectors)
        return [Template(vectors[i], self._model_id, rows[i][1]) for i in np.flatnonzero(usable)]

    def remove(self, subject: str) -> None:
        """Forget ``subject``: see :meth:`Gallery.remove`.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
            GalleryError: The subject is removed, but another process was reading, so that the
                log still holds the old pages; they go with the next removal or when the last
                process closes the gallery.
        """
        name = normalise_subject_name(subject)
        with self._use() as connection:
            with _transaction(connection):
                subject_id = _require_subject(connection, name)
                self._matrix = None
                connection.execute("DELETE FROM subject WHERE id = ?", (subject_id,))
            # DELETE alone leaves the template in the log, whatever secure_delete says.
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise GalleryError(
                f"the subject is removed, but another process was reading {self._path}: its log "
                "still holds the old pages until that process closes the gallery"
            )

    def search(self, template: Template, k: int = 5) -> list[Candidate]:
        """Return up to ``k`` candidates: see :meth:`Gallery.search`."""
        return self.search_many([template], k)[0]

    def search_many(self, templates: Sequence[Template], k: int = 5) -> list[list[Candidate]]:
        """Return what :meth:`search` returns, for each of ``templates``."""
        if k < 1:
            raise InvalidInputError(f"k must be at least 1, got {k}")
        self._check(templates)
        if not templates:
            return []
        with self._use() as connection:
            matrix = self._current_matrix(connection)
        return matrix.search(np.stack([template.vector for template in templates]), k)

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock, as_gallery_errors(self._path):
            connection, self._connection = self._connection, None
            self._matrix = None
            if connection is not None:
                connection.close()

    def __enter__(self) -> SqliteGallery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with self._lock, as_gallery_errors(self._path):
            if self._connection is None:
                raise GalleryError(f"the gallery {self._path} was closed; open it again")
            yield self._connection

    def _check(self, templates: Sequence[Template]) -> None:
        check_templates(templates, model_id=self._model_id, embedding_size=self._embedding_size)

    def _current_matrix(self, connection: sqlite3.Connection) -> TemplateMatrix:
        # data_version changes when another connection commits; it is read before the rows, so
        # that a commit in between makes the next search load them again.
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if self._matrix is None or version != self._data_version:
            self._matrix, self._data_version = self._load(connection), version
        return self._matrix

    def _load(self, connection: sqlite3.Connection) -> TemplateMatrix:
        rows = connection.execute(
            "SELECT name, vector FROM template JOIN subject ON subject.id = subject_id "
            "ORDER BY template.id"
        ).fetchall()
        whole = [row for row in rows if self._is_whole(row[1])]
        return TemplateMatrix.build(
            [name for name, _ in whole],
            self._to_array([vector for _, vector in whole]),
            quarantined=len(rows) - len(whole),
        )

    def _is_whole(self, blob: object) -> bool:
        return isinstance(blob, bytes) and len(blob) == self._embedding_size * _STORED.itemsize

    def _to_array(self, blobs: Sequence[bytes]) -> FloatArray:
        flat = np.frombuffer(b"".join(blobs), _STORED)
        return flat.astype(np.float32).reshape(-1, self._embedding_size)


def _to_blob(vector: FloatArray) -> bytes:
    return vector.astype(_STORED).tobytes()


def _as_text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _subject_id(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT id FROM subject WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _require_subject(connection: sqlite3.Connection, name: str) -> int:
    subject_id = _subject_id(connection, name)
    if subject_id is None:
        raise SubjectNotFoundError("no subject of that name is enrolled")
    return subject_id


def _check_meta(connection: sqlite3.Connection, path: Path, wanted: dict[str, str]) -> None:
    found = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    if not {"model_id", "embedding_size"} <= found.keys():
        raise GalleryFormatError(f"the gallery {path} does not name its model; restore a copy")
    if all(found[key] == value for key, value in wanted.items()):
        return
    raise GalleryModelError(
        f"the gallery {path} belongs to model {short_id(found['model_id'])} (embedding size "
        f"{found['embedding_size']}), this is model {short_id(wanted['model_id'])} (embedding "
        f"size {wanted['embedding_size']}); open it with the model it was made with, or enrol "
        "the subjects again in a new gallery"
    )
