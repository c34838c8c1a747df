# SPDX-License-Identifier: Apache-2.0
"""The kinds of message: one row each, so that a file of the wrong kind is refused by name.

`typ` (RFC 9596, label 16) is protected by the signature, differs for every kind, and ``docs/format.md`` lists the same
table. `Kind.next_step` is what ``tally inspect`` tells somebody who found the file.
"""

from __future__ import annotations

from typing import Final

from tallystick.record import Record


class Kind(Record):
    """One kind of signed message.

    Attributes:
        name: the word people use.
        typ: media type in the protected header.
        extension: of a file holding it; empty where it only travels inside another message.
        armor: label of the armored form; empty where there is none.
        sender, receiver: who makes it, who needs it.
        use: the key `use` that may sign it (see `license.trust`); ``container`` for a container's own key, ``factory``
            for a factory's (see `license.device`), empty for the one kind that nobody signs, which is therefore in
            none of the tables of signed messages.
        next_step: what to do with it.
    """

    name: str
    typ: str
    extension: str
    armor: str
    sender: str
    receiver: str
    use: str
    next_step: str


def with_article(name: str) -> str:
    """Put ``a`` or ``an`` before a name."""
    return f"an {name}" if name[:1] in "aeiou" else f"a {name}"


LICENSE: Final = Kind(
    "license", "application/tallystick-license+cwt", "", "LICENSE", "issuer", "container", "license",
    "It travels inside an update; import the update.",
)  # fmt: skip
REQUEST: Final = Kind(
    "request", "application/tallystick-request+cwt", ".tallyreq", "REQUEST", "container", "issuer", "container",
    "Send it to the vendor; the answer is an update (.tallyupd).",
)  # fmt: skip
UPDATE: Final = Kind(
    "update", "application/tallystick-update+cwt", ".tallyupd", "UPDATE", "issuer", "container", "license",
    "Import it where the request was made: `tally import FILE`.",
)  # fmt: skip
GRANT: Final = Kind(
    "grant", "application/tallystick-grant+cwt", ".tallygrant", "GRANT", "container", "container", "container",
    "Import it into the container it names, then send the receipt back: `tally import FILE`.",
)  # fmt: skip
RECALL: Final = Kind(
    "recall", "application/tallystick-recall+cwt", ".tallyrecall", "RECALL", "container", "container", "container",
    "Import it into the container it names, then send the receipt back: `tally import FILE`.",
)  # fmt: skip
MOVE: Final = Kind(
    "move", "application/tallystick-move+cwt", ".tallymove", "MOVE", "container", "container", "container",
    "Import it into the container it names, then send the receipt back: `tally import FILE`.",
)  # fmt: skip
RECEIPT: Final = Kind(
    "receipt", "application/tallystick-receipt+cwt", ".tallyrct", "RECEIPT", "container", "issuer", "container",
    "Send it to the vendor; it closes the exchange.",
)  # fmt: skip
REFUSAL: Final = Kind(
    "refusal", "application/tallystick-refusal+cwt", ".tallyrct", "REFUSAL", "issuer", "container", "license",
    "Import it where the request was made; it says why the request was refused.",
)  # fmt: skip
KEYSET: Final = Kind(
    "key set", "application/tallystick-keyset+cwt", "", "KEY SET", "issuer", "container", "root",
    "It travels inside an update; import the update.",
)  # fmt: skip
STATUS_LIST: Final = Kind(
    "status list", "application/statuslist+cwt", "", "STATUS LIST", "issuer", "container", "status",
    "It travels inside an update; import the update.",
)  # fmt: skip
TIME: Final = Kind(
    "time token", "application/tallystick-time+cwt", "", "TIME", "issuer", "container", "time",
    "It travels inside an update; import the update.",
)  # fmt: skip
DEVICE: Final = Kind(
    "device certificate", "application/tallystick-device+cwt", ".tallydev", "", "factory", "issuer", "factory",
    "It travels inside the requests of the device it names; the vendor pins its factory: `tally vendor factory add`.",
)  # fmt: skip
STATE: Final = Kind(
    "sealed state", "application/tallystick-state+cwt", "", "", "container", "itself", "container",
    "It never leaves the container.",
)  # fmt: skip
REPAIR: Final = Kind(
    "repair request", "application/tallystick-repair+cbor", ".tallyrepair", "REPAIR REQUEST", "container", "issuer", "",
    "Send it to the vendor's support; it is not signed, so tell them who you are.",
)  # fmt: skip

ALL: Final = (LICENSE, REQUEST, UPDATE, GRANT, RECALL, MOVE, RECEIPT, REFUSAL, KEYSET, STATUS_LIST, TIME, DEVICE, STATE)
BY_TYP: Final = {kind.typ: kind for kind in ALL}
BY_ARMOR: Final = {kind.armor: kind for kind in (*ALL, REPAIR) if kind.armor}  # in text, what is not signed, too
