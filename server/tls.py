"""The certificate with which the server speaks TLS, if it has one."""

import ssl

from agent.errors import SettingsError
from server.settings import Listen


def certificate(listen: Listen) -> ssl.SSLContext | None:
    """Read the certificate.

    Raises:
        SettingsError: If one of the two files is missing or unusable.
    """
    if not listen.certificate and not listen.certificate_key:
        return None
    if not listen.certificate or not listen.certificate_key:
        missing = "certificate_key" if listen.certificate else "certificate"
        raise SettingsError(f"listen.{missing}: a certificate and its key are needed together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(listen.certificate, listen.certificate_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"listen.certificate: {listen.certificate}: {error}") from error
    return context
