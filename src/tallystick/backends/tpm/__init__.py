# SPDX-License-Identifier: Apache-2.0
"""Containers in a TPM 2.0 (``tpm:``, extra ``tpm``): the only package that imports ``tpm2_pytss``.

backend     creates, opens, views and destroys containers
anchor      the two key pairs, the sealed state key and the position (protocol P4) of one container
evidence    what proves to an issuer that they are in a TPM
objects nv  keys and NV indices
chip        the connection: reconnects, salted sessions, errors of the TPM in the words of `tallystick.errors`
record      what a container's folder remembers of its TPM
uri         ``tpm:`` URIs
"""
