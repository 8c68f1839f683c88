"""`koboshi lab speed`: how fast the trainer is on the rows of an experiment."""

from pathlib import Path

import click

from koboshi_runtime.cli.context import echo_json, load_config_here, open_home, progress, table

from .lab_options import data_option, open_lab

_VARIANTS = ((1, "nll"), (2, "nll"), (4, "nll"), (4, "chunked_nll"))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_option
@click.option("--rows", "count", type=click.IntRange(16), default=160, show_default=True, help="Rows of one epoch.")
@click.option("--trl/--no-trl", "beside", default=True, show_default=True, help="Measure TRL too (extra `rivals`).")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="As for `lab run`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def speed(file: Path, data: dict[str, Path], count: int, beside: bool, work: Path | None, as_json: bool) -> None:
    """Measure training on an experiment's demonstrations: ours, TRL's, and what the machine allows.

    The machine should do nothing else. TRL is run in several variants, and its best one counts.

    Example: koboshi lab speed experiment.toml --rows 160
    """
    from koboshi_runtime.files import locked

    from ..lab.make import Maker
    from ..methods import Method, assign
    from ..speed.measure import SpeedSettings, attainable, measure_side
    from ..weights import load_model

    recipe = open_lab(file, data, None, work).recipe
    threads = load_config_here().settings.train.threads
    with locked(open_home().run / "train.lock"):
        progress("playing the demonstrations")
        rows = assign(Maker(recipe, lambda share: None).demonstrations.train, Method.SUCCESS)[:count]
        master = recipe.place.master()
        progress(f"{len(rows)} rows, {threads} threads: koboshi")
        sides = [measure_side("koboshi", master, rows, SpeedSettings(threads=threads))]
        for micro_rows, loss_type in _VARIANTS if beside else ():
            progress(f"trl, {micro_rows} rows at once, {loss_type}")
            variant = SpeedSettings(threads=threads, micro_rows=micro_rows, loss_type=loss_type)
            sides.append(measure_side("trl", master, rows, variant))
        allowed = attainable(load_model(master), rows, r=SpeedSettings().r)
    if as_json:
        told = [side.model_dump(mode="json") for side in sides]
        echo_json({"sides": told, "attainable": allowed.model_dump(mode="json"), "threads": threads})
        return
    best = max((side.tokens_per_s for side in sides[1:]), default=None)
    lines = [
        (
            side.side,
            side.variant,
            f"{side.tokens_per_s:.0f}",
            f"{side.peak_bytes / 1e9:.2f}",
            f"{100 * side.tokens_per_s / allowed.tokens_per_s:.0f} %",
            f"{side.loss_first:.3f} → {side.loss_last:.3f}",
        )
        for side in sides
    ]
    table(("trainer", "variant", "tokens/s", "peak GB", "of the attainable", "loss"), lines)
    progress(f"the products of this model run at {allowed.product_flops_per_s / 1e9:.0f} GFLOP/s in bf16")
    if best:
        progress(f"{sides[0].tokens_per_s / best:.2f} times TRL's best variant")
