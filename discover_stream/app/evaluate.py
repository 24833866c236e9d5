"""`discover eval`: measure ours and what people would use instead, resumably, and write one report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from discover_stream.evaluation.harness import Case

_Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Clips and pictures (docs/evaluation.md); simulated streets need none."),
]
_Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where cases and the report go.")]
_Grid = Annotated[Literal["tiny", "quick", "full"], typer.Option(help="How many settings of every system.")]
_Items = Annotated[
    list[str] | None, typer.Option("--item", metavar="NAME", help="Only this clip or set; may be repeated.")
]
_Systems = Annotated[
    list[str] | None,
    typer.Option("--system", metavar="SPEC", help="Instead of the grid, such as x265:crf=34,preset=slow; repeatable."),
]
_Judges = Annotated[
    list[str] | None,
    typer.Option("--judge", metavar="NAME=SPEC", help="Such as yolox=onnx:FILE or nano=nano; may be repeated."),
]
_Regions = Annotated[
    Literal["grounder", "judge", "exact"], typer.Option(help="Whose boxes the systems get; `exact` is the simulator's.")
]


def images(
    *,
    data: _Data = None,
    out: _Out = Path("out/report"),
    grid: _Grid = "quick",
    item: _Items = None,
    system: _Systems = None,
    judge: _Judges = None,
    regions: _Regions = "grounder",
    count: Annotated[int, typer.Option(min=1, help="Pictures of each set.")] = 8,
) -> None:
    """Still pictures: bits, AP, PSNR, MS-SSIM and deep-feature distance against JPEG, WebP, AVIF and intra codecs."""
    from discover_stream.app.evaluate_run import EvaluateOrder, evaluate

    names = (tuple(item or ()), tuple(system or ()), tuple(judge or ()))
    _say(evaluate(EvaluateOrder("images", data, out, grid, *names, regions, count), _case_bar))


def video(
    *,
    data: _Data = None,
    out: _Out = Path("out/report"),
    grid: _Grid = "quick",
    item: _Items = None,
    system: _Systems = None,
    judge: _Judges = None,
    regions: _Regions = "grounder",
    seconds: Annotated[int, typer.Option(min=1, help="Of each clip, at 10 frames a second.")] = 8,
) -> None:
    """Clips: kbit/s, AP, picture quality and flicker against x264, x265, SVT-AV1 and two clever users."""
    from discover_stream.app.evaluate_run import EvaluateOrder, evaluate

    names = (tuple(item or ()), tuple(system or ()), tuple(judge or ()))
    _say(evaluate(EvaluateOrder("video", data, out, grid, *names, regions, seconds), _case_bar))


def speed(
    *,
    data: _Data = None,
    out: _Out = Path("out/report"),
    item: Annotated[str | None, typer.Option("--item", metavar="NAME", help="The clip; default: a street.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each time is the median of so many.")] = 5,
) -> None:
    """Milliseconds of every stage, ours and the peers' in one run; memory and sizes of the models."""
    from discover_stream.app.evaluate_run import evaluate_speed

    _say(evaluate_speed(data, out, item, rounds))


def paper(
    *,
    table: Annotated[
        Literal["detection", "segmentation", "classification", "perception", "ablation"],
        typer.Option("--table", "-t", help="Which of the papers' experiments."),
    ],
    on: Annotated[
        str, typer.Option(metavar="SET", help="coco, kodak, clic2020, imagenet or a folder; default: the papers'.")
    ] = "",
    data: _Data = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where work and tables go.")] = Path(
        "out/papers"
    ),
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="DIR", help="Of our models (docs/papers.md); default: shipped.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option("--judge", metavar="SPEC", help="The task network, or MEASURE=hub|FILE|random|none; repeatable."),
    ] = None,
    system: _Systems = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="count, part, qualities, grounder, device, note, ...; repeatable."
        ),
    ] = None,
) -> None:
    """One table of DISCOVER's and Diff-ICMH's evaluation (docs/papers.md); run again, it goes on where it ended."""
    from discover_stream.app.evaluate_paper import PaperOrder, evaluate_paper, read_settings

    names = (tuple(judge or ()), tuple(system or ()))
    _say(evaluate_paper(PaperOrder(table, on, data, out, weights, *names, read_settings(settings or ())), _work_bar))


def convert(
    kind: Annotated[Literal["yolo", "maps"], typer.Argument(help="Boxes in text files, or pictures of class numbers.")],
    *,
    images: Annotated[Path, typer.Option(metavar="DIR", help="The pictures.")],
    labels: Annotated[Path, typer.Option(metavar="DIR", help="Their text files or label maps.")],
    classes: Annotated[
        str, typer.Option(metavar="NAMES", help="yolo: car,bus,... in order; maps: 8=car,9=person, those that count.")
    ],
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Another name; several (ambulance=car+truck) make crowds; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="instances.json and a link go there.")],
) -> None:
    """Labels of other kinds as a set in COCO's format."""
    from discover_stream.app.evaluate_convert import convert_set

    typer.echo(str(convert_set(kind, images, labels, classes, tuple(rename or ()), out)))


def results(
    report: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of earlier commands.")],
    *,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the figures go, without pictures.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Where the page goes.")] = None,
    readme: Annotated[
        Path | None, typer.Option("--readme", metavar="FILE", help="A file with a marked section to replace.")
    ] = None,
    anchor: Annotated[str, typer.Option(help="Compare with this system instead of the best of all peers.")] = "",
) -> None:
    """Write tables from a finished report: a page, a section of a README, or JSON."""
    from discover_stream.app.evaluate_results import write_results

    for path in write_results(report, json_file, markdown, readme, anchor):
        typer.echo(str(path))


def _say(files: tuple[Path, ...]) -> None:
    for path in files:
        typer.echo(str(path))


@contextmanager
def _case_bar(title: str, total: int) -> Iterator[Callable[[Case, bool], None]]:
    """A progress bar over cases; see `_work_bar`."""
    with _work_bar(title, total) as advance:
        yield lambda case, fresh: advance(f"{case.item.name}, {case.system.text()}", fresh)


@contextmanager
def _work_bar(title: str, total: int) -> Iterator[Callable[[str, bool], None]]:
    """A progress bar with the time left; a line for each piece of new work where stderr is no terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[case]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        row = progress.add_task(escape(title), total=total, case="")

        def advance(work: str, fresh: bool) -> None:
            if fresh and not console.is_terminal:
                typer.echo(f"{title}: {work}", err=True)
            progress.update(row, advance=1, case=escape(work))

        yield advance


def register(app: typer.Typer) -> None:
    """Add the group of commands to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Measure quality, rate and speed against what people use instead.")
    for command in (images, video, speed, paper, convert, results):
        group.command()(command)
    app.add_typer(group, name="eval")
