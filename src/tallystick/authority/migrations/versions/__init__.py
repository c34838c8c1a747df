# SPDX-License-Identifier: Apache-2.0
"""One file for each revision, oldest first; a published one is never edited."""
