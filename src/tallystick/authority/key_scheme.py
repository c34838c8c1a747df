# SPDX-License-Identifier: Apache-2.0
"""What each kind of place for the vendor's private keys offers: one `Scheme` for each URI scheme.

The table of them is in `authority.signers`. A key that is not in a file of its own has a name, under which the vendor's
folder keeps what is needed to find it again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from tallystick.authority.home import Home
from tallystick.codec.signing import Signer
from tallystick.container.secrets import SecretRequest

Passphrase: TypeAlias = Callable[[str | SecretRequest], bytes]
"""Given the path of an encrypted key file, returns its passphrase; given a token's request, returns its PIN. Whoever
answers must tell them apart: a token counts what it refuses, and locks itself."""


class Scheme(ABC):
    """Keys of one URI scheme, for one vendor.

    Args:
        home: the vendor's folder.
        ask: asked for passphrases and PINs; None where nobody can be.
    """

    def __init__(self, home: Home, ask: Passphrase | None) -> None:
        self._home = home
        self._ask = ask

    @staticmethod
    @abstractmethod
    def require_possible(uri: str, alg: int) -> None:
        """Refuse to make a key of an algorithm where there are none of it, or at a URI that is none.

        Args:
            uri: where.
            alg: COSE algorithm number.

        Raises:
            UsageError: ``usage``, ``bad_uri``.
        """

    @staticmethod
    @abstractmethod
    def is_named(uri: str) -> bool:
        """Tell whether a URI says which key."""

    @staticmethod
    @abstractmethod
    def named(uri: str, name: str) -> str:
        """Give a URI without a name one.

        Args:
            uri: of the scheme.
            name: letters, digits, ``.``, ``_``, ``-``.
        """

    @staticmethod
    @abstractmethod
    def file_name(uri: str) -> str:
        """Return the file of a key: its path below the vendor's folder, or an absolute one.

        Args:
            uri: with a name.

        Raises:
            UsageError: ``usage``, ``bad_uri``.
        """

    @abstractmethod
    def create(self, uri: str, alg: int, passphrase: bytes | None) -> Signer:
        """Make a key, and its file.

        Args:
            uri: with a name.
            alg: COSE algorithm number.
            passphrase: encrypts a key that is in the file itself.

        Returns:
            Its signer.

        Raises:
            TallystickError: as `KeyStore.create`.
        """

    @abstractmethod
    def open(self, uri: str) -> Signer:
        """Open a key, and ask for what opens it.

        Args:
            uri: with a name.

        Returns:
            Its signer.

        Raises:
            TallystickError: as `KeyStore.open`.
        """

    def close(self) -> None:
        """Let go of devices; their keys do not sign any more."""
