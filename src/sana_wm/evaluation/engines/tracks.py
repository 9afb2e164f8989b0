"""Corners that are found once and followed from picture to picture, whatever the camera does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sana_wm.evaluation.engines.pictures import Floats, Grey

Ints = NDArray[np.int64]

CORNERS, QUALITY, SPACING = 500, 0.003, 5
"""Corners a picture at most, least strength as a share of the strongest one's, and least distance in pixels."""
WINDOW, PYRAMID = 15, 4
"""Side in pixels of the patch that is followed, and halvings of the picture it is first sought in."""
RETURN_PIXELS = 0.7
"""A corner followed to the next picture and back must come back this near."""
CORRECTION_PIXELS = 1.5
"""How far a corner may lie from where comparing with its first picture finds it; beyond it, that comparison failed."""
MARGIN = 2


@dataclass(frozen=True)
class Tracks:
    """Where corners were seen; one entry a sighting, in order of pictures.

    Attributes:
        picture: (m,) number of the picture. track: (m,) number of the corner. xy: (m,2) pixels, centres at integers.
        first: (k,) for each of the k corners the entry of its first sighting.
    """

    picture: Ints
    track: Ints
    xy: Floats
    first: Ints

    def at(self, picture: int) -> slice:
        """The entries of one picture."""
        begin, end = np.searchsorted(self.picture, [picture, picture + 1])
        return slice(int(begin), int(end))


def follow_corners(pictures: Sequence[Grey], cv2: Any) -> Tracks:
    """Find corners in every picture where none is followed yet, and follow them as long as that is certain.

    Every step is checked by going back, and corrected by comparing with the picture where the corner was found, so that
    small errors do not add up.
    """
    xy = np.zeros((0, 2), np.float32)
    track = np.zeros(0, np.int64)
    births = np.zeros(0, np.int64)
    born_at = np.zeros((0, 2), np.float32)
    seen: list[tuple[Ints, NDArray[np.float32]]] = []
    found = 0
    for number, picture in enumerate(pictures):
        if number:
            moved, kept = _follow(pictures[number - 1], picture, xy, None, cv2)
            xy, track, births, born_at = moved[kept], track[kept], births[kept], born_at[kept]
            for birth in np.unique(births[births < number - 1]):
                group = np.flatnonzero(births == birth)
                again, good = _follow(pictures[birth], picture, born_at[group], xy[group], cv2)
                good &= np.abs(again - xy[group]).max(axis=1) < CORRECTION_PIXELS
                xy[group[good]] = again[good]
        new = _new_corners(picture, xy, cv2)
        track = np.concatenate([track, np.arange(found, found + len(new))])
        births = np.concatenate([births, np.full(len(new), number)])
        xy, born_at = np.concatenate([xy, new]), np.concatenate([born_at, new])
        found += len(new)
        seen.append((track, xy.copy()))
    tracks = np.concatenate([t for t, _ in seen])
    return Tracks(
        picture=np.concatenate([np.full(len(t), number) for number, (t, _) in enumerate(seen)]),
        track=tracks,
        xy=np.concatenate([x for _, x in seen]).astype(np.float64),
        first=np.unique(tracks, return_index=True)[1],
    )


def _follow(
    before: Grey, after: Grey, xy: NDArray[np.float32], guess: NDArray[np.float32] | None, cv2: Any
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Places (k,2) in `after` of the places `xy` in `before`, and which of them were found for certain."""
    if len(xy) == 0:
        return xy, np.zeros(0, bool)
    settings = {
        "winSize": (WINDOW, WINDOW),
        "maxLevel": PYRAMID,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 0.01),
        "minEigThreshold": 1e-5,
    }
    there = guess[:, None].copy() if guess is not None else None
    back = xy[:, None].copy() if guess is not None else None
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW if guess is not None else 0
    there, ok, _ = cv2.calcOpticalFlowPyrLK(before, after, xy[:, None], there, flags=flags, **settings)
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, back, flags=flags, **settings)
    moved: NDArray[np.float32] = there[:, 0]
    height, width = after.shape
    inside = (moved >= MARGIN).all(1) & (moved <= np.array([width - 1, height - 1]) - MARGIN).all(1)
    returned = np.abs(back[:, 0] - xy).max(axis=1) < RETURN_PIXELS
    return moved, (ok[:, 0] > 0) & (ok_back[:, 0] > 0) & inside & returned


def _new_corners(picture: Grey, taken: NDArray[np.float32], cv2: Any) -> NDArray[np.float32]:
    """Corners (k,2) away from the places that are taken."""
    if len(taken) >= CORNERS:
        return np.zeros((0, 2), np.float32)
    free = np.full(picture.shape, 255, np.uint8)
    for x, y in np.rint(taken).astype(int):
        cv2.circle(free, (int(x), int(y)), SPACING, 0, -1)
    corners = cv2.goodFeaturesToTrack(picture, CORNERS - len(taken), QUALITY, SPACING, mask=free, blockSize=5)
    if corners is None:
        return np.zeros((0, 2), np.float32)
    new: NDArray[np.float32] = corners[:, 0].astype(np.float32)
    return new
