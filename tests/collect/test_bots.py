"""Known crawlers are flagged, and shoppers are not."""

import json
from typing import Any

import pytest

from boat.collect import Collector, CollectRequest, Policy
from boat.collect.access import signature
from tests.collect.events import GOOD, NOW
from tests.collect.running_collector import SECRET

SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko)"
BODY = json.dumps(GOOD | {"is_bot": False, "extra": {"is_bot": False}}).encode()

CRAWLERS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) {CHROME} Chrome/125.0.6422.175 Mobile Safari/537.36 "
    "(compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "AdsBot-Google (+http://www.google.com/adsbot.html)",
    "Mediapartners-Google",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    f"Mozilla/5.0 {CHROME[:-1]}; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    f"Mozilla/5.0 {CHROME[:-1]}; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    f"Mozilla/5.0 {CHROME[:-1]}; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) {SAFARI} Version/13.1.1 Safari/605.1.15 "
    "(Applebot/0.1; +http://www.apple.com/go/applebot)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    f"Mozilla/5.0 (Linux; Android 7.0;) {CHROME} Mobile Safari/537.36 "
    "(compatible; PetalBot;+https://webmaster.petalsearch.com/site/petalbot)",
    f"Mozilla/5.0 (Linux; Android 5.0) {CHROME} Mobile Safari/537.36 "
    "(compatible; Bytespider; spider-feedback@bytedance.com)",
    "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} HeadlessChrome/120.0.0.0 Safari/537.36",
]
SHOPPERS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.61",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {SAFARI} Version/17.1 Safari/605.1.15",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) {SAFARI} Version/17.4 Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 12; SAMSUNG SM-A525F) {CHROME} SamsungBrowser/23.0 Chrome/115.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 10; CUBOT X30) {CHROME} Chrome/110.0.0.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 16_6 like Mac OS X) {SAFARI} Mobile/15E148 Instagram 300.0.0.18.109",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) {SAFARI} Mobile/15E148 [FBAN/FBIOS;FBDV/iPhone14,5]",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) {SAFARI} GSA/277.0.555192628 Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 11; SM-T510) {CHROME} musical_ly_2022 BytedanceWebview/d8a21c6",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; AS; rv:11.0) like Gecko",
    "Dalvik/2.1.0 (Linux; U; Android 13; SM-G991B Build/TP1A.220624.014)",
    "MyShop/3.2 CFNetwork/1474 Darwin/23.0.0",
    "okhttp/4.9.3",
    "Java/17.0.2",
    "python-httpx/0.27.0",
]


def flag(body: bytes = BODY, **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = CollectRequest("POST", "", names, "203.0.113.77", body)
    outcome = Collector(Policy(secrets={"shop-server": SECRET}), lambda: NOW).take(request)
    return json.loads(outcome.accepted)["extra"].get("is_bot")


@pytest.mark.parametrize("user_agent", CRAWLERS)
def test_a_known_crawler_is_flagged(user_agent: str) -> None:
    assert flag(user_agent=user_agent) is True


@pytest.mark.parametrize("user_agent", SHOPPERS)
def test_a_shopper_is_not_flagged_as_a_crawler(user_agent: str) -> None:
    assert flag(user_agent=user_agent) is None


def test_a_client_without_a_user_agent_or_with_the_flag_itself_is_not_flagged() -> None:
    assert flag() is None
    assert flag(json.dumps(GOOD | {"is_bot": True, "extra": {"is_bot": True}}).encode()) is None


def test_events_of_a_signed_request_are_not_flagged() -> None:
    sign = signature(SECRET, int(NOW), BODY)
    assert flag(user_agent=CRAWLERS[0], x_boat_key="shop-server", x_boat_signature=sign) is None
