"""``Plex Music Analyzer``: reads a .wav and answers 50 numbers; what it costs in CPU is the setting PLEX_SIM_SPEED."""

from __future__ import annotations

import itertools
import math
import sys
import wave
from array import array
from pathlib import Path

from sandbox.plex import children

_FLOATS = 50


def features(path: Path) -> list[float]:
    """50 numbers that depend on the sound alone: loudness and zero crossings of 25 stretches.

    Raises OSError, wave.Error, EOFError.
    """
    with wave.open(str(path), "rb") as source:
        samples = array("h", source.readframes(source.getnframes()))
    if len(samples) < _FLOATS:
        raise EOFError(f"{path.name} is too short to analyse: {len(samples)} samples")
    stretch = len(samples) // (_FLOATS // 2)
    numbers: list[float] = []
    for start in range(0, stretch * (_FLOATS // 2), stretch):
        piece = samples[start : start + stretch : 8]
        loudness = math.sqrt(sum(value * value for value in piece) / len(piece)) / 32768
        crossings = sum((a < 0) != (b < 0) for a, b in itertools.pairwise(piece)) / len(piece)
        numbers += (loudness, crossings)
    return numbers


def main() -> int:
    """Analyse one file after the other until the server closes the pipe; by hand.

    One file, numbers on standard output.
    """
    if not children.is_job():
        print(",".join(f"{value:.6f}" for value in features(Path(sys.argv[1]))))
        return 0
    children.retitle(children.ANALYZER, children.receive() or [])
    speed = children.speed()
    while (job := children.receive()) is not None:
        if "burn" in job:
            children.burn(job["burn"])
            children.answer({})
            continue
        children.retitle(children.ANALYZER, (job["wav"],))
        try:
            vector = features(Path(job["wav"]))
        except (OSError, EOFError, wave.Error) as error:
            children.answer({"error": str(error)})
            continue
        children.burn(speed)
        children.answer({"vector": vector})
    return 0


if __name__ == "__main__":
    sys.exit(main())
