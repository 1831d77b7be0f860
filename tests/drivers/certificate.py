"""A certificate for this machine, which only who is given it trusts."""

import subprocess
from pathlib import Path


def made_in(folder: Path) -> tuple[Path, Path]:
    """Make one; give its file, and that of its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    how = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    words = ["openssl", "req", *how.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    words += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate, key
