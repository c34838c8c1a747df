# SPDX-License-Identifier: Apache-2.0
"""What a license says, who may say it, and what it permits. No I/O, no clock."""
