"""``python -m bench list | run | report | grid | edge | ablate | diverse | turns | outcomes``"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from . import datasets
from .algorithms import all_algorithms, matching
from .fetch import Unavailable
from .reduction import METRICS
from .run import RESULTS, Log, Options, run

_PAGE = RESULTS.with_name("index.html")
_ROOT = Path(__file__).parent.parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench",
                                     description="farann beside what people use today.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the peers and the data sets")

    running = commands.add_parser("run", help="measure, and append to a file of JSON lines")
    running.add_argument("--full", action="store_true", help="all data sets, long sweeps (hours)")
    running.add_argument("--only", metavar="NAMES", help="peers, as in 'farann,faiss-*'")
    running.add_argument("--data", metavar="NAMES", help="data sets, as in 'glove-cosine'")
    running.add_argument("--rows", metavar="FILE", help="your own rows, .npy or .hdf5[:name]")
    running.add_argument("--queries", metavar="FILE", help="your own queries, likewise")
    running.add_argument("--metric", choices=METRICS, help="for your own rows")
    running.add_argument("--max-rows", type=int, metavar="N", help="use the first N rows only")
    running.add_argument("--k", type=int, default=10, help="answers a query (default 10)")
    running.add_argument("--threads", type=int, default=2, help="of the mode with several")
    running.add_argument("--repeats", type=int, metavar="N", help="best of that many")
    running.add_argument("--budget", type=float, metavar="S", help="seconds a repetition")
    running.add_argument("--timeout", type=float, metavar="S", help="seconds an index")
    running.add_argument("--cache", type=Path, default=datasets.CACHE, help="of the data sets")
    running.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")

    report = commands.add_parser("report", help="a page; tables and charts of README and docs")
    report.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    report.add_argument("--html", type=Path, default=_PAGE, help="default: %(default)s")
    report.add_argument("--readme", action="store_true",
                        help="renew what README.md and docs/ show of the results")

    grid = commands.add_parser("grid", help="cliffs between batches, threads and shapes")
    grid.add_argument("--quick", action="store_true", help="exact, two threads, half the batches")
    grid.add_argument("--only", metavar="NAMES", help="sets, as in 'glove,*x1536'")
    grid.add_argument("--metrics", metavar="NAMES", help="default: all three")
    grid.add_argument("--k", type=int, default=10, help="answers a query (default 10)")
    grid.add_argument("--max-rows", type=int, metavar="N", help="use the first N rows only")
    grid.add_argument("--seconds", type=float, default=0.1, help="a cell and library, at least")
    grid.add_argument("--cache", type=Path, default=datasets.CACHE, help="of the data sets")
    grid.add_argument("--out", type=Path, default=RESULTS.with_name("grid.jsonl"))

    edge = commands.add_parser("edge", help="where farann was slow, or short of a recall")
    edge.add_argument("--only", metavar="NAMES", help="as in 'recall-*,wide'")
    edge.add_argument("--scale", type=float, default=1.0, help="factor of the numbers of rows")
    edge.add_argument("--seconds", type=float, default=0.5, help="a measurement, at least")
    edge.add_argument("--timeout", type=float, default=900.0, metavar="S", help="a library and row")
    edge.add_argument("--out", type=Path, default=RESULTS.with_name("edge.jsonl"))
    diverse = commands.add_parser("diverse", help="choosing rows that cover all others")
    diverse.add_argument("--k", default="200,1000", metavar="N,...", help="default: %(default)s")
    diverse.add_argument("--data", metavar="NAMES", help="default: two with outliers, two without")
    diverse.add_argument("--only", metavar="NAMES", help="libraries, by their names in the table")
    diverse.add_argument("--max-rows", type=int, metavar="N", help="use the first N rows only")
    diverse.add_argument("--limit", type=float, default=30.0, metavar="S",
                         help="estimate what takes longer (default 30 seconds)")
    diverse.add_argument("--cache", type=Path, default=datasets.CACHE)
    diverse.add_argument("--out", type=Path, default=RESULTS.with_name("diverse.jsonl"))
    turns = commands.add_parser("turns", help="farann and peers by turns, batches and threads")
    turns.add_argument("--nearest", action="store_true", help="the nearest rows")
    turns.add_argument("--exact", action="store_true", help="leave recalls of .99 and .95 out")
    turns.add_argument("--data", metavar="NAMES", help="default: six real sets")
    turns.add_argument("--only", metavar="NAMES", help="peers, as in 'farann,faiss-*'")
    turns.add_argument("--max-rows", type=int, metavar="N", help="use the first N rows only")
    turns.add_argument("--k", type=int, default=10, help="answers a query (default 10)")
    turns.add_argument("--seconds", type=float, default=0.2, help="a cell and library, at least")
    turns.add_argument("--cache", type=Path, default=datasets.CACHE)
    turns.add_argument("--out", type=Path, default=RESULTS.with_name("turns.jsonl"))
    outcomes = commands.add_parser("outcomes", help="whom the answers help, by their own measure")
    outcomes.add_argument("--use", metavar="NAMES",
                          help="such as 'contrast,mmr' (default: all but shown, lists)")
    outcomes.add_argument("--only", metavar="NAMES", help="sets, as in 'foldoc,digits*'")
    outcomes.add_argument("--quick", action="store_true", help="a few repeats of each")
    outcomes.add_argument("--page", action="store_true",
                          help="put what --out has into docs/outcomes.md instead")
    outcomes.add_argument("--out", type=Path, default=RESULTS.with_name("outcomes.jsonl"))
    ablate = commands.add_parser("ablate", help="what each mechanism of the search saves")
    ablate.add_argument("--only", metavar="NAMES", help="mechanisms, as in 'hubs,axes'")
    ablate.add_argument("--data", metavar="NAMES", help="default: real data")
    ablate.add_argument("--max-rows", type=int, metavar="N", help="use the first N rows only")
    ablate.add_argument("--seconds", type=float, default=0.5, help="a measurement, at least")
    ablate.add_argument("--cache", type=Path, default=datasets.CACHE)
    ablate.add_argument("--out", type=Path, default=RESULTS.with_name("ablate.jsonl"))
    return parser


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _list() -> None:
    print("Peers")
    for algorithm in all_algorithms():
        reason = algorithm.missing()
        state = f"left out: {reason}" if reason else f"{algorithm.package} {algorithm.version()}"
        print(f"  {algorithm.name:18} {algorithm.title:34} {state}")
    print("Data sets (* in the quick run)")
    for name in datasets.FULL:
        source = datasets.SOURCES[name.rpartition("-")[0]]
        print(f" {'*' if name in datasets.QUICK else ' '}{name:21} {source.title}")


def _run(arguments: argparse.Namespace) -> None:
    if arguments.rows and not arguments.metric:
        raise ValueError("--rows needs --metric")
    if not arguments.rows and (arguments.queries or arguments.metric):
        raise ValueError("--queries and --metric need --rows")
    if not 1 <= arguments.k <= datasets.TRUTH_K:
        raise ValueError(f"--k must be between 1 and {datasets.TRUTH_K}, got {arguments.k}")
    chosen: list[datasets.DataSet] = []
    unavailable: list[Unavailable] = []
    if arguments.rows:
        chosen.append(datasets.from_files(arguments.rows, arguments.queries, arguments.metric,
                                          arguments.cache, arguments.max_rows))
    named = _names(arguments.data)
    usual = datasets.FULL if arguments.full else datasets.QUICK
    for name in named or ([] if arguments.rows else usual):
        print(f"data set {name}", file=sys.stderr)
        try:
            chosen.append(datasets.load(name, arguments.cache, arguments.max_rows))
        except Unavailable as error:
            unavailable.append(error)
    full = arguments.full
    options = Options(full=full, k=arguments.k, threads=arguments.threads,
                      repeats=arguments.repeats or (5 if full else 3),
                      budget=arguments.budget or (1.0 if full else 0.3),
                      timeout=arguments.timeout or (900.0 if full else 300.0))
    peers = matching(_names(arguments.only))
    path = run(peers, chosen, unavailable, options, arguments.out, sys.argv[1:])
    print(f"results in {path}")


def _report(arguments: argparse.Namespace) -> None:
    from . import report

    page = report.write(arguments.results, arguments.html, _ROOT if arguments.readme else None)
    print(f"page in {page}")


def _grid(arguments: argparse.Namespace) -> None:
    from . import grid

    print(grid.run(_names(arguments.only), _names(arguments.metrics), arguments.quick, arguments.k,
                   arguments.seconds, arguments.max_rows, arguments.cache, arguments.out,
                   sys.argv[1:]))


def _edge(arguments: argparse.Namespace) -> None:
    from .edge import cases
    from .edge import run as edge

    path = edge.run(cases.matching(_names(arguments.only)), arguments.scale, arguments.seconds,
                    arguments.timeout, arguments.out, sys.argv[1:])
    print(f"results in {path}")


def _ablate(arguments: argparse.Namespace) -> None:
    from .ablate import mechanisms
    from .ablate import run as ablate

    chosen = mechanisms.chosen(_names(arguments.only))
    log = Log(arguments.out, Options(), sys.argv[1:])
    found = []
    for name in _names(arguments.data) or ablate.REAL:
        data = datasets.load(name, arguments.cache, arguments.max_rows)
        for saved in ablate.ablate(data, chosen, arguments.seconds):
            found.append(saved)
            log.write("ablate", **asdict(saved))
    print(ablate.table(found))
    print(f"results in {arguments.out}")


def _diverse(arguments: argparse.Namespace) -> None:
    from .diverse import run as diverse

    log = Log(arguments.out, Options(), sys.argv[1:])
    found, ks = [], [int(k) for k in arguments.k.split(",")]
    for name in _names(arguments.data) or diverse.DATA:
        rows = datasets.load(name, arguments.cache, arguments.max_rows).rows()
        for one in diverse.selections(name, rows, ks, arguments.limit, _names(arguments.only)):
            found.append(one)
            log.write("diverse", **one._asdict())
    print(diverse.table(found))


def _turns(arguments: argparse.Namespace) -> None:
    from . import turns

    print(turns.run(_names(arguments.data) or list(turns.SETS), matching(_names(arguments.only)),
                    turns.TARGETS[: 1 if arguments.exact else None], arguments.nearest,
                    arguments.k, arguments.seconds, arguments.cache, arguments.out, sys.argv[1:],
                    arguments.max_rows))


def _outcomes(arguments: argparse.Namespace) -> None:
    from .outcomes import run as outcomes

    if arguments.page:
        outcomes.update(_ROOT, list(outcomes.read(arguments.out)))
        return
    outcomes.run(outcomes.chosen(_names(arguments.use)), _names(arguments.only), arguments.quick,
                 arguments.out, sys.argv[1:])
    print(f"results in {arguments.out}")


def main() -> int:
    """Run one command; errors of the caller's are one line."""
    arguments = _parser().parse_args()
    actions = {"list": lambda _: _list(), "run": _run, "report": _report, "grid": _grid,
               "edge": _edge, "ablate": _ablate, "diverse": _diverse, "turns": _turns,
               "outcomes": _outcomes}
    try:
        actions[arguments.command](arguments)
    except (ValueError, KeyError, FileNotFoundError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        print(f"bench: {message}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
