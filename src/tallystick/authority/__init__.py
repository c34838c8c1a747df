# SPDX-License-Identifier: Apache-2.0
"""The issuing side: a vendor's products, entitlements and keys, and the answers to what containers send.

    office = Office.open("/srv/vendor")                # `authority.office`; `authority.founding` makes one
    sold = entitle(office, "cad-yearly", quantity=3)   # `authority.entitlements`
    answer = issue(office, request)                    # `authority.issuing`
    receive(office, receipt)                           # `authority.receiving`

A use case is a function of an `Office` that runs in one transaction, writes its line of the audit log in it, and
returns a small result; it neither prints nor prompts nor knows HTTP. Needs the extra ``vendor``; this package itself
imports without it.
"""
