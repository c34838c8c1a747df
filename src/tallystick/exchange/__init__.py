# SPDX-License-Identifier: Apache-2.0
"""Use cases over containers: files in, files out. No command line here, no prompt, no color."""
