"""Settings of whoever tells that somebody came."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from services.common.notify import letters


def _url(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        letters.check_url(url.get_secret_value())
    return url


def _secret(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        letters.check_secret(secret.get_secret_value())
    return secret


ReceiverUrl = Annotated[SecretStr | None, AfterValidator(_url)]
"""Who is told; see `letters.check_url`."""
ReceiverSecret = Annotated[SecretStr | None, AfterValidator(_secret)]
"""What messages are signed with; see `letters.check_secret`."""
