# SPDX-License-Identifier: Apache-2.0
"""Containers on PKCS#11 tokens (``pkcs11:``, extra ``pkcs11``): the only package that imports ``pkcs11``.

uri           ``pkcs11:`` URIs (RFC 7512)
modules       which modules this computer's administrator allows; registered reads p11-kit's registrations,
              trusted_file tells files that others can write to
library       the one importer of python-pkcs11
port          the narrow way to a module: named operations on plain values
driver        the operations, in this process; keys, objects and stored say how each is done
refusals      what a module refuses, in the words of `tallystick.errors`
token         one token: found, logged in to, opened once more where it was lost
provision     makes the keys; anchor, marks, ratchet and record keep a container by them
loading       loads a module here or, with worker and wire, in a process of its own
backend       creates, opens, views and destroys containers
signer        an issuer's key on a token; issuer_keys makes it, or takes over one that is there
"""
