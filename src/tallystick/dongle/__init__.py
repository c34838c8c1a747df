# SPDX-License-Identifier: Apache-2.0
"""The Tallystick dongle, seen from the host: frames, secure channel, calls, and the container that stands on them.

The device keeps the account itself and runs the ledger; the host asks (``docs/dongle-protocol.md``). Nothing here knows
how the bytes travel: a `link.Link` does, USB or a simulator's. The firmware imports the same frames, channel and calls.
"""
