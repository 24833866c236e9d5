"""The console in a real browser, on a system that runs: signed in with a token, as an operator works with it.

One camera has been recorded as fast as it goes, so that there is something to replay; the other is added by hand.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import browsing
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from discover_stream.sdk.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECONDS, FPS, SEGMENTS = 12, 3, 6
CONFIG = f"""
log: {{path: log.db, partitions: 2}}
tasks: [vehicles]
quality: 3
cameras:
- {{name: gate, source: "sim://road?seed=3&width=256&height=144&fps={FPS}&seconds={SECONDS}"}}
"""
PATIENCE_S = 300.0
CURRENT = "document.querySelector('video').currentTime"


class Console:
    """The page, the same system through the typed client, and waiting for what should come."""

    def __init__(self, driver: webdriver.Chrome, url: str, token: str) -> None:
        self.driver, self.url, self.client = driver, url, Client(url, token)

    def go(self, place: str) -> None:
        self.driver.get("about:blank")  # else a page that is shown already stays as it is
        self.driver.get(f"{self.url}/#/{place}")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        return browsing.until(self.driver, condition, what, PATIENCE_S)

    def find(self, selector: str) -> Any:
        return self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, selector), f"there was {selector}")

    def click(self, selector: str) -> None:
        self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, selector).is_enabled(), f"{selector} was enabled")
        self.find(selector).click()

    def fill(self, name: str, text: str) -> None:
        self.find(f"dialog [name={name}]").send_keys(text)

    def value(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and token of an administrator of a system that has recorded all of its camera."""
    folder = tmp_path_factory.mktemp("console")
    (folder / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "discover_stream.app.cli"]
    made = subprocess.run(
        [*command, "token", "make", "anna", "--role", "admin", "--config", "config.yaml"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (token,) = re.findall(r"\bdsk_\S+", made.stdout)
    with (folder / "said.txt").open("w") as out:
        process = subprocess.Popen(
            [*command, "run", "--config", "config.yaml", "--http", "127.0.0.1:0"],
            cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        said, end = "", time.monotonic() + PATIENCE_S
        while not (found := re.search(r"console and API: (\S+)", said)):
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.1)
            said = (folder / "said.txt").read_text()
        with Client(found[1], token) as client:
            while client.system().archived < SECONDS * FPS:
                assert process.poll() is None, (folder / "said.txt").read_text()
                time.sleep(0.3)
        yield found[1], token
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


@pytest.fixture(scope="module")
def console(chromium: Any, system: tuple[str, str]) -> Iterator[Console]:
    """A window that somebody has signed in to."""
    driver = browsing.opened(chromium)
    try:
        url, token = system
        opened = Console(driver, url, token)
        opened.go("fleet")
        opened.fill("token", "dsk_wrong")
        opened.click("dialog button.main")
        assert opened.until(lambda: driver.find_element(By.CSS_SELECTOR, "dialog .problem").text, "it was refused")
        opened.find("dialog [name=token]").clear()
        opened.fill("token", token)
        opened.click("dialog button.main")
        opened.find("article[data-camera=gate]")
        assert "anna (admin)" in driver.find_element(By.ID, "who").text
        driver.get_log("browser")  # which has the refusals
        yield opened
    finally:
        driver.quit()


def test_a_camera_and_a_task_are_added_and_bit_rates_move(console: Console) -> None:
    console.go("fleet")
    console.click("#add-camera")
    console.fill("name", "Yard!")
    console.fill("source", "sim://road?seed=4&width=192&height=112&fps=2")
    console.click("dialog button.main")
    assert console.value("document.querySelector('dialog [name=name]').validity.patternMismatch")
    console.find("dialog [name=name]").clear()
    console.fill("name", "yard")
    console.click("dialog [name=realtime]")
    console.click("dialog button.main")
    console.find("article[data-camera=yard]")

    console.go("tasks")
    console.click("#add-task")
    console.click("dialog input[value=known]")
    Select(console.find("dialog [name=known]")).select_by_visible_text("pedestrians")
    console.click("dialog button.main")
    assert console.until(lambda: console.driver.current_url.endswith("#/tasks/pedestrians"), "its page was shown")
    assert len(console.until(lambda: console.driver.find_elements(By.CSS_SELECTOR, ".labels .chip"), "labels")) >= 100

    console.go("fleet")
    rates = []
    for task in ("vehicles", "pedestrians", "all"):
        place = f"article[data-camera=yard] [data-rate={task}]"
        moved = console.until(lambda place=place: re.match(r"(?!0\.0)\d", console.find(place).text), f"{task} had bits")
        rates.append((place, moved.string))
    place, before = rates[-1]
    console.until(lambda: console.find(place).text != before, "the bit rate moved")
    console.until(
        lambda: console.value("document.querySelector('article[data-camera=yard] img').naturalWidth") == 192,
        "a picture",
    )
    assert console.client.camera("yard").kbps > 0
    assert {"vehicles", "pedestrians"} <= set(console.client.camera("yard").tasks)


def test_a_task_page_draws_what_is_found_and_its_rate(console: Console) -> None:
    console.go("tasks/vehicles")
    assert console.find("p.describe").text.startswith("Everything that drives")
    console.until(lambda: console.find("svg.plot path[stroke]"), "the rate was drawn")


def test_a_replay_is_decoded_where_it_is_watched(console: Console) -> None:
    console.go("player?camera=gate&task=vehicles&span=")
    console.until(lambda: console.find("#decoded").get_attribute("data-frames") == "0", "the counter stood at 0")
    # The page asked for this very replay, so that asking again names it.
    replay = console.client.new_replay("gate", task="vehicles", profile="human")
    assert replay.segments == SEGMENTS
    assert (replay.progress.frames_decoded, replay.progress.segments_ready) == (0, 0)

    timeline = console.find(".timeline")
    timeline.send_keys(Keys.END)
    console.until(lambda: console.value("document.querySelector('video').readyState") >= 2, "the end was there")
    assert console.value(CURRENT) > SECONDS - 2
    at_end = console.client.replay(replay.id).progress
    assert at_end.segments_ready == 1
    assert 0 < at_end.frames_decoded < SECONDS * FPS / 2

    timeline.send_keys(Keys.PAGE_DOWN * 5)
    console.until(lambda: not console.value("document.querySelector('video').seeking"), "the middle was there")
    assert SECONDS / 4 < console.value(CURRENT) < SECONDS * 3 / 4

    timeline.send_keys(Keys.HOME)
    console.click("#play")
    frames = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
    before = console.value(frames)
    console.until(lambda: console.value(CURRENT) > 2.5, "it played on")
    assert console.value(frames) >= before + 4
    assert console.client.replay(replay.id).progress.frames_decoded > at_end.frames_decoded
    assert "UTC" in console.find("#clock").text
    console.click("#play")
    # What is drawn over the picture belongs to the picture that is on the screen.
    console.until(lambda: console.value("document.querySelector('video').paused"), "it was paused")
    told_at = console.find("#clock").text
    at = console.value(CURRENT)
    number = int(at // replay.segment_s)
    sidecars = [console.client.sidecar(replay.id, each) for each in range(max(0, number - 1), number + 2)]
    # A browser puts a picture on the screen up to a frame before or after its time.
    near = [frame for side in sidecars for frame in side.frames if abs(frame.t - at) <= 1.5 / FPS]
    assert told_at[11:21] in {(frame.capture or "")[11:21] for frame in near}

    painted = """[...document.querySelector('.pane canvas').getContext('2d').getImageData(0, 0, 256, 144).data]
        .filter((value, index) => index % 4 === 3 && value > 0).length"""
    console.click("#mark-regions")
    console.until(lambda: console.value(painted) == 0, "regions were off")
    console.click("#mark-provenance")
    console.until(lambda: console.value(painted) > 256 * 144 / 2, "every cell told where it comes from")
    told = console.find("#provenance").text
    assert abs(sum(map(float, re.findall(r"([\d.]+) %", told))) - 100) < 3
    assert re.search(r"plate [1-9]", told)


def test_a_film_is_exported(console: Console) -> None:
    console.go("player?camera=gate&task=vehicles&span=own&from=%2B0s&to=%2B4s")
    console.click("#export")
    link = console.find("#film")
    film = console.client.download(link.get_attribute("href").removeprefix(console.url))
    assert film[4:8] == b"ftyp"
    assert len(film) > 5000


def test_what_does_the_work_is_shown(console: Console) -> None:
    console.go("system")
    console.until(lambda: "encode-" in console.find("tbody").text, "stages were listed")
    console.go("alerts")
    assert console.find(".alerts .card").text


def test_light_and_dark_and_nothing_from_elsewhere(console: Console) -> None:
    console.go("fleet")
    console.find("article[data-camera=gate]")
    colours = []
    for _ in range(2):
        console.click("#theme")
        colours.append(console.value("getComputedStyle(document.body).backgroundColor"))
    assert len(set(colours)) == 2
    fetched = console.value("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((console.url, f"blob:{console.url}")) for name in fetched), fetched
    complaints = [entry for entry in console.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [each for each in complaints if "status of 404" not in each["message"]]
