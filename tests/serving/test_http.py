"""The parts of a server that are no WebSocket."""

from __future__ import annotations

import json
import re

from tests.serving.live import FILES, PAGE, Serve


def test_health_metrics_model_and_openapi_answer(serve: Serve) -> None:
    place = serve(sessions=3)
    with place.guest() as guest:
        guest.begin()
        guest.chunk("w")
        health = json.loads(place.get("health")[1])
        assert (health["status"], health["sessions"], health["places"]) == ("ok", 1, 3)
        metrics = place.get("metrics")[1].decode()
        assert re.search(r"^sana_wm_sessions 1\.0$", metrics, re.MULTILINE)
        assert re.search(r"^sana_wm_frames_total 25\.0$", metrics, re.MULTILINE)
        assert 'sana_wm_chunk_seconds_count{stage="denoise"} 1.0' in metrics
    about = json.loads(place.get("v1/model")[1])
    assert (about["width"], about["height"], about["frames_a_chunk"]) == (48, 32, 24)
    paths = json.loads(place.get("openapi.json")[1])["paths"]
    assert {"/health", "/metrics", "/v1/model", "/v1/sessions/{name}/video", "/v1/sessions/{name}/walk"} <= set(paths)
    assert place.get("v1/example")[1].startswith(b"\xff\xd8")


def test_a_session_is_known_by_its_name_alone_and_not_after_its_end(serve: Serve) -> None:
    place = serve()
    assert place.get("v1/sessions/nobody/walk")[0] == 404
    with place.guest() as guest:
        name = guest.begin()["session"]
        assert place.get(f"v1/sessions/{name}/walk")[0] == 409  # nothing has been walked
        guest.chunk("w")
        assert place.get(f"v1/sessions/{name}/walk")[0] == 200
        assert place.get(f"v1/sessions/{name}/video?from_chunk=5")[0] == 409
        assert place.get(f"v1/sessions/{name}/video?node=17")[0] == 404
        assert place.get(f"v1/sessions/{name}/video?node=x")[0] == 422
    place.wait(lambda: place.get(f"v1/sessions/{name}/walk")[0] == 404, 2)


def test_the_page_is_whole_and_asks_nobody_else(serve: Serve) -> None:
    place = serve()
    assert {path.name for path in PAGE.iterdir()} == set(FILES)
    for name in FILES:
        code, content = place.get(f"page/{name}")
        assert code == 200
        outside = set(re.findall(r"https?://[^\"'\s)]+", content.decode())) - {"http://www.w3.org/2000/svg"}
        assert outside == set()
    assert place.get("page/../app.py")[0] == 404
    assert place.get("page/%2e%2e%2fapp.py")[0] == 404
