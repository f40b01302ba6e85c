import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from services.commands.stores import to_read
from services.common.erasure import entries, keys
from services.common.erasure.entries import BrokenLog, EntryKind, LogEntry, Sign, Verify
from services.common.erasure.erasing import SETTLE_S, Erased, Eraser, chunked
from services.common.erasure.finding import FoundFaces, find_faces, with_members
from services.common.erasure.ledger import Ledger
from services.common.erasure.selection import Selection, check
from services.common.errors import Refused, SetupError
from services.common.runtime.arguments import matching, name, seconds, time
from services.common.storage.backends import open_store
from services.common.storage.objects import StoreUnavailable, WholeStore
from services.common.storage.visits import is_visit
from services.common.wire import times
from services.common.wire.faces import is_id

MOST_SETTLE_S = 86_400.0
SIGNING_KEY, PUBLIC_KEY = "FACEFERRY_ERASE_SIGNING_KEY_FILE", "FACEFERRY_ERASE_KEY_FILE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry erase`."""
    parser.description = (
        "Erase faces for good: from the store with all versions, from its index, and from the devices that "
        "hold any, when they connect next. Those that come late are kept out. Look first, with --dry-run."
    )
    face_id, visit = matching("a face's id", is_id), matching("a visit's id", is_visit)
    parser.add_argument("ids", nargs="*", type=face_id, metavar="ID", help="these faces")
    parser.add_argument("--visit", type=visit, metavar="ID", help="the faces of this visit")
    parser.add_argument("--device", type=name, metavar="NAME", help="only this device's")
    parser.add_argument("--camera", type=name, metavar="NAME", help="only this camera's")
    parser.add_argument(
        "--from", type=time, dest="since", metavar="TIME", help="taken then or later: 2026-01-31[T12:30] UTC"
    )
    parser.add_argument("--to", type=time, dest="until", metavar="TIME", help="taken before; default: now")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--resume", action="store_true", help="finish what was ordered, and no more")
    parser.add_argument("--status", action="store_true", help="show what was ordered, and who has done it")
    parser.add_argument("--log", action="store_true", help="print the log of erasures, a line each")
    parser.add_argument(
        "--verify", metavar="LOG", help="check a log that --log has printed, or -: the store's"
    )
    parser.add_argument("--store", metavar="URL_OR_PATH", help="as for `faceferry faces`")
    parser.add_argument(
        "--key",
        type=Path,
        default=Path(os.environ.get(SIGNING_KEY) or "secrets/erase.key"),
        metavar="FILE",
        help=f"what orders are signed with; default: {SIGNING_KEY}, else secrets/erase.key",
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        default=Path(os.environ.get(PUBLIC_KEY) or "secrets/erase.pub"),
        metavar="FILE",
        help=f"what logs are verified with; default: {PUBLIC_KEY}, else secrets/erase.pub",
    )
    parser.add_argument(
        "--settle",
        type=seconds(MOST_SETTLE_S, may_be_none=True),
        default=SETTLE_S,
        metavar="SECONDS",
        help=f"after so long it is looked again for what was on its way; default: {SETTLE_S:.0f}",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Erase faces, or show and verify the log; return 1 where something is left or a log was changed.

    Raises:
        SetupError: the store, a key or the selection cannot be used.
    """
    try:
        if options.verify not in (None, "-"):
            return _verify_file(Path(options.verify), _verifier(options.public_key))
        return asyncio.run(_in_store(options))
    except BrokenLog as error:
        print(f"the log is not as it was written: {error}", file=sys.stderr)
        return 1
    except StoreUnavailable as error:
        raise SetupError(f"{error}; `faceferry erase --resume` goes on where it was") from error


async def _in_store(options: argparse.Namespace) -> int:
    settings = to_read(options.store)
    async with open_store(settings, may_make_folder=False) as store:
        if options.log or options.verify or options.status:
            return await _show(store, options)
        selection = None if options.resume else selection_of(options, datetime.now(UTC))
        if options.dry_run and selection is not None:
            _tell_found(await _look(store, selection), selection)
            return 0
        sign, verify = _signer(options.key)
        await store.verify()
        eraser = Eraser(store, Ledger(store, verify), sign, settle_s=options.settle)
        if selection is not None and not options.yes:
            _ask(await _look(store, selection), selection)
        return await _erase(eraser, selection)


async def _erase(eraser: Eraser, selection: Selection | None) -> int:
    """Order the selection, and carry out all unfinished orders."""
    await eraser.take_reports()
    for some in chunked(selection) if selection is not None else ():
        ordered = await eraser.order(some)
        print(f"ordered {ordered.name}: {some}")
    is_done = True
    for order in await eraser.unfinished():
        done = await eraser.carry_out(order)
        print(_as_line(done))
        is_done = is_done and not done.left
    print("devices erase theirs when they are connected: `faceferry erase --status` says which have")
    return 0 if is_done else 1


async def _show(store: WholeStore, options: argparse.Namespace) -> int:
    if options.status and options.key.is_file():
        sign, verify = _signer(options.key)
        await Eraser(store, Ledger(store, verify), sign).take_reports()
    found = await Ledger(store, _verifier(options.public_key)).entries()
    if options.log:
        for entry in found:
            print(entry.line.decode())
    elif options.status:
        for line in _status(found):
            print(line)
    else:
        _tell_whole(found)
    return 0


async def _look(store: WholeStore, selection: Selection) -> FoundFaces:
    return await find_faces(store, await with_members(store, selection))


def _verify_file(path: Path, verify: Verify) -> int:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        raise BrokenLog(content.count(b"\n") + 1, "it has no end")
    _tell_whole(entries.check_log(content.split(b"\n")[:-1], verify))
    return 0


def _tell_whole(found: Sequence[LogEntry]) -> None:
    last = f", the last {found[-1].digest} of {times.rfc3339(found[-1].time)}" if found else ""
    print(f"{len(found)} lines, each as it was written{last}")


def selection_of(options: argparse.Namespace, now: datetime) -> Selection:
    """Return the selection on the command line.

    Raises:
        SetupError: it is empty or contradictory.
    """
    is_range = not options.ids and options.visit is None
    if is_range and not any((options.device, options.camera, options.since, options.until)):
        raise SetupError("say what: ids, --visit, or --device, --camera, --from and --to")
    selection = Selection(
        frozenset(options.ids),
        options.visit,
        options.device,
        options.camera,
        options.since,
        options.until or (now if is_range else None),
    )
    for some in chunked(selection):
        try:
            check(some, now)
        except Refused as error:
            raise SetupError(error.detail) from error
    return selection


def _signer(path: Path) -> tuple[Sign, Verify]:
    try:
        return keys.signer(path.read_text())
    except ValueError as error:
        raise SetupError(f"{path}: {error}") from error


def _verifier(path: Path) -> Verify:
    try:
        return keys.verifier(path.read_text())
    except ValueError as error:
        raise SetupError(f"{path}: {error}") from error


def _ask(found: FoundFaces, selection: Selection) -> None:
    if not sys.stdin.isatty():
        raise SetupError("--yes is needed without a terminal; --dry-run says what would go")
    _tell_found(found, selection)
    if input(f"Type {len(found.faces)} to erase them for good: ").strip() != str(len(found.faces)):
        raise SetupError("nothing was erased")


def _tell_found(found: FoundFaces, selection: Selection) -> None:
    print(
        f"{selection}: {len(found.faces)} faces are stored, {found.copies} copies of them with all versions"
    )
    for source, faces in sorted(Counter(source for source, _ in found.faces).items()):
        print(f"    {faces} of {source}")
    print("and whatever of that devices still hold, or comes late")


def _as_line(done: Erased) -> str:
    refused = "".join(f"; {count} copies cannot be removed: {why}" for why, count in done.refused.items())
    left = f"{done.left} COPIES ARE LEFT" if done.left else "looked again, and nothing is left"
    return (
        f"erased {done.order.name}: {done.faces} faces, {done.copies} copies, {done.rows} rows of the index; "
        f"{left}{refused}"
    )


def _status(found: Sequence[LogEntry]) -> list[str]:
    still = {entry.name for entry in entries.unfinished(found)}
    lines: list[str] = []
    for order in (entry for entry in found if entry.kind is EntryKind.ORDERED):
        state = "open: `faceferry erase --resume`" if order.name in still else "done in the store"
        lines.append(f"{times.rfc3339(order.time)} {order.name} {state}: {order.selection}")
        lines += [f"    {_report(each)}" for each in found if _is_report_of(each, order)]
    return lines or ["nothing was ever ordered"]


def _is_report_of(entry: LogEntry, order: LogEntry) -> bool:
    return entry.kind is EntryKind.REPORTED and entry.about.get("of") == order.name


def _report(entry: LogEntry) -> str:
    gone = entry.about.get("gone")
    counts = [f"{count} {where}" for where, count in gone.items() if count] if isinstance(gone, dict) else []
    return f"{times.rfc3339(entry.time)} {entry.about.get('device')}: {', '.join(counts) or 'had none'}"
