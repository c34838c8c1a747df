# SPDX-License-Identifier: Apache-2.0
"""One connection to a TPM, which may break and come back.

`Chip.run` gives a function the library's `ESAPI` object and translates what the TPM answers into `tallystick.errors`;
the TPM's own response code stands in ``details["rc"]``. What was loaded into the TPM belongs to one connection:
`Chip.kept` loads it again after the next one was made. A TPM without a resource manager has room for three keys and
three sessions, so nothing else stays loaded (`Chip.loaded`), and what a killed program left there is thrown out when
there is no room.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from tallystick.backends.tpm.library import ESAPI, ESYS_TR, TCTI, TPM2_CAP, TPM2_PT, TPM2_RC, TSS2_Exception
from tallystick.backends.tpm.transport import Connect, transport
from tallystick.backends.tpm.uri import DEFAULT_TCTI
from tallystick.errors import TallystickError, error

_T = TypeVar("_T")

_LAYER: Final = 0xFF0000  # of a response code of libtss2: 0 is the TPM itself, 0xb and 0xc are resource managers
_FROM_TPM: Final = (0x000000, 0x0B0000, 0x0C0000)
_NO_ROOM: Final = (
    TPM2_RC.OBJECT_MEMORY, TPM2_RC.SESSION_MEMORY, TPM2_RC.OBJECT_HANDLES, TPM2_RC.SESSION_HANDLES,
    TPM2_RC.MEMORY,
)  # fmt: skip
_FORGOTTEN: Final = (TPM2_RC.INITIALIZE, *range(TPM2_RC.REFERENCE_H0, TPM2_RC.REFERENCE_S6 + 1))
_REFUSED: Final = (TPM2_RC.AUTH_FAIL, TPM2_RC.BAD_AUTH)
_ATTEMPTS: Final = 8  # a refused command was not executed; without a resource manager others throw out what is loaded
_REFUSALS: Final = 2
_BUSY: Final = (TPM2_RC.NV_RATE, TPM2_RC.NV_UNAVAILABLE)  # chips that spare their memory
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_TRANSIENT: Final = (0x80000000, 0x02000000, 0x03000000)  # first handle of keys, loaded and saved sessions
_SESSIONS: Final = (0x02, 0x03)  # a list of loaded or saved sessions holds those of policies beside others
_LOADED: Final = (0x80, *_SESSIONS)  # first byte of handles of what goes with the connection
_MANY: Final = 254
_FLUSH: Final = bytes.fromhex("8001 0000000e 00000165")  # TPM2_FlushContext without sessions (TPM 2.0, part 3, 28.4)

OWNER_REMEDY: Final = "Name the file with the TPM's owner password: `?owner-auth-source=file:PATH`."
_SILENT_REMEDY: Final = "Start what stands for the TPM again, or the computer; nothing was lost."


def answer(reason: TallystickError) -> int:
    """Return the TPM's response code behind an error, without the place it complains of; 0 where it is none."""
    code = reason.details.get("rc", 0)
    return code if isinstance(code, int) else 0


class Chip:
    """A TPM, reached when it is first used.

    Args:
        tcti: which.
        connect: opens the way to it.
        pause: waits for so many seconds.
    """

    def __init__(self, tcti: str, connect: Connect = transport, pause: Callable[[float], object] = time.sleep) -> None:
        self.tcti = tcti
        self._pause = pause
        self._connect = connect
        self._lock = threading.RLock()
        self._esys: ESAPI | None = None
        self._way: TCTI | None = None
        self._kept: dict[str, ESYS_TR] = {}
        self._owner_auth = b""
        self._pid = os.getpid()

    def run(self, call: Callable[[ESAPI], _T], *, again: bool = False) -> _T:
        """Let a function use the TPM.

        Args:
            call: given the library's object; handles it uses come from `kept` or `loaded`.
            again: call it once more after the connection broke: for what changes nothing in the TPM.

        Returns:
            What it returned.

        Raises:
            BackendError: ``device_silent``: the connection broke, and whether the last command was executed is not
                known; ``backend_failed`` with the TPM's code in ``details["rc"]``.
            BackendUnavailableError, StorageError: as `transport`.
        """
        self._follow_fork()
        with self._lock:
            broken = False
            for attempt in range(_ATTEMPTS):
                try:
                    return call(self._connected())
                except TSS2_Exception as reason:
                    code = int(reason.error)
                    if self._is_silent(reason):
                        self.disconnect()
                        if not again or broken:
                            raise _silent(self.tcti) from reason
                        broken = True
                    elif code in _NO_ROOM and not self.managed and attempt < _ATTEMPTS - 1:
                        self._make_room()
                    elif (code in _REFUSED and attempt < _REFUSALS) or (code in _FORGOTTEN and attempt < _ATTEMPTS - 1):
                        self.disconnect()  # what was loaded is not there any more, or is somebody else's
                    elif code in _FORGOTTEN:
                        raise _silent(self.tcti) from reason
                    else:
                        raise error("backend_failed", f"the TPM refused: {reason}", rc=code) from reason
        raise _silent(self.tcti)  # the connection broke at the last attempt

    def as_owner(self, call: Callable[[ESAPI], _T]) -> _T:
        """Let a function use the TPM with the owner's authorization, as `run` does.

        Raises:
            BackendError: ``backend_failed`` naming the password where the TPM asks for one; as `run`.
        """
        try:
            return self.run(call)
        except TallystickError as reason:
            if answer(reason) not in (TPM2_RC.BAD_AUTH, TPM2_RC.AUTH_FAIL):
                raise
            what = "the TPM's owner password is another one" if self._owner_auth else "this TPM has an owner password"
            raise error("backend_failed", what, OWNER_REMEDY, **reason.details) from reason

    def kept(self, esys: ESAPI, name: str, load: Callable[[ESAPI], ESYS_TR]) -> ESYS_TR:
        """Return what stays loaded as long as the connection holds.

        Args:
            esys: as `run` gave it.
            name: of what is loaded.
            load: loads it.

        Returns:
            Its handle.
        """
        if name not in self._kept:
            self._kept[name] = load(esys)
        return self._kept[name]

    def forget(self, name: str) -> None:
        """Load something again when it is next needed, for example an index that was made anew."""
        self._kept.pop(name, None)

    @contextmanager
    def loaded(self, esys: ESAPI, handle: ESYS_TR) -> Iterator[ESYS_TR]:
        """Flush a key or session at the end of a block, however it ends.

        Args:
            esys: as `run` gave it.
            handle: just loaded.
        """
        try:
            yield handle
        finally:
            try:
                esys.flush_context(handle)
            except TSS2_Exception as reason:  # a session ends by itself with the command it authorized
                if self._is_silent(reason):
                    raise

    def own(self, password: bytes) -> None:
        """Remember the TPM's owner password for commands the owner authorizes."""
        self._owner_auth = password
        self.disconnect()

    @property
    def managed(self) -> bool:
        """Whether a resource manager stands between: then handles are this connection's own, and there is room."""
        kind, _, configuration = self.tcti.partition(":")
        return kind == "abrmd" or (kind == "device" and "rm" in os.path.basename(configuration or DEFAULT_TCTI))

    def patient(self, command: Callable[[], _T]) -> _T:
        """Give one command, again where the TPM says that it writes no faster: then nothing was executed.

        Args:
            command: one command of the library.

        Returns:
            What it returned.
        """
        for pause in _PAUSES_S:
            try:
                return command()
            except TSS2_Exception as reason:
                if int(reason.error) not in _BUSY:
                    raise
                self._pause(pause)
        return command()

    @property
    def has_owner_password(self) -> bool:
        """Whether an owner password was given."""
        return bool(self._owner_auth)

    def properties(self) -> dict[int, int]:
        """Read the TPM's fixed properties.

        Returns:
            Values by ``TPM2_PT`` number.

        Raises:
            BackendError, BackendUnavailableError, StorageError: as `run`.
        """

        def read(esys: ESAPI) -> dict[int, int]:
            _, data = esys.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM2_PT.FAMILY_INDICATOR, _MANY)
            return {int(row.property): int(row.value) for row in data.data.tpmProperties}

        return self.run(read, again=True)

    def handles(self, first: int) -> tuple[int, ...]:
        """List handles of the TPM: indices, persistent or transient keys.

        Args:
            first: where to begin: the kind is its first byte.

        Returns:
            The numbers.

        Raises:
            BackendError, BackendUnavailableError, StorageError: as `run`.
        """
        return self.run(lambda esys: _handles(esys, first), again=True)

    def disconnect(self) -> None:
        """Drop the connection without a word: it is broken, or another one is wanted."""
        self._follow_fork()
        with self._lock:
            self._drop()

    def close(self) -> None:
        """Flush what was kept and close the connection."""
        self._follow_fork()
        with self._lock:
            if self._esys is not None:
                for handle in self._kept.values():
                    try:
                        if self._esys.tr_get_tpm_handle(handle) >> 24 in _LOADED:
                            self._esys.flush_context(handle)
                    except TSS2_Exception:  # a broken connection: nothing is left behind
                        continue
            self._drop()

    def _follow_fork(self) -> None:
        """Leave the connection to the parent in a forked process; it knows nothing of what is loaded here."""
        if self._pid != os.getpid():
            self._lock = threading.RLock()  # a thread of the parent may have held it
            self._pid = os.getpid()
            self._drop()

    def _drop(self) -> None:
        self._kept.clear()
        esys, self._esys = self._esys, None
        way, self._way = self._way, None
        if esys is not None:
            esys.close()
        close = getattr(way, "close", None) or getattr(way, "finalize", None)
        if close is not None:
            close()

    def _connected(self) -> ESAPI:
        if self._esys is None:
            try:
                self._way = self._connect(self.tcti)
                self._esys = ESAPI(self._way)
            except TSS2_Exception as reason:
                self.disconnect()
                raise _silent(self.tcti) from reason
            self._esys.tr_set_auth(ESYS_TR.OWNER, self._owner_auth)
        return self._esys

    def _is_silent(self, reason: TSS2_Exception) -> bool:
        return int(reason.rc) & _LAYER not in _FROM_TPM

    def _make_room(self) -> None:
        """Throw out what is loaded, where no resource manager does: killed programs left it, others load it again."""
        esys, way = self._connected(), self._way
        try:
            for first in _TRANSIENT:
                for number in _handles(esys, first):
                    if way is not None:
                        way.transmit(_FLUSH + number.to_bytes(4))
                        way.receive()
        except TSS2_Exception as reason:
            self.disconnect()
            raise _silent(self.tcti) from reason
        self._kept.clear()


def _handles(esys: ESAPI, first: int) -> tuple[int, ...]:
    _, data = esys.get_capability(TPM2_CAP.HANDLES, first, _MANY)
    found: Any = data.data.handles  # `data` must outlive it
    same = _SESSIONS if first >> 24 in _SESSIONS else (first >> 24,)
    return tuple(int(found[index]) for index in range(found.count) if int(found[index]) >> 24 in same)


def _silent(tcti: str) -> TallystickError:
    return error("device_silent", f"the TPM at {tcti} does not answer", _SILENT_REMEDY)
