"""Types of the settings for notifications."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from services.common.notify import notifications


def _url(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        notifications.check_url(url.get_secret_value())
    return url


def _secret(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        notifications.check_secret(secret.get_secret_value())
    return secret


ReceiverUrl = Annotated[SecretStr | None, AfterValidator(_url)]
"""The receiver's address; see `notifications.check_url`."""
ReceiverSecret = Annotated[SecretStr | None, AfterValidator(_secret)]
"""The secret that signs messages; see `notifications.check_secret`."""
