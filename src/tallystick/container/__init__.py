# SPDX-License-Identifier: Apache-2.0
"""What a container is: pure ledger, crash-safe store, anchor interface, sealed container, seat."""
