"""Every localizer on real photos: a table on the terminal and build/experiments.json.

    python tests/benchmarks/experiments.py [--packs voc-mini,objects7-mini] [--localizers cam,msrd] [--seeds 0,1,2]
                                           [--scales 1;1,1.5,2] [--splits train,test] [--epochs N]

Trains on the train labels only, mines with the labels, scores against the held-back boxes. What is in the table
already is not done again. Methods on the same weights share one training.
"""

import json
import os
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from mining.config import MineSettings, ScoreSettings, TrainSettings
from mining.engine import mine_shard
from mining.jobs import finish_mining, plan_mining, score, train
from mining.localizers import LOCALIZERS

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BOXMINE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "build" / "experiments.json"
WORK = ROOT / "build" / "experiments"

app = App(help="Every localizer on real photos.")
Listed = Annotated[str, Parameter()]


def trained(pack: Path, localizer: str, seed: int, epochs: int | None) -> tuple[Path, float]:
    """The model folder of a localizer, or of whoever has the same weights; and the seconds its training took."""
    family = LOCALIZERS[localizer].weights_of
    name = next(other for other, kind in LOCALIZERS.items() if kind.weights_of == family) if family else localizer
    settings = TrainSettings(
        images=pack / "images", labels=pack / "train.csv", localizer=name, seed=seed,
        out=WORK / pack.name / f"{name}-{seed}", **({} if epochs is None else {"epochs": epochs}),
    )  # fmt: skip
    return settings.out, train(settings).seconds


def mined(pack: Path, model: Path, localizer: str, scales: tuple[float, ...], split: str) -> dict[str, Any]:
    """Figures of one run."""
    label = "-".join(f"{scale:g}" for scale in scales)
    settings = MineSettings(
        images=pack / "images", labels=pack / f"{split}.csv", model=str(model), localizer=localizer, scales=scales,
        out=WORK / pack.name / f"{model.name}-{localizer}-{label}-{split}",
    )  # fmt: skip
    started = time.perf_counter()
    for shard in plan_mining(settings).shards:
        mine_shard(settings.out, shard)
    summary = finish_mining(settings.out, time.perf_counter() - started)
    scores = score(ScoreSettings(run=settings.out, truth=pack / f"instances_{split}.json"))
    corloc = scores["corloc"]
    return {
        "corloc": corloc["value"], "corloc_0.3": corloc["at_0.3"], "corloc_0.7": corloc["at_0.7"],
        "ap50": scores["coco"]["AP50"], "recall": corloc["instance_recall"], "boxes_per_pair": corloc["boxes_per_pair"],
        "seconds": summary.seconds, "images": summary.images,
    }  # fmt: skip


def shown(results: dict[str, dict[str, Any]]) -> Table:
    """Mean and spread over the seeds."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for key, figures in results.items():
        groups[key.rsplit(" seed ", 1)[0]].append(figures)
    table = Table(
        "pack, split, localizer, scales",
        "seeds",
        "CorLoc",
        ".3",
        ".7",
        "AP50",
        "recall",
        "s/image",
        "train s",
        box=None,
    )
    for name in sorted(groups):
        rows = groups[name]

        def mean(figure: str, rows: list[dict[str, Any]] = rows) -> float:
            return statistics.mean(row[figure] for row in rows)

        spread = f" ±{100 * statistics.stdev(row['corloc'] for row in rows):.1f}" if len(rows) > 1 else ""
        table.add_row(
            name, str(len(rows)), f"{100 * mean('corloc'):.1f}{spread}", f"{100 * mean('corloc_0.3'):.1f}",
            f"{100 * mean('corloc_0.7'):.1f}", f"{100 * mean('ap50'):.1f}", f"{100 * mean('recall'):.1f}",
            f"{mean('seconds') / mean('images'):.3f}", f"{mean('train_seconds'):.0f}",
        )  # fmt: skip
    return table


@app.default
def main(
    *,
    packs: str = "objects7-mini,voc-mini",
    localizers: str = "",
    seeds: str = "0,1,2",
    scales: str = "1;1,1.5,2",
    splits: str = "train,test",
    epochs: int | None = None,
) -> None:
    """Run what is missing, show everything."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in map(int, seeds.split(",")):
        for pack in (DATA / name for name in packs.split(",")):
            for localizer in localizers.split(",") if localizers else LOCALIZERS:
                for pyramid in scales.split(";"):
                    for split in splits.split(","):
                        key = f"{pack.name} {split} {localizer} {pyramid}{f' {epochs} epochs' if epochs else ''} seed {seed}"
                        if key in results:
                            continue
                        model, seconds = trained(pack, localizer, seed, epochs)
                        sizes = tuple(float(scale) for scale in pyramid.split(","))
                        results[key] = {**mined(pack, model, localizer, sizes, split), "train_seconds": seconds}
                        print(key, f"CorLoc {100 * results[key]['corloc']:.1f}", file=sys.stderr, flush=True)
                        RESULTS.parent.mkdir(exist_ok=True)
                        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    Console(width=180).print(shown(results))


if __name__ == "__main__":
    app()
