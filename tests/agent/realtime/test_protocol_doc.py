"""docs/protocol.md tells what the code decodes and encodes."""

from tests.drivers import protocol_doc


def test_the_tables_are_up_to_date():
    page = protocol_doc.PAGE.read_text()
    assert protocol_doc.updated(page) == page, "run: python -m tests.drivers.protocol_doc"


def test_notes_are_about_fields_that_exist():
    tables = protocol_doc.tables()
    for path in protocol_doc.SUPPORT:
        assert f"| `{path}` |" in tables
