"""The `boat` command. Each `_…_command` adds a subcommand to the parser, and imports its code when it runs."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from boat.errors import BoatError, SettingError

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand. Return 0, or 1 after printing the error to stderr."""
    parser = argparse.ArgumentParser(prog="boat", description="From shopper events to live recommendations.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except BoatError as error:
        print(f"boat: {error}", file=sys.stderr)
        return 1
    return 0


def _synth_command(commands: "_Commands") -> None:
    parser = commands.add_parser(
        "synth", help="generate the files of a synthetic shop", description="Generate the files of a synthetic shop."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument(
        "--sessions", type=int, default=20_000, metavar="N", help="number of shopper sessions (%(default)s)"
    )
    parser.add_argument("--days", type=int, default=28, metavar="D", help="number of days (%(default)s)")
    parser.add_argument("--products", type=int, default=2_000, metavar="N", help="number of products (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="the same seed gives the same bytes (%(default)s)"
    )
    parser.add_argument("--end", type=date.fromisoformat, metavar="DATE", help="last day (yesterday)")
    kinds = "collapse, lost-pageviews or new-product-ids"
    parser.add_argument("--drift", metavar="KIND", help=f"fault of the last day: {kinds} (no fault)")

    def run(options: argparse.Namespace) -> None:
        from boat import synthetic

        shop = synthetic.generate(
            options.out, options.sessions, options.days, options.seed, options.products, options.end, options.drift
        )
        print(f"{shop.events} events in {shop.sessions} sessions, {shop.products} products: {options.out}")

    parser.set_defaults(run=run)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


class _MaxBadShare:
    """Default of `--max-bad-share`. Its class is imported only to show or use it: the import takes half a second."""

    def __float__(self) -> float:
        from boat.landing import BadRows

        return BadRows().max_share

    def __str__(self) -> str:
        return str(float(self))


def _load_command(commands: "_Commands") -> None:
    parser = commands.add_parser("load", help="load landing files", description="Load landing files into the raw log.")
    parser.add_argument("source", help="a file, a folder, or s3://BUCKET/PREFIX")
    parser.add_argument("--warehouse", metavar="URL", help="such as duckdb:///relative/path.duckdb")
    parser.add_argument("--dry-run", action="store_true", help="show how the files are read, and load nothing")
    parser.add_argument("--layout", metavar="NAME", help="layout of the event files; docs/exports.md lists the names")
    parser.add_argument(
        "--on-bad-rows",
        choices=("stop", "quarantine"),
        default="stop",
        help="stop: load nothing; quarantine: put bad rows into raw.dead_letters and load the others (%(default)s)",
    )
    parser.add_argument(
        "--max-bad-share",
        type=_share,
        default=_MaxBadShare(),
        metavar="0…1",
        help="a file with more than 100 bad rows, and with a larger share of them, stops the load in any case "
        "(%(default)s)",
    )

    def run(options: argparse.Namespace) -> None:
        from boat import landing, progress, raw_log
        from boat.warehouse import connect

        if options.dry_run:
            print(landing.preview(options.source, options.layout).to_text())
            return
        if not options.warehouse:
            raise SettingError("boat load needs a warehouse.", "Add --warehouse URL, or --dry-run to load nothing.")
        bad_rows = landing.BadRows(options.on_bad_rows, float(options.max_bad_share))
        with progress.on_terminal():
            report = raw_log.load(connect(options.warehouse), options.source, bad_rows, options.layout)
        for file in report.files:
            result = "loaded before" if file.already_loaded else f"{file.accepted} new of {file.received}"
            print(f"{file.source_file} ({file.kind}): {result}")
            for note in file.notes:
                print(f"  note: {note}")
            for name, rows in file.unused:
                print(f"  not used: {rows} with event type {name}")
            for reason, rows in file.reasons:
                print(f"  in raw.dead_letters: {rows} with {reason}")
        for ignored in report.ignored:
            print(f"{ignored.name}: not loaded, it {ignored.reason}")
        counts = f"accepted {report.accepted}, duplicate {report.duplicate}, failed {report.failed}"
        print(f"received {report.received}, {counts}")

    parser.set_defaults(run=run)


def _collect_command(commands: "_Commands") -> None:
    parser = commands.add_parser("collect", help="receive events over HTTP", description="Receive events over HTTP.")
    parser.add_argument("--landing", metavar="DIR", help="landing folder (BOAT_COLLECT_LANDING, or the demo's)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", help="port to listen on (BOAT_COLLECT_PORT, or 8070)")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="origin of pages that may send events; may be repeated",
    )
    parser.add_argument(
        "--shop",
        action="append",
        default=[],
        metavar="NAME",
        help="accept only events of this shop; may be repeated (any shop)",
    )
    parser.add_argument("--signed-only", action="store_true", help="refuse requests without a signature")
    parser.add_argument(
        "--events-per-second", type=float, default=200, metavar="N", help="rate limit of a sender (%(default)s)"
    )
    parser.add_argument("--burst", type=int, default=2000, metavar="N", help="events of a sender at once (%(default)s)")
    parser.add_argument("--proxy", metavar="IP,NET", help="proxies whose X-Forwarded-For is trusted")
    parser.add_argument(
        "--rotate-seconds", type=float, default=60, metavar="S", help="longest age of an open file (%(default)s)"
    )

    def run(options: argparse.Namespace) -> None:
        from boat import settings
        from boat.collect import Policy, server

        collector, config = settings.load_collector(), settings.load()
        landing = options.landing or collector.landing or str(config.shop("demo") / "landing")
        if "://" in landing:
            raise SettingError(
                f"{landing} is not a local folder.",
                "Set --landing; s3:// is for the Lambda function.",
            )
        listener = server.ServerOptions(
            Path(landing),
            options.host,
            config.collect_port if options.port is None else settings.port(options.port, "--port"),
            collector.proxies if options.proxy is None else settings.proxies(options.proxy, "--proxy"),
            options.rotate_seconds,
        )
        policy = Policy(
            collector.origins | settings.origins(options.origin, "--origin") | listener.own_origins,
            collector.secrets,
            options.signed_only,
            options.events_per_second,
            options.burst,
            collector.shops | settings.shop_names(options.shop, "--shop"),
        )
        server.run(listener, policy)

    parser.set_defaults(run=run)


def _erase_command(commands: "_Commands") -> None:
    text = "Erase a client from landing files, raw log, dead letters, tables and snapshots. Print a proof as JSON."
    parser = commands.add_parser("erase", help="erase one client everywhere", description=text)
    parser.add_argument("--client", required=True, metavar="ID", help="id of the client; - reads it from stdin")
    parser.add_argument("--shop", default="shop", metavar="NAME", help="shop of the client (%(default)s)")
    parser.add_argument("--warehouse", required=True, metavar="URL", help="such as duckdb:///relative/path.duckdb")
    parser.add_argument("--landing", required=True, metavar="DIR", help="landing folder, or s3://BUCKET/PREFIX")
    parser.add_argument(
        "--snapshots", required=True, metavar="DIR", help="folder of the snapshots, or s3://BUCKET/PREFIX"
    )
    parser.add_argument("--delete-snapshots", action="store_true", help="delete snapshots that contain the client")
    parser.add_argument("--yes", action="store_true", help="erase; without it, only count rows")

    def run(options: argparse.Namespace) -> None:
        from boat.raw_log.erase import erase
        from boat.warehouse import connect

        proof = erase(
            connect(options.warehouse),
            options.landing,
            options.snapshots,
            options.shop,
            sys.stdin.readline() if options.client == "-" else options.client,
            delete_snapshots=options.delete_snapshots,
            dry_run=not options.yes,
        )
        print(proof.to_json(), end="")
        if not proof.found:
            message = f"No row of this client was found in {options.landing}, the tables and the snapshots."
            if options.yes:
                raise BoatError(message, "Nothing was erased. Check the id and the shop.")
            print(f"boat: WARNING: {message} Check the id and the shop.", file=sys.stderr)
        if options.yes and not proof.is_complete:
            raise BoatError(
                "Rows of the client are left, or some locations were not searched: see `after`, `growing`, "
                "`not_erased` and `not_searched` of the proof.",
                "Remove the causes listed there and erase again.",
            )

    parser.set_defaults(run=run)


_COMMANDS: tuple[Callable[["_Commands"], None], ...] = (
    _synth_command,
    _load_command,
    _erase_command,
    _collect_command,
)

if __name__ == "__main__":
    sys.exit(main())
