# SPDX-License-Identifier: Apache-2.0
"""Whether an RSA modulus is one of those of CVE-2017-15361 (ROCA), whose factors can be computed.

The faulty generator made primes ``k * M + (65537 ** a mod M)``, M being the product of the first primes: 39 of them
for the shortest keys, more for longer ones. So a modulus of two such primes is a power of 65537 modulo each of the
first 39 primes, *with one exponent* (Nemec and others, "The Return of Coppersmith's Attack", CCS 2017, section 4.1).
Asking for the one exponent, not only for a power modulo each prime, leaves no room for a chance hit: one modulus in
about 2**154 would be refused wrongly, where the test of each prime by itself errs in one of 2**27.
"""

from __future__ import annotations

from math import gcd
from typing import Final

_GENERATOR: Final = 65537
_PRIMES: Final = (
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip


def _powers(prime: int) -> tuple[int, ...]:
    found, power = [], 1
    while power not in found:
        found.append(power)
        power = power * _GENERATOR % prime
    return tuple(found)


_POWERS: Final = {prime: _powers(prime) for prime in _PRIMES}  # exponent -> power; as many as the generator's order


def weak(modulus: int) -> bool:
    """Say whether a modulus has the fingerprint of the faulty generator.

    Args:
        modulus: of an RSA key.
    """
    exponent, order = 0, 1  # the exponent is known modulo the order
    for prime, powers in _POWERS.items():
        rest = modulus % prime
        if rest not in powers:
            return False
        here, period = powers.index(rest), len(powers)
        if (here - exponent) % gcd(order, period):
            return False
        while exponent % period != here:
            exponent += order
        order = order * period // gcd(order, period)
    return True
