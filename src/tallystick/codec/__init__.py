# SPDX-License-Identifier: Apache-2.0
"""Bytes and keys: strict CBOR, COSE messages, key records, armored text, QR. No I/O, no clock.

>>> from tallystick.codec import cbor
>>> cbor.decode(cbor.encode({1: "a"}))
{1: 'a'}
"""
