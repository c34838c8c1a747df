# SPDX-License-Identifier: Apache-2.0
"""The table of conditions: code -> (class in `errors`, exit status of ``tally``, HTTP status, what it is, what to do).

A code is the stable name of one condition; programs may compare it. Exit statuses: 2 wrong call, 3 bytes not
acceptable, 4 not found, 5 not authorized, 6 backend unavailable, 7 not licensed, 8 the container refuses or is locked,
9 storage; 1 is left for defects of ours. ``docs/errors.md`` is made from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_SUPPORT: Final = "Ask the vendor's support; `tally explain` and `tally doctor` print what they need."
_FRESH_FILE: Final = "Ask the sender for the file again and import it unchanged."

Row = tuple[str, int, int, str, str]

# fmt: off
TABLE: Final[Mapping[str, Row]] = MappingProxyType({
    # -- usage
    "usage": ("UsageError", 2, 400, "wrong argument or call", "See `tally --help` or the docstring."),
    "bad_uri": ("UsageError", 2, 400, "the container URI is not understood",
        "Use for example `file:` (the default container), `file:NAME` or `file:/path/to/folder`."),
    "closed": ("UsageError", 2, 400, "used after close", "Open the container again."),
    "unknown_scheme": ("UsageError", 2, 400, "no backend for this URI scheme",
        "`tally doctor` lists the backends and what each needs."),
    "not_counted": ("UsageError", 2, 400, "the license counts no units", "Call `consume` only for counted features."),
    "vendor_needed": ("UsageError", 2, 400, "several vendors are trusted",
        "Pass `vendor=` so that one vendor cannot answer for another."),
    "file_not_found": ("UsageError", 2, 404, "there is no such file",
        "Check the path; `-` stands for what is piped or pasted."),
    "file_exists": ("UsageError", 2, 409, "the output file exists already", "Choose another name, or pass `--force`."),
    "ambiguous": ("UsageError", 2, 409, "several things answer to that name", "Use one of the ids listed."),
    "not_confirmed": ("UsageError", 2, 400, "the confirmation was not given", "Answer `y`, or pass `--yes`."),
    # -- bytes
    "malformed": ("FormatError", 3, 400, "not a Tallystick message, or damaged", _FRESH_FILE),
    "too_large": ("FormatError", 3, 413, "larger than any valid message", "Check that this is the right file."),
    "wrong_kind": ("FormatError", 3, 400, "a Tallystick file of another kind",
        "`tally inspect FILE` says what it is for."),
    "unsupported_version": ("FormatError", 3, 400, "written by a newer version", "Update Tallystick, then try again."),
    "armor_damaged": ("FormatError", 3, 400, "the pasted text is damaged",
        "Copy the whole block again, with both dashed lines."),
    "qr_too_large": ("FormatError", 3, 413, "too large for one QR code", "Use the file or the text form."),
    # -- verification
    "bad_signature": ("VerificationError", 3, 422, "the signature does not verify", _FRESH_FILE),
    "unknown_issuer": ("VerificationError", 3, 422, "signed by nobody this application trusts",
        "Check that the file comes from this product's vendor; if the vendor changed keys, import its newest update."),
    "key_use": ("VerificationError", 3, 422, "signed by a key of another purpose", _SUPPORT),
    "key_validity": ("VerificationError", 3, 422, "signed outside the key's validity", _SUPPORT),
    "keyset_rollback": ("VerificationError", 3, 422, "an older key set than the one known",
        "Ask the vendor for an update made today."),
    "bad_key": ("VerificationError", 3, 422, "an unacceptable public key", _SUPPORT),
    "wrong_container": ("VerificationError", 3, 422, "made for another container",
        "Import it where the request was made; `tally info` shows this container's id."),
    "wrong_vendor": ("VerificationError", 3, 422, "made by or for another vendor", "Send it to the vendor it names."),
    "decrypt_failed": ("VerificationError", 3, 422, "cannot be decrypted here",
        "Content opens only in the container licensed for it."),
    "status_list_rollback": ("VerificationError", 3, 422, "an older status list than the one known",
        "Ask the vendor for a current one."),
    # -- licensing decisions
    "not_licensed": ("NotLicensedError", 7, 403, "no license for this product",
        "Activate it: `tally request`, send the file to the vendor, `tally import` the answer."),
    "feature_not_licensed": ("NotLicensedError", 7, 403, "the license does not include this feature",
        "Ask the vendor for an upgrade."),
    "not_yet_valid": ("NotLicensedError", 7, 403, "the license starts later", "Wait, or check the computer's clock."),
    "expired": ("NotLicensedError", 7, 403, "the license has expired",
        "Renew with the vendor, then `tally import` the update."),
    "usage_period_over": ("NotLicensedError", 7, 403, "the usage period from first use is over",
        "Renew with the vendor, then `tally import` the update."),
    "units_exhausted": ("NotLicensedError", 7, 403, "not enough units left",
        "Buy units, then `tally import` the update."),
    "maintenance_over": ("NotLicensedError", 7, 403, "this release is outside the maintenance period",
        "Use a release from inside the period, or renew maintenance."),
    "version_not_licensed": ("NotLicensedError", 7, 403, "this version is newer than licensed",
        "Use the licensed version, or ask for an upgrade."),
    "level_too_low": ("NotLicensedError", 7, 403, "the license needs a more secure container",
        "Activate it in a container of the required level (TPM, token or dongle)."),
    "check_in_overdue": ("NotLicensedError", 7, 403, "the contact check-in is overdue",
        "Refresh: `tally request --refresh`, send the file, `tally import` the answer."),
    "suspended": ("NotLicensedError", 7, 403, "suspended by the vendor",
        "Ask the vendor; an update lifts the suspension."),
    "revoked": ("NotLicensedError", 7, 403, "revoked by the vendor", "Ask the vendor."),
    "deactivated": ("NotLicensedError", 7, 403, "given up by this container", "Activate again with a new request."),
    # -- container
    "container_not_found": ("NotFoundError", 4, 404, "no container there", "Create one: `tally create`."),
    "license_not_found": ("NotFoundError", 4, 404, "no such license", "`tally list` shows what this container holds."),
    "request_not_found": ("NotFoundError", 4, 404, "this container never made that request, or it was cancelled",
        "`tally show --requests` lists the open ones; make a new one with `tally request`."),
    "receipt_not_found": ("NotFoundError", 4, 404, "this container never made that receipt",
        "`tally show --receipts` lists the receipts it made."),
    "vendor_unknown": ("NotFoundError", 4, 404, "this container does not know that vendor",
        "Pass the vendor's trust text: `tally request --trust FILE`."),
    "already_exists": ("ContainerError", 8, 409, "a container is already there", "Open it, or choose another place."),
    "request_refused": ("ContainerError", 8, 409, "the issuer refused the request", "Do what its message says."),
    "not_supported": ("ContainerError", 8, 501, "this container cannot do that",
        "Use a container with the capability named."),
    "full": ("ContainerError", 8, 507, "the container is full",
        "Deactivate licenses no longer needed, or create a second container."),
    "idempotency_conflict": ("ContainerError", 8, 409, "the idempotency key was used for another amount",
        "Use a new key for a new operation."),
    "not_conserved": ("ContainerError", 8, 409, "the books would not balance", _SUPPORT),
    "lending_denied": ("ContainerError", 8, 403, "the license forbids lending or transfer",
        "Ask the vendor for other terms."),
    "no_reservation": ("ContainerError", 8, 409, "that reservation is closed", "Reserve again."),
    "held_elsewhere": ("ContainerError", 8, 409, "part of this license is lent or in transit",
        "Wait for its return, or recall it."),
    "busy": ("ContainerError", 8, 503, "another process holds the container's lock", "Try again in a moment."),
    "binding_lost": ("LockedError", 8, 423, "this computer is not the one the container was made on",
        "`tally explain` shows what changed; `tally request --repair` makes a repair request for the vendor."),
    "binding_unreadable": ("LockedError", 8, 423, "too little of this computer can be read to recognize it",
        "Run with the rights it was created with, or start the service that is stopped, then try again: "
        "nothing is lost."),
    "tampered": ("LockedError", 8, 423, "the container's files were changed or damaged",
        "Restore nothing; `tally request --repair` makes a repair request for the vendor."),
    "rolled_back": ("LockedError", 8, 423, "the container's files are older than its anchor",
        "`tally request --repair` makes a repair request for the vendor."),
    "read_only": ("LockedError", 8, 423, "the container is open read-only", "See the reason `tally info` shows."),
    # -- storage
    "no_permission": ("StorageError", 9, 500, "no permission for the container's folder",
        "Run as its owner, or give this user the right to read and write there."),
    "unsafe_path": ("StorageError", 9, 500, "the container's folder is not safe to use",
        "Remove what stands at the path named; the folder must be yours, mode 0700, with plain files only."),
    "no_space": ("StorageError", 9, 507, "no space left", "Free some space, then repeat: nothing was lost."),
    "io_error": ("StorageError", 9, 500, "reading or writing failed",
        "Check the disk, then repeat: nothing was acknowledged."),
    "unsafe_filesystem": ("StorageError", 9, 500, "a network file system cannot hold a container",
        "Use a folder on a local disk."),
    # -- backend
    "backend_unavailable": ("BackendUnavailableError", 6, 501, "this backend cannot be used here",
        "`tally doctor` says what is missing."),
    "backend_failed": ("BackendError", 6, 502, "the device or library failed", "Reconnect the device and try again."),
    "identity_missing": ("BackendError", 6, 424, "the operator-supplied identity is missing",
        "Pass the identity file the container was created with: `file:...?identity-file=PATH`."),
    # -- authority
    "code_invalid": ("AuthorityError", 5, 403, "this activation code cannot be used",
        "Check for a typing error, then ask the vendor's sales desk."),
    "code_typo": ("AuthorityError", 5, 400, "the activation code is mistyped",
        "Compare it with the original, symbol by symbol."),
    "quantity_exhausted": ("AuthorityError", 5, 409, "all activations of this code are in use",
        "Deactivate one and send its receipt, or buy more."),
    "wrong_product": ("AuthorityError", 5, 409, "the code is for another product",
        "Request the product the code was bought for."),
    "offline_denied": ("AuthorityError", 5, 403, "this license may not be activated offline", "Activate online."),
    "proof_failed": ("AuthorityError", 5, 422, "the request does not prove its key",
        "Make a new request with `tally request`."),
    "receipt_unknown": ("AuthorityError", 4, 404, "this receipt belongs to no license issued here",
        "Check that it is for this vendor."),
    "record_not_found": ("AuthorityError", 4, 404, "no such record", "List the records to find its name."),
    "record_exists": ("AuthorityError", 8, 409, "a record of that name exists", "Choose another name."),
    "key_missing": ("AuthorityError", 4, 424, "a secret file of the vendor is not there",
        "Bring the file back to the vendor's folder, or name the folder with `--home`."),
    "audit_broken": ("AuthorityError", 8, 500, "the audit log was altered",
        "Keep the database as it is and compare it with a backup."),
    "schema_version": ("AuthorityError", 8, 500, "the database has another schema version",
        "Run `tally vendor init --upgrade`."),
})
# fmt: on
