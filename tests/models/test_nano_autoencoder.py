"""The nano codec: causal, the same in pieces as in one go, any length and any multiple of 16 pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.models import nano_autoencoder
from sana_wm.models.config import NanoAutoencoderConfig
from sana_wm.models.nano_autoencoder import CHUNK, NanoAutoencoder, TemporalState, from_depth, to_depth

CONFIG = NanoAutoencoderConfig(
    latent_channels=6, widths=(64, 32, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 2, 1)
)
EXACT = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def codec() -> NanoAutoencoder:
    """With temporal convolutions that do something, and latent statistics that are not trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = NanoAutoencoder(CONFIG)
        with torch.no_grad():
            for name, weight in codec.named_parameters():
                if "temporal" in name:
                    weight.normal_(0, 0.1)
            codec.latents_mean.normal_()
            codec.latents_std.uniform_(0.5, 2)
    return codec.eval()


def video(frames: int, height: int = 16, width: int = 32, *, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def random_latents(count: int, *, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(batch, 6, count, 1, 2, generator=torch.Generator().manual_seed(seed))


def normalised(codec: NanoAutoencoder, raw: Tensor) -> Tensor:
    """(B, T, C, H, W) of the encoder -> what :meth:`encode` returns."""
    mean, std = (s[:, None, None] for s in (codec.latents_mean, codec.latents_std))
    return ((raw - mean) / std).transpose(1, 2)


@pytest.mark.parametrize("count", [1, 2, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_encoding_in_pieces_is_encoding_in_one_go(codec: NanoAutoencoder, count: int) -> None:
    clip = video(8 * count - 7)
    with torch.no_grad():
        expected = normalised(codec, codec.encode_raw(clip))
    torch.testing.assert_close(codec.encode(clip), expected, **EXACT)


@pytest.mark.parametrize("count", [1, 2, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_decoding_in_pieces_is_decoding_in_one_go(codec: NanoAutoencoder, count: int) -> None:
    latents = random_latents(count)
    mean, std = (s[:, None, None, None] for s in (codec.latents_mean, codec.latents_std))
    with torch.no_grad():
        expected = codec.decode_raw((latents * std + mean).transpose(1, 2)).clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents), expected, **EXACT)


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(1, 16, 16), (1, 16, 48), (9, 16, 48), (17, 48, 16), (33, 16, 16)]
)
def test_a_video_comes_back_in_its_own_shape(codec: NanoAutoencoder, frames: int, height: int, width: int) -> None:
    latents = codec.encode(video(frames, height, width, batch=2))
    assert latents.shape == (2, 6, (frames + 7) // 8, height // 16, width // 16)
    back = codec.decode(latents)
    assert back.shape == (2, 3, frames, height, width)
    assert back.dtype == torch.float32
    assert back.abs().max() <= 1


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_latent_sees_no_frame_after_its_own(codec: NanoAutoencoder, k: int) -> None:
    """Frame 8k - 7 is the first that latent k stands for, so changing it and what follows moves latents from k on."""
    clip = video(49)
    other = clip.clone()
    other[:, :, 8 * k - 7 :] = video(49, seed=1)[:, :, 8 * k - 7 :]
    before, after = codec.encode(clip), codec.encode(other)
    assert torch.equal(before[:, :, :k], after[:, :, :k])
    assert not torch.allclose(before[:, :, k], after[:, :, k], atol=1e-3)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_frame_sees_no_latent_after_its_own(codec: NanoAutoencoder, k: int) -> None:
    latents = random_latents(7)
    other = latents.clone()
    other[:, :, k:] = random_latents(7, seed=1)[:, :, k:]
    before, after = codec.decode(latents), codec.decode(other)
    first = 8 * k - 7
    assert torch.equal(before[:, :, :first], after[:, :, :first])
    assert not torch.allclose(before[:, :, first], after[:, :, first], atol=1e-3)


@pytest.mark.parametrize("sizes", [(7,), (4, 3), (1, 3, 3), (1,) * 7])
def test_decoding_with_a_remembered_past_is_decoding_in_one_go(codec: NanoAutoencoder, sizes: tuple[int, ...]) -> None:
    latents, tails, made = random_latents(7, batch=2), (), []
    for chunk in latents.split(sizes, dim=2):
        before = [tail.clone() for tail in tails]
        frames, after = codec.decode_next(chunk, tails)
        assert all(map(torch.equal, before, tails))  # the past can be taken up again: a world forks by sharing it
        tails = after
        made.append(frames)
    assert [frames.shape[2] for frames in made] == [8 * sizes[0] - 7, *(8 * size for size in sizes[1:])]
    torch.testing.assert_close(torch.cat(made, 2), codec.decode(latents), **EXACT)


def test_the_remembered_past_holds_no_more_than_two_frames_a_convolution(codec: NanoAutoencoder) -> None:
    _, tails = codec.decode_next(random_latents(7))
    assert all(tail.shape[1] == 2 for tail in tails)
    assert all(tail.untyped_storage().nbytes() == tail.nbytes for tail in tails)  # not a view that keeps a chunk


def test_a_picture_is_the_first_latent_of_every_video_that_starts_with_it(codec: NanoAutoencoder) -> None:
    clip = video(25)
    latents = codec.encode(clip)
    torch.testing.assert_close(codec.encode(clip[:, :, :1]), latents[:, :, :1], **EXACT)
    torch.testing.assert_close(codec.decode(latents[:, :, :1]), codec.decode(latents)[:, :, :1], **EXACT)


def test_time_reaches_over_the_border_of_a_chunk(codec: NanoAutoencoder) -> None:
    latents = random_latents(CHUNK + 1)
    other = latents.clone()
    other[:, :, CHUNK - 1] += 1
    before, after = codec.decode(latents), codec.decode(other)
    assert not torch.allclose(before[:, :, 8 * CHUNK - 7], after[:, :, 8 * CHUNK - 7], atol=1e-3)


def test_videos_of_a_batch_do_not_see_each_other(codec: NanoAutoencoder) -> None:
    clips = video(17, batch=2)
    latents = codec.encode(clips)
    torch.testing.assert_close(codec.encode(clips[1:]), latents[1:], **EXACT)
    torch.testing.assert_close(codec.decode(latents[1:]), codec.decode(latents)[1:], **EXACT)


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(8, 16, 16), (16, 16, 16), (10, 16, 16), (9, 17, 16), (9, 16, 40), (0, 16, 16)]
)
def test_a_video_that_the_strides_do_not_divide_is_refused(
    codec: NanoAutoencoder, frames: int, height: int, width: int
) -> None:
    found = f"video of {frames} frames, {height}x{width} pixels: the codec takes 8k\\+1 frames and multiples of 16"
    with pytest.raises(InputError, match=found):
        codec.encode(torch.zeros(1, 3, frames, height, width))


def test_widths_that_do_not_halve_are_refused() -> None:
    with pytest.raises(InputError, match=r"codec.widths are \(64, 32, 20\)"):
        NanoAutoencoder(NanoAutoencoderConfig(widths=(64, 32, 20)))


@pytest.mark.parametrize(("count", "calls"), [(1, [(1, 1)]), (4, [(4, 4)]), (9, [(4, 9), (8, 9), (9, 9)])])
def test_decoding_reports_how_far_it_is(codec: NanoAutoencoder, count: int, calls: list[tuple[int, int]]) -> None:
    seen: list[tuple[int, int]] = []
    codec.decode(random_latents(count), lambda done, total: seen.append((done, total)))
    assert seen == calls


def test_latents_of_any_precision_are_decoded(codec: NanoAutoencoder) -> None:
    latents = random_latents(2).bfloat16()
    assert torch.equal(codec.decode(latents), codec.decode(latents.float()))


def test_training_reaches_every_weight(codec: NanoAutoencoder) -> None:
    codec.zero_grad()
    codec.decode_raw(codec.encode_raw(video(17))).square().mean().backward()
    assert [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.any()] == []
    codec.zero_grad()


def test_a_fresh_codec_mixes_no_time() -> None:
    """Residual blocks start as the identity, so a still video has the same latent throughout."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = NanoAutoencoder(CONFIG)
    still = video(1).expand(-1, -1, 17, -1, -1)
    latents = fresh.encode(still)
    torch.testing.assert_close(latents, latents[:, :, :1].expand_as(latents), **EXACT)


@pytest.mark.parametrize("block", [(2, 4, 4), (2, 2, 2), (1, 1, 3)])
def test_folding_into_channels_loses_nothing(block: tuple[int, int, int]) -> None:
    t, h, w = block
    x = torch.randn(2, 2 * t, 5, 3 * h, 2 * w, generator=torch.Generator().manual_seed(0))
    folded = to_depth(x, block)
    assert folded.shape == (2, 2, 5 * t * h * w, 3, 2)
    assert torch.equal(from_depth(folded, block), x)
    assert torch.equal(folded[0, 1, :, 2, 1].sort().values, x[0, t:, :, 2 * h :, w:].flatten().sort().values)


def test_the_last_level_in_pieces_is_the_last_level_in_one_go(
    codec: NanoAutoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = random_latents(5).transpose(1, 2)
    with torch.no_grad():
        whole, pieces = TemporalState(), TemporalState()
        expected = codec.decoder(latents, whole)
        monkeypatch.setattr(nano_autoencoder, "NUMBERS", 1)  # a frame at a time
        torch.testing.assert_close(codec.decoder(latents, pieces), expected, **EXACT)
    for one, other in zip(whole.tails, pieces.tails, strict=True):
        torch.testing.assert_close(one, other, **EXACT)
