# SPDX-License-Identifier: Apache-2.0
"""What a vendor checks to believe that a container lives in a genuine TPM 2.0, offline and without a TPM library.

`verify.examine` takes the evidence of a request and returns what holds, or refuses with the check that failed;
`credential.make_credential` then encrypts a secret that only that TPM, holding that attestation key, can open. Until
the container has opened it, the evidence shows only what a TPM *would* have signed: an update sealed to the credential
is what turns the level into a fact.
"""
