"""Chromium for tests of the console: a window, and waiting for what should come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By


def opened(chromium: Any) -> webdriver.Chrome:
    """A window of the browser that the fixture `chromium` found; it keeps what pages log. Quit it in the end."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium.program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1100"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(chromium.driver))


def until(driver: webdriver.Chrome, condition: Callable[[], Any], what: str, patience_s: float) -> Any:
    """What a condition answers once that is anything; parts of the page that are not there yet are waited for."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (NoSuchElementException, StaleElementReferenceException):
            pass
        time.sleep(0.1)
    raise AssertionError(f"never {what}; the page: {driver.find_element(By.TAG_NAME, 'body').text[:1500]}")
