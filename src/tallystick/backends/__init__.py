# SPDX-License-Identifier: Apache-2.0
"""Where containers keep their keys: one module a backend, each an `Anchor` and nothing more.

`tallystick.registry` loads a backend when its URI scheme is first used; nothing is imported here.
"""
