"""Text as editors and shells write it into files."""

import codecs

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_in(content: bytes, errors: str = "strict") -> str:
    """Decode UTF-8, with or without a byte order mark, or UTF-16, which must have one.

    Raises:
        UnicodeError: If it is neither, unless `errors` says otherwise.
    """
    return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig", errors)
