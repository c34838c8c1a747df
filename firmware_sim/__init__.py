# SPDX-License-Identifier: Apache-2.0
"""The USB dongle without the device: flash memory, firmware, USB device and the factory line.

Imports `tallystick`, never the reverse. What stands in for hardware (flash, bus, faults) and what would run on a
microcontroller (flash log, firmware) are separate modules; the latter use no files, no clock and no threads.
"""
