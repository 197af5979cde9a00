"""The tables of a gallery file, and the statements that read and write them.

Every statement is a constant of this module; values are always bound parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "COUNT_TEMPLATES",
    "STATEMENTS",
    "TABLE",
    "TABLES",
    "TEMPLATES_OF_MODEL",
    "TEMPLATES_OF_SUBJECT",
    "TEMPLATE_ROWS_OF_MODEL",
    "TEMPLATE_ROWS_OF_SUBJECT",
    "TEMPLATE_UIDS",
    "Table",
]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that the sealed head covers: its columns with their types, and its statements."""

    name: str
    columns: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, ``id`` first."""
        return ("id", *(name for name, _ in self.columns))

    # The names are constants of this file: SQLite takes no bound parameters for them.
    @property
    def create(self) -> str:
        """The statement that makes the table."""
        lines = ",\n    ".join(f"{name} {kind}" for name, kind in self.columns)
        return f"CREATE TABLE {self.name} (\n    id INTEGER PRIMARY KEY,\n    {lines}\n)"

    @property
    def select(self) -> str:
        """The statement that reads every row."""
        return f"SELECT {', '.join(self.names)} FROM {self.name} ORDER BY id"

    @property
    def select_one(self) -> str:
        """The statement that reads the row of an id."""
        return f"SELECT {', '.join(self.names)} FROM {self.name} WHERE id = ?"

    @property
    def select_after(self) -> str:
        """The statement that reads some rows whose ids are above a value."""
        columns = ", ".join(self.names)
        return f"SELECT {columns} FROM {self.name} WHERE id > ? ORDER BY id LIMIT ?"

    def select_by(self, column: str) -> str:
        """The statement that reads the rows with a value in ``column``, a name of this file."""
        return f"SELECT {', '.join(self.names)} FROM {self.name} WHERE {column} = ?"

    @property
    def insert(self) -> str:
        """The statement that adds a row, without its id."""
        marks = ", ".join("?" for _ in self.columns)
        return f"INSERT INTO {self.name} ({', '.join(self.names[1:])}) VALUES ({marks})"

    @property
    def update(self) -> str:
        """The statement that sets every column of the row of an id, which comes last."""
        pairs = ", ".join(f"{name} = ?" for name, _ in self.columns)
        return f"UPDATE {self.name} SET {pairs} WHERE id = ?"

    @property
    def delete(self) -> str:
        """The statement that removes the row of an id."""
        return f"DELETE FROM {self.name} WHERE id = ?"


# quick_check tests the CHECK clauses of stored rows.
_TEXT = "TEXT NOT NULL CHECK (typeof({0}) = 'text')"
_BLOB = "BLOB NOT NULL CHECK (typeof({0}) = 'blob')"
_INTEGER = "INTEGER NOT NULL CHECK (typeof({0}) = 'integer')"
_PERSON = "INTEGER NOT NULL REFERENCES subject (id)"


def _columns(**kinds: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, kind.format(name)) for name, kind in kinds.items())


TABLES = (
    Table("meta", _columns(key=_TEXT + " UNIQUE", value=_TEXT)),
    # state: active, incoming or previous. One model is active; only its templates are searched.
    Table("model", _columns(model_id=_TEXT + " UNIQUE", size=_INTEGER, state=_TEXT)),
    Table("slot", _columns(source=_TEXT, key_id=_BLOB, parameters=_TEXT, wrapped=_BLOB)),
    Table(
        "subject",
        _columns(
            uid=_BLOB + " UNIQUE", lookup=_BLOB + " UNIQUE", version=_INTEGER,
            wrapped_key=_BLOB, record=_BLOB,
        ),
    ),
    Table(
        "template",
        _columns(
            uid=_BLOB + " UNIQUE", subject=_PERSON,
            model="INTEGER NOT NULL REFERENCES model (id)", version=_INTEGER, record=_BLOB,
        ),
    ),
    Table("crop", _columns(uid=_BLOB + " UNIQUE", subject=_PERSON, version=_INTEGER, record=_BLOB)),
    # One row for each forgotten person: a keyed mark that says nothing without the gallery's key,
    # so that a restored backup does not bring the person back; and the counts of the receipt.
    Table("forgotten", _columns(mark=_BLOB + " UNIQUE", cleaned=_INTEGER, receipt=_TEXT)),
)  # fmt: skip
TABLE = {table.name: table for table in TABLES}
STATEMENTS = (
    *(table.create for table in TABLES),
    "CREATE INDEX template_of_subject ON template (subject)",
    "CREATE INDEX crop_of_subject ON crop (subject)",
    """CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    counter INTEGER NOT NULL CHECK (typeof(counter) = 'integer'),
    digest BLOB NOT NULL CHECK (typeof(digest) = 'blob'),
    mac BLOB NOT NULL CHECK (typeof(mac) = 'blob')
)""",
)

_TEMPLATE = f"SELECT {', '.join(TABLE['template'].names)} FROM template"
TEMPLATES_OF_SUBJECT = f"{_TEMPLATE} WHERE subject = ? AND model = ? ORDER BY id"
TEMPLATES_OF_MODEL = f"{_TEMPLATE} WHERE model = ? AND id > ? ORDER BY id LIMIT ?"
TEMPLATE_ROWS_OF_SUBJECT = "SELECT id FROM template WHERE subject = ? ORDER BY id"
TEMPLATE_ROWS_OF_MODEL = "SELECT id FROM template WHERE model = ? ORDER BY id"
TEMPLATE_UIDS = "SELECT subject, uid FROM template WHERE model = ? ORDER BY id"
COUNT_TEMPLATES = "SELECT subject, count(*) FROM template WHERE model = ? GROUP BY subject"
