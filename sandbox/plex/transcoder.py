"""``Plex Transcoder``.

Decodes the audio file it is given, through the server's path, into a .wav for the music analyzer.
"""

from __future__ import annotations

import os
import sys
import wave
from pathlib import Path

import av

from sandbox.faults import Faults
from sandbox.plex import children
from sandbox.plex.volumes import Volumes

_RATE = 16_000


def decode(volumes: Volumes, source: str, target: Path) -> int:
    """Decode ``source`` (a server path) to mono 16 kHz PCM; returns the number of samples.

    Raises OSError or av.FFmpegError.
    """
    volumes.stat(source)
    volumes.wait_for_content(source)
    samples = 0
    resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)
    with av.open(str(volumes.host_path(source)), "r") as container, wave.open(str(target), "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(_RATE)
        for frame in container.decode(audio=0):
            for piece in resampler.resample(frame):
                output.writeframes(bytes(piece.planes[0])[: piece.samples * 2])
                samples += piece.samples
    if not samples:
        raise OSError(f"{source}: no audio in it")
    return samples


def main() -> int:
    """Decode one file after the other until the server closes the pipe; by hand: ``-i INPUT OUTPUT``."""
    faults_file = os.environ.get(children.FAULTS_ENV)
    volumes = Volumes.from_environment(Faults(Path(faults_file)) if faults_file else None)
    if not children.is_job():
        if len(sys.argv) != 4 or sys.argv[1] != "-i":
            print("usage: Plex Transcoder -i INPUT OUTPUT.wav", file=sys.stderr)
            return 2
        decode(volumes, sys.argv[2], Path(sys.argv[3]))
        return 0
    children.retitle(children.TRANSCODER, children.receive() or [])
    while (job := children.receive()) is not None:
        if "burn" in job:
            children.burn(job["burn"])
            children.answer({})
            continue
        children.retitle(children.TRANSCODER, ("-i", job["source"], "-f", "wav", job["target"]))
        try:
            children.answer({"samples": decode(volumes, job["source"], Path(job["target"]))})
        except (OSError, av.FFmpegError) as error:
            children.answer({"error": str(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
