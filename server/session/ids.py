"""Names of what sessions hold, and of sessions themselves."""

import secrets


def new_id(kind: str) -> str:
    """An id that nobody can guess; what opens a session has 128 bits."""
    return f"{kind}_{secrets.token_hex(16 if kind == 'resume' else 8)}"
