"""The console in a real browser, as those see it who may not see everything; over the film of nine frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import browsing
import film_log
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from discover_stream.app.gateway.decoders import LocalDecoder
from discover_stream.app.gateway.serve import Address, serving, state_path
from discover_stream.app.gateway.tokens import GatewayState
from discover_stream.config import load_config
from topics.sqlite import SqliteLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_S = 200.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, GatewayState]]:
    config = load_config(film_log.record(tmp_path_factory.mktemp("film")))
    state = GatewayState(state_path(config))
    state.make("first", "admin")
    with (
        SqliteLog(config.log.path) as log,
        serving(config, log, LocalDecoder(1, config.decoding), Address("127.0.0.1", 0)) as server,
    ):
        yield server.address.url, state
    state.close()


@pytest.fixture
def driver(chromium: Any) -> Iterator[webdriver.Chrome]:
    opened = browsing.opened(chromium)
    yield opened
    opened.quit()


def until(driver: webdriver.Chrome, condition: Callable[[], Any], what: str) -> Any:
    return browsing.until(driver, condition, what, PATIENCE_S)


def signed_in(driver: webdriver.Chrome, url: str, token: str) -> list[str]:
    """The pages that are offered to the holder of a token."""
    driver.get(url)
    field = until(driver, lambda: driver.find_element(By.CSS_SELECTOR, "dialog [name=token]"), "asked for a token")
    field.send_keys(token)
    driver.find_element(By.CSS_SELECTOR, "dialog button.main").click()
    until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, "#nav a"), "signed in")
    return [link.text for link in driver.find_elements(By.CSS_SELECTOR, "#nav a")]


def test_a_viewer_of_a_camera_plays_what_it_sent(driver: webdriver.Chrome, place: tuple[str, GatewayState]) -> None:
    url, state = place
    assert signed_in(driver, url, state.make("v", "viewer", cameras=["gate"])) == ["Fleet", "Player"]
    until(driver, lambda: driver.find_element(By.CSS_SELECTOR, "article[data-camera=gate]"), "a camera")
    driver.get("about:blank")
    driver.get(f"{url}/#/player?camera=gate&span=")
    until(driver, lambda: driver.find_element(By.CSS_SELECTOR, "[data-pane=all] video"), "a player")
    views = [button.get_attribute("data-view") for button in driver.find_elements(By.CSS_SELECTOR, "[data-view]")]
    assert views == ["original", "all"]
    driver.find_element(By.ID, "play").click()
    until(driver, lambda: driver.execute_script("return document.querySelector('video').readyState") >= 2, "a picture")


def test_a_subscriber_begins_with_its_task(driver: webdriver.Chrome, place: tuple[str, GatewayState]) -> None:
    url, state = place
    assert signed_in(driver, url, state.make("s", "subscriber", tasks=[film_log.FIRST])) == ["Tasks"]
    rows = until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, "tr[data-task]"), "tasks")
    assert [row.get_attribute("data-task") for row in rows] == [film_log.FIRST]
