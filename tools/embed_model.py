"""Make a trained checkpoint a released model of this package.

    python tools/embed_model.py runs/mtl/best.safetensors mtl-v2

copies the weights and the model card to ``mne_neuroflow/weights/data`` under the
model's name, and adds both to the registry, with which downloads are verified. With
``--to``, the files are written to another folder, for a web server.
"""

import argparse
import shutil
from pathlib import Path

from mne_neuroflow.weights.checkpoint import file_hash, load_checkpoint

WEIGHTS = Path(__file__).parents[1] / "mne_neuroflow" / "weights"
REGISTRY = WEIGHTS / "registry.txt"


def embed(checkpoint, name, folder):
    """Copy a checkpoint to a folder under its released name and register it."""
    _, card = load_checkpoint(checkpoint)
    if card["name"] != name:
        raise SystemExit(f"The model card says {card['name']!r}, not {name!r}.")
    folder.mkdir(parents=True, exist_ok=True)
    released = [
        Path(shutil.copyfile(checkpoint.with_suffix(ending), folder / (name + ending)))
        for ending in (".safetensors", ".json")
    ]
    lines = REGISTRY.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.split(maxsplit=1)[:1] != [name]]
    lines += [f"{name} {f.name} {file_hash(f)} {f.stat().st_size}" for f in released]
    REGISTRY.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return released


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a .safetensors file")
    parser.add_argument("name", help="the released name, for example mtl-v2")
    parser.add_argument(
        "--to",
        type=Path,
        default=WEIGHTS / "data",
        help="the folder for the files (default: inside the package), for models to "
        "download",
    )
    args = parser.parse_args()
    for fname in embed(args.checkpoint, args.name, args.to):
        print(fname)
