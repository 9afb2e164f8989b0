"""One running copy of the game, told to place the player, move it and show what it sees."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sana_wm.errors import InputError
from sana_wm.worlds.doom.camera import UNITS_PER_METRE, Lens, camera_to_world
from sana_wm.worlds.doom.wander import Motion
from sana_wm.worlds.doom_maps import wad_name

TICS_PER_FRAME = 2
FRAMES_PER_SECOND = 35 / TICS_PER_FRAME
# On flat ground a move command of n speeds the player up to n / 3 map units a tic.
_COMMAND_PER_UNIT = 3.0
# Depth buffer, 8 bit: level n stands for about (n + 2.3) * 7.11 map units along the view axis at a field of view of 90
# degrees, and for more at a smaller one: the engine measures depth by how large things look.
_DEPTH_UNITS, _DEPTH_OFFSET = 64 / 9, 2.3
_SKY_LEVEL = 212  # what the engine writes for sky; a surface that far away (48 m or more) cannot be told from it
_HIDDEN = (
    "hud", "minimal_hud", "weapon", "crosshair", "messages", "decals", "particles", "effects_sprites", "corpses",
    "screen_flashes",
)  # fmt: skip
# Bobbing is off. More visibility than usual keeps the light of a surface from changing as one walks towards it.
_ARGUMENTS = (
    "-nomonsters +sv_nomonsters 1 +sv_cheats 1 +movebob 0 +stillbob 0 +r_visibility 24"
    " +con_midtime 0 +cl_showsecretmessage 0"
)


class EngineStopped(Exception):
    """The game process ended by itself."""


@dataclass(frozen=True)
class View:
    """What the player sees at one moment.

    Attributes:
        frame: ``(3, H, W)`` uint8.
        c2w: ``(4, 4)`` float32, metres.
        depth: ``(H, W)`` float32 metres, or None.
        place: ``(2,)`` float64 map units.
        heading: radians counter-clockwise from east.
        game_fov: field of view of the engine in degrees.
    """

    frame: NDArray[np.uint8]
    c2w: NDArray[np.float32]
    depth: NDArray[np.float32] | None
    place: NDArray[np.float64]
    heading: float
    game_fov: float


def import_vizdoom() -> ModuleType:
    """Return the ``vizdoom`` module; raises :class:`InputError` where it is not installed."""
    try:
        import vizdoom
    except ImportError as error:
        raise InputError(
            f"the Doom world needs the package vizdoom, which does not load ({error}); install the extra [worlds]."
        ) from error
    return vizdoom  # type: ignore[no-any-return, unused-ignore]


def wad_path(level: str) -> Path:
    """Return the path of the WAD file that holds ``level``."""
    return Path(str(import_vizdoom().__file__)).parent / wad_name(level)


class Engine:
    """The game on one level; ``close`` it after use. ``depth`` costs a third of the speed."""

    def __init__(self, level: str, lens: Lens, *, seed: int, depth: bool = False) -> None:
        self.vizdoom = import_vizdoom()
        self.level, self.lens, self.depth = level, lens, depth
        self._owed = np.zeros(2)
        # The engine keeps its settings in a file: a fresh one, so that no other game or worker has a say.
        self._folder = tempfile.TemporaryDirectory(prefix="doom-world-", ignore_cleanup_errors=True)
        self._game: Any = self._start(seed)

    def _start(self, seed: int) -> Any:
        vizdoom = self.vizdoom
        game = vizdoom.DoomGame()
        game.set_doom_game_path(str(wad_path(self.level)))
        game.set_doom_map(self.level)
        game.set_doom_config_path(str(Path(self._folder.name) / "engine.ini"))
        resolution = f"RES_{self.lens.screen_width}X{self.lens.screen_height}"
        game.set_screen_resolution(getattr(vizdoom.ScreenResolution, resolution))
        game.set_screen_format(vizdoom.ScreenFormat.CRCGCB)
        game.set_depth_buffer_enabled(self.depth)
        for thing in _HIDDEN:
            getattr(game, f"set_render_{thing}")(False)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_mode(vizdoom.Mode.PLAYER)
        button, variable = vizdoom.Button, vizdoom.GameVariable
        game.set_available_buttons(
            [button.MOVE_FORWARD_BACKWARD_DELTA, button.MOVE_LEFT_RIGHT_DELTA, button.TURN_LEFT_RIGHT_DELTA]
        )
        axes = ("CAMERA_POSITION_X", "CAMERA_POSITION_Y", "CAMERA_POSITION_Z", "CAMERA_ANGLE", "CAMERA_FOV")
        game.set_available_game_variables([getattr(variable, axis) for axis in axes])
        game.set_episode_timeout(0)
        game.set_episode_start_time(10)
        game.set_seed(seed)
        game.add_game_args(_ARGUMENTS)
        try:
            game.init()
        except self._failures() as error:
            game.close()
            self._folder.cleanup()
            raise InputError(f"the Doom engine does not start on level {self.level}: {error}.") from error
        game.send_game_command("god")
        return game

    def _failures(self) -> tuple[type[Exception], ...]:
        """Everything the engine raises when its process or its messages fail."""
        v = self.vizdoom
        return (
            v.ViZDoomErrorException,
            v.ViZDoomUnexpectedExitException,
            v.ViZDoomIsNotRunningException,
            v.MessageQueueException,
            v.SharedMemoryException,
            v.FileDoesNotExistException,
        )

    def close(self) -> None:
        """End the game process."""
        self._game.close()
        self._folder.cleanup()

    def command(self, text: str) -> None:
        """Give the engine a line of its console language, such as ``+crouch``."""
        try:
            self._game.send_game_command(text)
        except self._failures() as error:
            raise EngineStopped(str(error)) from error

    def _act(self, ahead: float, right: float, turn_left_deg: float, tics: int) -> None:
        try:
            if self._game.is_episode_finished():
                self._game.new_episode()
                self._game.send_game_command("god")
            self._game.make_action([ahead, right, -turn_left_deg], tics)
        except self._failures() as error:
            raise EngineStopped(str(error)) from error

    def load(self, level: str) -> None:
        """Go to another level of the same WAD file."""
        try:
            self._game.set_doom_map(level)
            self._game.new_episode()
            self._game.send_game_command("god")
        except self._failures() as error:
            raise EngineStopped(str(error)) from error
        self.level = level

    def place(self, place: NDArray[np.float64], heading: float, game_fov: float) -> bool:
        """Put the player at rest at ``place`` (map units) facing ``heading`` (radians); return whether that worked."""
        self._owed[:] = 0
        self.command(f"fov {game_fov:.4f}")
        self.command(f"warp {place[0]:.0f} {place[1]:.0f}")
        # The field of view changes by 7 degrees a tic; thirty tics are also enough to fall to the floor.
        self._act(0, 0, 0, 30)
        view = self.view(picture=False)
        if (
            view is None
            or float(np.hypot(*(view.place - place))) > UNITS_PER_METRE
            or abs(view.game_fov - game_fov) > 0.5
        ):
            return False
        turn = math.degrees(heading - view.heading)
        self._act(0, 0, (turn + 180) % 360 - 180, 1)
        return True

    def move(self, motion: Motion) -> None:
        """Move for one frame. The engine takes whole numbers; the part left over is carried to the next tic."""
        wanted = np.array((motion.ahead, motion.right)) * (UNITS_PER_METRE / TICS_PER_FRAME * _COMMAND_PER_UNIT)
        self._owed += wanted
        command = np.rint(self._owed)
        self._owed -= command
        self._act(float(command[0]), float(command[1]), motion.turn / TICS_PER_FRAME, TICS_PER_FRAME)

    def view(self, picture: bool = True) -> View | None:
        """Return what the player sees now, None when the level has ended; ``picture=False`` leaves the frame empty."""
        try:
            state = self._game.get_state()
        except self._failures() as error:
            raise EngineStopped(str(error)) from error
        if state is None:
            return None
        x, y, z, angle, fov = (float(value) for value in state.game_variables)
        depth = None
        if self.depth:
            levels = self.lens.shrink_depth(state.depth_buffer)
            unit = _DEPTH_UNITS / UNITS_PER_METRE / math.tan(math.radians(fov) / 2)
            depth = (levels.astype(np.float32) + _DEPTH_OFFSET) * np.float32(unit)
            depth[levels >= _SKY_LEVEL] = np.inf
        heading = math.radians(angle)
        return View(
            frame=self.lens.shrink(state.screen_buffer) if picture else np.zeros((3, 0, 0), np.uint8),
            c2w=camera_to_world(x, y, z, heading),
            depth=depth,
            place=np.array((x, y)),
            heading=heading,
            game_fov=fov,
        )
