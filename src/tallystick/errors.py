# SPDX-License-Identifier: Apache-2.0
"""Every way Tallystick refuses, in one tree and one table.

    TallystickError            .code  .message  .remedy  .details
    ├─ UsageError              a wrong argument, URI or call order (also a ValueError)
    ├─ FormatError             untrusted bytes do not parse, or are of another kind
    ├─ VerificationError       parsed, but not acceptable (.step of ``license/verify.py`` in details)
    ├─ NotLicensedError        the license does not permit this, now
    ├─ ContainerError          the container refuses or cannot
    │  ├─ NotFoundError        no such container, license, request
    │  └─ LockedError          opened read-only: binding lost, tampered, rolled back
    ├─ StorageError            the files underneath: permission, space, I/O
    ├─ BackendError            the device or library underneath (``__cause__`` is the original)
    │  └─ BackendUnavailableError   an extra, a library or a permission is missing
    └─ AuthorityError          the issuing side refuses

The *code* is the stable name of a condition; `CODES` holds, for each, the class, the exit status of ``tally``,
the HTTP status of the services, and the remedy shown when the place that raises knows no better one.
Errors describe; only the command line and the services decide how they look. Nothing here does I/O.
"""

from __future__ import annotations


class TallystickError(Exception):
    """A refusal with a stable code, a message for people and a remedy.

    Args:
        code: a key of `CODES`.
        message: one sentence that names what was refused and why, without secrets.
        remedy: one sentence that says what the user can do; the table's remedy if omitted.
        details: facts a program may want (plain values, no secrets), e.g. ``available=3``.
    """

    def __init__(self, code: str, message: str, remedy: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = CODES[code].remedy if remedy is None else remedy
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling (process pools, worker processes)."""
        return (_rebuild, (type(self), self.code, self.message, self.remedy, self.details))


def _rebuild(
    cls: type[TallystickError], code: str, message: str, remedy: str, details: dict[str, object]
) -> TallystickError:
    return cls(code, message, remedy, **details)


class UsageError(TallystickError, ValueError):
    """A wrong argument, URI or order of calls: the program or the command line must change."""


class FormatError(TallystickError):
    """Untrusted bytes do not parse, are too large, or are a file of another kind."""


class VerificationError(TallystickError):
    """The bytes parse, but a signature, a key or a binding is not acceptable."""


class NotLicensedError(TallystickError):
    """The license does not permit this, now; ``details`` says what is left or until when."""


class ContainerError(TallystickError):
    """The container refuses, or cannot do this."""


class NotFoundError(ContainerError):
    """There is no such container, license or request."""


class LockedError(ContainerError):
    """The container can only be read: binding lost, tampered with or rolled back. Nothing was deleted."""


class StorageError(TallystickError):
    """The files underneath: missing permission, no space, an I/O error."""


class BackendError(TallystickError):
    """The device or library underneath failed; ``__cause__`` is the original error."""


class BackendUnavailableError(BackendError):
    """A backend cannot be used here: an extra, a library, a device or a permission is missing."""


class AuthorityError(TallystickError):
    """The issuing side refuses."""


class Code:
    """What the table knows of one condition: its class, exit status, HTTP status and default remedy."""

    __slots__ = ("cls", "exit_status", "http_status", "remedy", "title")

    def __init__(self, cls: type[TallystickError], exit_status: int, http_status: int, title: str, remedy: str) -> None:
        self.cls = cls
        self.exit_status = exit_status
        self.http_status = http_status
        self.title = title
        self.remedy = remedy


# Exit statuses: 2 usage, 3 not acceptable bytes, 4 not found, 5 authorization, 6 backend unavailable,
# 7 not licensed, 8 container locked or refusing, 9 storage. 1 is left for a defect of ours.
_SUPPORT = "Ask the vendor's support; `tally explain` and `tally doctor` print what they need."
_FRESH_FILE = "Ask the sender for the file again and import it unchanged."

CODES: dict[str, Code] = {
    # -- usage
    "usage": Code(UsageError, 2, 400, "wrong argument or call", "See `tally --help` or the docstring."),
    "bad_uri": Code(
        UsageError, 2, 400, "the container URI is not understood",
        "Use for example `file:` (the default container), `file:NAME` or `file:/path/to/folder`.",
    ),
    "closed": Code(UsageError, 2, 400, "used after close", "Open the container again."),
    "unknown_scheme": Code(
        UsageError, 2, 400, "no backend for this URI scheme", "`tally doctor` lists the backends and what each needs."
    ),
    "not_counted": Code(UsageError, 2, 400, "the license counts no units", "Call `consume` only for counted features."),
    "vendor_needed": Code(
        UsageError, 2, 400, "several vendors are trusted", "Pass `vendor=` so that one vendor cannot answer for another."
    ),
    # -- bytes
    "malformed": Code(FormatError, 3, 400, "not a Tallystick message, or damaged", _FRESH_FILE),
    "too_large": Code(FormatError, 3, 413, "larger than any valid message", "Check that this is the right file."),
    "wrong_kind": Code(FormatError, 3, 400, "a Tallystick file of another kind", "`tally inspect FILE` says what it is for."),
    "unsupported_version": Code(FormatError, 3, 400, "written by a newer version", "Update Tallystick, then try again."),
    "armor_damaged": Code(FormatError, 3, 400, "the pasted text is damaged", "Copy the whole block again, with both dashed lines."),
    "qr_too_large": Code(FormatError, 3, 413, "too large for one QR code", "Use the file or the text form."),
    # -- verification
    "bad_signature": Code(VerificationError, 3, 422, "the signature does not verify", _FRESH_FILE),
    "unknown_issuer": Code(
        VerificationError, 3, 422, "signed by nobody this application trusts",
        "Check that the file comes from this product's vendor; if the vendor changed keys, import its newest update.",
    ),
    "key_use": Code(VerificationError, 3, 422, "signed by a key of another purpose", _SUPPORT),
    "key_validity": Code(VerificationError, 3, 422, "signed outside the key's validity", _SUPPORT),
    "keyset_rollback": Code(
        VerificationError, 3, 422, "an older key set than the one known", "Ask the vendor for an update made today."
    ),
    "bad_key": Code(VerificationError, 3, 422, "an unacceptable public key", _SUPPORT),
    "wrong_container": Code(
        VerificationError, 3, 422, "made for another container",
        "Import it where the request was made; `tally info` shows this container's id.",
    ),
    "wrong_vendor": Code(VerificationError, 3, 422, "made by or for another vendor", "Send it to the vendor it names."),
    "decrypt_failed": Code(
        VerificationError, 3, 422, "cannot be decrypted here", "Content opens only in the container licensed for it."
    ),
    "status_list_rollback": Code(
        VerificationError, 3, 422, "an older status list than the one known", "Ask the vendor for a current one."
    ),
    # -- licensing decisions
    "not_licensed": Code(
        NotLicensedError, 7, 403, "no license for this product",
        "Activate it: `tally request`, send the file to the vendor, `tally import` the answer.",
    ),
    "feature_not_licensed": Code(NotLicensedError, 7, 403, "the license does not include this feature", "Ask the vendor for an upgrade."),
    "not_yet_valid": Code(NotLicensedError, 7, 403, "the license starts later", "Wait, or check the computer's clock."),
    "expired": Code(NotLicensedError, 7, 403, "the license has expired", "Renew with the vendor, then `tally import` the update."),
    "usage_period_over": Code(
        NotLicensedError, 7, 403, "the usage period from first use is over", "Renew with the vendor, then `tally import` the update."
    ),
    "units_exhausted": Code(NotLicensedError, 7, 403, "not enough units left", "Buy units, then `tally import` the update."),
    "maintenance_over": Code(
        NotLicensedError, 7, 403, "this release is outside the maintenance period",
        "Use a release from inside the period, or renew maintenance.",
    ),
    "version_not_licensed": Code(
        NotLicensedError, 7, 403, "this version is newer than licensed", "Use the licensed version, or ask for an upgrade."
    ),
    "level_too_low": Code(
        NotLicensedError, 7, 403, "the license needs a more secure container",
        "Activate it in a container of the required level (TPM, token or dongle).",
    ),
    "check_in_overdue": Code(
        NotLicensedError, 7, 403, "the contact check-in is overdue",
        "Refresh: `tally request --refresh`, send the file, `tally import` the answer.",
    ),
    "suspended": Code(NotLicensedError, 7, 403, "suspended by the vendor", "Ask the vendor; an update lifts the suspension."),
    "revoked": Code(NotLicensedError, 7, 403, "revoked by the vendor", "Ask the vendor."),
    "deactivated": Code(NotLicensedError, 7, 403, "given up by this container", "Activate again with a new request."),
    "mode_denied": Code(NotLicensedError, 7, 403, "the license forbids this access mode", "Use another access mode."),
    "seats_in_use": Code(NotLicensedError, 7, 409, "all seats are in use", "Close one of the programs listed, or wait."),
    # -- container
    "container_not_found": Code(NotFoundError, 4, 404, "no container there", "Create one: `tally create`."),
    "license_not_found": Code(NotFoundError, 4, 404, "no such license", "`tally list` shows what this container holds."),
    "request_not_found": Code(
        NotFoundError, 4, 404, "this container never made that request, or it was cancelled",
        "`tally show --requests` lists the open ones; make a new one with `tally request`.",
    ),
    "vendor_unknown": Code(
        NotFoundError, 4, 404, "this container does not know that vendor", "Pass the vendor's trust text: `tally request --trust FILE`."
    ),
    "already_exists": Code(ContainerError, 8, 409, "a container is already there", "Open it, or choose another place."),
    "request_refused": Code(ContainerError, 8, 409, "the issuer refused the request", "Do what its message says."),
    "not_supported": Code(ContainerError, 8, 501, "this container cannot do that", "Use a container with the capability named."),
    "full": Code(ContainerError, 8, 507, "the container is full", "Deactivate licenses no longer needed, or create a second container."),
    "idempotency_conflict": Code(
        ContainerError, 8, 409, "the idempotency key was used for another amount", "Use a new key for a new operation."
    ),
    "not_conserved": Code(ContainerError, 8, 409, "the books would not balance", _SUPPORT),
    "lending_denied": Code(ContainerError, 8, 403, "the license forbids lending or transfer", "Ask the vendor for other terms."),
    "no_reservation": Code(ContainerError, 8, 409, "that reservation is closed", "Reserve again."),
    "held_elsewhere": Code(
        ContainerError, 8, 409, "part of this license is lent or in transit", "Wait for its return, or recall it."
    ),
    "busy": Code(ContainerError, 8, 503, "another process holds the container's lock", "Try again in a moment."),
    "binding_lost": Code(
        LockedError, 8, 423, "this computer is not the one the container was made on",
        "`tally explain` shows what changed; `tally request --repair` makes a repair request for the vendor.",
    ),
    "binding_unreadable": Code(
        LockedError, 8, 423, "too little of this computer can be read to recognize it",
        "Run with the rights it was created with, or start the service that is stopped, then try again: nothing is lost.",
    ),
    "tampered": Code(
        LockedError, 8, 423, "the container's files were changed or damaged",
        "Restore nothing; `tally request --repair` makes a repair request for the vendor.",
    ),
    "rolled_back": Code(
        LockedError, 8, 423, "the container's files are older than its anchor",
        "`tally request --repair` makes a repair request for the vendor.",
    ),
    "read_only": Code(LockedError, 8, 423, "the container is open read-only", "See the reason `tally info` shows."),
    # -- storage
    "no_permission": Code(StorageError, 9, 500, "no permission for the container's folder", "Run as its owner, or fix the owner and mode named."),
    "unsafe_path": Code(
        StorageError, 9, 500, "the container's folder is not safe to use",
        "Remove what stands at the path named; the folder must be yours, mode 0700, with plain files only.",
    ),
    "no_space": Code(StorageError, 9, 507, "no space left", "Free some space, then repeat: nothing was lost."),
    "io_error": Code(StorageError, 9, 500, "reading or writing failed", "Check the disk, then repeat: nothing was acknowledged."),
    "unsafe_filesystem": Code(
        StorageError, 9, 500, "a network file system cannot hold a container", "Use a folder on a local disk."
    ),
    # -- backend
    "backend_unavailable": Code(BackendUnavailableError, 6, 501, "this backend cannot be used here", "`tally doctor` says what is missing."),
    "backend_failed": Code(BackendError, 6, 502, "the device or library failed", "Reconnect the device and try again."),
    "identity_missing": Code(
        BackendError, 6, 424, "the operator-supplied identity is missing",
        "Pass the identity file the container was created with: `file:...?identity-file=PATH`.",
    ),
    # -- authority
    "code_invalid": Code(AuthorityError, 5, 403, "this activation code cannot be used", "Check for a typing error, then ask the vendor's sales desk."),
    "code_typo": Code(AuthorityError, 5, 400, "the activation code is mistyped", "Compare it with the original, symbol by symbol."),
    "quantity_exhausted": Code(AuthorityError, 5, 409, "all activations of this code are in use", "Deactivate one and send its receipt, or buy more."),
    "wrong_product": Code(AuthorityError, 5, 409, "the code is for another product", "Request the product the code was bought for."),
    "offline_denied": Code(AuthorityError, 5, 403, "this license may not be activated offline", "Activate online."),
    "proof_failed": Code(AuthorityError, 5, 422, "the request does not prove its key", "Make a new request with `tally request`."),
    "receipt_unknown": Code(AuthorityError, 4, 404, "this receipt belongs to no license issued here", "Check that it is for this vendor."),
    "record_not_found": Code(AuthorityError, 4, 404, "no such record", "List the records to find its name."),
    "record_exists": Code(AuthorityError, 8, 409, "a record of that name exists", "Choose another name."),
    "audit_broken": Code(AuthorityError, 8, 500, "the audit log was altered", "Keep the database as it is and compare it with a backup."),
    "schema_version": Code(AuthorityError, 8, 500, "the database has another schema version", "Run `tally vendor init --upgrade`."),
}


def error(code: str, message: str, remedy: str | None = None, **details: object) -> TallystickError:
    """Build the error of a code, in the class the table gives it.

    Args:
        code: a key of `CODES`.
        message: what was refused and why.
        remedy: what to do; the table's remedy if omitted.
        details: plain facts for programs.

    Returns:
        The exception, to be raised by the caller.
    """
    return CODES[code].cls(code, message, remedy, **details)
