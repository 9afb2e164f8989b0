"""Cameras and places of corners as they become known, picture by picture, from one picture whose depth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sana_wm.evaluation.engines.adjust import adjust, refine_depths
from sana_wm.evaluation.engines.pictures import Floats
from sana_wm.evaluation.engines.projection import Cameras, Points, Sightings, depth_slopes, pixel_errors
from sana_wm.evaluation.engines.tracks import Ints, Tracks

RANSAC_PIXELS, RANSAC_TRIES = 2.0, 3000
LEAST_POINTS, LEAST_SHARE = 12, 0.25
"""A pose must agree with so many corners, and with this share of those whose place is known."""
SURE_PIXELS = 1.5
"""A corner takes part in PnP if what is not known of its depth moves it by less than this."""
DEPTH_SIGMA = 0.02
"""Standard deviation of a true depth over the depth: a corner on an edge is not quite where it seems."""
ADJUST_EVERY, ADJUST_STEPS, WINDOW = 5, 5, 20
"""Poses from one adjustment on the way to the next, its steps, and how far back it reaches."""


class Walk:
    """Poses and places as they become known, picture by picture."""

    def __init__(self, tracks: Tracks, lens: Floats, cv2: Any) -> None:
        self.tracks, self.lens, self.cv2 = tracks, lens, cv2
        self.seen = Sightings(tracks.picture, tracks.track, tracks.xy)
        n, k = len(lens), len(tracks.first)
        self.cameras = Cameras(np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 3)), lens, np.zeros(n, bool))
        self.points = Points(np.full(k, -1), np.zeros((k, 3)), np.ones(k), np.ones(k), np.ones(k))
        self.information = np.ones(k)
        self.last, self.found = 0, 0

    def begin(self, first_pose: Floats, depths: Floats) -> None:
        """Picture 0 has this pose (4,4), its corners these depths; what is in the sky may be at any distance."""
        self._place(0, first_pose[:3, :3], first_pose[:3, 3])
        ids = self._host(0)
        solid = np.isfinite(depths)
        inverse = np.where(solid, 1 / depths, 1.0)
        usual = float(np.median(inverse[solid])) if solid.any() else 1.0
        known = np.where(solid, inverse, usual)
        self.points.inverse_depth[ids] = self.points.prior[ids] = known
        self.points.sigma[ids] = np.where(solid, known * DEPTH_SIGMA, usual)
        self.information = 1 / self.points.sigma**2

    def step(self, picture: int) -> None:
        """The pose of the next picture, if enough agrees with one, and what it tells about places."""
        entries = self.tracks.at(picture)
        ids, xy = self.tracks.track[entries], self.tracks.xy[entries]
        placed = self.points.host[ids] >= 0
        ids, xy = ids[placed], xy[placed]
        sure = self._uncertainty(picture, ids, xy) < SURE_PIXELS
        ids, xy = ids[sure], xy[sure]
        pose = self._pnp(ids, xy, self.lens[picture])
        if pose is None:
            return
        self._place(picture, *pose)
        self.last, self.found = picture, self.found + 1
        usual = self._usual_inverse_depth(picture, ids)
        new = self._host(picture)
        self.points.inverse_depth[new] = self.points.prior[new] = self.points.sigma[new] = usual
        everyone = self.tracks.track[entries]
        self.points, information = refine_depths(self.cameras, self.points, self._usable(picture, everyone))
        self.information[everyone] = information[everyone]
        if self.found % ADJUST_EVERY == 0:
            self._adjust_window(picture)

    def _adjust_window(self, picture: int) -> None:
        """Adjust the latest poses and what they see; earlier poses stay, or a minute would take hours."""
        moving = self.cameras.known.copy()
        moving[0] = False
        moving[: max(0, picture - WINDOW)] = False
        here = self.tracks.at(picture)
        begin = self.tracks.at(max(0, picture - WINDOW)).start
        seen = self._usable(picture, np.unique(self.tracks.track[begin : here.stop]))
        self.cameras, self.points = adjust(self.cameras, self.points, seen, moving, ADJUST_STEPS)

    def finish(self) -> Cameras:
        """All poses, adjusted together; one that too little agrees with in the end is no pose."""
        moving = self.cameras.known.copy()
        moving[0] = False  # the true first frame
        seen = self._usable(len(self.lens))
        self.cameras, self.points = adjust(self.cameras, self.points, seen, moving)
        agree = pixel_errors(self.cameras, self.points, seen) < RANSAC_PIXELS
        agreeing = np.bincount(seen.picture[agree], minlength=len(self.lens))
        present = np.bincount(seen.picture, minlength=len(self.lens))
        self.cameras.known[1:] &= (agreeing >= np.maximum(LEAST_POINTS, LEAST_SHARE * present))[1:]
        return self.cameras

    def _place(self, picture: int, rotation: Floats, centre: Floats) -> None:
        self.cameras.rotation[picture], self.cameras.centre[picture] = rotation, centre
        self.cameras.known[picture] = True

    def _host(self, picture: int) -> Ints:
        """Let the corners of a picture that lie on no ray yet lie on rays of this one; which these are."""
        entries = self.tracks.at(picture)
        new = self.points.host[self.tracks.track[entries]] < 0
        ids, xy = self.tracks.track[entries][new], self.tracks.xy[entries][new]
        lens = self.lens[picture]
        self.points.host[ids] = picture
        self.points.ray[ids] = np.concatenate([(xy - lens[2:]) / lens[:2], np.ones((len(xy), 1))], axis=1)
        return ids

    def _uncertainty(self, picture: int, ids: Ints, xy: Floats) -> Floats:
        """(k,) pixels by which corners may be off, by what is not known of their depths, seen from the last pose."""
        rotation, centre = self.cameras.rotation.copy(), self.cameras.centre.copy()
        rotation[picture], centre[picture] = rotation[self.last], centre[self.last]
        here = replace(self.cameras, rotation=rotation, centre=centre)
        slopes, _, _ = depth_slopes(here, self.points, Sightings(np.full(len(ids), picture), ids, xy))
        spread: Floats = np.linalg.norm(slopes, axis=1) / np.sqrt(self.information[ids])
        return spread

    def _usual_inverse_depth(self, picture: int, ids: Ints) -> float:
        """The median inverse depth of corners in a picture: the best guess for new ones."""
        offset = self._places(ids) - self.cameras.centre[picture]
        depth = offset @ self.cameras.rotation[picture][:, 2]
        depth = depth[depth > 1e-3]
        return float(1 / np.median(depth)) if len(depth) else 1.0

    def _places(self, ids: Ints) -> Floats:
        """(k,3) in the world."""
        host = self.points.host[ids]
        ray = (self.cameras.rotation[host] @ self.points.ray[ids][..., None])[..., 0]
        places: Floats = self.cameras.centre[host] + ray / self.points.inverse_depth[ids][:, None]
        return places

    def _usable(self, last: int, ids: Ints | None = None) -> Sightings:
        """Sightings up to a picture, of corners on known rays (only `ids` of them), from other known cameras."""
        seen, host = self.seen, self.points.host[self.seen.point]
        good = (seen.picture <= last) & self.cameras.known[seen.picture] & (host >= 0) & (host < seen.picture)
        if ids is not None:
            wanted = np.zeros(len(self.points.host), bool)
            wanted[ids] = True
            good &= wanted[seen.point]
        return seen[good]

    def _pnp(self, ids: Ints, xy: Floats, lens: Floats) -> tuple[Floats, Floats] | None:
        """Rotation and centre of the camera that sees the corners `ids` at `xy`, or None if too few agree on one."""
        if len(ids) < LEAST_POINTS:
            return None
        matrix = np.array([[lens[0], 0, lens[2]], [0, lens[1], lens[3]], [0, 0, 1]])
        places = self._places(ids)
        self.cv2.setRNGSeed(0)  # RANSAC draws from the global generator
        good, turn, shift, agree = self.cv2.solvePnPRansac(
            places[:, None], xy[:, None], matrix, None, iterationsCount=RANSAC_TRIES,
            reprojectionError=RANSAC_PIXELS, confidence=0.9999, flags=self.cv2.SOLVEPNP_SQPNP,
        )  # fmt: skip
        if not good or agree is None or len(agree) < max(LEAST_POINTS, LEAST_SHARE * len(ids)):
            return None
        agree = agree[:, 0]
        turn, shift = self.cv2.solvePnPRefineLM(places[agree], xy[agree], matrix, None, turn, shift)
        rotation = self.cv2.Rodrigues(turn)[0]
        if not (np.isfinite(rotation).all() and np.isfinite(shift).all()):
            return None
        return rotation.T, -(rotation.T @ shift)[:, 0]
