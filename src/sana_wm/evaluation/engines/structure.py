"""Poses by structure from motion with COLMAP: no weights, no GPU, nothing known of the world but that it stands still.

Points are SIFT features, and corners followed from picture to picture: features find a place again after a while,
corners are many and sure where neighbouring pictures are alike. All poses are then sought together (global mapping),
which was both faster and surer on short baselines than adding one picture after another. Poses come in an unknown scale
and frame.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sana_wm.evaluation.engines.engine import Recovered, check_video, load_library
from sana_wm.evaluation.engines.pictures import Floats, Pictures, grey_pictures, scaled_intrinsics
from sana_wm.evaluation.engines.tracks import Tracks, follow_corners

INSTALL = "pip install 'sana-wm[evaluation]'"
DEFAULT_FOV = 60.0
"""Degrees along the longer side where intrinsics are not known; the focal length is then refined."""
EXHAUSTIVE = 100
"""Up to so many pictures every pair is compared; of more, neighbours, and every `STRIDE`-th with every other."""
NEIGHBOURS, STRIDE = 10, 8
PEAK, OCTAVE, RATIO = 0.004, -1, 0.8
"""SIFT for small, soft pictures: weak peaks count, and the first octave is twice the picture."""
PIXELS, LEAST_MATCHES, LEAST_VIEWS, LEAST_ANGLE_DEG = 2.0, 15, 3, 0.3
LEAST_SEEN = 20
"""Points of the model that a picture must see: noise gives it a handful by chance, a soft video a hundred."""
QUIET = 3
"""COLMAP's log level from which it would print: above errors."""

Pair = tuple[int, int]


class Pycolmap:
    """See the module's docstring. Pictures that do not fit the largest model have no pose."""

    name = "pycolmap"

    def __init__(self) -> None:
        self.cv2 = load_library("cv2", self.name, INSTALL)
        self.col = load_library("pycolmap", self.name, INSTALL)

    def estimate(self, frames: Tensor, intrinsics: Tensor | None) -> Recovered:
        """Poses up to a similarity; equal frames give equal poses."""
        check_video(frames, intrinsics)
        self.col.logging.minloglevel = QUIET
        self.col.set_random_seed(0)
        video = grey_pictures(frames, self.cv2)
        refine = intrinsics is None
        lens = scaled_intrinsics(_default_lens(frames) if intrinsics is None else intrinsics, video.scale)
        tracks = follow_corners(video.grey, self.cv2)
        with tempfile.TemporaryDirectory(prefix="sana-wm-poses-") as folder:
            database = Path(folder) / "points.db"
            features = self._write_points(database, video, lens, tracks)
            if self._match(Path(folder), database, tracks, features):
                models = self.col.global_mapping(database, folder, folder, self._options(refine))
            else:
                models = {}
            return _largest(models, len(frames))

    def _write_points(self, database: Path, video: Pictures, lens: Floats, tracks: Tracks) -> list[int]:
        """Pictures, lenses and points into the database; how many of each picture's points are SIFT features."""
        col = self.col
        options = col.FeatureExtractionOptions()
        options.use_gpu, options.num_threads = False, 1
        options.sift.first_octave, options.sift.peak_threshold = OCTAVE, PEAK
        extractor = col.FeatureExtractor.create(options, col.Device.cpu)
        height, width = video.size
        counts, rig, camera_id = [], 0, 0
        with col.Database.open(database) as db:
            for number, grey in enumerate(video.grey):
                if number == 0 or (lens[number] != lens[number - 1]).any():
                    fx, fy, cx, cy = lens[number]
                    params = [fx, fy, cx + 0.5, cy + 0.5]  # COLMAP's pixel centres lie at halves
                    camera = col.Camera(model="PINHOLE", width=width, height=height, params=params)
                    camera.has_prior_focal_length = True
                    camera.camera_id = camera_id = db.write_camera(camera)
                    sensors = col.Rig()
                    sensors.add_ref_sensor(camera.sensor_id)
                    rig = db.write_rig(sensors)
                image = col.Image(name=_name(number), camera_id=camera_id)
                image.image_id = db.write_image(image)
                frame = col.Frame()
                frame.rig_id = rig
                frame.add_data_id(image.data_id)
                db.write_frame(frame)
                keypoints, descriptors = extractor.extract_from_uint8_array(grey)
                places = col.keypoints_to_matrix(keypoints)[:, :2].reshape(-1, 2)
                counts.append(len(places))
                db.write_descriptors(image.image_id, descriptors)
                corners = (tracks.xy[tracks.at(number)] + 0.5).astype(np.float32)
                db.write_keypoints(image.image_id, np.concatenate([places, corners]))
        return counts

    def _match(self, folder: Path, database: Path, tracks: Tracks, features: list[int]) -> bool:
        """Which points of two pictures are the same, by look and by track, checked by geometry; False if none are."""
        col, pairs = self.col, compared_pairs(len(features))
        geometry = col.TwoViewGeometryOptions()
        geometry.ransac.max_error, geometry.ransac.random_seed = PIXELS, 0
        geometry.min_num_inliers = LEAST_MATCHES
        look = col.FeatureMatchingOptions()
        look.use_gpu, look.num_threads, look.skip_geometric_verification = False, 1, True
        look.sift.max_ratio = RATIO
        chosen = col.ImportedPairingOptions()
        chosen.match_list_path = _write_pairs(folder / "compared.txt", pairs)
        col.match_image_pairs(
            database,
            matching_options=look,
            pairing_options=chosen,
            verification_options=geometry,
            device=col.Device.cpu,
        )
        matched: list[Pair] = []
        with col.Database.open(database) as db:
            for a, b in pairs:
                matches = np.zeros((0, 2), np.uint32)
                if db.exists_matches(a + 1, b + 1):
                    matches = db.read_matches(a + 1, b + 1)
                    db.delete_matches(a + 1, b + 1)
                both = np.concatenate([matches, _same_corners(tracks, (a, b), features)])
                if len(both) >= LEAST_MATCHES:
                    db.write_matches(a + 1, b + 1, both)
                    matched.append((a, b))
        if matched:
            col.verify_matches(database, _write_pairs(folder / "matched.txt", matched), geometry)
        return bool(matched)

    def _options(self, refine_lens: bool) -> Any:
        options = self.col.GlobalPipelineOptions()
        options.num_threads, options.random_seed = 1, 0
        options.min_num_matches, options.min_model_size = LEAST_MATCHES, LEAST_VIEWS
        mapper = options.mapper
        mapper.num_threads = 1
        mapper.random_seed = mapper.rotation_averaging.random_seed = mapper.retriangulation.random_seed = 0
        mapper.global_positioning.random_seed = 0
        mapper.global_positioning.use_gpu = mapper.bundle_adjustment.ceres.use_gpu = False
        mapper.bundle_adjustment.refine_focal_length = refine_lens
        mapper.bundle_adjustment.refine_extra_params = False
        mapper.track_min_num_views_per_track = LEAST_VIEWS
        mapper.min_tri_angle_deg = mapper.retriangulation.min_angle = LEAST_ANGLE_DEG
        return options


def compared_pairs(count: int) -> list[Pair]:
    """The pairs a < b of `count` pictures that are compared."""
    if count <= EXHAUSTIVE:
        return [(a, b) for a in range(count) for b in range(a + 1, count)]
    near = {(a, b) for a in range(count) for b in range(a + 1, min(count, a + 1 + NEIGHBOURS))}
    far = {(a, b) for a in range(0, count, STRIDE) for b in range(a + STRIDE, count, STRIDE)}
    return sorted(near | far)


def _default_lens(frames: Tensor) -> Tensor:
    height, width = frames.shape[2:]
    focal = 0.5 * max(height, width) / np.tan(np.radians(DEFAULT_FOV) / 2)
    lens = torch.tensor([focal, focal, (width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    return lens.expand(len(frames), 4)


def _same_corners(tracks: Tracks, pair: Pair, features: list[int]) -> NDArray[np.uint32]:
    """(m,2) numbers of the points that are one corner in both pictures; corners come after the features."""
    a, b = (tracks.track[tracks.at(number)] for number in pair)
    _, *rows = np.intersect1d(a, b, return_indices=True)
    return np.stack([row + features[number] for row, number in zip(rows, pair, strict=True)], axis=1).astype(np.uint32)


def _write_pairs(path: Path, pairs: list[Pair]) -> Path:
    path.write_text("\n".join(f"{_name(a)} {_name(b)}" for a, b in pairs), encoding="ascii")
    return path


def _name(number: int) -> str:
    return f"{number:05d}"


def _largest(models: dict[int, Any], count: int) -> Recovered:
    """The poses of the model with the most pictures."""
    found = Recovered.nothing(count)
    if not models:
        return found
    best = max(models.values(), key=lambda model: (model.num_reg_images(), model.compute_num_observations()))
    for image in best.images.values():
        if image.has_pose and image.num_points3D >= LEAST_SEEN:
            number = int(image.name)
            world_from_cam = np.eye(4)
            world_from_cam[:3] = image.cam_from_world().inverse().matrix()
            found.c2w[number] = torch.from_numpy(world_from_cam)
            found.valid[number] = True
    return found
